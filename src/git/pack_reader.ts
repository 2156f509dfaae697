/**
 * Reads objects out of a store's packs, in this thread and at once. Whatever is unusual (not in a
 * pack, too big, damaged) is undefined here, and git has the last word on it.
 *
 * Invariants
 *  1. Bytes are given out only if their hash is the object's name. (A size is what the pack says.)
 *  2. A pack never changes under its name; one that was removed is read on until `close`.
 *  3. Memory is bounded whatever a pack says: nothing above OBJECT_BYTES_MAX is inflated.
 */

import { createHash } from "node:crypto";
import { inflateSync } from "node:zlib";
import { LRUCache } from "lru-cache";
import type { ObjectType } from "./cat_file.ts";
import { applyDelta, deltaResultSize } from "./delta.ts";
import { bytesOfOid, type ObjectFormat, type Oid, OID_BYTES } from "./oid.ts";
import { CorruptPack, PackIndex, type RandomFile } from "./pack_index.ts";

/** A store's `objects/pack`. */
export interface PackFolder {
  /** Names of the files in it. Throws when it cannot be read. */
  names(): string[];
  /** Throws when it cannot be read. */
  open(name: string): RandomFile;
}

/** A bigger object is left to git. */
export const OBJECT_BYTES_MAX = 1024 * 1024;
/** Bytes of deltas on the way to one object. */
const DELTAS_BYTES_MAX = 4 * OBJECT_BYTES_MAX;
/** pack.depth is at most 4095. */
const CHAIN_MAX = 4096;
/** Bytes of objects that others are deltas of, kept inflated. */
const BASES_BYTES_MAX = 4 * 1024 * 1024;
/** Packs kept open, two descriptors each: those that were of use last. */
const PACKS_MAX = 128;
/** Read at once: most objects are smaller than that. */
const WINDOW_BYTES = 8 * 1024;
/** Type and size, and the base of a delta. */
const ENTRY_HEADER_BYTES_MAX = 10 + 32;

const OFS_DELTA = 6;
const REF_DELTA = 7;
const TYPES: ReadonlyMap<number, ObjectType> = new Map([
  [1, "commit"],
  [2, "tree"],
  [3, "blob"],
  [4, "tag"],
]);

interface Pack {
  readonly name: string;
  readonly index: PackIndex;
  readonly file: RandomFile;
}

interface Place {
  readonly pack: Pack;
  readonly offset: number;
}

interface Entry {
  /** As in the pack: of TYPES, or a delta. */
  readonly type: number;
  /** Inflated: the object, or the delta. */
  readonly sizeBytes: number;
  /** Compressed bytes begin here in the pack. */
  readonly dataAt: number;
  /** Of a delta. */
  readonly base: Place | null;
}

