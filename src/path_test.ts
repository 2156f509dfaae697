import assert from "node:assert/strict";
import fc from "fast-check";
import { bytesOf, byteString, byteStringOfText, isSafeName, NAME_MAX_BYTES } from "./path.ts";

Deno.test("a byte string keeps every byte", () => {
  const all = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  const text = byteString(all);
  assert.equal(text.length, 256);
  for (let byte = 0; byte < 256; byte++) assert.equal(text.charCodeAt(byte), byte);
  assert.deepEqual(bytesOf(text), all);
});

Deno.test("bytes 0x80 to 0x9f are not those of windows-1252", () => {
  assert.equal(byteString(Uint8Array.of(0x80)).charCodeAt(0), 0x80);
  assert.equal(byteString(Uint8Array.of(0x41, 0x9f)).charCodeAt(1), 0x9f);
});

Deno.test("a part of a larger buffer is read from its own start", () => {
  const buffer = Uint8Array.of(1, 2, 0x61, 0xff, 3);
  assert.equal(byteString(buffer.subarray(2, 4)), "a\xff");
});

Deno.test("property: bytes to byte string and back", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
    const text = byteString(bytes);
    assert.equal(text.length, bytes.length);
    assert.deepEqual(Array.from(bytesOf(text)), Array.from(bytes));
  }));
});

Deno.test("an ordinary string becomes its UTF-8 bytes", () => {
  assert.equal(byteStringOfText("a\u00e9\u20ac"), "a\xc3\xa9\xe2\x82\xac");
  assert.equal(byteStringOfText("\u{1f600}"), "\xf0\x9f\x98\x80");
  assert.equal(byteStringOfText(""), "");
});

Deno.test("names that may be shown, and names that may not", () => {
  const safe = [
    "a",
    "...",
    "..a",
    ".a",
    "a.",
    " ",
    "\n",
    "\xff\xfe",
    "\\",
    "x".repeat(255),
    ".git",
  ];
  const unsafe = ["", ".", "..", "/", "a/b", "/a", "a\0", "\0", "x".repeat(256), "../a"];
  for (const name of safe) assert.ok(isSafeName(name), JSON.stringify(name));
  for (const name of unsafe) assert.ok(!isSafeName(name), JSON.stringify(name));
  assert.equal(NAME_MAX_BYTES, 255);
});
