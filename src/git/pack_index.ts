/**
 * Which objects a pack has, and where: its `.idx` of version 2, searched in the file, so that a pack
 * of millions of objects costs no more memory than one of ten. Layout (gitformat-pack):
 *
 *     magic, version | 256 x u32 objects up to that first byte | oids, sorted | crc32s
 *     | u32 offsets, or with the top bit set ranks in: | u64 offsets | two checksums
 *
 * Nothing that is read is believed to be inside the file before that is checked.
 */

import { type ObjectFormat, OID_BYTES } from "./oid.ts";

/** A file that never changes. */
export interface RandomFile {
  readonly sizeBytes: number;
  /** Fills `into` from `offset`; how many bytes that were: fewer only at the end of the file. */
  readAt(offset: number, into: Uint8Array<ArrayBuffer>): number;
  close(): void;
}

/** A pack or its index is not what it should be. */
export class CorruptPack extends Error {
  override readonly name = "CorruptPack";
}

const MAGIC = 0xff744f63;
const VERSION = 2;
const FANOUT_AT = 8;
const FANOUT_BYTES = 256 * 4;
const OIDS_AT = FANOUT_AT + FANOUT_BYTES;
const CRC_BYTES = 4;
const OFFSET_BYTES = 4;
const LARGE_OFFSET_BYTES = 8;
const LARGE_BIT = 0x80000000;
/** So many oids are read at once. */
const OIDS_MAX = 128;

export class PackIndex {
  readonly #file: RandomFile;
  readonly #oidBytes: number;
  /** Entry i: objects whose first byte is at most i. */
  readonly #fanout: DataView;
  readonly #count: number;
  readonly #oids: Uint8Array<ArrayBuffer>;

  /** The file is this index's from now on. Throws CorruptPack, or what `readAt` throws. */
  constructor(file: RandomFile, format: ObjectFormat) {
    this.#file = file;
    this.#oidBytes = OID_BYTES[format];
    this.#oids = new Uint8Array(OIDS_MAX * this.#oidBytes);
    const head = viewOf(this.#read(0, new Uint8Array(OIDS_AT)));
    if (head.getUint32(0) !== MAGIC || head.getUint32(4) !== VERSION) {
      throw new CorruptPack("not an index of version 2");
    }
    this.#fanout = new DataView(head.buffer, FANOUT_AT, FANOUT_BYTES);
    this.#count = this.#upTo(255);
    const each = this.#oidBytes + CRC_BYTES + OFFSET_BYTES;
    if (file.sizeBytes < OIDS_AT + this.#count * each + 2 * this.#oidBytes) {
      throw new CorruptPack("the index is too short");
    }
  }

  /**
   * Where the object of this oid (raw bytes) begins in the pack; undefined: not in this one. Throws
   * as the constructor.
   */
  offsetOf(oid: Uint8Array): number | undefined {
    const first = oid[0] as number;
    let low = first === 0 ? 0 : this.#upTo(first - 1);
    let high = this.#upTo(first);
    if (low > high || high > this.#count) throw new CorruptPack("the fanout does not rise");
    while (high - low > OIDS_MAX) {
      const middle = (low + high) >>> 1;
      if (compare(oid, this.#oidsFrom(middle, 1), 0) < 0) high = middle;
      else low = middle;
    }
    const oids = this.#oidsFrom(low, high - low);
    for (let i = 0; i < high - low; i++) {
      if (compare(oid, oids, i * this.#oidBytes) === 0) return this.#offset(low + i);
    }
    return undefined;
  }

  close(): void {
    this.#file.close();
  }

  #upTo(first: number): number {
    return this.#fanout.getUint32(4 * first);
  }

  #oidsFrom(rank: number, count: number): Uint8Array<ArrayBuffer> {
    const into = this.#oids.subarray(0, count * this.#oidBytes);
    return this.#read(OIDS_AT + rank * this.#oidBytes, into);
  }

  #offset(rank: number): number {
    const offsetsAt = OIDS_AT + this.#count * (this.#oidBytes + CRC_BYTES);
    const offset = viewOf(this.#read(offsetsAt + rank * OFFSET_BYTES, new Uint8Array(4)));
    const small = offset.getUint32(0);
    if (small < LARGE_BIT) return small;
    const at = offsetsAt + this.#count * OFFSET_BYTES + (small - LARGE_BIT) * LARGE_OFFSET_BYTES;
    return Number(viewOf(this.#read(at, new Uint8Array(8))).getBigUint64(0));
  }

  #read(offset: number, into: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    if (this.#file.readAt(offset, into) < into.length) {
      throw new CorruptPack("the index is too short");
    }
    return into;
  }
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

/** Of an oid and the one at `at`: negative, zero or positive, in the order of their bytes. */
function compare(oid: Uint8Array, oids: Uint8Array, at: number): number {
  for (let i = 0; i < oid.length; i++) {
    const difference = (oid[i] as number) - (oids[at + i] as number);
    if (difference !== 0) return difference;
  }
  return 0;
}
