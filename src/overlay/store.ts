/**
 * The overlay's rows in one SQLite file. One thread writes; others may read (`status`).
 *
 * Invariants
 *  1. Every inode row but the root's is named by as many dentries as its nlink (a directory: one),
 *     and every dentry's parent is a directory's row. So what differs from the base is found from
 *     the root, and a directory without a row has no dentries.
 *  2. A change of one system call is one transaction.
 *  3. An ino is never given twice.
 */

import type { StatementSync } from "node:sqlite";
import { type Database, openDatabase, openDatabaseToRead, transaction } from "../db/mod.ts";
import { baseIdOfBytes, bytesOfBaseId } from "../git/base_id.ts";
import { bytesOf, byteString, type HostPath, type Name, type RepoPath } from "../path.ts";
import type { Content, Inode } from "./inode.ts";
import { OVERLAY_MIGRATIONS } from "./schema.ts";

/** A change in the journal, of a path from the root (journal.ts says what the kinds are). */
export interface JournalRow {
  readonly kind: number;
  readonly path: RepoPath;
}

export interface JournalMeta {
  readonly id: string;
  readonly bootId: string;
  readonly floor: number;
}

/** A name of a directory. */
export interface Dentry {
  readonly name: Name;
  /** Null: a whiteout. */
  readonly ino: number | null;
  /** st_mode of the inode; 0 for a whiteout. */
  readonly mode: number;
}

/**
 * A change of a few rows puts each page it touches into the log as a whole, and an fsync at every
 * checkpoint writes all of them: what a create costs besides its round trips is mostly that.
 */
const PAGE_BYTES = 1024;
/**
 * The log's index has a first part for 4062 pages (SQLite: HASHTABLE_NPAGE_ONE). A second one on a
 * full disk would be EIO, where a page of the log is ENOSPC.
 */
const CHECKPOINT_PAGES = 3500;

/** Numbers reserved with one write. */
const INO_BLOCK = 1024;

const INODE_COLUMNS =
  "ino, mode, uid, gid, rdev, nlink, atimeSeconds, atimeNanoseconds, mtimeSeconds, " +
  "mtimeNanoseconds, ctimeSeconds, ctimeNanoseconds, content, oid, target";

export class OverlayStore {
  readonly #db: Database;
  readonly #statements: Record<keyof typeof SQL, StatementSync>;
  #nextIno = 0;
  #reservedIno = 0;
  /** Rows were committed that no sync has reached, by whoever had it before perhaps. */
  #unsynced = true;

