/** Messages that no kernel sends: the session answers EIO or nothing, and lives. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { Bug } from "../../src/failure.ts";
import {
  ATTRIBUTES,
  DONE,
  FakeFilesystem,
  parking,
  type Script,
} from "../fakes/fake_filesystem.ts";
import { SessionHarness } from "../fakes/session_harness.ts";
import {
  cName,
  copyBody,
  fromLe,
  getattrRequest,
  hex,
  interruptRequest,
  le,
  OP,
  parseReply,
  readBody,
  request,
  setattrBody,
  u32,
  u64,
  writeBody,
} from "../fakes/wire_bytes.ts";
import { FIXED_ANSWERS, GOLDEN } from "./golden.ts";

const EIO = -5;
const ALIVE = 0xa11fe;
const UNANSWERED = new Set<number>([OP.FORGET, OP.BATCH_FORGET, OP.INTERRUPT, OP.NOTIFY_REPLY]);

/** Sends one bad message and then a good one; the replies to the bad one. */
function send(script: Script, bad: Uint8Array, unique: bigint) {
  const filesystem = new FakeFilesystem({ ...script, getattr: () => ATTRIBUTES });
  const harness = new SessionHarness(filesystem);
  harness.device.push(bad, getattrRequest(ALIVE, 1));
  assert.equal(harness.run(), "unmounted");
  assert.equal(harness.device.replyTo(ALIVE).error, 0, "the session does not answer any more");
  const others = harness.replies.map(parseReply).filter((reply) => reply.unique !== BigInt(ALIVE));
  for (const reply of others) assert.equal(reply.unique, unique);
  assert.ok(others.length <= 1);
  return { reply: others[0], log: harness.log, calls: filesystem.calls };
}

/** The first bytes of a message; its length field tells the truth about them, or what is given. */
function cut(message: Uint8Array, length: number, len = length): Uint8Array {
  const out = message.slice(0, length);
  out.set(le(len, 4).slice(0, Math.min(4, length)));
  return out;
}

for (const golden of GOLDEN.filter(({ name }) => name !== "DESTROY")) {
  const message = hex(golden.request);
  const opcode = message[4] as number;
  const unique = fromLe(message, 8, 8);

  Deno.test(`${golden.name} cut at every length: EIO, and the session lives`, () => {
    const filesystem = new FakeFilesystem(golden.script);
    const harness = new SessionHarness(filesystem);
    const expected = { replies: [] as string[], log: [] as string[], calls: [] as unknown[] };
    for (let length = 0; length < message.length; length++) {
      harness.device.push(cut(message, length));
      const enough = length >= 40 + golden.neededBytes;
      if (enough) expected.calls.push(...golden.calls);
      else expected.log.push(length < 40 ? "Request with a broken header" : "Request failed");
      if (length < 40 || UNANSWERED.has(opcode)) continue;
      expected.replies.push(`${unique}: ${enough ? 0 : EIO}`);
    }
    assert.equal(harness.run(), "unmounted");
    const replies = harness.replies.map(parseReply);
    assert.deepEqual({
      replies: replies.map((reply) => `${reply.unique}: ${reply.error}`),
      log: harness.log.map(({ message }) => message),
      calls: filesystem.calls,
    }, expected);
    for (const { message, fields } of harness.log) {
      if (message === "Request failed") assert.equal(fields["malformed"], true);
    }
  });

  Deno.test(`${golden.name} with a length field that lies: ignored`, () => {
    for (const lie of [0, 1, 39, 40, message.length - 1, message.length + 1, 0xffffffff]) {
      if (lie === message.length) continue;
      const { reply, log } = send(golden.script, cut(message, message.length, lie), unique);
      assert.equal(reply, undefined, `len ${lie}`);
      assert.equal(log[0]?.message, "Request with a broken header");
    }
  });
}

Deno.test("opcodes answered from the header alone do not mind a cut body", () => {
  const harness = new SessionHarness(new FakeFilesystem());
  const expected: number[] = [];
  for (const [opcode, , body, errno] of FIXED_ANSWERS) {
    const message = request({ opcode, unique: 7 }, hex(body));
    for (let length = 0; length < message.length; length++) {
      harness.device.push(cut(message, length));
      if (length >= 40) expected.push(errno === 0 ? 0 : -errno);
    }
  }
  harness.run();
  assert.deepEqual(harness.replies.map((reply) => parseReply(reply).error), expected);
});

