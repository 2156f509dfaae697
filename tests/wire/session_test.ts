/**
 * Parked requests, deadlines, lookup counts, fairness and errors. How a session ends:
 * session_end_test.ts.
 */

import assert from "node:assert/strict";
import { ERRNO, FsError } from "../../src/errno.ts";
import { Bug } from "../../src/failure.ts";
import { type Entry, Parked } from "../../src/fuse/filesystem.ts";
import { PARKED_TIMEOUT_MS } from "../../src/fuse/session.ts";
import type { Name } from "../../src/path.ts";
import { ATTRIBUTES, DONE, FakeFilesystem, type Script } from "../fakes/fake_filesystem.ts";
import { park, parked, SessionHarness } from "../fakes/session_harness.ts";
import {
  cName,
  copyBody,
  getattrRequest,
  interruptRequest,
  lookupRequest,
  OP,
  readBody,
  readRequest,
  request,
  setattrBody,
  u64,
  writeRequest,
} from "../fakes/wire_bytes.ts";

const EINTR = -4;
const EIO = -5;

function entry(nodeid: number): Entry {
  return { ...ATTRIBUTES, nodeid, entryTimeoutMs: 0 };
}

const TWO_NAMES = [...cName("a"), ...cName("b")];

type Kind = readonly [string, (unique: number) => Uint8Array];

/** Those whose reply is a new entry, which counts a lookup. */
const CREATORS: readonly Kind[] = [
  [
    "MKNOD",
    (unique) => request({ opcode: OP.MKNOD, unique }, [...u64(5), ...u64(6), ...TWO_NAMES]),
  ],
  ["MKDIR", (unique) => request({ opcode: OP.MKDIR, unique }, [...u64(0o755), ...TWO_NAMES])],
  ["SYMLINK", (unique) => request({ opcode: OP.SYMLINK, unique }, TWO_NAMES)],
  ["LINK", (unique) => request({ opcode: OP.LINK, unique }, [...u64(2), ...TWO_NAMES])],
  ["TMPFILE", (unique) => request({ opcode: OP.TMPFILE, unique }, [...u64(5), ...u64(6), 47, 0])],
];

/** One request of each kind that may park. */
const KINDS: readonly Kind[] = [
  ["LOOKUP", (unique) => lookupRequest(unique, 1, "a")],
  ["GETATTR", (unique) => getattrRequest(unique, 2)],
  ["READLINK", (unique) => request({ opcode: OP.READLINK, unique, nodeid: 2 })],
  ["READ", (unique) => readRequest(unique, 2, 8, 16)],
  ["READDIR", (unique) => request({ opcode: OP.READDIR, unique }, readBody(3, 4096))],
  ["READDIRPLUS", (unique) => request({ opcode: OP.READDIRPLUS, unique }, readBody(3, 4096))],
  ["LSEEK", (unique) => request({ opcode: OP.LSEEK, unique }, [0, 7, 3].flatMap(u64))],
  ["SETATTR", (unique) => request({ opcode: OP.SETATTR, unique }, setattrBody(8, 5))],
  ["UNLINK", (unique) => request({ opcode: OP.UNLINK, unique }, cName("a"))],
  ["RMDIR", (unique) => request({ opcode: OP.RMDIR, unique }, cName("a"))],
  ["RENAME", (unique) => request({ opcode: OP.RENAME, unique }, [...u64(2), ...TWO_NAMES])],
  [
    "RENAME2",
    (unique) => request({ opcode: OP.RENAME2, unique }, [...u64(2), ...u64(1), ...TWO_NAMES]),
  ],
  ["WRITE", (unique) => writeRequest(unique, 2, 8, [1, 2, 3])],
  ["FALLOCATE", (unique) => request({ opcode: OP.FALLOCATE, unique }, [0, 1, 2, 0].flatMap(u64))],
  [
    "COPY_FILE_RANGE",
    (unique) => request({ opcode: OP.COPY_FILE_RANGE, unique }, copyBody(1, 2, 3)),
  ],
  [
    "COPY_FILE_RANGE_64",
    (unique) => request({ opcode: OP.COPY_FILE_RANGE_64, unique }, copyBody(1, 2, 3)),
  ],
  ["FSYNC", (unique) => request({ opcode: OP.FSYNC, unique }, [0, 1].flatMap(u64))],
  ["FSYNCDIR", (unique) => request({ opcode: OP.FSYNCDIR, unique }, [0, 0].flatMap(u64))],
  [
    "GETXATTR",
    (unique) => request({ opcode: OP.GETXATTR, unique }, [...u64(9), ...cName("user.x")]),
  ],
  ["LISTXATTR", (unique) => request({ opcode: OP.LISTXATTR, unique }, u64(9))],
  ["SETXATTR", (unique) => request({ opcode: OP.SETXATTR, unique }, [...u64(1), ...cName("a"), 7])],
  ["REMOVEXATTR", (unique) => request({ opcode: OP.REMOVEXATTR, unique }, cName("user.x"))],
  ...CREATORS,
];

