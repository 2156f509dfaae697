/**
 * A mount and a plain clone of the same repository, and what one can see of each. Each has a remote
 * and a folder outside the work tree of its own; the texts that name them are made the same.
 *
 * Git has the same configuration on both sides, but for what the mount adds to its own: the file
 * monitor and the untracked cache are on in the mount and off in the clone.
 */

import { AFS, allowFilter, type Daemon, Lab, makeLab, quote } from "../mount/harness.ts";
import { checkInvariants } from "../support/overlay_invariants.ts";
import { git, run } from "../support/run.ts";
import { makeBase, pushElsewhere } from "./base.ts";
import { type Paths, pathsBelow } from "./generate.ts";

/** What may happen to the mount when nobody works in it. */
export const EVENTS = ["term", "kill", "remount", "drop"] as const;
export type Event = typeof EVENTS[number];

/**
 * How much is looked at after a step: nothing, what git says, or every path too. Git's answer comes
 * first, since reading files could bring to light what git must know without that.
 */
export const LOOKS = ["nothing", "git", "all"] as const;
export type Look = typeof LOOKS[number];

/** A name and a text each. */
export type Seen = Readonly<Record<string, string>>;

/** `sw TARGET`: `git switch`, which wants to be told where HEAD would be detached. */
const PLAIN_SWITCH = 'sw() { if [ "$1" = - ] || git show-ref -q --verify "refs/heads/$1" || ' +
  '! git rev-parse -q --verify "$1^{commit}" >/dev/null; then git switch "$1"; ' +
  'else git switch --detach "$1"; fi; }\n';
const AFS_SWITCH = 'sw() { "$AFS" switch "$1"; }\n';

/** One side. */
interface Side {
  readonly functions: string;
  readonly tree: string;
  readonly out: string;
  readonly remote: string;
  gitDir: string;
}

const GIT_CONFIG = `[user]
	name = A U Thor
	email = author@example.com
[core]
	abbrev = 12
[gc]
	auto = 0
	reflogExpire = never
	reflogExpireUnreachable = never
[protocol "file"]
	allow = always
[advice]
	statusUoption = false
`;

/** Between two parts of what a side prints. */
const MARK = "\x01";

const PARTS: Readonly<Record<Look, readonly (readonly [string, string])[]>> = {
  nothing: [],
  git: [
    // The form that uses the untracked cache, before the one that passes it by.
    ["status", "git status"],
    ["status again", "git status --porcelain"],
    ["status of all", "git status --porcelain=v2 -uall --branch"],
    ["index", "git ls-files -s -v"],
    ["HEAD", "git symbolic-ref -q HEAD || git rev-parse HEAD"],
    ["refs", "git for-each-ref"],
    ["stashes", "git stash list"],
    ["reflog", "git log -g -12 --format='%h %gs' HEAD"],
  ],
  all: [],
};

const TREE: readonly (readonly [string, string])[] = [
  [
    "paths",
    `find . -name .git -prune -o -type d -printf 'directory %m %p\\n' ` +
    `-o -type l -printf 'link %p -> %l\\n' -o -printf '%y %m %n names, %s %p\\n' | sort`,
  ],
  ["bytes", "find . -name .git -prune -o -type f -print0 | sort -z | xargs -0r sha1sum"],
];

function partsOf(look: Look): readonly (readonly [string, string])[] {
  return look === "all" ? [...PARTS.git, ...TREE] : PARTS[look];
}

export class World {
  readonly lab: Lab;
  readonly #plain: Side;
  readonly #mounted: Side;
  readonly #env: Readonly<Record<string, string>>;
  #daemon: Daemon | null = null;
  #steps = 0;
  #pushes = 0;

  static async make(): Promise<World> {
    const world = new World(await makeLab(Lab));
    try {
      await world.#start();
      return world;
    } catch (error) {
      await world.destroy();
      throw error;
    }
  }

