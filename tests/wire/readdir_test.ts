/** Packing of directory records, through a session and the real file system. */

import assert from "node:assert/strict";
import fc from "fast-check";
import type { Filesystem } from "../../src/fuse/filesystem.ts";
import type { MergedFilesystem } from "../../src/vfs/merged_filesystem.ts";
import { FakeObjects, fakeOid } from "../fakes/fake_objects.ts";
import { FakeFilesystem } from "../fakes/fake_filesystem.ts";
import { OverlayWorld } from "../fakes/overlay_world.ts";
import { SessionHarness } from "../fakes/session_harness.ts";
import { fromLe, OP, readBody, request } from "../fakes/wire_bytes.ts";

const ROOT = fakeOid(1);

interface Dirent {
  readonly name: string;
  readonly ino: number;
  readonly off: number;
  readonly type: number;
  readonly nodeid: number;
}

/** Takes a READDIR or READDIRPLUS body apart by hand. */
function parse(body: Uint8Array, plus: boolean): Dirent[] {
  const out: Dirent[] = [];
  const entryBytes = plus ? 128 : 0;
  for (let at = 0; at < body.length;) {
    const dirent = at + entryBytes;
    const nameBytes = Number(fromLe(body, dirent + 16, 4));
    const end = dirent + 24 + nameBytes;
    assert.ok(end <= body.length, "a record that leaves the reply");
    out.push({
      nodeid: plus ? Number(fromLe(body, at, 8)) : 0,
      ino: Number(fromLe(body, dirent, 8)),
      off: Number(fromLe(body, dirent + 8, 8)),
      type: Number(fromLe(body, dirent + 20, 4)),
      name: String.fromCharCode(...body.subarray(dirent + 24, end)),
    });
    at = Math.ceil(end / 8) * 8;
    assert.ok(at <= body.length, "padding is missing");
  }
  return out;
}

const recordBytes = (name: string, plus: boolean) =>
  (plus ? 128 : 0) + Math.ceil((24 + name.length) / 8) * 8;

const worlds: OverlayWorld[] = [];
Deno.test.afterEach(() => {
  for (const world of worlds.splice(0)) world[Symbol.dispose]();
});

function mounted(names: readonly string[]): MergedFilesystem {
  const objects = new FakeObjects().putTree(
    ROOT,
    names.map((name, i) => ({ mode: "100644", name, oid: fakeOid(100 + i) })),
  );
  const world = new OverlayWorld({ objects, rootTreeOid: ROOT });
  worlds.push(world);
  return world.filesystem;
}

/** Reads a directory to its end as the kernel does: the last cookie is the next offset. */
function list(filesystem: Filesystem, sizeBytes: number, plus: boolean): Dirent[] {
  const harness = new SessionHarness(filesystem);
  const all: Dirent[] = [];
  const opcode = plus ? OP.READDIRPLUS : OP.READDIR;
  let unique = 1;
  const ask = (offset: number) =>
    harness.device.push(request({ opcode, unique: unique++ }, readBody(offset, sizeBytes)));
  const next = () => {
    const { error, body } = harness.device.replyTo(unique - 1);
    assert.equal(error, 0);
    assert.ok(body.length <= sizeBytes);
    const part = parse(body, plus);
    all.push(...part);
    const last = part.at(-1);
    if (last === undefined) return;
    ask(last.off);
    harness.device.onWait(next);
  };
  harness.device.onWait(next);
  ask(0);
  harness.run();
  return all;
}

const NAMES = [
  "a",
  "bb",
  "\xe9\xff\x01",
  "eight008",
  "seven07",
  "nine00009",
  "n".repeat(255),
  "z",
];
const EXPECTED = [".", "..", ".git", ...NAMES];

