import assert from "node:assert/strict";
import { FakeObjects, fakeOid, type RawEntry } from "../../tests/fakes/fake_objects.ts";
import { ERRNO, FsError } from "../errno.ts";
import { type Attributes, type DirentSink, type Entry, Parked } from "../fuse/filesystem.ts";
import type { Oid } from "../git/oid.ts";
import type { Name } from "../path.ts";
import { BaseFilesystem } from "./base_filesystem.ts";

const DAY_MS = 86_400_000;
const ROOT_NODE = 1;

const ROOT = fakeOid(0x100);
const SRC = fakeOid(0x101);
const DEEP = fakeOid(0x102);
const README = fakeOid(0x200);
const MAIN = fakeOid(0x201);
const LINK = fakeOid(0x202);
const TOOL = fakeOid(0x203);
const MODULE = fakeOid(0x300);

const ROOT_ENTRIES: readonly RawEntry[] = [
  { mode: "100644", name: "README", oid: README },
  { mode: "120000", name: "link", oid: LINK },
  { mode: "160000", name: "module", oid: MODULE },
  { mode: "40000", name: "src", oid: SRC },
  { mode: "100755", name: "tool", oid: TOOL },
];

const SRC_ENTRIES: readonly RawEntry[] = [
  { mode: "40000", name: "deep", oid: DEEP },
  { mode: "100644", name: "main", oid: MAIN },
  { mode: "160000", name: "vendored", oid: MODULE },
];

const name = (text: string) => text as Name;

function mounted(rootEntries: readonly RawEntry[] | null = ROOT_ENTRIES) {
  const objects = new FakeObjects();
  if (rootEntries !== null) objects.putTree(ROOT, rootEntries);
  const filesystem = new BaseFilesystem({
    objects,
    rootTreeOid: ROOT,
    timeSeconds: 1_700_000_000,
    uid: 1000,
    gid: 1001,
    gitfile: new TextEncoder().encode("gitdir: /x\n"),
    statfs: () => ({
      blocks: 1,
      freeBlocks: 2,
      availableBlocks: 3,
      files: 4,
      freeFiles: 5,
      blockSizeBytes: 6,
      nameMaxBytes: 255,
      fragmentSizeBytes: 7,
    }),
  });
  return { objects, filesystem };
}

function entryOf(answer: Entry | Parked): Entry {
  assert.ok(!(answer instanceof Parked), "it has parked");
  return answer;
}

function attributesOf(answer: Attributes | Parked): Attributes {
  assert.ok(!(answer instanceof Parked), "it has parked");
  return answer;
}

function lookup(filesystem: BaseFilesystem, parent: number, text: string): Entry {
  return entryOf(filesystem.lookup(parent, name(text)));
}

function keyOf(answer: unknown): string {
  assert.ok(answer instanceof Parked, "it has not parked");
  return answer.key;
}

function throwsErrno(errno: number, call: () => unknown): void {
  assert.throws(call, (error) => error instanceof FsError && error.errno === errno);
}

interface Listed {
  readonly name: string;
  readonly ino: number;
  readonly type: number;
  readonly off: number;
  readonly entry: Entry | null;
}

/** A sink for so many records. */
function collect(limit = Infinity): { sink: DirentSink; listed: Listed[] } {
  const listed: Listed[] = [];
  const put = (record: Listed) => {
    if (listed.length >= limit) return false;
    listed.push(record);
    return true;
  };
  return {
    listed,
    sink: {
      fits: () => listed.length < limit,
      add: (name, ino, type, off) => put({ name, ino, type, off, entry: null }),
      addPlus: (name, ino, type, off, entry) => put({ name, ino, type, off, entry }),
    },
  };
}

function list(filesystem: BaseFilesystem, nodeid: number, offset = 0, limit = Infinity): Listed[] {
  const { sink, listed } = collect(limit);
  assert.equal(filesystem.readdir(nodeid, offset, sink), undefined);
  return listed;
}

function listPlus(filesystem: BaseFilesystem, nodeid: number, offset = 0, limit = Infinity) {
  const { sink, listed } = collect(limit);
  assert.equal(filesystem.readdirplus(nodeid, offset, sink), undefined);
  return listed;
}

function readText(filesystem: BaseFilesystem, nodeid: number, offset: number, size: number) {
  const into = new Uint8Array(size).fill(0x23);
  const count = filesystem.read(nodeid, offset, into);
  assert.ok(typeof count === "number", "it has parked");
  return new TextDecoder().decode(into.subarray(0, count));
}

