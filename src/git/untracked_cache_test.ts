import assert from "node:assert/strict";
import fc from "fast-check";
import { fsmonitorExtension, readFsmonitor } from "./fsmonitor.ts";
import { IndexError } from "./index_bytes.ts";
import { type Index, type IndexEntry, type IndexExtension, NO_STAT } from "./index_file.ts";
import type { Oid } from "./oid.ts";
import {
  excludeOid,
  freshDirectory,
  freshUntrackedCache,
  readUntrackedCache,
  type UntrackedCache,
  type UntrackedDirectory,
  untrackedExtension,
} from "./untracked_cache.ts";

const PLAIN = { noNullPrototype: true };
const text = fc.string({ unit: fc.constantFrom("a", "/", "\xff", "-"), maxLength: 8 });
const oid = fc.option(
  fc.uint8Array({ minLength: 20, maxLength: 20 }).filter((bytes) => bytes.some((byte) => byte > 0))
    .map((bytes) => bytes.toHex() as Oid),
);

function directoryOf(
  directories: fc.Arbitrary<UntrackedDirectory[]>,
): fc.Arbitrary<UntrackedDirectory> {
  return fc.record({
    name: text,
    directories,
    untracked: fc.array(text, { maxLength: 3 }),
    valid: fc.boolean(),
    checkOnly: fc.boolean(),
    ignoreOid: oid,
    hasAttributes: fc.constant(false),
  }, PLAIN);
}

let directory = directoryOf(fc.constant([]));
for (let depth = 0; depth < 4; depth++) {
  directory = directoryOf(fc.array(directory, { maxLength: 3 }));
}

const cache: fc.Arbitrary<UntrackedCache> = fc.record({
  ident: text,
  flags: fc.nat(0xffffffff),
  excludeOid: oid,
  excludesFileOid: oid,
  root: fc.option(directory),
}, PLAIN);

function indexOf(extension: IndexExtension, entries: readonly IndexEntry[] = []): Index {
  return { version: 2, format: "sha1", entries, extensions: [extension] };
}

/** Also of parts of it, and with a byte changed. */
function readDamaged(
  { name, data }: IndexExtension,
  at: number,
  byte: number,
  read: (extension: IndexExtension) => unknown,
): void {
  const changed = data.slice();
  changed[at % data.length] = byte;
  for (const damaged of [changed, data.subarray(0, at % data.length)]) {
    try {
      read({ name, data: damaged });
    } catch (error) {
      assert(error instanceof IndexError, String(error));
    }
  }
}

Deno.test("untracked cache: what was written is read again, and damage is refused", () => {
  fc.assert(fc.property(cache, fc.nat(), fc.nat(255), (cache, at, byte) => {
    const extension = untrackedExtension(cache, "sha1");
    assert.deepEqual(readUntrackedCache(indexOf(extension)), cache);
    readDamaged(extension, at, byte, (damaged) => readUntrackedCache(indexOf(damaged)));
  }));
  assert.equal(readUntrackedCache(indexOf({ name: "TREE", data: new Uint8Array() })), null);
});

Deno.test("untracked cache: one that goes too deep", () => {
  let deep = freshDirectory("d");
  for (let i = 0; i < 3000; i++) deep = { ...freshDirectory("d"), directories: [deep] };
  const fresh = { ident: "", flags: 6, excludeOid: null, excludesFileOid: null };
  const extension = untrackedExtension({ ...fresh, root: deep }, "sha1");
  assert.throws(() => readUntrackedCache(indexOf(extension)), /too deep/);
});

Deno.test("untracked cache: of a fresh work tree", () => {
  const [ignore, none] = ["1".repeat(40) as Oid, null];
  const at = (name: string, directories: UntrackedDirectory[], hasAttributes = false) => ({
    ...freshDirectory(name),
    directories,
    ignoreOid: ignore,
    hasAttributes,
  });
  const root = at("", [
    at("b", [at("in", [at("leaf", [])])], true),
    at("a-b", [at("leaf", [])]),
    at("a", []),
  ]);
  const exclude = new TextEncoder().encode("/x/\n");
  const made = freshUntrackedCache({
    workTree: "/é" as Parameters<typeof freshUntrackedCache>[0]["workTree"],
    exclude,
    format: "sha1",
    root,
  });
  const lines = (each: UntrackedDirectory, path = ""): string[] => [
    `${path} ${each.ignoreOid === none ? "-" : "oid"}`,
    ...each.directories.flatMap((inner) => lines(inner, `${path}/${inner.name}`)),
  ];
  assert(made.root !== null);
  assert.deepEqual(lines(made.root), [
    " oid",
    "/a -",
    "/a-b oid",
    "/a-b/leaf -",
    "/b -",
    "/b/in -",
    "/b/in/leaf -",
  ]);
  assert.match(made.ident, /^Location \/\xc3\xa9, system (?:Linux|Darwin)$/);
  // git hash-object of the text and a newline; and of nothing.
  assert.equal(made.excludeOid, "271277b20d3257b2479f279ff69533f00bc18637");
  assert.equal(excludeOid(new Uint8Array(), "sha1"), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
});

Deno.test("file monitor: what was written is read again, and damage is refused", () => {
  const entry = { stat: NO_STAT } as IndexEntry;
  const dirty = fc.array(fc.nat(1), { maxLength: 300 }).map((bits) => Uint8Array.from(bits));
  fc.assert(fc.property(text, dirty, fc.nat(), fc.nat(255), (token, dirty, at, byte) => {
    const entries = Array(dirty.length).fill(entry);
    const extension = fsmonitorExtension({ token, dirty });
    assert.deepEqual(readFsmonitor(indexOf(extension, entries)), { token, dirty });
    readDamaged(extension, at, byte, (damaged) => readFsmonitor(indexOf(damaged, entries)));
  }));
  const first = Uint8Array.from([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 20]);
  const none = fsmonitorExtension({ token: "", dirty: new Uint8Array() }).data.slice(9);
  const old = { name: "FSMN", data: Uint8Array.from([...first, ...none]) };
  assert.deepEqual(readFsmonitor(indexOf(old)), { token: "9", dirty: new Uint8Array() });
});
