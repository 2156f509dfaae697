import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import fc from "fast-check";
import { git, tempDir } from "../../tests/support/run.ts";
import { bytesOf, type RepoPath } from "../path.ts";
import { IndexError } from "./index_bytes.ts";
import {
  type FileStat,
  type Index,
  type IndexEntry,
  NO_STAT,
  parseIndex,
  replaceExtension,
  serializeIndex,
} from "./index_file.ts";
import { type ObjectFormat, type Oid, OID_BYTES } from "./oid.ts";

type Bytes = Uint8Array<ArrayBuffer>;

const FORMATS: readonly ObjectFormat[] = ["sha1", "sha256"];

/** A repository with an index of everything that is rare, and its file. */
async function makeRepo(dir: string, format: ObjectFormat): Promise<void> {
  await git(["init", "-q", `--object-format=${format}`, "-b", "main", dir]);
  await git(["-C", dir, "config", "core.fsmonitor", "false"]);
  const { stdout } = await git(["-C", dir, "hash-object", "-w", "--stdin"], { stdin: "x\n" });
  const oid = stdout.trim();
  const deep = "d/".repeat(60);
  const lines = [
    `100644 ${oid} 0\ta`,
    `100755 ${oid} 0\ta-b/run`,
    `120000 ${oid} 0\ta.link`,
    `160000 ${oid} 0\tsub`,
    `100644 ${oid} 0\tdir/${"n".repeat(200)}/${"m".repeat(250)}`,
    `100644 ${oid} 0\t${deep}${"x".repeat(250)}/${"y".repeat(4000 - 371)}/${"z".repeat(200)}`,
    `100644 ${oid} 1\tconflict`,
    `100644 ${oid} 2\tconflict`,
    `100644 ${oid} 3\tconflict`,
    ...[..."abcdefgh"].map((letter, i) => `100644 ${oid} 0\tpad/${letter.repeat(i + 1)}`),
  ];
  const stdin = Uint8Array.from([
    ...new TextEncoder().encode(lines.map((line) => `${line}\0`).join("")),
    ...bytesOf(`100644 ${oid} 0\tnot-utf8-\xff\x80\x9f\0`),
  ]);
  await git(["-C", dir, "update-index", "-z", "--index-info"], { stdin });
}

const list = async (dir: string, ...args: string[]) =>
  (await git(["-C", dir, "ls-files", "-z", ...args])).stdoutBytes;

/** What git reads from its index. */
async function seenBy(dir: string): Promise<string> {
  const parts = await Promise.all([
    list(dir, "--stage"),
    list(dir, "-v"),
    list(dir, "--debug"),
    list(dir, "-t"),
  ]);
  return parts.map((part) => part.toHex()).join("\n");
}

async function checkRoundTrip(dir: string, format: ObjectFormat, version: 2 | 3 | 4) {
  const path = `${dir}/.git/index`;
  const bytes = await Deno.readFile(path);
  const index = parseIndex(bytes, format);
  assert.equal(index.version, version);
  assert.deepEqual(serializeIndex(index), bytes, "the same bytes");
  const before = await seenBy(dir);
  for (const other of [2, 4] as const) {
    const made = serializeIndex(index, other);
    assert.deepEqual({ ...parseIndex(made, format), version }, index);
    await Deno.writeFile(path, made);
    assert.equal(await seenBy(dir), before, `as version ${other}`);
    await git(["-C", dir, "fsck", "--no-dangling"], { okCodes: [0, 2] });
  }
  await Deno.writeFile(path, bytes);
}

for (const format of FORMATS) {
  Deno.test(`index: what git writes, in every version (${format})`, async () => {
    await using temp = await tempDir();
    const dir = `${temp.path}/repo`;
    await makeRepo(dir, format);
    await checkRoundTrip(dir, format, 2);
    await git(["-C", dir, "update-index", "--assume-unchanged", "a", "pad/a"]);
    await checkRoundTrip(dir, format, 2);
    await git(["-C", dir, "update-index", "--skip-worktree", "a-b/run", "pad/a"]);
    await Deno.writeTextFile(`${dir}/new`, "new\n");
    await git(["-C", dir, "add", "--intent-to-add", "new"]);
    await checkRoundTrip(dir, format, 3);
    await git(["-C", dir, "update-index", "--index-version=4"]);
    await checkRoundTrip(dir, format, 4);
  });
}

