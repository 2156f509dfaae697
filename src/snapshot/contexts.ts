/**
 * Conversions and contexts of one work tree: what the suffixes of its ids mean (git/base_id.ts).
 *
 * A context is the list of names of a directory that have a suffix, with it. Both are named by a
 * digest of what they are, so rows are only ever added, and the root's suffix says it all. They are
 * kept for each work tree, not in the base: they follow from its owner's configuration.
 *
 * Write order: children first, so a context that is there has all that it names.
 */

import type { StatementSync } from "node:sqlite";
import { type Database, openDatabase, openDatabaseToRead, transaction } from "../db/mod.ts";
import { type BaseId, baseIdOf, type Suffix, SUFFIX_BYTES, suffixOfBytes } from "../git/base_id.ts";
import {
  type Conversion,
  conversionOfForm,
  digest,
  formOf,
  suffixOfForm,
} from "../git/conversion.ts";
import type { Oid } from "../git/oid.ts";
import { bytesOf, byteString, type HostPath, type Name } from "../path.ts";
import { turn } from "../promises.ts";

const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE conversions (id BLOB PRIMARY KEY, form TEXT NOT NULL) WITHOUT ROWID;
  -- entries: name, NUL, suffix, again and again, sorted by name
  CREATE TABLE contexts (id BLOB PRIMARY KEY, entries BLOB NOT NULL);
  `,
];

/** Rows of one transaction: some ms. */
const ROWS_PER_TRANSACTION = 1000;

/** Contexts made without a pause: some ms. */
const CONTEXTS_PER_TURN = 500;

/** Suffixes in a directory. */
export type Context = ReadonlyMap<Name, Suffix>;

export class ContextStore {
  readonly #db: Database;

  /** Opens or makes it. Throws Failure. */
  constructor(path: HostPath) {
    this.#db = openDatabase(path, { migrations: MIGRATIONS, synchronous: "FULL" });
  }

  /** Lets others have a turn now and then. */
  async put(rows: ContextRows): Promise<void> {
    const putForm = this.#db.prepare("INSERT OR IGNORE INTO conversions (id, form) VALUES (?, ?)");
    const putContext = this.#db.prepare(
      "INSERT OR IGNORE INTO contexts (id, entries) VALUES (?, ?)",
    );
    await this.#each(rows.forms, ([id, form]) => putForm.run(Uint8Array.fromHex(id), form));
    await this.#each(
      rows.contexts,
      ([id, entries]) => putContext.run(Uint8Array.fromHex(id), bytesOf(entries)),
    );
  }

  async #each<T>(all: Iterable<T>, write: (each: T) => void): Promise<void> {
    const left = Iterator.from(all);
    for (;;) {
      const part: T[] = [];
      for (let next = left.next(); !next.done; next = left.next()) {
        if (part.push(next.value) === ROWS_PER_TRANSACTION) break;
      }
      if (part.length === 0) return;
      transaction(this.#db, () => part.forEach(write));
      await turn();
    }
  }

  close(): void {
    this.#db.close();
  }
}

/** For whoever only looks. */
export class ContextReader {
  readonly #db: Database;
  readonly #getContext: StatementSync;
  readonly #getForm: StatementSync;

  private constructor(db: Database) {
    this.#db = db;
    this.#getContext = db.prepare("SELECT entries FROM contexts WHERE id = ?");
    this.#getForm = db.prepare("SELECT form FROM conversions WHERE id = ?");
  }

  /** Null: there is none. */
  static open(path: HostPath): ContextReader | null {
    const db = openDatabaseToRead(path);
    return db === null ? null : new ContextReader(db);
  }

  /** Null: not there. */
  context(suffix: Suffix): Context | null {
    const row = this.#getContext.get(Uint8Array.fromHex(suffix));
    return row === undefined ? null : parseContext(row["entries"] as Uint8Array);
  }

  /** Null: not there. */
  conversion(suffix: Suffix): Conversion | null {
    const row = this.#getForm.get(Uint8Array.fromHex(suffix));
    return row === undefined ? null : conversionOfForm(row["form"] as string);
  }

  close(): void {
    this.#db.close();
  }
}

function parseContext(entries: Uint8Array): Context {
  const context = new Map<Name, Suffix>();
  for (let at = 0; at < entries.length;) {
    const end = entries.indexOf(0, at);
    context.set(byteString(entries.subarray(at, end)) as Name, suffixOfBytes(entries, end + 1));
    at = end + 1 + SUFFIX_BYTES;
  }
  return context;
}

/** Rows to be put. */
export interface ContextRows {
  readonly forms: ReadonlyMap<Suffix, string>;
  /** Children before those that name them. */
  readonly contexts: ReadonlyMap<Suffix, string>;
}

interface Folder {
  readonly files: Map<string, Suffix>;
  readonly folders: Map<string, Folder>;
}

/** Takes the converted files of a tree, in any order, and makes the id of its root. */
export class ContextBuilder implements ContextRows {
  readonly forms = new Map<Suffix, string>();
  readonly contexts = new Map<Suffix, string>();
  readonly #root: Folder = { files: new Map(), folders: new Map() };
  #closed = 0;
  /** Of the file before: most of its folders are the next one's. */
  #last = { path: "", folder: this.#root };

  /** `path` is bytes. */
  add(path: string, conversion: Conversion): void {
    const form = formOf(conversion);
    const suffix = suffixOfForm(form);
    this.forms.set(suffix, form);
    const slash = path.lastIndexOf("/");
    this.#folder(path.slice(0, Math.max(0, slash))).files.set(path.slice(slash + 1), suffix);
  }

  #folder(path: string): Folder {
    if (path !== this.#last.path) {
      let folder = this.#root;
      for (const name of path === "" ? [] : path.split("/")) {
        let next = folder.folders.get(name);
        if (next === undefined) {
          next = { files: new Map(), folders: new Map() };
          folder.folders.set(name, next);
        }
        folder = next;
      }
      this.#last = { path, folder };
    }
    return this.#last.folder;
  }

  /** Nothing is added any more. Lets others have a turn now and then. */
  async rootIdOf(treeOid: Oid): Promise<BaseId> {
    const { files, folders } = this.#root;
    return baseIdOf(treeOid, files.size + folders.size > 0 ? await this.#close(this.#root) : null);
  }

  async #close({ files, folders }: Folder): Promise<Suffix> {
    const entries = [...files];
    for (const [name, folder] of folders) entries.push([name, await this.#close(folder)]);
    entries.sort(([a], [b]) => a < b ? -1 : 1);
    const text = entries.map(([name, suffix]) =>
      `${name}\0${byteString(Uint8Array.fromHex(suffix))}`
    ).join("");
    const suffix = digest("context", text);
    this.contexts.set(suffix, text);
    if (++this.#closed % CONTEXTS_PER_TURN === 0) {
      await turn();
    }
    return suffix;
  }
}