for (const [kind, make] of KINDS) {
  Deno.test(`${kind} parks, and is answered when its key is woken, with the same arguments`, () => {
    const { filesystem, harness, answerNow, device, session } = parked();
    device.push(make(1)).onWait(() => {
      assert.equal(session.parkedCount, 1);
      assert.deepEqual(harness.replies, []);
      session.wake("another key");
      assert.deepEqual(harness.replies, []);
      answerNow();
      session.wake("k");
      assert.equal(device.replyTo(1).error, 0);
      session.wake("k");
    });
    harness.run();
    device.replyTo(1);
    assert.equal(session.parkedCount, 0);
    assert.equal(filesystem.calls.length, 2);
    assert.deepEqual(filesystem.calls[0], filesystem.calls[1]);
  });

  Deno.test(`INTERRUPT of a parked ${kind} gives EINTR once, and waking it later nothing`, () => {
    const { filesystem, harness, answerNow, device, session } = parked();
    device.push(make(1), interruptRequest(2, 1), interruptRequest(3, 1)).onWait(() => {
      assert.equal(device.replyTo(1).error, EINTR);
      assert.equal(session.parkedCount, 0);
      answerNow();
      session.wake("k");
    });
    harness.run();
    assert.equal(harness.replies.length, 1);
    assert.equal(filesystem.calls.length, 1);
    assert.deepEqual(harness.log, []);
  });

  Deno.test(`${kind} parked past its deadline gets EIO once and a line in the log`, () => {
    const { filesystem, harness, answerNow, device, session } = parked();
    device.push(make(1)).onWait(
      () => harness.clock = PARKED_TIMEOUT_MS - 1,
      () => {
        assert.deepEqual(harness.replies, []);
        harness.clock = PARKED_TIMEOUT_MS + 1000;
      },
      () => {
        assert.equal(device.replyTo(1).error, EIO);
        answerNow();
        session.wake("k");
        harness.clock *= 3;
      },
      () => {},
    );
    harness.run();
    assert.equal(harness.replies.length, 1);
    assert.equal(filesystem.calls.length, 1);
    assert.deepEqual(harness.log, [
      { message: "Request gave up waiting", fields: { waitedFor: "k" } },
    ]);
  });

  Deno.test(`${kind} that fails after waking: the errno is the reply's`, () => {
    const { filesystem, harness, device, session } = parked();
    device.push(make(1)).onWait(() => {
      const fail = () => {
        throw new FsError(ERRNO.ENAMETOOLONG);
      };
      for (const method of Object.keys(DONE)) Object.assign(filesystem.script, { [method]: fail });
      session.wake("k");
    });
    harness.run();
    assert.equal(device.replyTo(1).error, -36);
  });
}

Deno.test("a parked request keeps its own bytes while others come and go in the buffer", () => {
  const seen: string[] = [];
  let here = false;
  const filesystem = new FakeFilesystem({
    lookup: (_parent, name) => {
      if (!here) throw new Parked("k");
      seen.push(name);
      return entry(seen.length + 1);
    },
    getattr: () => ATTRIBUTES,
  });
  const harness = new SessionHarness(filesystem);
  harness.device.push(
    lookupRequest(1, 1, "the first name"),
    lookupRequest(2, 1, "another"),
    getattrRequest(3, 1),
    lookupRequest(4, 1, "x".repeat(200)),
  ).onWait(() => {
    here = true;
    harness.session.wake("k");
  });
  harness.run();
  assert.deepEqual(seen, ["the first name", "another", "x".repeat(200)]);
  for (const unique of [1, 2, 3, 4]) assert.equal(harness.device.replyTo(unique).error, 0);
});