for (const plus of [false, true]) {
  const what = plus ? "READDIRPLUS" : "READDIR";

  Deno.test(`${what}: every entry once, whatever the size of the buffer`, () => {
    const smallest = Math.max(...EXPECTED.map((name) => recordBytes(name, plus)));
    const whole = EXPECTED.reduce((sum, name) => sum + recordBytes(name, plus), 0);
    for (let size = smallest; size <= whole + 8; size += size < smallest + 80 ? 1 : 13) {
      const dirents = list(mounted(NAMES), size, plus);
      assert.deepEqual(dirents.map(({ name }) => name), EXPECTED, `size ${size}`);
      const cookies = dirents.map(({ off }) => off);
      assert.deepEqual(cookies, [...cookies].sort((a, b) => a - b));
      assert.equal(new Set(cookies).size, cookies.length);
    }
  });

  Deno.test(`${what}: records that fill the buffer exactly are all in it, one byte less is not`, () => {
    for (let count = 1; count <= EXPECTED.length; count++) {
      const size = EXPECTED.slice(0, count)
        .reduce((sum, name) => sum + recordBytes(name, plus), 0);
      for (const [bytes, expected] of [[size, count], [size - 1, count - 1]] as const) {
        const harness = new SessionHarness(mounted(NAMES));
        const opcode = plus ? OP.READDIRPLUS : OP.READDIR;
        harness.device.push(request({ opcode, unique: 1 }, readBody(0, bytes)));
        harness.run();
        const dirents = parse(harness.device.replyTo(1).body, plus);
        assert.deepEqual(dirents.map(({ name }) => name), EXPECTED.slice(0, expected));
      }
    }
  });

  Deno.test(`${what}: resuming at each cookie gives what comes after it`, () => {
    const all = list(mounted(NAMES), 65536, plus);
    const filesystem = mounted(NAMES);
    all.forEach(({ off }, i) => {
      const harness = new SessionHarness(filesystem);
      const opcode = plus ? OP.READDIRPLUS : OP.READDIR;
      harness.device.push(request({ opcode, unique: 1 }, readBody(off, 65536)));
      harness.run();
      const rest = parse(harness.device.replyTo(1).body, plus);
      assert.deepEqual(rest.map(({ name }) => name), EXPECTED.slice(i + 1));
    });
  });

  Deno.test(`${what}: an offset behind the end is the end`, () => {
    for (const offset of [1000, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
      const harness = new SessionHarness(mounted(NAMES));
      const opcode = plus ? OP.READDIRPLUS : OP.READDIR;
      harness.device.push(request({ opcode, unique: 1 }, readBody(offset, 4096)));
      harness.run();
      assert.deepEqual(harness.device.replyTo(1), {
        unique: 1n,
        error: 0,
        body: new Uint8Array(),
      });
    }
  });

  Deno.test(`${what}: property: names of any length and bytes, any buffer`, () => {
    const byteName = fc.uint8Array({ minLength: 1, maxLength: 255 })
      .map((bytes) => String.fromCharCode(...bytes.map((b) => b === 0 || b === 0x2f ? 0x41 : b)))
      .filter((name) => !["", ".", ".."].includes(name) && name.toLowerCase() !== ".git");
    fc.assert(
      fc.property(
        fc.uniqueArray(byteName, { maxLength: 40 }),
        fc.integer({ min: 408, max: 5000 }),
        (names, size) => {
          const dirents = list(mounted(names), size, plus);
          assert.deepEqual(dirents.map(({ name }) => name), [".", "..", ".git", ...names]);
        },
      ),
      { numRuns: 40 },
    );
  });
}

Deno.test("READDIRPLUS counts lookups for exactly the entries that are in the reply", () => {
  const filesystem = mounted(NAMES);
  const dirents = list(filesystem, 700, true);
  const nodeids = dirents.filter(({ name }) => name !== "." && name !== "..")
    .map(({ nodeid }) => nodeid);
  assert.ok(nodeids.every((nodeid) => nodeid > 1));
  assert.equal(filesystem.nodeCount, 1 + nodeids.length);
  for (const nodeid of nodeids) filesystem.forget(nodeid, 1);
  assert.equal(filesystem.nodeCount, 1);
});

Deno.test("READDIRPLUS gives no entry for . and .., and the same ino as READDIR", () => {
  const plus = list(mounted(NAMES), 65536, true);
  const plain = list(mounted(NAMES), 65536, false);
  assert.deepEqual(plus.slice(0, 2).map(({ nodeid }) => nodeid), [0, 0]);
  assert.deepEqual(plus.map(({ ino }) => ino), plain.map(({ ino }) => ino));
  assert.deepEqual(plus.map(({ off }) => off), plain.map(({ off }) => off));
  assert.deepEqual(plus.map(({ type }) => type), [4, 4, 8, ...NAMES.map(() => 8)]);
});

Deno.test("a buffer too small for one record gets an empty reply, and counts nothing", () => {
  const filesystem = mounted(["n".repeat(255)]);
  const harness = new SessionHarness(filesystem);
  harness.device.push(request({ opcode: OP.READDIRPLUS, unique: 1 }, readBody(3, 400)));
  harness.device.push(request({ opcode: OP.READDIRPLUS, unique: 2 }, readBody(3, 0)));
  harness.run();
  assert.equal(harness.device.replyTo(1).body.length, 0);
  assert.equal(harness.device.replyTo(2).body.length, 0);
  assert.equal(filesystem.nodeCount, 1);
});

Deno.test("`fits` says what `addPlus` will do", () => {
  for (let size = 0; size < 700; size += 4) {
    const filesystem = new FakeFilesystem({
      readdirplus: (_nodeid, _offset, sink) => {
        for (let i = 1; i < 5; i++) {
          const name = "x".repeat(7 * i) as never;
          const fits = sink.fits(name);
          assert.equal(sink.addPlus(name, i, 8, i, null), fits);
        }
      },
    });
    const harness = new SessionHarness(filesystem);
    harness.device.push(request({ opcode: OP.READDIRPLUS, unique: 1 }, readBody(0, size)));
    harness.run();
    assert.equal(harness.device.replyTo(1).error, 0, `size ${size}`);
  }
});
