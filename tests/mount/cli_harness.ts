/**
 * Runs the compiled binary with a state root of its own. Every daemon ends with its test, by pid.
 */

import assert from "node:assert/strict";
import { call, NoDaemon } from "../../src/control/client.ts";
import {
  git,
  gitBaseEnv,
  mountsBelow,
  run,
  type RunOptions,
  type RunResult,
  type TempDir,
  tempDir,
  waitFor,
} from "../support/run.ts";

const ROOT = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");
/** What `sh scripts/build` makes. */
export const BINARY = Deno.env.get("AFS_BINARY") ?? `${ROOT}/dist/afs`;

/** Missing /dev/fuse is a skip for a person and a failure in CI. */
export const NO_MOUNTS = Deno.env.get("CI") !== "true" &&
  !new Deno.Command("sh", { args: ["-c", "test -c /dev/fuse && test $(id -u) = 0"] })
    .outputSync().success;

export type AfsResult = RunResult & { readonly code: number };

export class Afs implements AsyncDisposable {
  readonly #daemons: Deno.ChildProcess[] = [];

  private constructor(readonly dir: TempDir) {}

  static async make(): Promise<Afs> {
    const dir = await tempDir("afs-cli-");
    // Other users have to pass.
    await Deno.chmod(dir.path, 0o755);
    return new Afs(dir);
  }

  get stateRoot(): string {
    return this.at("state");
  }

  get socketPath(): string {
    return this.at("state", "control.sock");
  }

  at(...parts: string[]): string {
    return this.dir.at(...parts);
  }

  env(): Record<string, string> {
    const env = gitBaseEnv();
    delete env["SUDO_UID"];
    delete env["SUDO_GID"];
    return { ...env, ARTIFACT_FS_ROOT: this.stateRoot };
  }

  /** Runs `afs <args>` to its end; any exit code. */
  async run(args: readonly string[], options: RunOptions = {}): Promise<AfsResult> {
    const result = await run(BINARY, args, {
      cwd: this.dir.path,
      okCodes: "any",
      ...options,
      env: { ...this.env(), ...options.env },
    });
    return result as AfsResult;
  }

  /** Runs `afs <args>`, which must end with 0. */
  async ok(args: readonly string[], options: RunOptions = {}): Promise<AfsResult> {
    const result = await this.run(args, options);
    assert.equal(result.code, 0, `afs ${args.join(" ")}: ${result.stderr}`);
    return result;
  }

  /** Runs `afs <args> --json`, which must end with 0; what it printed. */
  // deno-lint-ignore no-explicit-any -- tests look at what they know
  async json(args: readonly string[]): Promise<any> {
    const { stdout } = await this.ok([...args, "--json"]);
    const value = JSON.parse(stdout);
    assert.equal(value.version, 1);
    return value;
  }

  /** Runs `afs <args>`, which must fail with this code and one line that matches. */
  async fails(
    args: readonly string[],
    code: number,
    pattern: RegExp,
    options: RunOptions = {},
  ): Promise<string> {
    const result = await this.run(args, options);
    const last = result.stderr.trimEnd().split("\n").at(-1) ?? "";
    assert.equal(result.code, code, `afs ${args.join(" ")}: ${result.stderr}`);
    assert.match(last, pattern);
    assert.match(last, /^afs: Cannot /);
    assert.equal(result.stdout, "");
    return last;
  }

  /** Starts `afs daemon` in the foreground and waits until it serves. */
  async daemon(args: readonly string[] = []): Promise<Deno.ChildProcess> {
    const child = new Deno.Command(BINARY, {
      args: ["daemon", ...args],
      clearEnv: true,
      env: this.env(),
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    this.#daemons.push(child);
    await waitFor(() => this.pid(), "answer of the daemon");
    return child;
  }

  /** Pid of the daemon; null: none answers. */
  async pid(): Promise<number | null> {
    try {
      return (await call(this.socketPath, "ping", {})).pid;
    } catch (error) {
      if (error instanceof NoDaemon) return null;
      throw error;
    }
  }

  /** Ends the daemon that answers; waits until it is gone. */
  async endDaemon(signal: "TERM" | "KILL" = "TERM"): Promise<void> {
    const pid = await this.pid();
    if (pid === null) return;
    await run("kill", [`-${signal}`, `${pid}`]);
    await waitFor(async () => !await isAlive(pid), "end of the daemon");
  }

  /** What is mounted below the test's directory. */
  async mounts(): Promise<string[]> {
    return await mountsBelow(this.dir.path);
  }

  /** Fails unless nothing is registered, mounted, running or lying about. */
  async assertNothingLeft(): Promise<void> {
    assert.deepEqual(await this.mounts(), []);
    assert.equal(await this.pid(), null, "a daemon runs");
    assert.deepEqual((await this.json(["list-repos"])).repos, []);
    for (const folder of ["stores", "repos", "gitdirs", "credentials"]) {
      assert.deepEqual(await namesIn(this.at("state", folder)), [], folder);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.endDaemon().catch(() => this.endDaemon("KILL"));
    for (const child of this.#daemons) {
      try {
        child.kill("SIGKILL");
      } catch {
        // It has ended.
      }
      await child.status;
    }
    await this.dir.remove();
  }
}

/** Zombies count as ended: their parent is whoever started the test. */
async function isAlive(pid: number): Promise<boolean> {
  const { stdout } = await run("ps", ["-o", "stat=", "-p", `${pid}`], { okCodes: "any" });
  return stdout.trim() !== "" && !stdout.trim().startsWith("Z");
}

export async function namesIn(path: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(path))).map((entry) => entry.name).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** Starts `afs <args>` and leaves it running; for what is to be interrupted. */
export function start(afs: Afs, args: readonly string[]): Deno.ChildProcess {
  return new Deno.Command(BINARY, {
    args: [...args],
    cwd: afs.dir.path,
    clearEnv: true,
    env: afs.env(),
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
}

/** A bare repository `main` with some commits and one more branch. Returns the commits of main. */
export async function makeRepo(path: string, commits = 3): Promise<string[]> {
  await git(["init", "-q", "--bare", path]);
  await git(["-C", path, "config", "uploadpack.allowFilter", "true"]);
  await git(["-C", path, "config", "uploadpack.allowAnySHA1InWant", "true"]);
  const oids: string[] = [];
  let script = "";
  for (let i = 1; i <= commits; i++) {
    const content = `content ${i}\n`;
    script += `commit refs/heads/main\nmark :${i}\n`;
    script += `committer T <t@example.com> ${1_700_000_000 + i} +0000\ndata 2\nc${i % 10}\n`;
    if (i > 1) script += `from :${i - 1}\n`;
    script += `M 100644 inline file.txt\ndata ${content.length}\n${content}\n`;
    script += `M 100644 inline dir/other.txt\ndata 6\nother\n\n`;
  }
  script += `reset refs/heads/feature\nfrom :1\n\n`;
  await git(["-C", path, "fast-import", "--quiet"], { stdin: script });
  const { stdout } = await git(["-C", path, "rev-list", "--reverse", "main"]);
  oids.push(...stdout.trim().split("\n"));
  return oids;
}

/** `a=1 b="two words"` as an object. */
export function fieldsOf(line: string): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const match of line.matchAll(/([a-z_]+)=("(?:[^"\\]|\\.)*"|\S*)/g)) {
    const [, name = "", value = ""] = match;
    fields[name] = value.startsWith('"') ? JSON.parse(value) : value;
  }
  return fields;
}
