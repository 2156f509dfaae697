/**
 * The figures at `/metrics`. What happens is counted from the events; what is, is asked for when
 * somebody looks. A thread that is busy is waited for ANSWER_MS, and what it would have said is
 * left out then. Names and meanings stay as they are: docs/operating.md.
 *
 * A label is a repository's name or one of a few words, never a path, URL or secret.
 */

import type { RepoSummary } from "../control/api.ts";
import { messageOf } from "../failure.ts";
import { logger } from "../log.ts";
import type { MountHandle } from "../mount/handle.ts";
import { readProcFile } from "../sys/mod.ts";
import type { DaemonEvent, EventBus } from "./events.ts";
import { type Family, metricsText, Samples } from "./metrics_text.ts";
import type { OverlayUsage } from "./overlay_usage.ts";
import type { StoreWorkers } from "./store_workers.ts";

export const FAMILIES = {
  afs_build_info: { type: "gauge", help: "1; the labels say which version runs." },
  afs_uptime_seconds: { type: "gauge", help: "Seconds since the daemon was started." },
  afs_repos: { type: "gauge", help: "Registered repositories by state." },
  afs_fuse_requests_total: {
    type: "counter",
    help: "Requests of the kernel since the mount, by operation.",
  },
  afs_fuse_request_errors_total: {
    type: "counter",
    help: "Requests of the kernel that were answered with an error, by error.",
  },
  afs_fuse_requests_waiting: {
    type: "gauge",
    help: "Requests of the kernel that wait for something.",
  },
  afs_monitor_queries_total: {
    type: "counter",
    help: "Questions of git what has changed, since the mount.",
  },
  afs_overlay_files: { type: "gauge", help: "Files whose contents are in the overlay." },
  afs_overlay_bytes: { type: "gauge", help: "Their sizes." },
  afs_hydration_batches_total: {
    type: "counter",
    help: "Fetches of file contents that have ended, by reason.",
  },
  afs_hydration_blobs_total: { type: "counter", help: "File contents that they brought." },
  afs_hydration_bytes_total: { type: "counter", help: "Bytes of the packs that they brought." },
  afs_hydration_errors_total: { type: "counter", help: "Those of them that have failed." },
  afs_hydration_seconds_total: { type: "counter", help: "How long they took, added up." },
  afs_hydration_queue: {
    type: "gauge",
    help: "File contents that are to be fetched or are being fetched.",
  },
  afs_hydration_fetches: { type: "gauge", help: "Fetches of file contents that run." },
  afs_rebases_total: {
    type: "counter",
    help: "Commits that came beneath a work tree because HEAD has moved, by result.",
  },
  afs_switches_total: { type: "counter", help: "Switches by afs switch, by result." },
  afs_refreshes_total: {
    type: "counter",
    help: "Questions to a remote for new refs, by result.",
  },
  afs_prepare_errors_total: { type: "counter", help: "Acquisitions that have failed." },
  afs_mount_errors_total: { type: "counter", help: "Mounts that could not be made." },
  afs_mounts_lost_total: { type: "counter", help: "Mounts that were lost, not unmounted." },
  afs_threads: { type: "gauge", help: "Threads that afs has started, by what they do." },
  afs_threads_unanswered: {
    type: "gauge",
    help: "Threads that were too busy to answer this question, by what they do.",
  },
  process_resident_memory_bytes: { type: "gauge", help: "Memory in use." },
  process_virtual_memory_bytes: { type: "gauge", help: "Address space in use." },
  process_threads: { type: "gauge", help: "Threads of the process, the runtime's too." },
  process_cpu_seconds_total: { type: "counter", help: "User and system time." },
  process_start_time_seconds: { type: "gauge", help: "Start of the daemon, since 1970." },
} as const satisfies Readonly<Record<string, Family>>;

type Name = keyof typeof FAMILIES;

export interface MetricsParts {
  readonly version: string;
  readonly repos: () => Promise<readonly Pick<RepoSummary, "repo" | "state">[]>;
  /** By name. */
  readonly mounts: () => readonly {
    readonly repo: string;
    readonly handle: Pick<MountHandle, "counters" | "ping">;
  }[];
  readonly stores: () => readonly Pick<StoreWorkers, "load" | "threads">[];
  readonly overlay: (repo: string) => Promise<OverlayUsage | null>;
}

/** So long a thread may take to say what it has counted. */
const ANSWER_MS = 500;
const STATES: readonly RepoSummary["state"][] = ["mounted", "unmounted", "preparing", "failed"];
/** USER_HZ, which is 100 everywhere (times(2)). */
const TICKS_PER_SECOND = 100;

export class Metrics {
  readonly #parts: MetricsParts;
  readonly #counted = new Samples<Name>();
  readonly #startedAt = Date.now();
  readonly #started = performance.now();

