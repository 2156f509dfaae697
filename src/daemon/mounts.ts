/**
 * Every mount of this daemon, and the workers of their stores.
 *
 * Invariants
 *  1. A repository is mounted at most once: as itself, or as a placeholder that waits for it.
 *  2. A store's workers live exactly as long as one of its mounts does, or is expected.
 *  3. A mount point is only ever touched by its mount worker (design section 2).
 */

import { Bug, Failure } from "../failure.ts";
import type { BaseId } from "../git/base_id.ts";
import { pathExists } from "../git/files.ts";
import type { HeadTree } from "../git/import.ts";
import type { Oid } from "../git/oid.ts";
import { logger, type LogLevel } from "../log.ts";
import { MountHandle, type MountWant, spawnMountWorker } from "../mount/handle.ts";
import type { MountCommand, MountTree, Rebased, Switched } from "../mount/messages.ts";
import type { HostPath } from "../path.ts";
import { Converter, forgetOtherBoots } from "../repo/converter.ts";
import type { Layout } from "../repo/layout.ts";
import { userGitDirOf, userGitDirPath } from "../repo/owner.ts";
import type { Preparation } from "../repo/preparations.ts";
import type { RepoRecord } from "../repo/types.ts";
import { detachOurMounts } from "../sys/mod.ts";
import { BorrowedBlobs } from "./borrowed_blobs.ts";
import { events } from "./events.ts";
import { StoreWorkers } from "./store_workers.ts";

export interface MountsOptions {
  readonly layout: Layout;
  readonly hydrationConcurrency: number;
  /** A store's remote was asked for contents: null when it gave them, else why not. */
  readonly onFetched: (storeId: string, error: string | null) => void;
  /** A mount answers. */
  readonly onMounted: (repoId: string) => void;
  /** A mount is gone, whoever unmounted it. */
  readonly onClosed: (repoId: string) => void;
  /** A repository of this store was mounted, or is not any more. */
  readonly onChange: (storeId: string) => void;
  /** A mount is gone that nobody here unmounted. */
  readonly onUnmounted: (repoId: string, cause: string) => void;
}

interface Mounted {
  readonly mountId: number;
  readonly record: RepoRecord;
  readonly store: StoreWorkers;
  readonly handle: MountHandle;
  readonly converter: Converter;
  readonly borrowed: BorrowedBlobs;
  /** `unmount` was called. */
  leaving: boolean;
  /** Why it is taken away though nobody asked for it. */
  lost: string | null;
}

/** Mounted, and not yet what it is to be. */
interface Placeholder {
  readonly handle: MountHandle;
  /** Null: there is no store to ask. */
  onWant: ((want: MountWant) => void) | null;
  /** `unmount` was called. */
  leaving: boolean;
}

export class Mounts {
  readonly #options: MountsOptions;
  readonly #mounted = new Map<string, Mounted>();
  readonly #placeholders = new Map<string, Placeholder>();
  readonly #stores = new Map<string, StoreWorkers>();
  /** Workers that end; those that come after them use the same folders. */
  readonly #closing = new Map<string, Promise<void>>();
  /** Converters and importers that end. */
  readonly #ending = new Set<Promise<void>>();
  /** Mounts expected or under way, per store: they keep its workers too. */
  readonly #expected = new Map<string, number>();
  /** Mount workers that wait for their expected mount, by repository. */
  readonly #spares = new Map<string, Worker>();
  readonly #log = logger("mounts");
  #nextMountId = 1;
  /** It was said that other users see nothing. */
  #hasSaidPrivate = false;

  constructor(options: MountsOptions) {
    this.#options = options;
  }

  /** A placeholder is a mount too. */
  isMounted(repoId: string): boolean {
    return this.#mounted.has(repoId) || this.#placeholders.has(repoId);
  }

  /** It waits for its repository. */
  isPlaceholder(repoId: string): boolean {
    return this.#placeholders.has(repoId);
  }

  /** Requests of the kernel since it was mounted; null: not mounted. */
  requestCount(repoId: string): number | null {
    const mounted = this.#mounted.get(repoId) ?? this.#placeholders.get(repoId);
    return mounted?.handle.counters.awaited ?? null;
  }

