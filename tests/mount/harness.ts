/**
 * What every test of real mounts stands on: the compiled binary, a state root of its own, a daemon
 * that is a child process, and an end that leaves nothing.
 *
 * Rules
 *  1. This process never touches a path below a mount: a call that hangs there could not be killed.
 *     Children do, under a guard (`Lab.sh`, `Lab.touch`, `Lab.park`).
 *  2. Every test ends its daemon by pid; afterwards no mount and no process of it may be left.
 *  3. Nothing depends on time: conditions are waited for, under guards that are far too long.
 */

import assert from "node:assert/strict";
import { call } from "../../src/control/client.ts";
import { type CompareSummary, runCompare, type RunCompareOptions } from "../support/compare.ts";
import { startGitServer } from "../support/git_server.ts";
import type { GitServer, GitServerOptions } from "../support/git_server_api.ts";
import {
  git,
  killGroup,
  mountsBelow,
  run,
  type RunOptions,
  type RunResult,
  type TempDir,
  tempDir,
  waitFor,
} from "../support/run.ts";

/** The compiled binary; AFS_BINARY: another one. */
export const AFS = Deno.env.get("AFS_BINARY") ?? pathOf("../../dist/afs");
export const TOUCH_MAIN = pathOf("./touch_main.ts");

function pathOf(relative: string): string {
  return decodeURIComponent(new URL(relative, import.meta.url).pathname);
}

/** Why there can be no mounts here; null: there can. */
const UNABLE: string | null = await (async () => {
  try {
    await Deno.lstat("/dev/fuse");
  } catch {
    return "there is no /dev/fuse";
  }
  return Deno.uid() === 0 ? null : "only root may mount";
})();
const IN_CI = Deno.env.get("CI") === "true";
if (UNABLE !== null && !IN_CI) console.log(`Mount tests are skipped: ${UNABLE}`);

/** Why a test of how afs works with a tool is skipped; null: it is there. */
export async function without(tool: string): Promise<string | null> {
  const { code } = await run("sh", ["-c", 'command -v "$1"', "sh", tool], { okCodes: "any" });
  return code === 0 ? null : `there is no ${tool}`;
}

export interface MountTestOptions {
  /** A reason not to run it; null: run. */
  skip?: string | null;
}

/** A test with a state root of its own. In CI a missing /dev/fuse fails it. */
export function mountTest(
  name: string,
  body: (lab: Lab, t: Deno.TestContext) => Promise<void>,
  options: MountTestOptions = {},
): void {
  labTest(name, Lab, body, options);
}

/** The same in a kind of lab. */
export function labTest<T extends Lab>(
  name: string,
  kind: new (dir: TempDir) => T,
  body: (lab: T, t: Deno.TestContext) => Promise<void>,
  options: MountTestOptions = {},
): void {
  const skip = options.skip ?? (IN_CI ? null : UNABLE);
  Deno.test({
    name: skip === null ? name : `${name} (skipped: ${skip})`,
    ignore: skip !== null,
    fn: async (t) => {
      assert.equal(UNABLE, null, UNABLE ?? "");
      const lab = await makeLab(kind);
      try {
        await body(lab, t);
        await lab.finish();
      } catch (error) {
        await lab.showLogs();
        throw error;
      } finally {
        await lab.destroy();
      }
    },
  });
}

/** To be destroyed; `await using` does it. */
export async function makeLab<T extends Lab>(kind: new (dir: TempDir) => T): Promise<T> {
  const lab = new kind(await tempDir("afs-mount-"));
  for (const name of ["home", "remotes", "mnt"]) await Deno.mkdir(lab.at(name));
  // Other users must get through to the mount.
  await Deno.chmod(lab.dir.path, 0o755);
  return lab;
}

/** Something expensive, made once for all tests of a file, and removed after the last. */
export function fixture<T>(make: (path: string) => Promise<T>): () => Promise<T> {
  let made: Promise<T> | null = null;
  let dir: TempDir | null = null;
  Deno.test.afterAll(async () => {
    await dir?.remove();
  });
  return () =>
    made ??= (async () => {
      dir = await tempDir("afs-fixture-");
      return await make(dir.at("remote.git"));
    })();
}

