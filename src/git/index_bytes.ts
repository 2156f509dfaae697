/**
 * Bytes of index files: big-endian numbers, varints, strings that end with a NUL. An index is a
 * user's file and may hold anything, so every read is checked against the end.
 */

import { byteString } from "../path.ts";
import { bytesOfOid, type Oid } from "./oid.ts";

/** An index is not what it should be, or is of a kind that is not read here. */
export class IndexError extends Error {
  override readonly name = "IndexError";
}

export class ByteReader {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  at = 0;

  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get left(): number {
    return this.bytes.length - this.at;
  }

  /** Where the next `count` bytes begin; they are behind us then. Throws IndexError. */
  skip(count: number): number {
    if (count > this.left) throw new IndexError("it ends too early");
    const from = this.at;
    this.at += count;
    return from;
  }

  u32(): number {
    return this.#view.getUint32(this.skip(4));
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.skip(8));
  }

  take(count: number): Uint8Array<ArrayBuffer> {
    const from = this.skip(count);
    return this.bytes.subarray(from, from + count);
  }

  /** What is before the next NUL, which is behind us then. */
  text(): string {
    const end = this.bytes.indexOf(0, this.at);
    if (end < 0) throw new IndexError("a text without an end");
    const text = byteString(this.bytes.subarray(this.at, end));
    this.at = end + 1;
    return text;
  }

  /** varint.c of git, for what fits into 32 bits. */
  varint(): number {
    let byte = this.bytes[this.skip(1)] as number;
    let value = byte & 0x7f;
    while (byte >= 0x80) {
      byte = this.bytes[this.skip(1)] as number;
      value = (value + 1) * 128 + (byte & 0x7f);
      if (value > 0xffffffff) throw new IndexError("a number that is too big");
    }
    return value;
  }
}

export class ByteWriter {
  #bytes = new Uint8Array(1024);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  u32(value: number): void {
    const at = this.#grow(4);
    this.#view.setUint32(at, value);
  }

  u64(value: bigint): void {
    const at = this.#grow(8);
    this.#view.setBigUint64(at, value);
  }

  put(bytes: Uint8Array): void {
    const at = this.#grow(bytes.length);
    this.#bytes.set(bytes, at);
  }

  zeros(count: number): void {
    this.#grow(count);
  }

  /** A byte string and its NUL. */
  text(text: string): void {
    const at = this.#grow(text.length + 1);
    for (let i = 0; i < text.length; i++) this.#bytes[at + i] = text.charCodeAt(i);
  }

  varint(value: number): void {
    const at = this.#grow(varintLength(value));
    putVarint(this.#bytes, at, value);
  }

  oid(oid: Oid): void {
    this.put(bytesOfOid(oid));
  }

  /** What was written. */
  end(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#length);
  }

  /** Where `count` zeros begin that were just appended. */
  #grow(count: number): number {
    const from = this.#length;
    this.#length += count;
    if (this.#length > this.#bytes.length) {
      const bigger = new Uint8Array(Math.max(this.#length, 2 * this.#bytes.length));
      bigger.set(this.#bytes);
      this.#bytes = bigger;
      this.#view = new DataView(bigger.buffer);
    }
    return from;
  }
}

function varintLength(value: number): number {
  let length = 1;
  for (let rest = Math.floor(value / 128); rest > 0; length++) rest = Math.floor((rest - 1) / 128);
  return length;
}

/** Writes as git's encode_varint does; returns where the next byte goes. */
export function putVarint(into: Uint8Array, at: number, value: number): number {
  const end = at + varintLength(value);
  let rest = value;
  for (let i = end - 1; i >= at; i--) {
    into[i] = (rest % 128) | (i === end - 1 ? 0 : 0x80);
    rest = Math.floor(rest / 128) - 1;
  }
  return end;
}
