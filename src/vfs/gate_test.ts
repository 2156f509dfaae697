import assert from "node:assert/strict";
import { ERRNO, FsError } from "../errno.ts";
import { type Filesystem, Parked } from "../fuse/filesystem.ts";
import { DONE, FakeFilesystem } from "../../tests/fakes/fake_filesystem.ts";
import { SessionHarness } from "../../tests/fakes/session_harness.ts";
import { getattrRequest, lookupRequest } from "../../tests/fakes/wire_bytes.ts";
import { PARKED_TIMEOUT_MS } from "../fuse/session.ts";
import { Gate, GATE_KEY } from "./gate.ts";

function gate(): Gate {
  return new Gate({
    uid: 7,
    gid: 8,
    umask: 0o022,
    hasXattrs: true,
    timeSeconds: 1000,
    statfs: () => ({
      blocks: 1,
      freeBlocks: 1,
      availableBlocks: 1,
      files: 1,
      freeFiles: 1,
      blockSizeBytes: 512,
      nameMaxBytes: 255,
      fragmentSizeBytes: 512,
    }),
  });
}

function thrownBy(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    return error;
  }
  return null;
}

Deno.test("gate: the root is a directory that is looked at again, and all else waits or fails", () => {
  const subject: Filesystem = gate();
  const { attr, attrTimeoutMs } = subject.getattr(1);
  assert.deepEqual([attr.mode, attr.nlink, attr.uid, attr.gid, attrTimeoutMs], [
    0o40755,
    2,
    7,
    8,
    0,
  ]);
  assert.equal(subject.statfs().blocks, 1);
  const waits = Object.entries(subject).filter(([, value]) => typeof value === "function");
  assert.deepEqual(
    waits.map(([name]) => name).sort(),
    Object.keys(DONE).filter((name) => name !== "getattr").sort(),
  );
  for (const [name, call] of waits) {
    const thrown = thrownBy(() => (call as () => never)());
    assert.ok(thrown instanceof Parked && thrown.key === GATE_KEY && thrown.patient, name);
  }
  (subject as Gate).state = "failed";
  for (const [name, call] of waits) {
    const thrown = thrownBy(() => (call as () => never)());
    assert.ok(thrown instanceof FsError && thrown.errno === ERRNO.EIO, name);
  }
  assert.equal(subject.getattr(1).attr.mode, 0o40755);
});

Deno.test("gate: what waits has no deadline, and is asked of what takes its place", () => {
  const harness = new SessionHarness(gate());
  const { device, session } = harness;
  const filesystem = new FakeFilesystem(DONE);
  device.push(lookupRequest(5, 1, "x"), getattrRequest(6, 1)).onWait(
    () => harness.clock = 1000 * PARKED_TIMEOUT_MS,
    () => session.postponeDeadlines(),
    () => {
      assert.equal(session.parkedCount, 1);
      assert.deepEqual(harness.replies.length, 1);
      session.serve(filesystem);
      session.wake(GATE_KEY);
      assert.equal(device.replyTo(5).error, 0);
    },
  );
  harness.run();
  assert.deepEqual(filesystem.callsOf("lookup"), [[1, "x"]]);
  assert.deepEqual(harness.log, []);
});