/** A repository that `file://` serves as a good host would. */
export async function allowFilter(gitDir: string): Promise<void> {
  for (const key of ["uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"]) {
    await git(["--git-dir", gitDir, "config", key, "true"]);
  }
}

export interface LogLine {
  readonly time: string;
  readonly level: string;
  readonly part: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

/** A daemon process: our child, or one that a verb has put into the background. */
export class Daemon {
  #hasExited = false;

  constructor(
    readonly pid: number,
    readonly logPath: string,
    /** Resolves to the exit code; a signal n is 128 + n. Null: not our child. */
    readonly exited: Promise<number> | null,
  ) {
    exited?.then(() => this.#hasExited = true);
  }

  /** Of a child that has ended the pid may be somebody else's by now. */
  async isRunning(): Promise<boolean> {
    return !this.#hasExited && await isAlive(this.pid);
  }

  async log(): Promise<LogLine[]> {
    const text = await Deno.readTextFile(this.logPath).catch(() => "");
    return text.split("\n").filter((line) => line !== "").map((line) => {
      try {
        return JSON.parse(line) as LogLine;
      } catch {
        return { time: "", level: "", part: "", msg: line };
      }
    });
  }

  async logged(msg: string | RegExp): Promise<LogLine[]> {
    const lines = await this.log();
    return lines.filter((line) => typeof msg === "string" ? line.msg === msg : msg.test(line.msg));
  }

  /** Ends it; the exit code (0 for one in the background, which nobody can ask). */
  async stop(signal: Deno.Signal = "SIGTERM"): Promise<number> {
    if (await this.isRunning()) Deno.kill(this.pid, signal);
    return await this.ended();
  }

  async ended(): Promise<number> {
    if (this.exited !== null) {
      return await withGuard(this.exited, 60_000, `end of the daemon ${this.pid}`);
    }
    await waitFor(async () => !await isAlive(this.pid), `end of the daemon ${this.pid}`);
    return 0;
  }
}

export function withGuard<T>(promise: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`No ${what} after ${timeoutMs} ms`)), timeoutMs);
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Whether the process exists and is no zombie. */
export async function isAlive(pid: number): Promise<boolean> {
  return /^State:\s+[^ZX]/m.test(await procStatus(pid));
}

function procStatus(pid: number): Promise<string> {
  return Deno.readTextFile(`/proc/${pid}/status`).catch(() => "");
}

/** The process and everything below it. */
export async function processTree(root: number): Promise<number[]> {
  const children = new Map<number, number[]>();
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const parent = Number(/^PPid:\s+(\d+)$/m.exec(await procStatus(Number(name)))?.[1] ?? 0);
    children.set(parent, [...children.get(parent) ?? [], Number(name)]);
  }
  const found = [root];
  for (const pid of found) found.push(...children.get(pid) ?? []);
  return found;
}

/** Anonymous resident memory of a process and everything below it. */
export async function anonymousBytes(root: number): Promise<number> {
  let sum = 0;
  for (const pid of await processTree(root)) {
    sum += 1024 * Number(/^RssAnon:\s+(\d+) kB$/m.exec(await procStatus(pid))?.[1] ?? 0);
  }
  return sum;
}

/** A child that hangs in a mount, or soon will. */
export interface Parked {
  readonly pid: number;
  /** Exit code; a signal n is 128 + n. */
  readonly exited: Promise<number>;
  kill(signal: Deno.Signal): void;
  /** SIGKILL for it and its children; nothing when it has ended. */
  killGroup(): void;
}

/** What touch_main.ts prints. */
export interface Touched {
  readonly [field: string]: unknown;
  /** "" when all calls succeeded. */
  readonly errno: string;
}

export interface DaemonOptions {
  args?: readonly string[];
  /** A command to run it under, e.g. strace; the daemon is then its child. */
  under?: readonly string[];
}

