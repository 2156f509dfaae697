/** One directory of the base as the file system uses it: entries by rank and by name. */

import { type BaseId, baseIdOf } from "../git/base_id.ts";
import type { ObjectFormat } from "../git/oid.ts";
import { type EntryKind, parseTree } from "../git/tree.ts";
import type { Name } from "../path.ts";
import type { Context } from "../snapshot/contexts.ts";

/** A tree's entry, and how it is shown. */
export interface BaseEntry {
  readonly name: Name;
  readonly kind: EntryKind;
  readonly oid: BaseId;
}

export class Directory {
  readonly entries: readonly BaseEntry[];
  /** For st_nlink: subdirectories and gitlinks, each has a `..`. */
  readonly subdirectories: number;
  /** Made at the first lookup: a listing alone does not need it. */
  #byName: Map<Name, BaseEntry> | null = null;

  /** `context`: what is not shown as it lies in the repository; null: nothing. */
  constructor(raw: Uint8Array, format: ObjectFormat, context: Context | null = null) {
    const { entries } = parseTree(raw, format);
    this.entries = context === null ? entries : entries.map((entry) => ({
      ...entry,
      oid: baseIdOf(entry.oid, context.get(entry.name) ?? null),
    }));
    let subdirectories = 0;
    for (const { kind } of this.entries) {
      if (kind === "directory" || kind === "gitlink") subdirectories++;
    }
    this.subdirectories = subdirectories;
  }

  get(name: Name): BaseEntry | undefined {
    this.#byName ??= new Map(this.entries.map((entry) => [entry.name, entry]));
    return this.#byName.get(name);
  }
}
