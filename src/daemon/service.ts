/**
 * The verbs. One object serves them in the daemon, and in the CLI when no daemon runs (then nothing
 * can be mounted: see `OFFLINE`).
 *
 * State of a repository, as `status` says it:
 *
 *     state       event                              next
 *     (none)      mount, add-repo                    mounted; (none) again when anything fails
 *     unmounted   mount, remount, daemon start       mounted, or failed with a cause
 *     failed      mount, remount, daemon start       mounted, or failed with a cause
 *     mounted     unmount                            unmounted
 *     mounted     umount(8)                          unmounted
 *     mounted     a crash of its worker              failed with a cause
 *     any         remove-repo                        (none)
 *
 * Invariants
 *  1. What two verbs do to one mount point does not interleave; so two `mount`s of the same thing
 *     give one mount.
 *  2. A name is given to one acquisition at a time.
 *  3. A verb that fails or is aborted leaves the repository as it was before.
 */

import { Failure, messageOf } from "../failure.ts";
import { parseRemote, storeIdOf } from "../git/remote_url.ts";
import { logger } from "../log.ts";
import type { HostPath } from "../path.ts";
import { redact } from "../redact.ts";
import { acquire, newRepoId } from "../repo/acquire.ts";
import {
  checkMountPoint,
  checkName,
  lastFolders,
  makeMountPoint,
  removeMountPoint,
} from "../repo/checks.ts";
import { keepCredentials } from "../repo/credentials.ts";
import type { Layout } from "../repo/layout.ts";
import { ownerOf } from "../repo/owner.ts";
import { nameTaken, type Registry } from "../repo/registry.ts";
import { removeRepo } from "../repo/remove.ts";
import { recoverSwitch } from "../repo/switch_intent.ts";
import type { RepoRecord } from "../repo/types.ts";
import { isWritable } from "../sys/mod.ts";
import type { MountResult, Params, Result, Selector } from "../control/api.ts";
import type { Context, Handlers } from "../control/server.ts";
import { AcquireSteps } from "./acquire_steps.ts";
import type { HistoryTasks } from "./history_tasks.ts";
import { KeyedLock } from "./keyed_lock.ts";
import { lossesOf, wouldLose } from "./losses.ts";
import type { RefreshTasks } from "./refresh_tasks.ts";
import { fetchRepo, setRefresh } from "./refresh_verbs.ts";
import { registerSecretsOfRemote } from "./remote_secrets.ts";
import { historyText, statusOf } from "./status.ts";
import { handedOver, type SwitchableMounts, switchTo } from "./switches.ts";

/** What the verbs need of `Mounts`. */
export interface MountTable extends SwitchableMounts {
  requestCount(repoId: string): number | null;
  mount(record: RepoRecord): Promise<void>;
  unmount(repoId: string, options: { lazy: boolean }): Promise<void>;
  isMounted(repoId: string): boolean;
  /** A mount on this store will come; call what it returns when it has, or will not. */
  expect(remoteUrl: string, storeId: string, repoId: string): () => void;
}

export interface ServiceOptions {
  readonly layout: Layout;
  readonly registry: Registry;
  /** Null: no daemon runs, nothing is mounted and nothing can be. */
  readonly live: {
    readonly mounts: MountTable;
    readonly history: HistoryTasks;
    /** Resolves when the base is where HEAD is, or some seconds later. */
    readonly settle: (repoId: string) => Promise<void>;
    readonly refresh: RefreshTasks;
    /** Throws Failure when this process may not mount. */
    readonly checkRights: (url: string) => void;
    /** Ends the daemon. */
    readonly stop: () => void;
  } | null;
  /** `daemon --root`: where add-repo mounts unless told; null: it must be told. */
  readonly mountRoot: string | null;
  /** Of the program; for `ping`. */
  readonly version: string;
}

