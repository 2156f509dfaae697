/**
 * The refreshes that run behind the mounts: one task per store, however many of its repositories
 * are mounted, at the shortest of their intervals.
 *
 *     state      event                          next
 *     absent     update, something is mounted   waiting (an interval)
 *     waiting    time is over                   asking
 *     waiting    update                         waiting (the new interval, from the last time on)
 *     asking     done                           waiting (an interval)
 *     asking     the remote failed              waiting (the interval doubled each time, up to
 *                                               MAX_RETRY_MS or one interval)
 *     asking     a user's git was at it         waiting (FIRST_RETRY_MS doubled, up to an interval)
 *     any        update, nothing is mounted     absent
 *     any        stopAll                        absent
 *
 * Invariants
 *  1. One refresh at a time per store: those of the schedule and those that are asked for queue.
 *  2. The schedule leaves a repository alone whose interval is "never", and a store whose first
 *     history is still to come.
 *  3. A task waits an interval before its first question, so nothing that ends and starts again
 *     asks more often than that.
 */

import { backoffMs, type Clock, systemClock } from "../clock.ts";
import { Failure, messageOf } from "../failure.ts";
import type { TransferProgress } from "../git/store.ts";
import { logger } from "../log.ts";
import type { Layout } from "../repo/layout.ts";
import { type RefreshResult, refreshStore } from "../repo/refresh.ts";
import type { Registry } from "../repo/registry.ts";
import type { RepoRecord } from "../repo/types.ts";
import { KeyedLock } from "../keyed_lock.ts";
import { events } from "./events.ts";

const MAX_RETRY_MS = 300_000;
const FIRST_RETRY_MS = 2_000;
/** Each wait is up to so much longer: the daemons of a fleet do not ask all at once. */
const JITTER = 0.1;

export interface RefreshTasksOptions {
  readonly layout: Layout;
  readonly registry: Registry;
  readonly isMounted: (repoId: string) => boolean;
  readonly clock?: Clock;
  /** 0 to 1. */
  readonly random?: () => number;
  readonly refresh?: typeof refreshStore;
}

export interface FetchNowOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: TransferProgress) => void;
}

interface Task {
  /** Start or end of the last attempt; at first, start of the task. */
  lastAt: number;
  /** Attempts that failed since the last that did not, and those that one user's git kept. */
  failures: number;
  hindered: number;
  /** Ends it. */
  readonly stop: AbortController;
  /** Ends its waiting: it is to end, or the interval may be another. */
  wake: AbortController;
  readonly ended: Promise<void>;
}

export class RefreshTasks {
  readonly #options: RefreshTasksOptions;
  readonly #registry: Registry;
  readonly #clock: Clock;
  readonly #tasks = new Map<string, Task>();
  /** What ends the refresh under way, by store. */
  readonly #running = new Map<string, AbortController>();
  /** What a store's remote had, and the repositories that were shown it. */
  readonly #seen = new Map<string, { remote: string; repos: ReadonlySet<string> }>();
  readonly #locks = new KeyedLock();
  readonly #log = logger("refresh");
  #closed = false;

  constructor(options: RefreshTasksOptions) {
    this.#options = options;
    this.#registry = options.registry;
    this.#clock = options.clock ?? systemClock;
  }

  /** To be called when a repository of the store was mounted, unmounted or got another interval. */
  update(storeId: string): void {
    if (this.#closed) return;
    const isDue = this.#due(storeId).length > 0;
    const known = this.#tasks.get(storeId);
    if (known !== undefined) {
      if (isDue) known.wake.abort();
      else end(known);
      return;
    }
    if (!isDue) return;
    const task: Task = {
      lastAt: this.#clock.now(),
      failures: 0,
      hindered: 0,
      stop: new AbortController(),
      wake: new AbortController(),
      // A turn later, so that the map holds the task before it can end.
      ended: Promise.resolve().then(() => this.#run(storeId, task)),
    };
    this.#tasks.set(storeId, task);
  }

  /**
   * Refreshes the repository's store now, for all repositories on it. Throws the signal's reason,
   * or Failure when it is stopped; what goes wrong otherwise is a result.
   */
  fetchNow(record: RepoRecord, options: FetchNowOptions): Promise<RefreshResult> {
    const { storeId } = record;
    return this.#locks.run(storeId, async () => {
      if (this.#closed || this.#registry.byId(record.id) === null) throw stopped();
      const repos = () => this.#registry.byStore(storeId);
      const result = await this.#attempt(record, repos, options);
      // From now on an interval is to be waited for.
      this.#tasks.get(storeId)?.wake.abort();
      return result;
    }, options.signal);
  }

  /** Runs `work` while no refresh of the store does; one that runs is ended. */
  whileStopped<T>(storeId: string, work: () => Promise<T>): Promise<T> {
    this.#running.get(storeId)?.abort(stopped());
    return this.#locks.run(storeId, work);
  }

  async stopAll(): Promise<void> {
    this.#closed = true;
    const tasks = [...this.#tasks.values()];
    for (const task of tasks) end(task);
    for (const running of this.#running.values()) running.abort(stopped());
    await Promise.all(tasks.map(({ ended }) => ended));
  }

  async #run(storeId: string, task: Task): Promise<void> {
    const { signal } = task.stop;
    try {
      for (;;) {
        const { lastAt } = task;
        const intervalMs = this.#intervalMs(storeId);
        if (intervalMs === null) return;
        if (await this.#wait(intervalMs, task)) {
          await this.#locks.run(storeId, async () => {
            // Somebody asked for one while this waited for its turn.
            if (task.lastAt === lastAt) await this.#scheduled(storeId, task);
          }, signal);
        }
      }
    } catch (error) {
      if (!signal.aborted) {
        this.#log.error("Could not go on refreshing", { error: messageOf(error) });
      }
    } finally {
      this.#tasks.delete(storeId);
      // It may have been mounted again meanwhile.
      this.update(storeId);
    }
  }

