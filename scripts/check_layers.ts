/**
 * Fails when a module of src/ imports what it must not.
 *
 * Four rules, with their tables below:
 * 1. a folder imports only from rows above its own, and from leaf files;
 * 2. some pairs of folders are forbidden although the order would allow them;
 * 3. what a thread's entry module reaches at run time excludes what that thread must not do;
 * 4. folders do not import each other in a circle.
 *
 * `import type` is erased and so cannot break rule 3, but it couples folders and counts in the
 * others. Workers, named by `new URL(..., import.meta.url)`, are other threads and count nowhere.
 * Tests beside the code (`*_test.ts`) may import anything.
 */

import { readTree, references, resolve, tokenize, type Tree } from "./modules.ts";

/** Folders of src/ from the bottom up. Files directly in src/ lie below all of them. */
export const ROWS = [
  "sys",
  "db",
  "fuse",
  "git",
  "snapshot",
  "overlay",
  "hydrate",
  "vfs",
  "mount",
  "repo",
  "control",
  "daemon",
  "cli",
] as const;

export interface Denial {
  readonly from: string;
  readonly to: readonly string[];
  readonly why: string;
}

export const DENIED: readonly Denial[] = [
  { from: "fuse", to: ["db", "git"], why: "the protocol knows no SQL and no git" },
  { from: "git", to: ["fuse"], why: "git knows no FUSE" },
  { from: "overlay", to: ["snapshot"], why: "only vfs merges base and overlay" },
  ...["fuse", "git", "hydrate", "vfs", "mount", "control", "daemon", "cli"].map((from) => ({
    from,
    to: ["db"],
    why: "SQL belongs to snapshot, overlay and repo",
  })),
];

export interface ThreadRule {
  readonly entry: string;
  /** Folders (ending in a slash) and files that must not be reachable. */
  readonly forbidden: readonly string[];
  readonly allowed: readonly string[];
  /** No reachable module of these folders may start processes. */
  readonly noProcesses: readonly string[];
}

export const THREADS: readonly ThreadRule[] = [
  {
    entry: "src/mount/worker.ts",
    forbidden: ["src/git/process.ts", "src/hydrate/", "src/control/"],
    allowed: ["src/hydrate/messages.ts"],
    noProcesses: ["src/git/"],
  },
  {
    entry: "src/mount/notifier_worker.ts",
    forbidden: ["src/db/", "src/git/", "src/snapshot/", "src/overlay/", "src/hydrate/", "src/vfs/"],
    allowed: [],
    noProcesses: [],
  },
  {
    entry: "src/hydrate/worker.ts",
    forbidden: ["src/sys/", "src/fuse/"],
    allowed: [],
    noProcesses: [],
  },
  {
    entry: "src/snapshot/worker.ts",
    forbidden: ["src/sys/", "src/fuse/"],
    allowed: [],
    noProcesses: [],
  },
];

/** "" for a leaf file, undefined outside src/. */
function folderOf(path: string): string | undefined {
  const parts = path.split("/");
  if (parts[0] !== "src") return undefined;
  return parts.length === 2 ? "" : parts[1];
}

interface Edge {
  readonly from: string;
  readonly to: string;
  readonly line: number;
  readonly isErased: boolean;
}

function edgesOf(path: string, source: string): Edge[] {
  return references(source).flatMap(({ kind, specifier, line }) => {
    const to = resolve(path, specifier);
    if (to === undefined || kind === "url") return [];
    return [{ from: path, to, line, isErased: kind === "type" }];
  });
}

/** Every violation as one line; empty when the tree is right. */
export function checkLayers(tree: Tree): string[] {
  const edges = new Map<string, Edge[]>();
  for (const [path, source] of tree) {
    if (!path.endsWith("_test.ts")) edges.set(path, edgesOf(path, source));
  }
  return [
    ...[...edges.keys()].flatMap(checkHome),
    ...[...edges.values()].flat().flatMap(checkEdge),
    ...THREADS.flatMap((rule) => checkThread(rule, tree, edges)),
    ...checkCircles([...edges.values()].flat()),
  ];
}

