/** One directory of the base as the file system uses it: entries by rank and by name. */

import type { ObjectFormat } from "../git/oid.ts";
import { parseTree, type TreeEntry } from "../git/tree.ts";
import type { Name } from "../path.ts";

export class Directory {
  readonly entries: readonly TreeEntry[];
  /** For st_nlink: subdirectories and gitlinks, each has a `..`. */
  readonly subdirectories: number;
  /** Made at the first lookup: a listing alone does not need it. */
  #byName: Map<Name, TreeEntry> | null = null;

  constructor(raw: Uint8Array, format: ObjectFormat) {
    this.entries = parseTree(raw, format).entries;
    let subdirectories = 0;
    for (const { kind } of this.entries) {
      if (kind === "directory" || kind === "gitlink") subdirectories++;
    }
    this.subdirectories = subdirectories;
  }

  get(name: Name): TreeEntry | undefined {
    this.#byName ??= new Map(this.entries.map((entry) => [entry.name, entry]));
    return this.#byName.get(name);
  }
}
