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
 * What is not here yet (add-repo --async) has states of its own: preparing.ts.
 *
 * Invariants
 *  1. What two verbs do to one mount point does not interleave; so two `mount`s of the same thing
 *     give one mount.
 *  2. A verb that fails or is aborted leaves the repository as it was before.
 */

import { Failure, messageOf } from "../failure.ts";
import { parseRemote } from "../git/remote_url.ts";
import type { HostPath } from "../path.ts";
import { redact } from "../redact.ts";
import { checkMountPoint, checkName, lastFolders, removeMountPoint } from "../repo/checks.ts";
import { keepCredentials } from "../repo/credentials.ts";
import { isOwnGitfile, remoteOfPrepared } from "../repo/git_dir.ts";
import type { Layout } from "../repo/layout.ts";
import type { Registry } from "../repo/registry.ts";
import type { Preparation } from "../repo/preparations.ts";
import { removeRepo } from "../repo/remove.ts";
import { recoverSwitch } from "../repo/switch_intent.ts";
import type { RepoRecord } from "../repo/types.ts";
import { isWritable } from "../sys/mod.ts";
import type { MountResult, Params, RepoStatus, Result, Selector } from "../control/api.ts";
import type { Context, Handlers } from "../control/server.ts";
import { baseName, byName, refuseOther, sourceOf } from "./acquire_params.ts";
import { Acquiring, makeFolders } from "./acquiring.ts";
import { leftToAutomount } from "./automounts.ts";
import { events } from "./events.ts";
import type { HistoryTasks } from "./history_tasks.ts";
import { KeyedLock } from "../keyed_lock.ts";
import { lossesOf, wouldLose } from "./losses.ts";
import type { RefreshTasks } from "./refresh_tasks.ts";
import { fetchRepo, setRefresh } from "./refresh_verbs.ts";
import { registerSecretsOfRemote } from "./remote_secrets.ts";
import { historyText, statusOf } from "./status.ts";
import type { OperatingVerb } from "./operating.ts";
import { notYet, type PlaceholderMounts, Preparing } from "./preparing.ts";
import { selectedOf, type Selection } from "./selection.ts";
import { handedOver, type SwitchableMounts, switchTo } from "./switches.ts";

/** What the verbs need of `Mounts`. */
export interface MountTable extends SwitchableMounts, PlaceholderMounts {
  requestCount(repoId: string): number | null;
  /** `through`: as in FuseMountOptions. */
  mount(record: RepoRecord, through?: string): Promise<void>;
  unmount(repoId: string, options: { lazy: boolean }): Promise<void>;
  /** It waits for its repository. */
  isPlaceholder(repoId: string): boolean;
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
  /** For `ping`: where the daemon logs; null: to standard error. */
  readonly logPath?: string | null;
}

export class Service implements Omit<Handlers, OperatingVerb> {
  readonly #options: ServiceOptions;
  readonly #registry: Registry;
  readonly #layout: Layout;
  readonly #locks = new KeyedLock();
  readonly #preparing: Preparing;
  readonly #acquiring: Acquiring;
  /** Why a repository is not mounted though it should be, by id. */
  readonly #failures = new Map<string, string>();

