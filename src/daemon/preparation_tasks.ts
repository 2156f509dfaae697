/**
 * What makes repositories of preparations (`add-repo --async`), behind the verbs.
 *
 *     state      event                                next
 *     absent     start                                running
 *     running    acquired                             absent, and `onPublished`
 *     running    acquisition fails                    absent, the row has an error, and `onFailed`
 *     running    stop (remove-repo, the daemon ends)  absent; the row is as it was
 *
 * A daemon that ends or is killed starts it again with the next one.
 */

import { type Clock, orAborted, systemClock } from "../clock.ts";
import type { Progress } from "../control/api.ts";
import { Failure, messageOf } from "../failure.ts";
import { storeIdOf } from "../git/remote_url.ts";
import { redact } from "../redact.ts";
import { acquire, type AcquireRequest } from "../repo/acquire.ts";
import type { Layout } from "../repo/layout.ts";
import type { Preparation } from "../repo/preparations.ts";
import type { Registry } from "../repo/registry.ts";
import { type RepoRecord, repoSettingsOf } from "../repo/types.ts";
import { AcquireEvents, AcquireSteps } from "./acquire_steps.ts";

export interface PreparationTasksOptions {
  readonly layout: Layout;
  readonly registry: Registry;
  /** Its row is a repository's now. */
  readonly onPublished: (record: RepoRecord) => Promise<void>;
  readonly onFailed: (preparation: Preparation) => void;
  /** The remote is waited for; what it returns is called when that has ended. */
  readonly onAsked: (preparation: Preparation) => () => void;
  readonly clock?: Clock;
  /** Default: acquire. */
  readonly acquire?: typeof acquire;
}

type OnProgress = (progress: Omit<Progress, "kind">) => void;

interface Task {
  readonly controller: AbortController;
  readonly listeners: Set<OnProgress>;
  /** Null: it was published, or stopped. Never rejects. */
  readonly ended: Promise<Failure | null>;
}

export class PreparationTasks {
  readonly #options: PreparationTasksOptions;
  readonly #tasks = new Map<string, Task>();

  constructor(options: PreparationTasksOptions) {
    this.#options = options;
  }

  /** Starts it unless it runs. */
  start(preparation: Preparation): void {
    const { id } = preparation;
    if (this.#tasks.has(id)) return;
    const task: Task = {
      controller: new AbortController(),
      listeners: new Set(),
      // A turn later, so that the map holds the task before it can end.
      ended: Promise.resolve().then(() => this.#run(preparation, task)).finally(() => {
        this.#tasks.delete(id);
      }),
    };
    this.#tasks.set(id, task);
  }

  /** Resolves when it has ended; at once when it does not run. Throws Failure when it failed. */
  async wait(id: string, onProgress: OnProgress, signal: AbortSignal): Promise<void> {
    const task = this.#tasks.get(id);
    if (task === undefined) return;
    task.listeners.add(onProgress);
    try {
      const failure = await orAborted(task.ended, signal);
      if (failure !== null) throw failure;
    } finally {
      task.listeners.delete(onProgress);
    }
  }

  /** Ends it, and undoes what it has made. */
  async stop(id: string): Promise<void> {
    const task = this.#tasks.get(id);
    task?.controller.abort(new Failure("failed", "Cannot prepare: it was stopped"));
    await task?.ended;
  }

  async stopAll(): Promise<void> {
    await Promise.all([...this.#tasks.keys()].map((id) => this.stop(id)));
  }

  async #run(preparation: Preparation, task: Task): Promise<Failure | null> {
    const { layout, registry, clock = systemClock, onAsked } = this.#options;
    const { id } = preparation;
    const { signal } = task.controller;
    const told = new AcquireEvents(requestOf(preparation));
    const steps = new AcquireSteps((progress) => task.listeners.forEach((each) => each(progress)));
    const letGo: (() => void)[] = [];
    try {
      const record = await (this.#options.acquire ?? acquire)(requestOf(preparation), {
        layout,
        id,
        register: (record) => registry.insert(this.#asItIsNow(preparation, record)),
        onProgress: (event) => {
          if (event.state === "asked" && letGo.length === 0) letGo.push(onAsked(preparation));
          steps.show(event);
          told.show(event);
        },
        signal,
        clock,
      });
      told.done(record);
      await this.#options.onPublished(record);
      return null;
    } catch (error) {
      if (signal.aborted) return null;
      const text = redact(messageOf(error));
      told.failed(error);
      // Of a row that has become a repository's this changes nothing.
      registry.preparations.update(id, { error: text });
      this.#options.onFailed(preparation);
      return error instanceof Failure ? error : new Failure("failed", text, { cause: error });
    } finally {
      for (const each of letGo) each();
    }
  }

  /** What verbs have changed meanwhile. */
  #asItIsNow({ id }: Preparation, record: RepoRecord): RepoRecord {
    const now = this.#options.registry.preparations.by("id", id);
    if (now === null) throw new Failure("failed", "Cannot prepare: it was removed");
    const { madeFolders, remoteRefreshSeconds, wanted } = now;
    return { ...record, madeFolders, remoteRefreshSeconds, wanted };
  }
}

function requestOf(preparation: Preparation): AcquireRequest {
  const { name, remote: url } = preparation;
  return { ...repoSettingsOf(preparation), name, url };
}

/** Where its objects will be. */
export function storeIdOfPreparation(preparation: Preparation): string {
  return storeIdOf(preparation.remote, preparation);
}
