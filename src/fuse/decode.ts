/** Request bytes to fields. Everything read is inside the message, or `Malformed` is thrown. */

import { ERRNO, FsError } from "../errno.ts";
import { byteString, isSafeName, type Name, NAME_MAX_BYTES } from "../path.ts";
import { IN_HEADER, type Layout } from "./abi.ts";
import type { Caller, Time } from "./filesystem.ts";

/** No kernel sends this: shorter than its struct, a length that lies, a name that is none. */
export class Malformed extends Error {
  override readonly name = "Malformed";
}

/** Upper halves of 64-bit numbers that a number does not hold exactly. */
const ABOVE_2_53 = 0x200000;

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

  get gid(): number {
    return this.#view.getUint32(IN_HEADER.at.gid, true);
  }

  get caller(): Caller {
    return {
      uid: this.#view.getUint32(IN_HEADER.at.uid, true),
      gid: this.gid,
      pid: this.#view.getUint32(IN_HEADER.at.pid, true),
    };
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
    if (high >= ABOVE_2_53) throw new Malformed("a 64-bit number above 2^53");
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

  /** A node id or a count of ours. Throws Malformed above 2^53. */
  u64(at: number): number {
    return this.#number(at);
  }

  bits64(at: number): bigint {
    return this.#view.getBigUint64(at, true);
  }

  /** An offset or a length, which callers are free to choose. Throws EFBIG above 2^53. */
  offset(at: number): number {
    if (this.#view.getUint32(at + 4, true) >= ABOVE_2_53) throw new FsError(ERRNO.EFBIG);
    return this.#number(at);
  }

  /** Seconds beyond 2^53, on either side, are cut to it, as by a file system that keeps fewer. */
  time(secondsAt: number, nanosecondsAt: number): Time {
    const nanoseconds = this.#view.getUint32(nanosecondsAt, true);
    if (nanoseconds >= 1_000_000_000) throw new Malformed("nanoseconds of a second and more");
    const low = this.#view.getUint32(secondsAt, true);
    const seconds = this.#view.getInt32(secondsAt + 4, true) * 0x100000000 + low;
    const max = Number.MAX_SAFE_INTEGER;
    return { seconds: Math.max(-max, Math.min(max, seconds)), nanoseconds };
  }

  /** The next bytes, not copied. */
  bytes(lengthBytes: number): Uint8Array<ArrayBuffer> {
    const from = this.#at;
    if (this.#end - from < lengthBytes) throw new Malformed("fewer bytes than counted");
    this.#at = from + lengthBytes;
    return this.#bytes.subarray(from, this.#at);
  }

  /** The next NUL-terminated string: its bytes, not copied. */
  stringBytes(): Uint8Array<ArrayBuffer> {
    const from = this.#at;
    const end = this.#bytes.indexOf(0, from);
    if (end < 0 || end >= this.#end) throw new Malformed("a string without an end");
    this.#at = end + 1;
    return this.#bytes.subarray(from, end);
  }

  /** The next string as a name in a directory. Throws ENAMETOOLONG: the kernel does not. */
  name(): Name {
    const name = byteString(this.stringBytes());
    if (name.length > NAME_MAX_BYTES) throw new FsError(ERRNO.ENAMETOOLONG);
    if (!isSafeName(name)) throw new Malformed("a name that none can have");
    return name as Name;
  }

  /** The next string as the name of an attribute: any bytes, 255 at most (XATTR_NAME_MAX). */
  xattrName(): Name {
    const name = byteString(this.stringBytes());
    if (name.length === 0) throw new Malformed("an attribute without a name");
    if (name.length > NAME_MAX_BYTES) throw new FsError(ERRNO.ERANGE);
    return name as Name;
  }

  get remainingBytes(): number {
    return this.#end - this.#at;
  }
}