interface Acquisition {
  readonly name: string;
  readonly url: string;
  readonly branch: string | null;
  readonly depth: number | null;
  readonly mountPoint: HostPath;
  readonly uid: number;
  readonly gid: number;
  readonly xattrs: boolean;
}

export class Service implements Handlers {
  readonly #options: ServiceOptions;
  readonly #registry: Registry;
  readonly #layout: Layout;
  readonly #locks = new KeyedLock();
  /** Names of acquisitions under way. */
  readonly #names = new Set<string>();
  /** Why a repository is not mounted though it should be, by id. */
  readonly #failures = new Map<string, string>();
  readonly #log = logger("daemon");

  constructor(options: ServiceOptions) {
    this.#options = options;
    this.#registry = options.registry;
    this.#layout = options.layout;
  }

  /** Mounts what was mounted; a repository that fails is logged and leaves the others alone. */
  async mountAll(signal: AbortSignal): Promise<void> {
    const wanted = this.#registry.all().filter((record) => record.wanted === "mounted");
    await Promise.allSettled(
      wanted.map(({ id, mountPoint }) =>
        this.#locks.run(mountPoint, async () => {
          const record = this.#registry.byId(id);
          // A verb was faster.
          if (record === null || record.wanted !== "mounted" || this.#isMounted(record)) return;
          await registerSecretsOfRemote(record, this.#layout);
          await this.#mountRegistered(record);
        }, signal)
      ),
    );
  }

  /** For `Mounts`: a mount is gone that no verb unmounted. */
  readonly onUnmounted = (repoId: string, cause: string): void => {
    // By umount(8): somebody wanted it so.
    if (cause === "unmounted") return;
    this.#failures.set(repoId, `mount is gone: ${cause}`);
  };

  /** For `Mounts`: the last answer of a remote is what `status` says of it. */
  readonly onFetched = (storeId: string, error: string | null): void => {
    const lastFetchAt = new Date().toISOString();
    const fetchResult = error === null ? "ok" : redact(error);
    for (const { id } of this.#registry.byStore(storeId)) {
      this.#registry.update(id, { lastFetchAt, fetchResult });
    }
  };

  readonly ping = (): Promise<Result<"ping">> =>
    Promise.resolve({ pid: Deno.pid, afs: this.#options.version });

  /** No repository is registered, and no verb is under way that may register one. */
  get isUnused(): boolean {
    return this.#locks.busyCount === 0 && this.#registry.all().length === 0;
  }

  readonly "stop-if-unused" = (): Promise<Result<"stop-if-unused">> => {
    const { isUnused } = this;
    if (isUnused) this.#options.live?.stop();
    return Promise.resolve({ stopping: isUnused });
  };

  readonly mount = async (params: Params<"mount">, context: Context): Promise<MountResult> => {
    const { record, acquired } = await this.#locks.run(params.dir, () => {
      const url = parseRemote(params.url).url;
      this.#options.live?.checkRights(url);
      const existing = this.#registry.byMountPoint(params.dir);
      return existing === null
        ? this.#acquireNamed(params, context)
        : this.#mountAgain(existing, params, url, context);
    }, context.signal);
    // The tree answers from here on: an abort ends the waiting, and undoes nothing.
    if (params.wait === "history") {
      await this.#waitForHistory(record, context);
    }
    return this.#resultOf(record, acquired);
  };

