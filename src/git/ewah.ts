/**
 * EWAH bitmaps as git keeps them in the index (gitformat-bitmap, ewah/ewah_io.c):
 *
 *     u32 bits | u32 words | u64 words | u32 rank of the last run-length word
 *
 * A run-length word says, from its lowest bit: which bit repeats (1), in how many words of 64 bits
 * (32), and how many words follow as they are (31).
 */

import { type ByteReader, type ByteWriter, IndexError } from "./index_bytes.ts";

/** One byte, 0 or 1, for each bit. */
export type Bits = Uint8Array<ArrayBuffer>;

const WORD_BITS = 64;
const ALL = (1n << 64n) - 1n;
const RUN_BITS = 32n;
const RUN_MASK = (1n << RUN_BITS) - 1n;
const LITERALS_AT = 1n + RUN_BITS;

/** Bits behind the last one are 0 for whoever reads them. */
export function writeEwah(out: ByteWriter, bits: Bits): void {
  const size = bits.lastIndexOf(1) + 1;
  const words = wordsOf(bits, size);
  const encoded: bigint[] = [];
  let last = 0;
  for (let at = 0; at < words.length || encoded.length === 0;) {
    const repeated = words[at] === ALL ? ALL : 0n;
    const runFrom = at;
    while (at < words.length && words[at] === repeated) at++;
    const literalsFrom = at;
    while (at < words.length && words[at] !== 0n && words[at] !== ALL) at++;
    last = encoded.length;
    encoded.push(
      (repeated === ALL ? 1n : 0n) | (BigInt(literalsFrom - runFrom) << 1n) |
        (BigInt(at - literalsFrom) << LITERALS_AT),
    );
    for (const word of words.subarray(literalsFrom, at)) encoded.push(word);
  }
  out.u32(size);
  out.u32(encoded.length);
  for (const word of encoded) out.u64(word);
  out.u32(last);
}

function wordsOf(bits: Bits, size: number): BigUint64Array {
  const words = new BigUint64Array(Math.ceil(size / WORD_BITS));
  // As halves: a big integer for each bit would cost more than all the rest.
  const halves = new Uint32Array(words.buffer);
  for (let i = bits.indexOf(1); i >= 0; i = bits.indexOf(1, i + 1)) {
    halves[i >>> 5] = (halves[i >>> 5] as number) | (1 << (i & 31));
  }
  return words;
}

/** Throws IndexError, also for a bit at `count` or behind it. */
export function readEwah(from: ByteReader, count: number): Bits {
  const bits = new Uint8Array(count);
  if (from.u32() > count) throw tooLong();
  let words = from.u32();
  for (let at = 0; words > 0;) {
    const header = from.u64();
    words--;
    const run = Number((header >> 1n) & RUN_MASK) * WORD_BITS;
    if ((header & 1n) === 1n) {
      if (at + run > count) throw tooLong();
      bits.fill(1, at, at + run);
    }
    at += run;
    const literals = Number(header >> LITERALS_AT);
    if (literals > words) throw new IndexError("a bitmap ends too early");
    words -= literals;
    for (let i = 0; i < literals; i++, at += WORD_BITS) {
      const word = from.u64();
      for (let bit = 0; bit < WORD_BITS; bit++) {
        if ((word >> BigInt(bit)) % 2n === 0n) continue;
        if (at + bit >= count) throw tooLong();
        bits[at + bit] = 1;
      }
    }
  }
  from.skip(4);
  return bits;
}

function tooLong(): IndexError {
  return new IndexError("a bitmap is longer than what it is of");
}
