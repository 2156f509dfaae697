/** A daemon on a state root of its own, driven by the program's verbs. */

import { call } from "../../src/control/client.ts";
import type { HostPath } from "../../src/path.ts";
import { layoutOf } from "../../src/repo/layout.ts";
import {
  gitBaseEnv,
  killGroup,
  run,
  type RunResult,
  unmountBelow,
  waitFor,
} from "../support/run.ts";
import type { Closer, World } from "./world.ts";

const STOP_MS = 15_000;
/** Guard of whatever touches a mount. */
export const GUARD_MS = 300_000;

/** The name under which a daemon's only repository is registered. */
const NAME = "measured";

export class Daemon {
  readonly #program: string;
  readonly #stateRoot: string;
  readonly #mountRoot: string;
  /** 0 until it is known. */
  #pid = 0;
  readonly stop: Closer;

  private constructor(world: World, program: string, folder?: string) {
    this.#program = program;
    this.#stateRoot = world.fresh("state", folder);
    this.#mountRoot = world.fresh("mounts");
    Deno.mkdirSync(this.#mountRoot);
    this.stop = world.own(() => this.#stop());
  }

  /**
   * Starts a daemon in the foreground, its state root below `folder` if given, and returns when it
   * answers.
   */
  static async start(world: World, program: string, folder?: string): Promise<Daemon> {
    const daemon = new Daemon(world, program, folder);
    const child = new Deno.Command(program, {
      args: ["daemon", "--root", daemon.#mountRoot],
      clearEnv: true,
      env: daemon.env,
      cwd: "/",
      stdin: "null",
      stdout: "null",
      stderr: "null",
      detached: true,
    }).spawn();
    child.status.catch(() => {});
    world.keepProcess(child.pid);
    daemon.#pid = child.pid;
    await daemon.#answers();
    return daemon;
  }

  /** A state root without a daemon: `mount` starts one. */
  static none(world: World, program: string): Daemon {
    return new Daemon(world, program);
  }

  get env(): Record<string, string> {
    return { ...gitBaseEnv(), ARTIFACT_FS_ROOT: this.#stateRoot };
  }

  get pid(): number {
    return this.#pid;
  }

  get mountPoint(): string {
    return `${this.#mountRoot}/${NAME}`;
  }

  /** `add-repo`, then `ls` of the root and of one directory, in one child. */
  addRepo(url: string, subdirectory: string): Promise<RunResult> {
    return this.#untilListed(subdirectory, [
      ...["add-repo", "--name", NAME, "--remote", url, "--mount-root", this.#mountRoot],
    ]);
  }

  /** As `addRepo`, by `mount`. */
  async mount(url: string, subdirectory: string): Promise<RunResult> {
    const result = await this.#untilListed(subdirectory, ["mount", url, this.mountPoint]);
    await this.#answers();
    return result;
  }

  async #untilListed(subdirectory: string, args: readonly string[]): Promise<RunResult> {
    const script =
      'a=$1 b=$2; shift 2; "$@" >/dev/null && ls "$a" >/dev/null && ls "$b" >/dev/null';
    return await run(
      "sh",
      [
        ...["-c", script, "sh", this.mountPoint, `${this.mountPoint}/${subdirectory}`],
        ...[this.#program, ...args],
      ],
      { clearEnv: true, env: this.env, cwd: "/", timeoutMs: GUARD_MS },
    );
  }

  /** `switch`; how long it took. */
  async switchTo(branch: string): Promise<number> {
    const args = ["switch", branch, this.mountPoint];
    const options = { clearEnv: true, env: this.env, cwd: "/", timeoutMs: GUARD_MS };
    return (await run(this.#program, args, options)).durationMs;
  }

  /** Waits until the history has come in, or has failed to: then it says so. */
  async historyIsHere(): Promise<void> {
    const history = await waitFor(
      async () => {
        const { repos: [repo] } = await call(this.socketPath, "status", { repo: null });
        return repo === undefined || repo.history === "fetching" ? "" : repo.history;
      },
      "end of the history's fetch",
      { timeoutMs: GUARD_MS, pollMs: 50 },
    );
    if (history !== "full") console.error(`bench: the history did not come in: ${history}`);
    const repo = { by: "name", name: NAME } as const;
    // Requests are counted. An older program has no such verb, and does not ask by itself.
    await call(this.socketPath, "set-refresh", { repo, seconds: null }).catch(() => {});
  }

  get socketPath(): string {
    return layoutOf(this.#stateRoot as HostPath).socketPath;
  }

  async #answers(): Promise<void> {
    const { pid } = await waitFor(() => call(this.socketPath, "ping", {}), "daemon");
    this.#pid = pid;
  }

  async #stop(): Promise<void> {
    const pid = this.#pid === 0 ? this.#find() : this.#pid;
    if (pid !== 0) {
      try {
        Deno.kill(pid, "SIGTERM");
      } catch {
        // It has ended.
      }
      const isGone = () => !isAlive(pid);
      await waitFor(isGone, "end of the daemon", { timeoutMs: STOP_MS }).catch(() => {
        console.error("bench: the daemon did not end, killing it");
        killGroup(pid);
      });
    }
    const left = await unmountBelow(this.#mountRoot);
    if (left.length > 0) console.error(`bench: left mounted: ${left.join(" ")}`);
    for (const path of [this.#stateRoot, this.#mountRoot]) {
      await run("rm", ["-rf", "--one-file-system", "--", path], { timeoutMs: 120_000 });
    }
  }

  /** The process id of a daemon in the background that never answered, from its log. */
  #find(): number {
    try {
      const log = Deno.readTextFileSync(layoutOf(this.#stateRoot as HostPath).logPath);
      return Number(/"pid":\s*"?(\d+)/.exec(log)?.[1] ?? 0);
    } catch {
      return 0;
    }
  }
}

/** A zombie of ours counts as gone. */
function isAlive(pid: number): boolean {
  try {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    return stat.slice(stat.lastIndexOf(")") + 2)[0] !== "Z";
  } catch {
    return false;
  }
}
