/**
 * What git commands cost in a new mount: requests to the remote and blobs that came, each command
 * in a mount of its own. The table in docs/git.md is what this prints.
 */

import assert from "node:assert/strict";
import type { GitServer } from "../support/git_server.ts";
import { makeSizedRepo } from "../support/repos.ts";
import { run } from "../support/run.ts";
import { fixture, type Lab, mountTest } from "./harness.ts";

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

const STRACE = await run("sh", ["-c", "command -v strace"], { okCodes: "any" })
  .then(({ stdout }) => stdout.trim() || null);

mountTest("git: a status opens no directory and looks at no file", async (lab) => {
  await lab.startDaemon();
  const mounts = new Mounts(lab);
  const mountPoint = await mounts.fresh();
  const looks = async (before: string) => {
    await mounts.cost(mountPoint, before);
    const trace = lab.at("trace");
    const calls = "trace=%stat,%lstat,newfstatat,openat,getdents64,execve";
    await mounts.cost(mountPoint, `strace -f -y -o ${trace} -e ${calls} git status >/dev/null`);
    const lines = (await Deno.readTextFile(trace)).split("\n");
    // Git's own process, in its work tree: relative paths.
    const paths = lines.filter((line) => /^\d+ +(newfstatat|l?stat|openat)\(/.test(line))
      .map((line) => /"([^"]*)"/.exec(line)?.[1] ?? "")
      .filter((path) =>
        path !== "" && !/^[/.]/.test(path) && !/\.git(ignore|attributes)$/.test(path)
      );
    // With strace -y a descriptor has its path behind it.
    const listings = lines.filter((line) => line.includes(`<${mountPoint}`));
    return { paths, listed: listings.filter((line) => line.includes("getdents")).length };
  };
  const none = { paths: [], listed: 0 };
  for (const before of ["true", "git status", "git reset --hard"]) {
    assert.deepEqual(await looks(before), none, before);
  }
}, { skip: STRACE === null ? "there is no strace" : null });