export interface RepoStatusJson {
  readonly repo: string;
  readonly state: string;
  readonly mountPoint: string;
  readonly head: string | null;
  readonly ref: string | null;
  readonly ahead: number | null;
  readonly behind: number | null;
  readonly result: string;
  readonly hydratedBlobs: number;
  readonly hydratedBytes: number;
  readonly history: string;
  readonly remoteRefresh: string;
}

export class Lab implements AsyncDisposable {
  readonly dir: TempDir;
  readonly stateRoot: string;
  /** Of the CLI and the daemon: all of it. */
  readonly env: Record<string, string>;
  readonly #servers: GitServer[] = [];
  readonly #daemons: Daemon[] = [];
  readonly #parked: Parked[] = [];
  /** Everything that the CLI and the children printed, for who looks for secrets. */
  output = "";
  #fusectl: string | null = null;

  constructor(dir: TempDir) {
    this.dir = dir;
    this.stateRoot = dir.at("state");
    this.env = {
      PATH: Deno.env.get("PATH") ?? "/usr/bin:/bin",
      HOME: dir.at("home"),
      ARTIFACT_FS_ROOT: this.stateRoot,
      GIT_CONFIG_NOSYSTEM: "1",
      LC_ALL: "C",
    };
  }

  at(...parts: string[]): string {
    return this.dir.at(...parts);
  }

  /** Runs the binary. Throws RunError for an unexpected exit code. */
  async afs(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const result = await run(AFS, args, {
      timeoutMs: 120_000,
      cwd: "/",
      ...options,
      clearEnv: true,
      env: { ...this.env, ...options.env },
    });
    this.output += result.stdout + result.stderr;
    return result;
  }

  /** A server of everything that `share` puts up. */
  serve(options: Partial<GitServerOptions> = {}): GitServer {
    const server = startGitServer({ ...options, root: this.at("remotes") });
    this.#servers.push(server);
    return server;
  }

  /** Lets the server serve a repository as NAME.git; each name is a remote of its own to afs. */
  async share(gitDir: string, ...names: string[]): Promise<void> {
    for (const name of names) await Deno.symlink(gitDir, this.at("remotes", `${name}.git`));
  }

  /** Starts a daemon as our child and waits until it has mounted what was mounted. */
  async startDaemon(options: DaemonOptions = {}): Promise<Daemon> {
    const logPath = this.at(`daemon-${this.#daemons.length}.log`);
    const command = [...options.under ?? [], AFS, "daemon", "--root", this.at("mnt")];
    const child = new Deno.Command("sh", {
      args: ["-c", 'exec 2>>"$0" "$@"', logPath, ...command, ...options.args ?? []],
      clearEnv: true,
      env: this.env,
      cwd: "/",
      stdin: "null",
      stdout: "null",
      detached: true,
    }).spawn();
    let ended: number | null = null;
    const exited = child.status.then(({ code, signal }) => ended = codeOf(code, signal));
    let daemon = new Daemon(child.pid, logPath, exited);
    this.#daemons.push(daemon);
    await waitFor(
      async () => {
        if (ended !== null) return true;
        return (await daemon.logged("Ready")).length > 0;
      },
      "daemon that is ready",
      { timeoutMs: 120_000, pollMs: 20 },
    );
    if (ended !== null) {
      throw new Error(`The daemon has ended: ${await Deno.readTextFile(logPath)}`);
    }
    if (options.under !== undefined) {
      const pid = Number((await daemon.logged("Starting"))[0]?.["pid"]);
      this.#daemons.pop();
      daemon = new Daemon(pid, logPath, exited);
      this.#daemons.push(daemon);
    }
    return daemon;
  }

  /** The daemons that verbs have put into the background on this state root, ended ones too. */
  async background(): Promise<Daemon[]> {
    const logPath = `${this.stateRoot}/daemon.log`;
    const log = new Daemon(0, logPath, null);
    const starts = await log.logged("Starting");
    return starts.map((line) => new Daemon(Number(line["pid"]), logPath, null));
  }

