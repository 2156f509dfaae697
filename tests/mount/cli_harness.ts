/** The lab of tests that look at the command line: what it prints, and with which code it ends. */

import assert from "node:assert/strict";
import { call, NoDaemon } from "../../src/control/client.ts";
import { git, mountsBelow, type RunOptions, type RunResult } from "../support/run.ts";
import { AFS, Lab, labTest, makeLab, type Parked } from "./harness.ts";

/** A test with a lab of its own. In CI a missing /dev/fuse fails it. */
export function cliTest(name: string, body: (afs: Cli) => Promise<void>): void {
  labTest(name, Cli, body);
}

/** A lab for what needs no mount: `await using`. */
export function makeCli(): Promise<Cli> {
  return makeLab(Cli);
}

export class Cli extends Lab {
  get socketPath(): string {
    return `${this.stateRoot}/control.sock`;
  }

  /** Runs `afs <args>` in the lab's folder to its end; any exit code. */
  run(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return this.afs(args, { cwd: this.dir.path, okCodes: "any", ...options });
  }

  /** Runs `afs <args>`, which must end with 0. */
  async ok(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
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

  /** Starts `afs <args>` and leaves it running; for what is to be interrupted. */
  start(args: readonly string[]): Parked {
    return this.park(AFS, ...args);
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

  /** What is mounted below the lab's folder. */
  mounts(): Promise<string[]> {
    return mountsBelow(this.dir.path);
  }

  /** Fails unless nothing is registered, mounted, running or lying about. */
  async assertNothingLeft(): Promise<void> {
    assert.deepEqual(await this.mounts(), []);
    assert.deepEqual(await this.daemons(), [], "a daemon runs");
    assert.deepEqual((await this.json(["list-repos"])).repos, []);
    for (const folder of ["stores", "repos", "gitdirs", "convert", "credentials"]) {
      assert.deepEqual(await namesIn(`${this.stateRoot}/${folder}`), [], folder);
    }
  }
}

export async function namesIn(path: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(path))).map((entry) => entry.name).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
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
