/** Request bytes to fields. Everything read is inside the message, or `Malformed` is thrown. */

import { byteString, type Name } from "../path.ts";
import { IN_HEADER, type Layout } from "./abi.ts";

/** The message is shorter than its struct, its length field lies, or a name does not end. */
export class Malformed extends Error {
  override readonly name = "Malformed";
}

/** One request as it lies in the buffer. Valid until the buffer is read into again. */
export class RequestReader {
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  /** End of the message in the buffer. */
  #end = 0;
  #at = 0;

  constructor(buffer: Uint8Array<ArrayBuffer>) {
    this.#bytes = buffer;
    this.#view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  }

  /** Starts on a message of `lengthBytes`. False: not even a header, or its length is another. */
  start(lengthBytes: number): boolean {
    this.#end = lengthBytes;
    this.#at = IN_HEADER.sizeBytes;
    return lengthBytes >= IN_HEADER.sizeBytes &&
      this.#view.getUint32(IN_HEADER.at.len, true) === lengthBytes;
  }

  get opcode(): number {
    return this.#view.getUint32(IN_HEADER.at.opcode, true);
  }

  /** Only a key for the parked and the interrupted; replies copy the bytes. */
  get unique(): bigint {
    return this.#view.getBigUint64(IN_HEADER.at.unique, true);
  }

  /** Node ids are ours and below 2^53; anything else is not a node. */
  get nodeid(): number {
    return this.#number(IN_HEADER.at.nodeid);
  }

  get pid(): number {
    return this.#view.getUint32(IN_HEADER.at.pid, true);
  }

  /** The whole message, not copied. */
  get message(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#end);
  }

  copyUnique(into: Uint8Array, at: number): void {
    const from = IN_HEADER.at.unique;
    for (let i = 0; i < 8; i++) into[at + i] = this.#bytes[from + i] as number;
  }

  #number(at: number): number {
    const low = this.#view.getUint32(at, true);
    const high = this.#view.getUint32(at + 4, true);
    if (high >= 0x200000) throw new Malformed("a 64-bit number above 2^53");
    return high * 0x100000000 + low;
  }

  /** The next struct; its fields are read with `u32`, `u64`, `bits64` at the returned place. */
  struct<Field extends string>(layout: Layout<Field>, atLeast = layout.sizeBytes): number {
    const at = this.#at;
    if (this.#end - at < atLeast) throw new Malformed("the message ends inside its struct");
    this.#at = Math.min(this.#end, at + layout.sizeBytes);
    return at;
  }

  u32(at: number): number {
    if (at + 4 > this.#end) return 0;
    return this.#view.getUint32(at, true);
  }

  /** Throws Malformed above 2^53. */
  u64(at: number): number {
    return this.#number(at);
  }

  bits64(at: number): bigint {
    return this.#view.getBigUint64(at, true);
  }

  /** The next NUL-terminated string. */
  string(): Name {
    const end = this.#bytes.indexOf(0, this.#at);
    if (end < 0 || end >= this.#end) throw new Malformed("a name without an end");
    const name = byteString(this.#bytes.subarray(this.#at, end));
    this.#at = end + 1;
    return name as Name;
  }

  get remainingBytes(): number {
    return this.#end - this.#at;
  }
}