  /** Every mount, placeholders too, for who watches the daemon. */
  watched(): { readonly repoId: string; readonly handle: MountHandle }[] {
    const all = [...this.#mounted, ...this.#placeholders];
    return all.map(([repoId, { handle }]) => ({ repoId, handle }));
  }

  /** The workers of every store. */
  stores(): Pick<StoreWorkers, "load" | "threads">[] {
    return [...this.#stores.values()];
  }

  /** Of all threads there are; those that come later start with this thread's. */
  setLogLevel(level: LogLevel): void {
    for (const { handle } of this.watched()) handle.send({ kind: "log-level", level });
    for (const store of this.#stores.values()) store.setLogLevel(level);
  }

  /**
   * A mount on this store will come soon: its workers load meanwhile (a tenth of a second), one
   * at a time, so that this thread answers the network in between. The function returned must be
   * called when the mount has come, or will not.
   */
  expect(remoteUrl: string, storeId: string, repoId: string): () => void {
    const store = this.#openStore(storeId, remoteUrl);
    const steps = [
      () => {
        if (this.#placeholders.has(repoId)) return;
        this.#spares.set(repoId, this.#spawnWorker(storeId, repoId));
      },
      () => store.loadIndexer(),
      () => store.loadHydrator(),
    ];
    let timer: number | undefined;
    const next = () => {
      steps.shift()?.();
      if (steps.length > 0) timer = setTimeout(next);
    };
    next();
    return () => {
      clearTimeout(timer);
      this.#spares.get(repoId)?.terminate();
      this.#spares.delete(repoId);
      this.#letGo(storeId);
    };
  }

  /**
   * Resolves when the kernel has our answer to INIT, or, where a placeholder is, when the
   * repository is served there. Throws Failure.
   */
  async mount(record: RepoRecord, through?: string): Promise<void> {
    if (this.#mounted.has(record.id)) throw new Bug(`${record.name} is mounted already`);
    const { layout } = this.#options;
    const { viewDir, convertedDir, overlayDir } = layout.repo(record.id);
    const { storeId } = record;
    const placeholder = this.#placeholders.get(record.id) ?? null;
    const store = this.#openStore(storeId, record.remote);
    try {
      await this.#closing.get(storeId);
      store.start(record.objectFormat);
      store.index(viewDir, record.baseTreeOid);
      const mountId = this.#nextMountId++;
      Deno.mkdirSync(overlayDir, { recursive: true, mode: 0o700 });
      if (await pathExists(convertedDir)) await forgetOtherBoots(record, layout);
      const converter = new Converter({
        layout,
        record,
        onConverted: (converted) => {
          const { buffer } = Float64Array.from(converted, ([, size]) => size);
          const ids = converted.map(([id]) => id).join("\n");
          handle.send({ kind: "converted", ids, sizes: buffer });
        },
        onProgress: () => handle.send({ kind: "progress" }),
      });
      const borrowed = new BorrowedBlobs(
        {
          dir: userGitDirOf(record, layout),
          viewDir,
          storeGitDir: layout.store(storeId).gitDir,
          objectFormat: record.objectFormat,
        },
        () => handle.send({ kind: "imported" }),
      );
      const onWant = (want: MountWant) => {
        if (want.kind === "convert") converter.convert(want.ids);
        else if (want.kind === "borrowed") borrowed.add(want.oid);
        else store.want(mountId, viewDir, want);
      };
      const tree = {
        objectFormat: record.objectFormat,
        rootTreeId: record.baseTreeId,
        baseTimeSeconds: record.baseTimeSeconds,
      };
      const handle: MountHandle = placeholder?.handle ??
        await this.#open(record, storeId, tree, onWant, through);
      if (placeholder !== null) placeholder.onWant = onWant;
      // Before it is mounted: somebody may wait in the directory, and ask at once.
      store.attach(
        mountId,
        { repoName: record.name, viewDir, handle },
        record.baseCommitOid,
        record.baseTreeOid,
      );
      try {
        await (placeholder === null ? this.#started(handle) : handle.publish(tree));
      } catch (error) {
        store.detach(mountId);
        this.#end(converter, borrowed);
        throw error;
      }
      this.#placeholders.delete(record.id);
      const mounted = { record, mountId, store, handle, converter, borrowed };
      this.#serve({ ...mounted, leaving: false, lost: null });
    } finally {
      this.#letGo(storeId);
    }
  }

  /** Mounts a directory in which everything waits for what is being prepared. Throws Failure. */
  async mountPlaceholder(preparation: Preparation, storeId: string): Promise<void> {
    const { id } = preparation;
    const placeholder: Placeholder = {
      handle: await this.#open(preparation, storeId, null, (want) => placeholder.onWant?.(want)),
      onWant: null,
      leaving: false,
    };
    const { handle } = placeholder;
    await this.#started(handle);
    this.#placeholders.set(id, placeholder);
    events.emit("mounted", preparation.name, {
      mountPoint: preparation.mountPoint,
      placeholder: true,
    });
    handle.closed.then((cause) => {
      // It has become the repository's mount, which has an end of its own.
      if (this.#placeholders.get(id) !== placeholder) return;
      this.#placeholders.delete(id);
      tellEnd(preparation, placeholder.leaving, cause);
      if (!placeholder.leaving) this.#options.onUnmounted(id, cause);
    });
  }

  /** What waits at a placeholder: waits on, or gets errors. */
  setGate(repoId: string, state: "waiting" | "failed"): void {
    this.#placeholders.get(repoId)?.handle.send({ kind: "gate", state });
  }

  /** A mount worker at work; `tree` is null for a placeholder. */
  async #open(
    repo: RepoRecord | Preparation,
    storeId: string,
    tree: MountTree | null,
    onWant: (want: MountWant) => void,
    through?: string,
  ): Promise<MountHandle> {
    const { layout } = this.#options;
    const { overlayDir, convertedDir, contextsPath, viewDir } = layout.repo(repo.id);
    const store = layout.store(storeId);
    // Of a daemon that was killed: nobody answers there any more.
    await detachOurMounts(new Set([repo.mountPoint]));
    const worker = this.#spares.get(repo.id) ?? this.#spawnWorker(storeId, repo.id);
    this.#spares.delete(repo.id);
    const config = {
      repoId: repo.id,
      repoName: repo.name,
      mountPoint: repo.mountPoint,
      source: repo.remote,
      basePath: store.basePath,
      overlayDir,
      xattrs: repo.xattrs,
      umask: repo.umask,
      readOnly: repo.readOnly,
      // The view's own are those that were imported from the user's git directory.
      packDirs: [store.gitDir, viewDir].map(packDirOf),
      convertedDir,
      contextsPath,
      uid: repo.uid,
      gid: repo.gid,
      userGitDir: userGitDirPath(repo, layout),
      isGitDirElsewhere: repo.gitDir !== null,
      stateRoot: layout.stateRoot,
      ...(through === undefined ? {} : { through }),
    };
    return new MountHandle(config, tree, worker, onWant);
  }

  /** Throws Failure (not-mounted; busy when not lazy and somebody is inside). */
  async unmount(repoId: string, options: { lazy: boolean }): Promise<void> {
    const mounted = this.#mounted.get(repoId) ?? this.#placeholders.get(repoId);
    if (mounted === undefined) throw new Failure("not-mounted", "Cannot unmount: not mounted");
    mounted.leaving = true;
    try {
      await mounted.handle.unmount(options);
      await mounted.handle.closed;
    } catch (error) {
      mounted.leaving = false;
      throw error;
    }
  }

  /** Brings the trees in that `to` has over `from`. Throws Failure. */
  async loadTrees(repoId: string, treeOids: readonly Oid[], from: Oid, to: Oid): Promise<void> {
    const { viewDir } = this.#options.layout.repo(repoId);
    await this.#find(repoId).store.loadTrees(viewDir, treeOids, from, to);
  }

  /** Puts another tree beneath a mount. Throws Failure (not-mounted). */
  async rebase(repoId: string, treeId: BaseId): Promise<Rebased> {
    return await this.#find(repoId).handle.rebase(treeId);
  }

  /** Makes a work tree another commit. Throws Failure (not-mounted). */
  async switchTo(
    repoId: string,
    request: Omit<MountCommand & { kind: "switch" }, "kind">,
  ): Promise<Switched> {
    return await this.#find(repoId).handle.switchTo(request);
  }

  /** What `rebase` or `switchTo` has put there is this commit's tree. */
  baseMoved(repoId: string, { commitOid, treeOid }: HeadTree): void {
    const mounted = this.#mounted.get(repoId);
    mounted?.store.move(mounted.mountId, commitOid, treeOid);
  }

  #find(repoId: string): Mounted {
    const mounted = this.#mounted.get(repoId);
    if (mounted === undefined) {
      throw new Failure("not-mounted", "Cannot change the base: not mounted");
    }
    return mounted;
  }

  /** Lazily unmounts everything; who is inside gets errors. Never throws. */
  async closeAll(): Promise<void> {
    const ids = [...this.#mounted.keys(), ...this.#placeholders.keys()];
    await Promise.allSettled(ids.map((id) => this.unmount(id, { lazy: true })));
    for (const storeId of [...this.#stores.keys()]) this.#close(storeId);
    await Promise.all([...this.#closing.values(), ...this.#ending]);
  }

  async #started(handle: MountHandle): Promise<void> {
    const { allowsOthers } = await handle.started();
    if (allowsOthers || this.#hasSaidPrivate) return;
    this.#hasSaidPrivate = true;
    this.#log.info("Other users, root too, cannot look into the mounts", {
      cause: "user_allow_other is not in /etc/fuse.conf",
    });
  }

  /** What they run ends behind. */
  #end(...running: { stop(): Promise<void> }[]): void {
    const stopped = Promise.all(running.map((each) => each.stop())).then(() => {});
    const ending = stopped.finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
  }

  #serve(mounted: Mounted): void {
    const { mountId, record, store, handle, converter, borrowed } = mounted;
    this.#mounted.set(record.id, mounted);
    const { mountPoint } = record;
    events.emit("mounted", record.name, { mountPoint, placeholder: false });
    this.#options.onMounted(record.id);
    this.#options.onChange(record.storeId);
    handle.closed.then((cause) => {
      this.#mounted.delete(record.id);
      this.#options.onClosed(record.id);
      store.detach(mountId);
      this.#end(converter, borrowed);
      this.#closeStoreIfUnused(record.storeId);
      this.#options.onChange(record.storeId);
      tellEnd(record, mounted.leaving && mounted.lost === null, mounted.lost ?? cause);
      if (mounted.leaving) return;
      this.#options.onUnmounted(record.id, cause);
    });
  }

  #spawnWorker(storeId: string, repoId: string): Worker {
    const { layout } = this.#options;
    const { overlayDir, viewDir, convertedDir, contextsDir } = layout.repo(repoId);
    const { dir } = layout.store(storeId);
    return spawnMountWorker([dir, overlayDir, packDirOf(viewDir), convertedDir, contextsDir]);
  }

  /** To be followed by `#letGo`. */
  #openStore(storeId: string, remoteUrl: string): StoreWorkers {
    this.#expected.set(storeId, (this.#expected.get(storeId) ?? 0) + 1);
    const open = this.#stores.get(storeId);
    if (open !== undefined) return open;
    const store = new StoreWorkers({
      layout: this.#options.layout.store(storeId),
      remoteUrl,
      hydrationConcurrency: this.#options.hydrationConcurrency,
      onFetched: (error) => this.#options.onFetched(storeId, error),
      onCrash: (cause) => this.#abandonStore(storeId, store, cause),
    });
    this.#stores.set(storeId, store);
    return store;
  }

  #letGo(storeId: string): void {
    this.#expected.set(storeId, (this.#expected.get(storeId) ?? 1) - 1);
    this.#closeStoreIfUnused(storeId);
  }

  #closeStoreIfUnused(storeId: string): void {
    if ((this.#expected.get(storeId) ?? 0) > 0) return;
    this.#expected.delete(storeId);
    if (this.#stores.get(storeId)?.mountCount === 0) this.#close(storeId);
  }

  #close(storeId: string): void {
    const store = this.#stores.get(storeId);
    if (store === undefined) return;
    this.#stores.delete(storeId);
    const closing = store.close().finally(() => {
      if (this.#closing.get(storeId) === closing) this.#closing.delete(storeId);
    });
    this.#closing.set(storeId, closing);
  }

  /** A mount without its store would hang its readers: it is taken away, and its owner told. */
  #abandonStore(storeId: string, store: StoreWorkers, cause: string): void {
    this.#log.error("Store worker has crashed", { store: storeId, cause });
    if (this.#stores.get(storeId) === store) this.#stores.delete(storeId);
    for (const mounted of this.#mounted.values()) {
      if (mounted.store !== store) continue;
      mounted.leaving = true;
      mounted.lost = cause;
      this.#options.onUnmounted(mounted.record.id, cause);
      mounted.handle.unmount({ lazy: true }).catch(() => {});
    }
    store.terminate();
  }
}

/** A mount is gone. */
function tellEnd(
  { name, mountPoint }: RepoRecord | Preparation,
  wasAsked: boolean,
  cause: string,
): void {
  if (wasAsked) events.emit("unmounted", name, { mountPoint, cause: "asked" });
  else if (cause === "unmounted") events.emit("unmounted", name, { mountPoint, cause: "umount" });
  else events.emit("mount-lost", name, { mountPoint, cause });
}

function packDirOf(gitDir: HostPath): string {
  return `${gitDir}/objects/pack`;
}
