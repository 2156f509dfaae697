import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import fc from "fast-check";
import { bytesOfOid, EMPTY_TREE, hexOf, isOid, oid, OID_BYTES } from "./oid.ts";

Deno.test("an oid is 40 or 64 lower-case hex digits and nothing else", () => {
  for (const text of ["0".repeat(40), "a".repeat(64), "0123456789abcdef".repeat(4)]) {
    assert.ok(isOid(text));
    assert.equal(oid(text), text);
  }
  const wrong = [
    "",
    "0".repeat(39),
    "0".repeat(41),
    "0".repeat(63),
    "0".repeat(65),
    "A".repeat(40),
    "g".repeat(40),
    `${"0".repeat(40)}\n`,
    ` ${"0".repeat(39)}`,
    `${"0".repeat(40)}\n${"0".repeat(40)}`,
  ];
  for (const text of wrong) {
    assert.ok(!isOid(text), JSON.stringify(text));
    assert.throws(() => oid(text), TypeError);
  }
});

Deno.test("hex digits and bytes", () => {
  assert.equal(hexOf(Uint8Array.of(0, 0x0f, 0xf0, 0xff)), "000ff0ff");
  assert.equal(hexOf(Uint8Array.of(1, 2, 3, 4), 1, 2), "0203");
  assert.equal(hexOf(Uint8Array.of(1, 2, 3, 4), 2), "0304");
});

Deno.test("property: hex and back", () => {
  const length = fc.constantFrom(20, 32);
  const bytes = length.chain((n) => fc.uint8Array({ minLength: n, maxLength: n }));
  fc.assert(fc.property(bytes, (raw) => {
    const text = hexOf(raw);
    assert.ok(isOid(text));
    assert.deepEqual(Array.from(bytesOfOid(text)), Array.from(raw));
  }));
});

Deno.test("the empty trees are what git's rule makes of no bytes", () => {
  for (const format of ["sha1", "sha256"] as const) {
    const expected = createHash(format).update("tree 0\0").digest("hex");
    assert.equal(EMPTY_TREE[format], expected);
    assert.equal(EMPTY_TREE[format].length, 2 * OID_BYTES[format]);
  }
});
