/** A mounted repository and a plain directory with the same content, and who works in them. */

import { allowFilter, type Daemon, Lab } from "../mount/harness.ts";
import { checkInvariants } from "../support/overlay_invariants.ts";
import { run, waitFor } from "../support/run.ts";
import { Actor } from "./actor.ts";
import { commitBase, writeBase } from "./base.ts";
import { type Lane, LANES } from "./generate.ts";
import type { LookOptions, Moment, Tree } from "./tree.ts";

/** What may happen to a mount when nobody works in it. */
export const EVENTS = ["kill", "term", "remount", "drop"] as const;
export type Event = typeof EVENTS[number];

/** How a daemon is ended while somebody works in its mount. */
export type Blow =
  /** A signal when so many operations have been acknowledged. */
  | { readonly signal: "SIGKILL" | "SIGTERM"; readonly after: number }
  /**
   * SIGKILL in place of the nth call of this system call that one of its threads makes: between the
   * steps of an operation, or when it is made and not yet answered.
   */
  | { readonly syscall: string; readonly nth: number };

/** Null: there is no strace, and no blow by a system call. */
const STRACE = await run("sh", ["-c", "command -v strace"], { okCodes: "any" })
  .then(({ stdout }) => stdout.trim() || null);

export interface WorldOptions {
  readonly xattrs: boolean;
}

export class World {
  readonly lab: Lab;
  readonly #options: WorldOptions;
  /** One for all lanes: what is right depends on no order of theirs. */
  readonly plain = new Actor();
  readonly mounted: Readonly<Record<Lane, Actor>> = {
    "a": new Actor(),
    "b": new Actor(),
    ".": new Actor(),
  };
  #daemon: Daemon | null = null;
  readonly #url: string;

  static async make(options: WorldOptions): Promise<World> {
    const world = new World(await Lab.make(), options);
    try {
      await world.#start();
      return world;
    } catch (error) {
      await world.destroy();
      throw error;
    }
  }

  private constructor(lab: Lab, options: WorldOptions) {
    this.lab = lab;
    this.#options = options;
    this.#url = `file://${lab.at("base.git")}`;
  }

  async #start(): Promise<void> {
    const { lab } = this;
    await commitBase(lab.at("base.git"));
    await allowFilter(lab.at("base.git"));
    this.#daemon = await lab.startDaemon();
    const flags = this.#options.xattrs ? ["--xattr"] : [];
    await lab.mount(this.#url, "repo", ...flags);
    await Deno.mkdir(lab.at("plain"));
    const { stdout } = await lab.sh('stat -c %.Y "$1"', [this.#mountPoint]);
    // Where the clock is a fraction of a second, the fraction is zeros.
    writeBase(lab.at("plain"), BigInt(stdout.trim().replace(/\D.*$/, "")) * 1_000_000_000n);
    await this.enter();
    await this.plain.enter(lab.at("plain"));
  }

  get #mountPoint(): string {
    return this.lab.at("mnt", "repo");
  }

  get daemon(): Daemon {
    if (this.#daemon === null) throw new Error("there is no daemon");
    return this.#daemon;
  }

  get #overlayDir(): string {
    const repos = `${this.lab.stateRoot}/repos`;
    const [id] = [...Deno.readDirSync(repos)].filter(({ isDirectory }) => isDirectory);
    return `${repos}/${id?.name}/overlay`;
  }

  /** The actors of the mount go to work. */
  async enter(): Promise<void> {
    await Promise.all(LANES.map((lane) => this.mounted[lane].enter(this.#mountPoint)));
  }

  /** They drop what they have open, and are not in it. */
  async leave(): Promise<void> {
    await Promise.all(LANES.map((lane) => this.mounted[lane].leave()));
  }

  /** Who has left the mount has lost what was open; so has the plain side now. */
  async dropSlots(): Promise<void> {
    await this.plain.leave();
    await this.plain.enter(this.lab.at("plain"));
  }

  async look(): Promise<Moment> {
    const [plain, mounted] = await Promise.all([
      this.plain.look({ ...this.#looking, identity: true }),
      this.lookAtMount(),
    ]);
    return { plain, mounted };
  }

  async lookAtMount(): Promise<Tree> {
    return await this.mounted["."].look(this.#looking);
  }

  get #looking(): LookOptions {
    return { identity: false, xattrs: this.#options.xattrs };
  }

  /** Calls `work`, which says when an operation was acknowledged, and deals the blow meanwhile. */
  async under<T>(blow: Blow | null, work: (onOutcome: () => void) => Promise<T>): Promise<T> {
    const { pid } = this.daemon;
    if (blow === null) return await work(() => {});
    if ("signal" in blow || STRACE === null) {
      const { signal, after } = "signal" in blow
        ? blow
        : { signal: "SIGKILL" as const, after: blow.nth };
      let acknowledged = 0;
      const result = await work(() => {
        if (++acknowledged === after) Deno.kill(pid, signal);
      });
      if (acknowledged < after) Deno.kill(pid, signal);
      return result;
    }
    const { syscall, nth } = blow;
    const inject = `inject=${syscall}:signal=SIGKILL:when=${nth}`;
    const trace = ["-o", this.lab.at("trace"), "-e", `trace=${syscall}`, "-e", inject];
    const strace = this.lab.park(STRACE, "-f", "-q", ...trace, "-p", String(pid));
    await waitFor(async () => {
      const tasks = [...Deno.readDirSync(`/proc/${pid}/task`)];
      const states = await Promise.all(
        tasks.map(({ name }) => Deno.readTextFile(`/proc/${pid}/task/${name}/status`)),
      );
      return states.every((state) => !/^TracerPid:\s+0$/m.test(state));
    }, "strace on all threads");
    const result = await work(() => {});
    if (await this.daemon.isRunning()) Deno.kill(pid, "SIGKILL");
    await strace.exited;
    return result;
  }

  /** Starts the daemon again after it was ended by `signal`; nobody may be in the mount. */
  async restart(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    const code = await this.daemon.ended();
    if (signal === "SIGTERM" && code !== 0) throw new Error(`The daemon has ended with ${code}`);
    checkInvariants(this.#overlayDir, signal === "SIGTERM");
    this.#daemon = await this.lab.startDaemon();
  }

  /** Slots are lost, except when caches are dropped. */
  async happen(event: Event): Promise<void> {
    if (event === "drop") {
      await run("sh", ["-c", "echo 2 >/proc/sys/vm/drop_caches"]);
      return;
    }
    await this.leave();
    if (event === "remount") {
      await this.lab.afs(["unmount", this.#mountPoint]);
      checkInvariants(this.#overlayDir, true);
      await this.lab.afs(["mount", this.#url, this.#mountPoint]);
    } else {
      const signal = event === "kill" ? "SIGKILL" : "SIGTERM";
      Deno.kill(this.daemon.pid, signal);
      await this.restart(signal);
    }
    await this.dropSlots();
    await this.enter();
  }

  /** Everything ends in order. Throws when something is left. */
  async finish(): Promise<void> {
    await this.#endActors();
    await this.lab.finish();
    checkInvariants(this.#overlayDir, true);
  }

  async destroy(): Promise<void> {
    await this.#endActors();
    await this.lab.destroy();
  }

  async #endActors(): Promise<void> {
    await Promise.all([this.plain, ...Object.values(this.mounted)].map((actor) => actor.end()));
  }
}