  constructor(parts: MetricsParts, events: Pick<EventBus, "subscribe">) {
    this.#parts = parts;
    for (const reason of ["read", "directory", "walk", "scan"]) this.#countBatch({ reason });
    events.subscribe((event) => this.#count(event));
  }

  async text(): Promise<string> {
    const samples = new Samples<Name>();
    const { version } = this.#parts;
    const deno = Deno.version.deno;
    samples.add("afs_build_info", { version, deno, os: Deno.build.os, arch: Deno.build.arch }, 1);
    samples.add("afs_uptime_seconds", {}, (performance.now() - this.#started) / 1000);
    samples.add("process_start_time_seconds", {}, this.#startedAt / 1000);
    samples.addAll(this.#counted);
    addProcess(samples);
    await Promise.all([
      this.#addRepos(samples),
      ...this.#parts.mounts().map((mount) => addMount(samples, mount)),
      this.#addStores(samples),
    ]);
    return metricsText(FAMILIES, samples);
  }

  #count({ event, repos, fields }: DaemonEvent): void {
    const counted = this.#counted;
    const each = (name: Name, labels: Readonly<Record<string, string>> = {}) => {
      for (const repo of repos) counted.add(name, { repo, ...labels }, 1);
    };
    switch (event) {
      case "hydrated":
        this.#countBatch(fields, 1);
        break;
      case "rebased":
        each("afs_rebases_total", { result: "done" });
        break;
      case "rebase-failed":
        each("afs_rebases_total", { result: "failed" });
        break;
      case "switched":
        each("afs_switches_total", { result: "done" });
        break;
      case "switch-left-to-git":
        each("afs_switches_total", { result: "left_to_git" });
        break;
      case "refreshed": {
        const news = fields.fetched || fields.refs > 0 ? "new" : "nothing_new";
        each("afs_refreshes_total", { result: fields.error === null ? news : "failed" });
        break;
      }
      case "prepare-failed":
        counted.add("afs_prepare_errors_total", {}, 1);
        break;
      case "mount-failed":
        each("afs_mount_errors_total");
        break;
      case "mount-lost":
        each("afs_mounts_lost_total");
        break;
      case "removed":
        // Whoever makes and removes repositories all day must not fill the memory.
        for (const repo of repos) counted.forget("repo", repo);
        break;
    }
  }

  /** Without a batch: the counters are there from the start. */
  #countBatch(
    { reason, blobs = 0, packBytes = 0, durationMs = 0, error = null }: {
      readonly reason: string;
      readonly blobs?: number;
      readonly packBytes?: number;
      readonly durationMs?: number;
      readonly error?: string | null;
    },
    batches = 0,
  ): void {
    const counted = this.#counted;
    counted.add("afs_hydration_batches_total", { reason }, batches);
    counted.add("afs_hydration_blobs_total", { reason }, blobs);
    counted.add("afs_hydration_bytes_total", { reason }, packBytes);
    counted.add("afs_hydration_errors_total", { reason }, error === null ? 0 : 1);
    counted.add("afs_hydration_seconds_total", { reason }, durationMs / 1000);
  }

  async #addRepos(samples: Samples<Name>): Promise<void> {
    const repos = await this.#parts.repos();
    for (const state of STATES) samples.add("afs_repos", { state }, 0);
    for (const { state } of repos) samples.add("afs_repos", { state }, 1);
    await Promise.all(repos.map(async ({ repo }) => {
      const usage = await this.#parts.overlay(repo);
      if (usage === null) return;
      samples.add("afs_overlay_files", { repo }, usage.files);
      samples.add("afs_overlay_bytes", { repo }, usage.bytes);
    }));
  }

  async #addStores(samples: Samples<Name>): Promise<void> {
    const stores = this.#parts.stores();
    for (const kind of ["mount", "hydrator", "indexer"]) {
      samples.add("afs_threads", { kind }, 0);
      if (kind !== "indexer") samples.add("afs_threads_unanswered", { kind }, 0);
    }
    for (const name of ["afs_hydration_queue", "afs_hydration_fetches"] as const) {
      samples.add(name, {}, 0);
    }
    await Promise.all(stores.map(async (store) => {
      const { hydrator, indexer } = store.threads;
      samples.add("afs_threads", { kind: "hydrator" }, hydrator);
      samples.add("afs_threads", { kind: "indexer" }, indexer);
      const load = hydrator === 0 ? { queued: 0, fetches: 0 } : await store.load(ANSWER_MS);
      if (load === null) samples.add("afs_threads_unanswered", { kind: "hydrator" }, 1);
      samples.add("afs_hydration_queue", {}, load?.queued ?? 0);
      samples.add("afs_hydration_fetches", {}, load?.fetches ?? 0);
    }));
  }
}

async function addMount(
  samples: Samples<Name>,
  { repo, handle }: ReturnType<MetricsParts["mounts"]>[number],
): Promise<void> {
  samples.add("afs_threads", { kind: "mount" }, 1);
  for (const [op, count] of handle.counters.byOp()) {
    samples.add("afs_fuse_requests_total", { repo, op }, count);
  }
  for (const [errno, count] of handle.counters.byErrno()) {
    samples.add("afs_fuse_request_errors_total", { repo, errno }, count);
  }
  const pong = await handle.ping(ANSWER_MS);
  if (pong === null) {
    samples.add("afs_threads_unanswered", { kind: "mount" }, 1);
    return;
  }
  samples.add("afs_fuse_requests_waiting", { repo }, pong.waiting);
  samples.add("afs_monitor_queries_total", { repo }, pong.monitorQueries);
}

function addProcess(samples: Samples<Name>): void {
  try {
    const status = readProcFile("/proc/self/status");
    const field = (name: string) =>
      Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1] ?? 0);
    samples.add("process_resident_memory_bytes", {}, 1024 * field("VmRSS"));
    samples.add("process_virtual_memory_bytes", {}, 1024 * field("VmSize"));
    samples.add("process_threads", {}, field("Threads"));
    // proc_pid_stat(5): the second field may hold blanks; utime and stime are the 14th and 15th.
    const stat = readProcFile("/proc/self/stat");
    const rest = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const ticks = Number(rest[11]) + Number(rest[12]);
    samples.add("process_cpu_seconds_total", {}, ticks / TICKS_PER_SECOND);
  } catch (error) {
    logger("daemon").debug("No figures of the process", { error: messageOf(error) });
  }
}
