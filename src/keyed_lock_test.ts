import assert from "node:assert/strict";
import { KeyedLock } from "./keyed_lock.ts";

Deno.test("one key is served in order, another does not wait", async () => {
  const lock = new KeyedLock();
  const events: string[] = [];
  const gate = Promise.withResolvers<void>();
  const first = lock.run("a", async () => {
    await gate.promise;
    events.push("a1");
  });
  const second = lock.run("a", () => Promise.resolve(events.push("a2")));
  await lock.run("b", () => Promise.resolve(events.push("b")));
  gate.resolve();
  await Promise.all([first, second]);
  assert.deepEqual(events, ["b", "a1", "a2"]);
});

Deno.test("a failure and an abort let the next one go on", async () => {
  const lock = new KeyedLock();
  const aborted = AbortSignal.abort(new Error("gone"));
  const results = await Promise.allSettled([
    lock.run("a", () => Promise.reject(new Error("no"))),
    lock.run("a", () => Promise.resolve("not run"), aborted),
    lock.run("a", () => Promise.resolve("ran")),
  ]);
  assert.deepEqual(results.map((result) => result.status), ["rejected", "rejected", "fulfilled"]);
});

Deno.test("who is aborted while waiting does not let the next one in", async () => {
  const lock = new KeyedLock();
  const first = Promise.withResolvers<void>();
  const order: string[] = [];
  const one = lock.run("key", async () => {
    await first.promise;
    order.push("first");
  });
  const aborted = new AbortController();
  const two = lock.run("key", () => Promise.resolve(), aborted.signal);
  aborted.abort(new Error("gone"));
  await assert.rejects(two, /gone/);
  const three = lock.run("key", () => {
    order.push("third");
    return Promise.resolve();
  });
  assert.equal(lock.busyCount, 1);
  first.resolve();
  await Promise.all([one, three]);
  assert.deepEqual(order, ["first", "third"]);
});