  async #waitForHistory(record: RepoRecord, context: Context): Promise<void> {
    try {
      await this.#options.live?.history.wait(
        record.id,
        ({ step, percent }) => {
          // The server's steps before are short.
          const known = step === "Receiving objects" ? percent : null;
          context.onProgress({ phase: "Fetching the history", percent: known });
        },
        context.signal,
      );
    } catch (error) {
      if (!context.signal.aborted) throw error;
      throw new Failure(
        "failed",
        `Cannot wait any longer: interrupted; ${record.mountPoint} stays mounted, and its ` +
          "history comes in behind it",
        { cause: error },
      );
    }
  }

  readonly "add-repo" = (params: Params<"add-repo">, context: Context): Promise<MountResult> => {
    const root = params.mountRoot ?? this.#options.mountRoot;
    checkName(params.name);
    if (root === null) {
      throw new Failure("usage", "Cannot add a repository: give --mount-root, an absolute path");
    }
    const mountPoint = `${root}/${params.name}` as HostPath;
    return this.#locks.run(mountPoint, async () => {
      this.#options.live?.checkRights(parseRemote(params.remote).url);
      return await this.#withName(params.name, async () => {
        const request = { ...params, url: params.remote, mountPoint };
        return this.#resultOf(await this.#acquire(request, context), true);
      });
    }, context.signal);
  };

  readonly unmount = (params: Params<"unmount">, context: Context): Promise<Result<"unmount">> =>
    this.#withRepo(params.repo, context, async (record) => {
      const { name: repo, mountPoint } = record;
      if (this.#isMounted(record)) {
        await this.#options.live?.mounts.unmount(record.id, { lazy: params.lazy });
        this.#log.info("Unmounted", { repo, mountPoint });
      } else if (record.wanted === "unmounted") {
        throw new Failure("not-mounted", `Cannot unmount ${mountPoint}: it is not mounted`);
      }
      this.#failures.delete(record.id);
      this.#registry.update(record.id, { wanted: "unmounted" });
      return { repo, mountPoint };
    });

  readonly remount = (params: Params<"remount">, context: Context): Promise<Result<"remount">> =>
    this.#withRepo(params.repo, context, async (record) => {
      this.#options.live?.checkRights(record.remote);
      if (this.#isMounted(record)) {
        await this.#options.live?.mounts.unmount(record.id, { lazy: false });
      }
      await this.#mountRegistered(record);
      return { repo: record.name, mountPoint: record.mountPoint };
    });

  readonly "remove-repo" = (
    params: Params<"remove-repo">,
    context: Context,
  ): Promise<Result<"remove-repo">> =>
    this.#withRepo(params.repo, context, async (before) => {
      const record = await this.#settled(before);
      const onlyHere = await lossesOf(record, this.#layout, params.force);
      const { name: repo, mountPoint } = record;
      if (params.dryRun) return { repo, mountPoint, removed: false, onlyHere };
      if (onlyHere.length > 0 && !params.force) {
        throw wouldLose(repo, onlyHere);
      }
      if (this.#isMounted(record)) {
        await this.#options.live?.mounts.unmount(record.id, { lazy: params.force });
        await this.#refuseLate(record, params.force);
      }
      await this.#remove(record);
      // What was there before is somebody's, and so is what somebody has put something into.
      await removeMountPoint(lastFolders(mountPoint, record.madeFolders));
      this.#log.info("Removed repository", { repo, mountPoint });
      return { repo, mountPoint, removed: true, onlyHere };
    });

  /** Not under the mount point's lock: nobody waits for the network to unmount. */
  readonly fetch = async ({ repo }: Params<"fetch">, context: Context): Promise<Result<"fetch">> =>
    await fetchRepo(this.#find(repo, { inside: true }), this.#options, context);

  readonly "set-refresh" = (
    params: Params<"set-refresh">,
    context: Context,
  ): Promise<Result<"set-refresh">> =>
    this.#withRepo(params.repo, context, (record) => {
      return Promise.resolve(setRefresh(record, params, this.#options));
    });

  readonly switch = async (
    params: Params<"switch">,
    context: Context,
  ): Promise<Result<"switch">> => {
    const found = this.#find(params.repo, { inside: true });
    const { name: repo, mountPoint } = found;
    const { live, layout } = this.#options;
    if (live === null || !this.#isMounted(found)) {
      throw new Failure("not-mounted", `Cannot switch: ${mountPoint} is not mounted`);
    }
    const isOther = params.repo.by === "dir" && params.repo.dir !== mountPoint;
    const outcome = isOther
      ? handedOver("it is another work tree, inside the mount")
      : await this.#withRepo({ by: "name", name: repo }, context, async (before) => {
        const record = await this.#settled(before);
        const historyIsHere = () => this.#waitForHistory(record, context);
        const parts = { layout, registry: this.#registry, mounts: live.mounts, historyIsHere };
        return await switchTo(record, parts, params);
      });
    if (outcome.outcome === "handed-over") {
      const { reason } = outcome;
      this.#log.info("Left to git", { repo, target: params.target, reason });
    }
    return { repo, mountPoint, ...outcome };
  };

  readonly "list-repos" = (): Promise<Result<"list-repos">> => {
    const repos = this.#registry.all().map((record) => ({
      repo: record.name,
      state: this.#stateOf(record),
      mountPoint: record.mountPoint,
      remote: record.remote,
      branch: record.branch,
    }));
    return Promise.resolve({ repos });
  };

  readonly status = async ({ repo }: Params<"status">): Promise<Result<"status">> => {
    const records = repo === null ? this.#registry.all() : [this.#find(repo, { inside: true })];
    const repos = await Promise.all(records.map(async (before) => {
      const record = await this.#settled(before);
      return await statusOf(record, this.#layout, {
        state: this.#stateOf(record),
        failure: this.#failures.get(record.id) ?? null,
        requests: this.#options.live?.mounts.requestCount(record.id) ?? null,
      });
    }));
    return { repos };
  };

  /** What is registered when the base has followed HEAD: changes are told against that. */
  async #settled(record: RepoRecord): Promise<RepoRecord> {
    await this.#options.live?.settle(record.id);
    return this.#registry.byId(record.id) ?? record;
  }

  /** Throws Failure. `inside`: a directory within the mount will do. */
  #find(selector: Selector, options: { inside: boolean } = { inside: false }): RepoRecord {
    if (selector.by === "name") {
      const record = this.#registry.byName(selector.name);
      if (record !== null) return record;
      const name = JSON.stringify(selector.name);
      throw new Failure("failed", `Cannot find the repository ${name}: see afs list-repos`);
    }
    const { dir } = selector;
    const found = this.#registry.byMountPoint(dir) ??
      this.#registry.all().find((record) =>
        options.inside && dir.startsWith(`${record.mountPoint}/`)
      );
    if (found !== undefined) return found;
    throw new Failure("failed", `Cannot find a repository at ${dir}: see afs list-repos`);
  }

  /** Runs `work` when nothing else is being done to the repository. */
  #withRepo<T>(
    selector: Selector,
    context: Context,
    work: (record: RepoRecord) => Promise<T>,
  ): Promise<T> {
    const lookedUp = this.#find(selector);
    return this.#locks.run(
      lookedUp.mountPoint,
      () => work(this.#find(selector)),
      context.signal,
    );
  }

  #isMounted(record: RepoRecord): boolean {
    return this.#options.live?.mounts.isMounted(record.id) ?? false;
  }

  #stateOf(record: RepoRecord): "mounted" | "unmounted" | "failed" {
    if (this.#isMounted(record)) return "mounted";
    return this.#failures.has(record.id) ? "failed" : "unmounted";
  }

  #resultOf(before: RepoRecord, acquired: boolean): MountResult {
    const record = this.#registry.byId(before.id) ?? before;
    return {
      repo: record.name,
      mountPoint: record.mountPoint,
      remote: record.remote,
      head: record.baseCommitOid,
      ref: record.ref,
      history: historyText(record),
      acquired,
      mounted: this.#isMounted(record),
    };
  }

  async #acquireNamed(
    params: Params<"mount">,
    context: Context,
  ): Promise<{ record: RepoRecord; acquired: boolean }> {
    const { url, dir, branch, depth, uid, gid, xattrs } = params;
    const name = params.name ?? this.#freeName(baseName(dir));
    return await this.#withName(name, async () => {
      const mountPoint = dir as HostPath;
      const request = { name, url, branch, depth, mountPoint, uid, gid, xattrs };
      return { record: await this.#acquire(request, context), acquired: true };
    });
  }

  #freeName(wish: string): string {
    const taken = (name: string) => this.#names.has(name) || this.#registry.byName(name) !== null;
    let name = wish;
    for (let number = 2; taken(name); number++) name = `${wish}-${number}`;
    return name;
  }

  async #withName<T>(name: string, work: () => Promise<T>): Promise<T> {
    if (this.#names.has(name) || this.#registry.byName(name) !== null) throw nameTaken(name);
    this.#names.add(name);
    try {
      return await work();
    } finally {
      this.#names.delete(name);
    }
  }

  /** Makes, registers and mounts a repository; a failure of any of these leaves nothing. */
  async #acquire(request: Acquisition, context: Context): Promise<RepoRecord> {
    const wanted = await checkMountPoint(request.mountPoint, {
      records: this.#registry.all(),
      stateRoot: this.#layout.stateRoot,
      isWritable,
    });
    const { live } = this.#options;
    const { url } = parseRemote(request.url);
    const storeId = storeIdOf(url, request.depth);
    const id = newRepoId();
    const letGo: (() => void)[] = [];
    const onAsked = () => {
      // Starting workers holds this thread: now git and the remote are at work meanwhile.
      if (live !== null && letGo.length === 0) letGo.push(live.mounts.expect(url, storeId, id));
    };
    try {
      return await this.#acquireAndMount(
        { ...request, mountPoint: wanted.path },
        id,
        context,
        onAsked,
      );
    } finally {
      for (const each of letGo) each();
    }
  }

  async #acquireAndMount(
    request: Acquisition,
    id: string,
    context: Context,
    onAsked: () => void,
  ): Promise<RepoRecord> {
    const progress = new AcquireSteps(context.onProgress);
    const record = await acquire(request, {
      layout: this.#layout,
      id,
      register: (record) => this.#registry.insert(record),
      onProgress: (event) => {
        if (event.state === "asked") onAsked();
        progress.show(event);
      },
      signal: context.signal,
    });
    let made: HostPath[] = [];
    try {
      made = await this.#makeMountPoint(record);
      if (this.#options.live !== null) {
        context.signal.throwIfAborted();
        context.onProgress({ phase: "Mounting", percent: null });
        await this.#options.live.mounts.mount(record);
        await this.#undoMountIfAborted(record, context.signal);
      }
    } catch (error) {
      await this.#remove(record).catch((cause) => {
        this.#log.error("Could not undo", { repo: record.name, error: messageOf(cause) });
      });
      await removeMountPoint(made);
      throw error;
    }
    this.#log.info("Acquired repository", {
      repo: record.name,
      remote: record.remote,
      commit: record.baseCommitOid,
      mountPoint: record.mountPoint,
    });
    this.#options.live?.history.ensureSoon(record);
    return record;
  }

  /** Makes what is missing of it, which is ours to remove later. Returns what was made. */
  async #makeMountPoint({ id, mountPoint, ...owner }: RepoRecord): Promise<HostPath[]> {
    const made = await makeMountPoint(mountPoint, ownerOf(owner));
    if (made.length > 0) this.#registry.update(id, { madeFolders: made.length });
    return made;
  }

  async #undoMountIfAborted(record: RepoRecord, signal: AbortSignal): Promise<void> {
    if (!signal.aborted) return;
    await this.#options.live?.mounts.unmount(record.id, { lazy: true });
    throw signal.reason;
  }

  /** `mount` of what is registered there already: no acquisition, the base stays. */
  async #mountAgain(
    record: RepoRecord,
    params: Params<"mount">,
    url: string,
    context: Context,
  ): Promise<{ record: RepoRecord; acquired: boolean }> {
    refuseOther(record, params, url);
    await keepCredentials(record, params.url, this.#layout, context.signal);
    await registerSecretsOfRemote(record, this.#layout);
    if (!this.#isMounted(record)) {
      context.onProgress({ phase: "Mounting", percent: null });
      await this.#mountRegistered(record);
    }
    return { record, acquired: false };
  }

  /** Mounts a registered repository, wanted from now on; its history goes on. Throws Failure. */
  async #mountRegistered(before: RepoRecord): Promise<void> {
    const record = await recoverSwitch(before, this.#layout, this.#registry);
    const { name: repo, mountPoint } = record;
    let made: HostPath[] = [];
    try {
      await checkMountPoint(mountPoint, {
        records: this.#registry.all(),
        stateRoot: this.#layout.stateRoot,
        own: record.id,
        isWritable,
      });
      // /tmp and the like are empty after a reboot.
      made = await this.#makeMountPoint(record);
      await this.#options.live?.mounts.mount(record);
    } catch (error) {
      await removeMountPoint(made);
      this.#registry.update(record.id, { madeFolders: record.madeFolders });
      this.#failures.set(record.id, messageOf(error));
      this.#log.error("Could not mount", { repo, mountPoint, error: messageOf(error) });
      throw error;
    }
    this.#failures.delete(record.id);
    this.#registry.update(record.id, { wanted: "mounted" });
    this.#log.info("Mounted", { repo, mountPoint });
    this.#options.live?.history.ensure(record);
  }

  /** Somebody may have written between the first look and the unmount. */
  async #refuseLate(record: RepoRecord, force: boolean): Promise<void> {
    if (force) return;
    const onlyHere = await lossesOf(record, this.#layout, force);
    if (onlyHere.length === 0) return;
    await this.#mountRegistered(record);
    throw wouldLose(record.name, onlyHere);
  }

  /** Removes a repository that is not mounted. */
  async #remove(record: RepoRecord): Promise<void> {
    const last = this.#registry.byStore(record.storeId).every((other) => other.id === record.id);
    if (last) await this.#options.live?.history.stop(record.storeId);
    const remove = () => removeRepo(record, { layout: this.#layout, registry: this.#registry });
    await (this.#options.live?.refresh.whileStopped(record.storeId, remove) ?? remove());
    this.#failures.delete(record.id);
  }
}

/** Throws Failure (busy: another repository is there; usage: it is there in another form). */
function refuseOther(record: RepoRecord, params: Params<"mount">, url: string): void {
  const fail = (what: string) =>
    new Failure(
      "busy",
      `Cannot mount at ${params.dir}: ${what}; choose another directory, or remove-repo --name ` +
        record.name,
    );
  const plain = (text: string) => text.replace(/\/+$/, "");
  if (plain(url) !== plain(record.remote)) {
    throw fail(`"${record.name}" of ${record.remote} is registered there`);
  }
  if (params.branch !== null && params.branch !== record.branch) {
    const branch = record.branch === null ? "the remote's default branch" : record.branch;
    throw fail(`"${record.name}" with ${branch} is registered there`);
  }
  if (params.depth !== null && params.depth !== record.depth) {
    throw fail(`"${record.name}" with another depth is registered there`);
  }
  if (params.xattrs && !record.xattrs) {
    throw fail(`"${record.name}" is registered there without extended attributes`);
  }
  if (params.name !== null && params.name !== record.name) {
    throw fail(`it is registered there as "${record.name}"`);
  }
  if (params.ownerGiven && (params.uid !== record.uid || params.gid !== record.gid)) {
    throw fail(`"${record.name}" for user ${record.uid}, group ${record.gid} is registered there`);
  }
}

function baseName(dir: string): string {
  // "/" has none; checkMountPoint refuses it.
  return dir.slice(dir.lastIndexOf("/") + 1).trim() || "root";
}