Deno.test("LOOKUP of a file of unknown size says 0, kept for no time, and asks for nothing", () => {
  const { objects, filesystem } = mounted();
  const entry = lookup(filesystem, ROOT_NODE, "README");
  assert.equal(entry.attr.sizeBytes, 0);
  assert.equal(entry.attrTimeoutMs, 0);
  assert.equal(entry.entryTimeoutMs, DAY_MS);
  assert.deepEqual(objects.asked, []);
});

Deno.test("LOOKUP of a file of known size says it for a day", () => {
  const { objects, filesystem } = mounted();
  objects.sizes.set(README, 1234);
  const entry = lookup(filesystem, ROOT_NODE, "README");
  assert.equal(entry.attr.sizeBytes, 1234);
  assert.equal(entry.attrTimeoutMs, DAY_MS);
});

Deno.test("GETATTR of an unknown size parks, and knows it when it is there", () => {
  const { objects, filesystem } = mounted();
  objects.putTree(SRC, SRC_ENTRIES);
  const src = lookup(filesystem, ROOT_NODE, "src");
  const { nodeid } = lookup(filesystem, src.nodeid, "main");
  assert.equal(keyOf(filesystem.getattr(nodeid)), `size:${MAIN}`);
  assert.deepEqual(objects.asked, [{ key: `size:${MAIN}`, trees: [ROOT, SRC] }]);
  objects.sizes.set(MAIN, 77);
  const { attr, attrTimeoutMs } = attributesOf(filesystem.getattr(nodeid));
  assert.equal(attr.sizeBytes, 77);
  assert.equal(attrTimeoutMs, DAY_MS);
});

Deno.test("a failed size is EIO", () => {
  const { objects, filesystem } = mounted();
  const { nodeid } = lookup(filesystem, ROOT_NODE, "README");
  objects.failing.add(`size:${README}`);
  throwsErrno(ERRNO.EIO, () => filesystem.getattr(nodeid));
});

Deno.test("attributes of every kind", () => {
  const { objects, filesystem } = mounted();
  objects.putTree(SRC, SRC_ENTRIES).putBlob(README, "hello").putBlob(LINK, "a").putBlob(TOOL, "");
  const expected: readonly (readonly [string, number, number, number])[] = [
    // name, mode, nlink, size
    ["README", 0o100644, 1, 5],
    ["tool", 0o100755, 1, 0],
    ["link", 0o120777, 1, 1],
    ["src", 0o040755, 4, 0], // `deep` and `vendored` have a `..` each
    ["module", 0o040755, 2, 0],
    [".git", 0o100644, 1, 11],
  ];
  for (const [text, mode, nlink, sizeBytes] of expected) {
    const entry = lookup(filesystem, ROOT_NODE, text);
    const { attr, attrTimeoutMs } = attributesOf(filesystem.getattr(entry.nodeid));
    assert.deepEqual(attr, entry.attr, text);
    assert.deepEqual(attr, {
      ino: entry.attr.ino,
      mode,
      nlink,
      sizeBytes,
      blocks: sizeBytes > 0 ? 1 : 0,
      atimeSeconds: 1_700_000_000,
      atimeNanoseconds: 0,
      mtimeSeconds: 1_700_000_000,
      mtimeNanoseconds: 0,
      ctimeSeconds: 1_700_000_000,
      ctimeNanoseconds: 0,
      uid: 1000,
      gid: 1001,
      rdev: 0,
    });
    assert.equal(attrTimeoutMs, DAY_MS);
  }
  const root = attributesOf(filesystem.getattr(ROOT_NODE));
  assert.deepEqual([root.attr.ino, root.attr.mode, root.attr.nlink], [1, 0o040755, 4]);
});

Deno.test("a file is data up to its end, where the one hole is", () => {
  const { objects, filesystem } = mounted();
  const { nodeid } = lookup(filesystem, ROOT_NODE, "README");
  const [data, hole] = [3, 4];
  assert.equal(keyOf(filesystem.lseek(nodeid, 0, data)), `size:${README}`);
  objects.putBlob(README, "hello");
  assert.equal(filesystem.lseek(nodeid, 4, data), 4);
  assert.equal(filesystem.lseek(nodeid, 0, hole), 5);
  for (const whence of [data, hole]) {
    throwsErrno(ERRNO.ENXIO, () => filesystem.lseek(nodeid, 5, whence));
  }
});

