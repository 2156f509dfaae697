/** What was changed in a work tree, whether it is mounted or not. */

import type { Layout } from "../repo/layout.ts";
import type { RepoRecord } from "../repo/types.ts";
import { OverlayReader } from "../overlay/store.ts";
import { BaseReader } from "../snapshot/store.ts";
import { type ChangeCounts, countChanges } from "../vfs/changes.ts";
import { Directory } from "../vfs/directory.ts";

/** Throws when a database cannot be read. */
export async function changesOf(record: RepoRecord, layout: Layout): Promise<ChangeCounts> {
  const rows = OverlayReader.open(layout.repo(record.id).overlayPath);
  if (rows === null) return { created: 0, modified: 0, deleted: 0 };
  try {
    const base = BaseReader.open(layout.store(record.storeId).basePath);
    try {
      return await countChanges(rows, record.baseTreeOid, (oid) => {
        const raw = base?.tree(oid) ?? null;
        return raw === null ? null : new Directory(raw, record.objectFormat);
      });
    } finally {
      base?.close();
    }
  } finally {
    rows.close();
  }
}
