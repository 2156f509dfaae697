/** The overlay's rows. Names are bytes, so they are BLOBs. */

export const OVERLAY_MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE inode (
    ino INTEGER PRIMARY KEY,
    mode INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    rdev INTEGER NOT NULL,
    nlink INTEGER NOT NULL,
    atimeSeconds INTEGER NOT NULL,
    atimeNanoseconds INTEGER NOT NULL,
    mtimeSeconds INTEGER NOT NULL,
    mtimeNanoseconds INTEGER NOT NULL,
    ctimeSeconds INTEGER NOT NULL,
    ctimeNanoseconds INTEGER NOT NULL,
    -- 0 none, 1 the blob oid of the base, 2 the backing file upper/<ino>
    content INTEGER NOT NULL,
    -- blob, or the tree beneath a directory
    oid BLOB,
    -- of a link made here
    target BLOB
  );
  -- A name that differs from the base. ino NULL: a whiteout, which hides a name of the base.
  CREATE TABLE dentry (
    parentIno INTEGER NOT NULL,
    name BLOB NOT NULL,
    ino INTEGER,
    PRIMARY KEY (parentIno, name)
  ) WITHOUT ROWID;
  CREATE TABLE xattr (
    ino INTEGER NOT NULL,
    name BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (ino, name)
  ) WITHOUT ROWID;
  -- One row: nextIno is above every ino given so far; clean is 0 while somebody has it open.
  -- Inos of the base are hashes of 52 bits, so those that are given here begin at 2^52.
  CREATE TABLE meta (nextIno INTEGER NOT NULL, clean INTEGER NOT NULL, syncs INTEGER NOT NULL);
  INSERT INTO meta VALUES (4503599627370496, 1, 0);
  `,
  `
  -- What changed, in order (journal.ts).
  CREATE TABLE journal (sequence INTEGER PRIMARY KEY, kind INTEGER NOT NULL, path BLOB NOT NULL);
  -- No row: never opened. id: of the tokens given out; bootId: in which it was opened last; floor:
  -- rows up to this sequence may be gone.
  CREATE TABLE journalMeta (id TEXT NOT NULL, bootId TEXT NOT NULL, floor INTEGER NOT NULL);
  `,
];