Deno.test("a directory whose tree is not here has 2 links for no time, and GETATTR parks", () => {
  const { objects, filesystem } = mounted();
  const src = lookup(filesystem, ROOT_NODE, "src");
  assert.equal(src.attr.nlink, 2);
  assert.equal(src.attrTimeoutMs, 0);
  assert.equal(keyOf(filesystem.getattr(src.nodeid)), `tree:${SRC}`);
  assert.equal(keyOf(filesystem.lookup(src.nodeid, name("main"))), `tree:${SRC}`);
  assert.equal(keyOf(filesystem.readdir(src.nodeid, 0, collect().sink)), `tree:${SRC}`);
  assert.equal(keyOf(filesystem.readdirplus(src.nodeid, 0, collect().sink)), `tree:${SRC}`);
  objects.putTree(SRC, SRC_ENTRIES);
  assert.equal(attributesOf(filesystem.getattr(src.nodeid)).attr.nlink, 4);
});

Deno.test("without the root's tree the root parks, and a parked call counts no lookup", () => {
  const { filesystem } = mounted(null);
  assert.equal(keyOf(filesystem.getattr(ROOT_NODE)), `tree:${ROOT}`);
  assert.equal(keyOf(filesystem.lookup(ROOT_NODE, name("README"))), `tree:${ROOT}`);
  assert.equal(keyOf(filesystem.readdirplus(ROOT_NODE, 0, collect().sink)), `tree:${ROOT}`);
  assert.equal(filesystem.nodeCount, 1);
});

Deno.test("a name that is not there is a negative entry, kept for a day, and counts nothing", () => {
  const { filesystem } = mounted();
  for (const text of ["nothing", "readme", "README ", "", ".", "..", "src/main"]) {
    const entry = lookup(filesystem, ROOT_NODE, text);
    assert.equal(entry.nodeid, 0, text);
    assert.equal(entry.entryTimeoutMs, DAY_MS);
  }
  assert.equal(filesystem.nodeCount, 1);
});

Deno.test("a name of 256 bytes is ENAMETOOLONG, one of 255 is only not there", () => {
  const { filesystem } = mounted();
  throwsErrno(ERRNO.ENAMETOOLONG, () => filesystem.lookup(ROOT_NODE, name("x".repeat(256))));
  assert.equal(lookup(filesystem, ROOT_NODE, "x".repeat(255)).nodeid, 0);
});

Deno.test("`.git` is synthesized at the root and nowhere else", () => {
  const { objects, filesystem } = mounted();
  objects.putTree(SRC, SRC_ENTRIES);
  const { nodeid, attrTimeoutMs, attr } = lookup(filesystem, ROOT_NODE, ".git");
  assert.equal(attr.sizeBytes, 11);
  assert.equal(attrTimeoutMs, DAY_MS);
  assert.equal(readText(filesystem, nodeid, 0, 4096), "gitdir: /x\n");
  assert.equal(readText(filesystem, nodeid, 8, 2), "/x");
  assert.equal(readText(filesystem, nodeid, 11, 10), "");
  assert.equal(readText(filesystem, nodeid, 1000, 10), "");
  const src = lookup(filesystem, ROOT_NODE, "src");
  assert.equal(lookup(filesystem, src.nodeid, ".git").nodeid, 0);
  const names = list(filesystem, src.nodeid).map((record) => record.name);
  assert.deepEqual(names, [".", "..", "deep", "main", "vendored"]);
});

Deno.test("a tree that holds `.git` shows the synthesized one, once, and none below", () => {
  const hostile: RawEntry = { mode: "40000", name: ".git", oid: SRC };
  const { objects, filesystem } = mounted([hostile, ...ROOT_ENTRIES]);
  objects.putTree(SRC, [hostile, { ...hostile, name: ".GIT" }, ...SRC_ENTRIES]);
  const names = list(filesystem, ROOT_NODE).map((record) => record.name);
  assert.equal(names.filter((text) => text === ".git").length, 1);
  const { nodeid } = lookup(filesystem, ROOT_NODE, ".git");
  assert.equal(readText(filesystem, nodeid, 0, 100), "gitdir: /x\n");
  const src = lookup(filesystem, ROOT_NODE, "src");
  assert.equal(lookup(filesystem, src.nodeid, ".git").nodeid, 0);
  assert.equal(lookup(filesystem, src.nodeid, ".GIT").nodeid, 0);
});

Deno.test("a gitlink is an empty directory", () => {
  const { objects, filesystem } = mounted();
  const { nodeid } = lookup(filesystem, ROOT_NODE, "module");
  assert.deepEqual(list(filesystem, nodeid).map((record) => record.name), [".", ".."]);
  assert.deepEqual(listPlus(filesystem, nodeid).map((record) => record.name), [".", ".."]);
  assert.equal(lookup(filesystem, nodeid, "anything").nodeid, 0);
  assert.equal(lookup(filesystem, nodeid, ".git").nodeid, 0);
  assert.equal(attributesOf(filesystem.getattr(nodeid)).attr.nlink, 2);
  assert.deepEqual(objects.asked, []);
});

