/** What the rows decide by themselves: flags, room for values, times, targets, cut lengths. */

import assert from "node:assert/strict";
import { DONE, FakeFilesystem, type Script } from "../fakes/fake_filesystem.ts";
import { converse } from "../fakes/session_harness.ts";
import { cName, copyBody, OP, request, setattrBody, u32, u64 } from "../fakes/wire_bytes.ts";

const EINVAL = -22;
const ENXIO = -6;
const ERANGE = -34;
const ENAMETOOLONG = -36;

/** One request to a file system that does what it is asked. */
function ask(opcode: number, body: ArrayLike<number>, script: Script = DONE) {
  const filesystem = new FakeFilesystem({ ...script, hasXattrs: true });
  const { device, log } = converse(filesystem, request({ opcode, unique: 1, nodeid: 2 }, body));
  assert.deepEqual(log, []);
  const { error, body: answer } = device.replyTo(1);
  return { error, answer: [...answer], calls: filesystem.calls };
}

Deno.test("RENAME2 takes NOREPLACE or EXCHANGE; anything else is EINVAL", () => {
  const rename2 = (flags: number) =>
    ask(OP.RENAME2, [...u64(3), ...u32(flags), ...u32(0), ...cName("a"), ...cName("b")]);
  for (const flags of [0, 1, 2]) {
    const { error, calls } = rename2(flags);
    assert.equal(error, 0);
    assert.deepEqual(calls, [["rename", 2, "a", 3, "b", flags]]);
  }
  for (const flags of [3, 4, 5, 6, 8, 0x80000000, 0xffffffff]) {
    const { error, calls } = rename2(flags);
    assert.equal(error, EINVAL, `flags ${flags}`);
    assert.deepEqual(calls, []);
  }
});

Deno.test("LSEEK asks for data and holes only, and finds none at numbers no file reaches", () => {
  const lseek = (offset: number | bigint, whence: number) =>
    ask(OP.LSEEK, [...u64(0), ...u64(offset), ...u64(whence)]);
  for (const whence of [3, 4]) {
    assert.deepEqual(lseek(7, whence).calls, [["lseek", 2, 7, whence]]);
    const max = Number.MAX_SAFE_INTEGER;
    assert.deepEqual(lseek(max, whence).calls, [["lseek", 2, max, whence]]);
    for (const offset of [2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n]) {
      const { error, calls } = lseek(offset, whence);
      assert.equal(error, ENXIO, `offset ${offset}`);
      assert.deepEqual(calls, []);
    }
  }
  for (const whence of [0, 1, 2, 5, 0xffffffff]) assert.equal(lseek(0, whence).error, EINVAL);
});

Deno.test("COPY_FILE_RANGE takes no flags", () => {
  for (const opcode of [OP.COPY_FILE_RANGE, OP.COPY_FILE_RANGE_64]) {
    for (const flags of [1, 2n ** 32n, 2n ** 63n]) {
      const { error, calls } = ask(opcode, copyBody(0, 0, 1, flags));
      assert.equal(error, EINVAL);
      assert.deepEqual(calls, []);
    }
  }
});

Deno.test("COPY_FILE_RANGE is cut to what its reply can say, COPY_FILE_RANGE_64 is not", () => {
  for (const length of [0, 1, 0xffffefff, 0xfffff000]) {
    for (const opcode of [OP.COPY_FILE_RANGE, OP.COPY_FILE_RANGE_64]) {
      assert.deepEqual(ask(opcode, copyBody(5, 6, length)).calls, [
        ["copyFileRange", 2, 5, 3, 6, length],
      ]);
    }
  }
  for (const length of [0xfffff001, 0xffffffff, 2 ** 32, 2 ** 52]) {
    const copyOf = (opcode: number) => ask(opcode, copyBody(5, 6, length)).calls[0]?.at(-1);
    assert.equal(copyOf(OP.COPY_FILE_RANGE), 0xfffff000);
    assert.equal(copyOf(OP.COPY_FILE_RANGE_64), length);
  }
});

Deno.test("a link's target has 1 to 4095 bytes, any but NUL", () => {
  const symlink = (target: string) => ask(OP.SYMLINK, [...cName("a"), ...cName(target)]);
  const caller = { uid: 1000, gid: 1001, pid: 4242 };
  for (const target of [".", "/", "a/b//c/", "\xff\x01\x80", "n".repeat(4095)]) {
    const { error, calls } = symlink(target);
    assert.equal(error, 0);
    assert.deepEqual(calls, [["symlink", 2, "a", target, caller]]);
  }
  for (const length of [4096, 4097, 60_000]) {
    const { error, calls } = symlink("n".repeat(length));
    assert.equal(error, ENAMETOOLONG);
    assert.deepEqual(calls, []);
  }
});

Deno.test("what the file system may keep is a copy: targets and values", () => {
  const kept: Uint8Array[] = [];
  const filesystem = new FakeFilesystem({
    ...DONE,
    hasXattrs: true,
    symlink: (_parent, _name, target) => {
      kept.push(target);
      return DONE.symlink();
    },
    setxattr: (_nodeid, _name, value) => void kept.push(value),
  });
  const xattr = (
    value: number[],
  ) => [...u32(value.length), ...u32(0), ...cName("user.x"), ...value];
  converse(
    filesystem,
    request({ opcode: OP.SYMLINK, unique: 1 }, [...cName("a"), ...cName("first")]),
    request({ opcode: OP.SETXATTR, unique: 2 }, xattr([1, 2, 3])),
    request({ opcode: OP.SETXATTR, unique: 3 }, xattr(new Array(200).fill(9))),
  );
  assert.deepEqual(kept.slice(0, 2).map((bytes) => [...bytes]), [
    Array.from("first", (char) => char.charCodeAt(0)),
    [1, 2, 3],
  ]);
  for (const bytes of kept) assert.equal(bytes.buffer.byteLength, bytes.length);
});

