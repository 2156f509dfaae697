/**
 * Receives a pack: writes it to a file as it comes, and names its objects as soon as they are
 * complete, so that they can be read before the rest has come. Then it writes the index.
 *
 *   state      event                              next       function
 *   header     12 bytes                           entry      #takeHeader
 *   entry      a whole entry of ordinary size     entry      #takeEntry
 *   entry      a big one begins                   big        #takeEntry
 *   big        its zlib stream has ended          entry      BigEntry
 *   entry      as many as the header said         trailer    #parse
 *   trailer    nothing but the checksum, right    (done)     finish
 *
 * Invariants
 *  1. An object is named by the hash of what its own bytes in the file inflate to.
 *  2. Memory does not grow with an object: a big one is inflated and hashed in pieces. It grows by
 *     some 150 bytes for each object, of which there are NAMED_MAX at most.
 *  3. What is not done here (more objects than that, deltas of big ones, or chains of deltas that
 *     take too long) is git's: `index` is null, `git index-pack` has the last word on the file, and
 *     until then nothing more is named.
 */

import { createHash, type Hash } from "node:crypto";
import { constants, crc32, createInflate, type Inflate, inflateSync } from "node:zlib";
import { GrowingIndex } from "./growing_index.ts";
import { type ObjectFormat, OID_BYTES } from "./oid.ts";
import { CorruptPack, type RandomFile } from "./pack_index.ts";
import { indexOfPack } from "./pack_index_file.ts";
import {
  compressedBytesMax,
  ENTRY_HEADER_BYTES_MAX,
  type EntryHeader,
  OBJECT_BYTES_MAX,
  ObjectInflater,
  OFS_DELTA,
  type Pack,
  parseEntryHeader,
  TYPES,
} from "./pack_object.ts";

const PACK_HEADER_BYTES = 12;
const MAGIC = 0x5041434b;
const VERSIONS = [2, 3];
/** A delta of more, or one that makes more, is left to git: it has to be held as a whole. */
const DELTA_BYTES_MAX = 8 * 1024 * 1024;
/** Objects that are named here. */
const NAMED_MAX = 250_000;
/** Of all deltas together, some seconds: what a server sends could be made to take days. */
const MADE_BYTES_MAX = 4 * 1024 ** 3;
const DELTA_TRIES_MAX = 2 * NAMED_MAX;
const BUFFER_BYTES = 256 * 1024;
const INFLATED_AT_ONCE = 64 * 1024;

type Bytes = Uint8Array<ArrayBuffer>;

export interface PackSink {
  /** Appends to the file. */
  write(bytes: Uint8Array): void;
  /** The same file, to be read. */
  readonly file: RandomFile;
}

export interface ReceivedPack {
  /** The checksum at its end, raw. */
  readonly checksum: Bytes;
  /** Content of the `.idx`; null: git is to make it. */
  readonly index: Uint8Array | null;
}

/** Objects that were named, and where they begin. */
export interface Named {
  /** Raw oids, one after the other. */
  readonly oids: Bytes;
  readonly offsets: Float64Array<ArrayBuffer>;
  /** Bytes of their contents. */
  readonly sizes: Float64Array<ArrayBuffer>;
}

export class PackStream {
  readonly #format: ObjectFormat;
  readonly #oidBytes: number;
  readonly #sink: PackSink;
  readonly #onNamed: (named: Named) => void;
  readonly #hash: Hash;
  readonly #index: GrowingIndex;
  readonly #inflater: ObjectInflater;
  readonly #pack: Pack;
  /** What was received and not yet taken: bytes [#start, #end). */
  #buffer = new Uint8Array(BUFFER_BYTES);
  #start = 0;
  #end = 0;
  /** Offset of #start in the pack. */
  #offset = 0;
  /** Objects the header says there are; -1: it has not come. */
  #count = -1;
  #taken = 0;
  #oids = new Uint8Array();
  #offsets: number[] = [];
  #crcs: number[] = [];
  /** Ranks of deltas whose base has not come. */
  #waiting: number[] = [];
  /** How often a delta was to be named. */
  #tries = 0;
  /** Since they were told: ranks, and sizes of what is there. */
  #named: number[] = [];
  #sizes: number[] = [];
  #big: BigEntry | null = null;
  /** No try before so many bytes are there. */
  #needed = 0;
  #leftToGit = false;

