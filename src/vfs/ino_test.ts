import assert from "node:assert/strict";
import { inoOf, ROOT_INO } from "./ino.ts";

const OID = "0123456789abcdef0123456789abcdef01234567";

Deno.test("values are pinned: build tools and git's index hold them", () => {
  const values = [
    inoOf(ROOT_INO, "a", ""),
    inoOf(ROOT_INO, "a", OID),
    inoOf(ROOT_INO, "src", ""),
    inoOf(inoOf(ROOT_INO, "src", ""), "main.ts", OID),
    inoOf(ROOT_INO, ".git", ""),
    inoOf(ROOT_INO, "\xe9\xff\x01", OID),
    inoOf(ROOT_INO, "n".repeat(255), OID),
    inoOf(2 ** 52 - 1, "a", "b".repeat(64)),
    inoOf(ROOT_INO, "", ""),
  ];
  assert.deepEqual(values, PINNED);
});

Deno.test("parent, name and content all count, and where one ends", () => {
  const base = inoOf(7, "name", OID);
  assert.notEqual(inoOf(8, "name", OID), base);
  assert.notEqual(inoOf(7 + 2 ** 32, "name", OID), base);
  assert.notEqual(inoOf(7, "namf", OID), base);
  assert.notEqual(inoOf(7, "name", OID.replace("0", "1")), base);
  assert.notEqual(inoOf(7, "name", ""), base);
  assert.notEqual(inoOf(7, "ab", "c"), inoOf(7, "a", "bc"));
});

/** A tree of directories and files as a project has them. */
function* generated(count: number): Generator<number> {
  const perDirectory = 50;
  let made = 0;
  for (let d = 0; made < count; d++) {
    const directory = inoOf(inoOf(ROOT_INO, `dir${d % 97}`, ""), `sub${d}`, "");
    for (let f = 0; f < perDirectory && made < count; f++, made++) {
      yield inoOf(directory, `file${f}.ts`, OID);
    }
  }
}

Deno.test("a million generated names: no collision, all below 2^52, evenly spread", () => {
  const count = 1_000_000;
  const seen = new Set<number>();
  const high = new Uint32Array(64);
  const low = new Uint32Array(64);
  for (const ino of generated(count)) {
    if (!Number.isSafeInteger(ino) || ino <= ROOT_INO || ino >= 2 ** 52) {
      assert.fail(`${ino} is out of range`);
    }
    seen.add(ino);
    high[Math.floor(ino / 2 ** 46)] = (high[Math.floor(ino / 2 ** 46)] ?? 0) + 1;
    low[ino % 64] = (low[ino % 64] ?? 0) + 1;
  }
  assert.equal(seen.size, count);
  // Of 15,625 in each of 64 buckets; six standard deviations are 750.
  for (const buckets of [high, low]) {
    for (const bucket of buckets) assert.ok(Math.abs(bucket - count / 64) < 750, `${bucket}`);
  }
});

Deno.test("sequential names and contents do not collide either", () => {
  const seen = new Set<number>();
  for (let i = 0; i < 100_000; i++) {
    seen.add(inoOf(ROOT_INO, String(i), ""));
    seen.add(inoOf(ROOT_INO, "one", i.toString(16).padStart(40, "0")));
    seen.add(inoOf(i + 2, "one", OID));
  }
  assert.equal(seen.size, 300_000);
});

const PINNED: readonly number[] = [
  1098801110141904,
  3267690838904138,
  4173667175513775,
  1203702752510932,
  2295292177145493,
  4482353740950560,
  2217943025888846,
  142637399403786,
  3979327785636835,
];
