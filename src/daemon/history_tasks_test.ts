import assert from "node:assert/strict";
import type { Clock } from "../clock.ts";
import { Failure } from "../failure.ts";
import type { Oid } from "../git/oid.ts";
import { setupLog } from "../log.ts";
import type { HostPath } from "../path.ts";
import type { fetchHistory, HistoryResult } from "../repo/history.ts";
import { layoutOf } from "../repo/layout.ts";
import { openRegistry, type Registry } from "../repo/registry.ts";
import { PLAIN_SETTINGS } from "../repo/testing.ts";
import type { RepoRecord } from "../repo/types.ts";
import { HistoryTasks } from "./history_tasks.ts";

setupLog({ write: () => {} });

const OID = "0".repeat(40) as Oid;
const DONE: HistoryResult = {
  history: "full",
  lastFetchAt: "2026-01-02T03:04:05.000Z",
  fetchResult: "ok",
  failure: null,
  unpublished: new Map(),
};
const FAILED: HistoryResult = {
  ...DONE,
  history: "fetching",
  fetchResult: "Cannot fetch: no network",
  failure: new Failure("network", "Cannot fetch: no network"),
};

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
    history: "fetching",
    acquiredAt: "2026-01-01T00:00:00.000Z",
    lastFetchAt: null,
    fetchResult: "ok",
    ...changes,
  };
}

interface Bench {
  readonly registry: Registry;
  readonly tasks: HistoryTasks;
  /** What the fetches answer, one after the other; then they wait for ever. */
  readonly answers: HistoryResult[];
  readonly slept: number[];
  /** Lets the one who sleeps go on. */
  wake(): void;
  fetches: number;
}

async function withBench(body: (bench: Bench) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  const layout = layoutOf(dir as HostPath);
  const registry = openRegistry(layout);
  let waking = Promise.withResolvers<void>();
  const clock: Clock = {
    now: () => 0,
    sleep(ms, signal) {
      bench.slept.push(ms);
      signal?.addEventListener("abort", () => waking.reject(signal.reason), { once: true });
      return waking.promise;
    },
  };
  const fetch: typeof fetchHistory = (_record, _layout, options = {}) => {
    bench.fetches++;
    options.repos?.();
    const answer = bench.answers.shift();
    if (answer !== undefined) return Promise.resolve(answer);
    return new Promise((_, reject) =>
      options.signal?.addEventListener("abort", () => reject(options.signal?.reason))
    );
  };
  const bench: Bench = {
    registry,
    tasks: new HistoryTasks({ layout, registry, clock, fetch }),
    answers: [],
    slept: [],
    wake() {
      const { resolve } = waking;
      waking = Promise.withResolvers();
      resolve();
    },
    fetches: 0,
  };
  try {
    await body(bench);
  } finally {
    await bench.tasks.stopAll();
    registry.close();
    await Deno.remove(dir, { recursive: true });
  }
}

const never = new AbortController().signal;

/** Lets everything that is ready run. */
function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

Deno.test("one fetch serves all repositories of a store, but not those with a depth", async () => {
  await withBench(async ({ registry, tasks, answers, ...rest }) => {
    const shallow = record("c", { depth: 1, history: "shallow" });
    for (const repo of [record("a"), record("b"), shallow]) registry.insert(repo);
    answers.push(DONE);
    await Promise.all(["a", "b", "c"].map((id) => tasks.wait(id, () => {}, never)));
    assert.deepEqual(registry.all().map((repo) => repo.history), ["full", "full", "shallow"]);
    assert.equal(registry.byId("c")?.lastFetchAt, null);
    assert.deepEqual(rest.slept, []);
  });
});

Deno.test("a repository whose git directory is broken fails alone", async () => {
  await withBench(async ({ registry, tasks, answers }) => {
    for (const repo of [record("a"), record("b")]) registry.insert(repo);
    const cause = "Cannot write refs into the git directory of b";
    answers.push({
      ...DONE,
      failure: new Failure("failed", cause),
      unpublished: new Map([["b", cause]]),
    });
    const b = tasks.wait("b", () => {}, never);
    await tasks.wait("a", () => {}, never);
    await assert.rejects(b, /git directory of b/);
    const known = registry.all().map(({ history, fetchResult }) => [history, fetchResult]);
    assert.deepEqual(known, [["full", "ok"], ["fetching", cause]]);
  });
});

Deno.test("a failure is told to who waits, and tried again later and later", async () => {
  await withBench(async (bench) => {
    const { registry, tasks, answers } = bench;
    registry.insert(record("a"));
    answers.push(FAILED, FAILED, FAILED);
    await assert.rejects(tasks.wait("a", () => {}, never), /no network; the mount stays/);
    assert.equal(registry.byId("a")?.fetchResult, FAILED.fetchResult);
    await settle();
    bench.wake();
    await settle();
    bench.wake();
    await settle();
    assert.deepEqual(bench.slept, [2000, 4000, 8000]);
    answers.push(DONE);
    bench.wake();
    await settle();
    assert.equal(registry.byId("a")?.history, "full");
    assert.equal(bench.fetches, 4);
  });
});

Deno.test("stopping ends a fetch and a pause; who waits is let go", async () => {
  await withBench(async ({ registry, tasks }) => {
    registry.insert(record("a"));
    const waiting = tasks.wait("a", () => {}, never);
    const rejected = assert.rejects(waiting, /stopped/);
    await settle();
    await tasks.stop("store");
    await rejected;
    assert.equal(registry.byId("a")?.history, "fetching");
  });
});

Deno.test("who waits may give up; the fetch goes on", async () => {
  await withBench(async (bench) => {
    bench.registry.insert(record("a"));
    const controller = new AbortController();
    const waiting = bench.tasks.wait("a", () => {}, controller.signal);
    await settle();
    controller.abort(new Error("enough"));
    await assert.rejects(waiting, /enough/);
    assert.equal(bench.fetches, 1);
  });
});

Deno.test("soon is later, unless somebody waits for it", async () => {
  await withBench(async (bench) => {
    const first = record("a");
    bench.registry.insert(first);
    bench.tasks.ensureSoon(first);
    bench.tasks.ensureSoon(first);
    await settle();
    assert.deepEqual([bench.fetches, bench.slept], [0, [300]]);
    bench.answers.push(DONE);
    bench.wake();
    await settle();
    assert.equal(bench.fetches, 1);
    assert.equal(bench.registry.byId("a")?.history, "full");

    const second = record("b");
    bench.registry.insert(second);
    bench.tasks.ensureSoon(second);
    bench.answers.push(DONE);
    await bench.tasks.wait("b", () => {}, never);
    assert.equal(bench.fetches, 2);
    // When its time comes there is nothing to do.
    bench.wake();
    await settle();
    assert.equal(bench.fetches, 2);
  });
});

Deno.test("what is stopped before it starts never does", async () => {
  await withBench(async (bench) => {
    const only = record("a");
    bench.registry.insert(only);
    bench.tasks.ensureSoon(only);
    await bench.tasks.stop("store");
    bench.wake();
    await settle();
    assert.equal(bench.fetches, 0);
    bench.tasks.ensureSoon(record("b", { history: "full" }));
    bench.tasks.ensureSoon(only);
    assert.deepEqual(bench.slept, [300, 300]);
    await bench.tasks.stopAll();
  });
});
