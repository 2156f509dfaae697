/**
 * The registry: which repositories there are. One SQLite file, used by the daemon and, when none
 * runs, by the CLI; several processes may use it at once.
 *
 * Invariants
 *  1. A row is written last when a repository is made and removed first when it goes: what has a
 *     row is complete, and what has none is an orphan (see remove.ts).
 *     What is asked for and not here yet has a row of another kind (preparations.ts).
 *  2. No row holds a secret: `remote` is without credentials, `tokenFile` is a path.
 */

import {
  type Database,
  hasTable,
  openDatabase,
  openDatabaseToRead,
  transaction,
} from "../db/mod.ts";
import { Failure, messageOf } from "../failure.ts";
import type { Layout, StoreLayout } from "./layout.ts";
import { type Preparation, PreparationTable } from "./preparations.ts";
import { insertRow, objectOf, updateRow } from "./rows.ts";
import { REGISTRY_MIGRATIONS } from "./schema.ts";
import { type RepoRecord, SETTINGS } from "./types.ts";

/** What may change after acquisition. */
export type RepoUpdate = Partial<
  Pick<RepoRecord, (typeof CHANGEABLE)[number]>
>;

/** A commit, and how its tree is shown. */
export interface Base {
  readonly commitOid: RepoRecord["baseCommitOid"];
  readonly treeOid: RepoRecord["baseTreeOid"];
  readonly treeId: RepoRecord["baseTreeId"];
  readonly conversion: RepoRecord["baseConversion"];
}

const CHANGEABLE = [
  "baseCommitOid",
  "baseTreeOid",
  "baseTreeId",
  "baseConversion",
  "generation",
  "wanted",
  "history",
  "lastFetchAt",
  "fetchResult",
  "madeFolders",
  "remoteRefreshSeconds",
  "tokenFile",
] as const satisfies readonly (keyof RepoRecord)[];

const COLUMNS = [
  ...SETTINGS,
  "id",
  "name",
  "remote",
  "ref",
  "sourceRef",
  "madeFolders",
  "storeId",
  "objectFormat",
  "acquiredCommitOid",
  "generation",
  "baseCommitOid",
  "baseTreeOid",
  "baseTreeId",
  "baseConversion",
  "baseTimeSeconds",
  "wanted",
  "history",
  "acquiredAt",
  "lastFetchAt",
  "fetchResult",
] as const satisfies readonly (keyof RepoRecord)[];

export class Registry implements Disposable {
  readonly #db: Database;
  /** What is to become a repository; `insertPreparation` adds to it. */
  readonly preparations: PreparationTable;

  constructor(db: Database) {
    this.#db = db;
    this.preparations = new PreparationTable(db);
  }

  /**
   * Takes the place of its preparation, if it has one. Throws Failure (usage) when the name or the
   * mount point is taken.
   */
  insert(record: RepoRecord): void {
    try {
      transaction(this.#db, () => {
        this.preparations.remove(record.id);
        this.#refuseTaken(record, this.preparations);
        insertRow(this.#db, "repos", COLUMNS, record);
      });
    } catch (error) {
      throw duplicate(record, error);
    }
  }

