import assert from "node:assert/strict";
import type { Oid } from "./oid.ts";
import { packedRefsText, parsePackedRefs } from "./refs.ts";

const [A, B, C] = ["a", "b", "c"].map((digit) => digit.repeat(40) as Oid) as [Oid, Oid, Oid];

Deno.test("parsePackedRefs: refs, not the header and not what tags peel to", () => {
  const text = "# pack-refs with: peeled fully-peeled sorted \n" +
    `${A} refs/heads/main\n${B} refs/tags/v1\n^${C}\n${"d".repeat(64)} refs/heads/\xff x\n`;
  assert.deepEqual([...parsePackedRefs(text)], [
    ["refs/heads/main", A],
    ["refs/tags/v1", B],
    ["refs/heads/\xff x", "d".repeat(64)],
  ]);
  assert.equal(parsePackedRefs("").size, 0);
});

Deno.test("parsePackedRefs reads what packedRefsText writes", () => {
  const refs = new Map([["refs/heads/a/b", A], ["refs/tags/t", B]]);
  assert.deepEqual(parsePackedRefs(packedRefsText(refs)), refs);
});
