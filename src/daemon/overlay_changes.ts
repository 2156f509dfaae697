/** What was changed in a work tree, whether it is mounted or not. */

import type { Layout } from "../repo/layout.ts";
import type { RepoRecord } from "../repo/types.ts";
import { OverlayReader } from "../overlay/store.ts";
import { plainOid, suffixOf } from "../git/base_id.ts";
import { ContextReader } from "../snapshot/contexts.ts";
import { BaseReader } from "../snapshot/store.ts";
import { type ChangeCounts, countChanges } from "../vfs/changes.ts";
import { Directory } from "../vfs/directory.ts";

/** Throws when a database cannot be read. */
export async function changesOf(record: RepoRecord, layout: Layout): Promise<ChangeCounts> {
  const rows = OverlayReader.open(layout.repo(record.id).overlayPath);
  if (rows === null) return { created: 0, modified: 0, deleted: 0 };
  try {
    const base = BaseReader.open(layout.store(record.storeId).basePath);
    const contexts = ContextReader.open(layout.repo(record.id).contextsPath);
    try {
      return await countChanges(rows, record.baseTreeId, (id) => {
        const raw = base?.tree(plainOid(id)) ?? null;
        if (raw === null) return null;
        const suffix = suffixOf(id);
        const context = suffix === null ? null : contexts?.context(suffix) ?? null;
        return new Directory(raw, record.objectFormat, context);
      });
    } finally {
      contexts?.close();
      base?.close();
    }
  } finally {
    rows.close();
  }
}