  /** As insert. */
  insertPreparation(preparation: Preparation): void {
    try {
      transaction(this.#db, () => {
        this.#refuseTaken(preparation, this);
        this.preparations.insert(preparation);
      });
    } catch (error) {
      throw duplicate(preparation, error);
    }
  }

  /** Throws Failure (usage). */
  #refuseTaken({ name, mountPoint }: Named, others: Others): void {
    if (others.by("name", name) !== null) throw nameTaken(name);
    if (others.by("mountPoint", mountPoint) !== null) throw mountPointTaken(mountPoint);
  }

  /** Returns false when there is no such repository. */
  update(id: string, changes: RepoUpdate): boolean {
    return updateRow(this.#db, "repos", CHANGEABLE, id, changes) ?? this.byId(id) !== null;
  }

  /** Another commit is beneath the work tree: the next generation. */
  moveBase(record: RepoRecord, { commitOid, treeOid, treeId, conversion }: Base): void {
    this.update(record.id, {
      baseCommitOid: commitOid,
      baseTreeOid: treeOid,
      baseTreeId: treeId,
      baseConversion: conversion,
      generation: record.generation + 1,
    });
  }

  /** Returns false when there was no such repository. */
  remove(id: string): boolean {
    return Number(this.#db.prepare("DELETE FROM repos WHERE id = ?").run(id).changes) > 0;
  }

  byId(id: string): RepoRecord | null {
    return this.by("id", id);
  }

  byName(name: string): RepoRecord | null {
    return this.by("name", name);
  }

  byMountPoint(mountPoint: string): RepoRecord | null {
    return this.by("mountPoint", mountPoint);
  }

  /** In the order of their names. */
  all(): RepoRecord[] {
    return this.#db.prepare("SELECT * FROM repos ORDER BY name").all().map(recordOf);
  }

  /** And what is to become one: all that has a name and a mount point. */
  everything(): (RepoRecord | Preparation)[] {
    return [...this.all(), ...this.preparations.all()];
  }

  /** Repositories on a store; the one that acquired last comes first. */
  byStore(storeId: string): RepoRecord[] {
    return this.#db.prepare(
      "SELECT * FROM repos WHERE storeId = ? ORDER BY acquiredAt DESC, rowid DESC",
    ).all(storeId).map(recordOf);
  }

  close(): void {
    this.#db.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  by(column: "id" | "name" | "mountPoint", value: string): RepoRecord | null {
    const row = this.#db.prepare(`SELECT * FROM repos WHERE ${column} = ?`).get(value);
    return row === undefined ? null : recordOf(row);
  }
}

/** Opens or makes the registry; the state root exists. Throws Failure (fatal). */
export function openRegistry(layout: Layout): Registry {
  return new Registry(
    openDatabase(layout.registryPath, {
      migrations: REGISTRY_MIGRATIONS,
      // A repository that was reported as mounted is there after a power failure too.
      synchronous: "FULL",
    }),
  );
}

/** As openRegistry, but null when there is none yet. */
export function openExistingRegistry(layout: Layout): Registry | null {
  try {
    Deno.statSync(layout.registryPath);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw new Failure("fatal", `Cannot read ${layout.registryPath}: ${messageOf(error)}`, {
      cause: error,
    });
  }
  return openRegistry(layout);
}

/** Blobs of a store whose content is here: how many, and how large they are in all. */
export function hydratedOf(store: StoreLayout): { blobs: number; sizeBytes: number } {
  const none = { blobs: 0, sizeBytes: 0 };
  try {
    const db = openDatabaseToRead(store.basePath);
    if (db === null) return none;
    try {
      if (!hasTable(db, "sizes")) return none;
      const row = db.prepare(
        "SELECT count(*) AS blobs, coalesce(sum(sizeBytes), 0) AS sizeBytes FROM sizes",
      ).get() as { blobs: number; sizeBytes: number };
      return { blobs: row.blobs, sizeBytes: row.sizeBytes };
    } finally {
      db.close();
    }
  } catch {
    // A figure of `status` only; the store says itself when its database is damaged.
    return none;
  }
}

type Row = Record<string, unknown>;

function recordOf(row: Row): RepoRecord {
  return objectOf(row, COLUMNS) as unknown as RepoRecord;
}

type Named = Pick<RepoRecord, "name" | "mountPoint">;

interface Others {
  by(column: "name" | "mountPoint", value: string): unknown;
}

function duplicate(record: Named, error: unknown): unknown {
  const text = messageOf(error);
  if (/UNIQUE.*\.name/.test(text)) return nameTaken(record.name);
  if (/UNIQUE.*\.mountPoint/.test(text)) return mountPointTaken(record.mountPoint);
  return error;
}

function mountPointTaken(mountPoint: string): Failure {
  return new Failure(
    "usage",
    `Cannot use ${mountPoint}: another repository is registered there; choose another directory`,
  );
}

/** The failure for a name that another repository has. */
export function nameTaken(name: string): Failure {
  return new Failure(
    "usage",
    `Cannot use the name "${name}": another repository has it; choose another with --name`,
  );
}