  /** Returns false when it was woken: the interval may be another. Throws when it is stopped. */
  async #wait(intervalMs: number, task: Task): Promise<boolean> {
    const { stop } = task;
    stop.signal.throwIfAborted();
    if (task.wake.signal.aborted) task.wake = new AbortController();
    const jitter = 1 + JITTER * (this.#options.random ?? Math.random)();
    const delayMs = delayOf(intervalMs, task) * jitter;
    // A clock that was set back makes nothing longer.
    const leftMs = Math.min(delayMs, task.lastAt + delayMs - this.#clock.now());
    if (leftMs <= 0) return true;
    const woken = task.wake.signal;
    try {
      await this.#clock.sleep(leftMs, woken);
      return true;
    } catch (error) {
      stop.signal.throwIfAborted();
      if (!woken.aborted) throw error;
      return false;
    }
  }

  async #scheduled(storeId: string, task: Task): Promise<void> {
    // A first history brings all that a refresh would.
    const repos = () => this.#due(storeId).filter((repo) => repo.history !== "fetching");
    const [first] = repos();
    task.lastAt = this.#clock.now();
    if (first === undefined) return;
    const seen = this.#seen.get(storeId);
    const known = seen !== undefined && repos().every(({ id }) => seen.repos.has(id))
      ? seen.remote
      : null;
    try {
      const { signal } = task.stop;
      await this.#attempt(first, repos, { signal, onProgress: () => {}, known });
    } catch (error) {
      task.stop.signal.throwIfAborted();
      // Ended by whileStopped.
      this.#log.debug("Refresh ended early", { error: messageOf(error) });
    }
  }

  async #attempt(
    record: RepoRecord,
    repos: () => RepoRecord[],
    { signal, onProgress, known = null }: FetchNowOptions & { readonly known?: string | null },
  ): Promise<RefreshResult> {
    const { storeId } = record;
    const startedAt = this.#clock.now();
    const running = new AbortController();
    const onAbort = () => running.abort(signal.reason);
    signal.throwIfAborted();
    signal.addEventListener("abort", onAbort, { once: true });
    this.#running.set(storeId, running);
    let result: RefreshResult;
    try {
      result = await (this.#options.refresh ?? refreshStore)(record, this.#options.layout, {
        signal: running.signal,
        repos,
        onProgress,
        known,
        clock: this.#clock,
      });
    } finally {
      this.#running.delete(storeId);
      signal.removeEventListener("abort", onAbort);
    }
    this.#note(repos(), result);
    this.#remember(storeId, repos(), result);
    tellResult(repos(), result, Math.max(0, this.#clock.now() - startedAt));
    const task = this.#tasks.get(storeId);
    if (task !== undefined) {
      task.lastAt = this.#clock.now();
      task.failures = result.failure === null ? 0 : task.failures + 1;
      task.hindered = result.unpublished.size === 0 ? 0 : task.hindered + 1;
    }
    return result;
  }

  /** What `status` says from now on. */
  #note(repos: readonly RepoRecord[], result: RefreshResult): void {
    const { lastFetchAt, failure, history, unpublished } = result;
    for (const { id, depth } of repos) {
      const cause = unpublished.get(id);
      this.#registry.update(id, {
        lastFetchAt,
        fetchResult: failure?.message ?? cause ?? "ok",
        ...(history === null || depth !== null || cause !== undefined ? {} : { history }),
      });
    }
  }

  #remember(storeId: string, repos: readonly RepoRecord[], result: RefreshResult): void {
    const { remote, unpublished } = result;
    if (unpublished.size > 0) this.#seen.delete(storeId);
    else if (remote !== null) {
      this.#seen.set(storeId, { remote, repos: new Set(repos.map(({ id }) => id)) });
    }
  }

  /** Repositories that are to be refreshed by themselves. */
  #due(storeId: string): RepoRecord[] {
    return this.#registry.byStore(storeId).filter((repo) =>
      repo.remoteRefreshSeconds !== null && this.#options.isMounted(repo.id)
    );
  }

  /** Null: nothing is to be refreshed. */
  #intervalMs(storeId: string): number | null {
    const seconds = this.#due(storeId).map((repo) => repo.remoteRefreshSeconds as number);
    return seconds.length === 0 ? null : 1000 * Math.min(...seconds);
  }
}

function tellResult(
  repos: readonly RepoRecord[],
  { failure, unpublished, changes, fetched }: RefreshResult,
  durationMs: number,
): void {
  const error = failure?.message ?? [...unpublished.values()].join("; ");
  const refs = [...changes.values()].reduce((sum, count) => sum + count, 0);
  events.emit("refreshed", repos.map(({ name }) => name), {
    refs,
    fetched,
    durationMs,
    error: error === "" ? null : error,
  });
}

function delayOf(intervalMs: number, { failures, hindered }: Task): number {
  if (failures > 0) return backoffMs(failures, intervalMs, Math.max(intervalMs, MAX_RETRY_MS));
  if (hindered > 0) return backoffMs(hindered - 1, FIRST_RETRY_MS, intervalMs);
  return intervalMs;
}

function end({ stop, wake }: Task): void {
  stop.abort(stopped());
  wake.abort();
}

function stopped(): Failure {
  return new Failure("failed", "Cannot fetch: it was stopped");
}
