/**
 * Bytes of the kernel's side of the FUSE protocol, written by hand. Deliberately knows nothing of
 * src/fuse: a wrong offset there must not be wrong here in the same way.
 */

/** Bytes from hex digits; blanks do not count, `#` starts a comment that ends with the line. */
export function hex(text: string): Uint8Array<ArrayBuffer> {
  const digits = text.replaceAll(/#.*$/gm, "").replaceAll(/\s+/g, "");
  if (!/^(?:[0-9a-f]{2})*$/.test(digits)) throw new Error(`not hex: ${digits}`);
  const out = new Uint8Array(digits.length / 2);
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  return out;
}

/** Hex digits, eight bytes a line, for messages of failed comparisons. */
export function dump(bytes: Uint8Array): string {
  const pairs = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"));
  const lines: string[] = [];
  for (let at = 0; at < pairs.length; at += 8) lines.push(pairs.slice(at, at + 8).join(""));
  return lines.join("\n");
}

/** Little-endian bytes of a whole number. */
export function le(value: number | bigint, byteCount: number): number[] {
  let rest = BigInt(value);
  const out: number[] = [];
  for (let i = 0; i < byteCount; i++) {
    out.push(Number(rest & 0xffn));
    rest >>= 8n;
  }
  return out;
}

export const u16 = (value: number) => le(value, 2);
export const u32 = (value: number) => le(value, 4);
export const u64 = (value: number | bigint) => le(value, 8);

/** A name with the NUL that ends it; one char code per byte. */
export function cName(name: string): number[] {
  return [...Array.from(name, (char) => char.charCodeAt(0)), 0];
}

/** A number out of little-endian bytes. */
export function fromLe(bytes: Uint8Array, at: number, byteCount: number): bigint {
  let value = 0n;
  for (let i = byteCount - 1; i >= 0; i--) value = value << 8n | BigInt(bytes[at + i] ?? 0);
  return value;
}

export interface Header {
  readonly opcode: number;
  readonly unique: number | bigint;
  readonly nodeid?: number | bigint;
  /** What the length field says; the truth unless told. */
  readonly len?: number;
}

/** One request: the 40 bytes of the header, then the body. */
export function request(header: Header, body: ArrayLike<number> = []): Uint8Array<ArrayBuffer> {
  const { opcode, unique, nodeid = 1, len = 40 + body.length } = header;
  return Uint8Array.from([
    ...u32(len),
    ...u32(opcode),
    ...u64(unique),
    ...u64(nodeid),
    ...u32(1000), // uid
    ...u32(1001), // gid
    ...u32(4242), // pid
    ...u16(0), // total_extlen
    ...u16(0), // padding
    ...Array.from(body),
  ]);
}

/** Opcodes of fuse.h, by number: the tests do not take ours. */
export const OP = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  INIT: 26,
  READDIR: 28,
  FSYNCDIR: 30,
  INTERRUPT: 36,
  DESTROY: 38,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  TMPFILE: 51,
  COPY_FILE_RANGE_64: 53,
} as const;

export function initRequest(
  unique: number,
  minor: number,
  options: { major?: number; flags?: number; flags2?: number; short?: boolean } = {},
): Uint8Array<ArrayBuffer> {
  const { major = 7, flags = 0x73fffffb, flags2 = 0x5fd, short = false } = options;
  const head = [...u32(major), ...u32(minor), ...u32(0x20000), ...u32(flags)];
  const rest = short ? [] : [...u32(flags2), ...new Array(44).fill(0)];
  return request({ opcode: OP.INIT, unique, nodeid: 0 }, [...head, ...rest]);
}

export function lookupRequest(unique: number, parent: number, name: string) {
  return request({ opcode: OP.LOOKUP, unique, nodeid: parent }, cName(name));
}

export function getattrRequest(unique: number, nodeid: number) {
  // getattr_flags, dummy, fh
  return request({ opcode: OP.GETATTR, unique, nodeid }, [...u32(0), ...u32(0), ...u64(0)]);
}

/** Body of READ, READDIR and READDIRPLUS. */
export function readBody(offset: number | bigint, size: number): number[] {
  // fh, offset, size, read_flags, lock_owner, flags, padding
  return [...u64(0), ...u64(offset), ...u32(size), ...u32(0), ...u64(0), ...u32(0), ...u32(0)];
}

export function readRequest(unique: number, nodeid: number, offset: number, size: number) {
  return request({ opcode: OP.READ, unique, nodeid }, readBody(offset, size));
}

export function writeRequest(
  unique: number,
  nodeid: number,
  offset: number | bigint,
  data: ArrayLike<number>,
) {
  return request({ opcode: OP.WRITE, unique, nodeid }, writeBody(offset, data));
}

export function writeBody(offset: number | bigint, data: ArrayLike<number>): number[] {
  // fh, offset, size, write_flags, lock_owner, flags, padding
  const head = [...u64(0), ...u64(offset), ...u32(data.length), ...u32(0), ...u64(0), ...u64(0)];
  return head.concat(Array.from(data));
}

/** `valid` says which of the fields count; of the others no more than zeros. */
export function setattrBody(valid: number, size: number | bigint = 0): number[] {
  // valid, padding, fh, size, the rest
  return [...u32(valid), ...u32(0), ...u64(0), ...u64(size), ...new Array(64).fill(0)];
}

/** Body of COPY_FILE_RANGE and COPY_FILE_RANGE_64. */
export function copyBody(
  from: number | bigint,
  to: number | bigint,
  length: number | bigint,
  flags: number | bigint = 0,
): number[] {
  // fh_in, off_in, nodeid_out, fh_out, off_out, len, flags
  return [0, from, 3, 0, to, length, flags].flatMap(u64);
}

export function interruptRequest(unique: number, interrupted: number) {
  return request({ opcode: OP.INTERRUPT, unique, nodeid: 0 }, u64(interrupted));
}

export interface ParsedReply {
  readonly unique: bigint;
  /** As on the wire: 0 or minus errno. */
  readonly error: number;
  readonly body: Uint8Array;
}

/** Splits a reply. Throws when its length field is not its length. */
export function parseReply(reply: Uint8Array): ParsedReply {
  const len = Number(fromLe(reply, 0, 4));
  if (reply.length < 16 || len !== reply.length) {
    throw new Error(`a reply of ${reply.length} bytes says ${len}`);
  }
  return {
    error: Number(BigInt.asIntN(32, fromLe(reply, 4, 4))),
    unique: fromLe(reply, 8, 8),
    body: reply.subarray(16),
  };
}
