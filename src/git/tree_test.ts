import assert from "node:assert/strict";
import fc from "fast-check";
import { fakeOid, type RawEntry, rawTree } from "../../tests/fakes/fake_objects.ts";
import { parseTree, type TreeEntry } from "./tree.ts";

const OID = fakeOid(0xbeef);

function entries(...raw: RawEntry[]): readonly TreeEntry[] {
  return parseTree(rawTree(raw), "sha1").entries;
}

Deno.test("a tree object written down byte by byte", () => {
  const hex = "31303036343420610000010203040506070809" + "0a0b0c0d0e0f10111213" + // 100644 a
    "3430303030206200" + "ff".repeat(20); // 40000 b
  const raw = Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
  assert.deepEqual(parseTree(raw, "sha1"), {
    entries: [
      { name: "a", kind: "file", oid: "000102030405060708090a0b0c0d0e0f10111213" },
      { name: "b", kind: "directory", oid: "ff".repeat(20) },
    ],
    hidden: 0,
  });
});

Deno.test("modes become kinds as git reads them", () => {
  const cases: readonly (readonly [string, TreeEntry["kind"] | null])[] = [
    ["100644", "file"],
    ["100664", "file"],
    ["100600", "file"],
    ["100666", "file"],
    ["100755", "executable"],
    ["100775", "executable"],
    ["100700", "executable"],
    ["100655", "file"],
    ["120000", "symlink"],
    ["120777", "symlink"],
    ["40000", "directory"],
    ["040000", "directory"],
    ["40755", "directory"],
    ["160000", "gitlink"],
    ["104755", "executable"], // setuid: not shown as such
    ["10644", null], // a fifo
    ["60644", null],
    ["20644", null],
    ["140644", null],
    ["644", null],
    ["0", null],
  ];
  for (const [mode, kind] of cases) {
    const { entries, hidden } = parseTree(rawTree([{ mode, name: "x", oid: OID }]), "sha1");
    assert.deepEqual(entries.map((entry) => entry.kind), kind === null ? [] : [kind], mode);
    assert.equal(hidden, kind === null ? 1 : 0);
  }
});

Deno.test("names that would leave the mount or look like git's own are hidden, others stay", () => {
  const hostile = [".", "..", "", "a/b", "../x", "/", "/etc", ".git", ".GIT", ".Git", ".gIt"];
  for (const name of [...hostile, "x".repeat(256)]) {
    const parsed = parseTree(
      rawTree([
        { mode: "100644", name: "before", oid: OID },
        { mode: "40000", name, oid: OID },
        { mode: "100644", name: "behind", oid: OID },
      ]),
      "sha1",
    );
    assert.deepEqual(parsed.entries.map((entry) => entry.name), ["before", "behind"], name);
    assert.equal(parsed.hidden, 1);
  }
});

Deno.test("names that are only odd are shown", () => {
  const odd = [
    "...",
    " ",
    "\n",
    "\xff\xfe",
    "\\",
    ".gitmodules",
    ".git2",
    "git",
    "-",
    "x".repeat(255),
  ];
  const shown = entries(...odd.map((name) => ({ mode: "100644", name, oid: OID })));
  assert.deepEqual(shown.map(({ name }) => name), odd);
});

Deno.test("of entries with one name the first counts", () => {
  const parsed = parseTree(
    rawTree([
      { mode: "100644", name: "a", oid: fakeOid(1) },
      { mode: "40000", name: "a", oid: fakeOid(2) },
      { mode: "100755", name: "a", oid: fakeOid(3) },
    ]),
    "sha1",
  );
  assert.deepEqual(parsed, {
    entries: [{ name: "a", kind: "file", oid: fakeOid(1) }],
    hidden: 2,
  });
});

Deno.test("a hidden entry does not take its name from a later one", () => {
  const shown = entries(
    { mode: "10644", name: "a", oid: fakeOid(1) },
    { mode: "100644", name: "a", oid: fakeOid(2) },
  );
  assert.deepEqual(shown.map(({ oid }) => oid), [fakeOid(2)]);
});