Deno.test("a parked WRITE keeps its data, a view of its own copy when it is woken", () => {
  const seen: number[][] = [];
  let here = false;
  const filesystem = new FakeFilesystem({
    write: (_nodeid, offset, bytes) => {
      if (!here) throw new Parked("k");
      seen.push([offset, ...bytes]);
      return bytes.length;
    },
  });
  const harness = new SessionHarness(filesystem);
  harness.device.push(
    writeRequest(1, 2, 100, [1, 2, 3, 4, 5]),
    writeRequest(2, 2, 105, [6]),
    writeRequest(3, 2, 106, new Array(300).fill(9)),
    getattrRequest(4, 1),
  ).onWait(() => {
    here = true;
    harness.session.wake("k");
  });
  harness.run();
  assert.deepEqual(seen, [[100, 1, 2, 3, 4, 5], [105, 6], [106, ...new Array(300).fill(9)]]);
  assert.deepEqual([...harness.device.replyTo(1).body], [5, 0, 0, 0, 0, 0, 0, 0]);
  assert.deepEqual([...harness.device.replyTo(3).body], [44, 1, 0, 0, 0, 0, 0, 0]);
});

Deno.test("a WRITE of 1 MiB arrives whole, and parks whole", () => {
  const data = Uint8Array.from({ length: 1024 * 1024 }, (_, i) => i * 31 >> 8);
  let here = false;
  let written: Uint8Array | null = null;
  const filesystem = new FakeFilesystem({
    write: (_nodeid, _offset, bytes) => {
      if (!here) throw new Parked("k");
      written = bytes.slice();
      return bytes.length;
    },
  });
  const harness = new SessionHarness(filesystem);
  harness.device.push(writeRequest(1, 2, 0, data), getattrRequest(2, 1)).onWait(() => {
    here = true;
    harness.session.wake("k");
  });
  harness.run();
  assert.deepEqual(written, data);
  assert.deepEqual([...harness.device.replyTo(1).body], [0, 0, 16, 0, 0, 0, 0, 0]);
});

Deno.test("all that wait for one key are answered by one wake; other keys sleep on", () => {
  let here = false;
  const filesystem = new FakeFilesystem({
    getattr: (nodeid) => here && nodeid < 10 ? ATTRIBUTES : park(nodeid < 10 ? "a" : "b"),
  });
  const harness = new SessionHarness(filesystem);
  harness.device.push(
    getattrRequest(1, 2),
    getattrRequest(2, 10),
    getattrRequest(3, 3),
  ).onWait(() => {
    here = true;
    harness.session.wake("a");
    assert.equal(harness.session.parkedCount, 1);
  });
  harness.run();
  assert.equal(harness.device.replyTo(1).error, 0);
  assert.equal(harness.device.replyTo(3).error, 0);
  assert.deepEqual(harness.device.repliesTo(2), []);
});

Deno.test("a woken request may park again, for the same key or another, with a new deadline", () => {
  const keys = ["a", "a", "b"];
  const filesystem = new FakeFilesystem({
    getattr: () => {
      const key = keys.shift();
      return key === undefined ? ATTRIBUTES : park(key);
    },
  });
  const harness = new SessionHarness(filesystem);
  const { session, device } = harness;
  device.push(getattrRequest(1, 1)).onWait(
    () => {
      harness.clock = PARKED_TIMEOUT_MS - 1;
      session.wake("a");
      assert.equal(session.parkedCount, 1);
    },
    () => {
      harness.clock += PARKED_TIMEOUT_MS - 1;
      session.wake("a");
    },
    () => {
      session.wake("a");
      assert.equal(session.parkedCount, 1);
      session.wake("b");
    },
  );
  harness.run();
  assert.equal(device.replyTo(1).error, 0);
  assert.equal(harness.replies.length, 1);
});

