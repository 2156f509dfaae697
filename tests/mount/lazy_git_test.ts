/**
 * What git commands cost in a new mount: requests to the remote and blobs that came, and what git
 * looks at, each command in a mount of its own. The tables in docs/git.md are what this prints.
 */

import assert from "node:assert/strict";
import type { GitServer } from "../support/git_server_api.ts";
import { makeSizedRepo } from "../support/repos.ts";
import { fixture, type Lab, mountTest, without } from "./harness.ts";

const FILES = 1200;

const sized = fixture((path) =>
  makeSizedRepo(path, { files: FILES, dirs: 200, blobBytes: 800, commits: 3 })
);

interface Cost {
  /** HTTP requests: a fetch is two or three, with discovery and the list of refs. */
  readonly requests: number;
  /** Objects asked for by name; one commit without a filter for all there is. */
  readonly wants: number;
  readonly stdout: string;
}

/** Git of the mount's user in a new mount. */
class Mounts {
  #count = 0;
  readonly #lab: Lab;
  readonly #server: GitServer;

  constructor(lab: Lab) {
    this.#lab = lab;
    this.#server = lab.serve();
  }

  async fresh(): Promise<string> {
    const name = `r${this.#count++}`;
    await this.#lab.share((await sized()).gitDir, name);
    return await this.#lab.mount(this.#server.url(name), name, "--wait=history");
  }

  async cost(mountPoint: string, command: string): Promise<Cost> {
    this.#server.resetCounters();
    const { stdout } = await this.#lab.sh(`cd "$1"; ${command}`, [mountPoint], {
      env: {
        GIT_AUTHOR_NAME: "A U Thor",
        GIT_AUTHOR_EMAIL: "author@example.com",
        GIT_COMMITTER_NAME: "A U Thor",
        GIT_COMMITTER_EMAIL: "author@example.com",
      },
    });
    const { requests, wants } = this.#server.counters();
    return { requests, wants, stdout };
  }
}

/** How much of the repository a command may bring. */
type Share = "nothing" | "rules" | "some" | "all";

/** Requests and blobs. A fetch is two requests, and a file brings its directory along. */
const LIMITS: Readonly<Record<Share, readonly [number, number]>> = {
  nothing: [0, 0],
  rules: [2, 40],
  some: [40, 1600],
  all: [40, 3000],
};

const FILE = "$(git ls-files | grep -v gitignore | sed -n 40p)";
const REBUILD = 'rm "$(git rev-parse --git-path index)"; git reset -q';

/** A command, what it may cost, and what was done before. */
const COMMANDS: readonly (readonly [string, Share, string?])[] = [
  ["git status", "rules"],
  ["git status", "nothing", "git status"],
  ["git status -uno", "nothing"],
  ["git status -uall", "rules"],
  ["git status --ignored", "rules"],
  ["git -C pkg-0 status", "rules"],
  ["git diff", "nothing"],
  ["git diff --cached", "nothing"],
  ["git diff HEAD", "some"],
  ["git diff --name-only HEAD~1 HEAD", "nothing"],
  ["git log --oneline", "nothing"],
  ["git log --stat -2", "some"],
  ["git ls-files", "nothing"],
  ["git ls-files -o", "nothing"],
  ["git ls-files -m", "some"],
  ["git grep -c xyz || true", "some"],
  ["git add -A", "rules"],
  ["echo x >new; git add new", "rules"],
  ["echo x >new; git add new; git commit -qm x", "all"],
  [`echo x >>${FILE}; git stash -q`, "all"],
  ["git status", "nothing", `git status; echo x >>${FILE}; git commit -qam x`],
  ["git status", "nothing", `git status; echo x >>${FILE}; git stash -q; git stash pop -q`],
  ["git status", "nothing", `git status; echo x >>${FILE}; git reset -q --hard`],
  ["git reset -q", "nothing"],
  ["git reset -q --hard", "nothing"],
  ["git reset -q --hard HEAD~1", "all"],
  ["git switch -q -c b", "nothing"],
  ["git switch -q --detach HEAD~1", "all"],
  ["git checkout -q .", "some"],
  ["git clean -fdq", "rules"],
  [REBUILD, "some"],
  ["git status", "nothing", REBUILD],
  ["git -c core.fsmonitor=false status", "some"],
  ["git worktree add -q ../../linked HEAD", "all"],
  ["git -C ../../linked status --short", "nothing", "git worktree add -q ../../linked HEAD"],
  ["git fetch -q", "rules"],
  ["git describe --always --dirty", "nothing"],
  ["git gc -q", "nothing"],
  ["git fsck --connectivity-only", "nothing"],
];

