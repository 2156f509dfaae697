/**
 * What the file system asks of the rest: trees, sizes and bytes by what the base shows (an oid and
 * what a checkout makes of it, git/base_id.ts). Everything is immutable.
 * `undefined`: not here; it was asked for, and the key of `waitKey` is woken when it has come or
 * failed. After a failure the same call throws FsError (EIO) for some seconds, then asks again.
 */

import { type BaseId, plainOid } from "../git/base_id.ts";
import type { Directory } from "./directory.ts";

export interface Objects {
  directory(treeId: BaseId): Directory | undefined;

  /** Only what is at hand: nothing is asked for. */
  directoryAtHand(treeId: BaseId): Directory | undefined;

  /** Bytes of what is shown. `treeIds`: from the root to its directory, for lookahead. */
  size(blobId: BaseId, treeIds: () => BaseId[]): number | undefined;

  sizeAtHand(blobId: BaseId): number | undefined;

  /** The known ones among many, in one go. */
  sizesAtHand(blobIds: readonly BaseId[]): ReadonlyMap<BaseId, number>;

  /** Size of what can be shown without a fetch, and stays; undefined: a fetch or a conversion. */
  heldSize(blobId: BaseId): number | undefined;

  /** A driver of the owner makes it: another time it may make something else, or nothing. */
  isDriven(blobId: BaseId): boolean;

  /** A size that was shown: it is never unknown again. */
  keepSize(blobId: BaseId, sizeBytes: number): void;

  /**
   * Fills `into` from `offset`; how many bytes that were: fewer only at the end of the blob.
   */
  read(
    blobId: BaseId,
    offset: number,
    into: Uint8Array<ArrayBuffer>,
    treeIds: () => BaseId[],
  ): number | undefined;

  /** Nobody holds this blob any more: let go of what is kept open for it. */
  release(blobId: BaseId): void;
}

/** Of a tree only git's object is waited for: what it shows follows. */
export function waitKey(need: "tree" | "size" | "content", id: BaseId): string {
  return `${need}:${need === "tree" ? plainOid(id) : id}`;
}