Deno.test("an interrupt of one of two that wait for a key leaves the other", () => {
  const { harness, answerNow, device, session } = parked();
  device.push(getattrRequest(1, 1), getattrRequest(2, 1), interruptRequest(3, 1)).onWait(() => {
    answerNow();
    session.wake("k");
  });
  harness.run();
  assert.equal(device.replyTo(1).error, EINTR);
  assert.equal(device.replyTo(2).error, 0);
});

Deno.test("an INTERRUPT that names nobody is no reply and no error", () => {
  const { harness, device } = parked();
  device.push(interruptRequest(1, 99), getattrRequest(2, 1), interruptRequest(3, 99));
  harness.run();
  assert.deepEqual(harness.replies, []);
  assert.equal(harness.session.parkedCount, 1);
});

Deno.test("a wake from `drain` answers, before and after sleeping", () => {
  const { harness, answerNow, device, session } = parked();
  let drains = 0;
  harness.onDrain = () => {
    if (++drains !== 2) return;
    answerNow();
    session.wake("k");
  };
  device.push(getattrRequest(1, 1)).onWait(() => {});
  harness.run();
  assert.equal(device.replyTo(1).error, 0);
});

Deno.test("progress postpones every deadline", () => {
  const { harness, device, session } = parked();
  device.push(getattrRequest(1, 1)).onWait(
    () => {
      harness.clock = PARKED_TIMEOUT_MS - 1;
      session.postponeDeadlines();
      harness.clock = PARKED_TIMEOUT_MS + 5000;
    },
    () => {
      assert.deepEqual(harness.replies, []);
      harness.clock = 2 * PARKED_TIMEOUT_MS - 2;
    },
    () => {
      assert.deepEqual(harness.replies, []);
      harness.clock += 1001;
    },
    () => assert.equal(device.replyTo(1).error, EIO),
  );
  harness.run();
  assert.equal(device.replyTo(1).error, EIO);
});

Deno.test("sleeping has no end without parked requests, and looks at deadlines with them", () => {
  const { harness, device } = parked();
  device.onWait(() => device.push(getattrRequest(1, 1)), () => {});
  harness.run();
  assert.deepEqual(device.waits, [-1, 1000, 1000]);
});

Deno.test("deadlines run out also while other requests keep the session busy", () => {
  const filesystem = new FakeFilesystem({
    getattr: (nodeid) => nodeid === 2 ? park("k") : ATTRIBUTES,
  });
  const harness = new SessionHarness(filesystem);
  harness.device.push(getattrRequest(1, 2));
  for (let i = 0; i < 1000; i++) harness.device.push(getattrRequest(100 + i, 1));
  harness.onDrain = () => harness.clock += PARKED_TIMEOUT_MS / 4;
  let answeredAfter = 0;
  harness.device.onWait(() => {
    assert.equal(harness.device.replyTo(1).error, EIO);
    answeredAfter = harness.device.replies.findIndex((reply) => reply[8] === 1 && reply[9] === 0);
  });
  harness.run();
  assert.ok(answeredAfter > 0 && answeredAfter < 600, `${answeredAfter} replies before`);
});

Deno.test("a LOOKUP reply that is not taken lowers the lookup count again", () => {
  const filesystem = new FakeFilesystem({ lookup: () => entry(7) });
  const harness = new SessionHarness(filesystem);
  harness.device.refuse(1).push(lookupRequest(1, 1, "a"), lookupRequest(2, 1, "a"));
  harness.run();
  assert.deepEqual(filesystem.callsOf("forget"), [[7, 1]]);
  assert.equal(harness.device.refused.length, 1);
  assert.equal(harness.device.replyTo(2).error, 0);
});

Deno.test("a parked LOOKUP whose reply is not taken lowers the count too", () => {
  const { filesystem, harness, answerNow, device, session } = parked();
  device.refuse(1).push(lookupRequest(1, 1, "a")).onWait(() => {
    answerNow();
    session.wake("k");
  });
  harness.run();
  assert.deepEqual(filesystem.callsOf("forget"), [[2, 1]]);
});

