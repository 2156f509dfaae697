/** An overlay on the disk, looked at without its own code. */

import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";

/**
 * Rows and files fit together: the invariants of src/overlay/store.ts and overlay.ts. `orderly`: it
 * was closed, and no backing file is left that no row claims. Throws AssertionError.
 */
export function checkInvariants(dir: string, orderly: boolean): void {
  const db = new DatabaseSync(`${dir}/overlay.sqlite`, { readOnly: true });
  const none = (what: string, sql: string) => assert.deepEqual(db.prepare(sql).all(), [], what);
  none(
    "inodes have as many names as links",
    "SELECT ino, nlink, (SELECT count(*) FROM dentry WHERE dentry.ino = inode.ino) AS names " +
      "FROM inode WHERE ino <> 1 AND names <> nlink",
  );
  none(
    "names lead to rows",
    "SELECT ino FROM dentry WHERE ino NOT NULL AND ino NOT IN (SELECT ino FROM inode)",
  );
  none(
    "names are in directories",
    "SELECT parentIno FROM dentry WHERE parentIno NOT IN " +
      `(SELECT ino FROM inode WHERE mode & ${0o170000} = ${0o040000})`,
  );
  none("attributes have rows", "SELECT ino FROM xattr WHERE ino NOT IN (SELECT ino FROM inode)");
  const rows = db.prepare("SELECT ino FROM inode WHERE content = 2 ORDER BY ino").all()
    .map((row) => String(row["ino"]));
  db.close();
  const files = [...Deno.readDirSync(`${dir}/upper`)].map(({ name }) => name);
  for (const row of rows) assert.ok(files.includes(row), `${row} has its backing file`);
  if (orderly) assert.deepEqual(files.sort(), rows.sort());
}