/** Each opcode that takes a name in a directory, with the bytes before and behind that name. */
const NAMED: readonly (readonly [string, number, number[], number[]])[] = [
  ["LOOKUP", OP.LOOKUP, [], []],
  ["MKNOD", OP.MKNOD, new Array(16).fill(0), []],
  ["MKDIR", OP.MKDIR, u64(0), []],
  ["SYMLINK", OP.SYMLINK, [], cName("target")],
  ["LINK", OP.LINK, u64(2), []],
  ["UNLINK", OP.UNLINK, [], []],
  ["RMDIR", OP.RMDIR, [], []],
  ["RENAME from", OP.RENAME, u64(2), cName("new")],
  ["RENAME to", OP.RENAME, [...u64(2), ...cName("old")], []],
  ["RENAME2 from", OP.RENAME2, [...u64(2), ...u64(0)], cName("new")],
  ["RENAME2 to", OP.RENAME2, [...u64(2), ...u64(0), ...cName("old")], []],
];

/** Reply to one request whose file system does whatever it is asked; who was asked. */
function ask(opcode: number, body: ArrayLike<number>) {
  const { reply, calls, log } = send(DONE, request({ opcode, unique: 6, nodeid: 2 }, body), 6n);
  return { error: reply?.error, calls: calls.slice(0, -1), log };
}

for (const [kind, opcode, before, behind] of NAMED) {
  const bodyOf = (name: string) => [...before, ...cName(name), ...behind];

  Deno.test(`${kind}: 255 bytes are a name, more are ENAMETOOLONG`, () => {
    const { error, calls } = ask(opcode, bodyOf("n".repeat(255)));
    assert.equal(error, 0);
    assert.equal(calls.length, 1);
    for (const length of [256, 300, 65_000]) {
      const { error, calls, log } = ask(opcode, bodyOf("n".repeat(length)));
      assert.equal(error, -36, `${length} bytes`);
      assert.deepEqual(calls, []);
      assert.deepEqual(log, []);
    }
  });

  Deno.test(`${kind}: what no directory can hold is EIO`, () => {
    for (const name of ["", ".", "..", "/", "a/b", "../x"]) {
      const { error, calls, log } = ask(opcode, bodyOf(name));
      assert.equal(error, EIO, `name "${name}"`);
      assert.deepEqual(calls, []);
      assert.equal(log[0]?.fields["malformed"], true);
    }
  });

  Deno.test(`${kind}: a name without NUL is EIO, also when a NUL lies behind the message`, () => {
    for (const name of ["", "a", "abcdefgh", "x".repeat(300)]) {
      const body = [...before, ...cName(name).slice(0, -1)];
      const filesystem = new FakeFilesystem({ getattr: () => ATTRIBUTES });
      const harness = new SessionHarness(filesystem);
      // The message before leaves zeros and letters in the buffer.
      const filled = new Array(500).fill(0x79, 0, 400);
      harness.device.push(
        request({ opcode: OP.SETXATTR, unique: 5 }, filled),
        request({ opcode, unique: 6, nodeid: 2 }, body),
      );
      harness.run();
      assert.equal(harness.device.replyTo(6).error, EIO, name);
      assert.deepEqual(filesystem.calls, []);
    }
  });
}

Deno.test("BATCH_FORGET with a count that is too large: no reply and nothing is forgotten", () => {
  const one = [...u64(2), ...u64(1)];
  for (const count of [2, 3, 0x10000000, 0x7fffffff, 0xffffffff]) {
    const message = request({ opcode: OP.BATCH_FORGET, unique: 9, nodeid: 0 }, [
      ...u32(count),
      ...u32(0),
      ...one,
    ]);
    const { reply, calls, log } = send({}, message, 9n);
    assert.equal(reply, undefined, `count ${count}`);
    assert.deepEqual(calls.filter(([name]) => name === "forget"), []);
    assert.equal(log.length, 1);
  }
});

Deno.test("BATCH_FORGET of none, and with more bytes than counted", () => {
  const none = request({ opcode: OP.BATCH_FORGET, unique: 9 }, [...u32(0), ...u32(0)]);
  assert.deepEqual(send({}, none, 9n).log, []);
  const rest = [...u64(2), ...u64(1), ...u64(3), ...u64(1)];
  const more = request({ opcode: OP.BATCH_FORGET, unique: 9 }, [...u32(1), ...u32(0), ...rest]);
  const { calls, log } = send({}, more, 9n);
  assert.deepEqual(calls.filter(([name]) => name === "forget"), [["forget", 2, 1]]);
  assert.deepEqual(log, []);
});

