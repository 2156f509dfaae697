/** What the soak judges with, without a mount: it must see what is wrong. */

import assert from "node:assert/strict";
import { Random } from "../support/git_objects.ts";
import { Generator, laneOf, LANES } from "./generate.ts";
import { type Op, partsOf, pattern, split } from "./op.ts";
import { differences, Followed, lost, type Seen, type Tree } from "./tree.ts";

const START_NS = 1_700_000_000_000_000_000n;

function seen(fields: Partial<Seen> = {}): Seen {
  return {
    shown: { kind: "file", mode: "0644", size: 3, content: "abc" },
    kind: "file",
    ino: "7",
    identity: "",
    mtime: String(START_NS + 5n),
    ctime: String(START_NS + 5n),
    ...fields,
  };
}

function follow(...moments: readonly [plain: Tree, mounted: Tree][]): string[][] {
  const followed = new Followed();
  return moments.map(([plain, mounted]) => followed.follow({ plain, mounted }).map((o) => o.text));
}

Deno.test("soak: what is shown must be the same, path by path", () => {
  const differ = (plain: Tree, mounted: Tree) =>
    differences({ plain, mounted }, START_NS).map(({ path, text }) => `${path}: ${text}`);
  const other = (shown: Record<string, unknown>) => seen({ shown: { ...seen().shown, ...shown } });
  assert.deepEqual(differ({ a: seen() }, { a: seen({ ino: "9" }) }), []);
  assert.deepEqual(differ({ a: seen() }, { a: other({ size: 4 }) }), [
    "a: size: expected 3, got 4",
  ]);
  assert.deepEqual(differ({ a: seen() }, { a: other({ sameAs: "b" }) }), [
    'a: sameAs: expected undefined, got "b"',
  ]);
  assert.match(differ({ a: seen() }, {})[0] ?? "", /^a: missing in the mount/);
  assert.match(differ({}, { a: seen() })[0] ?? "", /^a: in the mount only/);
});

Deno.test("soak: a time that was set must be the same, one since the start may be another", () => {
  const differ = (plain: bigint, mounted: bigint) =>
    differences({
      plain: { a: seen({ mtime: String(plain) }) },
      mounted: { a: seen({ mtime: String(mounted) }) },
    }, START_NS).length;
  assert.equal(differ(START_NS + 1n, START_NS + 2n), 0);
  assert.equal(differ(5n, 5n), 0);
  assert.equal(differ(5n, 6n), 1);
  assert.equal(differ(START_NS + 1n, 5n), 1);
  assert.equal(differ(5n, START_NS + 1n), 1);
});

Deno.test("soak: times must move when those of the plain tree do, and only then", () => {
  const moved = { mtime: "8", ctime: "8" };
  const was: [Tree, Tree] = [{ a: seen({ identity: "x" }) }, { a: seen() }];
  const plainMoved = { a: seen({ identity: "x", ...moved }) };
  assert.deepEqual(follow(was, [plainMoved, { a: seen(moved) }]), [[], []]);
  assert.match(
    follow(was, [plainMoved, { a: seen() }])[1]?.join() ?? "",
    /mtime should have moved/,
  );
  const tooMuch = follow(was, [was[0], { a: seen({ ctime: "8" }) }])[1]?.join() ?? "";
  assert.match(tooMuch, /ctime should not have moved/);
});

Deno.test("soak: a number belongs to one inode for ever", () => {
  const plain = (...identities: string[]) =>
    Object.fromEntries(identities.map((identity) => [identity, seen({ identity })]));
  const mounted = (inos: Record<string, string>) =>
    Object.fromEntries(Object.entries(inos).map(([path, ino]) => [path, seen({ ino })]));
  assert.match(
    follow([plain("x"), mounted({ x: "1" })], [plain("x"), mounted({ x: "2" })])[1]?.join() ?? "",
    /its number was 1, is 2/,
  );
  assert.match(
    follow([plain("x"), mounted({ x: "1" })], [plain("y"), mounted({ y: "1" })])[1]?.join() ?? "",
    /its number 1 was another one's/,
  );
});

Deno.test("soak: what must change nothing may change nothing", () => {
  const before = { a: seen(), b: seen() };
  assert.deepEqual(lost(before, { a: seen(), b: seen() }), []);
  assert.deepEqual(lost(before, { a: seen(), b: seen({ ctime: "9" }) }).map((o) => o.path), ["b"]);
  assert.deepEqual(lost(before, { a: seen(), c: seen() }).map((o) => o.path), ["b", "c"]);
});

Deno.test("soak: the parts of a write are the write, and end at pages", () => {
  const op: Op = { call: "write", to: { path: "a" }, offset: 4000, length: 9000, seed: 200 };
  const file = new Uint8Array(20_000);
  const ends: number[] = [];
  for (const part of partsOf(op)) {
    assert.ok(part.call === "write" && part.offset !== null);
    file.set(pattern(part), part.offset);
    ends.push(part.offset + part.length);
  }
  assert.deepEqual(ends, [4096, 8192, 12288, 13000]);
  assert.deepEqual(file.slice(4000, 13000), pattern(op));
  assert.deepEqual(partsOf({ call: "unlink", path: "a" }), [{ call: "unlink", path: "a" }]);
});

Deno.test("soak: the parts of a copy end at pages of either file", () => {
  const from = { path: "a" };
  const op = { call: "copy", from, fromOffset: 96, to: from, offset: 4000, length: 5000 } as const;
  const parts = partsOf(op).map((part) => part.call === "copy" ? part.length : null);
  assert.deepEqual(parts, [96, 3904, 192, 808]);
  const [, rest] = split(op, 4000);
  assert.deepEqual(rest, { ...op, fromOffset: 4096, offset: 8000, length: 1000 });
});

Deno.test("soak: a seed gives the same operations again, each in its lane", () => {
  const tree: Tree = Object.fromEntries(
    [".", "a", "a/f0", "b", "b/sub", "top", "top/f1"].map((path) => [
      path,
      seen({ kind: /\d$/.test(path) ? "file" : "directory" }),
    ]),
  );
  const sequence = () => {
    const generator = new Generator(new Random(5), { xattrs: true });
    generator.learn(tree);
    return Array.from({ length: 2000 }, (_, i) => {
      const lane = LANES[i % 3] as typeof LANES[number];
      return { lane, op: generator.next(lane) };
    });
  };
  const operations = sequence();
  assert.deepEqual(sequence(), operations);
  for (const { lane, op } of operations) {
    const strings = JSON.stringify(op, (key, value) => key === "target" ? undefined : value);
    const paths = [...strings.matchAll(/"(?:path|from)":"([^"]*)"/g)].map(([, path]) => path ?? "");
    for (const path of paths) assert.equal(laneOf(path), lane, strings);
    // The lane itself stays.
    if (op.call === "rename") assert.ok(op.from !== lane && op.path !== lane, strings);
    if (op.call === "rmdir") assert.notEqual(op.path, lane);
  }
  // Every call there is.
  assert.equal(new Set(operations.map(({ op }) => op.call)).size, 27);
});
