/**
 * How a command gets at the verbs: through the daemon, or, for those that need no mount, on the
 * registry itself when no daemon runs.
 */

import { systemClock } from "../clock.ts";
import { type Params, type Result, type Verb } from "../control/api.ts";
import { call, NoDaemon } from "../control/client.ts";
import { Failure } from "../failure.ts";
import { type Layout, layoutOf } from "../repo/layout.ts";
import { makeStateRoot } from "../repo/state_root.ts";
import { detachOurMounts, lockFile } from "../sys/mod.ts";
import { ensureDaemon, stopIfUnused } from "./daemon_process.ts";
import { stateRoot } from "./host_paths.ts";
import { delayed, progressView } from "./output.ts";
import { AFS_VERSION } from "./version.ts";

/** Thrown when the user interrupted; the exit code is the shell's for SIGINT. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
  readonly exitCode = 130;
}

/** Verbs that need no daemon. */
type OfflineVerb =
  | "list-repos"
  | "status"
  | "unmount"
  | "remove-repo"
  | "add-repo"
  | "prepare"
  | "fetch"
  | "set-refresh"
  | "switch";

/** Verbs of which an interrupted one is undone: what the daemon has begun is waited for. */
const UNDONE: ReadonlySet<Verb> = new Set(["mount", "remount", "add-repo"]);
/** Verbs that change nothing. */
const LOOKING: ReadonlySet<Verb> = new Set(["list-repos", "status"]);

/** A daemon that starts or stops holds the lock without an answer for this long at most. */
const LOCK_WAIT_MS = 15_000;
const POLL_MS = 50;
const ASK_TRIES = 3;

export class Session {
  readonly layout: Layout;

  constructor(layout: Layout = layoutOf(stateRoot())) {
    this.layout = layout;
  }

  /**
   * Asks the daemon, which is started when none runs; one that was started for something that
   * failed or was interrupted goes again, unless it has got something to do (a daemon in the
   * background does so by itself too, later). Throws Failure, Interrupted.
   */
  ask<V extends Verb>(verb: V, params: Params<V>): Promise<Result<V>> {
    return interruptible(async (turn) => {
      for (let attempt = 1;; attempt++) {
        // Not ended by the signal: what is starting could not be stopped yet.
        const started = await ensureDaemon(this.layout, () => turn.enter("undoable"));
        try {
          turn.signal.throwIfAborted();
          return await this.#call(verb, params, turn);
        } catch (error) {
          // It stopped in this moment.
          if (error instanceof NoDaemon && attempt < ASK_TRIES) continue;
          if (started) await stopIfUnused(this.layout);
          throw error;
        }
      }
    });
  }

  /** Asks the daemon if one runs; otherwise does it here. Throws Failure, Interrupted. */
  async askOrDo<V extends OfflineVerb>(verb: V, params: Params<V>): Promise<Result<V>> {
    const until = performance.now() + LOCK_WAIT_MS;
    for (;;) {
      try {
        return await interruptible(
          (turn) => this.#call(verb, params, turn),
          showAfterMs(verb),
        );
      } catch (error) {
        if (!(error instanceof NoDaemon)) throw error;
      }
      const done = await this.#doHere(verb, params);
      if (done !== null) return done.result;
      if (performance.now() > until) {
        throw new Failure(
          "busy",
          `Cannot reach the daemon: it holds ${this.layout.lockPath} but does not answer; see ` +
            this.layout.logPath,
        );
      }
      await systemClock.sleep(POLL_MS);
    }
  }

