/**
 * Reads objects out of a store's packs, in this thread and at once. Whatever is unusual (not in a
 * pack, too big, damaged) is undefined here, and git has the last word on it.
 *
 * Invariants
 *  1. Bytes are given out only if their hash is the object's name. (A size is what the pack says.)
 *  2. A pack never changes under its name; one that was removed is read on until `close`.
 *  3. Of a pack that is arriving only what was named is read: the rest of its file may be missing.
 */

import { createHash } from "node:crypto";
import type { ObjectType } from "./cat_file.ts";
import { GrowingIndex } from "./growing_index.ts";
import { bytesOfOid, hexOf, type ObjectFormat, type Oid, OID_BYTES } from "./oid.ts";
import { PackIndex, type RandomFile } from "./pack_index.ts";
import {
  closePack,
  type Inflated,
  OBJECT_BYTES_MAX,
  ObjectInflater,
  type Pack,
  type Place,
} from "./pack_object.ts";

/** Folders of packs. */
export interface PackFolder {
  /** Paths of the files in them. Throws when they cannot be read. */
  names(): string[];
  /** Any file by its path. Throws when it cannot be read. */
  open(path: string): RandomFile;
}

/** Objects of a pack that is still arriving; nothing is said of the rest of its file. */
export interface Arriving {
  /** Of the file in which it arrives. */
  readonly path: string;
  /** Raw oids, one after the other. */
  readonly oids: ArrayBuffer;
  /** As many float64: where they begin in the file. */
  readonly offsets: ArrayBuffer;
  /** As many float64: bytes of their contents. */
  readonly sizes: ArrayBuffer;
}

/** Of what arrives: oids and sizes. */
export function* sizesOf(
  { oids, sizes }: Arriving,
  format: ObjectFormat,
): Generator<[Oid, number]> {
  const bytes = new Uint8Array(oids);
  const each = OID_BYTES[format];
  for (const [i, size] of new Float64Array(sizes).entries()) {
    yield [hexOf(bytes, i * each, each), size];
  }
}

/** Packs kept open, two descriptors each: those that were of use last. */
const PACKS_MAX = 128;

export class PackReader {
  readonly #folder: PackFolder;
  readonly #format: ObjectFormat;
  /** The one that was of use last is first. */
  readonly #packs: Pack[] = [];
  /** Indexes taken notice of, whether they could be read or not. */
  readonly #seen = new Set<string>();
  #unreadable = 0;
  /** Packs may have come that nobody looked for. */
  #stale = true;
  /** Packs that are arriving, by path; they are among `#packs` too. */
  readonly #arriving = new Map<string, { readonly pack: Pack; readonly index: GrowingIndex }>();
  readonly #inflater: ObjectInflater;

  constructor(folder: PackFolder, format: ObjectFormat) {
    this.#folder = folder;
    this.#format = format;
    this.#inflater = new ObjectInflater(format);
  }

  /** These can be read from now on, if their file is still there. */
  addArriving({ path, oids, offsets }: Arriving): void {
    const arriving = this.#arriving.get(path) ?? this.#openArriving(path);
    arriving?.index.add(new Uint8Array(oids), new Float64Array(offsets));
  }

  #openArriving(path: string): { readonly pack: Pack; readonly index: GrowingIndex } | null {
    try {
      const index = new GrowingIndex(this.#format);
      const arriving = { pack: { name: path, index, file: this.#folder.open(path) }, index };
      this.#arriving.set(path, arriving);
      this.#packs.unshift(arriving.pack);
      return arriving;
    } catch {
      // It is among the packs already, or its transfer has failed.
      return null;
    }
  }

  /** Nothing more arrives there: it is one of the packs now, or it is gone. */
  endArriving(path: string): void {
    const arriving = this.#arriving.get(path);
    if (arriving === undefined) return;
    this.#arriving.delete(path);
    const rank = this.#packs.indexOf(arriving.pack);
    if (rank >= 0) this.#packs.splice(rank, 1);
    closePack(arriving.pack);
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
      const object = this.#inflater.inflate(place, maxBytes);
      return object.type === type && this.#isNamed(object, oid) ? object.bytes : undefined;
    });
  }

  /**
   * Size of an object's content, taken from its header as git does, so of any size and type;
   * undefined: not to be had here. Never throws.
   */
  size(oid: Oid): number | undefined {
    return this.#search(oid, (place) => this.#inflater.sizeAt(place));
  }

  /** Whether an index names it. Never throws. */
  has(oid: Oid): boolean {
    return this.#search(oid, () => true) ?? false;
  }

  /** Packs of the folder that could not be opened, when it was looked at. */
  get unreadable(): number {
    return this.#unreadable;
  }

  /** As `size`, of what is here to stay: a pack that is arriving may go again. */
  keptSize(oid: Oid): number | undefined {
    return this.#search(oid, (place) => {
      return this.#arriving.has(place.pack.name) ? undefined : this.#inflater.sizeAt(place);
    });
  }

  close(): void {
    for (const pack of this.#packs.splice(0)) closePack(pack);
    this.#arriving.clear();
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
      else this.#unreadable++;
    }
    for (const pack of this.#packs.splice(PACKS_MAX)) {
      this.#arriving.delete(pack.name);
      closePack(pack);
    }
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
}
