import assert from "node:assert/strict";
import { ERRNO, FsError } from "../errno.ts";
import { splitMessages } from "../fuse/notify.ts";
import type { Oid } from "../git/oid.ts";
import type { Name, RepoPath } from "../path.ts";
import { type SwitchedTree, SwitchRefused } from "../vfs/switch.ts";
import type { MountEvent, SwitchedEvent } from "./messages.ts";
import { NoticeState } from "./notice_state.ts";
import { Switches } from "./switches.ts";

const FD = 77;
const REQUEST = { from: "a" as Oid, to: "b" as Oid, token: "t-1" };
const TREE: SwitchedTree = {
  token: "t-2",
  changedBefore: [],
  time: { seconds: 5, nanoseconds: 6 },
  files: [{ path: "d/\xc3\xbc" as RepoPath, ino: 2 ** 52 + 1 }, { path: "f" as RepoPath, ino: 9 }],
  directories: ["" as RepoPath, "d" as RepoPath],
  stale: {
    entries: [{ parentNodeid: 1, name: "f" as Name }],
    directories: [1, 3],
    files: [4],
  },
};

function ground(switchTo: () => SwitchedTree) {
  const events: SwitchedEvent[] = [];
  const closed: number[] = [];
  const notices = new NoticeState();
  const parts = {
    filesystem: { switchTo },
    overlay: { sync: () => {} },
    notices,
    duplicateDevice: () => FD,
    closeFd: (fd: number) => void closed.push(fd),
    tell(event: MountEvent) {
      assert.ok(event.kind === "switched");
      events.push(event);
    },
  };
  return { parts, events, closed, notices, run: () => new Switches(parts).run(REQUEST) };
}

const texts = (bytes: ArrayBuffer) => new TextDecoder().decode(bytes).split("\0");

Deno.test("a switch that is done: what changed, and what the kernel has to forget", () => {
  const g = ground(() => TREE);
  let synced = 0;
  g.parts.overlay.sync = () => void synced++;
  g.run();
  const [event] = g.events as [SwitchedEvent];
  assert.deepEqual([event.outcome, event.reason, event.token], ["done", null, "t-2"]);
  assert.deepEqual([event.timeSeconds, event.timeNanoseconds, synced], [5, 6, 1]);
  assert.deepEqual(texts(event.paths), ["d/ü", "f", ""]);
  assert.deepEqual([...new Float64Array(event.inos)], [2 ** 52 + 1, 9]);
  assert.deepEqual(texts(event.directories), ["", "d", ""]);
  assert.equal(event.notices?.fd, FD);
  assert.deepEqual(g.closed, [], "it is the notifier's now");
  assert.ok(g.notices.isTelling);
  const codes = [...splitMessages(new Uint8Array(event.notices?.messages ?? new ArrayBuffer(0)))]
    .map((message) => message[4]);
  assert.deepEqual(codes, [3, 2, 2, 2], "names before listings");
});

Deno.test("refused, failed, no descriptor, nothing to tell: nobody is told, nothing is left open", () => {
  const refused = ground(() => {
    throw new SwitchRefused("d/\xc3\xbc\n: was changed");
  });
  refused.run();
  assert.deepEqual(
    [refused.events[0]?.outcome, refused.events[0]?.reason],
    ["refused", "d/ü?: was changed"],
  );
  const failed = ground(() => {
    throw new FsError(ERRNO.ENOSPC, "full");
  });
  failed.run();
  assert.deepEqual([failed.events[0]?.outcome, failed.events[0]?.reason], ["failed", "full"]);
  const quiet = ground(() => ({ ...TREE, stale: { entries: [], directories: [], files: [] } }));
  quiet.run();
  assert.equal(quiet.events[0]?.outcome, "done");
  for (const g of [refused, failed, quiet]) {
    assert.equal(g.events[0]?.notices, null);
    assert.deepEqual(g.closed, [FD]);
    assert.ok(!g.notices.isTelling);
  }
  const full = ground(() => assert.fail("it could not be told"));
  full.parts.duplicateDevice = () => {
    throw new FsError(ERRNO.EIO, "too many");
  };
  full.run();
  assert.deepEqual([full.events[0]?.outcome, full.closed], ["failed", []]);
});

Deno.test("what the disk does not take is done, and said", () => {
  const g = ground(() => TREE);
  g.parts.overlay.sync = () => {
    throw new FsError(ERRNO.EIO, "broken");
  };
  g.run();
  assert.equal(g.events[0]?.outcome, "done");
  assert.equal(g.events[0]?.reason, "not on the disk yet: broken");
});

Deno.test("who waits for a notifier is woken by its end, or gives up", () => {
  const state = new NoticeState();
  assert.ok(state.waitUntilTold(0));
  state.begin();
  assert.ok(!state.waitUntilTold(1));
  const other = new NoticeState(state.buffer);
  other.abandon();
  other.end();
  assert.ok(state.isAbandoned && state.waitUntilTold(0));
  state.begin();
  state.begin();
  other.end();
  assert.ok(!state.waitUntilTold(1), "there is another");
  other.end();
  assert.ok(state.waitUntilTold(0));
});
