/** The base of one store in SQLite. Several threads open it; only the indexer writes. */

import type { StatementSync } from "node:sqlite";
import { type Database, openDatabase, openDatabaseToRead, transaction } from "../db/mod.ts";
import { bytesOfOid, hexOf, type Oid } from "../git/oid.ts";
import type { HostPath } from "../path.ts";
import { BASE_MIGRATIONS, RAW_CONVERSION } from "./schema.ts";

const GET_TREE = "SELECT raw FROM trees WHERE oid = ?";

export class BaseStore {
  readonly #db: Database;
  readonly #getTree: StatementSync;
  readonly #putTree: StatementSync;
  readonly #getSize: StatementSync;
  readonly #getSizes: StatementSync;
  readonly #putSize: StatementSync;
  readonly #getRoot: StatementSync;
  readonly #putRoot: StatementSync;

  constructor(path: HostPath) {
    const db = openDatabase(path, { migrations: BASE_MIGRATIONS });
    this.#db = db;
    this.#getTree = db.prepare(GET_TREE);
    this.#putTree = db.prepare("INSERT OR IGNORE INTO trees (oid, raw) VALUES (?, ?)");
    this.#getSize = db.prepare("SELECT sizeBytes FROM sizes WHERE oid = ? AND conversion = ?");
    // One statement for a whole directory: a few microseconds a row less than one each.
    this.#getSizes = db.prepare(
      "SELECT s.oid, s.sizeBytes FROM json_each(?) AS asked JOIN sizes AS s " +
        "ON s.oid = unhex(asked.value) AND s.conversion = ?",
    );
    this.#putSize = db.prepare(
      "INSERT OR IGNORE INTO sizes (oid, conversion, sizeBytes) VALUES (?, ?, ?)",
    );
    this.#getRoot = db.prepare("SELECT 1 FROM indexedRoots WHERE oid = ?");
    this.#putRoot = db.prepare("INSERT OR IGNORE INTO indexedRoots (oid) VALUES (?)");
  }

  /** The raw tree object; null: not indexed yet. */
  tree(oid: Oid): Uint8Array<ArrayBuffer> | null {
    const row = this.#getTree.get(bytesOfOid(oid));
    return row === undefined ? null : row["raw"] as Uint8Array<ArrayBuffer>;
  }

  putTrees(trees: readonly (readonly [Oid, Uint8Array])[]): void {
    transaction(this.#db, () => {
      for (const [oid, raw] of trees) this.#putTree.run(bytesOfOid(oid), raw);
    });
  }

  /** Size of raw content in bytes; undefined: unknown. */
  size(oid: Oid): number | undefined {
    const row = this.#getSize.get(bytesOfOid(oid), RAW_CONVERSION);
    return row === undefined ? undefined : row["sizeBytes"] as number;
  }

  /** The known ones among many. */
  sizes(oids: readonly Oid[]): Map<Oid, number> {
    const known = new Map<Oid, number>();
    for (const row of this.#getSizes.iterate(JSON.stringify(oids), RAW_CONVERSION)) {
      known.set(hexOf(row["oid"] as Uint8Array), row["sizeBytes"] as number);
    }
    return known;
  }

  putSizes(sizes: readonly (readonly [Oid, number])[]): void {
    transaction(this.#db, () => {
      for (const [oid, size] of sizes) this.#putSize.run(bytesOfOid(oid), RAW_CONVERSION, size);
    });
  }

  /** Packs of which every blob's size was put. */
  sizedPacks(): Set<string> {
    const rows = this.#db.prepare("SELECT name FROM sizedPacks").all();
    return new Set(rows.map((row) => row["name"] as string));
  }

  /** Call when the sizes of all their blobs have been put. */
  putSizedPacks(names: readonly string[]): void {
    const put = this.#db.prepare("INSERT OR IGNORE INTO sizedPacks (name) VALUES (?)");
    transaction(this.#db, () => {
      for (const name of names) put.run(name);
    });
  }

  isIndexed(rootTreeOid: Oid): boolean {
    return this.#getRoot.get(bytesOfOid(rootTreeOid)) !== undefined;
  }

  /** Call when every tree below it has been put. */
  markIndexed(rootTreeOid: Oid): void {
    this.#putRoot.run(bytesOfOid(rootTreeOid));
  }

  close(): void {
    this.#db.close();
  }
}

/** Trees for whoever only looks. */
export class BaseReader {
  readonly #db: Database;
  readonly #getTree: StatementSync;

  private constructor(db: Database) {
    this.#db = db;
    this.#getTree = db.prepare(GET_TREE);
  }

  /** Null: there is none. */
  static open(path: HostPath): BaseReader | null {
    const db = openDatabaseToRead(path);
    return db === null ? null : new BaseReader(db);
  }

  /** As BaseStore. */
  tree(oid: Oid): Uint8Array<ArrayBuffer> | null {
    const row = this.#getTree.get(bytesOfOid(oid));
    return row === undefined ? null : row["raw"] as Uint8Array<ArrayBuffer>;
  }

  close(): void {
    this.#db.close();
  }
}
