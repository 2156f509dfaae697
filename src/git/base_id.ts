/**
 * What the base shows at a place: an object of git, and what a checkout makes of it. For a file
 * that is shown as it lies in the repository that is its oid alone, as for a directory with only
 * such files below. Anything else has a *suffix* behind the oid: of a file the digest of its
 * conversion (conversion.ts), of a directory the digest of its context, which gives the suffixes of
 * what is in it. So an id says all about what is shown, wherever it is.
 *
 * In text `<oid>+<16 hex digits>`, in databases the oid's bytes and 8 more. Only this module joins
 * and splits them.
 */

import { bytesOfOid, hexOf, type Oid } from "./oid.ts";

declare const brand: unique symbol;

/** 16 hex digits. */
export type Suffix = string & { readonly [brand]: "Suffix" };

type ConvertedId = string & { readonly [brand]: "ConvertedId" };

/** Every oid is one. */
export type BaseId = Oid | ConvertedId;

export const SUFFIX_BYTES = 8;
const SUFFIX_DIGITS = 2 * SUFFIX_BYTES;
const PLUS = "+";
/** Lengths in bytes that have no suffix: sha1 and sha256. */
const PLAIN_BYTES: ReadonlySet<number> = new Set([20, 32]);

/** `suffix` null: shown as it is. */
export function baseIdOf(oid: Oid, suffix: Suffix | null): BaseId {
  return suffix === null ? oid : `${oid}${PLUS}${suffix}` as ConvertedId;
}

/** The object of git. */
export function plainOid(id: BaseId): Oid {
  return isConverted(id) ? id.slice(0, -SUFFIX_DIGITS - 1) as Oid : id;
}

export function suffixOf(id: BaseId): Suffix | null {
  return isConverted(id) ? id.slice(-SUFFIX_DIGITS) as Suffix : null;
}

/** It, or something below it, is not shown as it lies in the repository. */
export function isConverted(id: BaseId): id is ConvertedId {
  return id[id.length - SUFFIX_DIGITS - 1] === PLUS;
}

/** For a database. */
export function bytesOfBaseId(id: BaseId): Uint8Array<ArrayBuffer> {
  const oid = bytesOfOid(plainOid(id));
  const suffix = suffixOf(id);
  if (suffix === null) return oid;
  const bytes = new Uint8Array(oid.length + SUFFIX_BYTES);
  bytes.set(oid);
  bytes.set(Uint8Array.fromHex(suffix), oid.length);
  return bytes;
}

export function baseIdOfBytes(bytes: Uint8Array): BaseId {
  if (PLAIN_BYTES.has(bytes.length)) return hexOf(bytes);
  const at = bytes.length - SUFFIX_BYTES;
  return baseIdOf(hexOf(bytes, 0, at), suffixOfBytes(bytes, at));
}

export function suffixOfBytes(bytes: Uint8Array, at = 0): Suffix {
  return bytes.subarray(at, at + SUFFIX_BYTES).toHex() as Suffix;
}

/** As the registry keeps it. */
export function isBaseId(text: string): text is BaseId {
  return /^(?:[0-9a-f]{40}|[0-9a-f]{64})(?:\+[0-9a-f]{16})?$/.test(text);
}