  constructor(format: ObjectFormat, sink: PackSink, onNamed: (named: Named) => void) {
    this.#format = format;
    this.#oidBytes = OID_BYTES[format];
    this.#sink = sink;
    this.#onNamed = onNamed;
    this.#hash = createHash(format);
    this.#index = new GrowingIndex(format);
    this.#inflater = new ObjectInflater(format, DELTA_BYTES_MAX);
    this.#pack = { name: "", index: this.#index, file: sink.file };
  }

  /** The next bytes of the pack. Throws CorruptPack, or what the sink throws. */
  async write(bytes: Uint8Array): Promise<void> {
    this.#sink.write(bytes);
    this.#append(bytes);
    await this.#parse(false);
    this.#tellNamed();
  }

  /** There are no more. Throws as `write`. */
  async finish(): Promise<ReceivedPack> {
    await this.#parse(true);
    const checksum = this.#buffer.slice(this.#start, this.#end);
    if (!this.#isComplete() || this.#big !== null) throw new CorruptPack("a pack that is cut");
    if (checksum.length !== this.#oidBytes) throw new CorruptPack("a pack with another end");
    if (!equal(this.#hash.digest(), checksum)) {
      throw new CorruptPack("a pack with a wrong checksum");
    }
    if (!this.#leftToGit) this.#nameWaiting();
    this.#tellNamed();
    const index = this.#leftToGit ? null : indexOfPack({
      format: this.#format,
      oids: this.#oids,
      offsets: this.#offsets,
      crcs: this.#crcs,
      checksum,
    });
    return { checksum, index };
  }

  /** Nothing more is received, whether it ended or not. */
  close(): void {
    this.#big?.close();
    this.#big = null;
  }

  #append(bytes: Uint8Array): void {
    const held = this.#end - this.#start;
    if (this.#end + bytes.length > this.#buffer.length) {
      const room = held + bytes.length;
      const into = room > this.#buffer.length ? new Uint8Array(2 * room) : this.#buffer;
      into.set(this.#buffer.subarray(this.#start, this.#end));
      this.#buffer = into;
      this.#start = 0;
      this.#end = held;
    }
    this.#buffer.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  #isComplete(): boolean {
    return this.#taken === this.#count;
  }

  async #parse(last: boolean): Promise<void> {
    for (;;) {
      if (this.#big !== null) await this.#feedBig(this.#big);
      else if (this.#count < 0) this.#takeHeader();
      if (this.#big !== null || this.#count < 0 || this.#isComplete()) break;
      if (!this.#takeEntry(last)) break;
    }
    if (this.#isComplete() && this.#end - this.#start > this.#oidBytes) {
      throw new CorruptPack("something behind the pack");
    }
  }

  #takeHeader(): void {
    if (this.#end - this.#start < PACK_HEADER_BYTES) return;
    const head = new DataView(this.#buffer.buffer, this.#start, PACK_HEADER_BYTES);
    if (head.getUint32(0) !== MAGIC || !VERSIONS.includes(head.getUint32(4))) {
      throw new CorruptPack("not a pack");
    }
    this.#count = head.getUint32(8);
    this.#leftToGit = this.#count > NAMED_MAX;
    this.#consume(PACK_HEADER_BYTES);
  }

  /** Bytes that belong to what was taken. */
  #consume(count: number): Bytes {
    const bytes = this.#buffer.subarray(this.#start, this.#start + count);
    this.#hash.update(bytes);
    this.#start += count;
    this.#offset += count;
    return bytes;
  }

  /** False: more of it must come. */
  #takeEntry(last: boolean): boolean {
    const available = this.#buffer.subarray(this.#start, this.#end);
    if (!last && available.length < this.#needed) return false;
    const header = parseEntryHeader(available, this.#oidBytes);
    if (header === undefined) {
      if (last || available.length > ENTRY_HEADER_BYTES_MAX) throw new CorruptPack("a cut object");
      return false;
    }
    if (header.sizeBytes > OBJECT_BYTES_MAX) {
      this.#beginBig(header);
      return true;
    }
    const inflated = inflate(available.subarray(header.length), header.sizeBytes);
    if (inflated === null) {
      if (last) throw new CorruptPack("a cut object");
      const most = header.length + compressedBytesMax(header.sizeBytes);
      this.#needed = Math.max(available.length + 1, Math.min(most, 2 * available.length));
      return false;
    }
    this.#needed = 0;
    const entry = {
      header,
      offset: this.#offset,
      base: header.baseOid?.slice() ?? null,
    };
    const raw = this.#consume(header.length + inflated.consumed);
    const rank = this.#enter(entry.offset, crc32(raw));
    if (this.#leftToGit) return true;
    const type = TYPES.get(header.type);
    if (type !== undefined) {
      this.#name(rank, hashOf(this.#format, type, inflated.bytes), inflated.bytes.length);
    } else if (header.type === OFS_DELTA && !this.#begins(entry.offset - header.distance)) {
      throw new CorruptPack("a base that is none");
    } else this.#nameDelta(rank);
    return true;
  }

  /** Whether an object that was taken begins there. */
  #begins(offset: number): boolean {
    let low = 0;
    let high = this.#offsets.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#offsets[middle] as number) < offset) low = middle + 1;
      else high = middle;
    }
    return this.#offsets[low] === offset;
  }

  #enter(offset: number, crc: number): number {
    const rank = this.#taken++;
    if (this.#leftToGit) return rank;
    this.#offsets.push(offset);
    this.#crcs.push(crc);
    const needed = this.#taken * this.#oidBytes;
    if (needed > this.#oids.length) {
      const oids = new Uint8Array(Math.max(2 * needed, 4096));
      oids.set(this.#oids);
      this.#oids = oids;
    }
    return rank;
  }

  #name(rank: number, oid: Uint8Array, sizeBytes: number): void {
    this.#oids.set(oid, rank * this.#oidBytes);
    this.#named.push(rank);
    this.#sizes.push(sizeBytes);
    this.#index.add(oid, Float64Array.of(this.#offsets[rank] as number));
  }

  /** Of an object that is a delta; its base may come later. */
  #nameDelta(rank: number): void {
    if (++this.#tries > DELTA_TRIES_MAX || this.#inflater.madeBytes > MADE_BYTES_MAX) {
      this.#leftToGit = true;
    }
    if (this.#leftToGit) return;
    try {
      const place = { pack: this.#pack, offset: this.#offsets[rank] as number };
      const { type, bytes } = this.#inflater.inflate(place);
      this.#name(rank, hashOf(this.#format, type, bytes), bytes.length);
    } catch {
      this.#waiting.push(rank);
    }
  }

  /** Deltas that come before their bases, as long as one leads to another. */
  #nameWaiting(): void {
    for (let before = 0; before !== this.#waiting.length && this.#waiting.length > 0;) {
      before = this.#waiting.length;
      for (const rank of this.#waiting.splice(0)) this.#nameDelta(rank);
    }
    // Damaged, or too big for this thread: git knows.
    if (this.#waiting.length > 0) this.#leftToGit = true;
  }

  #tellNamed(): void {
    if (this.#named.length === 0) return;
    const oids = new Uint8Array(this.#named.length * this.#oidBytes);
    const offsets = new Float64Array(this.#named.length);
    for (const [i, rank] of this.#named.entries()) {
      const from = rank * this.#oidBytes;
      oids.set(this.#oids.subarray(from, from + this.#oidBytes), i * this.#oidBytes);
      offsets[i] = this.#offsets[rank] as number;
    }
    const sizes = Float64Array.from(this.#sizes);
    this.#named = [];
    this.#sizes = [];
    this.#onNamed({ oids, offsets, sizes });
  }

  #beginBig(header: EntryHeader): void {
    const offset = this.#offset;
    const type = TYPES.get(header.type);
    this.#big = new BigEntry(
      offset,
      header.sizeBytes,
      type === undefined ? null : hasherOf(this.#format, type, header.sizeBytes),
      crc32(this.#consume(header.length)),
    );
    this.#needed = 0;
  }

  async #feedBig(big: BigEntry): Promise<void> {
    const available = this.#buffer.slice(this.#start, this.#end);
    if (available.length === 0) return;
    this.#consume(await big.feed(available));
    if (!big.ended) return;
    big.close();
    this.#big = null;
    const rank = this.#enter(big.offset, big.crc);
    if (this.#leftToGit) return;
    if (big.hash !== null) this.#name(rank, big.hash.digest(), big.sizeBytes);
    else this.#waiting.push(rank);
  }
}

/** An object that is inflated in pieces. */
class BigEntry {
  readonly offset: number;
  readonly sizeBytes: number;
  /** Null: a delta, which only git can apply. */
  readonly hash: Hash | null;
  /** Of its bytes in the pack so far. */
  crc: number;
  ended = false;
  #missingBytes: number;
  #failure: Error | null = null;
  readonly #inflate: Inflate;
  /** Of the piece that is being inflated. */
  #done: () => void = () => {};

  constructor(offset: number, sizeBytes: number, hash: Hash | null, crc: number) {
    this.offset = offset;
    this.sizeBytes = sizeBytes;
    this.#missingBytes = sizeBytes;
    this.hash = hash;
    this.crc = crc;
    this.#inflate = createInflate({ chunkSize: INFLATED_AT_ONCE });
    this.#inflate.on("data", (bytes: Uint8Array) => {
      this.#missingBytes -= bytes.length;
      hash?.update(bytes);
      if (this.#missingBytes < 0) this.#fail(new CorruptPack("an object of another size"));
    });
    this.#inflate.on("error", (error: Error) => this.#fail(error));
    // When bytes of something else follow; the piece's own callback is then never called.
    this.#inflate.on("end", () => {
      this.ended = true;
      this.#done();
    });
  }

  /** How many of these bytes are of this object. Throws CorruptPack, or what zlib throws. */
  async feed(bytes: Bytes): Promise<number> {
    const before = this.#inflate.bytesWritten;
    await new Promise<void>((resolve) => {
      this.#done = resolve;
      this.#inflate.write(bytes, () => resolve());
    });
    if (this.#failure !== null) throw this.#failure;
    if (this.ended && this.#missingBytes !== 0) throw new CorruptPack("an object of another size");
    const consumed = this.#inflate.bytesWritten - before;
    this.crc = crc32(bytes.subarray(0, consumed), this.crc);
    return consumed;
  }

  /** Lets go of what zlib holds. */
  close(): void {
    this.#inflate.destroy();
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#inflate.destroy();
    this.#done();
  }
}

/**
 * The object at the start of `input`; null: it goes on behind it. Of one that ends with the input the
 * checksum may be missing, so something must follow, as it does in a pack. Throws CorruptPack.
 */
function inflate(
  input: Uint8Array,
  sizeBytes: number,
): { readonly bytes: Uint8Array; readonly consumed: number } | null {
  const most = compressedBytesMax(sizeBytes);
  // One byte of room more than needed: zlib then sees the end without another buffer. Without
  // Z_SYNC_FLUSH a cut stream is an error, of which each costs as much as fifty objects.
  const options = {
    info: true,
    finishFlush: constants.Z_SYNC_FLUSH,
    chunkSize: Math.max(64, sizeBytes + 1),
    maxOutputLength: sizeBytes + 1,
  };
  let result: { buffer: Uint8Array; engine: { bytesWritten: number } };
  try {
    const inflated: unknown = inflateSync(input.subarray(0, most), options);
    result = inflated as typeof result;
  } catch (error) {
    throw new CorruptPack("an object that cannot be inflated", { cause: error });
  }
  const { buffer: bytes, engine: { bytesWritten: consumed } } = result;
  if (consumed === input.length) return null;
  if (bytes.length !== sizeBytes || consumed >= most) {
    throw new CorruptPack("an object of another size");
  }
  return { bytes, consumed };
}

function hasherOf(format: ObjectFormat, type: string, sizeBytes: number): Hash {
  return createHash(format).update(`${type} ${sizeBytes}\0`, "latin1");
}

function hashOf(format: ObjectFormat, type: string, bytes: Uint8Array): Uint8Array {
  return hasherOf(format, type, bytes.length).update(bytes).digest();
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
