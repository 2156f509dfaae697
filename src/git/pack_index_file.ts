/** Writes the index of a pack: version 2, byte for byte what `git index-pack` makes of it. */

import { createHash } from "node:crypto";
import { type ObjectFormat, OID_BYTES } from "./oid.ts";

export interface IndexedPack {
  readonly format: ObjectFormat;
  /** Raw, one after the other, in the order of the pack; what follows is not looked at. */
  readonly oids: Uint8Array;
  readonly offsets: readonly number[];
  /** Of each object's bytes in the pack. */
  readonly crcs: readonly number[];
  /** The pack's. */
  readonly checksum: Uint8Array;
}

const HEADER = [0xff, 0x74, 0x4f, 0x63, 0, 0, 0, 2];
const FANOUT_BYTES = 256 * 4;
const LARGE_FROM = 0x80000000;

/** Content of the `.idx` file; pack_index.ts has its layout. */
export function indexOfPack(pack: IndexedPack): Uint8Array<ArrayBuffer> {
  const { oids, offsets, crcs, checksum, format } = pack;
  const oidBytes = OID_BYTES[format];
  const count = offsets.length;
  const ranks = sortedRanks(oids, oidBytes, count);
  const large = offsets.filter((offset) => offset >= LARGE_FROM).length;
  const size = HEADER.length + FANOUT_BYTES + count * (oidBytes + 8) + large * 8 + 2 * oidBytes;
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  bytes.set(HEADER);
  const oidsAt = HEADER.length + FANOUT_BYTES;
  const crcsAt = oidsAt + count * oidBytes;
  const offsetsAt = crcsAt + count * 4;
  let largeAt = offsetsAt + count * 4;
  let larges = 0;
  const perFirst = new Uint32Array(256);
  for (const [i, rank] of ranks.entries()) {
    const oid = oids.subarray(rank * oidBytes, (rank + 1) * oidBytes);
    (perFirst[oid[0] as number] as number)++;
    bytes.set(oid, oidsAt + i * oidBytes);
    view.setUint32(crcsAt + i * 4, crcs[rank] as number);
    const offset = offsets[rank] as number;
    if (offset < LARGE_FROM) view.setUint32(offsetsAt + i * 4, offset);
    else {
      view.setUint32(offsetsAt + i * 4, LARGE_FROM + larges++);
      view.setBigUint64(largeAt, BigInt(offset));
      largeAt += 8;
    }
  }
  let upTo = 0;
  for (const [first, some] of perFirst.entries()) {
    upTo += some;
    view.setUint32(HEADER.length + first * 4, upTo);
  }
  bytes.set(checksum, size - 2 * oidBytes);
  const hash = createHash(format).update(bytes.subarray(0, size - oidBytes)).digest();
  bytes.set(hash, size - oidBytes);
  return bytes;
}

/** Ranks in the pack, in the order of their oids. */
function sortedRanks(oids: Uint8Array, oidBytes: number, count: number): Uint32Array {
  const view = new DataView(oids.buffer, oids.byteOffset, oids.byteLength);
  const ranks = Uint32Array.from({ length: count }, (_, rank) => rank);
  return ranks.sort((a, b) => {
    for (let at = 0; at < oidBytes; at += 4) {
      const difference = view.getUint32(a * oidBytes + at) - view.getUint32(b * oidBytes + at);
      if (difference !== 0) return difference;
    }
    return a - b;
  });
}
