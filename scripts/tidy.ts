/**
 * House rules that no formatter, linter or type checker knows: lengths, banned words, dead files.
 */

import { references, resolve, tokenize } from "./modules.ts";

const MAX_COLUMNS = 100;
const MAX_LINES = 600;
const MAX_TEST_LINES = 800;

/**
 * Files that may be longer than the limit, with the length they may have. An entry may only be
 * lowered: it fails when it is more than the file needs.
 */
const LONG_FILES: Readonly<Record<string, number>> = {};

const isTest = (path: string) => path.startsWith("tests/") || path.endsWith("_test.ts");
const isTidy = (path: string) => path.startsWith("scripts/tidy");
const isCode = (path: string) =>
  /\.(ts|js|sh|json|ya?ml)$/.test(path) || /^(scripts|\.ci)\/[^.]+$/.test(path);

interface Ban {
  readonly pattern: RegExp;
  readonly why: string;
  readonly applies: (path: string) => boolean;
  /** Matched against code without comments and text, else against whole lines. */
  readonly codeOnly?: boolean;
}

// Joined, so that this file does not hold them.
const REGISTRIES = [
  ["registry", "npmjs", "org"],
  ["npmjs", "com"],
  ["registry", "yarnpkg", "com"],
  ["pypi", "org"],
  ["files", "pythonhosted", "org"],
  ["deb", "debian", "org"],
  ["archive", "ubuntu", "com"],
  ["jsr", "io"],
].map((parts) => parts.join("\\."));

const BANS: readonly Ban[] = [
  {
    pattern: /\bDeno\.dlopen\b/,
    why: "libraries are opened in src/sys only",
    applies: (path) => !path.startsWith("src/sys/") && !path.startsWith("tests/"),
    codeOnly: true,
  },
  {
    pattern: /\bconsole\.\w/,
    why: "the program logs; only src/cli, scripts and tests print",
    applies: (path) => !/^(src\/cli|scripts|tests)\//.test(path) && !isTest(path),
    codeOnly: true,
  },
  { pattern: /\berrno: 5\b/, why: "write EIO", applies: isCode, codeOnly: true },
  {
    pattern: /\b(FIXME|TODO|XXX)\b/,
    why: "do it, or write down why not",
    applies: (path) => isCode(path) && !isTidy(path),
  },
  {
    pattern: new RegExp(`\\b(${REGISTRIES.join("|")})\\b`),
    why: "which registry is used is the user's setting",
    applies: () => true,
  },
  {
    pattern: /(?<![\w.$}*-])\/(work|root)\//,
    why: "a path of one machine",
    applies: (path) => isCode(path) && !isTidy(path),
  },
];

/** All violations in one file, each as one line. */
export function checkFile(path: string, text: string): string[] {
  const failures: string[] = [];
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  const fail = (line: number, why: string) => failures.push(`${path}:${line}: ${why}`);

  if (isCode(path) && !path.endsWith(".json")) {
    lines.forEach((line, i) => {
      if (tooWide(line)) fail(i + 1, `${line.length} columns, at most ${MAX_COLUMNS}`);
    });
    const limit = LONG_FILES[path] ?? (isTest(path) ? MAX_TEST_LINES : MAX_LINES);
    if (lines.length > limit) fail(limit + 1, `${lines.length} lines, at most ${limit}`);
    if (path in LONG_FILES && lines.length < limit) {
      fail(lines.length, `lower its entry in LONG_FILES from ${limit} to ${lines.length}`);
    }
  }

  const bans = BANS.filter((ban) => ban.applies(path));
  const code = path.endsWith(".ts") ? codeLines(text) : lines;
  for (const { pattern, why, codeOnly } of bans) {
    (codeOnly ? code : lines).forEach((line, i) => {
      const match = pattern.exec(line);
      if (match !== null) fail(i + 1, `${match[0]}: ${why}`);
    });
  }
  return failures;
}

/** Imports, addresses, and literals and words that leave no place to break are let through. */
function tooWide(line: string): boolean {
  if (line.length <= MAX_COLUMNS) return false;
  if (/^\s*(import|export)\b.*\bfrom\b|^\s*\} from /.test(line) || line.includes("://")) {
    return false;
  }
  const withoutLiterals = line.replace(
    /"(\\.|[^"\\])*"|'(\\.|[^'\\])*'|`(\\.|[^`\\])*`?|\/\S+\//g,
    "",
  );
  if (withoutLiterals.length <= MAX_COLUMNS && withoutLiterals.length < line.length) return false;
  return /\S\s+\S/.test(line.trim().replace(/^(\/\/|\*|#)\s*/, ""));
}

/** Each line's tokens, without comments and text. */
function codeLines(text: string): string[] {
  const lines: string[] = text.split("\n").map(() => "");
  let previous = "";
  for (const { kind, text: token, line } of tokenize(text)) {
    const isText = kind === "string" || kind === "template" || kind === "regex";
    const shown = isText ? '""' : token;
    const gap = /[\w:,]$/.test(previous) && /^\w/.test(shown) ? " " : "";
    lines[line - 1] += gap + shown;
    previous = shown;
  }
  return lines;
}

/** Files of src/ that nothing but their own test refers to. */
export function findUnused(files: ReadonlyMap<string, string>): string[] {
  const used = new Set<string>();
  for (const [path, text] of files) {
    if (!path.endsWith(".ts")) continue;
    for (const { specifier } of references(text)) {
      const target = resolve(path, specifier);
      if (target !== undefined && path !== target.replace(/\.ts$/, "_test.ts")) used.add(target);
    }
  }
  return [...files.keys()]
    .filter((path) => path.startsWith("src/") && path.endsWith(".ts") && !path.endsWith("_test.ts"))
    .filter((path) => !used.has(path) && !path.endsWith("/worker.ts"))
    .map((path) => `${path}: nothing imports it`);
}

/** Every file that is tracked or could be. */
export async function listFiles(root: string): Promise<string[]> {
  const { success, stdout, stderr } = await new Deno.Command("git", {
    // The checkout may belong to somebody else than who runs this.
    args: ["-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"],
    cwd: root,
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return [...new Set(new TextDecoder().decode(stdout).split("\0"))].filter((path) => path !== "");
}

/** Texts by path; files that are gone or not text are left out. */
function readFiles(root: string, paths: readonly string[]): Map<string, string> {
  const files = new Map<string, string>();
  for (const path of paths) {
    try {
      const bytes = Deno.readFileSync(`${root}/${path}`);
      if (!bytes.includes(0)) files.set(path, new TextDecoder().decode(bytes));
    } catch (error) {
      // Deleted but not yet in the index, or a submodule.
      const isAbsent = error instanceof Deno.errors.NotFound ||
        error instanceof Deno.errors.IsADirectory;
      if (!isAbsent) throw error;
    }
  }
  return files;
}

if (import.meta.main) {
  const files = readFiles(".", await listFiles("."));
  const failures = [
    ...[...files].flatMap(([path, text]) => checkFile(path, text)),
    ...findUnused(files),
  ];
  for (const failure of failures) console.error(failure);
  if (failures.length > 0) Deno.exit(1);
}
