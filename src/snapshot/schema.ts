/**
 * The base: git's tree objects and the sizes of blobs, keyed by what they are. Immutable content,
 * so rows are only ever added, and generations and work trees of one store share them.
 */

/** Conversion of content that is shown as it lies in the repository. */
export const RAW_CONVERSION = 0;

export const BASE_MIGRATIONS: readonly string[] = [
  `
  -- Raw tree objects by raw oid.
  CREATE TABLE trees (oid BLOB PRIMARY KEY, raw BLOB NOT NULL);
  -- Sizes of visible content: (blob, conversion).
  CREATE TABLE sizes (
    oid BLOB NOT NULL,
    conversion INTEGER NOT NULL,
    sizeBytes INTEGER NOT NULL,
    PRIMARY KEY (oid, conversion)
  ) WITHOUT ROWID;
  -- Root trees of which every tree below is in trees.
  CREATE TABLE indexedRoots (oid BLOB PRIMARY KEY) WITHOUT ROWID;
  `,
  `
  -- Packs of fetched contents of which every blob is in sizes.
  CREATE TABLE sizedPacks (name TEXT PRIMARY KEY) WITHOUT ROWID;
  `,
];
