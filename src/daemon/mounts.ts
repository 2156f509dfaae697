/**
 * Every mount of this daemon, and the workers of their stores.
 *
 * Invariants
 *  1. A repository is mounted at most once.
 *  2. A store's workers live exactly as long as one of its mounts does, or is expected.
 *  3. A mount point is only ever touched by its mount worker (design section 2).
 */

import { Bug, Failure } from "../failure.ts";
import type { BaseId } from "../git/base_id.ts";
import { pathExists } from "../git/files.ts";
import type { HeadTree } from "../git/import.ts";
import type { Oid } from "../git/oid.ts";
import { logger } from "../log.ts";
import { MountHandle, spawnMountWorker } from "../mount/handle.ts";
import type { MountCommand, Rebased, Switched } from "../mount/messages.ts";
import type { HostPath } from "../path.ts";
import { Converter, forgetOtherBoots } from "../repo/converter.ts";
import type { Layout } from "../repo/layout.ts";
import { userGitDirOf } from "../repo/owner.ts";
import type { RepoRecord } from "../repo/types.ts";
import { detachOurMounts, effectiveUid } from "../sys/mod.ts";
import { BorrowedBlobs } from "./borrowed_blobs.ts";
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
}

export class Mounts {
  readonly #options: MountsOptions;
  readonly #mounted = new Map<string, Mounted>();
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

  constructor(options: MountsOptions) {
    this.#options = options;
  }

  isMounted(repoId: string): boolean {
    return this.#mounted.has(repoId);
  }

  /** Requests of the kernel since it was mounted; null: not mounted. */
  requestCount(repoId: string): number | null {
    return this.#mounted.get(repoId)?.handle.requestCount ?? null;
  }

  /**
   * A mount on this store will come soon: its workers load meanwhile (a tenth of a second), one
   * at a time, so that this thread answers the network in between. The function returned must be
   * called when the mount has come, or will not.
   */
  expect(remoteUrl: string, storeId: string, repoId: string): () => void {
    const store = this.#openStore(storeId, remoteUrl);
    const steps = [
      () => this.#spares.set(repoId, this.#spawnWorker(storeId, repoId)),
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

  /** Resolves when the kernel has our answer to INIT. Throws Failure. */
  async mount(record: RepoRecord): Promise<void> {
    if (this.#mounted.has(record.id)) throw new Bug(`${record.name} is mounted already`);
    const { layout } = this.#options;
    const { viewDir } = layout.repo(record.id);
    const { storeId } = record;
    const store = this.#openStore(storeId, record.remote);
    try {
      await this.#closing.get(storeId);
      store.start(record.objectFormat);
      store.index(viewDir, record.baseTreeOid);
      // Of a daemon that was killed: nobody answers there any more.
      detachOurMounts(new Set([record.mountPoint]));
      const mountId = this.#nextMountId++;
      const { overlayDir, convertedDir, contextsPath } = layout.repo(record.id);
      if (await pathExists(convertedDir)) await forgetOtherBoots(record, layout);
      Deno.mkdirSync(overlayDir, { recursive: true, mode: 0o700 });
      const worker = this.#spares.get(record.id) ?? this.#spawnWorker(storeId, record.id);
      this.#spares.delete(record.id);
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
      const handle: MountHandle = new MountHandle(
        {
          repoId: record.id,
          repoName: record.name,
          mountPoint: record.mountPoint,
          source: record.remote,
          basePath: layout.store(storeId).basePath,
          overlayDir,
          xattrs: record.xattrs,
          packDirs: packDirsOf(layout, record),
          objectFormat: record.objectFormat,
          rootTreeId: record.baseTreeId,
          convertedDir,
          contextsPath,
          baseTimeSeconds: record.baseTimeSeconds,
          uid: record.uid,
          gid: record.gid,
          allowOther: effectiveUid() === 0,
          userGitDir: layout.repo(record.id).userGitDir,
          stateRoot: layout.stateRoot,
        },
        worker,
        (want) => {
          if (want.kind === "convert") converter.convert(want.ids);
          else if (want.kind === "borrowed") borrowed.add(want.oid);
          else store.want(mountId, viewDir, want);
        },
      );
      // Before it is mounted: somebody may wait in the directory, and ask at once.
      store.attach(
        mountId,
        { repoName: record.name, viewDir, handle },
        record.baseCommitOid,
        record.baseTreeOid,
      );
      try {
        await handle.started();
      } catch (error) {
        store.detach(mountId);
        this.#end(converter, borrowed);
        throw error;
      }
      this.#serve({ record, mountId, store, handle, converter, borrowed, leaving: false });
    } finally {
      this.#letGo(storeId);
    }
  }

  /** Throws Failure (not-mounted; busy when not lazy and somebody is inside). */
  async unmount(repoId: string, options: { lazy: boolean }): Promise<void> {
    const mounted = this.#mounted.get(repoId);
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
    await this.#find(repoId).store.load(viewDir, treeOids, from, to);
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
    const ids = [...this.#mounted.keys()];
    await Promise.allSettled(ids.map((id) => this.unmount(id, { lazy: true })));
    for (const storeId of [...this.#stores.keys()]) this.#close(storeId);
    await Promise.all([...this.#closing.values(), ...this.#ending]);
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
    this.#options.onMounted(record.id);
    this.#options.onChange(record.storeId);
    handle.closed.then((cause) => {
      this.#mounted.delete(record.id);
      this.#options.onClosed(record.id);
      store.detach(mountId);
      this.#end(converter, borrowed);
      this.#closeStoreIfUnused(record.storeId);
      this.#options.onChange(record.storeId);
      if (mounted.leaving) return;
      this.#log.warn("Mount is gone", { repo: record.name, cause });
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
      this.#options.onUnmounted(mounted.record.id, cause);
      mounted.handle.unmount({ lazy: true }).catch(() => {});
    }
    store.terminate();
  }
}

function packDirOf(gitDir: HostPath): string {
  return `${gitDir}/objects/pack`;
}

/** The view's own are those that were imported from the user's git directory. */
function packDirsOf(layout: Layout, { id, storeId }: RepoRecord): string[] {
  return [layout.store(storeId).gitDir, layout.repo(id).viewDir].map(packDirOf);
}
