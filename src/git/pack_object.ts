/**
 * Objects in a pack (gitformat-pack): what stands at an offset, inflated, with its chain of deltas.
 * Nothing here compares with a name.
 *
 *     type and size, 4 + 3 bits, then 7 bits a byte | of a delta: distance to its base, or the
 *     base's oid | zlib stream
 *
 * Memory is bounded whatever a pack says: no object above `bytesMax` is inflated, and deltas of four
 * times as much.
 */

import { inflateSync } from "node:zlib";
import { LRUCache } from "lru-cache";
import type { ObjectType } from "./cat_file.ts";
import { applyDelta, deltaResultSize } from "./delta.ts";
import { type ObjectFormat, OID_BYTES } from "./oid.ts";
import { CorruptPack, type RandomFile } from "./pack_index.ts";

/** A bigger object is left to git. */
export const OBJECT_BYTES_MAX = 1024 * 1024;
/** pack.depth is at most 4095. */
const CHAIN_MAX = 4096;
/** Bytes that the deltas of one object may make, on the way to it: what takes longer is git's. */
const MADE_BYTES_MAX = 64 * OBJECT_BYTES_MAX;
/** Bytes of objects that others are deltas of, kept inflated. */
const BASES_BYTES_MAX = 4 * 1024 * 1024;
/** Read at once: most objects are smaller than that. */
const WINDOW_BYTES = 8 * 1024;
/** Type and size, and the base of a delta. */
export const ENTRY_HEADER_BYTES_MAX = 10 + 32;

export const OFS_DELTA = 6;
export const REF_DELTA = 7;
export const TYPES: ReadonlyMap<number, ObjectType> = new Map([
  [1, "commit"],
  [2, "tree"],
  [3, "blob"],
  [4, "tag"],
]);

export interface Pack {
  readonly name: string;
  readonly index: ObjectIndex;
  readonly file: RandomFile;
}

/** Where the objects of a pack begin. */
export interface ObjectIndex {
  /** Undefined: not in this pack. `oid`: raw bytes. */
  offsetOf(oid: Uint8Array): number | undefined;
  close(): void;
}

export interface Place {
  readonly pack: Pack;
  readonly offset: number;
}

/** What is before the zlib stream. */
export interface EntryHeader {
  /** As in the pack: of TYPES, or a delta. */
  readonly type: number;
  /** Inflated: the object, or the delta. */
  readonly sizeBytes: number;
  /** Length of this header. */
  readonly length: number;
  /** Of OFS_DELTA: the base begins so many bytes before. */
  readonly distance: number;
  /** Of REF_DELTA: the base's oid, raw. */
  readonly baseOid: Uint8Array | null;
}

/** The header at the start of `head`; undefined: it goes on behind it. */
export function parseEntryHeader(head: Uint8Array, oidBytes: number): EntryHeader | undefined {
  let at = 0;
  let byte = head[at++];
  if (byte === undefined) return undefined;
  const type = (byte >> 4) & 7;
  let sizeBytes = byte & 15;
  for (let factor = 16; byte >= 0x80; factor *= 128) {
    byte = head[at++];
    if (byte === undefined) return undefined;
    sizeBytes += (byte & 0x7f) * factor;
    if (sizeBytes > Number.MAX_SAFE_INTEGER) throw new CorruptPack("a number that does not end");
  }
  let distance = 0;
  let baseOid: Uint8Array | null = null;
  if (type === OFS_DELTA) {
    byte = head[at++];
    if (byte === undefined) return undefined;
    distance = byte & 0x7f;
    while (byte >= 0x80) {
      byte = head[at++];
      if (byte === undefined) return undefined;
      distance = (distance + 1) * 128 + (byte & 0x7f);
      if (distance > Number.MAX_SAFE_INTEGER) throw new CorruptPack("a number that does not end");
    }
  } else if (type === REF_DELTA) {
    if (at + oidBytes > head.length) return undefined;
    baseOid = head.subarray(at, at + oidBytes);
    at += oidBytes;
  } else if (!TYPES.has(type)) throw new CorruptPack("an object of no type");
  return { type, sizeBytes, length: at, distance, baseOid };
}

/**
 * Of the zlib stream of so many bytes. Quick compressors write what does not shrink with the fixed
 * code, of nine bits a byte at most (RFC 1951, 3.2.6).
 */
export function compressedBytesMax(sizeBytes: number): number {
  return sizeBytes + (sizeBytes >> 2) + 64;
}

interface Entry {
  readonly type: number;
  readonly sizeBytes: number;
  /** Compressed bytes begin here in the pack. */
  readonly dataAt: number;
  /** Of a delta. */
  readonly base: Place | null;
}

