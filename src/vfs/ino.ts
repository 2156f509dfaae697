/**
 * st_ino: what stat shows and listings cache. The same path gives the same number after FORGET,
 * remount and restart: for a directory it follows from its path, for anything else from its path
 * and content, as 52 bits of a hash chained along the path. Never change this function: build tools
 * and git's index hold the numbers.
 */

/** st_ino of the root. */
export const ROOT_INO = 1;

const TWO_20 = 0x100000;
const TWO_32 = 0x100000000;

/** Two 32-bit lanes of FNV-1a with different primes, finished by murmur3's mixer. */
export function inoOf(parentIno: number, name: string, content: string): number {
  let a = 0x811c9dc5 ^ (parentIno >>> 0);
  let b = 0x9747b28c ^ Math.floor(parentIno / TWO_32);
  a = Math.imul(a, 0x01000193);
  b = Math.imul(b, 0x5bd1e995);
  for (let i = 0; i < name.length; i++) {
    const byte = name.charCodeAt(i);
    a = Math.imul(a ^ byte, 0x01000193);
    b = Math.imul(b ^ byte, 0x5bd1e995);
    b ^= b >>> 15;
  }
  // A name never has a NUL, so it ends the name.
  a = Math.imul(a, 0x01000193);
  b = Math.imul(b ^ 0xff, 0x5bd1e995);
  for (let i = 0; i < content.length; i++) {
    const code = content.charCodeAt(i);
    a = Math.imul(a ^ code, 0x01000193);
    b = Math.imul(b ^ code, 0x5bd1e995);
    b ^= b >>> 15;
  }
  return finish(a, b);
}

/**
 * inoOf, of what is not a directory, from bytes: of the name, and of the oid, whose hex digits are
 * the content. For a whole index at once, where strings cost more than the hash.
 */
export function inoOfBytes(
  parentIno: number,
  name: Uint8Array,
  nameFrom: number,
  nameEnd: number,
  oid: Uint8Array,
  oidFrom: number,
  oidEnd: number,
): number {
  let a = 0x811c9dc5 ^ (parentIno >>> 0);
  let b = 0x9747b28c ^ Math.floor(parentIno / TWO_32);
  a = Math.imul(a, 0x01000193);
  b = Math.imul(b, 0x5bd1e995);
  for (let i = nameFrom; i < nameEnd; i++) {
    const byte = name[i] as number;
    a = Math.imul(a ^ byte, 0x01000193);
    b = Math.imul(b ^ byte, 0x5bd1e995);
    b ^= b >>> 15;
  }
  a = Math.imul(a, 0x01000193);
  b = Math.imul(b ^ 0xff, 0x5bd1e995);
  for (let i = 2 * oidFrom; i < 2 * oidEnd; i++) {
    const byte = oid[i >>> 1] as number;
    const digit = (i & 1) === 0 ? byte >>> 4 : byte & 15;
    const code = digit < 10 ? 0x30 + digit : 0x57 + digit;
    a = Math.imul(a ^ code, 0x01000193);
    b = Math.imul(b ^ code, 0x5bd1e995);
    b ^= b >>> 15;
  }
  return finish(a, b);
}

function finish(a: number, b: number): number {
  const low = mix(a ^ (b >>> 7));
  const high = mix(b ^ (a >>> 11)) & (TWO_20 - 1);
  const ino = high * TWO_32 + low;
  return ino <= ROOT_INO ? ino + TWO_32 : ino;
}

function mix(value: number): number {
  let h = value;
  h ^= h >>> 16;
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  h ^= h >>> 16;
  return h >>> 0;
}
