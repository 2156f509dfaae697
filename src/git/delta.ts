/**
 * Deltas in packs (gitformat-pack): the sizes of base and result, then instructions: copy a range
 * of the base, or insert what follows.
 */

import { CorruptPack } from "./pack_index.ts";

/** Size of what a delta makes. Throws CorruptPack. */
export function deltaResultSize(delta: Uint8Array): number {
  const { next } = varint(delta, 0);
  return varint(delta, next).value;
}

/** What a delta makes of its base. Throws CorruptPack. */
export function applyDelta(base: Uint8Array, delta: Uint8Array): Uint8Array<ArrayBuffer> {
  const baseSize = varint(delta, 0);
  const resultSize = varint(delta, baseSize.next);
  if (baseSize.value !== base.length) throw new CorruptPack("a delta of another base");
  const result = new Uint8Array(resultSize.value);
  let to = 0;
  let at = resultSize.next;
  while (at < delta.length) {
    const code = delta[at++] as number;
    let source = delta;
    let from = at;
    let length = code;
    if ((code & 0x80) !== 0) {
      source = base;
      from = 0;
      length = 0;
      for (let i = 0; i < 4; i++) {
        if ((code & (1 << i)) !== 0) from += (delta[at++] ?? 0) * 2 ** (8 * i);
      }
      for (let i = 0; i < 3; i++) {
        if ((code & (0x10 << i)) !== 0) length |= (delta[at++] ?? 0) << (8 * i);
      }
      if (length === 0) length = 0x10000;
    } else if (code === 0) throw new CorruptPack("an instruction that does not exist");
    else at += length;
    if (from + length > source.length || to + length > result.length) {
      throw new CorruptPack("a delta that leaves its object");
    }
    result.set(source.subarray(from, from + length), to);
    to += length;
  }
  if (to !== result.length) throw new CorruptPack("a delta that ends too early");
  return result;
}

/** Seven bits a byte, the lowest first. */
function varint(bytes: Uint8Array, at: number): { value: number; next: number } {
  let value = 0;
  for (let factor = 1; factor <= 2 ** 42; factor *= 128) {
    const byte = bytes[at++];
    if (byte === undefined) break;
    value += (byte & 0x7f) * factor;
    if (byte < 0x80) return { value, next: at };
  }
  throw new CorruptPack("a number that does not end");
}
