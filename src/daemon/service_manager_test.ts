import assert from "node:assert/strict";
import { DatagramReceiver } from "../../tests/support/datagrams.ts";
import { sleep } from "../../tests/support/run.ts";
import { MANAGER_VARIABLES, ServiceManager } from "./service_manager.ts";

const newAddress = () => `@afs-test-${crypto.randomUUID()}`;

function withEnvironment(values: Readonly<Record<string, string>>): ServiceManager {
  for (const [name, value] of Object.entries(values)) Deno.env.set(name, value);
  return ServiceManager.take(4711);
}

Deno.test("what is told, in order; the same status only once", () => {
  const address = newAddress();
  using receiver = new DatagramReceiver(address);
  const manager = withEnvironment({ NOTIFY_SOCKET: address });
  manager.status([]);
  manager.status(["mounted", "failed", "mounted", "unmounted"]);
  manager.status(["mounted", "mounted", "failed", "unmounted"]);
  manager.ready();
  manager.status(["mounted", "preparing"]);
  manager.stopping();
  assert.deepEqual(receiver.received(), [
    "STATUS=0 mounted",
    "STATUS=2 mounted, 1 failed",
    "READY=1",
    "STATUS=1 mounted, 1 preparing",
    "STOPPING=1",
  ]);
});

Deno.test("the variables are gone, so that no child has them", () => {
  withEnvironment({ NOTIFY_SOCKET: newAddress(), WATCHDOG_USEC: "1000000", WATCHDOG_PID: "1" });
  for (const name of MANAGER_VARIABLES) assert.equal(Deno.env.get(name), undefined, name);
});

Deno.test("signs of life only when they are wanted, and of this process", async () => {
  const usec = `${20_000}`;
  const cases: readonly (readonly [boolean, Record<string, string>])[] = [
    [true, { WATCHDOG_USEC: usec }],
    [true, { WATCHDOG_USEC: usec, WATCHDOG_PID: "4711" }],
    [false, { WATCHDOG_USEC: usec, WATCHDOG_PID: "4712" }],
    [false, { WATCHDOG_USEC: "0" }],
    [false, { WATCHDOG_USEC: "soon" }],
    [false, {}],
  ];
  for (const [wanted, variables] of cases) {
    const address = newAddress();
    using receiver = new DatagramReceiver(address);
    const manager = withEnvironment({ NOTIFY_SOCKET: address, ...variables });
    manager.watch();
    let received = receiver.received();
    for (let turn = 0; turn < (wanted ? 500 : 3) && received.length === 0; turn++) {
      await sleep(20);
      received = receiver.received();
    }
    manager.end();
    assert.equal(received[0], wanted ? "WATCHDOG=1" : undefined, JSON.stringify(variables));
  }
});

Deno.test("without a service manager, and with one that is gone, nothing happens", () => {
  for (const address of [null, newAddress()]) {
    const manager = new ServiceManager(address, null);
    manager.watch();
    manager.status(["mounted"]);
    manager.ready();
    manager.end();
  }
});