interface Inflated {
  readonly type: ObjectType;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

export class PackReader {
  readonly #folder: PackFolder;
  readonly #format: ObjectFormat;
  /** The one that was of use last is first. */
  readonly #packs: Pack[] = [];
  /** Indexes taken notice of, whether they could be read or not. */
  readonly #seen = new Set<string>();
  /** Packs may have come that nobody looked for. */
  #stale = true;
  readonly #window = new Window();
  readonly #bases = new LRUCache<string, Inflated>({
    maxSize: BASES_BYTES_MAX,
    sizeCalculation: ({ bytes }) => bytes.length + 1,
  });

  constructor(folder: PackFolder, format: ObjectFormat) {
    this.#folder = folder;
    this.#format = format;
  }

  /** Packs have come: the folder is looked at when the next object is not in those known. */
  expectPacks(): void {
    this.#stale = true;
  }

  /**
   * The content of an object of this type and of at most `maxBytes`; undefined: not to be had here.
   * Never throws.
   */
  read(
    oid: Oid,
    type: ObjectType,
    maxBytes: number = OBJECT_BYTES_MAX,
  ): Uint8Array<ArrayBuffer> | undefined {
    return this.#search(oid, (place) => {
      const object = this.#inflateObject(place, maxBytes);
      return object.type === type && this.#isNamed(object, oid) ? object.bytes : undefined;
    });
  }

  /**
   * Size of an object's content, taken from its header as git does, so of any size and type;
   * undefined: not to be had here. Never throws.
   */
  size(oid: Oid): number | undefined {
    return this.#search(oid, (place) => this.#sizeAt(place));
  }

  close(): void {
    for (const pack of this.#packs.splice(0)) closePack(pack);
  }

  /** What `take` makes of the object in the first pack where it makes something of it. */
  #search<T>(oid: Oid, take: (place: Place) => T | undefined): T | undefined {
    const bytes = bytesOfOid(oid);
    const found = this.#searchKnown(bytes, take);
    if (found !== undefined || !this.#stale) return found;
    this.#lookForPacks();
    return this.#searchKnown(bytes, take);
  }

  #searchKnown<T>(oid: Uint8Array, take: (place: Place) => T | undefined): T | undefined {
    for (const [rank, pack] of this.#packs.entries()) {
      try {
        const offset = pack.index.offsetOf(oid);
        if (offset === undefined) continue;
        const taken = take({ pack, offset });
        if (taken === undefined) continue;
        if (rank > 0) this.#packs.unshift(...this.#packs.splice(rank, 1));
        return taken;
      } catch {
        // Damaged, or too big: another pack may have it whole, and git says what is wrong.
      }
    }
    return undefined;
  }

  #lookForPacks(): void {
    this.#stale = false;
    for (const name of this.#names()) {
      if (!name.endsWith(".idx") || this.#seen.has(name)) continue;
      this.#seen.add(name);
      const pack = this.#openPack(name.slice(0, -".idx".length));
      if (pack !== null) this.#packs.unshift(pack);
    }
    for (const pack of this.#packs.splice(PACKS_MAX)) closePack(pack);
  }

  #names(): string[] {
    try {
      return this.#folder.names();
    } catch {
      return [];
    }
  }

  /** Null: it cannot be read. */
  #openPack(name: string): Pack | null {
    const opened: RandomFile[] = [];
    const open = (suffix: string) => {
      const file = this.#folder.open(`${name}.${suffix}`);
      opened.push(file);
      return file;
    };
    try {
      return { name, index: new PackIndex(open("idx"), this.#format), file: open("pack") };
    } catch {
      for (const file of opened) file.close();
      return null;
    }
  }

  #isNamed({ type, bytes }: Inflated, oid: Oid): boolean {
    const hash = createHash(this.#format).update(`${type} ${bytes.length}\0`, "latin1");
    return hash.update(bytes).digest("hex") === oid;
  }

  /** Throws as #inflateObject. */
  #sizeAt(place: Place): number {
    const entry = this.#entry(place);
    if (TYPES.has(entry.type)) return entry.sizeBytes;
    return deltaResultSize(this.#inflate(place.pack, entry, OBJECT_BYTES_MAX));
  }

  /** Throws CorruptPack, or what zlib and the file throw. */
  #inflateObject(place: Place, maxBytes: number): Inflated {
    const deltas: Uint8Array<ArrayBuffer>[] = [];
    let deltaBytes = 0;
    let at = place;
    let object: Inflated | undefined;
    while (object === undefined) {
      object = this.#bases.get(keyOf(at));
      if (object !== undefined) break;
      const entry = this.#entry(at);
      const type = TYPES.get(entry.type);
      if (type !== undefined) {
        // Only the outermost is what was asked for: a base may be bigger.
        const max = deltas.length === 0 ? maxBytes : OBJECT_BYTES_MAX;
        object = { type, bytes: this.#inflate(at.pack, entry, max) };
      } else {
        const delta = this.#inflate(at.pack, entry, OBJECT_BYTES_MAX);
        if (deltas.length === 0) refuseAbove(maxBytes, deltaResultSize(delta));
        refuseAbove(OBJECT_BYTES_MAX, deltaResultSize(delta));
        refuseAbove(DELTAS_BYTES_MAX, deltaBytes += delta.length);
        refuseAbove(CHAIN_MAX, deltas.push(delta));
        at = entry.base as Place;
      }
    }
    refuseAbove(deltas.length === 0 ? maxBytes : OBJECT_BYTES_MAX, object.bytes.length);
    // What one object is a delta of, others are too.
    if (deltas.length > 0) this.#bases.set(keyOf(at), object);
    const { type } = object;
    const bytes = deltas.reduceRight((base, delta) => applyDelta(base, delta), object.bytes);
    return { type, bytes };
  }

  #entry({ pack, offset }: Place): Entry {
    const head = this.#window.read(pack.file, offset, ENTRY_HEADER_BYTES_MAX);
    let at = 0;
    const next = () => {
      const byte = head[at++];
      if (byte === undefined) throw new CorruptPack("an object without an end");
      return byte;
    };
    let byte = next();
    const type = (byte >> 4) & 7;
    let sizeBytes = byte & 15;
    for (let factor = 16; byte >= 0x80; factor *= 128) {
      byte = next();
      sizeBytes += (byte & 0x7f) * factor;
    }
    let base: Place | null = null;
    if (type === OFS_DELTA) {
      byte = next();
      let distance = byte & 0x7f;
      while (byte >= 0x80) {
        byte = next();
        distance = (distance + 1) * 128 + (byte & 0x7f);
      }
      if (distance === 0 || distance > offset) throw new CorruptPack("a base outside of the pack");
      base = { pack, offset: offset - distance };
    } else if (type === REF_DELTA) {
      const length = OID_BYTES[this.#format];
      if (at + length > head.length) throw new CorruptPack("an object without an end");
      base = this.#find(head.subarray(at, at + length), pack);
      at += length;
    }
    return { type, sizeBytes, dataAt: offset + at, base };
  }

  /** A base that a delta names: in the same pack, since none of ours is thin. */
  #find(oid: Uint8Array, pack: Pack): Place {
    const offset = pack.index.offsetOf(oid);
    if (offset === undefined) throw new CorruptPack("a delta without its base");
    return { pack, offset };
  }

  #inflate(pack: Pack, { sizeBytes, dataAt }: Entry, maxBytes: number): Uint8Array<ArrayBuffer> {
    refuseAbove(maxBytes, sizeBytes);
    // zlib stops at the stream's end: what is read beyond it is of the next object.
    const input = this.#window.read(pack.file, dataAt, sizeBytes + (sizeBytes >> 8) + 64);
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

function closePack({ index, file }: Pack): void {
  index.close();
  file.close();
}
