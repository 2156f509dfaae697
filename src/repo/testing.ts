/** For unit tests: real repositories made by git and served by file://, each with a state root. */

import type { HostPath } from "../path.ts";
import { acquire, type AcquireOptions, type AcquireRequest } from "./acquire.ts";
import { type Layout, layoutOf } from "./layout.ts";
import { openRegistry, type Registry } from "./registry.ts";
import { makeStateRoot } from "./state_root.ts";
import {
  DEFAULT_REFRESH_SECONDS,
  DEFAULT_UMASK,
  type RepoRecord,
  type RepoSettings,
} from "./types.ts";

/** What is asked for when nothing is said. */
export const PLAIN_SETTINGS: Omit<RepoSettings, "mountPoint" | "uid" | "gid"> = {
  branch: null,
  depth: null,
  requiredCommitOid: null,
  xattrs: false,
  umask: DEFAULT_UMASK,
  readOnly: false,
  gitDir: null,
  preparedGitDir: false,
  singleBranch: false,
  remoteRefreshSeconds: DEFAULT_REFRESH_SECONDS,
  tokenFile: null,
};

export interface Ground {
  readonly dir: string;
  readonly layout: Layout;
  readonly registry: Registry;
  /** Runs git as a user does; returns standard output. Throws with standard error. */
  git(cwd: string, ...args: string[]): Promise<string>;
  /** Makes a repository with some commits that serves partial clones; returns its path. */
  makeRemote(options?: RemoteOptions): Promise<string>;
  /** Acquires and registers. */
  add(url: string, request?: Partial<AcquireRequest>, options?: Partial<AcquireOptions>): Promise<
    RepoRecord
  >;
  /** A folder with a gitfile and the files of the base commit: what a mount shows. */
  workTreeOf(record: RepoRecord): Promise<string>;
}

export interface RemoteOptions {
  readonly name?: string;
  readonly objectFormat?: "sha1" | "sha256";
  readonly filter?: boolean;
  readonly empty?: boolean;
}

/** Runs `fn` with a fresh ground, which is removed after it. */
export async function onGround(fn: (ground: Ground) => Promise<void>): Promise<void> {
  const dir = await Deno.realPath(await Deno.makeTempDir({ prefix: "afs-repo-" }));
  // Other users have to get to the state root through it.
  await Deno.chmod(dir, 0o711);
  const layout = layoutOf(`${dir}/state` as HostPath);
  await makeStateRoot(layout);
  const registry = openRegistry(layout);
  try {
    await fn(new TestGround(dir, layout, registry));
  } finally {
    registry.close();
    await Deno.remove(dir, { recursive: true });
  }
}

class TestGround implements Ground {
  #count = 0;

  constructor(readonly dir: string, readonly layout: Layout, readonly registry: Registry) {}

  async git(cwd: string, ...args: string[]): Promise<string> {
    const output = await new Deno.Command("git", {
      args,
      cwd,
      env: {
        GIT_CONFIG_GLOBAL: "/dev/null",
        GIT_AUTHOR_NAME: "A",
        GIT_AUTHOR_EMAIL: "a@example.com",
        GIT_COMMITTER_NAME: "A",
        GIT_COMMITTER_EMAIL: "a@example.com",
        GIT_TERMINAL_PROMPT: "0",
        LC_ALL: "C",
      },
    }).output();
    const decoder = new TextDecoder();
    if (!output.success) throw new Error(`git ${args[0]}: ${decoder.decode(output.stderr)}`);
    return decoder.decode(output.stdout);
  }

  async makeRemote(options: RemoteOptions = {}): Promise<string> {
    const path = `${this.dir}/${options.name ?? `remote${++this.#count}`}`;
    await Deno.mkdir(path);
    const format = options.objectFormat ?? "sha1";
    await this.git(path, "init", "-q", "-b", "main", `--object-format=${format}`);
    await this.git(path, "config", "uploadpack.allowFilter", String(options.filter ?? true));
    await this.git(path, "config", "uploadpack.allowAnySHA1InWant", "true");
    if (options.empty === true) return path;
    for (const text of ["one", "two", "three"]) {
      await Deno.mkdir(`${path}/dir`, { recursive: true });
      await Deno.writeTextFile(`${path}/file`, `${text}\n`);
      await Deno.writeTextFile(`${path}/dir/${text}`, `in dir: ${text}\n`);
      await this.git(path, "add", ".");
      await this.git(path, "commit", "-q", "-m", text);
    }
    await this.git(path, "branch", "feature/x", "HEAD~1");
    await this.git(path, "tag", "-a", "-m", "first", "v1", "HEAD~2");
    await this.git(path, "tag", "light", "HEAD~1");
    return path;
  }

  add(
    url: string,
    request: Partial<AcquireRequest> = {},
    options: Partial<AcquireOptions> = {},
  ): Promise<RepoRecord> {
    const number = ++this.#count;
    return acquire({
      name: `repo${number}`,
      url,
      ...PLAIN_SETTINGS,
      mountPoint: `${this.dir}/mnt${number}` as HostPath,
      uid: Deno.uid() as number,
      gid: Deno.gid() as number,
      ...request,
    }, {
      layout: this.layout,
      register: (record) => this.registry.insert(record),
      ...options,
    });
  }

  async workTreeOf(record: RepoRecord): Promise<string> {
    const path = `${this.dir}/tree-${record.id}`;
    await Deno.mkdir(path);
    const archive = await new Deno.Command("sh", {
      args: ["-c", `git -C "$1" archive "$2" | tar -xf - -C "$3"`, "sh"].concat(
        record.remote.replace("file://", ""),
        record.baseCommitOid,
        path,
      ),
    }).output();
    if (!archive.success) throw new Error(new TextDecoder().decode(archive.stderr));
    await Deno.writeTextFile(
      `${path}/.git`,
      `gitdir: ${this.layout.repo(record.id).userGitDir}\n`,
    );
    return path;
  }
}

/** All paths below a folder with their modes, as `mode path`, sorted. */
export async function listTree(root: string): Promise<string[]> {
  const lines: string[] = [];
  const walk = async (folder: string) => {
    for await (const entry of Deno.readDir(folder)) {
      const path = `${folder}/${entry.name}`;
      const { mode } = await Deno.lstat(path);
      lines.push(`${((mode ?? 0) & 0o7777).toString(8)} ${path.slice(root.length + 1)}`);
      if (entry.isDirectory) await walk(path);
    }
  };
  await walk(root);
  return lines.sort();
}