Deno.test("a nodeid, offset or nlookup of 2^53 or more: EIO, never another number", () => {
  const big = [2n ** 53n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n];
  for (const value of big) {
    for (const opcode of [OP.LOOKUP, OP.GETATTR, OP.READLINK, OP.READ, OP.READDIR]) {
      const body = opcode === OP.LOOKUP ? [0x61, 0] : readBody(0, 4096);
      const { reply, calls } = send({}, request({ opcode, unique: 3, nodeid: value }, body), 3n);
      assert.equal(reply?.error, EIO, `opcode ${opcode}, nodeid ${value}`);
      assert.deepEqual(calls, [["getattr", 1]]);
    }
    for (const opcode of [OP.READ, OP.READDIR, OP.READDIRPLUS]) {
      const message = request({ opcode, unique: 3 }, readBody(value, 4096));
      assert.equal(send({}, message, 3n).reply?.error, EIO, `opcode ${opcode}, offset ${value}`);
    }
    const forget = request({ opcode: OP.FORGET, unique: 3, nodeid: 2 }, u64(value));
    const { reply, calls } = send({}, forget, 3n);
    assert.equal(reply, undefined);
    assert.deepEqual(calls, [["getattr", 1]]);
  }
});

Deno.test("node ids in the body of 2^53 or more: EIO", () => {
  for (const value of [2n ** 53n, 2n ** 64n - 1n]) {
    const bodies: readonly (readonly [number, number[]])[] = [
      [OP.LINK, [...u64(value), ...cName("a")]],
      [OP.RENAME, [...u64(value), ...cName("a"), ...cName("b")]],
      [OP.RENAME2, [...u64(value), ...u64(0), ...cName("a"), ...cName("b")]],
      [OP.COPY_FILE_RANGE, [
        ...copyBody(0, 0, 1).slice(0, 16),
        ...u64(value),
        ...u64(0),
        ...u64(0),
        ...u64(1),
        ...u64(0),
      ]],
    ];
    for (const [opcode, body] of bodies) {
      const { error, calls } = ask(opcode, body);
      assert.equal(error, EIO, `opcode ${opcode}`);
      assert.deepEqual(calls, []);
    }
  }
});

Deno.test("a range of a file that ends above 2^53 is EFBIG, one that ends there is taken", () => {
  const max = Number.MAX_SAFE_INTEGER;
  const fallocate = (offset: number | bigint, length: number | bigint) =>
    [0, offset, length, 0].flatMap(u64);
  const rows: readonly (readonly [number, number[], number])[] = [
    [OP.SETATTR, setattrBody(8, max), 0],
    [OP.SETATTR, setattrBody(8, 2n ** 53n), -27],
    [OP.SETATTR, setattrBody(8, 2n ** 63n - 1n), -27],
    [OP.SETATTR, setattrBody(0, 2n ** 63n), 0],
    [OP.WRITE, writeBody(max - 3, [1, 2, 3]), 0],
    [OP.WRITE, writeBody(max - 2, [1, 2, 3]), -27],
    [OP.WRITE, writeBody(2n ** 53n, [1]), -27],
    [OP.WRITE, writeBody(2n ** 63n - 2n, [1]), -27],
    [OP.FALLOCATE, fallocate(max - 4096, 4096), 0],
    [OP.FALLOCATE, fallocate(max - 4095, 4096), -27],
    [OP.FALLOCATE, fallocate(0, 2n ** 62n), -27],
    [OP.FALLOCATE, fallocate(2n ** 62n, 1), -27],
    [OP.COPY_FILE_RANGE_64, copyBody(0, 0, max), 0],
    [OP.COPY_FILE_RANGE_64, copyBody(1, 0, max), -27],
    [OP.COPY_FILE_RANGE_64, copyBody(0, 1, max), -27],
    [OP.COPY_FILE_RANGE_64, copyBody(2n ** 53n, 0, 1), -27],
    [OP.COPY_FILE_RANGE, copyBody(0, 2n ** 53n, 1), -27],
    [OP.COPY_FILE_RANGE, copyBody(0, 0, max), 0],
  ];
  for (const [opcode, body, expected] of rows) {
    const { error, calls, log } = ask(opcode, body);
    assert.equal(error, expected, `opcode ${opcode}, body ${body.slice(0, 56)}`);
    assert.equal(calls.length, expected === 0 ? 1 : 0);
    assert.deepEqual(log, []);
  }
});

