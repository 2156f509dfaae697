import assert from "node:assert/strict";
import { negotiateFlags } from "../../src/fuse/init_flags.ts";
import { FakeFilesystem } from "../fakes/fake_filesystem.ts";
import { SessionHarness } from "../fakes/session_harness.ts";
import {
  dump,
  fromLe,
  getattrRequest,
  hex,
  initRequest,
  OP,
  request,
  u32,
} from "../fakes/wire_bytes.ts";

/**
 * ASYNC_READ, BIG_WRITES, DO_READDIRPLUS, READDIRPLUS_AUTO, NO_OPEN_SUPPORT, PARALLEL_DIROPS,
 * ABORT_ERROR, MAX_PAGES, CACHE_SYMLINKS, NO_OPENDIR_SUPPORT, HANDLE_KILLPRIV_V2, INIT_EXT
 */
const WANTED = 0x51e66021;

/** What kernels of that age offer. */
const OFFERS: readonly { minor: number; short: boolean; flags: number; flags2: number }[] = [
  { minor: 31, short: true, flags: 0x03fffffb, flags2: 0 },
  { minor: 36, short: false, flags: 0x73fffffb, flags2: 0x1 },
  { minor: 40, short: false, flags: 0x73fffffb, flags2: 0x1fd },
  { minor: 45, short: false, flags: 0x73fffffb, flags2: 0x5fd },
  { minor: 99, short: false, flags: 0x7fffffff, flags2: 0xffffffff },
];

function start(...messages: Uint8Array[]): SessionHarness {
  const harness = new SessionHarness(new FakeFilesystem(), { init: false });
  harness.device.push(...messages);
  return harness;
}

for (const { minor, short, flags, flags2 } of OFFERS) {
  Deno.test(`INIT of a kernel that speaks 7.${minor}`, () => {
    const harness = start(initRequest(1, minor, { flags, flags2, short }), getattrRequest(2, 1));
    assert.equal(harness.run(), "unmounted");
    const spoken = Math.min(minor, 45);
    assert.deepEqual(harness.ready, [`7.${spoken}`]);
    const body = harness.device.replyTo(1).body;
    assert.equal(body.length, 64);
    assert.equal(fromLe(body, 0, 4), 7n);
    assert.equal(fromLe(body, 4, 4), BigInt(spoken));
    assert.equal(fromLe(body, 12, 4), BigInt((flags & WANTED) >>> 0));
    assert.equal(fromLe(body, 32, 4), 0n);
    assert.equal(harness.device.replyTo(2).error, -2, "running");
    assert.deepEqual(harness.log, []);
  });
}

Deno.test("INIT of 7.45 byte by byte", () => {
  const harness = start(hex(`
    68000000          # len 104
    1a000000          # opcode
    efbeaddebebafeca  # unique
    0000000000000000  # nodeid
    00000000 00000000 00000000 0000 0000
    07000000          # major
    2d000000          # minor 45
    00000200          # max_readahead
    fbffff73          # flags
    fd050000          # flags2
    00000000000000000000000000000000000000000000
    00000000000000000000000000000000000000000000 # unused
  `));
  harness.run();
  assert.equal(
    dump(harness.device.replies[0] as Uint8Array),
    dump(hex(`
      50000000          # len 80
      00000000          # error
      efbeaddebebafeca  # unique
      07000000          # major
      2d000000          # minor
      00000200          # max_readahead
      2160e651          # flags
      ffff              # max_background
      ffff              # congestion_threshold
      00001000          # max_write 1 MiB
      01000000          # time_gran: nanoseconds
      0001              # max_pages 256
      0000              # map_alignment
      00000000          # flags2
      00000000          # max_stack_depth
      0000              # request_timeout
      0000 0000000000000000000000000000000000000000 # unused
    `)),
  );
});

Deno.test("the reply's flags are the wanted ones that were offered, bit by bit", () => {
  for (let bit = 0; bit < 32; bit++) {
    const offered = (1 << bit) >>> 0;
    assert.deepEqual(negotiateFlags({ flags: offered, flags2: offered }), {
      flags: (offered & WANTED) >>> 0,
      flags2: 0,
    });
    const others = ~offered >>> 0;
    assert.equal(negotiateFlags({ flags: others, flags2: 0 }).flags, (others & WANTED) >>> 0);
  }
});