Deno.test("READ in the middle, across the end, at the end and behind it", () => {
  const { objects, filesystem } = mounted();
  objects.putBlob(README, "0123456789");
  const { nodeid } = lookup(filesystem, ROOT_NODE, "README");
  assert.equal(readText(filesystem, nodeid, 0, 10), "0123456789");
  assert.equal(readText(filesystem, nodeid, 3, 4), "3456");
  assert.equal(readText(filesystem, nodeid, 8, 4096), "89");
  assert.equal(readText(filesystem, nodeid, 10, 4096), "");
  assert.equal(readText(filesystem, nodeid, 2 ** 40, 4096), "");
  assert.equal(readText(filesystem, nodeid, 0, 0), "");
});

Deno.test("READ of what is not here parks with the trees on the way; a failure is EIO", () => {
  const { objects, filesystem } = mounted();
  objects.putTree(SRC, SRC_ENTRIES);
  const src = lookup(filesystem, ROOT_NODE, "src");
  const { nodeid } = lookup(filesystem, src.nodeid, "main");
  const into = new Uint8Array(16);
  assert.equal(keyOf(filesystem.read(nodeid, 0, into)), `content:${MAIN}`);
  assert.deepEqual(objects.asked, [{ key: `content:${MAIN}`, trees: [ROOT, SRC] }]);
  objects.failing.add(`content:${MAIN}`);
  throwsErrno(ERRNO.EIO, () => filesystem.read(nodeid, 0, into));
  objects.putBlob(MAIN, "late");
  assert.equal(readText(filesystem, nodeid, 0, 16), "late");
});

Deno.test("READLINK: parks, gives the bytes, and refuses what is longer than a page takes", () => {
  const { objects, filesystem } = mounted();
  const { nodeid } = lookup(filesystem, ROOT_NODE, "link");
  assert.equal(keyOf(filesystem.readlink(nodeid)), `content:${LINK}`);
  objects.contents.set(LINK, Uint8Array.of(0x2e, 0x2e, 0x2f, 0xff));
  assert.deepEqual([...filesystem.readlink(nodeid) as Uint8Array], [0x2e, 0x2e, 0x2f, 0xff]);
  objects.contents.set(LINK, new Uint8Array(4095).fill(0x61));
  assert.equal((filesystem.readlink(nodeid) as Uint8Array).length, 4095);
  objects.contents.set(LINK, new Uint8Array(4096).fill(0x61));
  throwsErrno(ERRNO.ENAMETOOLONG, () => filesystem.readlink(nodeid));
  throwsErrno(ERRNO.EINVAL, () => filesystem.readlink(ROOT_NODE));
});

Deno.test("calls on the wrong kind of node, and on none", () => {
  const { filesystem } = mounted();
  const { nodeid } = lookup(filesystem, ROOT_NODE, "README");
  throwsErrno(ERRNO.ENOTDIR, () => filesystem.lookup(nodeid, name("a")));
  throwsErrno(ERRNO.ENOTDIR, () => filesystem.readdir(nodeid, 0, collect().sink));
  throwsErrno(ERRNO.ENOTDIR, () => filesystem.readdirplus(nodeid, 0, collect().sink));
  throwsErrno(ERRNO.EISDIR, () => filesystem.read(ROOT_NODE, 0, new Uint8Array(1)));
  for (const unknown of [0, 2 ** 40]) {
    throwsErrno(ERRNO.ENOENT, () => filesystem.getattr(unknown));
    throwsErrno(ERRNO.ENOENT, () => filesystem.lookup(unknown, name("a")));
    throwsErrno(ERRNO.ENOENT, () => filesystem.read(unknown, 0, new Uint8Array(1)));
  }
});

Deno.test("cookies: any of them resumes behind its record, in both kinds of listing", () => {
  const { objects, filesystem } = mounted();
  objects.putTree(SRC, SRC_ENTRIES);
  const src = lookup(filesystem, ROOT_NODE, "src").nodeid;
  for (const nodeid of [ROOT_NODE, src]) {
    const all = list(filesystem, nodeid);
    const plus = listPlus(filesystem, nodeid);
    assert.deepEqual(plus.map(({ off }) => off), all.map(({ off }) => off));
    all.forEach(({ off }, i) => {
      assert.deepEqual(list(filesystem, nodeid, off), all.slice(i + 1));
      const part = list(filesystem, nodeid, off, 2);
      assert.deepEqual(part, all.slice(i + 1, i + 3));
    });
  }
});

