import assert from "node:assert/strict";
import type { Oid } from "../git/oid.ts";
import type { EntryKind } from "../git/tree.ts";
import type { IndexEntry } from "../git/index_file.ts";
import type { Name, RepoPath } from "../path.ts";
import { NodeTable } from "../vfs/node_table.ts";
import { baseStatOf } from "./base_stats.ts";

const oid = (digit: string) => digit.repeat(40) as Oid;

Deno.test("base stats: ino is what the mount shows", () => {
  const table = new NodeTable(oid("0"), () => {});
  const shown = (path: string, kind: EntryKind, blobOid: Oid) => {
    const names = path.split("/") as Name[];
    const last = names.pop() as Name;
    const parent = names.reduce(
      (node, name) => table.count(table.child(node, name, "directory", oid("f"))),
      table.root,
    );
    return table.child(parent, last, kind, blobOid).ino;
  };
  const statOf = baseStatOf({ timeSeconds: 12, uid: 3, gid: 4 });
  const files: [string, EntryKind, Oid][] = [
    ["a", "file", oid("1")],
    ["dir/a", "executable", oid("1")],
    ["dir/sub/link", "symlink", oid("2")],
    ["dir/sub/\xff\x80", "file", oid("1")],
    ["dir-b/deep/er/a", "file", oid("1")],
    ["dir/last", "gitlink", oid("3")],
  ];
  for (const [path, kind, blobOid] of files) {
    const stat = statOf({ path: path as RepoPath, oid: blobOid } as IndexEntry);
    assert.equal(stat.ino, shown(path, kind, blobOid) % 2 ** 32, path);
    assert.deepEqual({ ...stat, ino: 0 }, {
      ctimeSeconds: 12,
      ctimeNanoseconds: 0,
      mtimeSeconds: 12,
      mtimeNanoseconds: 0,
      dev: 0,
      ino: 0,
      uid: 3,
      gid: 4,
      sizeBytes: 0,
    });
  }
});