mountTest("git: what commands cost in a new mount", async (lab) => {
  await lab.startDaemon();
  const mounts = new Mounts(lab);
  const excess: string[] = [];
  for (const [command, share, before = ""] of COMMANDS) {
    const mountPoint = await mounts.fresh();
    if (before !== "") await mounts.cost(mountPoint, before);
    const { requests, wants } = await mounts.cost(mountPoint, command);
    const line = `| \`${command}\` | ${before && `\`${before}\``} | ${requests} | ${wants} |`;
    console.log(line);
    const [requestsMax, wantsMax] = LIMITS[share];
    if (requests > requestsMax || wants > wantsMax) excess.push(line);
    await lab.afs(["unmount", mountPoint]);
    await Deno.remove(lab.at("linked"), { recursive: true }).catch(() => {});
  }
  assert.deepEqual(excess, []);
});

mountTest("git: a status asks the mount, whatever has happened to the daemon", async (lab) => {
  let daemon = await lab.startDaemon();
  const mounts = new Mounts(lab);
  const mountPoint = await mounts.fresh();
  const status = async (...args: string[]) =>
    await mounts.cost(mountPoint, `git ${args.join(" ")} status --porcelain`);
  const expect = async (changed: string, ...args: string[]) => {
    const cost = await status(...args);
    assert.deepEqual([cost.stdout, cost.requests], [changed, 0], args.join(" "));
  };
  await status();
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    await mounts.cost(mountPoint, `echo x >>${FILE}; echo x >new-${signal}`);
    const { stdout } = await status();
    assert.match(stdout, new RegExp(`^ M .*\\n(\\?\\? .*\\n)*\\?\\? new-${signal}\\n`));
    await daemon.stop(signal);
    daemon = await lab.startDaemon();
    await expect(stdout);
    await expect(stdout, "-C", "pkg-0");
    await expect(stdout);
  }
  // Without the monitor all is looked at, and the same is found; and with it again.
  const { stdout } = await status();
  assert.equal((await status("-c", "core.fsmonitor=false")).stdout, stdout);
  await expect(stdout);
  await mounts.cost(mountPoint, REBUILD);
  await expect(stdout);
  await mounts.cost(mountPoint, "git add -A; git commit -qm x");
  await expect("");
});

/** What git looks at of a work tree: names, and listings of directories. */
interface Looks {
  /** Stat-ed or opened; directories too, and not the rules on what is ignored. */
  readonly names: ReadonlySet<string>;
  readonly listed: ReadonlySet<string>;
}

/**
 * Reads the output of `strace -f -y -e trace=%file,getdents64`. A call has its directory's path
 * behind the descriptor, and is whole in its first line as far as its arguments go.
 */
function looksIn(trace: string, mountPoint: string): Looks {
  const names = new Set<string>();
  const listed = new Set<string>();
  for (const line of trace.split("\n")) {
    const [, call = "", args = ""] = /^\d+ +(\w+)\((.*)/.exec(line) ?? [];
    const [, at = "", path = ""] = /^(?:AT_FDCWD|\d+)<([^>]*)>(?:, "([^"]*)")?/.exec(args) ?? [];
    if (!/^(newfstatat|l?stat|statx|openat|getdents64)$/.test(call)) continue;
    // On some machines the calls without a descriptor are used; git's own then give what is below.
    const named = at === "" ? /^"([^"]*)"/.exec(args)?.[1] ?? "" : path;
    const whole = named.startsWith("/") ? named : `${at || mountPoint}/${named}`;
    if (!whole.startsWith(`${mountPoint}/`)) continue;
    const name = whole.slice(mountPoint.length + 1).replace(/(^|\/)\.?$/, "");
    const isOurs = /^\.(git|afs-[^/]*)(\/|$)/.test(name);
    if (isOurs || /\.git(ignore|attributes)$/.test(name)) continue;
    if (call === "getdents64" || /O_DIRECTORY/.test(args)) listed.add(name);
    else if (name !== "") names.add(name);
  }
  return { names, listed };
}

/** Which directories a command may list: those on the way to the file start with the root. */
type Listing = "none" | "the file's" | "on the way" | "all";

/** A command, what was done before, whether it looks at the changed file, what it may list. */
const TRACED: readonly (readonly [string, string, boolean, Listing])[] = [
  ["git status", "true", false, "none"],
  ["git status", "git status", false, "none"],
  ["git status", "git status; git reset -q --hard", false, "none"],
  ["git status", "git status; CHANGE", true, "on the way"],
  ["git add FILE", "git status; CHANGE", true, "the file's"],
  ["git add -A", "git status; CHANGE", true, "all"],
  ["git commit -qm x", "git status; CHANGE; git add FILE", true, "none"],
  ["git commit -qam x", "git status; CHANGE", true, "none"],
  ["git status", "git status; CHANGE; git commit -qam x", true, "on the way"],
  ["git stash -q", "git status; CHANGE", true, "none"],
  ["git stash pop -q", "git status; CHANGE; git stash -q", true, "none"],
  ["git reset -q --hard", "git status; CHANGE", true, "none"],
];

mountTest("git: a command looks at what has changed, and at nothing else", async (lab) => {
  await lab.startDaemon();
  const mounts = new Mounts(lab);
  const tracePath = lab.at("trace");
  for (const [command, before, seesFile, listing] of TRACED) {
    const mountPoint = await mounts.fresh();
    const file = (await mounts.cost(mountPoint, `echo ${FILE}`)).stdout.trim();
    const fill = (text: string) =>
      text.replaceAll("CHANGE", `echo x >>${file}`).replaceAll("FILE", file);
    await mounts.cost(mountPoint, fill(before));
    const trace = `strace -f -y -o ${tracePath} -e trace=%file,getdents64`;
    await mounts.cost(mountPoint, `${trace} ${fill(command)} >/dev/null`);
    const { names, listed } = looksIn(await Deno.readTextFile(tracePath), mountPoint);

    // Not counted: directories on the way to the file, and those that are listed anyway.
    const parts = file.split("/");
    const way = parts.slice(1).map((_, i) => parts.slice(0, i + 1).join("/"));
    const files = [...names].filter((name) => !way.includes(name) && !listed.has(name));
    console.log(`| \`${command}\` | \`${before}\` | ${files.length} | ${listed.size} |`);
    assert.deepEqual(files.filter((name) => !seesFile || name !== file), [], command);
    assert(names.has(file) || !command.startsWith("git add"), "The trace has no path");
    const may: Readonly<Record<Listing, readonly string[]>> = {
      none: [],
      "the file's": way.slice(-1),
      "on the way": ["", ...way],
      all: [...listed],
    };
    assert.deepEqual([...listed].filter((name) => !may[listing].includes(name)), [], command);
    await lab.afs(["unmount", mountPoint]);
  }
}, { skip: await without("strace") });
