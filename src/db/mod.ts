/**
 * SQLite databases: how they are opened, brought to the newest schema, and written to.
 *
 * Invariants
 *  1. A database file, its WAL and its shared memory are 0600: the file is made with that mode
 *     before SQLite opens it, and SQLite gives the other two the mode of the first.
 *  2. `PRAGMA user_version` is the number of migrations that ran. One that is larger than what
 *     this program knows is refused: an older program must not write into a newer schema.
 *  3. A migration and its new user_version are one transaction.
 */

import { DatabaseSync } from "node:sqlite";
import { Failure, messageOf } from "../failure.ts";

export type Database = DatabaseSync;

export interface OpenOptions {
  /** SQL that brings the schema from version i to i + 1; never changed, only appended to. */
  readonly migrations: readonly string[];
  /** NORMAL survives a killed process, FULL a power failure too. Default NORMAL. */
  readonly synchronous?: "NORMAL" | "FULL";
  /** Of a file that is made now, default 4096; an older one keeps its own. */
  readonly pageBytes?: number;
  /** Pages in the log after which it goes into the file, with two fsyncs. Default 1000. */
  readonly checkpointPages?: number;
  /** How long a statement waits for another process's lock. */
  readonly busyTimeoutMs?: number;
}

const BUSY_TIMEOUT_MS = 10_000;

/**
 * Opens or creates a database. Throws Failure (fatal) when it is newer than this program, damaged
 * or out of reach.
 */
export function openDatabase(path: string, options: OpenOptions): Database {
  const timeout = options.busyTimeoutMs ?? BUSY_TIMEOUT_MS;
  createPrivateFile(path);
  let db: DatabaseSync | null = null;
  try {
    db = new DatabaseSync(path, { timeout });
    // Before WAL, which settles the size of a page.
    db.exec(`PRAGMA page_size = ${options.pageBytes ?? 4096}`);
    useWal(db, timeout);
    db.exec(`PRAGMA wal_autocheckpoint = ${options.checkpointPages ?? 1000}`);
    db.exec(`PRAGMA synchronous = ${options.synchronous ?? "NORMAL"}; PRAGMA foreign_keys = ON`);
    migrate(db, path, options.migrations);
    return db;
  } catch (error) {
    db?.close();
    if (error instanceof Failure) throw error;
    throw new Failure("fatal", `Cannot open ${path}: ${messageOf(error)}`, { cause: error });
  }
}

/** Opens a database to read, whatever its schema's version; null when there is no file. */
export function openDatabaseToRead(path: string): Database | null {
  if (!exists(path)) return null;
  return new DatabaseSync(path, { readOnly: true, timeout: BUSY_TIMEOUT_MS });
}

/** Runs `fn` as one write transaction: all of it or, when it throws, nothing. Not to be nested. */
export function transaction<T>(db: Database, fn: () => T): T {
  // IMMEDIATE: a read that becomes a write fails at once when another writer came between.
  db.exec("BEGIN IMMEDIATE");
  try {
    const result = fn();
    db.exec("COMMIT");
    return result;
  } catch (error) {
    // After some errors (disk full) SQLite has rolled back by itself.
    if (db.isTransaction) db.exec("ROLLBACK");
    throw error;
  }
}

/** Whether a table of this name exists. */
export function hasTable(db: Database, name: string): boolean {
  const row = db.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?").get(name);
  return row !== undefined;
}

function createPrivateFile(path: string): void {
  try {
    Deno.openSync(path, { createNew: true, write: true, mode: 0o600 }).close();
    // The umask may have taken rights away; it cannot have added any.
    Deno.chmodSync(path, 0o600);
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) {
      throw new Failure("fatal", `Cannot create ${path}: ${messageOf(error)}`, { cause: error });
    }
  }
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** The switch to WAL does not wait for a lock as statements do: two first openers may collide. */
function useWal(db: Database, timeoutMs: number): void {
  const until = Date.now() + timeoutMs;
  for (;;) {
    try {
      db.exec("PRAGMA journal_mode = WAL");
      return;
    } catch (error) {
      if (!/locked|busy/i.test(messageOf(error)) || Date.now() > until) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

function migrate(db: Database, path: string, migrations: readonly string[]): void {
  if (versionOf(db, path, migrations.length) === migrations.length) return;
  transaction(db, () => {
    // Read again: another process may have migrated while this one waited.
    const version = versionOf(db, path, migrations.length);
    for (const sql of migrations.slice(version)) db.exec(sql);
    db.exec(`PRAGMA user_version = ${migrations.length}`);
  });
}

function versionOf(db: Database, path: string, known: number): number {
  const row = db.prepare("PRAGMA user_version").get() as { user_version: number };
  if (row.user_version > known) {
    throw new Failure(
      "fatal",
      `Cannot open ${path}: a newer afs wrote it (schema ${row.user_version}, this one knows ${known}); use that afs`,
    );
  }
  return row.user_version;
}
