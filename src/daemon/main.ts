/**
 * The daemon process, from its lock to its end.
 *
 *     state      event                  next       what happens
 *     starting   lock is taken          serving    socket, then what was mounted is mounted; then a
 *                                                  service manager is told (service_manager.ts)
 *     starting   lock is another's      ended      exit code of `busy`
 *     serving    SIGTERM, SIGINT        stopping   verbs are aborted, all is lazily unmounted
 *     serving    the verb shutdown      stopping   as with a signal; its answer comes when
 *                                                  nothing is mounted any more
 *     serving    nobody uses it         stopping   as with a signal (stop-if-unused; one in the
 *                                                  background sees it by itself)
 *     stopping   done, or STOP_MS       ended      socket removed, lock let go, exit 0
 *     stopping   a second signal        ended      at once
 *
 * Invariants
 *  1. The lock is held from before the first change below the state root until the last.
 *  2. The working directory is `/`: the daemon keeps no file system busy.
 */

import { systemClock } from "../clock.ts";
import type { Progress } from "../control/api.ts";
import { PagePort, type Pages } from "../control/pages.ts";
import { ControlServer } from "../control/server.ts";
import { Failure, messageOf } from "../failure.ts";
import { gitVersion } from "../git/process.ts";
import { logger, type LogLevel, setLogLevel, setupLog } from "../log.ts";
import type { Layout } from "../repo/layout.ts";
import { openRegistry, type Registry } from "../repo/registry.ts";
import { removeOrphans } from "../repo/remove.ts";
import { makeStateRoot } from "../repo/state_root.ts";
import { changeDirectory, detachOurMounts, lockFile, setUmask } from "../sys/mod.ts";
import { events } from "./events.ts";
import { HeadFollowers } from "./head_followers.ts";
import { HistoryTasks } from "./history_tasks.ts";
import { boundLogFile } from "./log_file.ts";
import { Metrics } from "./metrics.ts";
import { Mounts } from "./mounts.ts";
import { operatingVerbs } from "./operating.ts";
import { OverlayUsages } from "./overlay_usage.ts";
import { checkMountRights } from "./preflight.ts";
import { RefreshTasks } from "./refresh_tasks.ts";
import { Service } from "./service.ts";
import { ServiceManager } from "./service_manager.ts";
import { unready } from "./readiness.ts";

export interface DaemonOptions {
  readonly layout: Layout;
  /** `--root`. */
  readonly mountRoot: string | null;
  readonly hydrationConcurrency: number;
  /** Of the loopback interface, for the pages; null: the control socket alone has them. */
  readonly metricsPort: number | null;
  /** Standard error is `layout.logPath`. */
  readonly background: boolean;
  readonly version: string;
}

/** All that stopping may take. */
const STOP_MS = 10_000;
/** What is left of a helper that unmounts is given up after that. */
const LEAVE_MS = 3_000;
/** A daemon in the background that is unused at two such looks was started for nothing. */
const UNUSED_LOOK_MS = 3_000;
/** How long answers of aborted verbs may take of it. */
const ANSWERS_MS = 4_000;
/** And what was answered may take to be read. */
const CLOSE_MS = 1_000;

type OnProgress = (progress: Omit<Progress, "kind">) => void;

/** Runs until a signal ends it. Throws Failure when it cannot start. */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  setupLog();
  const { layout } = options;
  const told = ServiceManager.take();
  // In the background it is nobody's service: the variables were those of whoever mounted.
  const manager = options.background ? new ServiceManager(null, null) : told;
  revokeUnneeded();
  // What must be private is made with its mode; git's files must be readable (git/process.ts).
  setUmask(0o022);
  changeDirectory("/");
  checkMountRights();
  await gitVersion();
  await makeStateRoot(layout);
  const lock = lockFile(layout.lockPath);
  if (lock === null) {
    throw new Failure(
      "busy",
      `Cannot start a daemon: another one runs on the state root ${layout.stateRoot}; end it ` +
        "first, or set ARTIFACT_FS_ROOT to another folder",
    );
  }
  try {
    await new Daemon(options, manager).run();
  } finally {
    lock.close();
  }
}

