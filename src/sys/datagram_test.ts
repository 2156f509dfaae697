import assert from "node:assert/strict";
import { ERRNO } from "../errno.ts";
import { DatagramReceiver } from "../../tests/support/datagrams.ts";
import { withTempDir } from "../../tests/support/run.ts";
import { sendDatagram } from "./datagram.ts";

Deno.test("a datagram reaches a socket that is a file, and one with an abstract name", async () => {
  await withTempDir((dir) => {
    for (const address of [dir.at("s"), `@afs-test-${crypto.randomUUID()}`]) {
      using receiver = new DatagramReceiver(address);
      assert.equal(sendDatagram(address, "READY=1\n"), 0);
      assert.equal(sendDatagram(address, "STATUS=grün"), 0);
      assert.deepEqual(receiver.received(), ["READY=1\n", "STATUS=grün"], address);
    }
    return Promise.resolve();
  });
});

Deno.test("what cannot be sent is an errno, and never waits", async () => {
  await withTempDir((dir) => {
    assert.equal(sendDatagram(dir.at("absent"), "x"), ERRNO.ENOENT);
    assert.equal(sendDatagram(`@${crypto.randomUUID()}`, "x"), 111, "ECONNREFUSED");
    assert.equal(sendDatagram("vsock:2:1", "x"), ERRNO.EINVAL);
    assert.equal(sendDatagram(`/${"x".repeat(200)}`, "x"), ERRNO.EINVAL);
    using receiver = new DatagramReceiver(dir.at("s"));
    let sent = 0;
    let errno = 0;
    while (errno === 0) {
      errno = sendDatagram(dir.at("s"), "x");
      if (errno === 0) sent++;
    }
    assert.equal(errno, ERRNO.EAGAIN, "a full queue");
    assert.equal(receiver.received().length, sent);
    return Promise.resolve();
  });
});
