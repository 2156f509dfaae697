/** The two workers of one store, shared by its mounts, and the routes between them. */

import { Failure } from "../failure.ts";
import type { ObjectFormat, Oid } from "../git/oid.ts";
import { READ_VARIABLES } from "../git/process.ts";
import { parseRemote } from "../git/remote_url.ts";
import { CONNECTION_VARIABLES } from "../git/wire.ts";
import type { HydratorEvent, HydratorRequest, Load } from "../hydrate/messages.ts";
import { logger, type LogLevel, logLevel } from "../log.ts";
import type { MountHandle, StoreWant } from "../mount/handle.ts";
import type { StoreLayout } from "../repo/layout.ts";
import type { IndexerEvent, IndexerRequest } from "../snapshot/messages.ts";
import { events } from "./events.ts";

export interface AttachedMount {
  readonly repoName: string;
  readonly viewDir: string;
  readonly handle: MountHandle;
}

export interface StoreWorkersOptions {
  readonly layout: StoreLayout;
  /** Without credentials. */
  readonly remoteUrl: string;
  readonly hydrationConcurrency: number;
  /** The remote was asked for contents: null when it gave them, else why not. */
  readonly onFetched: (error: string | null) => void;
  /** A worker has crashed; nothing of this store can be hydrated any more. */
  readonly onCrash: (cause: string) => void;
}

/**
 * What the hydrator and the indexer may do: their store's folder, git, and the hydrator may connect
 * to its remote's server.
 */
function storeWorkerPermissions(
  storeDir: string,
  host: string | null,
): Deno.PermissionOptionsObject {
  return {
    read: [storeDir],
    write: [storeDir],
    // sh: ends a git that stalls, with all it has started.
    run: ["git", "sh"],
    env: [...READ_VARIABLES, ...CONNECTION_VARIABLES],
    net: host === null ? false : [host],
    ffi: false,
    sys: false,
    import: false,
  };
}

/** `host:port` of an http(s) remote; null: git alone connects. */
function hostOf(remoteUrl: string): string | null {
  const { origin } = parseRemote(remoteUrl);
  if (origin === null) return null;
  const { hostname, port, protocol } = new URL(origin);
  return `${hostname}:${port === "" ? protocol === "https:" ? 443 : 80 : port}`;
}

/** git ends within moments of a signal; a daemon that stops has a limit of its own. */
const STOP_MS = 4_000;

export class StoreWorkers {
  #hydrator: Worker | null = null;
  #indexer: Worker | null = null;
  #ended = false;
  readonly #mounts = new Map<number, AttachedMount>();
  readonly #log = logger("store");

  readonly #options: StoreWorkersOptions;
  readonly #stopped = Promise.withResolvers<void>();
  /** Who waits for trees, oldest first, by view. */
  readonly #loading = new Map<string, PromiseWithResolvers<void>[]>();
  #started = false;
  /** Who asks for the load, by number. */
  readonly #loads = new Map<number, (load: Load | null) => void>();
  #nextLoad = 1;

  /** No worker runs before it is needed, or loaded. */
  constructor(options: StoreWorkersOptions) {
    this.#options = options;
  }

  /** Starts the hydrator, which does nothing before `start`. Holds this thread for some 20 ms. */
  loadHydrator(): Worker {
    if (this.#hydrator !== null) return this.#hydrator;
    const url = new URL("../hydrate/worker.ts", import.meta.url);
    this.#hydrator = this.#load(url, "hydrator", hostOf(this.#options.remoteUrl));
    this.#hydrator.onmessage = ({ data }) => this.#onHydratorEvent(data as HydratorEvent);
    return this.#hydrator;
  }

  /** The indexer, as loadHydrator. */
  loadIndexer(): Worker {
    if (this.#indexer !== null) return this.#indexer;
    const url = new URL("../snapshot/worker.ts", import.meta.url);
    this.#indexer = this.#load(url, "indexer", null);
    this.#indexer.onmessage = ({ data }) => this.#onIndexerEvent(data as IndexerEvent);
    return this.#indexer;
  }

  #load(url: URL, name: string, host: string | null): Worker {
    const { layout, onCrash } = this.#options;
    const permissions = storeWorkerPermissions(layout.dir, host);
    const worker = new Worker(url, { type: "module", name, deno: { permissions } });
    worker.onerror = (event) => {
      event.preventDefault();
      onCrash(`the ${name} has crashed: ${event.message}`);
    };
    return worker;
  }

  /** The store is there. A second call does nothing. */
  start(objectFormat: ObjectFormat): void {
    if (this.#started) return;
    this.#started = true;
    const { layout, hydrationConcurrency } = this.#options;
    Deno.mkdirSync(layout.stagingDir, { recursive: true, mode: 0o700 });
    Deno.mkdirSync(layout.blobsDir, { recursive: true, mode: 0o700 });
    this.#toIndexer({ kind: "start", basePath: layout.basePath, objectFormat });
    this.#toHydrator({
      kind: "start",
      storeGitDir: layout.gitDir,
      stagingDir: layout.stagingDir,
      blobsDir: layout.blobsDir,
      basePath: layout.basePath,
      objectFormat,
      concurrency: hydrationConcurrency,
      logLevel: logLevel(),
    });
  }

