import assert from "node:assert/strict";
import { elfSize } from "./denort.ts";

/** One segment, one section in the file and one that takes no room there; table at 256. */
function elf(): { bytes: Uint8Array; view: DataView } {
  const bytes = new Uint8Array(512);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1]);
  view.setBigUint64(32, 64n, true);
  view.setBigUint64(40, 256n, true);
  [56, 1, 64, 2].forEach((value, i) => view.setUint16(54 + 2 * i, value, true));
  view.setBigUint64(64 + 32, 200n, true);
  view.setBigUint64(256 + 24, 100n, true);
  view.setBigUint64(256 + 32, 100n, true);
  view.setUint32(320 + 4, 8, true);
  view.setBigUint64(320 + 32, 9999n, true);
  return { bytes, view };
}

Deno.test("elfSize: the end of the section table", () => {
  assert.equal(elfSize(elf().bytes), 256 + 2 * 64);
});

Deno.test("elfSize: refuses other layouts", () => {
  const late = elf();
  late.view.setBigUint64(256 + 24, 400n, true);
  assert.throws(() => elfSize(late.bytes), /behind the section table/);
  const short = elf();
  assert.throws(() => elfSize(short.bytes.subarray(0, 300)), /outside the file/);
  assert.throws(() => elfSize(new Uint8Array(100)), /not a 64-bit/);
});