Deno.test("index: flags are what git was told", async () => {
  await using temp = await tempDir();
  const dir = `${temp.path}/repo`;
  await makeRepo(dir, "sha1");
  await git(["-C", dir, "update-index", "--assume-unchanged", "a"]);
  await git(["-C", dir, "update-index", "--skip-worktree", "pad/a"]);
  await Deno.writeTextFile(`${dir}/new`, "new\n");
  await git(["-C", dir, "add", "--intent-to-add", "new"]);
  const { entries } = parseIndex(await Deno.readFile(`${dir}/.git/index`), "sha1");
  const flagged = (flag: "assumeValid" | "skipWorktree" | "intentToAdd") =>
    entries.filter((entry) => entry[flag]).map(({ path }) => path);
  assert.deepEqual(flagged("assumeValid"), ["a"]);
  assert.deepEqual(flagged("skipWorktree"), ["pad/a"]);
  assert.deepEqual(flagged("intentToAdd"), ["new"]);
  assert.deepEqual(
    entries.filter(({ path }) => path === "conflict").map(({ stage }) => stage),
    [1, 2, 3],
  );
  assert(entries.some(({ path }) => path === "not-utf8-\xff\x80\x9f"));
});

Deno.test("index: extensions stay, those of the file go", async () => {
  await using temp = await tempDir();
  const dir = `${temp.path}/repo`;
  await git(["init", "-q", "-b", "main", dir]);
  for (const name of ["a", "dir/b", "dir/sub/c"]) {
    await Deno.mkdir(`${dir}/${name}`.replace(/\/[^/]*$/, ""), { recursive: true });
    await Deno.writeTextFile(`${dir}/${name}`, name);
  }
  await git(["-C", dir, "add", "."]);
  await git(["-C", dir, "commit", "-qm", "one"]);
  // Resolved conflicts are remembered (REUC).
  await git(["-C", dir, "checkout", "-qb", "side"]);
  await Deno.writeTextFile(`${dir}/a`, "side");
  await git(["-C", dir, "commit", "-qam", "side"]);
  await git(["-C", dir, "checkout", "-q", "main"]);
  await Deno.writeTextFile(`${dir}/a`, "main");
  await git(["-C", dir, "commit", "-qam", "main"]);
  await git(["-C", dir, "merge", "-q", "side"], { okCodes: [1] });
  await git(["-C", dir, "add", "a"]);
  await git(["-C", dir, "-c", "index.threads=4", "update-index", "--untracked-cache"]);
  await git([
    ...["-C", dir, "-c", "index.recordEndOfIndexEntries=true"],
    ...["-c", "index.recordOffsetTable=true", "-c", "index.threads=2"],
    ...["update-index", "--force-write-index"],
  ]);
  const path = `${dir}/.git/index`;
  const bytes = await Deno.readFile(path);
  const text = new TextDecoder("latin1").decode(bytes);
  assert(text.includes("EOIE"));
  const index = parseIndex(bytes, "sha1");
  assert.deepEqual(index.extensions.map(({ name }) => name).sort(), ["REUC", "TREE", "UNTR"]);
  const before = await seenBy(dir);
  const ours = { name: "AFSX", data: new Uint8Array([1, 2, 3]) };
  const made = serializeIndex({
    ...index,
    extensions: [ours, ours].reduce(replaceExtension, [...index.extensions]),
  });
  await Deno.writeFile(path, made);
  assert.equal(await seenBy(dir), before);
  assert.equal((await list(dir, "--resolve-undo")).length > 0, true);
  const again = parseIndex(made, "sha1");
  assert.deepEqual(again.extensions, [...index.extensions, ours]);
});

