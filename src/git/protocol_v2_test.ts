/** Servers that send lines without an end. What real ones send is in wire_test.ts. */

import assert from "node:assert/strict";
import type { Oid } from "./oid.ts";
import { packetLine, ProtocolError } from "./pkt_line.ts";
import { fetchPack, lsRefs, type Post } from "./protocol_v2.ts";

const OID = "1".repeat(40) as Oid;
const MEGABYTE = 1024 ** 2;

/** The parts, then the last one again and again; what was read of it, and whether it was closed. */
function endless(...parts: string[]) {
  const seen = { bytes: 0, closed: false };
  const chunks = parts.map((part) => new TextEncoder().encode(part));
  const post: Post = async function* () {
    try {
      for (let i = 0;; i++) {
        const chunk = chunks[Math.min(i, chunks.length - 1)] as Uint8Array;
        seen.bytes += chunk.length;
        yield chunk;
        await Promise.resolve();
      }
    } finally {
      seen.closed = true;
    }
  };
  return { post, seen };
}

const request = { wants: [OID], depth: 1, blobless: true, objectFormat: "sha1" } as const;

const CASES: readonly (readonly [string, ReturnType<typeof endless>, boolean])[] = [
  ["long refs", endless(packetLine(`${OID} refs/heads/${"x".repeat(65_000)}`)), true],
  ["many refs", endless(packetLine(`${OID} r`)), true],
  [
    "long shallow lines",
    endless(
      packetLine("shallow-info"),
      packetLine(`shallow ${OID} ${"x".repeat(65_000)}`),
    ),
    false,
  ],
  [
    "many shallow commits",
    endless(packetLine("shallow-info"), packetLine(`shallow ${OID}`)),
    false,
  ],
  ["many sections", endless(`${packetLine("shallow-info")}0001`), false],
];

for (const [what, { post, seen }, isList] of CASES) {
  Deno.test(`an answer of ${what} is not read to an end that it has not`, async () => {
    const asked = isList ? lsRefs(post, ["refs/heads/"]) : fetchPack(post, request);
    await assert.rejects(
      asked,
      (error: unknown) => error instanceof ProtocolError && error.message === "too many lines",
    );
    assert.ok(seen.bytes < 33 * MEGABYTE, `${seen.bytes} bytes`);
    assert.ok(seen.closed, "the connection is let go");
  });
}