  /** What the hydrator has to do; null: it has not said so within that time. */
  load(timeoutMs: number): Promise<Load | null> {
    if (!this.#started || this.#ended) return Promise.resolve(null);
    const id = this.#nextLoad++;
    const { promise, resolve } = Promise.withResolvers<Load | null>();
    const timer = setTimeout(resolve, timeoutMs, null);
    this.#loads.set(id, resolve);
    this.#toHydrator({ kind: "ask-load", id });
    return promise.finally(() => {
      clearTimeout(timer);
      this.#loads.delete(id);
    });
  }

  /** Of the hydrator; the indexer writes no log. */
  setLogLevel(level: LogLevel): void {
    if (this.#started) this.#toHydrator({ kind: "log-level", level });
  }

  /** Threads that run, by what they do. */
  get threads(): { readonly hydrator: number; readonly indexer: number } {
    const count = (worker: Worker | null) => worker === null || this.#ended ? 0 : 1;
    return { hydrator: count(this.#hydrator), indexer: count(this.#indexer) };
  }

  get mountCount(): number {
    return this.#mounts.size;
  }

  /** Brings the trees of a generation in, before or behind its mount. */
  index(viewDir: string, rootTreeOid: Oid): void {
    this.#toIndexer({ kind: "index", viewDir, rootTreeOid });
  }

  /** Brings the trees in that `rootTreeOid` has over `fromTreeOid`. Throws Failure. */
  loadTrees(
    viewDir: string,
    treeOids: readonly Oid[],
    fromTreeOid: Oid,
    rootTreeOid: Oid,
  ): Promise<void> {
    const loading = Promise.withResolvers<void>();
    this.#loading.set(viewDir, [...this.#loading.get(viewDir) ?? [], loading]);
    this.#toIndexer({ kind: "load", viewDir, treeOids, fromTreeOid, rootTreeOid });
    return loading.promise;
  }

  #onLoaded(viewDir: string, error: string | null): void {
    const loading = this.#loading.get(viewDir)?.shift();
    if (error === null) loading?.resolve();
    else loading?.reject(new Failure("failed", `Cannot read trees: ${error}`));
  }

  /** What this mount asks for is answered from now on. */
  attach(mountId: number, mount: AttachedMount, commitOid: Oid, rootTreeOid: Oid): void {
    this.#mounts.set(mountId, mount);
    const { viewDir } = mount;
    this.#toHydrator({ kind: "attach", mountId, viewDir, commitOid, rootTreeOid });
  }

  /** Another commit's tree is beneath this mount. */
  move(mountId: number, commitOid: Oid, rootTreeOid: Oid): void {
    const mount = this.#mounts.get(mountId);
    if (mount === undefined) return;
    // The one before may not have been read to its end.
    this.index(mount.viewDir, rootTreeOid);
    this.#toHydrator({ kind: "move", mountId, commitOid, rootTreeOid });
  }

  detach(mountId: number): void {
    const mount = this.#mounts.get(mountId);
    if (mount === undefined) return;
    this.#mounts.delete(mountId);
    this.#toHydrator({ kind: "detach", mountId });
    this.#toIndexer({ kind: "forget-view", viewDir: mount.viewDir });
    for (const loading of this.#loading.get(mount.viewDir) ?? []) {
      loading.reject(new Failure("failed", "Cannot read trees: the mount is gone"));
    }
    this.#loading.delete(mount.viewDir);
  }

  want(mountId: number, viewDir: string, want: StoreWant): void {
    if (want.kind === "want-tree") {
      this.#toIndexer({ kind: "tree", mountId, viewDir, treeOid: want.treeOid });
    } else if (want.kind === "sizes") {
      this.#toIndexer({ kind: "sizes", sizes: want.sizes });
    } else {
      this.#toHydrator({ ...want, mountId });
    }
  }

  /** Ends the workers, and first, for so long at most, the fetches that run. Never throws. */
  async close(): Promise<void> {
    if (this.#started) {
      this.#toHydrator({ kind: "stop" });
      const late = setTimeout(this.#stopped.resolve, STOP_MS);
      await this.#stopped.promise;
      clearTimeout(late);
    }
    this.terminate();
  }

  /** Ends the workers at once. */
  terminate(): void {
    this.#stopped.resolve();
    this.#ended = true;
    for (const resolve of this.#loads.values()) resolve(null);
    this.#hydrator?.terminate();
    this.#indexer?.terminate();
  }

  #toHydrator(request: HydratorRequest): void {
    if (!this.#ended) this.loadHydrator().postMessage(request);
  }

  #toIndexer(request: IndexerRequest): void {
    if (!this.#ended) this.loadIndexer().postMessage(request);
  }

  #onHydratorEvent(event: HydratorEvent): void {
    if (event.kind === "sizes") {
      // All work trees of the store show the same blobs.
      const oids = event.sizes.map(([oid]) => oid).join("");
      const { buffer } = Float64Array.from(event.sizes, ([, size]) => size);
      for (const { handle } of this.#mounts.values()) {
        handle.send({ kind: "sizes", oids, sizes: buffer });
      }
      this.#toIndexer({ kind: "sizes", sizes: event.sizes });
      return;
    }
    if (event.kind === "load") {
      this.#loads.get(event.id)?.(event);
      return;
    }
    if (event.kind === "sized-packs") {
      this.#toIndexer(event);
      return;
    }
    if (event.kind === "stopped") {
      this.#stopped.resolve();
      return;
    }
    if (event.kind === "arriving") {
      for (const { handle } of this.#mounts.values()) handle.send(event);
      return;
    }
    if (event.kind === "progress" || event.kind === "arrived") {
      for (const { handle } of this.#mounts.values()) handle.send(event);
      return;
    }
    if (event.kind === "hydrated") {
      this.#onHydrated(event);
      return;
    }
    const mount = this.#mounts.get(event.mountId);
    if (mount === undefined) return;
    const { handle, repoName } = mount;
    switch (event.kind) {
      case "contents":
        handle.send(event, [event.bytes]);
        break;
      case "spool":
        handle.send(event);
        break;
      case "unavailable":
        handle.send({ kind: "unavailable", oid: event.oid, need: event.need });
        this.#log.warn("Object not available", {
          repo: repoName,
          oid: event.oid,
          need: event.need,
          cause: event.cause,
        });
        break;
    }
  }

  #onHydrated({ reason, blobs, packBytes, durationMs, error }: HydratorEvent & {
    kind: "hydrated";
  }): void {
    const repos = [...new Set([...this.#mounts.values()].map(({ repoName }) => repoName))];
    this.#options.onFetched(error);
    events.emit("hydrated", repos, { reason, blobs, packBytes, durationMs, error });
  }

  #onIndexerEvent(event: IndexerEvent): void {
    if (event.kind === "sizes-lost") {
      this.#log.warn("Sizes not kept", { cause: event.cause });
      return;
    }
    if (event.kind === "tree") {
      const { raw, treeOid, cause, mountId } = event;
      const mount = this.#mounts.get(mountId);
      const buffer = raw?.buffer ?? null;
      mount?.handle.send({ kind: "tree", treeOid, raw: buffer }, buffer === null ? [] : [buffer]);
      if (raw === null) {
        this.#log.warn("Tree not available", { repo: mount?.repoName, oid: treeOid, cause });
      }
      return;
    }
    if (event.kind === "loaded") {
      this.#onLoaded(event.viewDir, event.error);
      return;
    }
    const { rootTreeOid, trees, durationMs, error } = event;
    if (error === null) this.#log.debug("Tree indexed", { oid: rootTreeOid, trees, durationMs });
    else this.#log.warn("Tree not indexed", { oid: rootTreeOid, error });
  }
}