  private constructor(lab: Lab) {
    this.lab = lab;
    const side = (name: string, tree: string, functions: string) => ({
      functions,
      tree,
      out: lab.at(`${name}-out`),
      remote: lab.at(`${name}.git`),
      gitDir: "",
    });
    this.#plain = side("plain", lab.at("plain"), PLAIN_SWITCH);
    this.#mounted = side("mounted", lab.at("mnt", "repo"), AFS_SWITCH);
    this.#env = {
      PATH: lab.env["PATH"] ?? "/usr/bin:/bin",
      HOME: lab.at("home"),
      LC_ALL: "C",
      TZ: "UTC",
      GIT_CONFIG_NOSYSTEM: "1",
      GIT_CONFIG_GLOBAL: lab.at("gitconfig"),
      GIT_TERMINAL_PROMPT: "0",
      GIT_EDITOR: "true",
      SUB: lab.at("sub.git"),
      AFS,
      ARTIFACT_FS_ROOT: lab.stateRoot,
    };
  }

  async #start(): Promise<void> {
    const { lab } = this;
    const [plain, mounted] = [this.#plain, this.#mounted];
    await Deno.writeTextFile(lab.at("gitconfig"), GIT_CONFIG);
    await makeBase(plain.remote, lab.at("scratch"));
    await lab.sh('cp -a "$1" "$2"', [plain.remote, mounted.remote]);
    await allowFilter(mounted.remote);
    await makeSubmodule(lab.at("sub.git"));
    for (const { out } of [plain, mounted]) await Deno.mkdir(out);
    this.#daemon = await lab.startDaemon();
    await lab.mount(`file://${mounted.remote}`, "repo", "--wait=history");
    await git(["clone", "-q", `file://${plain.remote}`, plain.tree]);
    for (const side of [plain, mounted]) {
      const { stdout } = await this.#run(side, "git rev-parse --absolute-git-dir");
      side.gitDir = stdout.trim();
    }
  }

  /** What a step can be about. */
  paths(): Paths {
    return pathsBelow(this.#plain.tree);
  }

  /** Makes a step on both sides, and looks. */
  async step(script: string, look: Look): Promise<{ plain: Seen; mounted: Seen }> {
    this.#steps++;
    const [plain, mounted] = await Promise.all([
      this.#see(this.#plain, script, look),
      this.#see(this.#mounted, script, look),
    ]);
    return { plain, mounted };
  }

  async #see(side: Side, script: string, look: Look): Promise<Seen> {
    // Parts are commands of their own: what one does to its shell is gone before the next.
    const parts = [["step", `${script}`], ...partsOf(look)].map(([name = "", command = ""]) =>
      `printf '${MARK}%s\\n' ${quote(name)}\n` +
      `(eval ${quote(command)}) 2>>"$OUT/stderr"\necho "exit code $?"\n`
    );
    const { stdout } = await this.#run(
      side,
      `: >"$OUT/stderr"; ${side.functions}${parts.join("")}`,
    );
    const seen: Record<string, string> = {};
    for (const part of stdout.split(MARK).slice(1)) {
      const end = part.indexOf("\n");
      seen[part.slice(0, end)] = this.#masked(side, part.slice(end + 1));
    }
    return seen;
  }

  /** What both sides printed to stderr in the last step; not compared. */
  async complaints(): Promise<string> {
    const texts = [this.#plain, this.#mounted].map(({ out }) =>
      Deno.readTextFile(`${out}/stderr`).catch(() => "")
    );
    const [plain, mounted] = await Promise.all(texts);
    return `plain: ${plain?.slice(-3500)}\nmounted: ${mounted?.slice(-3500)}`;
  }

  async #run(side: Side, script: string) {
    const date = `${1_700_000_000 + this.#steps} +0000`;
    return await run("sh", ["-c", script], {
      cwd: side.tree,
      clearEnv: true,
      env: { ...this.#env, OUT: side.out, GIT_AUTHOR_DATE: date, GIT_COMMITTER_DATE: date },
      okCodes: "any",
      timeoutMs: 120_000,
    });
  }

  #masked(side: Side, text: string): string {
    const names: [string, string][] = [
      [side.remote, "<remote>"],
      [`${side.tree}/.git`, "<git directory>"],
      [side.gitDir, "<git directory>"],
      [side.tree, "<work tree>"],
      [side.out, "<out>"],
    ];
    return names.reduce((masked, [from, to]) => masked.replaceAll(from, to), text)
      .replaceAll(/(?<=[ '"])\.git\/(?=rebase)/g, "<git directory>/");
  }

  /** Somebody else pushes the same to both remotes. */
  async push(): Promise<void> {
    this.#pushes++;
    for (const { remote } of [this.#plain, this.#mounted]) {
      await pushElsewhere(remote, this.lab.at("scratch"), this.#pushes).catch(() => {
        // Main there is not what it was: nothing comes, on both sides.
        return Deno.remove(this.lab.at("scratch"), { recursive: true });
      });
    }
  }

  async happen(event: Event): Promise<void> {
    if (event === "drop") {
      await run("sh", ["-c", "echo 2 >/proc/sys/vm/drop_caches"]);
    } else if (event === "remount") {
      await this.lab.afs(["unmount", this.#mounted.tree]);
      checkInvariants(this.#overlayDir, true);
      await this.lab.afs(["mount", `file://${this.#mounted.remote}`, this.#mounted.tree]);
    } else {
      await this.#daemon?.stop(event === "kill" ? "SIGKILL" : "SIGTERM");
      checkInvariants(this.#overlayDir, event === "term");
      this.#daemon = await this.lab.startDaemon();
    }
  }

  get #overlayDir(): string {
    const repos = `${this.lab.stateRoot}/repos`;
    const [id] = [...Deno.readDirSync(repos)].filter(({ isDirectory }) => isDirectory);
    return `${repos}/${id?.name}/overlay`;
  }

  /** Everything ends in order. Throws when something is left. */
  async finish(): Promise<void> {
    await this.lab.finish();
    checkInvariants(this.#overlayDir, true);
  }

  async destroy(): Promise<void> {
    await this.lab.destroy();
  }
}

async function makeSubmodule(path: string): Promise<void> {
  const script = 'git init -q "$1.work"; cd "$1.work"; echo sub >f; git add f; ' +
    'git commit -qm sub; git clone -q --bare . "$1"';
  await git(["-c", `alias.make=!sh -euc '${script}' sh`, "make", path], { cwd: "/" });
}