for (const [kind, make] of CREATORS) {
  Deno.test(`a ${kind} reply counts one lookup, lowered again if it is not taken`, () => {
    const filesystem = new FakeFilesystem(DONE);
    const harness = new SessionHarness(filesystem);
    harness.device.refuse(2).push(make(1), make(2), make(3));
    harness.run();
    assert.deepEqual(filesystem.callsOf("forget"), [[2, 1]]);
    assert.equal(harness.device.replyTo(3).error, 0);
  });

  Deno.test(`a parked ${kind} counts when it is answered, and lowers if that is not taken`, () => {
    const { filesystem, harness, answerNow, device, session } = parked();
    device.refuse(1).push(make(1)).onWait(() => {
      assert.deepEqual(filesystem.callsOf("forget"), []);
      answerNow();
      session.wake("k");
    });
    harness.run();
    assert.deepEqual(filesystem.callsOf("forget"), [[2, 1]]);
  });

  Deno.test(`a ${kind} that fails lowers nothing`, () => {
    const filesystem = new FakeFilesystem();
    const harness = new SessionHarness(filesystem);
    harness.device.push(make(1));
    harness.run();
    assert.equal(harness.device.replyTo(1).error, -2);
    assert.deepEqual(filesystem.callsOf("forget"), []);
  });
}

Deno.test("a negative entry that is not taken lowers nothing", () => {
  const filesystem = new FakeFilesystem({ lookup: () => entry(0) });
  const harness = new SessionHarness(filesystem);
  harness.device.refuse(1).push(lookupRequest(1, 1, "a"));
  harness.run();
  assert.deepEqual(filesystem.callsOf("forget"), []);
});

function listing(then: () => void): Script {
  return {
    readdirplus: (_nodeid, _offset, sink) => {
      sink.addPlus("." as Name, 1, 4, 1, null);
      for (const nodeid of [5, 6, 7]) {
        const added = sink.addPlus(`n${nodeid}` as Name, nodeid, 8, nodeid, entry(nodeid));
        assert.equal(added, nodeid < 7, "the last one does not fit");
      }
      then();
    },
  };
}

function readdirplus(unique: number): Uint8Array {
  // ".": 152 + 8 bytes, n5 and n6: 160 each
  return request({ opcode: OP.READDIRPLUS, unique }, readBody(0, 500));
}

Deno.test("a READDIRPLUS reply that is not taken lowers the counts of its entries only", () => {
  const filesystem = new FakeFilesystem(listing(() => {}));
  const harness = new SessionHarness(filesystem);
  harness.device.refuse(1).push(readdirplus(1), readdirplus(2));
  harness.run();
  assert.deepEqual(filesystem.callsOf("forget"), [[5, 1], [6, 1]]);
});

Deno.test("a READDIRPLUS that fails or parks in the middle lowers the counts again", () => {
  for (const error of [new FsError(ERRNO.EIO), new TypeError("a slip")]) {
    const filesystem = new FakeFilesystem(listing(() => {
      throw error;
    }));
    const harness = new SessionHarness(filesystem);
    harness.device.push(readdirplus(1));
    harness.run();
    assert.equal(harness.device.replyTo(1).error, EIO);
    assert.deepEqual(filesystem.callsOf("forget"), [[5, 1], [6, 1]]);
  }
});

Deno.test("commands get a turn at least every 64 requests", () => {
  const harness = new SessionHarness(new FakeFilesystem({ getattr: () => ATTRIBUTES }));
  for (let i = 1; i <= 1000; i++) harness.device.push(getattrRequest(i, 1));
  harness.run();
  const counts = [0, ...harness.drains];
  for (let i = 1; i < counts.length; i++) {
    const between = (counts[i] as number) - (counts[i - 1] as number);
    assert.ok(between <= 64, `${between} requests without a drain`);
  }
  assert.equal(counts.at(-1), 1001);
  assert.equal(harness.counters.awaited, 1001);
});

Deno.test("what wants no reply is not counted as awaited, but by its opcode", () => {
  const harness = new SessionHarness(new FakeFilesystem({ getattr: () => ATTRIBUTES }));
  harness.device.push(getattrRequest(1, 1));
  harness.device.push(request({ opcode: OP.FORGET, unique: 2 }, new Array(8).fill(0)));
  harness.device.push(request({ opcode: OP.BATCH_FORGET, unique: 3 }, new Array(8).fill(0)));
  harness.device.push(interruptRequest(4, 1));
  harness.run();
  assert.equal(harness.counters.awaited, 2);
  const counts = { FORGET: 1, GETATTR: 1, INIT: 1, INTERRUPT: 1, BATCH_FORGET: 1 };
  assert.deepEqual(Object.fromEntries(harness.counters.byOp()), counts);
  assert.deepEqual([...harness.counters.byErrno()], []);
});

