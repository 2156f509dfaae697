import assert from "node:assert/strict";
import { FuseCounters } from "../fuse/counters.ts";
import { setupLog } from "../log.ts";
import type { Pong } from "../mount/messages.ts";
import { EventBus } from "./events.ts";
import { FAMILIES, Metrics, type MetricsParts } from "./metrics.ts";
import { metricsText, Samples } from "./metrics_text.ts";
import { OverlayUsages } from "./overlay_usage.ts";
import { unready } from "./readiness.ts";

setupLog({ write: () => {} });

const NOTHING: MetricsParts = {
  version: "1",
  repos: () => Promise.resolve([]),
  mounts: () => [],
  stores: () => [],
  overlay: () => Promise.resolve(null),
};

function mount(repo: string, pong: Pong | null) {
  const counters = new FuseCounters();
  return { repo, handle: { counters, ping: () => Promise.resolve(pong) } };
}

/** Value of a sample, as it is printed. */
function valueOf(text: string, sample: string): string | undefined {
  return text.split("\n").find((line) => line.startsWith(`${sample} `))?.slice(sample.length + 1);
}

Deno.test("text format: help and type first, labels escaped, families without samples too", () => {
  const families = {
    a_total: { type: "counter", help: "One\\two\nthree." },
    b: { type: "gauge", help: "B." },
  } as const;
  const samples = new Samples<keyof typeof families>();
  samples.add("a_total", { repo: 'x"\\\ny' }, 1);
  samples.add("a_total", { repo: 'x"\\\ny' }, 2);
  assert.equal(
    metricsText(families, samples),
    "# HELP a_total One\\\\two\\nthree.\n# TYPE a_total counter\n" +
      'a_total{repo="x\\"\\\\\\ny"} 3\n# HELP b B.\n# TYPE b gauge\n',
  );
});

Deno.test("every line of all metrics is of the format, and its family is described before", async () => {
  const bus = new EventBus();
  const counted = mount('o"dd', { waiting: 1, monitorQueries: 2 });
  counted.handle.counters.request(1, true);
  counted.handle.counters.error(2);
  const metrics = new Metrics({
    ...NOTHING,
    repos: () => Promise.resolve([{ repo: 'o"dd', state: "mounted" }]),
    mounts: () => [counted],
    overlay: () => Promise.resolve({ files: 1, bytes: 2 }),
  }, bus);
  bus.emit("switched", 'o"dd', { from: "a", to: "b", ref: null, changed: 1, mountMs: 1 });
  const text = await metrics.text();
  const described = new Set<string>();
  for (const line of text.trimEnd().split("\n")) {
    const comment = /^# (HELP|TYPE) ([a-z_]+) (.+)$/.exec(line);
    if (comment !== null) {
      described.add(comment[2] as string);
      continue;
    }
    const sample = /^([a-z_]+)(?:\{[a-z]+="(?:[^"\\]|\\.)*"(?:,[a-z]+="(?:[^"\\]|\\.)*")*\})? \S+$/
      .exec(line);
    assert.ok(sample !== null, line);
    assert.ok(described.has(sample[1] as string), line);
    assert.ok(Number.isFinite(Number(line.slice(line.lastIndexOf(" ") + 1))), line);
  }
  assert.deepEqual([...described], Object.keys(FAMILIES));
  assert.equal(valueOf(text, 'afs_fuse_requests_total{repo="o\\"dd",op="LOOKUP"}'), "1");
  assert.equal(valueOf(text, 'afs_fuse_request_errors_total{repo="o\\"dd",errno="ENOENT"}'), "1");
  assert.equal(valueOf(text, 'afs_overlay_bytes{repo="o\\"dd"}'), "2");
  assert.equal(valueOf(text, 'afs_repos{state="mounted"}'), "1");
});

