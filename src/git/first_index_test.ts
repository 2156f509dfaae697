import assert from "node:assert/strict";
import { git, tempDir } from "../../tests/support/run.ts";
import type { HostPath } from "../path.ts";
import { firstIndex, type Inos } from "./first_index.ts";
import { readFsmonitor } from "./fsmonitor.ts";
import { IndexError } from "./index_bytes.ts";
import { type IndexEntry, NO_STAT, parseIndex, serializeIndex } from "./index_file.ts";
import type { Oid } from "./oid.ts";

/** What is hashed, as text: so that a test sees which name is in which directory. */
const seen = new Map<number, string>();
function inoOf(parentIno: number, name: string): number {
  const path = `${seen.get(parentIno) ?? ""}${name}`;
  const ino = 1000 + seen.size;
  seen.set(ino, path);
  return ino;
}

const INOS: Inos = {
  root: 1,
  ofDirectory: (parentIno, name) => inoOf(parentIno, `${name}/`),
  ofFile: (parentIno, name, from, end, oid, oidFrom, oidEnd) => {
    const text = String.fromCharCode(...name.subarray(from, end));
    return inoOf(parentIno, `${text} ${oid.subarray(oidFrom, oidEnd).toHex()}`);
  },
};

const OPTIONS = {
  format: "sha1",
  token: "0123456789abcdef-0",
  workTree: "/mnt" as HostPath,
  exclude: new Uint8Array(),
  stat: { ...NO_STAT, mtimeSeconds: 5, uid: 6 },
  inos: INOS,
} as const;

const PATHS = ["a", "a-b/x", "a/b/c", "a/b/d", "a/bb", "a/c/b/c", "a0/c", "b", "b.c/d/e", "b/d/e"];

async function indexWith(dir: string, version: 2 | 4, paths: readonly string[]) {
  await git(["init", "-q", dir]);
  const oidOf = (rank: number) => (rank + 1).toString(16).padStart(40, "0");
  const lines = paths.map((path, rank) => `100644 ${oidOf(rank)} 0\t${path}\n`);
  await git(["-C", dir, "-c", `index.version=${version}`, "update-index", "--index-info"], {
    stdin: lines.join(""),
  });
  return await Deno.readFile(`${dir}/.git/index`);
}

for (const version of [2, 4] as const) {
  Deno.test(`first index: every entry has the ino of its path and oid (version ${version})`, async () => {
    await using temp = await tempDir();
    const paths = PATHS.filter((path) => path !== "a" && path !== "b");
    const written = await indexWith(temp.path, version, paths);
    const before = parseIndex(written.slice(), "sha1");
    const made = firstIndex(written, OPTIONS);
    const index = parseIndex(made, "sha1");
    assert.equal(index.version, version);
    for (const { path, oid, stat } of index.entries) {
      assert.equal(seen.get(stat.ino), `${path} ${oid}`);
      assert.deepEqual(stat, { ...OPTIONS.stat, ino: stat.ino });
    }
    const without = (entries: readonly IndexEntry[]) =>
      entries.map((entry) => ({ ...entry, stat: NO_STAT }));
    assert.deepEqual(without(index.entries), before.entries);
    await Deno.writeFile(`${temp.path}/.git/index`, made);
    const { stdout } = await git(["-C", temp.path, "ls-files"]);
    assert.equal(stdout, index.entries.map(({ path }) => `${path}\n`).join(""));
    // Made from itself: extensions are replaced.
    const again = parseIndex(firstIndex(made.slice(), { ...OPTIONS, token: "x" }), "sha1");
    assert.deepEqual(again.extensions.map(({ name }) => name), ["UNTR", "FSMN"]);
    assert.equal(readFsmonitor(again)?.token, "x");
  });
}

Deno.test("first index: what is not made over", async () => {
  await using temp = await tempDir();
  const written = await indexWith(temp.path, 2, ["a"]);
  const index = parseIndex(written, "sha1");
  const entry = index.entries[0] as IndexEntry;
  const long = serializeIndex({
    ...index,
    entries: [{ ...entry, path: "x/".repeat(3000).concat("y") as typeof entry.path }],
  });
  assert.throws(() => firstIndex(long, OPTIONS), /a path that is too long/);
  const sparse = serializeIndex({
    ...index,
    entries: [{ ...entry, path: "d/" as typeof entry.path, mode: 0o040000 }],
  });
  assert.throws(() => firstIndex(sparse, OPTIONS), /a sparse index/);
  const broken = serializeIndex({ ...index, entries: [{ ...entry, oid: "f".repeat(40) as Oid }] });
  broken[20] = 1;
  assert.throws(() => firstIndex(broken, OPTIONS), IndexError);
});
