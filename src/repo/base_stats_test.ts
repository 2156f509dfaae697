import assert from "node:assert/strict";
import fc from "fast-check";
import { bytesOfOid, type Oid } from "../git/oid.ts";
import type { EntryKind } from "../git/tree.ts";
import { bytesOf, type Name } from "../path.ts";
import { NodeTable } from "../vfs/node_table.ts";
import { BASE_INOS } from "./base_stats.ts";

const name = fc.uint8Array({ minLength: 1, maxLength: 20 }).map((bytes) =>
  String.fromCharCode(...bytes).replace(/[\0/]/g, "x") as Name
);
const oid = fc.constantFrom(20, 32).chain((length) =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((bytes) => bytes.toHex() as Oid)
);
const kind = fc.constantFrom<EntryKind>("file", "executable", "symlink", "gitlink");

Deno.test("base stats: ino is what the mount shows", () => {
  fc.assert(fc.property(fc.array(name), name, kind, oid, (names, last, kind, oid) => {
    const table = new NodeTable(oid, () => {});
    const directory = names.reduce(
      (node, name) => table.count(table.child(node, name, "directory", oid)),
      table.root,
    );
    const parentIno = names.reduce(BASE_INOS.ofDirectory, BASE_INOS.root);
    assert.equal(parentIno, directory.ino);
    const bytes = Uint8Array.from([1, ...bytesOf(last), 2]);
    const oidBytes = Uint8Array.from([3, ...bytesOfOid(oid), 4]);
    const ino = BASE_INOS.ofFile(
      parentIno,
      bytes,
      1,
      bytes.length - 1,
      oidBytes,
      1,
      oidBytes.length - 1,
    );
    assert.equal(ino, table.child(directory, last, kind, oid).ino);
  }));
});
