/**
 * The lab of tests in which afs runs as an ordinary user. They are in a mount namespace of their
 * own, which sees /dev/fuse as ordinary machines have it (open to all) and a configuration of
 * fusermount3 that is the lab's. A process holds the namespace, since mounts must outlive daemons.
 */

import assert from "node:assert/strict";
import { mountInfo, run, type RunOptions, type RunResult, type TempDir } from "../support/run.ts";
import { Cli } from "./cli_harness.ts";
import { AFS, labTest, type MountTestOptions, type Parked } from "./harness.ts";

export const USER = 65534;

/** A test as a user without any right. It needs root to become one. */
export function userTest(
  name: string,
  body: (lab: UserLab) => Promise<void>,
  options: MountTestOptions = {},
): void {
  labTest(name, UserLab, async (lab) => {
    await lab.enter();
    await body(lab);
  }, options);
}

/**
 * Why fusermount3 cannot be used here; null: it can. Never a failure, in CI neither: it belongs to
 * the system as a setuid program, and nothing here installs such.
 */
export async function withoutFusermount(): Promise<string | null> {
  const script = 'p=$(command -v fusermount3) && [ -u "$(readlink -f "$p")" ]';
  const { code } = await run("sh", ["-c", script], { okCodes: "any" });
  return code === 0 ? null : "there is no fusermount3 with the setuid bit; install fuse3";
}

/** Why a user cannot have a user namespace here; null: they can. Machines differ in that. */
export async function withoutUserNamespaces(): Promise<string | null> {
  const user = ["--reuid", `${USER}`, "--regid", `${USER}`, "--clear-groups"];
  const command = [...user, "unshare", "--user", "--map-root-user", "--mount", "true"];
  const { code } = await run("setpriv", command, { okCodes: "any" });
  return code === 0 ? null : "users have no user namespaces here";
}

export class UserLab extends Cli {
  /** Where it is for a user who says nothing. */
  override readonly stateRoot: string;
  #holder: Parked | null = null;

  constructor(dir: TempDir) {
    super(dir);
    this.stateRoot = dir.at("home", ".local", "share", "artifact-fs");
    delete this.env["ARTIFACT_FS_ROOT"];
  }

  /** The binary, at a place where the user can reach it. */
  get binary(): string {
    return this.at("afs");
  }

  async enter(): Promise<void> {
    const prepare =
      'cd "$1"; mknod fuse c 10 229; chmod 666 fuse; : >afs; : >fuse.conf; mkdir bin; ' +
      'chown "$2:$2" home mnt';
    await run("sh", ["-euc", prepare, "sh", this.dir.path, `${USER}`]);
    await Deno.writeTextFile(
      this.at("home", ".gitconfig"),
      "[user]\n\tname = U\n\temail = u@example.com\n",
    );
    const script = 'mount --bind "$1/fuse" /dev/fuse; mount --bind "$2" "$1/afs"; ' +
      '[ ! -e /etc/fuse.conf ] || mount --bind "$1/fuse.conf" /etc/fuse.conf; ' +
      ': >"$1/entered"; exec env -i sleep infinity';
    const unshare = ["--mount", "--propagation", "slave", "sh", "-euc", script, "sh"];
    const holder = this.park("unshare", ...unshare, this.dir.path, AFS);
    this.#holder = holder;
    const isReady = async () => {
      const { code } = await run("test", ["-e", this.at("entered")], { okCodes: "any" });
      return code === 0;
    };
    let hasEnded = false;
    holder.exited.then(() => hasEnded = true);
    while (!await isReady()) assert.ok(!hasEnded, "the namespace cannot be made");
  }

  /** A command that runs another one in the namespace: as the user, or as root. */
  inside(options: { cwd?: string; root?: boolean; setpriv?: readonly string[] } = {}): string[] {
    const { cwd = "/", root = false, setpriv = [] } = options;
    assert.ok(this.#holder !== null);
    return [
      "nsenter",
      `--mount=/proc/${this.#holder.pid}/ns/mnt`,
      ...(root ? [] : ["setpriv", `--reuid=${USER}`, `--regid=${USER}`, "--clear-groups"]),
      ...(root ? [] : setpriv),
      "sh",
      "-c",
      'cd "$0" && exec "$@"',
      cwd,
    ];
  }

  /** Any command there, to its end. */
  async runInside(
    command: readonly string[],
    options: RunOptions & { root?: boolean; setpriv?: readonly string[] } = {},
  ): Promise<RunResult> {
    const { root, setpriv, cwd, ...rest } = options;
    const where = {
      ...(cwd === undefined ? {} : { cwd }),
      ...(root === undefined ? {} : { root }),
      ...(setpriv === undefined ? {} : { setpriv }),
    };
    // PATH is for the command; what leads there is found by ours.
    const env = Object.entries(options.env ?? {}).map(([name, value]) => `${name}=${value}`);
    const [first = "", ...more] = [...this.inside(where), "env", ...env, ...command];
    const result = await run(first, more, {
      timeoutMs: 120_000,
      ...rest,
      clearEnv: true,
      env: { ...this.env, GIT_TERMINAL_PROMPT: "0" },
    });
    this.output += result.stdout + result.stderr;
    return result;
  }

  override afs(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return this.runInside([this.binary, ...args], options);
  }

  override sh(
    script: string,
    args: readonly string[] = [],
    options: RunOptions & { root?: boolean } = {},
  ): Promise<RunResult> {
    return this.runInside(["sh", "-euc", script, "sh", ...args], options);
  }

  /** Starts a command there that runs until it is killed. */
  parkInside(options: { cwd: string }, ...command: string[]): Parked {
    const [first = "", ...more] = [...this.inside(options), ...command];
    return this.park(first, ...more);
  }

  /** For `startDaemon`: the daemon runs there, from where the user can reach it. */
  get under(): string[] {
    return [...this.inside(), "sh", "-c", 'shift; exec "$0" "$@"', this.binary];
  }

  /** A stand-in for fusermount3, first on PATH; what to put into the environment for it. */
  async fake(script: string): Promise<Record<string, string>> {
    const path = this.at("bin", "fusermount3");
    await Deno.writeTextFile(`${path}.new`, `#!/bin/sh\n${script}\n`);
    await Deno.chmod(`${path}.new`, 0o755);
    await Deno.rename(`${path}.new`, path);
    return { PATH: `${this.at("bin")}:${this.env["PATH"]}` };
  }

  /** What is mounted below the lab's `mnt`. */
  override async mounts(): Promise<string[]> {
    return (await this.infos()).map(({ mountPoint }) => mountPoint).sort();
  }

  /** How: the mount's own options, then the file system's. */
  async mountOptions(mountPoint: string): Promise<string[]> {
    const ours = (await this.infos()).find((info) => info.mountPoint === mountPoint);
    return `${ours?.options},${ours?.superOptions}`.split(",");
  }

  async infos(): ReturnType<typeof mountInfo> {
    const infos = await mountInfo(this.#holder?.pid);
    return infos.filter(({ mountPoint }) => mountPoint.startsWith(`${this.at("mnt")}/`));
  }

  override async finish(): Promise<void> {
    await this.endDaemon();
    assert.deepEqual(await this.mounts(), [], "mounts that are left");
    await super.finish();
  }
}
