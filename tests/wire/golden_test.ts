import assert from "node:assert/strict";
import { OPS } from "../../src/fuse/ops.ts";
import { FakeFilesystem } from "../fakes/fake_filesystem.ts";
import { converse } from "../fakes/session_harness.ts";
import { dump, hex, readRequest, request } from "../fakes/wire_bytes.ts";
import { FIXED_ANSWERS, GOLDEN } from "./golden.ts";

for (const golden of GOLDEN) {
  Deno.test(`${golden.name}: request and reply byte by byte`, () => {
    const filesystem = new FakeFilesystem(golden.script);
    const { replies, log } = converse(filesystem, hex(golden.request));
    assert.deepEqual(filesystem.calls, golden.calls);
    assert.deepEqual(log, []);
    if (golden.reply === null) {
      assert.deepEqual(replies, []);
      return;
    }
    assert.equal(replies.length, 1);
    assert.equal(dump(replies[0] as Uint8Array), dump(hex(golden.reply)));
  });
}

for (const [opcode, name, body, errno] of FIXED_ANSWERS) {
  Deno.test(`${name}: answered ${errno === 0 ? "empty" : `with errno ${errno}`}`, () => {
    const filesystem = new FakeFilesystem();
    const { replies, log } = converse(
      filesystem,
      request({ opcode, unique: 0xcafebabedeadbeefn, nodeid: 2 }, hex(body)),
    );
    assert.equal(replies.length, 1);
    const error = { 0: "00000000", 38: "daffffff" }[errno];
    assert.equal(
      dump(replies[0] as Uint8Array),
      dump(hex(`
        10000000          # len 16
        ${error}          # minus errno
        efbeaddebebafeca  # unique
      `)),
    );
    assert.deepEqual(filesystem.calls, []);
    assert.deepEqual(log, []);
  });
}

Deno.test("every row of the table has golden bytes", () => {
  const tested = new Set([
    ...GOLDEN.map(({ request }) => hex(request)[4] as number),
    ...FIXED_ANSWERS.map(([opcode]) => opcode),
  ]);
  assert.deepEqual([...OPS.keys()].filter((opcode) => !tested.has(opcode)), []);
});

Deno.test("the rows that answer ENOSYS are those that may, and FSYNC is not among them", () => {
  const answers = FIXED_ANSWERS.filter(([, , , errno]) => errno === 38).map(([opcode]) => opcode);
  const may = [...OPS].filter(([, op]) => op.mayAnswerEnosys).map(([opcode]) => opcode);
  assert.deepEqual(may.sort((a, b) => a - b), answers.sort((a, b) => a - b));
  assert.ok(!may.includes(20) && !may.includes(30));
});

Deno.test("an error of the file system is the reply's errno, negative, and not logged", () => {
  const asked = GOLDEN.filter(({ name, reply, calls }) =>
    reply !== null && calls.length > 0 && name !== "LOOKUP of a name that is not there"
  );
  assert.ok(asked.length > 30);
  for (const { name, request } of asked) {
    const { replies, log } = converse(new FakeFilesystem({ hasXattrs: true }), hex(request));
    assert.equal(
      replies.map(dump).join("\n"),
      dump(hex(`
        10000000          # len 16
        feffffff          # -ENOENT
        efbeaddebebafeca  # unique
      `)),
      name,
    );
    assert.deepEqual(log, []);
  }
});

Deno.test("an unknown opcode: ENOSYS each time, one line in the log", () => {
  const unknown = (opcode: number, unique: number) => request({ opcode, unique }, [1, 2, 3]);
  const { device, log } = converse(
    new FakeFilesystem(),
    unknown(999, 1),
    unknown(999, 2),
    unknown(4096, 3),
    unknown(0xffffffff, 4),
    unknown(48, 5),
    unknown(999, 6),
  );
  for (const unique of [1, 2, 3, 4, 5, 6]) assert.equal(device.replyTo(unique).error, -38);
  assert.deepEqual(log.map(({ message, fields }) => [message, fields["opcode"]]), [
    ["Unknown opcode", 999],
    ["Unknown opcode", 4096],
    ["Unknown opcode", 0xffffffff],
    ["Unknown opcode", 48],
  ]);
});

Deno.test("every reply is the same after one that filled the buffer", () => {
  for (const golden of GOLDEN.filter(({ name, reply }) => reply !== null && name !== "READ")) {
    const filesystem = new FakeFilesystem({
      ...golden.script,
      read: (_nodeid, _offset, into) => into.fill(0xff).length,
    });
    const { replies } = converse(filesystem, readRequest(1, 2, 0, 4096), hex(golden.request));
    assert.equal(dump(replies[1] as Uint8Array), dump(hex(golden.reply ?? "")), golden.name);
  }
});

Deno.test("a listing has no bytes of the reply before it", () => {
  const full = GOLDEN.find(({ name }) => name === "READDIRPLUS");
  const filesystem = new FakeFilesystem({
    ...full?.script,
    readdir: (_nodeid, _offset, sink) => void sink.add("ab" as never, 1, 8, 1),
  });
  const readdir = GOLDEN.find(({ name }) => name === "READDIR")?.request ?? "";
  const { replies } = converse(filesystem, hex(full?.request ?? ""), hex(readdir));
  assert.equal(
    dump(replies[1] as Uint8Array),
    dump(hex(`
      30000000 00000000 efbeaddebebafeca
      0100000000000000 0100000000000000 02000000 08000000
      6162 000000000000 # name, padding is zero
    `)),
  );
});