  /** Opens or makes it. Throws Failure. */
  constructor(path: HostPath) {
    this.#db = openDatabase(path, {
      migrations: OVERLAY_MIGRATIONS,
      pageBytes: PAGE_BYTES,
      checkpointPages: CHECKPOINT_PAGES,
    });
    const prepare = ([name, sql]: [string, string]) => [name, this.#db.prepare(sql)];
    this.#statements = Object.fromEntries(Object.entries(SQL).map(prepare));
  }

  /** Runs `work` as one transaction. Not to be nested. */
  transaction<T>(work: () => T): T {
    const result = transaction(this.#db, work);
    this.#unsynced = true;
    return result;
  }

  inode(ino: number): Inode | null {
    const row = this.#statements.getInode.get(ino);
    return row === undefined ? null : inodeOf(row);
  }

  dentries(parentIno: number): Dentry[] {
    return this.#statements.getDentries.all(parentIno).map(dentryOf);
  }

  putInode(inode: Inode): void {
    this.#statements.putInode.run(
      inode.ino,
      inode.mode,
      inode.uid,
      inode.gid,
      inode.rdev,
      inode.nlink,
      inode.atimeSeconds,
      inode.atimeNanoseconds,
      inode.mtimeSeconds,
      inode.mtimeNanoseconds,
      inode.ctimeSeconds,
      inode.ctimeNanoseconds,
      inode.content,
      inode.oid === null ? null : bytesOfBaseId(inode.oid),
      inode.target,
    );
  }

  /** Removes an inode with its extended attributes and, of a directory, its whiteouts. */
  deleteInode(ino: number): void {
    this.#statements.deleteInode.run(ino);
    this.#statements.deleteXattrs.run(ino);
    this.#statements.deleteDentries.run(ino);
  }

  /** `ino` null: a whiteout. */
  putDentry(parentIno: number, name: Name, ino: number | null): void {
    this.#statements.putDentry.run(parentIno, bytesOf(name), ino);
  }

  deleteDentry(parentIno: number, name: Name): void {
    this.#statements.deleteDentry.run(parentIno, bytesOf(name));
  }

  xattr(ino: number, name: Name): Uint8Array<ArrayBuffer> | null {
    const row = this.#statements.getXattr.get(ino, bytesOf(name));
    return row === undefined ? null : row["value"] as Uint8Array<ArrayBuffer>;
  }

  xattrNames(ino: number): Name[] {
    const rows = this.#statements.getXattrNames.all(ino);
    return rows.map((row) => byteString(row["name"] as Uint8Array) as Name);
  }

  putXattr(ino: number, name: Name, value: Uint8Array): void {
    this.#statements.putXattr.run(ino, bytesOf(name), value);
  }

  deleteXattr(ino: number, name: Name): void {
    this.#statements.deleteXattr.run(ino, bytesOf(name));
  }

  /** All names of an inode: a walk over all dentries. */
  namesOf(ino: number): { readonly parentIno: number; readonly name: Name }[] {
    return this.#statements.getNames.all(ino).map((row) => ({
      parentIno: row["parentIno"] as number,
      name: byteString(row["name"] as Uint8Array) as Name,
    }));
  }

  /** Whether nothing was ever changed. */
  isEmpty(): boolean {
    return this.#statements.getAnyInode.get() === undefined;
  }

  journalMeta(): JournalMeta | null {
    return (this.#statements.getJournalMeta.get() as JournalMeta | undefined) ?? null;
  }

  putJournalMeta({ id, bootId, floor }: JournalMeta): void {
    this.transaction(() => {
      this.#statements.deleteJournalMeta.run();
      this.#statements.putJournalMeta.run(id, bootId, floor);
    });
  }

  /** Of the newest row; 0: there is none. */
  lastSequence(): number {
    return (this.#statements.getLastSequence.get() as { last: number }).last;
  }

  putJournal(sequence: number, { kind, path }: JournalRow): void {
    this.#statements.putJournal.run(sequence, kind, bytesOf(path));
  }

  /** Rows after a sequence, oldest first, at most so many. */
  journalSince(sequence: number, limit: number): JournalRow[] {
    return this.#statements.getJournal.all(sequence, limit).map((row) => ({
      kind: row["kind"] as number,
      path: byteString(row["path"] as Uint8Array) as RepoPath,
    }));
  }

  /** Keeps the newest row of each path and kind, and the newest `limit` of them; the last always. */
  compactJournal(limit: number): void {
    this.transaction(() => {
      this.#statements.mergeJournal.run();
      this.#statements.raiseFloor.run(limit);
      this.#statements.trimJournal.run();
    });
  }

  /** Outside of a transaction. */
  allocateIno(): number {
    if (this.#nextIno === this.#reservedIno) {
      const { nextIno } = this.#statements.getMeta.get() as { nextIno: number };
      this.#statements.setNextIno.run(nextIno + INO_BLOCK);
      this.#nextIno = nextIno;
      this.#reservedIno = nextIno + INO_BLOCK;
    }
    return this.#nextIno++;
  }

  /** Inos of all files that have a backing file. */
  inosWithBackingFile(): Set<number> {
    return new Set(this.#statements.getUpper.all().map((row) => row["ino"] as number));
  }

  /** Marks it as in use; whether whoever had it last closed it. */
  open(): boolean {
    const { clean } = this.#statements.getMeta.get() as { clean: number };
    this.#statements.setClean.run(0);
    return clean === 1;
  }

  /** Returns when the disk has every row committed so far. */
  sync(): void {
    if (!this.#unsynced) return;
    // A commit under FULL ends with an fsync of the whole log (SQLite: PRAGMA synchronous).
    this.#db.exec("PRAGMA synchronous = FULL");
    try {
      this.#statements.countSync.run();
      this.#unsynced = false;
    } finally {
      this.#db.exec("PRAGMA synchronous = NORMAL");
    }
  }

  /** The log goes into the file. `clean`: the next one to open it need not look for orphans. */
  close({ clean }: { readonly clean: boolean }): void {
    try {
      if (clean) this.#statements.setClean.run(1);
    } finally {
      this.#db.close();
    }
  }
}

const SQL = {
  getInode: `SELECT ${INODE_COLUMNS} FROM inode WHERE ino = ?`,
  putInode: `INSERT OR REPLACE INTO inode (${INODE_COLUMNS}) ` +
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
  deleteInode: "DELETE FROM inode WHERE ino = ?",
  getDentries: "SELECT d.name, d.ino, i.mode FROM dentry AS d LEFT JOIN inode AS i " +
    "ON i.ino = d.ino WHERE d.parentIno = ? ORDER BY d.name",
  putDentry: "INSERT OR REPLACE INTO dentry (parentIno, name, ino) VALUES (?, ?, ?)",
  deleteDentry: "DELETE FROM dentry WHERE parentIno = ? AND name = ?",
  deleteDentries: "DELETE FROM dentry WHERE parentIno = ?",
  getXattr: "SELECT value FROM xattr WHERE ino = ? AND name = ?",
  getXattrNames: "SELECT name FROM xattr WHERE ino = ? ORDER BY name",
  putXattr: "INSERT OR REPLACE INTO xattr (ino, name, value) VALUES (?, ?, ?)",
  deleteXattr: "DELETE FROM xattr WHERE ino = ? AND name = ?",
  deleteXattrs: "DELETE FROM xattr WHERE ino = ?",
  getNames: "SELECT parentIno, name FROM dentry WHERE ino = ?",
  getAnyInode: "SELECT 1 FROM inode LIMIT 1",
  getJournalMeta: "SELECT id, bootId, floor FROM journalMeta",
  deleteJournalMeta: "DELETE FROM journalMeta",
  putJournalMeta: "INSERT INTO journalMeta (id, bootId, floor) VALUES (?, ?, ?)",
  getLastSequence: "SELECT coalesce(max(sequence), 0) AS last FROM journal",
  putJournal: "INSERT INTO journal (sequence, kind, path) VALUES (?, ?, ?)",
  getJournal: "SELECT kind, path FROM journal WHERE sequence > ? ORDER BY sequence LIMIT ?",
  mergeJournal: "DELETE FROM journal WHERE sequence NOT IN " +
    "(SELECT max(sequence) FROM journal GROUP BY path, kind)",
  raiseFloor: "UPDATE journalMeta SET floor = max(floor, coalesce(" +
    "(SELECT sequence FROM journal ORDER BY sequence DESC LIMIT 1 OFFSET max(?, 1)), 0))",
  trimJournal: "DELETE FROM journal WHERE sequence <= (SELECT floor FROM journalMeta)",
  getUpper: "SELECT ino FROM inode WHERE content = 2",
  getMeta: "SELECT nextIno, clean FROM meta",
  setNextIno: "UPDATE meta SET nextIno = ?",
  setClean: "UPDATE meta SET clean = ?",
  countSync: "UPDATE meta SET syncs = syncs + 1",
} as const;

type Row = Record<string, unknown>;

function inodeOf(row: Row): Inode {
  const oid = row["oid"] as Uint8Array | null;
  return {
    ino: row["ino"] as number,
    mode: row["mode"] as number,
    uid: row["uid"] as number,
    gid: row["gid"] as number,
    rdev: row["rdev"] as number,
    nlink: row["nlink"] as number,
    atimeSeconds: row["atimeSeconds"] as number,
    atimeNanoseconds: row["atimeNanoseconds"] as number,
    mtimeSeconds: row["mtimeSeconds"] as number,
    mtimeNanoseconds: row["mtimeNanoseconds"] as number,
    ctimeSeconds: row["ctimeSeconds"] as number,
    ctimeNanoseconds: row["ctimeNanoseconds"] as number,
    content: row["content"] as Content,
    oid: oid === null ? null : baseIdOfBytes(oid),
    target: row["target"] as Uint8Array<ArrayBuffer> | null,
  };
}

function dentryOf(row: Row): Dentry {
  return {
    name: byteString(row["name"] as Uint8Array) as Name,
    ino: row["ino"] as number | null,
    mode: (row["mode"] as number | null) ?? 0,
  };
}

/** Rows for whoever only looks: all dentries of one overlay, by parent. */
export class OverlayReader {
  readonly #db: Database;
  readonly #getInode: StatementSync;
  readonly #getDentries: StatementSync;

  private constructor(db: Database) {
    this.#db = db;
    this.#getInode = db.prepare(SQL.getInode);
    this.#getDentries = db.prepare(SQL.getDentries);
  }

  /** Null: nothing was ever changed there. */
  static open(path: HostPath): OverlayReader | null {
    const db = openDatabaseToRead(path);
    return db === null ? null : new OverlayReader(db);
  }

  inode(ino: number): Inode | null {
    const row = this.#getInode.get(ino);
    return row === undefined ? null : inodeOf(row);
  }

  dentries(parentIno: number): Dentry[] {
    return this.#getDentries.all(parentIno).map(dentryOf);
  }

  close(): void {
    this.#db.close();
  }
}
