/**
 * What is to become a repository (`add-repo --async`): asked for, and not here yet. Rows of the
 * registry beside those of repositories.
 *
 *   row                      event              next
 *   (none)                   add-repo --async   asked for
 *   asked for                acquired           a repository's row, in one transaction
 *   asked for                acquisition fails  with an error
 *   with an error            prepare            asked for
 *   either                   remove-repo        (none)
 *
 * Invariants
 *  1. A name and a mount point are of one repository or one preparation.
 *  2. No row holds a secret: `remote` is without credentials, `tokenFile` is a path.
 */

import type { Database } from "../db/mod.ts";
import { insertRow, objectOf, updateRow } from "./rows.ts";
import { type RepoRecord, type RepoSettings, SETTINGS } from "./types.ts";

export interface Preparation extends RepoSettings {
  /** Of the repository that it becomes. */
  readonly id: string;
  readonly name: string;
  readonly remote: string;
  readonly madeFolders: number;
  readonly wanted: RepoRecord["wanted"];
  /** ISO 8601 UTC. */
  readonly askedAt: string;
  /** Why the last try failed, one line without secrets; null: none has. */
  readonly error: string | null;
}

const CHANGEABLE = [
  "madeFolders",
  "remoteRefreshSeconds",
  "wanted",
  "error",
] as const satisfies readonly (keyof Preparation)[];

const COLUMNS = [
  ...SETTINGS,
  "id",
  "name",
  "remote",
  "madeFolders",
  "wanted",
  "askedAt",
  "error",
] as const satisfies readonly (keyof Preparation)[];

export type PreparationUpdate = Partial<Pick<Preparation, (typeof CHANGEABLE)[number]>>;

export class PreparationTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Throws what SQLite says when the name or the mount point is another's. */
  insert(preparation: Preparation): void {
    insertRow(this.#db, "preparations", COLUMNS, preparation);
  }

  update(id: string, changes: PreparationUpdate): void {
    updateRow(this.#db, "preparations", CHANGEABLE, id, changes);
  }

  remove(id: string): void {
    this.#db.prepare("DELETE FROM preparations WHERE id = ?").run(id);
  }

  by(column: "id" | "name" | "mountPoint", value: string): Preparation | null {
    const row = this.#db.prepare(`SELECT * FROM preparations WHERE ${column} = ?`).get(value);
    return row === undefined ? null : preparationOf(row);
  }

  /** In the order of their names. */
  all(): Preparation[] {
    return this.#db.prepare("SELECT * FROM preparations ORDER BY name").all().map(preparationOf);
  }
}

function preparationOf(row: Record<string, unknown>): Preparation {
  return objectOf(row, COLUMNS) as unknown as Preparation;
}