Deno.test("entries keep the order of the tree, also a wrong one", () => {
  const names = ["z", "a", "m", "B", "\xff", "\x01"];
  const shown = entries(...names.map((name) => ({ mode: "100644", name, oid: OID })));
  assert.deepEqual(shown.map(({ name }) => name), names);
});

Deno.test("a tree cut anywhere shows the whole entries before the cut", () => {
  const raw = rawTree([
    { mode: "100644", name: "first", oid: OID },
    { mode: "40000", name: "second", oid: OID },
    { mode: "120000", name: "third", oid: OID },
  ]);
  const ends = [33, 33 + 33, 33 + 33 + 33];
  for (let length = 0; length <= raw.length; length++) {
    const { entries, hidden } = parseTree(raw.subarray(0, length), "sha1");
    assert.equal(entries.length, ends.filter((end) => end <= length).length, `at ${length}`);
    assert.equal(hidden, length === 0 || ends.includes(length) ? 0 : 1, `at ${length}`);
  }
});

Deno.test("bytes that are no mode end the tree", () => {
  for (const mode of ["", "10064x", "x", "100844", "-100644", " 100644"]) {
    const parsed = parseTree(
      rawTree([
        { mode: "100644", name: "before", oid: OID },
        { mode, name: "a", oid: OID },
      ]),
      "sha1",
    );
    assert.deepEqual(parsed.entries.map(({ name }) => name), ["before"], JSON.stringify(mode));
    assert.equal(parsed.hidden, 1);
  }
});

Deno.test("the empty tree has no entries", () => {
  assert.deepEqual(parseTree(new Uint8Array(), "sha1"), { entries: [], hidden: 0 });
});

Deno.test("sha256 oids have 32 bytes", () => {
  const raw = rawTree([
    { mode: "100644", name: "a", oid: fakeOid(1, "sha256") },
    { mode: "160000", name: "b", oid: fakeOid(2, "sha256") },
  ]);
  assert.deepEqual(parseTree(raw, "sha256").entries, [
    { name: "a", kind: "file", oid: fakeOid(1, "sha256") },
    { name: "b", kind: "gitlink", oid: fakeOid(2, "sha256") },
  ] as unknown as TreeEntry[]);
});

const MODES: readonly (readonly [string, TreeEntry["kind"]])[] = [
  ["100644", "file"],
  ["100755", "executable"],
  ["120000", "symlink"],
  ["40000", "directory"],
  ["160000", "gitlink"],
];

const byteName = fc.uint8Array({ minLength: 1, maxLength: 255 })
  .map((bytes) => String.fromCharCode(...bytes.map((b) => b === 0 || b === 0x2f ? 0x41 : b)))
  .filter((name) => name !== "." && name !== ".." && name.toLowerCase() !== ".git");

for (const [format, digits] of [["sha1", 40], ["sha256", 64]] as const) {
  Deno.test(`property: a generated ${format} tree gives its entries back`, () => {
    const entry = fc.record({
      mode: fc.constantFrom(...MODES),
      name: byteName,
      oid: fc.stringMatching(new RegExp(`^[0-9a-f]{${digits}}$`)),
    });
    fc.assert(
      fc.property(
        fc.uniqueArray(entry, { selector: ({ name }) => name, maxLength: 50 }),
        (generated) => {
          const raw = rawTree(generated.map(({ mode, ...rest }) => ({ ...rest, mode: mode[0] })));
          const { entries, hidden } = parseTree(raw, format);
          assert.equal(hidden, 0);
          assert.deepEqual(
            entries,
            generated.map(({ mode, name, oid }) => ({ name, kind: mode[1], oid })),
          );
        },
      ),
    );
  });
}

Deno.test("property: random bytes never throw, and what is shown is safe", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), (raw) => {
    for (const { name } of parseTree(raw, "sha1").entries) {
      assert.ok(!name.includes("/") && !name.includes("\0") && name !== ".." && name !== "");
    }
  }));
});
