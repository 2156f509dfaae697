import assert from "node:assert/strict";
import { ByteReader, ByteWriter } from "./index_bytes.ts";

Deno.test("a number may come where the writer has to grow", () => {
  for (let before = 1000; before <= 1040; before++) {
    const out = new ByteWriter();
    out.zeros(before);
    out.u32(0xdeadbeef);
    out.zeros(2 * before);
    out.u64(0xdeadbeefcafebaben);
    const reader = new ByteReader(out.end());
    reader.skip(before);
    assert.equal(reader.u32(), 0xdeadbeef, String(before));
    reader.skip(2 * before);
    assert.equal(reader.u64(), 0xdeadbeefcafebaben, String(before));
    assert.equal(reader.left, 0);
  }
});
