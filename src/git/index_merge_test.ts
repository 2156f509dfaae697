import assert from "node:assert/strict";
import fc from "fast-check";
import { git, tempDir } from "../../tests/support/run.ts";
import type { HostPath, RepoPath } from "../path.ts";
import { readCacheTree } from "./cache_tree.ts";
import { fsmonitorExtension, readFsmonitor } from "./fsmonitor.ts";
import { type Index, NO_STAT, parseIndex, replaceExtension, serializeIndex } from "./index_file.ts";
import { indexTime, mergedIndex, mergeIndex, type Shown } from "./index_merge.ts";
import type { Oid } from "./oid.ts";
import { treeChanges } from "./tree_changes.ts";
import {
  freshDirectory,
  readUntrackedCache,
  type UntrackedDirectory,
  untrackedExtension,
} from "./untracked_cache.ts";

/** Paths by content; a name is a file in one tree and a directory in another. */
type Files = Readonly<Record<string, string>>;

async function ground() {
  const dir = await tempDir();
  const gitDir = dir.at("repo/.git");
  await git(["init", "-q", "-b", "main", dir.at("repo")]);
  await Deno.mkdir(dir.at("empty"));
  const run = async (args: readonly string[], stdin = "", index = `${gitDir}/index`) =>
    (await git(["--git-dir", gitDir, ...args], { stdin, env: { GIT_INDEX_FILE: index } })).stdout;
  const blobs = new Map<string, string>();
  const blob = async (text: string) => {
    const known = blobs.get(text) ?? (await run(["hash-object", "-w", "--stdin"], text)).trim();
    blobs.set(text, known);
    return known;
  };
  const modeOf = (text: string) => text.startsWith("x") ? "100755" : "100644";
  let last = 0;
  const tree = async (files: Files): Promise<Oid> => {
    const lines: string[] = [];
    for (const [path, text] of Object.entries(files)) {
      lines.push(`${modeOf(text)} ${await blob(text)} 0\t${path}\n`);
    }
    const index = dir.at(`index-${last++}`);
    await run(["update-index", "--add", "--index-info"], lines.join(""), index);
    return (await run(["write-tree"], "", index)).trim() as Oid;
  };
  const options = {
    dir: { gitDir, workTree: dir.at("empty"), owner: null },
    viewDir: gitDir as HostPath,
    storeGitDir: gitDir as HostPath,
    objectFormat: "sha1" as const,
  };
  /** An index of the tree as a mount's git has it, `dirty` being what the monitor named. */
  const indexOf = async (treeOid: Oid, staged: Files = {}, dirty: readonly string[] = []) => {
    await run(["read-tree", treeOid]);
    for (const [path, text] of Object.entries(staged)) {
      const entry = `${modeOf(text)},${await blob(text)},${path}`;
      await run(["update-index", "--add", "--replace", "--cacheinfo", entry]);
    }
    const index = parseIndex(Deno.readFileSync(`${gitDir}/index`), "sha1");
    const bits = Uint8Array.from(index.entries, ({ path }) => dirty.includes(path) ? 1 : 0);
    const monitor = fsmonitorExtension({ token: "t-1", dirty: bits });
    return { ...index, extensions: replaceExtension(index.extensions, monitor) };
  };
  return { dir, gitDir, run, tree, options, indexOf, [Symbol.asyncDispose]: () => dir.remove() };
}

const shownFor = (paths: Iterable<RepoPath>, directories: readonly string[] = []): Shown => ({
  token: "t-2",
  stat: { ...NO_STAT, mtimeSeconds: 1000, ctimeSeconds: 1000, uid: 1, gid: 2 },
  inos: new Map([...paths].map((path, i) => [path, 70 + i])),
  directories: directories as readonly RepoPath[],
  changedBefore: [],
});

Deno.test("a merge is what git read-tree -m makes, or is refused", async () => {
  await using g = await ground();
  const path = fc.constantFrom("a", "a/b", "a/c", "a-b", "d/e/f", "d/e", "d/g", "z");
  const files = fc.dictionary(path, fc.constantFrom("1", "2", "x3"), { maxKeys: 6 })
    .map((all): Files => {
      // A path that is a directory of another is none of its own.
      const paths = Object.keys(all);
      return Object.fromEntries(
        Object.entries(all).filter(([one]) => !paths.some((other) => other.startsWith(`${one}/`))),
      );
    });
  const staged = fc.option(files, { nil: {}, freq: 2 });
  let merges = 0;
  await fc.assert(
    fc.asyncProperty(files, files, staged, async (before, after, own) => {
      const [from, to] = [await g.tree(before), await g.tree(after)];
      const index = await g.indexOf(from, own);
      const changes = await treeChanges(g.options, from, to);
      const merge = mergeIndex(index, changes);
      if (merge.kind === "refused") return assert.ok(Object.keys(own).length > 0, merge.reason);
      merges++;
      const oracle = g.dir.at("oracle");
      Deno.writeFileSync(oracle, serializeIndex(index));
      await g.run(["read-tree", "-m", "-i", from, to], "", oracle);
      const expected = await g.run(["ls-files", "-s"], "", oracle);
      const tree = await g.run(["write-tree"], "", oracle);
      const added = merge.merged.entries.filter((_, rank) => merge.merged.isNew[rank] === 1);
      for (const shown of [null, shownFor(added.map((each) => each.path))]) {
        const made = g.dir.at("made");
        const bytes = mergedIndex(index, merge.merged, changes, shown);
        Deno.writeFileSync(made, bytes);
        assert.equal(await g.run(["ls-files", "-s"], "", made), expected);
        // It believes what TREE says is valid, and writes the rest into it.
        assert.equal(await g.run(["write-tree"], "", made), tree);
        const read = parseIndex(bytes, "sha1");
        if (Object.keys(own).length === 0) assert.equal(readCacheTree(read)?.oid, to);
        const dirty = readFsmonitor(read)?.dirty;
        assert.equal(dirty?.includes(1) ?? false, shown === null && added.length > 0);
      }
    }),
    { numRuns: 40 },
  );
  assert.ok(merges > 10);
});

