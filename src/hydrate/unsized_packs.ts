/**
 * What a hydrator before this one has fetched and, being killed, not come to tell. Lookahead takes
 * what has no size for missing, and would ask for it again.
 */

import type { CatFile } from "../git/cat_file.ts";
import type { ObjectSource } from "../git/fetch.ts";
import type { Oid } from "../git/oid.ts";
import type { BaseStore } from "../snapshot/store.ts";

export interface UnsizedPack {
  readonly name: string;
  /** Of its blobs that have none in the base. */
  readonly sizes: (readonly [Oid, number])[];
}

/** The packs that the base does not call sized, one after the other. Throws when git fails. */
export async function* unsizedPacks(
  base: BaseStore,
  source: ObjectSource,
  checker: CatFile,
): AsyncGenerator<UnsizedPack> {
  const sized = base.sizedPacks();
  for (const name of await source.packs()) {
    if (sized.has(name)) continue;
    const objects = await source.objectsOf(name);
    const known = base.sizes(objects);
    const oids = objects.filter((oid) => !known.has(oid));
    const infos = await Promise.all(checker.requestMany(oids, null));
    const sizes: [Oid, number][] = [];
    infos.forEach((info, i) => {
      if (info?.type === "blob") sizes.push([oids[i] as Oid, info.sizeBytes]);
    });
    yield { name, sizes };
  }
}