Deno.test("index: sparse and split", async () => {
  await using temp = await tempDir();
  const dir = `${temp.path}/repo`;
  await git(["init", "-q", "-b", "main", dir]);
  for (const name of ["a", "in/b", "out/c", "out/d"]) {
    await Deno.mkdir(`${dir}/${name}`.replace(/\/[^/]*$/, ""), { recursive: true });
    await Deno.writeTextFile(`${dir}/${name}`, name);
  }
  await git(["-C", dir, "add", "."]);
  await git(["-C", dir, "commit", "-qm", "one"]);
  await git(["-C", dir, "sparse-checkout", "set", "--cone", "--sparse-index", "in"]);
  const sparse = parseIndex(await Deno.readFile(`${dir}/.git/index`), "sha1");
  assert.deepEqual(sparse.entries.map(({ path, mode }) => [path, mode.toString(8)]), [
    ["a", "100644"],
    ["in/b", "100644"],
    ["out/", "40000"],
  ]);
  assert(sparse.extensions.some(({ name }) => name === "sdir"));
  await checkRoundTrip(dir, "sha1", 3);
  await git(["-C", dir, "sparse-checkout", "disable"]);
  await git(["-C", dir, "update-index", "--split-index"]);
  const split = await Deno.readFile(`${dir}/.git/index`);
  assert.throws(() => parseIndex(split, "sha1"), /split index/);
});

Deno.test("index: one without a hash is read, and written with one", async () => {
  await using temp = await tempDir();
  const dir = `${temp.path}/repo`;
  await makeRepo(dir, "sha1");
  const bytes = await Deno.readFile(`${dir}/.git/index`);
  const without = bytes.slice();
  without.fill(0, without.length - 20);
  assert.deepEqual(serializeIndex(parseIndex(without, "sha1")), bytes);
  without[without.length - 1] = 1;
  assert.throws(() => parseIndex(without, "sha1"), /its hash is not right/);
});

/** Of fast-check's objects: as literals are. */
const PLAIN = { noNullPrototype: true };

const u32 = fc.nat(0xffffffff);

const stat: fc.Arbitrary<FileStat> = fc.record({
  ctimeSeconds: u32,
  ctimeNanoseconds: u32,
  mtimeSeconds: u32,
  mtimeNanoseconds: u32,
  dev: u32,
  ino: u32,
  uid: u32,
  gid: u32,
  sizeBytes: u32,
}, PLAIN);

/** Paths with much in common, of all lengths and bytes. */
const path = fc.array(
  fc.constantFrom("a", "b", "\x01", "\xff", "/", "abcdefgh", "x".repeat(4090)),
  {
    minLength: 1,
    maxLength: 12,
  },
).map((parts) => parts.join(""));

const anyIndex: fc.Arbitrary<Index> = fc.constantFrom(...FORMATS).chain((format) =>
  fc.record({
    version: fc.constantFrom(2 as const, 4 as const),
    format: fc.constant(format),
    entries: fc.uniqueArray(path, { maxLength: 20 }).chain((paths) =>
      fc.tuple(
        ...paths.sort().map((path) =>
          fc.record({
            path: fc.constant(path as RepoPath),
            oid: fc.uint8Array({ minLength: OID_BYTES[format], maxLength: OID_BYTES[format] }).map(
              (bytes) => bytes.toHex() as Oid,
            ),
            mode: fc.constantFrom(0o100644, 0o100755, 0o120000, 0o160000),
            stage: fc.nat(3),
            assumeValid: fc.boolean(),
            skipWorktree: fc.boolean(),
            intentToAdd: fc.boolean(),
            stat,
          }, PLAIN)
        ),
      )
    ),
    extensions: fc.array(fc.record({
      name: fc.constantFrom("TREE", "ABCD", "sdir"),
      data: fc.uint8Array({ maxLength: 20 }).map((bytes) => new Uint8Array(bytes)),
    }, PLAIN)),
  }, PLAIN)
) as fc.Arbitrary<Index>;