function checkHome(path: string): string[] {
  const folder = folderOf(path);
  if (folder === undefined || folder === "" || rowOf(folder) >= 0) return [];
  return [`${path}: src/${folder} is no row of the table in scripts/check_layers.ts`];
}

function rowOf(folder: string): number {
  return (ROWS as readonly string[]).indexOf(folder);
}

function checkEdge({ from, to, line }: Edge): string[] {
  const [source, target] = [folderOf(from), folderOf(to)];
  const fail = (why: string) => [`${from}:${line}: must not import ${to}: ${why}`];
  if (source === undefined) {
    if (from !== "main.ts" || target === "cli") return [];
    return fail("main.ts only calls src/cli");
  }
  if (target === undefined) return fail("it is not part of the program");
  if (source === target || target === "") return [];
  if (source === "") return fail("a leaf file imports leaf files only");
  const denial = DENIED.find((each) => each.from === source && each.to.includes(target));
  if (denial !== undefined) return fail(denial.why);
  if (rowOf(target) < rowOf(source)) return [];
  return fail(`src/${target} is not below src/${source}`);
}

function checkThread(
  rule: ThreadRule,
  tree: Tree,
  edges: ReadonlyMap<string, readonly Edge[]>,
): string[] {
  if (!tree.has(rule.entry)) return [];
  const matches = (path: string, patterns: readonly string[]) =>
    patterns.some((each) => each.endsWith("/") ? path.startsWith(each) : path === each);
  // The chain that led to each module, so that the message names what to change.
  const chains = new Map([[rule.entry, rule.entry]]);
  const failures: string[] = [];
  for (const [path, chain] of chains) {
    if (matches(path, rule.forbidden) && !matches(path, rule.allowed)) {
      failures.push(`${rule.entry}: must not reach ${path} (${chain})`);
      continue;
    }
    const source = tree.get(path);
    if (source !== undefined && matches(path, rule.noProcesses) && startsProcesses(source)) {
      failures.push(`${rule.entry}: must not reach ${path}, which starts processes (${chain})`);
    }
    for (const edge of edges.get(path) ?? []) {
      if (!edge.isErased && !chains.has(edge.to)) chains.set(edge.to, `${chain} > ${edge.to}`);
    }
  }
  return failures;
}

function startsProcesses(source: string): boolean {
  const tokens = tokenize(source);
  return tokens.some(({ text }, i) =>
    text === "node:child_process" ||
    (text === "Deno" && tokens[i + 1]?.text === "." && tokens[i + 2]?.text === "Command")
  );
}

function checkCircles(edges: readonly Edge[]): string[] {
  const targets = new Map<string, Map<string, Edge>>();
  for (const edge of edges) {
    const [from, to] = [folderOf(edge.from), folderOf(edge.to)];
    if (from === undefined || to === undefined || from === to) continue;
    const row = targets.get(from) ?? new Map<string, Edge>();
    targets.set(from, row);
    if (!row.has(to)) row.set(to, edge);
  }
  const failures: string[] = [];
  const done = new Set<string>();
  const visit = (folder: string, chain: readonly string[]) => {
    if (chain.includes(folder)) {
      const circle = [...chain.slice(chain.indexOf(folder)), folder];
      const where = circle.slice(1).map((to, i) => targets.get(circle[i]!)!.get(to)!.from);
      const names = circle.map((each) => each === "" ? "src" : `src/${each}`);
      failures.push(`${names.join(" > ")}: folders import each other (${where.join(", ")})`);
      return;
    }
    if (done.has(folder)) return;
    for (const to of targets.get(folder)?.keys() ?? []) visit(to, [...chain, folder]);
    done.add(folder);
  };
  for (const folder of targets.keys()) visit(folder, []);
  return failures;
}

if (import.meta.main) {
  const failures = checkLayers(readTree(".", ["main.ts", "src"]));
  for (const failure of failures) console.error(failure);
  if (failures.length > 0) Deno.exit(1);
}