  /** All that were started here, in whatever way, and have not ended. */
  async daemons(): Promise<Daemon[]> {
    const all = [...this.#daemons, ...await this.background()];
    const running = await Promise.all(all.map((daemon) => daemon.isRunning()));
    return all.filter((_, i) => running[i]);
  }

  /** Ends the daemon that runs, if one does; waits until it is gone. */
  async endDaemon(signal: Deno.Signal = "SIGTERM"): Promise<void> {
    for (const daemon of await this.daemons()) await daemon.stop(signal);
  }

  /**
   * Mounts at `mnt/NAME` through the CLI; the mount point. Requests are counted here, so the daemon
   * is not to ask the remote by itself (refresh_test.ts looks at that).
   */
  async mount(url: string, name: string, ...flags: string[]): Promise<string> {
    const mountPoint = this.at("mnt", name);
    await this.afs(["mount", ...flags, url, mountPoint]);
    const repo = { by: "dir", dir: mountPoint } as const;
    await call(`${this.stateRoot}/control.sock`, "set-refresh", { repo, seconds: null });
    return mountPoint;
  }

  async statusOf(name: string): Promise<RepoStatusJson> {
    const { stdout } = await this.afs(["status", "--json", "--name", name]);
    const { repos } = JSON.parse(stdout) as { repos: RepoStatusJson[] };
    assert.equal(repos.length, 1, stdout);
    return repos[0] as RepoStatusJson;
  }

  /** Shell in a child, under a guard; "$1", "$2"... are the arguments. */
  async sh(
    script: string,
    args: readonly string[] = [],
    options: RunOptions = {},
  ): Promise<RunResult> {
    const result = await run("sh", ["-euc", script, "sh", ...args], {
      timeoutMs: 120_000,
      cwd: "/",
      ...options,
      clearEnv: true,
      env: { ...this.env, GIT_TERMINAL_PROMPT: "0", ...options.env },
    });
    this.output += result.stdout + result.stderr;
    return result;
  }

  /** A PATH with all that is in this one, but for one tool. */
  async pathWithout(tool: string): Promise<string> {
    const bin = this.at("bin");
    await Deno.mkdir(bin);
    for (const dir of (this.env["PATH"] ?? "").split(":")) {
      // What is found first counts.
      await this.sh('find "$1/" -maxdepth 1 ! -type d ! -name "$2" -exec ln -s -t "$3" {} +', [
        dir,
        tool,
        bin,
      ], { okCodes: "any" });
    }
    return bin;
  }

  /** touch_main.ts in a child: one way of touching one path. */
  async touch(op: string, path: string, ...args: string[]): Promise<Touched> {
    const { stdout } = await run(
      Deno.execPath(),
      ["run", "-A", "--no-check", "--quiet", TOUCH_MAIN, op, path, ...args],
      { timeoutMs: 120_000 },
    );
    return JSON.parse(stdout) as Touched;
  }

  async compare(
    mountPoint: string,
    repo: { gitDir: string; headOid: string },
    options: RunCompareOptions = {},
  ): Promise<CompareSummary> {
    const summary = await runCompare(mountPoint, repo.gitDir, repo.headOid, options);
    assert.equal(summary.differenceCount, 0, JSON.stringify(summary.differences, null, 2));
    return summary;
  }

  /** Starts a command that is expected to hang. */
  park(command: string, ...args: string[]): Parked {
    const child = new Deno.Command(command, {
      args,
      clearEnv: true,
      env: this.env,
      cwd: "/",
      stdin: "null",
      stdout: "null",
      stderr: "null",
      detached: true,
    }).spawn();
    let alive = true;
    const parked = {
      pid: child.pid,
      exited: child.status.then(({ code, signal }) => {
        alive = false;
        return codeOf(code, signal);
      }),
      kill: (signal: Deno.Signal) => {
        if (alive) Deno.kill(child.pid, signal);
      },
      killGroup: () => {
        if (alive) killGroup(child.pid);
      },
    };
    this.#parked.push(parked);
    return parked;
  }

  /** Requests of this mount that the kernel has no answer to yet. */
  async waitingRequests(mountPoint: string): Promise<number> {
    return Number(await Deno.readTextFile(`${await this.#connection(mountPoint)}/waiting`));
  }

  /** The kernel breaks the connection between this mount and its daemon. */
  async abortConnection(mountPoint: string): Promise<void> {
    await Deno.writeTextFile(`${await this.#connection(mountPoint)}/abort`, "1");
  }

  /** The mount's folder in fusectl (Documentation/filesystems/fuse/fuse.rst). */
  async #connection(mountPoint: string): Promise<string> {
    if (this.#fusectl === null) {
      this.#fusectl = this.at("fusectl");
      await Deno.mkdir(this.#fusectl);
      await run("mount", ["-t", "fusectl", "none", this.#fusectl]);
    }
    const mountInfo = await Deno.readTextFile("/proc/self/mountinfo");
    const line = mountInfo.split("\n").find((line) => line.split(" ")[4] === mountPoint);
    const minor = line?.split(" ")[2]?.split(":")[1];
    assert.ok(minor !== undefined, `${mountPoint} is not mounted`);
    return `${this.#fusectl}/${minor}`;
  }

  async waitForRequests(mountPoint: string, count: number): Promise<void> {
    await waitFor(
      async () => await this.waitingRequests(mountPoint) >= count,
      `${count} waiting requests`,
      { timeoutMs: 60_000 },
    );
  }

  async dropCaches(): Promise<void> {
    await run("sh", ["-c", "sync; echo 2 >/proc/sys/vm/drop_caches"]);
  }

  /** What every test ends with. */
  async finish(): Promise<void> {
    for (const parked of this.#parked) parked.kill("SIGKILL");
    await Promise.all(this.#parked.map((parked) => withGuard(parked.exited, 30_000, "end")));
    if (this.#fusectl !== null) await run("umount", [this.#fusectl]);
    for (const daemon of await this.daemons()) {
      assert.equal(await daemon.stop(), 0, "exit code of the daemon");
    }
    assert.deepEqual(await mountsBelow(this.dir.path), [], "mounts that are left");
    assert.deepEqual(await this.processes(), [], "processes that are left");
  }

  /** Processes that name this test's folder in their arguments or environment. */
  async processes(): Promise<string[]> {
    const script = `grep -lFs -e "$1/" /proc/[0-9]*/environ /proc/[0-9]*/cmdline || true`;
    const { stdout } = await run("sh", ["-c", script, "sh", this.dir.path]);
    const pids = new Set(stdout.match(/\d+/g) ?? []);
    const found: string[] = [];
    for (const pid of pids) {
      const status = await procStatus(Number(pid));
      const name = /^Name:\s+(.*)$/m.exec(status)?.[1] ?? "gone";
      // The shell that looked, and grep.
      if (/^State:\s+[^ZX]/m.test(status)) found.push(`${pid} ${name}`);
    }
    return found;
  }

  async showLogs(): Promise<void> {
    for (const daemon of [...this.#daemons, ...(await this.background()).slice(-1)]) {
      const text = await Deno.readTextFile(daemon.logPath).catch(() => "");
      console.error(`--- ${daemon.logPath}\n${text.slice(-6000)}`);
    }
  }

  /** Whatever has happened: no process, no mount, no folder. */
  async destroy(): Promise<void> {
    for (const parked of this.#parked) parked.killGroup();
    for (const { pid } of await this.daemons()) await kill9(pid);
    await Promise.all(this.#daemons.map(({ exited }) => exited));
    await Promise.all(this.#parked.map(({ exited }) => exited));
    await Promise.all(this.#servers.map((server) => server.close()));
    await this.dir.remove();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.destroy();
  }
}

function codeOf(code: number, signal: Deno.Signal | null): number {
  return signal === null ? code : code < 128 ? 128 + code : code;
}

async function kill9(pid: number): Promise<void> {
  const tree = await processTree(pid);
  for (const each of tree) {
    try {
      Deno.kill(each, "SIGKILL");
    } catch {
      // Gone already.
    }
  }
}

/** Quotes one word for a shell. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
