/** The schedule, with a clock that is turned by hand. */

import assert from "node:assert/strict";
import type { Clock } from "../clock.ts";
import { Failure } from "../failure.ts";
import type { Oid } from "../git/oid.ts";
import { setupLog } from "../log.ts";
import type { HostPath } from "../path.ts";
import { layoutOf } from "../repo/layout.ts";
import type { RefreshResult, refreshStore } from "../repo/refresh.ts";
import { openRegistry, type Registry } from "../repo/registry.ts";
import { PLAIN_SETTINGS } from "../repo/testing.ts";
import type { RepoRecord } from "../repo/types.ts";
import { RefreshTasks } from "./refresh_tasks.ts";

setupLog({ write: () => {} });

const OID = "0".repeat(40) as Oid;
const DONE: RefreshResult = {
  lastFetchAt: "2026-01-02T03:04:05.000Z",
  remote: "digest",
  failure: null,
  fetched: false,
  changes: new Map(),
  unpublished: new Map(),
  history: null,
};
const FAILED: RefreshResult = {
  ...DONE,
  lastFetchAt: "2026-01-02T03:05:05.000Z",
  remote: null,
  failure: new Failure("network", "Cannot fetch: no network"),
};
const HINDERED: RefreshResult = { ...DONE, unpublished: new Map([["a", "Cannot write refs"]]) };

function record(id: string, changes: Partial<RepoRecord> = {}): RepoRecord {
  return {
    id,
    name: id,
    remote: "https://host/x",
    ...PLAIN_SETTINGS,
    ref: "refs/heads/main",
    sourceRef: "refs/heads/main",
    mountPoint: `/mnt/${id}` as HostPath,
    storeId: "store",
    objectFormat: "sha1",
    acquiredCommitOid: "a".repeat(40) as Oid,
    generation: 1,
    baseCommitOid: OID,
    baseTreeOid: OID,
    baseTreeId: OID,
    baseConversion: "none",
    madeFolders: 0,
    baseTimeSeconds: 1,
    uid: 0,
    gid: 0,
    wanted: "mounted",
    history: "full",
    acquiredAt: "2026-01-01T00:00:00.000Z",
    lastFetchAt: null,
    fetchResult: "ok",
    ...changes,
  };
}

/** Sleepers wake when the time that `pass` makes pass is theirs. */
class HandClock implements Clock {
  #now = 1_000_000;
  readonly #sleepers = new Set<{ at: number; wake: () => void }>();