Deno.test("SETATTR: each bit of `valid` is one change, and those that do not count are none", () => {
  const fields = [
    ...u64(11), // fh
    ...u64(0x100000022), // size
    ...u64(33), // lock_owner
    ...[44, 55, 66].flatMap(u64), // atime, mtime, ctime
    ...[77, 88, 99].flatMap(u32), // their nanoseconds
    ...[0o640, 111, 222, 333, 444].flatMap(u32), // mode, unused, uid, gid, unused
  ];
  const expected: Record<number, object> = {
    0: { mode: 0o640 },
    1: { uid: 222 },
    2: { gid: 333 },
    3: { sizeBytes: 0x100000022 },
    4: { atime: { seconds: 44, nanoseconds: 77 } },
    5: { mtime: { seconds: 55, nanoseconds: 88 } },
    7: { atime: "now" },
    8: { mtime: "now" },
    11: { killSuidGidFor: 1001 },
  };
  for (let bit = 0; bit < 32; bit++) {
    const { error, calls } = ask(OP.SETATTR, [...u32(2 ** bit), ...u32(0), ...fields]);
    assert.equal(error, 0);
    assert.deepEqual(
      calls,
      // Without a change it takes setuid and setgid away.
      [["setattr", 2, { killSuidGidFor: expected[bit] ? null : 1001, ...expected[bit] }]],
      `bit ${bit}`,
    );
  }
});

Deno.test("times before 1970 and far away arrive, beyond 2^53 they are cut to it", () => {
  const max = Number.MAX_SAFE_INTEGER;
  const rows: readonly (readonly [bigint, number])[] = [
    [0n, 0],
    [-1n, -1],
    [-(2n ** 31n), -(2 ** 31)],
    [2n ** 32n, 2 ** 32],
    [-(2n ** 32n), -(2 ** 32)],
    [BigInt(max), max],
    [-BigInt(max), -max],
    [2n ** 53n, max],
    [-(2n ** 53n) - 1n, -max],
    [2n ** 63n - 1n, max],
    [-(2n ** 63n), -max],
  ];
  for (const [sent, seconds] of rows) {
    const body = setattrBody(32);
    body.splice(40, 8, ...u64(BigInt.asUintN(64, sent)));
    const mtime = { seconds, nanoseconds: 0 };
    assert.deepEqual(ask(OP.SETATTR, body).calls, [["setattr", 2, {
      killSuidGidFor: null,
      mtime,
    }]]);
  }
});

for (
  const [kind, opcode, name] of [
    ["GETXATTR", OP.GETXATTR, cName("user.x")],
    ["LISTXATTR", OP.LISTXATTR, []],
  ] as const
) {
  Deno.test(`${kind}: a size of 0 asks for the size, too little room is ERANGE`, () => {
    const found = (bytes: number[]): Script => ({
      getxattr: () => Uint8Array.from(bytes),
      listxattr: () => Uint8Array.from(bytes),
    });
    const asked = (room: number, bytes: number[]) =>
      ask(opcode, [...u32(room), ...u32(0), ...name], found(bytes));
    const five = [5, 4, 3, 2, 0];
    assert.deepEqual(asked(0, five).answer, [5, 0, 0, 0, 0, 0, 0, 0]);
    assert.deepEqual(asked(0, []).answer, [0, 0, 0, 0, 0, 0, 0, 0]);
    for (const room of [1, 4]) {
      const { error, answer } = asked(room, five);
      assert.equal(error, ERANGE);
      assert.deepEqual(answer, []);
    }
    for (const room of [5, 6, 65_536]) {
      const { error, answer } = asked(room, five);
      assert.equal(error, 0);
      assert.deepEqual(answer, five);
    }
    assert.deepEqual(asked(1, []).answer, []);
  });
}

Deno.test("names of attributes may hold slashes; without attributes nobody is asked", () => {
  const { calls } = ask(OP.REMOVEXATTR, cName("user.a/b..\xff"));
  assert.deepEqual(calls, [["removexattr", 2, "user.a/b..\xff"]]);
  assert.equal(ask(OP.REMOVEXATTR, cName("n".repeat(255))).error, 0);
  assert.equal(ask(OP.REMOVEXATTR, cName("n".repeat(256))).error, ERANGE);
  const filesystem = new FakeFilesystem(DONE);
  const opcodes = [OP.GETXATTR, OP.LISTXATTR, OP.SETXATTR, OP.REMOVEXATTR];
  const requests = opcodes.map((opcode, i) =>
    request({ opcode, unique: i + 1 }, [...u64(0), ...cName("user.x")])
  );
  const { device, log } = converse(filesystem, ...requests);
  for (const unique of [1, 2, 3, 4]) assert.equal(device.replyTo(unique).error, -38);
  assert.deepEqual(filesystem.calls, []);
  assert.deepEqual(log, []);
});