Deno.test("cookies survive: pinned, and the same after forgetting and in another mount", () => {
  const { filesystem } = mounted();
  const cookies = list(filesystem, ROOT_NODE).map((record) => [record.name, record.off]);
  assert.deepEqual(cookies, [
    [".", 1],
    ["..", 2],
    [".git", 3],
    ["README", 4],
    ["link", 5],
    ["module", 6],
    ["src", 7],
    ["tool", 8],
  ]);
  for (const { entry } of listPlus(filesystem, ROOT_NODE)) {
    if (entry !== null) filesystem.forget(entry.nodeid, 1);
  }
  const again = mounted().filesystem;
  for (const each of [filesystem, again]) {
    assert.deepEqual(list(each, ROOT_NODE).map((record) => [record.name, record.off]), cookies);
  }
});

Deno.test("READDIR types and inos are those of stat, `..` of the root is the root", () => {
  const { objects, filesystem } = mounted();
  objects.putTree(SRC, SRC_ENTRIES);
  const listed = list(filesystem, ROOT_NODE);
  assert.deepEqual(listed.map(({ type }) => type), [4, 4, 8, 8, 10, 4, 4, 8]);
  assert.deepEqual(listed.slice(0, 2).map(({ ino }) => ino), [1, 1]);
  for (const record of listed.slice(2)) {
    assert.equal(lookup(filesystem, ROOT_NODE, record.name).attr.ino, record.ino, record.name);
  }
  const src = lookup(filesystem, ROOT_NODE, "src");
  const [dot, dotDot] = list(filesystem, src.nodeid);
  assert.equal(dot?.ino, src.attr.ino);
  assert.equal(dotDot?.ino, 1);
});

Deno.test("READDIRPLUS: entries as LOOKUP gives them, none for the dots, none that does not fit", () => {
  const { objects, filesystem } = mounted();
  objects.sizes.set(README, 5);
  const listed = listPlus(filesystem, ROOT_NODE, 0, 4);
  assert.deepEqual(listed.map((record) => record.name), [".", "..", ".git", "README"]);
  assert.deepEqual(listed.slice(0, 2).map(({ entry }) => entry), [null, null]);
  assert.equal(filesystem.nodeCount, 3, "what did not fit is not counted");
  assert.deepEqual(lookup(filesystem, ROOT_NODE, "README"), listed[3]?.entry);
  const link = listPlus(filesystem, ROOT_NODE, 4, 1)[0]?.entry;
  assert.equal(link?.attr.sizeBytes, 0);
  assert.equal(link?.attrTimeoutMs, 0);
});

Deno.test("a size that is known is never unknown in a listing, however long the reply", () => {
  const entries = Array.from({ length: 3000 }, (_, i) => ({
    mode: "100644",
    name: `n${i}`,
    oid: fakeOid(0x10000 + i),
  }));
  const { objects, filesystem } = mounted(entries);
  entries.forEach(({ oid }, i) => objects.sizes.set(oid, i + 1));
  for (const offset of [0, 3, 4, 259, 260, 1000]) {
    for (const { name, entry } of listPlus(filesystem, ROOT_NODE, offset)) {
      if (entry === null || name === ".git") continue;
      assert.equal(entry.attr.sizeBytes, Number(name.slice(1)) + 1);
      assert.equal(entry.attrTimeoutMs, DAY_MS);
    }
  }
});

Deno.test("FORGET bounds memory and lets go of what is kept open for a blob", () => {
  const { objects, filesystem } = mounted();
  const { nodeid } = lookup(filesystem, ROOT_NODE, "README");
  lookup(filesystem, ROOT_NODE, "README");
  filesystem.forget(nodeid, 1);
  assert.deepEqual(objects.released, []);
  filesystem.forget(nodeid, 1);
  assert.deepEqual(objects.released, [README] as Oid[]);
  assert.equal(filesystem.nodeCount, 1);
  filesystem.forget(nodeid, 1);
  filesystem.forget(ROOT_NODE, 12345);
  assert.equal(filesystem.nodeCount, 1);
  assert.notEqual(lookup(filesystem, ROOT_NODE, "README").nodeid, nodeid);
});

Deno.test("a known node gives the same entry again, and another mount the same ino", () => {
  const { filesystem } = mounted();
  const first = lookup(filesystem, ROOT_NODE, "src");
  assert.equal(lookup(filesystem, ROOT_NODE, "src").nodeid, first.nodeid);
  assert.equal(lookup(mounted().filesystem, ROOT_NODE, "src").attr.ino, first.attr.ino);
});

Deno.test("STATFS is what the options say", () => {
  assert.equal(mounted().filesystem.statfs().nameMaxBytes, 255);
});