Deno.test("flags that lose data or hang callers are never in a reply", () => {
  const { flags, flags2 } = negotiateFlags({ flags: 0xffffffff, flags2: 0xffffffff });
  const never = {
    POSIX_LOCKS: 1,
    ATOMIC_O_TRUNC: 3,
    EXPORT_SUPPORT: 4,
    FLOCK_LOCKS: 10,
    AUTO_INVAL_DATA: 12,
    WRITEBACK_CACHE: 16,
    HANDLE_KILLPRIV: 19,
  };
  for (const [name, bit] of Object.entries(never)) assert.equal(flags & (1 << bit), 0, name);
  assert.equal(flags, WANTED);
  assert.equal(flags2, 0);
});

Deno.test("a kernel that speaks 8.0 is answered with 7 and asks again", () => {
  const harness = start(
    initRequest(1, 0, { major: 8 }),
    initRequest(2, 45),
    getattrRequest(3, 1),
  );
  assert.equal(harness.run(), "unmounted");
  const first = harness.device.replyTo(1);
  assert.equal(first.error, 0);
  assert.equal(fromLe(first.body, 0, 4), 7n);
  assert.equal(fromLe(first.body, 4, 4), 45n);
  assert.equal(harness.device.replyTo(2).error, 0);
  assert.deepEqual(harness.ready, ["7.45"]);
  assert.equal(harness.device.replyTo(3).error, -2);
});

for (const [major, minor] of [[7, 30], [7, 0], [6, 99], [0, 0]] as const) {
  Deno.test(`a kernel that speaks ${major}.${minor} is refused`, () => {
    const harness = start(initRequest(1, minor, { major, short: true }), getattrRequest(2, 1));
    assert.equal(harness.run(), "refused");
    assert.equal(harness.device.replyTo(1).error, -71, "EPROTO");
    assert.deepEqual(harness.device.repliesTo(2), []);
    assert.deepEqual(harness.ready, []);
  });
}

Deno.test("a request before INIT ends the session", () => {
  const harness = start(getattrRequest(1, 1), initRequest(2, 45));
  assert.equal(harness.run(), "refused");
  assert.equal(harness.device.replyTo(1).error, -71);
  assert.deepEqual(harness.device.repliesTo(2), []);
});

Deno.test("an INTERRUPT or FORGET before INIT ends the session without a reply", () => {
  for (const opcode of [OP.INTERRUPT, OP.FORGET]) {
    const harness = start(request({ opcode, unique: 1 }, new Array(8).fill(0)));
    assert.equal(harness.run(), "refused");
    assert.deepEqual(harness.device.replies, []);
  }
});

Deno.test("INIT cut at every length is EIO, and a right one after it is taken", () => {
  const whole = initRequest(1, 45);
  for (let length = 0; length < 56; length++) {
    const cut = whole.slice(0, length);
    cut.set(u32(length).slice(0, Math.min(4, length)));
    const harness = start(cut, initRequest(2, 45));
    assert.equal(harness.run(), "unmounted");
    const replies = harness.device.repliesTo(1);
    if (length < 40) assert.deepEqual(replies, []);
    else assert.equal(harness.device.replyTo(1).error, -5, `at ${length}`);
    assert.equal(harness.device.replyTo(2).error, 0);
    assert.deepEqual(harness.ready, ["7.45"]);
  }
});

Deno.test("INIT of any length from 16 bytes on is taken; what is not sent counts as 0", () => {
  const whole = initRequest(1, 45);
  for (let length = 56; length <= whole.length; length++) {
    const cut = whole.slice(0, length);
    cut.set(u32(length));
    const harness = start(cut);
    harness.run();
    const { error, body } = harness.device.replyTo(1);
    assert.equal(error, 0);
    assert.equal(fromLe(body, 12, 4), BigInt(WANTED));
  }
});

Deno.test("a second INIT is ENOSYS and changes nothing", () => {
  const harness = start(initRequest(1, 45), initRequest(2, 31), getattrRequest(3, 1));
  harness.run();
  assert.equal(harness.device.replyTo(2).error, -38);
  assert.deepEqual(harness.ready, ["7.45"]);
  assert.equal(harness.device.replyTo(3).error, -2);
});