Deno.test("what is marked, unmerged or left out by a sparse checkout is git's to decide", async () => {
  await using g = await ground();
  const [from, to] = [await g.tree({ a: "1", b: "1" }), await g.tree({ a: "2", b: "1" })];
  const changes = await treeChanges(g.options, from, to);
  const index = await g.indexOf(from);
  const withEntry = (path: string, change: object): Index => ({
    ...index,
    entries: index.entries.map((each) => each.path === path ? { ...each, ...change } : each),
  });
  assert.equal(mergeIndex(index, changes).kind, "merged");
  for (const change of [{ assumeValid: true }, { intentToAdd: true }, { mode: 0o100755 }]) {
    assert.equal(mergeIndex(withEntry("a", change), changes).kind, "refused");
    assert.equal(mergeIndex(withEntry("b", change), changes).kind, "merged");
  }
  for (const change of [{ skipWorktree: true }, { stage: 1 }]) {
    assert.equal(mergeIndex(withEntry("b", change), changes).kind, "refused");
  }
  const extensions = index.extensions.filter(({ name }) => name !== "FSMN");
  assert.equal(mergeIndex({ ...index, extensions }, changes).kind, "refused");
});

Deno.test("what does not differ keeps stat data and flags; what is racy loses its size", async () => {
  await using g = await ground();
  const from = await g.tree({ a: "1", b: "1", c: "1", d: "1" });
  const to = await g.tree({ a: "2", b: "1", c: "1", d: "1" });
  const changes = await treeChanges(g.options, from, to);
  const before = await g.indexOf(from, {}, ["c"]);
  const stats: Readonly<Record<string, number>> = { b: 999, c: 1000, d: 1001 };
  const entries = before.entries.map((each) => ({
    ...each,
    assumeValid: each.path === "d",
    stat: { ...NO_STAT, mtimeSeconds: stats[each.path] ?? 0, sizeBytes: 5, ino: 7 },
  }));
  const index = { ...before, entries };
  const merge = mergeIndex(index, changes);
  assert.ok(merge.kind === "merged");
  const shown = shownFor(["a" as RepoPath]);
  const made = parseIndex(mergedIndex(index, merge.merged, changes, shown), "sha1");
  const [a, b, c, d] = made.entries;
  assert.deepEqual(a?.stat, { ...shown.stat, ino: 70 });
  assert.deepEqual(b, entries[1]);
  assert.deepEqual(c, { ...entries[2], stat: { ...entries[2]?.stat, sizeBytes: 0 } });
  assert.deepEqual(d, { ...entries[3], stat: { ...entries[3]?.stat, sizeBytes: 0 } });
  assert.deepEqual(readFsmonitor(made), { token: "t-2", dirty: Uint8Array.of(0, 0, 1, 0) });
  assert.equal(indexTime(shown), 1001);
  const named = (...changedBefore: string[]) => {
    const bytes = mergedIndex(index, merge.merged, changes, { ...shown, changedBefore });
    return [...readFsmonitor(parseIndex(bytes, "sha1"))?.dirty ?? []];
  };
  assert.deepEqual(named("b", "none/"), [0, 1, 1, 0]);
  assert.deepEqual(named("/"), [1, 1, 1, 1]);
  const after = parseIndex(mergedIndex(index, merge.merged, changes, null), "sha1");
  assert.deepEqual(readFsmonitor(after), { token: "t-1", dirty: Uint8Array.of(1, 0, 1, 0) });
});

Deno.test("directories in which names came or went are scanned again, and those above", async () => {
  await using g = await ground();
  const from = await g.tree({ "a/b/x": "1", "c/x": "1", "p/.gitignore": "1", "p/q/x": "1" });
  const to = await g.tree({ "a/b/y": "1", "c/x": "1", "p/.gitignore": "2", "p/q/x": "1" });
  const changes = await treeChanges(g.options, from, to);
  const index = await g.indexOf(from);
  const folder = (name: string, ...directories: UntrackedDirectory[]): UntrackedDirectory => ({
    ...freshDirectory(name),
    directories,
    untracked: ["u"],
  });
  const root = folder("", folder("a", folder("b")), folder("c"), folder("p", folder("q")));
  const cache = { ident: "x", flags: 6, excludeOid: null, excludesFileOid: null, root };
  const extension = untrackedExtension(cache, "sha1");
  const known = { ...index, extensions: replaceExtension(index.extensions, extension) };
  const merge = mergeIndex(known, changes);
  assert.ok(merge.kind === "merged");
  const valid = (bytes: Uint8Array<ArrayBuffer>) => {
    const names: string[] = [];
    const visit = ({ name, valid, directories, untracked }: UntrackedDirectory, path: string) => {
      if (valid) names.push(`${path}${name}`);
      assert.deepEqual(untracked, valid ? ["u"] : []);
      for (const each of directories) visit(each, `${path}${name}/`);
    };
    const read = readUntrackedCache(parseIndex(bytes, "sha1"))?.root ?? null;
    if (read !== null) visit(read, "");
    return names;
  };
  const shown = shownFor(["a/b/y" as RepoPath, "p/.gitignore" as RepoPath], ["a/b"]);
  assert.deepEqual(valid(mergedIndex(known, merge.merged, changes, shown)), ["/c"]);
  assert.deepEqual(valid(mergedIndex(known, merge.merged, changes, null)), []);
});