Deno.test("WRITE and SETXATTR with other than the bytes they count", () => {
  const write = writeBody(0, [1, 2, 3]);
  const setxattr = (count: number) => [...u32(count), ...u32(0), ...cName("user.x"), 1, 2, 3];
  const withXattrs = { ...DONE, hasXattrs: true };
  const send3 = (opcode: number, body: number[]) =>
    send(withXattrs, request({ opcode, unique: 6, nodeid: 2 }, body), 6n);
  for (const count of [4, 5, 0x7fffffff, 0xffffffff]) {
    write.splice(16, 4, ...u32(count));
    for (
      const { reply, calls, log } of [send3(OP.WRITE, write), send3(OP.SETXATTR, setxattr(count))]
    ) {
      assert.equal(reply?.error, EIO, `count ${count}`);
      assert.deepEqual(calls, [["getattr", 1]]);
      assert.equal(log[0]?.fields["malformed"], true);
    }
  }
  write.splice(16, 4, ...u32(2));
  assert.deepEqual(send3(OP.WRITE, write).calls[0], ["write", 2, 0, "\x01\x02", null]);
  const { calls } = send3(OP.SETXATTR, setxattr(0));
  assert.deepEqual(calls[0], ["setxattr", 2, "user.x", "", 0]);
});

Deno.test("nanoseconds of a second and more: EIO, unless they do not count", () => {
  for (const [valid, at] of [[16, 56], [32, 60]] as const) {
    const body = setattrBody(valid);
    body.splice(at, 4, ...u32(1_000_000_000));
    assert.equal(ask(OP.SETATTR, body).error, EIO);
    body.splice(0, 4, ...u32(valid << 3));
    assert.equal(ask(OP.SETATTR, body).error, 0, "to now");
    body.splice(0, 4, ...u32(0));
    assert.equal(ask(OP.SETATTR, body).error, 0, "not at all");
  }
});

Deno.test("the largest nodeid and offset below 2^53 are exact", () => {
  const max = Number.MAX_SAFE_INTEGER;
  const script: Script = { read: () => 0 };
  const message = request({ opcode: OP.READ, unique: 3, nodeid: max }, readBody(max, 1));
  const { reply, calls } = send(script, message, 3n);
  assert.equal(reply?.error, 0);
  assert.deepEqual(calls[0], ["read", max, max, 1]);
});

Deno.test("READ and READDIR of 4 GiB: at most 1 MiB is answered", () => {
  const script: Script = { read: (_nodeid, _offset, into) => into.length };
  const message = request({ opcode: OP.READ, unique: 3 }, readBody(0, 0xffffffff));
  assert.equal(send(script, message, 3n).reply?.body.length, 1024 * 1024);
  const endless: Script = {
    readdir: (_nodeid, _offset, sink) => {
      for (let i = 1; sink.add(`n${i}` as never, i, 8, i); i++);
    },
  };
  const readdir = request({ opcode: OP.READDIR, unique: 3 }, readBody(0, 0xffffffff));
  const body = send(endless, readdir, 3n).reply?.body;
  assert.ok(body !== undefined && body.length <= 1024 * 1024 && body.length > 1024 * 1024 - 64);
});

Deno.test("exactly one reply per request, in whatever mix", () => {
  const script = Object.assign({}, ...GOLDEN.map((golden) => golden.script)) as Script;
  const harness = new SessionHarness(new FakeFilesystem(script));
  const expected: number[] = [];
  let unique = 1;
  const push = (opcode: number, body: Uint8Array) => {
    if (opcode === OP.DESTROY) return;
    if (!UNANSWERED.has(opcode)) expected.push(unique);
    harness.device.push(request({ opcode, unique: unique++, nodeid: 2 }, body));
  };
  for (let round = 0; round < 3; round++) {
    for (const golden of GOLDEN) {
      const message = hex(golden.request);
      push(message[4] as number, message.subarray(40));
    }
    for (const [opcode, , body] of FIXED_ANSWERS) push(opcode, hex(body));
  }
  harness.run();
  const answered = harness.replies.map((reply) => Number(parseReply(reply).unique));
  assert.deepEqual(answered, expected);
});

