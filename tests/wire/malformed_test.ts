/** Messages that no kernel sends: the session answers EIO or nothing, and lives. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { Bug } from "../../src/failure.ts";
import { FakeFilesystem, NO_ATTR, type Script } from "../fakes/fake_filesystem.ts";
import { SessionHarness } from "../fakes/session_harness.ts";
import {
  fromLe,
  getattrRequest,
  hex,
  interruptRequest,
  le,
  lookupRequest,
  OP,
  parseReply,
  readBody,
  request,
  u32,
  u64,
} from "../fakes/wire_bytes.ts";
import { FIXED_ANSWERS, GOLDEN, parking } from "./golden.ts";

const EIO = -5;
const ALIVE = 0xa11fe;
const UNANSWERED = new Set<number>([OP.FORGET, OP.BATCH_FORGET, OP.INTERRUPT, OP.NOTIFY_REPLY]);

const ATTRIBUTES = {
  attr: NO_ATTR,
  attrTimeoutMs: 0,
};

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
    for (let length = 0; length < message.length; length++) {
      const { reply, log, calls } = send(golden.script, cut(message, length), unique);
      const at = `at ${length}`;
      if (length < 40) {
        assert.equal(reply, undefined, at);
        assert.equal(log[0]?.message, "Request with a broken header", at);
      } else if (UNANSWERED.has(opcode)) {
        assert.equal(reply, undefined, at);
        if (golden.neededBytes > 0) assert.equal(log[0]?.message, "Request failed", at);
      } else if (length < 40 + golden.neededBytes) {
        assert.equal(reply?.error, EIO, at);
        assert.equal(log[0]?.message, "Request failed", at);
        assert.equal(log[0]?.fields["malformed"], true, at);
        assert.deepEqual(calls.filter(([name]) => name !== "getattr"), [], at);
      } else assert.equal(reply?.error, 0, at);
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

Deno.test("a name without NUL: EIO, also when a NUL lies behind the message", () => {
  for (const name of ["", "a", "abcdefgh", "x".repeat(300)]) {
    // The message before leaves zeros and letters in the buffer.
    const before = lookupRequest(5, 1, "y".repeat(400));
    const bytes = Array.from(name, (char) => char.charCodeAt(0));
    const filesystem = new FakeFilesystem();
    const harness = new SessionHarness(filesystem);
    harness.device.push(before, request({ opcode: OP.LOOKUP, unique: 6 }, bytes));
    harness.run();
    assert.equal(harness.device.replyTo(6).error, EIO);
    assert.equal(filesystem.callsOf("lookup").length, 1);
  }
});

Deno.test("an empty name and a name of 65,000 bytes reach the file system", () => {
  const filesystem = new FakeFilesystem();
  const harness = new SessionHarness(filesystem);
  harness.device.push(lookupRequest(1, 1, ""), lookupRequest(2, 1, "n".repeat(65_000)));
  harness.run();
  assert.deepEqual(filesystem.callsOf("lookup"), [[1, ""], [1, "n".repeat(65_000)]]);
});

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
            opcode: fc.constantFrom(1, 3, 5, 15, 28, 44),
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
              const body = step.opcode === OP.LOOKUP ? [0x61, 0] : readBody(0, 4096);
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

const DONE: Script = {
  lookup: () => ({ ...ATTRIBUTES, nodeid: 2, entryTimeoutMs: 0 }),
  getattr: () => ATTRIBUTES,
  readlink: () => new Uint8Array(1),
  read: () => 0,
  readdir: () => {},
  readdirplus: () => {},
};

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
