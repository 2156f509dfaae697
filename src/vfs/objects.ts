/**
 * What the file system asks of the rest: trees, sizes and bytes by oid. Everything is immutable.
 * `undefined`: not here; it was asked for, and the key of `waitKey` is woken when it has come or
 * failed. After a failure the same call throws FsError (EIO) for some seconds, then asks again.
 */

import type { Oid } from "../git/oid.ts";
import type { Directory } from "./directory.ts";

export interface Objects {
  directory(treeOid: Oid): Directory | undefined;

  /** Only what is at hand: nothing is asked for. */
  directoryAtHand(treeOid: Oid): Directory | undefined;

  /** Bytes of the blob's content. `treeOids`: from the root to its directory, for lookahead. */
  size(blobOid: Oid, treeOids: () => Oid[]): number | undefined;

  sizeAtHand(blobOid: Oid): number | undefined;

  /** The known ones among many, in one go. */
  sizesAtHand(blobOids: readonly Oid[]): ReadonlyMap<Oid, number>;

  /** Size of a blob that the packs here hold to stay; undefined: it would have to be fetched. */
  heldSize(blobOid: Oid): number | undefined;

  /** A size that was shown: it is never unknown again. */
  keepSize(blobOid: Oid, sizeBytes: number): void;

  /**
   * Fills `into` from `offset`; how many bytes that were: fewer only at the end of the blob.
   */
  read(
    blobOid: Oid,
    offset: number,
    into: Uint8Array<ArrayBuffer>,
    treeOids: () => Oid[],
  ): number | undefined;

  /** Nobody holds this blob any more: let go of what is kept open for it. */
  release(blobOid: Oid): void;
}

export function waitKey(need: "tree" | "size" | "content", oid: Oid): string {
  return `${need}:${oid}`;
}