  constructor(options: ServiceOptions) {
    this.#options = options;
    this.#registry = options.registry;
    this.#layout = options.layout;
    this.#acquiring = new Acquiring({
      layout: options.layout,
      registry: options.registry,
      live: options.live,
      remove: (record) => this.#remove(record),
    });
    this.#preparing = new Preparing({
      layout: options.layout,
      registry: options.registry,
      mounts: options.live?.mounts ?? null,
      onPublished: (record) => this.#mountPublished(record),
    });
  }

  /** Mounts what was mounted; a repository that fails is logged and leaves the others alone. */
  async mountAll(signal: AbortSignal): Promise<void> {
    const resumed = this.#preparing.resume();
    const wanted = this.#registry.all().filter((record) => record.wanted === "mounted");
    await Promise.allSettled(
      wanted.map(({ id, mountPoint }) =>
        this.#locks.run(mountPoint, async () => {
          const record = this.#registry.byId(id);
          // A verb was faster.
          if (record === null || record.wanted !== "mounted" || this.#isMounted(record)) return;
          if (leftToAutomount(record)) return;
          await registerSecretsOfRemote(record, this.#layout);
          await this.#mountRegistered(record);
        }, signal)
      ),
    );
    await resumed;
  }

  /** What is being prepared goes on with the next daemon. */
  async stopPreparing(): Promise<void> {
    await this.#preparing.stopAll();
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

  /** Of every repository, for who counts them. */
  states(): string[] {
    const prepared = this.#registry.all().map((record) => this.#stateOf(record));
    return [...prepared, ...this.#preparing.summaries().map(({ state }) => state)];
  }

  readonly ping = (): Promise<Result<"ping">> =>
    Promise.resolve({
      pid: Deno.pid,
      afs: this.#options.version,
      logPath: this.#options.logPath ?? null,
    });

  /** No repository is registered, and no verb is under way that may register one. */
  get isUnused(): boolean {
    return this.#locks.busyCount === 0 && this.#registry.everything().length === 0;
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
      const preparation = this.#registry.preparations.by("mountPoint", params.dir);
      if (preparation !== null) throw notYet(preparation);
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
      const url = await this.#remoteOf(params, params.remote);
      this.#options.live?.checkRights(parseRemote(url).url);
      return await this.#acquiring.withName(params.name, async () => {
        const request = { ...sourceOf(params), name: params.name, url, mountPoint };
        if (params.async) return await this.#preparing.add(request);
        return this.#resultOf(await this.#acquiring.acquire(request, context), true);
      });
    }, context.signal);
  };

  /** As it was said, or as a prepared git directory says. Throws Failure. */
  async #remoteOf(
    params: Params<"mount"> | Params<"add-repo">,
    said: string | null,
  ): Promise<string> {
    if (params.preparedGitDir) return await remoteOfPrepared(sourceOf(params), said, this.#layout);
    if (said !== null) return said;
    throw new Failure("usage", "Cannot add a repository: give its remote");
  }

  readonly prepare = async (
    { repo }: Params<"prepare">,
    context: Context,
  ): Promise<MountResult> => {
    const preparation = this.#preparing.find(repo, { inside: true });
    if (preparation !== null) await this.#preparing.prepare(preparation, context);
    const record = this.#find(repo, { inside: true });
    return this.#resultOf(record, preparation !== null);
  };

  readonly unmount = (params: Params<"unmount">, context: Context): Promise<Result<"unmount">> =>
    this.#withEither(params.repo, context, {
      preparing: (preparation) => this.#preparing.unmount(preparation, params.lazy),
      repo: (record) => this.#unmount(record, params.lazy, context),
    });

  async #unmount(
    record: RepoRecord,
    lazy: boolean,
    context: Context,
  ): Promise<Result<"unmount">> {
    const { name: repo, mountPoint } = record;
    if (this.#isMounted(record)) {
      context.onProgress({ phase: "Unmounting", percent: null });
      await this.#options.live?.mounts.unmount(record.id, { lazy });
    } else if (record.wanted === "unmounted") {
      throw new Failure("not-mounted", `Cannot unmount ${mountPoint}: it is not mounted`);
    }
    this.#failures.delete(record.id);
    this.#registry.update(record.id, { wanted: "unmounted" });
    return { repo, mountPoint };
  }

  readonly remount = (params: Params<"remount">, context: Context): Promise<Result<"remount">> =>
    this.#withEither(params.repo, context, {
      preparing: (preparation) => this.#preparing.remount(preparation),
      repo: async (record) => {
        this.#options.live?.checkRights(record.remote);
        if (this.#isMounted(record)) {
          context.onProgress({ phase: "Unmounting", percent: null });
          await this.#options.live?.mounts.unmount(record.id, { lazy: false });
        }
        context.onProgress({ phase: "Mounting", percent: null });
        await this.#mountRegistered(record);
        return { repo: record.name, mountPoint: record.mountPoint };
      },
    });

  readonly "remove-repo" = async (
    params: Params<"remove-repo">,
    context: Context,
  ): Promise<Result<"remove-repo">> => {
    // Not under the lock: one that has come to its end waits for that.
    if (!params.dryRun) await this.#preparing.stop(params.repo);
    return await this.#withEither(params.repo, context, {
      preparing: (preparation) => this.#preparing.remove(preparation, params),
      repo: (record) => this.#removeRepo(record, params, context),
    });
  };

  async #removeRepo(
    before: RepoRecord,
    params: Params<"remove-repo">,
    { onProgress }: Context,
  ): Promise<Result<"remove-repo">> {
    onProgress({ phase: "Looking for work that is only here", percent: null });
    const record = await this.#settled(before);
    const onlyHere = await lossesOf(record, this.#layout, params.force);
    const { name: repo, mountPoint } = record;
    if (params.dryRun) return { repo, mountPoint, removed: false, onlyHere };
    if (onlyHere.length > 0 && !params.force) {
      throw wouldLose(repo, onlyHere);
    }
    if (this.#isMounted(record)) {
      onProgress({ phase: "Unmounting", percent: null });
      await this.#options.live?.mounts.unmount(record.id, { lazy: params.force });
      await this.#refuseLate(record, params.force);
    }
    onProgress({ phase: "Removing", percent: null });
    await this.#remove(record);
    // What was there before is somebody's, and so is what somebody has put something into.
    await removeMountPoint(lastFolders(mountPoint, record.madeFolders));
    events.emit("removed", repo, { mountPoint });
    return { repo, mountPoint, removed: true, onlyHere };
  }

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
        context.onProgress({ phase: "Switching", percent: null });
        return await switchTo(record, parts, params);
      });
    if (outcome.outcome === "handed-over") {
      const { reason } = outcome;
      events.emit("switch-left-to-git", repo, { target: params.target, reason });
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
    return Promise.resolve({ repos: byName([...repos, ...this.#preparing.summaries()]) });
  };

  readonly status = async ({ repo }: Params<"status">): Promise<Result<"status">> => {
    const preparation = repo === null ? null : this.#preparing.find(repo, { inside: true });
    if (preparation !== null) return { repos: [this.#preparing.statusOf(preparation)] };
    const records = repo === null ? this.#registry.all() : [this.#find(repo, { inside: true })];
    const repos = await Promise.all(records.map(async (before) => {
      const record = await this.#settled(before);
      return await statusOf(record, this.#layout, {
        state: this.#stateOf(record),
        failure: this.#failures.get(record.id) ?? null,
        requests: this.#options.live?.mounts.requestCount(record.id) ?? null,
      });
    }));
    return { repos: repo === null ? byName([...repos, ...this.#preparing.statuses()]) : repos };
  };

  /** What is registered when the base has followed HEAD: changes are told against that. */
  async #settled(record: RepoRecord): Promise<RepoRecord> {
    await this.#options.live?.settle(record.id);
    return this.#registry.byId(record.id) ?? record;
  }

  /** Throws Failure. */
  #find(selector: Selector, selection?: Selection): RepoRecord {
    const preparation = this.#preparing.find(selector, selection);
    if (preparation !== null) throw notYet(preparation);
    const found = selectedOf(this.#registry, selector, selection);
    if (found !== null) return found;
    const what = selector.by === "name"
      ? `the repository ${JSON.stringify(selector.name)}`
      : `a repository at ${selector.dir}`;
    throw new Failure("failed", `Cannot find ${what}: see afs list-repos`);
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

  /** As #withRepo, of what may still be prepared. */
  #withEither<T>(
    selector: Selector,
    context: Context,
    work: {
      readonly preparing: (preparation: Preparation) => Promise<T>;
      readonly repo: (record: RepoRecord) => Promise<T>;
    },
  ): Promise<T> {
    const { mountPoint } = this.#preparing.find(selector) ?? this.#find(selector);
    return this.#locks.run(mountPoint, () => {
      const preparation = this.#preparing.find(selector);
      return preparation === null ? work.repo(this.#find(selector)) : work.preparing(preparation);
    }, context.signal);
  }

  /** What was prepared takes the place of its placeholder. Throws Failure. */
  async #mountPublished({ id, mountPoint }: RepoRecord): Promise<void> {
    const { live } = this.#options;
    await this.#locks.run(mountPoint, async () => {
      const record = this.#registry.byId(id);
      // Removed or unmounted meanwhile, or mounted by a verb that was faster.
      if (live === null || record === null || record.wanted !== "mounted") return;
      if (live.mounts.isMounted(id) && !live.mounts.isPlaceholder(id)) return;
      try {
        await live.mounts.mount(record);
      } catch (error) {
        await live.mounts.unmount(id, { lazy: true }).catch(() => {});
        this.#failures.set(id, messageOf(error));
        events.emit("mount-failed", record.name, { mountPoint, error: messageOf(error) });
        throw error;
      }
      live.history.ensureSoon(record);
    });
  }

  #isMounted(record: RepoRecord): boolean {
    return this.#options.live?.mounts.isMounted(record.id) ?? false;
  }

  #stateOf(record: RepoRecord): RepoStatus["state"] {
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
      preparing: false,
      acquired,
      mounted: this.#isMounted(record),
    };
  }

  async #acquireNamed(
    params: Params<"mount">,
    context: Context,
  ): Promise<{ record: RepoRecord; acquired: boolean }> {
    const { dir } = params;
    const url = await this.#remoteOf(params, params.url);
    const name = params.name ?? this.#acquiring.freeName(baseName(dir));
    return await this.#acquiring.withName(name, async () => {
      const mountPoint = dir as HostPath;
      const request = { ...sourceOf(params), name, url, mountPoint };
      const record = await this.#acquiring.acquire(request, context, params.through);
      return { record, acquired: true };
    });
  }

  /** `mount` of what is registered there already: no acquisition, the base stays. */
  async #mountAgain(
    record: RepoRecord,
    params: Params<"mount">,
    url: string,
    context: Context,
  ): Promise<{ record: RepoRecord; acquired: boolean }> {
    refuseOther(record, params, url);
    const { tokenFile } = params;
    const kept = await keepCredentials(record, params, this.#layout, context.signal);
    if (kept) this.#registry.update(record.id, { tokenFile });
    await registerSecretsOfRemote(record, this.#layout);
    const { refreshSeconds: seconds } = params;
    if (seconds !== undefined) setRefresh(record, { seconds }, this.#options);
    if (!this.#isMounted(record)) {
      context.onProgress({ phase: "Mounting", percent: null });
      await this.#mountRegistered(record, params.through);
    }
    return { record, acquired: false };
  }

  /** Mounts a registered repository, wanted from now on; its history goes on. Throws Failure. */
  async #mountRegistered(before: RepoRecord, through?: string): Promise<void> {
    const record = await recoverSwitch(before, this.#layout, this.#registry);
    const { mountPoint } = record;
    let made: HostPath[] = [];
    try {
      await checkMountPoint(mountPoint, {
        records: this.#registry.all(),
        stateRoot: this.#layout.stateRoot,
        own: record.id,
        isWritable,
        isOwnGitfile: isOwnGitfile(record, this.#layout),
      });
      // /tmp and the like are empty after a reboot.
      made = await makeFolders(record, this.#registry);
      await this.#options.live?.mounts.mount(record, through);
    } catch (error) {
      await removeMountPoint(made);
      this.#registry.update(record.id, { madeFolders: record.madeFolders });
      this.#failures.set(record.id, messageOf(error));
      events.emit("mount-failed", record.name, { mountPoint, error: messageOf(error) });
      throw error;
    }
    this.#failures.delete(record.id);
    this.#registry.update(record.id, { wanted: "mounted" });
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
