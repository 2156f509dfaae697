import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type BaseId,
  baseIdOf,
  baseIdOfBytes,
  bytesOfBaseId,
  isBaseId,
  isConverted,
  plainOid,
  type Suffix,
  suffixOf,
} from "./base_id.ts";
import type { Oid } from "./oid.ts";

const hex = (digits: number) =>
  fc.string({ unit: fc.constantFrom(..."0123456789abcdef"), minLength: digits, maxLength: digits });
const oids = fc.oneof(hex(40), hex(64)) as fc.Arbitrary<Oid>;
const suffixes = fc.option(hex(16)) as fc.Arbitrary<Suffix | null>;

Deno.test("base id: joined and split, as text and as bytes, of both formats", () => {
  fc.assert(fc.property(oids, suffixes, (oid, suffix) => {
    const id = baseIdOf(oid, suffix);
    assert.equal(plainOid(id), oid);
    assert.equal(suffixOf(id), suffix);
    assert.equal(isConverted(id), suffix !== null);
    assert.ok(isBaseId(id));
    const bytes = bytesOfBaseId(id);
    assert.equal(bytes.length, oid.length / 2 + (suffix === null ? 0 : 8));
    assert.equal(baseIdOfBytes(bytes), id);
  }));
});

Deno.test("base id: an oid is one, and nothing is none", () => {
  const oid = "a".repeat(40) as Oid;
  const id: BaseId = oid;
  assert.equal(plainOid(id), oid);
  assert.equal(isConverted("" as BaseId), false);
  assert.equal(plainOid("" as BaseId), "");
  for (const text of ["", "a", `${oid}+`, `${oid}+12`, `${oid}-${"1".repeat(16)}`]) {
    assert.equal(isBaseId(text), false, text);
  }
});
