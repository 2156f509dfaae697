/**
 * The histories that come in behind the mounts: one task per store, since all its repositories get
 * it from one fetch.
 *
 *     state      event                       next
 *     absent     ensure                      fetching
 *     absent     ensureSoon                  soon
 *     soon       SOON_MS later, or ensure    fetching
 *     fetching   done, none left to serve    absent
 *     fetching   done, a repository is new   fetching
 *     fetching   failed                      waiting (2 s, doubled up to 5 min)
 *     waiting    time is over                fetching
 *     any        stop                        absent
 *
 * Invariant: what the registry says about history is written here only, after acquisition (and by
 * `fetch` where no daemon runs).
 */

import { backoffMs, type Clock, orAborted, systemClock } from "../clock.ts";
import { Failure, messageOf } from "../failure.ts";
import { logger } from "../log.ts";
import { fetchHistory, type HistoryOptions, type HistoryResult } from "../repo/history.ts";
import type { Layout } from "../repo/layout.ts";
import type { Registry } from "../repo/registry.ts";
import type { RepoRecord } from "../repo/types.ts";
import { events } from "./events.ts";

/** So long the processors belong to whoever waited for the tree, and looks at it now. */
const SOON_MS = 300;
const FIRST_RETRY_MS = 2_000;
const MAX_RETRY_MS = 300_000;

export interface HistoryTasksOptions {
  readonly layout: Layout;
  readonly registry: Registry;
  readonly clock?: Clock;
  readonly fetch?: typeof fetchHistory;
}

type OnProgress = NonNullable<HistoryOptions["onProgress"]>;

interface Task {
  readonly controller: AbortController;
  readonly ended: Promise<void>;
  readonly listeners: Set<OnProgress>;
  /** The attempt under way, or the last one while waiting for the next. */
  attempt: PromiseWithResolvers<HistoryResult>;
}

export class HistoryTasks {
  readonly #layout: Layout;
  readonly #registry: Registry;
  readonly #clock: Clock;
  readonly #fetch: typeof fetchHistory;
  readonly #tasks = new Map<string, Task>();
  /** What ends the waiting of those that start soon, by store. */
  readonly #soon = new Map<string, AbortController>();
  readonly #log = logger("history");

  constructor(options: HistoryTasksOptions) {
    this.#layout = options.layout;
    this.#registry = options.registry;
    this.#clock = options.clock ?? systemClock;
    this.#fetch = options.fetch ?? fetchHistory;
  }

  /** Starts a task for the repository's store when its history is not all here and none runs. */
  ensure(record: RepoRecord): void {
    if (record.history !== "fetching" || this.#tasks.has(record.storeId)) return;
    const controller = new AbortController();
    const task: Task = {
      controller,
      listeners: new Set(),
      attempt: newAttempt(),
      // A turn later, so that the map holds the task before it can end.
      ended: Promise.resolve().then(() => this.#run(record.storeId, task)),
    };
    this.#tasks.set(record.storeId, task);
  }

  /** As ensure, for a repository that was mounted just now: a little later. */
  ensureSoon(record: RepoRecord): void {
    const { storeId } = record;
    if (record.history !== "fetching" || this.#soon.has(storeId)) return;
    const controller = new AbortController();
    this.#soon.set(storeId, controller);
    this.#clock.sleep(SOON_MS, controller.signal).then(() => {
      this.#soon.delete(storeId);
      this.ensure(record);
    }, () => {});
  }

  /**
   * Resolves when the repository's history is here, or is not to be fetched. Throws Failure when
   * the attempt fails; the task goes on trying.
   */
  async wait(repoId: string, onProgress: OnProgress, signal: AbortSignal): Promise<void> {
    for (;;) {
      const record = this.#registry.byId(repoId);
      if (record === null || record.history !== "fetching") return;
      this.ensure(record);
      const task = this.#tasks.get(record.storeId);
      if (task === undefined) continue;
      task.listeners.add(onProgress);
      try {
        const { failure } = await orAborted(task.attempt.promise, signal);
        // Another repository of the store may be the one it failed for.
        if (failure !== null && this.#registry.byId(repoId)?.history === "fetching") {
          throw new Failure(
            failure.kind,
            `${failure.message}; the mount stays, and the daemon tries again`,
          );
        }
      } finally {
        task.listeners.delete(onProgress);
      }
    }
  }

  /** Ends the task of a store, if there is one. */
  async stop(storeId: string): Promise<void> {
    this.#soon.get(storeId)?.abort();
    this.#soon.delete(storeId);
    const task = this.#tasks.get(storeId);
    if (task === undefined) return;
    task.controller.abort(new Failure("failed", "Cannot fetch the history: it was stopped"));
    await task.ended;
  }

  async stopAll(): Promise<void> {
    const storeIds = new Set([...this.#soon.keys(), ...this.#tasks.keys()]);
    await Promise.all([...storeIds].map((storeId) => this.stop(storeId)));
  }

  async #run(storeId: string, task: Task): Promise<void> {
    const { signal } = task.controller;
    try {
      for (let failures = 0;;) {
        const repos = this.#waiting(storeId);
        const [first] = repos;
        if (first === undefined) return;
        if (failures > 0) {
          await this.#clock.sleep(backoffMs(failures - 1, FIRST_RETRY_MS, MAX_RETRY_MS), signal);
          task.attempt = newAttempt();
        }
        const result = await this.#attempt(first, task);
        failures = result.failure === null ? 0 : failures + 1;
        task.attempt.resolve(result);
        if (failures === 0) task.attempt = newAttempt();
      }
    } catch (error) {
      if (!signal.aborted) {
        this.#log.error("Could not go on fetching the history", { error: messageOf(error) });
      }
      task.attempt.reject(error);
    } finally {
      this.#tasks.delete(storeId);
      // Whoever waits looks at the registry again.
      task.attempt.resolve(NOTHING_DONE);
    }
  }

  async #attempt(record: RepoRecord, task: Task): Promise<HistoryResult> {
    const { storeId } = record;
    const startedAt = this.#clock.now();
    // One that is registered after the fetch has asked was not given its refs.
    let served: readonly RepoRecord[] = [record];
    const result = await this.#fetch(record, this.#layout, {
      signal: task.controller.signal,
      repos: () => served = this.#registry.byStore(storeId),
      onProgress: (progress) => task.listeners.forEach((listener) => listener(progress)),
    });
    const { history, lastFetchAt, fetchResult } = result;
    const repos = served.filter((repo) => repo.depth === null);
    for (const repo of repos) {
      const cause = result.unpublished.get(repo.id);
      const changes = cause === undefined ? { history, fetchResult } : { fetchResult: cause };
      this.#registry.update(repo.id, { ...changes, lastFetchAt });
    }
    events.emit("history-fetched", repos.map((repo) => repo.name), {
      history,
      durationMs: Math.max(0, this.#clock.now() - startedAt),
      error: result.failure === null ? null : fetchResult,
    });
    return result;
  }

  #waiting(storeId: string): RepoRecord[] {
    return this.#registry.byStore(storeId).filter((repo) => repo.history === "fetching");
  }
}

const NOTHING_DONE: HistoryResult = {
  history: "fetching",
  lastFetchAt: "",
  fetchResult: "ok",
  failure: null,
  unpublished: new Map(),
};

function newAttempt(): PromiseWithResolvers<HistoryResult> {
  const attempt = Promise.withResolvers<HistoryResult>();
  // Often nobody waits.
  attempt.promise.catch(() => {});
  return attempt;
}