Deno.test("events are counted; a repository that is removed leaves nothing", async () => {
  const bus = new EventBus();
  const metrics = new Metrics(NOTHING, bus);
  const batch = { reason: "walk", blobs: 3, packBytes: 10, durationMs: 500, error: null } as const;
  // One fetch for the store that two share.
  bus.emit("hydrated", ["a", "b"], batch);
  bus.emit("hydrated", ["a", "b"], { ...batch, error: "Cannot" });
  const asked = { refs: 0, fetched: false, durationMs: 1, error: null };
  bus.emit("refreshed", ["a", "b"], asked);
  bus.emit("refreshed", "a", { ...asked, refs: 1 });
  bus.emit("refreshed", "a", { ...asked, error: "Cannot" });
  bus.emit("rebase-failed", "a", { error: "Cannot" });
  const text = await metrics.text();
  for (
    const [sample, value] of [
      ['afs_hydration_batches_total{reason="walk"}', "2"],
      ['afs_hydration_batches_total{reason="read"}', "0"],
      ['afs_hydration_blobs_total{reason="walk"}', "6"],
      ['afs_hydration_bytes_total{reason="walk"}', "20"],
      ['afs_hydration_errors_total{reason="walk"}', "1"],
      ['afs_hydration_seconds_total{reason="walk"}', "1"],
      ['afs_refreshes_total{repo="b",result="nothing_new"}', "1"],
      ['afs_refreshes_total{repo="a",result="new"}', "1"],
      ['afs_refreshes_total{repo="a",result="failed"}', "1"],
      ['afs_rebases_total{repo="a",result="failed"}', "1"],
    ] as const
  ) assert.equal(valueOf(text, sample), value, sample);
  bus.emit("removed", "a", { mountPoint: "/a" });
  const after = await metrics.text();
  assert.doesNotMatch(after, /repo="a"/);
  assert.match(after, /repo="b"/);
});

Deno.test("a thread that does not answer is left out and counted", async () => {
  const metrics = new Metrics({
    ...NOTHING,
    mounts: () => [mount("a", null), mount("b", { waiting: 5, monitorQueries: 0 })],
    stores: () => [{
      load: () => Promise.resolve(null),
      threads: { hydrator: 1, indexer: 1 },
    }],
  }, new EventBus());
  const text = await metrics.text();
  assert.equal(valueOf(text, 'afs_threads{kind="mount"}'), "2");
  assert.equal(valueOf(text, 'afs_threads_unanswered{kind="mount"}'), "1");
  assert.equal(valueOf(text, 'afs_threads_unanswered{kind="hydrator"}'), "1");
  assert.equal(valueOf(text, 'afs_fuse_requests_waiting{repo="a"}'), undefined);
  assert.equal(valueOf(text, 'afs_fuse_requests_waiting{repo="b"}'), "5");
});

Deno.test("ready: what is wanted and answers, nothing else", async () => {
  const repo = (id: string, wanted: "mounted" | "unmounted") => ({ id, name: id, wanted });
  const registry = {
    everything: () => [
      ...["up", "gone", "stuck"].map((id) => repo(id, "mounted")),
      repo("unwanted", "unmounted"),
      repo("later", "mounted"),
    ],
  } as unknown as Parameters<typeof unready>[0];
  const answers = (pong: Pong | null) => ({ ping: () => Promise.resolve(pong) });
  const fine = { waiting: 0, monitorQueries: 0 };
  const mounts = {
    watched: () => [
      { repoId: "up", handle: answers(fine) },
      { repoId: "stuck", handle: answers(null) },
      { repoId: "later", handle: answers(fine) },
    ],
    isPlaceholder: (id: string) => id === "later",
  };
  assert.deepEqual(await unready(registry, mounts, false), [
    "gone: not mounted",
    "stuck: does not answer",
    "later: not prepared",
  ]);
  assert.deepEqual(await unready(registry, mounts, true), ["the daemon is stopping"]);
});

Deno.test("overlay usage: files and their sizes; a folder that is not there has none", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${dir}/upper`);
    for (const [name, size] of [["1", 10], ["2", 0], ["3", 5]] as const) {
      await Deno.writeFile(`${dir}/upper/${name}`, new Uint8Array(size));
    }
    const usages = new OverlayUsages();
    assert.deepEqual(await usages.of(dir), { files: 3, bytes: 15 });
    assert.deepEqual(await usages.of(`${dir}/none`), { files: 0, bytes: 0 });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