/** Everything but DESTROY, which ends the session as it should. */
const opcodes = fc.oneof(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 0, max: 0xffffffff }))
  .filter((opcode) => opcode !== OP.DESTROY);

Deno.test("property: random bytes never crash the session, nor get a reply they have no right to", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 120 }), { maxLength: 20 }),
      (messages) => {
        const harness = new SessionHarness(new FakeFilesystem({ getattr: () => ATTRIBUTES }));
        harness.device.push(...messages, getattrRequest(ALIVE, 1));
        assert.equal(harness.run(), "unmounted");
        assert.equal(harness.device.repliesTo(ALIVE).length, 1);
      },
    ),
    { numRuns: 300 },
  );
});

Deno.test("property: right headers with random bodies get one reply, or none where none is due", () => {
  const script = Object.assign({}, ...GOLDEN.map((golden) => golden.script)) as Script;
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          opcode: opcodes,
          nodeid: fc.oneof(
            fc.integer({ min: 0, max: 9 }),
            fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
          ),
          body: fc.uint8Array({ maxLength: 100 }),
        }),
        { maxLength: 30 },
      ),
      (messages) => {
        const harness = new SessionHarness(new FakeFilesystem(script));
        messages.forEach(({ opcode, nodeid, body }, i) =>
          harness.device.push(request({ opcode, nodeid, unique: i + 1 }, body))
        );
        harness.device.push(getattrRequest(ALIVE, 1));
        assert.equal(harness.run(), "unmounted");
        messages.forEach(({ opcode }, i) => {
          const due = UNANSWERED.has(opcode) ? 0 : 1;
          assert.equal(harness.device.repliesTo(i + 1).length, due, `opcode ${opcode}`);
        });
        assert.equal(harness.device.repliesTo(ALIVE).length, 1);
      },
    ),
    { numRuns: 300 },
  );
});

Deno.test("property: whatever parks, wakes and is interrupted is answered once at most", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          fc.record({
            kind: fc.constant("ask" as const),
            opcode: fc.constantFrom(1, 3, 5, 15, 28, 44, 4, 9, 16, 20, 46),
          }),
          fc.record({
            kind: fc.constant("interrupt" as const),
            unique: fc.integer({ min: 1, max: 40 }),
          }),
          fc.record({ kind: fc.constant("wake" as const), again: fc.boolean() }),
        ),
        { maxLength: 40 },
      ),
      (steps) => {
        const filesystem = new FakeFilesystem(parking("k"));
        const harness = new SessionHarness(filesystem);
        let asked = 0;
        for (const step of steps) {
          harness.device.onWait(() => {
            if (step.kind === "ask") {
              const bodies: Record<number, number[]> = {
                [OP.LOOKUP]: cName("a"),
                [OP.SETATTR]: setattrBody(8, 5),
                [OP.MKDIR]: [...u64(0o755), ...cName("a")],
                [OP.WRITE]: writeBody(7, [1, 2, 3]),
                [OP.LSEEK]: [0, 7, 3].flatMap(u64),
              };
              const body = bodies[step.opcode] ?? readBody(0, 4096);
              harness.device.push(request({ opcode: step.opcode, unique: ++asked }, body));
            } else if (step.kind === "interrupt") {
              harness.device.push(interruptRequest(1000, step.unique));
            } else {
              Object.assign(filesystem.script, step.again ? parking("k") : DONE);
              harness.session.wake("k");
              Object.assign(filesystem.script, parking("k"));
            }
          });
        }
        harness.device.onWait(() => {
          Object.assign(filesystem.script, DONE);
          harness.session.wake("k");
        });
        harness.run();
        for (let unique = 1; unique <= asked; unique++) harness.device.replyTo(unique);
        assert.equal(harness.session.parkedCount, 0);
        assert.equal(harness.replies.length, asked);
      },
    ),
    { numRuns: 200 },
  );
});

Deno.test("a Bug is no malformed message: it ends the session", () => {
  const harness = new SessionHarness(
    new FakeFilesystem({
      getattr: () => {
        throw new Bug("a broken invariant");
      },
    }),
  );
  harness.device.push(getattrRequest(1, 1), getattrRequest(2, 1));
  assert.throws(() => harness.run(), Bug);
  assert.deepEqual(harness.replies, []);
});
