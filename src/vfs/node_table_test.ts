import assert from "node:assert/strict";
import fc from "fast-check";
import { fakeOid } from "../../tests/fakes/fake_objects.ts";
import { Bug } from "../failure.ts";
import type { Name } from "../path.ts";
import { inoOf, ROOT_INO } from "./ino.ts";
import { type Node, NodeTable } from "./node_table.ts";

const ROOT = fakeOid(1);
const name = (text: string) => text as Name;

function lookup(table: NodeTable, ...child: Parameters<NodeTable["child"]>): Node {
  return table.count(table.child(...child));
}

Deno.test("a new table holds the root, which is nodeid 1 and ino 1", () => {
  const table = new NodeTable(ROOT, () => {});
  assert.equal(table.size, 1);
  assert.equal(table.root.nodeid, 1);
  assert.equal(table.root.ino, ROOT_INO);
  assert.equal(table.get(1), table.root);
  assert.equal(table.get(2), undefined);
  assert.deepEqual(table.root.treeIds(), [ROOT]);
});

Deno.test("a lookup makes a node once and counts each time", () => {
  const table = new NodeTable(ROOT, () => {});
  const a = lookup(table, table.root, name("a"), "file", fakeOid(2));
  assert.equal(lookup(table, table.root, name("a"), "file", fakeOid(2)), a);
  assert.equal(a.lookupCount, 2);
  assert.equal(table.size, 2);
  assert.equal(table.get(a.nodeid), a);
});

Deno.test("a node goes when all lookups are forgotten, and its nodeid is not used again", () => {
  const table = new NodeTable(ROOT, () => {});
  const first = lookup(table, table.root, name("a"), "file", fakeOid(2));
  lookup(table, table.root, name("a"), "file", fakeOid(2));
  table.forget(first.nodeid, 1);
  assert.equal(table.get(first.nodeid), first);
  table.forget(first.nodeid, 1);
  assert.equal(table.get(first.nodeid), undefined);
  const second = lookup(table, table.root, name("a"), "file", fakeOid(2));
  assert.notEqual(second.nodeid, first.nodeid);
  assert.equal(second.ino, first.ino);
});

Deno.test("a forgotten directory stays while a child of it is known", () => {
  const table = new NodeTable(ROOT, () => {});
  const dir = lookup(table, table.root, name("d"), "directory", fakeOid(2));
  const sub = lookup(table, dir, name("s"), "directory", fakeOid(3));
  const file = lookup(table, sub, name("f"), "file", fakeOid(4));
  assert.deepEqual(sub.treeIds(), [ROOT, fakeOid(2), fakeOid(3)]);
  table.forget(dir.nodeid, 1);
  table.forget(sub.nodeid, 1);
  assert.equal(table.size, 4);
  assert.equal(lookup(table, table.root, name("d"), "directory", fakeOid(2)), dir);
  table.forget(dir.nodeid, 1);
  table.forget(file.nodeid, 1);
  assert.equal(table.size, 1);
});

Deno.test("the root and unknown nodes may be forgotten any number of times", () => {
  const table = new NodeTable(ROOT, () => {});
  table.forget(1, 1_000_000);
  table.forget(99, 1);
  assert.equal(table.get(1), table.root);
});

Deno.test("to forget more than was looked up is a Bug", () => {
  const table = new NodeTable(ROOT, () => {});
  const a = lookup(table, table.root, name("a"), "file", fakeOid(2));
  assert.throws(() => table.forget(a.nodeid, 2), Bug);
});

Deno.test("ino of a file follows from path and content, of a directory from its path", () => {
  const table = new NodeTable(ROOT, () => {});
  const { root } = table;
  assert.equal(
    table.childIno(root, name("a"), "file", fakeOid(2)),
    inoOf(ROOT_INO, "a", fakeOid(2)),
  );
  assert.equal(
    table.childIno(root, name("a"), "directory", fakeOid(2)),
    table.childIno(root, name("a"), "directory", fakeOid(3)),
  );
  assert.notEqual(
    table.childIno(root, name("a"), "file", fakeOid(2)),
    table.childIno(root, name("a"), "file", fakeOid(3)),
  );
  assert.equal(table.size, 1, "asking makes no node");
});

Deno.test("a listing and a lookup give the same ino, before and after", () => {
  const table = new NodeTable(ROOT, () => {});
  const listed = table.childIno(table.root, name("a"), "file", fakeOid(2));
  const node = lookup(table, table.root, name("a"), "file", fakeOid(2));
  assert.equal(node.ino, listed);
  assert.equal(table.childIno(table.root, name("a"), "file", fakeOid(2)), listed);
});

Deno.test("property: counts add up, nodeids are never reused, live inos differ", () => {
  const step = fc.record({
    forget: fc.boolean(),
    which: fc.nat({ max: 1000 }),
    name: fc.constantFrom("a", "b", "c"),
    directory: fc.boolean(),
  });
  fc.assert(fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
    const table = new NodeTable(ROOT, () => {});
    const counts = new Map<Node, number>();
    const used = new Set<number>([1]);
    const alive = () => [...counts].filter(([node]) => table.get(node.nodeid) === node);
    for (const { forget, which, name: text, directory } of steps) {
      const held = alive().filter(([, count]) => count > 0);
      if (forget) {
        const [node, count] = held[which % (held.length || 1)] ?? [];
        if (node === undefined || count === undefined) continue;
        const nlookup = 1 + which % count;
        counts.set(node, count - nlookup);
        table.forget(node.nodeid, nlookup);
      } else {
        const parents = [table.root, ...held.map(([node]) => node)]
          .filter(({ kind }) => kind === "directory");
        const parent = parents[which % parents.length] as Node;
        // One name is always of one kind, as in a tree.
        const kind = text === "a" || directory && text === "b" ? "directory" : "file";
        const node = lookup(table, parent, name(`${text}${kind}`), kind, fakeOid(5));
        if (!counts.has(node)) {
          assert.ok(!used.has(node.nodeid), "a nodeid was used again");
          used.add(node.nodeid);
        }
        counts.set(node, (counts.get(node) ?? 0) + 1);
      }
      for (const [node, count] of counts) {
        if (count > 0) assert.equal(table.get(node.nodeid), node);
        assert.equal(node.lookupCount, count);
      }
      const inos = alive().map(([node]) => node.ino);
      assert.equal(new Set(inos).size, inos.length);
    }
    for (const [node, count] of counts) if (count > 0) table.forget(node.nodeid, count);
    assert.equal(table.size, 1);
  }));
});