export interface Inflated {
  readonly type: ObjectType;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Inflates, and keeps what was of use for others. */
export class ObjectInflater {
  /** Bytes that deltas were applied to make, over and over where their bases were not kept. */
  madeBytes = 0;
  readonly #oidBytes: number;
  readonly #bytesMax: number;
  readonly #window = new Window();
  readonly #bases = new LRUCache<string, Inflated>({
    maxSize: BASES_BYTES_MAX,
    sizeCalculation: ({ bytes }) => bytes.length + 1,
  });

  constructor(format: ObjectFormat, bytesMax = OBJECT_BYTES_MAX) {
    this.#oidBytes = OID_BYTES[format];
    this.#bytesMax = bytesMax;
  }

  /** Size of an object's content, of any size and type. Throws as `inflate`. */
  sizeAt(place: Place): number {
    const entry = this.#entry(place);
    if (TYPES.has(entry.type)) return entry.sizeBytes;
    return deltaResultSize(this.#data(place.pack, entry, this.#bytesMax));
  }

  /** The object there. Throws CorruptPack, or what zlib and the file throw. */
  inflate(place: Place, maxBytes = this.#bytesMax): Inflated {
    const deltas: Uint8Array<ArrayBuffer>[] = [];
    let deltaBytes = 0;
    let madeBytes = 0;
    let at = place;
    let object: Inflated | undefined;
    while (object === undefined) {
      object = this.#bases.get(keyOf(at));
      if (object !== undefined) break;
      const entry = this.#entry(at);
      const type = TYPES.get(entry.type);
      if (type !== undefined) {
        // Only the outermost is what was asked for: a base may be bigger.
        const max = deltas.length === 0 ? maxBytes : this.#bytesMax;
        object = { type, bytes: this.#data(at.pack, entry, max) };
      } else {
        const delta = this.#data(at.pack, entry, this.#bytesMax);
        if (deltas.length === 0) refuseAbove(maxBytes, deltaResultSize(delta));
        refuseAbove(this.#bytesMax, deltaResultSize(delta));
        refuseAbove(MADE_BYTES_MAX, madeBytes += deltaResultSize(delta));
        refuseAbove(4 * this.#bytesMax, deltaBytes += delta.length);
        refuseAbove(CHAIN_MAX, deltas.push(delta));
        at = entry.base as Place;
      }
    }
    refuseAbove(deltas.length === 0 ? maxBytes : this.#bytesMax, object.bytes.length);
    // What one object is a delta of, others are too.
    if (deltas.length > 0) this.#bases.set(keyOf(at), object);
    const { type } = object;
    const bytes = deltas.reduceRight((base, delta) => {
      const made = applyDelta(base, delta);
      this.madeBytes += made.length;
      return made;
    }, object.bytes);
    return { type, bytes };
  }

  #entry({ pack, offset }: Place): Entry {
    const head = this.#window.read(pack.file, offset, ENTRY_HEADER_BYTES_MAX);
    const header = parseEntryHeader(head, this.#oidBytes);
    if (header === undefined) throw new CorruptPack("an object without an end");
    const { type, sizeBytes, length, distance, baseOid } = header;
    let base: Place | null = null;
    if (type === OFS_DELTA) {
      if (distance === 0 || distance > offset) throw new CorruptPack("a base outside of the pack");
      base = { pack, offset: offset - distance };
    } else if (baseOid !== null) base = this.#find(baseOid, pack);
    return { type, sizeBytes, dataAt: offset + length, base };
  }

  /** A base that a delta names: in the same pack, since none of ours is thin. */
  #find(oid: Uint8Array, pack: Pack): Place {
    const offset = pack.index.offsetOf(oid);
    if (offset === undefined) throw new CorruptPack("a delta without its base");
    return { pack, offset };
  }

  #data(pack: Pack, { sizeBytes, dataAt }: Entry, maxBytes: number): Uint8Array<ArrayBuffer> {
    refuseAbove(maxBytes, sizeBytes);
    // zlib stops at the stream's end: what is read beyond it is of the next object.
    const input = this.#window.read(pack.file, dataAt, compressedBytesMax(sizeBytes));
    // One byte of room more than needed: zlib then sees the end without another buffer.
    const inflated = inflateSync(input, {
      chunkSize: Math.max(64, sizeBytes + 1),
      maxOutputLength: sizeBytes + 1,
    });
    if (inflated.length !== sizeBytes) throw new CorruptPack("an object of another size");
    const { buffer, byteOffset, length } = inflated;
    // Small ones come from a pool, which a view would keep whole.
    if (buffer.byteLength > length + 64) return new Uint8Array(inflated);
    return new Uint8Array(buffer as ArrayBuffer, byteOffset, length);
  }
}

/** The part of a file that was read last: header and data of most objects are one read. */
class Window {
  #bytes = new Uint8Array(WINDOW_BYTES);
  #file: RandomFile | null = null;
  #from = 0;
  #end = 0;

  /** So many bytes from `offset`, or as many as there are. They are good until the next call. */
  read(file: RandomFile, offset: number, count: number): Uint8Array {
    if (file !== this.#file || offset < this.#from || offset + count > this.#end) {
      this.#file = null;
      if (this.#bytes.length < count) this.#bytes = new Uint8Array(count);
      const into = this.#bytes.subarray(0, Math.max(count, WINDOW_BYTES));
      this.#end = offset + file.readAt(offset, into);
      this.#from = offset;
      this.#file = file;
    }
    const at = offset - this.#from;
    return this.#bytes.subarray(at, Math.min(at + count, this.#end - this.#from));
  }
}

function keyOf({ pack, offset }: Place): string {
  return `${offset} ${pack.name}`;
}

function refuseAbove(most: number, value: number): void {
  if (value > most) throw new CorruptPack("more than is read here");
}

export function closePack({ index, file }: Pack): void {
  index.close();
  file.close();
}