  now(): number {
    return this.#now;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const sleeper = { at: this.#now + ms, wake: resolve };
      this.#sleepers.add(sleeper);
      signal?.addEventListener("abort", () => {
        this.#sleepers.delete(sleeper);
        reject(signal.reason);
      }, { once: true });
    });
  }

  get sleeping(): number {
    return this.#sleepers.size;
  }

  /** From sleeper to sleeper, so that whoever sleeps anew in between is woken too. */
  async pass(ms: number): Promise<void> {
    const end = this.#now + ms;
    while (this.#now < end) {
      this.#now = Math.min(end, ...[...this.#sleepers].map(({ at }) => at));
      for (const sleeper of [...this.#sleepers]) {
        if (sleeper.at > this.#now) continue;
        this.#sleepers.delete(sleeper);
        sleeper.wake();
      }
      await settle();
    }
  }
}

/** Lets everything that is ready run. */
function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

interface Bench {
  readonly registry: Registry;
  readonly tasks: RefreshTasks;
  readonly clock: HandClock;
  readonly mounted: Set<string>;
  /** What the refreshes answer, one after the other; then DONE. "hang": when it is aborted. */
  readonly answers: (RefreshResult | "hang")[];
  /** Ids of the repositories that each refresh was for. */
  readonly asked: string[];
  /** What each was told to be known. */
  readonly known: (string | null | undefined)[];
  mount(...records: RepoRecord[]): Promise<void>;
}

async function withBench(body: (bench: Bench) => Promise<void>, jitter = 0): Promise<void> {
  const dir = await Deno.makeTempDir();
  const layout = layoutOf(dir as HostPath);
  const registry = openRegistry(layout);
  const clock = new HandClock();
  const mounted = new Set<string>();
  let running = 0;
  const refresh: typeof refreshStore = async (_record, _layout, options) => {
    assert.equal(++running, 1, "two refreshes at once");
    bench.asked.push(options.repos().map(({ id }) => id).sort().join());
    bench.known.push(options.known);
    const answer = bench.answers.shift() ?? DONE;
    try {
      if (answer !== "hang") return answer;
      const { promise, reject } = Promise.withResolvers<never>();
      options.signal?.addEventListener("abort", () => reject(options.signal?.reason));
      return await promise;
    } finally {
      running--;
    }
  };
  const bench: Bench = {
    registry,
    clock,
    mounted,
    tasks: new RefreshTasks({
      layout,
      registry,
      clock,
      refresh,
      random: () => jitter,
      isMounted: (id) => mounted.has(id),
    }),
    answers: [],
    asked: [],
    known: [],
    async mount(...records) {
      for (const each of records) {
        registry.insert(each);
        mounted.add(each.id);
        bench.tasks.update(each.storeId);
      }
      await settle();
    },
  };
  try {
    await body(bench);
  } finally {
    await bench.tasks.stopAll();
    assert.equal(clock.sleeping, 0);
    registry.close();
    await Deno.remove(dir, { recursive: true });
  }
}

const now = { signal: new AbortController().signal, onProgress: () => {} };

Deno.test("a mounted repository's remote is asked at its interval, first after one", async () => {
  await withBench(async ({ clock, mount, asked, registry }) => {
    await mount(record("a"));
    await clock.pass(29_000);
    assert.deepEqual(asked, []);
    await clock.pass(1_000);
    assert.deepEqual(asked, ["a"]);
    assert.equal(registry.byId("a")?.lastFetchAt, DONE.lastFetchAt);
    await clock.pass(90_000);
    assert.equal(asked.length, 4);
  });
});

Deno.test("each wait is up to a tenth longer", async () => {
  await withBench(async ({ clock, mount, asked }) => {
    await mount(record("a"));
    await clock.pass(32_000);
    assert.equal(asked.length, 0);
    await clock.pass(1_000);
    assert.equal(asked.length, 1);
  }, 1);
});

Deno.test("a store is asked once for all its mounts, at the shortest interval", async () => {
  await withBench(async ({ clock, mount, asked }) => {
    await mount(
      record("a", { remoteRefreshSeconds: 60 }),
      record("b", { remoteRefreshSeconds: 20 }),
      record("c", { remoteRefreshSeconds: null }),
      record("d", { storeId: "other", remoteRefreshSeconds: null }),
    );
    await clock.pass(60_000);
    assert.deepEqual(asked, ["a,b", "a,b", "a,b"]);
  });
});

Deno.test("only who has not seen what the remote had is shown it", async () => {
  await withBench(async ({ clock, mount, answers, known, tasks }) => {
    await mount(record("a"));
    await clock.pass(60_000);
    answers.push(FAILED);
    await clock.pass(90_000);
    assert.deepEqual(known, [null, "digest", "digest", "digest"]);
    await mount(record("b"));
    await clock.pass(60_000);
    answers.push({ ...HINDERED, remote: "other" });
    await clock.pass(30_000);
    await clock.pass(2_000);
    assert.deepEqual(known.splice(4), [null, "digest", "digest", null]);
    await tasks.fetchNow(record("a"), now);
    assert.deepEqual(known.splice(4), [null]);
  });
});

Deno.test("a failure is tried again later and later, and forgotten after a success", async () => {
  await withBench(async ({ clock, mount, asked, answers, registry }) => {
    await mount(record("a"));
    answers.push(FAILED, FAILED, FAILED, FAILED, FAILED);
    const times: number[] = [];
    const start = clock.now();
    while (times.length < 8) {
      await clock.pass(30_000);
      if (asked.length > times.length) times.push((clock.now() - start) / 1000);
      if (times.length === 1) {
        assert.equal(registry.byId("a")?.fetchResult, FAILED.failure?.message);
        assert.equal(registry.byId("a")?.lastFetchAt, FAILED.lastFetchAt);
      }
    }
    const waits = times.map((time, i) => time - (times[i - 1] ?? 0));
    assert.deepEqual(waits, [30, 60, 120, 240, 300, 300, 30, 30]);
    assert.equal(registry.byId("a")?.fetchResult, "ok");
  });
});

Deno.test("what a user's git kept from being written is tried again soon", async () => {
  await withBench(async ({ clock, mount, asked, answers, registry }) => {
    await mount(record("a", { remoteRefreshSeconds: 300 }));
    answers.push(HINDERED, HINDERED);
    await clock.pass(300_000);
    assert.equal(registry.byId("a")?.fetchResult, "Cannot write refs");
    await clock.pass(2_000);
    assert.equal(asked.length, 2);
    await clock.pass(4_000);
    assert.equal(asked.length, 3);
    assert.equal(registry.byId("a")?.fetchResult, "ok");
    await clock.pass(299_000);
    assert.equal(asked.length, 3);
  });
});

Deno.test("a new interval counts from the last time on; never ends it, and one starts it", async () => {
  await withBench(async ({ clock, mount, asked, registry, tasks }) => {
    const set = async (seconds: number | null) => {
      registry.update("a", { remoteRefreshSeconds: seconds });
      tasks.update("store");
      await settle();
    };
    await mount(record("a", { remoteRefreshSeconds: 3600 }));
    await clock.pass(10_000);
    await set(15);
    await clock.pass(5_000);
    assert.equal(asked.length, 1);
    await set(null);
    assert.equal(clock.sleeping, 0);
    await clock.pass(100_000);
    assert.equal(asked.length, 1);
    await set(10);
    await clock.pass(10_000);
    assert.equal(asked.length, 2);
  });
});

Deno.test("unmounting ends it, also while it asks; mounting again starts it", async () => {
  await withBench(async ({ clock, mount, asked, answers, mounted, tasks, registry }) => {
    await mount(record("a"));
    answers.push("hang");
    await clock.pass(30_000);
    assert.equal(asked.length, 1);
    mounted.delete("a");
    tasks.update("store");
    await settle();
    assert.equal(registry.byId("a")?.lastFetchAt, null);
    await clock.pass(100_000);
    assert.equal(asked.length, 1);
    mounted.add("a");
    tasks.update("store");
    // And in one turn, as remount does.
    mounted.delete("a");
    tasks.update("store");
    mounted.add("a");
    tasks.update("store");
    await settle();
    await clock.pass(30_000);
    assert.equal(asked.length, 2);
  });
});

Deno.test("the first history is waited for", async () => {
  await withBench(async ({ clock, mount, asked, registry }) => {
    await mount(record("a", { history: "fetching" }), record("b", { history: "fetching" }));
    await clock.pass(90_000);
    assert.equal(asked.length, 0);
    registry.update("b", { history: "full" });
    await clock.pass(30_000);
    assert.deepEqual(asked, ["b"]);
  });
});

Deno.test("one that is asked for serves the whole store, and puts the next one off", async () => {
  await withBench(async ({ clock, mount, asked, tasks, registry, answers }) => {
    await mount(record("a"));
    registry.insert(record("b", { remoteRefreshSeconds: null }));
    await clock.pass(20_000);
    const result = await tasks.fetchNow(record("a"), now);
    assert.equal(result.failure, null);
    assert.deepEqual(asked, ["a,b"]);
    await clock.pass(29_000);
    assert.equal(asked.length, 1);
    await clock.pass(1_000);
    assert.equal(asked.length, 2);
    // A second one waits for the one that runs; both may be given up.
    answers.push("hang");
    const one = new AbortController();
    const two = new AbortController();
    const first = tasks.fetchNow(record("a"), { ...now, signal: one.signal });
    const second = tasks.fetchNow(record("a"), { ...now, signal: two.signal });
    await settle();
    assert.equal(asked.length, 3);
    two.abort(new Error("enough"));
    await assert.rejects(second, /enough/);
    one.abort(new Error("enough too"));
    await assert.rejects(first, /enough too/);
  });
});

Deno.test("what must not be disturbed ends the one that runs, and the schedule goes on", async () => {
  await withBench(async ({ clock, mount, asked, tasks, answers, registry }) => {
    await mount(record("a"));
    answers.push("hang", "hang");
    await clock.pass(30_000);
    const work = Promise.withResolvers<void>();
    const done = tasks.whileStopped("store", () => work.promise);
    await clock.pass(60_000);
    assert.equal(asked.length, 1, "while the other works");
    work.resolve();
    await done;
    await clock.pass(30_000);
    assert.equal(asked.length, 2);
    const removed = tasks.fetchNow(record("b"), now);
    await tasks.whileStopped("store", () => Promise.resolve());
    await assert.rejects(removed, /stopped/);
    assert.equal(registry.byId("a")?.fetchResult, "ok");
  });
});
