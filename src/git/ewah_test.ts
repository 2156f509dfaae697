import assert from "node:assert/strict";
import fc from "fast-check";
import { type Bits, readEwah, writeEwah } from "./ewah.ts";
import { ByteReader, ByteWriter, IndexError } from "./index_bytes.ts";

function encoded(bits: Bits): Uint8Array<ArrayBuffer> {
  const out = new ByteWriter();
  writeEwah(out, bits);
  return out.end();
}

function decoded(bytes: Uint8Array<ArrayBuffer>, count: number): Bits {
  const reader = new ByteReader(bytes);
  const bits = readEwah(reader, count);
  assert.equal(reader.left, 0);
  return bits;
}

/** Runs of equal bits, as they are in practice, of lengths about those of words. */
const bits = fc.array(fc.tuple(fc.boolean(), fc.nat(200)), { maxLength: 12 }).map((runs) =>
  Uint8Array.from(runs.flatMap(([bit, length]) => Array(length).fill(bit ? 1 : 0)))
);

Deno.test("ewah: what was written is read again", () => {
  fc.assert(fc.property(bits, (bits) => {
    assert.deepEqual(decoded(encoded(bits), bits.length), bits);
  }));
});

Deno.test("ewah: the bytes that git writes", () => {
  // ewah_new: no bits, one empty run-length word, which is the last one.
  assert.equal(encoded(new Uint8Array(100)).toHex(), "00000000" + "00000001" + "0".repeat(16 + 8));
  // 70 ones: a run of one word, and six bits as they are.
  assert.equal(
    encoded(new Uint8Array(70).fill(1)).toHex(),
    "00000046" + "00000002" + "0000000200000003" + "000000000000003f" + "00000000",
  );
  // A bit behind two words of zeros.
  const far = new Uint8Array(129);
  far[128] = 1;
  assert.equal(
    encoded(far).toHex(),
    "00000081" + "00000002" + "0000000200000004" + "0000000000000001" + "00000000",
  );
});

Deno.test("ewah: any bytes are read or refused", () => {
  const reads = (bytes: Uint8Array<ArrayBuffer>, count: number) => {
    try {
      readEwah(new ByteReader(bytes), count);
    } catch (error) {
      assert(error instanceof IndexError, String(error));
    }
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), fc.nat(300), (bytes, count) => {
    reads(new Uint8Array(bytes), count);
  }));
  fc.assert(fc.property(bits, fc.nat(), fc.nat(255), (bits, at, byte) => {
    const bytes = encoded(bits);
    bytes[at % bytes.length] = byte;
    reads(bytes, bits.length);
    reads(bytes.subarray(0, at % bytes.length), bits.length);
  }));
});

Deno.test("ewah: a bitmap that is longer than what it is of", () => {
  const ones = encoded(new Uint8Array(70).fill(1));
  assert.throws(() => readEwah(new ByteReader(ones), 69), IndexError);
  const run = encoded(new Uint8Array(128).fill(1));
  run.set([0, 0, 0, 1], 0);
  assert.throws(() => readEwah(new ByteReader(run), 127), IndexError);
});