Deno.test("500 parked reads do not stop a local one, and all are answered in the end", () => {
  let here = false;
  const filesystem = new FakeFilesystem({
    read: (nodeid) => nodeid === 2 || here ? 0 : park(`content:${nodeid % 7}`),
  });
  const harness = new SessionHarness(filesystem);
  for (let i = 1; i <= 500; i++) harness.device.push(readRequest(i, 100 + i, 0, 4096));
  harness.device.push(readRequest(9000, 2, 0, 4096)).onWait(() => {
    assert.equal(harness.session.parkedCount, 500);
    assert.equal(harness.device.replyTo(9000).error, 0);
    here = true;
    for (let i = 0; i < 7; i++) harness.session.wake(`content:${i}`);
  });
  harness.run();
  for (let i = 1; i <= 500; i++) assert.equal(harness.device.replyTo(i).error, 0);
  assert.equal(harness.session.parkedCount, 0);
});

Deno.test("a Bug ends the session, also when a parked request throws it", () => {
  const { filesystem, harness, device, session } = parked();
  device.push(getattrRequest(1, 1)).onWait(() => {
    filesystem.script.getattr = () => {
      throw new Bug("a broken invariant");
    };
    session.wake("k");
  });
  assert.throws(() => harness.run(), /a broken invariant/);
  assert.deepEqual(harness.replies, []);
});

Deno.test("an ordinary exception is EIO and a line in the log with the operation", () => {
  for (const thrown of [new TypeError("a slip"), "text", undefined]) {
    const filesystem = new FakeFilesystem({
      read: () => {
        throw thrown;
      },
      getattr: () => ATTRIBUTES,
    });
    const harness = new SessionHarness(filesystem);
    harness.device.push(readRequest(1, 2, 0, 10), getattrRequest(2, 1));
    assert.equal(harness.run(), "unmounted");
    assert.equal(harness.device.replyTo(1).error, EIO);
    assert.equal(harness.device.replyTo(2).error, 0);
    assert.equal(harness.log.length, 1);
    assert.equal(harness.log[0]?.fields["op"], "READ");
    assert.equal(harness.log[0]?.fields["malformed"], false);
  }
});

Deno.test("ENOSYS of a file system is EIO and a line in the log: the kernel would keep it", () => {
  const filesystem = new FakeFilesystem({ hasXattrs: true });
  const methods = ["fsync", "write", "lseek", "copyFileRange", "getxattr", "lookup"] as const;
  for (const method of methods) {
    filesystem.script[method] = () => {
      throw new FsError(ERRNO.ENOSYS);
    };
  }
  const harness = new SessionHarness(filesystem);
  const kinds = ["FSYNC", "WRITE", "LSEEK", "COPY_FILE_RANGE", "GETXATTR", "LOOKUP"];
  for (const [kind, make] of KINDS) if (kinds.includes(kind)) harness.device.push(make(1));
  harness.run();
  assert.deepEqual(harness.device.repliesTo(1).map(({ error }) => error), kinds.map(() => EIO));
  assert.deepEqual(harness.log.map(({ fields }) => fields["op"]).sort(), kinds.sort());
});

Deno.test("errors are counted by number, once each, also of requests that give up waiting", () => {
  const filesystem = new FakeFilesystem({
    getattr: (nodeid) => {
      if (nodeid === 2) park("size:2");
      throw new FsError(nodeid === 3 ? ERRNO.ENOENT : ERRNO.ENOSPC);
    },
  });
  const harness = new SessionHarness(filesystem);
  harness.device.push(getattrRequest(1, 2), getattrRequest(2, 3), getattrRequest(3, 3));
  harness.device.push(getattrRequest(4, 4), interruptRequest(5, 1));
  harness.run();
  const errors = Object.fromEntries(harness.counters.byErrno());
  assert.deepEqual(errors, { ENOENT: 2, EINTR: 1, ENOSPC: 1 });
});