Deno.test("index: any index is read as it was written", () => {
  fc.assert(fc.property(anyIndex, (index) => {
    const extended = index.entries.some((entry) => entry.skipWorktree || entry.intentToAdd);
    const version = index.version === 2 && extended ? 3 : index.version;
    assert.deepEqual(parseIndex(serializeIndex(index), index.format), { ...index, version });
  }));
});

/** With a right hash, so that what is inside is read. */
function resealed(bytes: Bytes): Bytes {
  const end = bytes.length - 20;
  bytes.set(createHash("sha1").update(bytes.subarray(0, end)).digest(), end);
  return bytes;
}

Deno.test("index: any damage is refused or read, and never beyond the end", () => {
  const sha1 = anyIndex.filter(({ format }) => format === "sha1");
  fc.assert(
    fc.property(sha1, fc.nat(), fc.nat(255), fc.boolean(), (index, at, byte, cut) => {
      const bytes = serializeIndex(index);
      const damaged = cut ? bytes.slice(0, 32 + at % (bytes.length - 31)) : bytes.slice();
      if (!cut) damaged[at % bytes.length] = byte;
      try {
        parseIndex(resealed(damaged), "sha1");
      } catch (error) {
        assert(error instanceof IndexError, String(error));
      }
    }),
    { numRuns: 500 },
  );
});

Deno.test("index: what is refused", () => {
  const entry = (path: string, more: Partial<IndexEntry> = {}): IndexEntry => ({
    path: path as RepoPath,
    oid: "1".repeat(40) as Oid,
    mode: 0o100644,
    stage: 0,
    assumeValid: false,
    skipWorktree: false,
    intentToAdd: false,
    stat: NO_STAT,
    ...more,
  });
  const fileOf = (entries: IndexEntry[], name = "TREE", version: 2 | 4 = 2) =>
    serializeIndex({
      version,
      format: "sha1",
      entries,
      extensions: [{ name, data: new Uint8Array(3) }],
    });
  const refuse = (bytes: Bytes, why: RegExp) => {
    assert.throws(() => parseIndex(resealed(bytes), "sha1"), (error) => {
      assert(error instanceof IndexError);
      assert.match(error.message, why);
      return true;
    });
  };
  const patched = (bytes: Bytes, at: number, ...values: number[]) => {
    bytes.set(values, at);
    return bytes;
  };
  const good = () => fileOf([entry("a"), entry("b")]);
  refuse(new Uint8Array(31), /too short/);
  refuse(patched(good(), 0, 0), /it is no index/);
  refuse(patched(good(), 7, 5), /version 5 is unknown/);
  refuse(patched(good(), 11, 3), /ends too early|not sorted|of another length/);
  refuse(patched(good(), 8, 255, 255, 255, 255), /./);
  refuse(patched(good(), 12 + 60, 0, 2), /of another length/);
  refuse(patched(good(), 12 + 60, 0x40, 1), /extended flags in version 2/);
  refuse(fileOf([entry("b"), entry("a")]), /not sorted/);
  refuse(fileOf([entry("a"), entry("a")]), /not sorted/);
  refuse(fileOf([entry("a", { stage: 2 }), entry("a", { stage: 1 })]), /not sorted/);
  refuse(fileOf([entry("")]), /without a path/);
  refuse(fileOf([], "link"), /a split index/);
  refuse(fileOf([], "what"), /the extension "what" is unknown/);
  // A path that takes more from the one before than there is.
  refuse(patched(fileOf([entry("a")], "TREE", 4), 12 + 62, 9), /takes away too much/);
  const unknown = fileOf([entry("a", { skipWorktree: true })]);
  refuse(patched(unknown, 12 + 62, 0x48), /unknown flags/);
  const long = good();
  refuse(patched(long, long.length - 20 - 3 - 4, 255), /ends too early/);
});
