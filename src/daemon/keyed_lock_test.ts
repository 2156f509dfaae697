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
