/** Object ids: 40 (sha1) or 64 (sha256) hex digits; raw bytes only in trees and databases. */

declare const brand: unique symbol;

export type Oid = string & { readonly [brand]: "Oid" };

export type ObjectFormat = "sha1" | "sha256";

export const OID_BYTES: Readonly<Record<ObjectFormat, number>> = { sha1: 20, sha256: 32 };

/** The tree without entries, by object format (git: the_hash_algo->empty_tree). */
export const EMPTY_TREE: Readonly<Record<ObjectFormat, Oid>> = {
  sha1: "4b825dc642cb6eb9a060e54bf8d69288fbee4904" as Oid,
  sha256: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321" as Oid,
};

export function isOid(text: string): text is Oid {
  return /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(text);
}

export function formatOf(oid: Oid): ObjectFormat {
  return oid.length === 2 * OID_BYTES.sha1 ? "sha1" : "sha256";
}

/** Checks text from a git process. Throws TypeError: git printed something else. */
export function oid(text: string): Oid {
  if (!isOid(text)) throw new TypeError(`Cannot parse object id ${JSON.stringify(text)}`);
  return text;
}

/** Hex digits of `bytes[at, at + length)`. */
export function hexOf(bytes: Uint8Array, at = 0, length = bytes.length - at): Oid {
  return bytes.subarray(at, at + length).toHex() as Oid;
}

export function bytesOfOid(hex: Oid): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(hex.length / 2);
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  return out;
}
