/**
 * Acquisition for a verb that waits for it: makes, registers and mounts a repository.
 *
 * Invariants
 *  1. A name is given to one acquisition at a time.
 *  2. One that fails or is aborted leaves nothing.
 */

import type { Context } from "../control/server.ts";
import { messageOf } from "../failure.ts";
import { parseRemote, storeIdOf } from "../git/remote_url.ts";
import { logger } from "../log.ts";
import type { HostPath } from "../path.ts";
import { acquire, type AcquireRequest, newRepoId } from "../repo/acquire.ts";
import { checkMountPoint, makeMountPoint, removeMountPoint } from "../repo/checks.ts";
import { checkGitDir, isOwnGitfile } from "../repo/git_dir.ts";
import type { Layout } from "../repo/layout.ts";
import { ownerOf } from "../repo/owner.ts";
import { nameTaken, type Registry } from "../repo/registry.ts";
import type { RepoRecord } from "../repo/types.ts";
import { isWritable } from "../sys/mod.ts";
import { AcquireEvents, AcquireSteps } from "./acquire_steps.ts";
import { events } from "./events.ts";

export interface AcquiringOptions {
  readonly layout: Layout;
  readonly registry: Registry;
  /** Null: no daemon runs. */
  readonly live: {
    readonly mounts: {
      mount(record: RepoRecord, through?: string): Promise<void>;
      unmount(repoId: string, options: { lazy: boolean }): Promise<void>;
      /** A mount on this store will come; call what it returns when it has, or will not. */
      expect(remoteUrl: string, storeId: string, repoId: string): () => void;
    };
    readonly history: { ensureSoon(record: RepoRecord): void };
  } | null;
  /** Removes a repository that is not mounted. */
  readonly remove: (record: RepoRecord) => Promise<void>;
}

export class Acquiring {
  readonly #options: AcquiringOptions;
  readonly #registry: Registry;
  /** Of acquisitions under way. */
  readonly #names = new Set<string>();
  readonly #log = logger("daemon");

  constructor(options: AcquiringOptions) {
    this.#options = options;
    this.#registry = options.registry;
  }

  #isTaken(name: string): boolean {
    return this.#names.has(name) || this.#registry.byName(name) !== null ||
      this.#registry.preparations.by("name", name) !== null;
  }

  freeName(wish: string): string {
    let name = wish;
    for (let number = 2; this.#isTaken(name); number++) name = `${wish}-${number}`;
    return name;
  }

  async withName<T>(name: string, work: () => Promise<T>): Promise<T> {
    if (this.#isTaken(name)) throw nameTaken(name);
    this.#names.add(name);
    try {
      return await work();
    } finally {
      this.#names.delete(name);
    }
  }

  /** Makes, registers and mounts a repository; a failure of any of these leaves nothing. */
  async acquire(
    request: AcquireRequest,
    context: Context,
    through?: string,
  ): Promise<RepoRecord> {
    const { live } = this.#options;
    const wanted = await checkPlaces(request, this.#options);
    const { url } = parseRemote(request.url);
    const storeId = storeIdOf(url, request);
    const id = newRepoId();
    const letGo: (() => void)[] = [];
    const onAsked = () => {
      // Starting workers holds this thread: now git and the remote are at work meanwhile.
      if (live !== null && letGo.length === 0) letGo.push(live.mounts.expect(url, storeId, id));
    };
    try {
      return await this.#acquireAndMount(
        { ...request, ...wanted },
        id,
        context,
        onAsked,
        through,
      );
    } finally {
      for (const each of letGo) each();
    }
  }

  async #acquireAndMount(
    request: AcquireRequest,
    id: string,
    context: Context,
    onAsked: () => void,
    through?: string,
  ): Promise<RepoRecord> {
    const { layout, live, remove } = this.#options;
    const progress = new AcquireSteps(context.onProgress);
    const told = new AcquireEvents(request);
    const record = await acquire(request, {
      layout,
      id,
      register: (record) => this.#registry.insert(record),
      onProgress: (event) => {
        if (event.state === "asked") onAsked();
        progress.show(event);
        told.show(event);
      },
      signal: context.signal,
    }).catch((error) => {
      told.failed(error);
      throw error;
    });
    told.done(record);
    let made: HostPath[] = [];
    try {
      made = await makeFolders(record, this.#registry);
      if (live !== null) {
        context.signal.throwIfAborted();
        context.onProgress({ phase: "Mounting", percent: null });
        await live.mounts.mount(record, through);
        await this.#undoMountIfAborted(record, context.signal);
      }
    } catch (error) {
      const { name, mountPoint } = record;
      events.emit("mount-failed", name, { mountPoint, error: messageOf(error) });
      await remove(record).catch((cause) => {
        this.#log.error("Could not undo", { repo: record.name, error: messageOf(cause) });
      });
      await removeMountPoint(made);
      throw error;
    }
    live?.history.ensureSoon(record);
    return record;
  }

  async #undoMountIfAborted(record: RepoRecord, signal: AbortSignal): Promise<void> {
    if (!signal.aborted) return;
    await this.#options.live?.mounts.unmount(record.id, { lazy: true });
    throw signal.reason;
  }
}

/** Mount point and git directory of what is to be acquired, as they are kept. Throws Failure. */
export async function checkPlaces(
  request: AcquireRequest,
  { layout, registry }: { readonly layout: Layout; readonly registry: Registry },
): Promise<Pick<AcquireRequest, "mountPoint" | "gitDir">> {
  const records = registry.everything();
  const gitDir = await checkGitDir(request, { layout, records });
  const { path: mountPoint } = await checkMountPoint(request.mountPoint, {
    records,
    stateRoot: layout.stateRoot,
    isWritable,
    isOwnGitfile: isOwnGitfile({ ...request, id: "", gitDir }, layout),
  });
  return { mountPoint, gitDir };
}

/** Makes what is missing of its mount point: ours to remove later. Returns what was made. */
export async function makeFolders(
  { id, mountPoint, ...owner }: RepoRecord,
  registry: Registry,
): Promise<HostPath[]> {
  const made = await makeMountPoint(mountPoint, ownerOf(owner));
  if (made.length > 0) registry.update(id, { madeFolders: made.length });
  return made;
}