  #call<V extends Verb>(verb: V, params: Params<V>, turn: Turn): Promise<Result<V>> {
    const { signal, onProgress } = turn;
    const onBegun = () => turn.enter(stageOf(verb));
    return call(this.layout.socketPath, verb, params, { signal, onProgress, onBegun });
  }

  /** Null: a daemon has the lock. */
  async #doHere<V extends OfflineVerb>(
    verb: V,
    params: Params<V>,
  ): Promise<{ result: Result<V> } | null> {
    if (verb === "add-repo") {
      // Takes minutes, so a daemon may start meanwhile: acquisition has locks of its own.
      await makeStateRoot(this.layout);
      const result = await this.#serve(verb, params);
      return { result: await this.#tellDaemon(result as Result<"add-repo">) as Result<V> };
    }
    if (verb === "prepare") return { result: await this.#serve(verb, params) };
    // Nor are these: they change nothing, or only what has locks of its own.
    if (["list-repos", "status", "fetch", "switch"].includes(verb)) {
      return { result: await this.#serve(verb, params) };
    }
    // Nothing was ever registered: no state root is made to say so.
    if (!exists(this.layout.registryPath)) return { result: await this.#serve(verb, params) };
    const lock = lockFile(this.layout.lockPath);
    if (lock === null) return null;
    try {
      const result = await this.#serve(verb, params);
      return { result };
    } finally {
      lock.close();
    }
  }

  /** The verbs without a daemon. */
  async #serve<V extends OfflineVerb>(verb: V, params: Params<V>): Promise<Result<V>> {
    // Loaded only here: with a daemon, a verb starts faster without them.
    const { Service } = await import("../daemon/service.ts");
    const { openExistingRegistry, openRegistry } = await import("../repo/registry.ts");
    const registry = verb === "add-repo"
      ? openRegistry(this.layout)
      : openExistingRegistry(this.layout);
    if (registry === null) return nothingRegistered(verb, params) as Result<V>;
    const { layout } = this;
    const service = new Service({
      layout,
      registry,
      live: null,
      mountRoot: null,
      version: AFS_VERSION,
    });
    try {
      if (verb === "unmount" || verb === "remove-repo") {
        // The lock is held here, so whatever is mounted there has no daemon.
        const repos = registry.everything();
        await detachOurMounts(new Set(repos.map((repo) => repo.mountPoint)));
      }
      return await interruptible(({ signal, onProgress, enter }) => {
        enter(LOOKING.has(verb) ? "asking" : "undoable");
        const serve = service[verb] as unknown as (
          params: Params<V>,
          context: { signal: AbortSignal; onProgress: typeof onProgress },
        ) => Promise<Result<V>>;
        return serve(params, { signal, onProgress });
      }, showAfterMs(verb));
    } finally {
      registry.close();
    }
  }

  /** A daemon that started while this process acquired mounts it now. */
  async #tellDaemon(result: Result<"add-repo">): Promise<Result<"add-repo">> {
    try {
      await call(this.layout.socketPath, "remount", { repo: { by: "name", name: result.repo } });
      return { ...result, mounted: true };
    } catch (error) {
      if (error instanceof NoDaemon) return result;
      throw error;
    }
  }
}

function nothingRegistered<V extends OfflineVerb>(verb: V, params: Params<V>): unknown {
  if (verb === "list-repos") return { repos: [] };
  const { repo } = params as Params<"status">;
  if (repo === null) return { repos: [] };
  const what = repo.by === "name" ? JSON.stringify(repo.name) : `at ${repo.dir}`;
  throw new Failure("failed", `Cannot find the repository ${what}: see afs list-repos`);
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

/** Of verbs that are mostly done in a moment, phases are shown only when they are not. */
const QUICK: ReadonlySet<Verb> = new Set(["unmount", "remount", "remove-repo", "switch"]);
const QUICK_MS = 1_000;

function showAfterMs(verb: Verb): number {
  return QUICK.has(verb) ? QUICK_MS : 0;
}

/**
 * How far a verb is, which is what an interruption does: "asking", nothing was begun, and it ends;
 * "undoable", what was begun is undone, and it waits for that; "going on", the daemon does what it
 * was asked for with or without it, and it ends.
 */
type Stage = "asking" | "undoable" | "going on";

function stageOf(verb: Verb): Stage {
  if (LOOKING.has(verb)) return "asking";
  return UNDONE.has(verb) ? "undoable" : "going on";
}

/** What can be interrupted. */
interface Turn {
  readonly signal: AbortSignal;
  readonly onProgress: ReturnType<typeof progressView>["show"];
  readonly enter: (stage: Stage) => void;
}

/**
 * Runs something long and shows its progress. Ctrl-C does what the stage says. A second one waits
 * for nothing; the daemon sees the connection end and undoes it all the same.
 */
async function interruptible<T>(
  work: (turn: Turn) => Promise<T>,
  showAfterMs = 0,
): Promise<T> {
  const controller = new AbortController();
  const left = Promise.withResolvers<never>();
  let stage: Stage = "asking";
  const view = delayed(progressView(), showAfterMs);
  const onSignal = () => {
    if (controller.signal.aborted) Deno.exit(130);
    const reason = new Interrupted(
      stage === "going on"
        ? "Cannot wait any longer: interrupted; the daemon does what it was asked for all the same"
        : "Cannot go on: interrupted",
    );
    controller.abort(reason);
    if (stage !== "undoable") return left.reject(reason);
    view.show({ phase: "Undoing it; Ctrl-C again does not wait", percent: null });
  };
  Deno.addSignalListener("SIGINT", onSignal);
  Deno.addSignalListener("SIGTERM", onSignal);
  try {
    const working = work({
      signal: controller.signal,
      onProgress: (progress) => view.show(progress),
      enter: (next) => stage = next,
    });
    return await Promise.race([working, left.promise]);
  } catch (error) {
    if (controller.signal.aborted) throw new Interrupted("Interrupted", { cause: error });
    throw error;
  } finally {
    view.end();
    Deno.removeSignalListener("SIGINT", onSignal);
    Deno.removeSignalListener("SIGTERM", onSignal);
  }
}
