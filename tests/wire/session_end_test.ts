/** How a session ends: by itself, by the kernel, and `finish`. */

import assert from "node:assert/strict";
import { ERRNO } from "../../src/errno.ts";
import { ATTRIBUTES, FakeFilesystem } from "../fakes/fake_filesystem.ts";
import { park, parked, SessionHarness } from "../fakes/session_harness.ts";
import { getattrRequest, OP, request, writeRequest } from "../fakes/wire_bytes.ts";

Deno.test("how a session ends: ENODEV, ECONNABORTED, DESTROY, stop", () => {
  const end = (...messages: (Uint8Array | number)[]) => {
    const harness = new SessionHarness(new FakeFilesystem({ getattr: () => ATTRIBUTES }));
    harness.device.push(...messages, getattrRequest(77, 1));
    const how = harness.run();
    assert.deepEqual(harness.device.repliesTo(77), [], "answered after the end");
    return how;
  };
  assert.equal(end(-19), "unmounted");
  assert.equal(end(-103), "aborted");
  assert.equal(end(-9), "aborted");
  assert.equal(end(request({ opcode: OP.DESTROY, unique: 5, nodeid: 0 })), "unmounted");

  const harness = new SessionHarness(new FakeFilesystem());
  harness.device.onWait(() => harness.session.stop("unmounted"));
  assert.equal(harness.run(), "unmounted");
});

Deno.test("EINTR and ENOENT of the device are no end: the next request is read", () => {
  const harness = new SessionHarness(new FakeFilesystem({ getattr: () => ATTRIBUTES }));
  harness.device.push(-4, -2, -2, getattrRequest(1, 1), -4, getattrRequest(2, 1));
  assert.equal(harness.run(), "unmounted");
  assert.equal(harness.device.replyTo(1).error, 0);
  assert.equal(harness.device.replyTo(2).error, 0);
});

Deno.test("parked requests get no reply after the end: the kernel has answered them", () => {
  const { harness, device } = parked();
  device.push(getattrRequest(1, 1), -19);
  assert.equal(harness.run(), "unmounted");
  assert.deepEqual(harness.replies, []);
});

Deno.test("finish: what was asked is answered, nothing waits, and who goes on asking is cut off", () => {
  const harness = new SessionHarness(new FakeFilesystem({ getattr: () => ATTRIBUTES }));
  harness.device.push(getattrRequest(1, 1)).onWait(() => {
    harness.device.push(getattrRequest(2, 1), getattrRequest(3, 1));
    harness.session.finish("unmounted");
  });
  assert.equal(harness.run(), "unmounted");
  for (const unique of [1, 2, 3]) assert.equal(harness.device.replyTo(unique).error, 0);

  // A WRITE that waits is somebody's page; a reader that waits gets an error at the end.
  let here = false;
  const waiting = new SessionHarness(
    new FakeFilesystem({
      getattr: () => park("never"),
      write: (_nodeid, _offset, bytes) => here ? bytes.length : park("soon"),
    }),
  );
  waiting.device.push(getattrRequest(1, 1), writeRequest(2, 2, 0, [1])).onWait(() => {
    waiting.session.finish("unmounted");
  }).onWait(() => {
    here = true;
    waiting.session.wake("soon");
  });
  assert.equal(waiting.run(), "unmounted");
  assert.deepEqual([...waiting.device.replyTo(2).body], [1, 0, 0, 0, 0, 0, 0, 0]);
  assert.equal(waiting.replies.length, 1);

  let asked = 0;
  const endless = new SessionHarness(
    new FakeFilesystem({
      getattr: () => {
        asked++;
        endless.clock += 1;
        endless.device.push(getattrRequest(asked + 10, 1));
        return ATTRIBUTES;
      },
    }),
  );
  endless.device.push(getattrRequest(1, 1));
  endless.session.finish("unmounted");
  assert.equal(endless.run(), "unmounted");
  assert.ok(asked > 1000);
});

Deno.test("finish: whom somebody awaits is answered, and it goes on until nobody does", () => {
  const harness = new SessionHarness(new FakeFilesystem({ getattr: () => park("never") }));
  harness.isAwaited = true;
  harness.device.push(getattrRequest(1, 1)).onWait(
    () => harness.session.finish("stopped"),
    // Who comes after it is let go too.
    () => void harness.device.push(getattrRequest(2, 1)),
    () => harness.isAwaited = false,
  );
  assert.equal(harness.run(), "stopped");
  for (const unique of [1, 2]) assert.equal(harness.device.replyTo(unique).error, -ERRNO.EIO);
});