/** What only a client needs. Whole kinds can be given up; a path under a global grant cannot. */
function revokeUnneeded(): void {
  for (const name of ["sys", "import"] as const) Deno.permissions.revokeSync({ name });
}

class Daemon {
  readonly #options: DaemonOptions;
  readonly #manager: ServiceManager;
  readonly #layout: Layout;
  readonly #registry: Registry;
  readonly #mounts: Mounts;
  readonly #history: HistoryTasks;
  readonly #heads: HeadFollowers;
  readonly #refresh: RefreshTasks;
  readonly #service: Service;
  readonly #log = logger("daemon");
  readonly #stop = new AbortController();
  /** What ends it: a signal's name, or that nobody uses it. */
  readonly #ending = Promise.withResolvers<string>();
  /** Nothing is mounted any more. */
  readonly #unmounted = Promise.withResolvers<void>();
  /** Who waits for the end. */
  readonly #waiting = new Set<OnProgress>();
  readonly #metrics: Metrics;

  constructor(options: DaemonOptions, manager: ServiceManager) {
    const { layout, mountRoot, version } = options;
    this.#options = options;
    this.#manager = manager;
    this.#layout = layout;
    this.#registry = openRegistry(layout);
    this.#mounts = new Mounts({
      layout,
      hydrationConcurrency: options.hydrationConcurrency,
      onFetched: (storeId, error) => this.#service.onFetched(storeId, error),
      onMounted: (repoId) => this.#heads.start(repoId),
      onClosed: (repoId) => this.#heads.stop(repoId),
      onChange: (storeId) => {
        this.#refresh.update(storeId);
        this.#tellStatus();
      },
      onUnmounted: (repoId, cause) => {
        this.#service.onUnmounted(repoId, cause);
        this.#tellStatus();
      },
    });
    this.#heads = new HeadFollowers({ layout, registry: this.#registry, mounts: this.#mounts });
    this.#history = new HistoryTasks({ layout, registry: this.#registry });
    this.#refresh = new RefreshTasks({
      layout,
      registry: this.#registry,
      isMounted: (repoId) => this.#mounts.isMounted(repoId),
    });
    this.#service = new Service({
      layout,
      registry: this.#registry,
      live: {
        mounts: this.#mounts,
        history: this.#history,
        settle: (repoId) => this.#heads.settle(repoId),
        refresh: this.#refresh,
        checkRights: checkMountRights,
        stop: () => this.#ending.resolve("unused"),
      },
      mountRoot,
      version,
      logPath: options.background ? layout.logPath : null,
    });
    const usages = new OverlayUsages();
    this.#metrics = new Metrics({
      version,
      repos: async () => (await this.#service["list-repos"]()).repos,
      mounts: () =>
        this.#mounts.watched().flatMap(({ repoId, handle }) => {
          const record = this.#registry.byId(repoId) ??
            this.#registry.preparations.by("id", repoId);
          return record === null ? [] : [{ repo: record.name, handle }];
        }),
      stores: () => this.#mounts.stores(),
      overlay: (repo) => {
        const record = this.#registry.byName(repo);
        return record === null
          ? Promise.resolve(null)
          : usages.of(layout.repo(record.id).overlayDir);
      },
    }, events);
  }

  get #pages(): Pages {
    return {
      metrics: () => this.#metrics.text(),
      unready: () => unready(this.#registry, this.#mounts, this.#stop.signal.aborted),
    };
  }

  #shutdown(onProgress: OnProgress): Promise<void> {
    this.#waiting.add(onProgress);
    this.#ending.resolve("shutdown");
    return this.#unmounted.promise;
  }

  #tell(phase: string): void {
    for (const onProgress of this.#waiting) onProgress({ phase, percent: null });
  }

  #setLogLevel(level: LogLevel): void {
    setLogLevel(level);
    this.#mounts.setLogLevel(level);
    this.#log.info("Log level set", { to: level });
  }

  async run(): Promise<void> {
    this.#listenToSignals();
    const { background, metricsPort, layout, version } = this.#options;
    const logFile = background ? boundLogFile(layout.logPath) : null;
    const { stateRoot, socketPath } = layout;
    events.emit("daemon-started", null, { afs: version, pid: Deno.pid, stateRoot });
    const port = metricsPort === null ? null : new PagePort(metricsPort, this.#pages);
    await this.#removeOrphans();
    this.#manager.watch();
    const operating = operatingVerbs({
      events,
      shutdown: (onProgress) => this.#shutdown(onProgress),
      setLogLevel: (level) => this.#setLogLevel(level),
    });
    const server = new ControlServer(socketPath, { ...this.#service, ...operating }, this.#pages);
    const started = this.#service.mountAll(this.#stop.signal).then(() => {
      events.emit("daemon-ready", null, { socket: socketPath });
      this.#tellStatus();
      this.#manager.ready();
    });
    const idle = background ? this.#endWhenUnused() : null;
    const cause = await this.#ending.promise;
    if (idle !== null) clearInterval(idle);
    this.#manager.stopping();
    events.emit("daemon-stopping", null, { cause });
    this.#tell("Ending what runs");
    const late = setTimeout(() => this.#leave("Stopping takes too long"), STOP_MS);
    this.#stop.abort(new Failure("failed", "Cannot mount: the daemon is stopping"));
    await server.drain(ANSWERS_MS);
    await Promise.all([
      this.#history.stopAll(),
      this.#refresh.stopAll(),
      this.#service.stopPreparing(),
    ]);
    await started;
    this.#heads.stopAll();
    this.#tell("Unmounting");
    await this.#mounts.closeAll();
    this.#unmounted.resolve();
    port?.close();
    await server.close(CLOSE_MS);
    this.#registry.close();
    clearTimeout(late);
    this.#manager.end();
    logFile?.stop();
    removeSocket(layout.socketPath);
    this.#log.info("Stopped");
  }

  #tellStatus(): void {
    this.#manager.status(this.#service.states());
  }

  /** Whoever started it may have been killed before it could ask for anything, or stop it. */
  #endWhenUnused(): number {
    let wasUnused = false;
    return setInterval(() => {
      const { isUnused } = this.#service;
      if (isUnused && wasUnused) this.#ending.resolve("unused");
      wasUnused = isUnused;
    }, UNUSED_LOOK_MS);
  }

  async #removeOrphans(): Promise<void> {
    try {
      const removed = await removeOrphans(this.#layout, this.#registry);
      if (removed.length > 0) this.#log.info("Removed what nobody owns", { removed });
    } catch (error) {
      this.#log.warning("Could not remove what nobody owns", { error: messageOf(error) });
    }
  }

  #listenToSignals(): void {
    let count = 0;
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
      Deno.addSignalListener(signal, () => {
        // A terminal that closes does not end what was put into the background.
        if (signal === "SIGHUP" && this.#options.background) return;
        if (++count > 1) this.#leave("Stopping at once");
        this.#ending.resolve(signal);
      });
    }
  }

  /** The last way out: no mount may be left dead, whatever hangs. */
  async #leave(why: string): Promise<never> {
    this.#log.warning(why);
    await Promise.race([this.#detachAll(), systemClock.sleep(LEAVE_MS)]);
    removeSocket(this.#layout.socketPath);
    Deno.exit(0);
  }

  async #detachAll(): Promise<void> {
    try {
      const repos = this.#registry.everything();
      await detachOurMounts(new Set(repos.map((repo) => repo.mountPoint)));
    } catch (error) {
      this.#log.error("Dead mount is left", { error: messageOf(error) });
    }
  }
}

function removeSocket(path: string): void {
  try {
    Deno.removeSync(path);
  } catch {
    // Gone already; a stale one is replaced by the next daemon.
  }
}
