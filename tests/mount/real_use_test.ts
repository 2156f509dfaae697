/**
 * A day's work with git in a mount, step by step the same in a plain clone of an equal remote. With
 * fixed names and times every commit has the same id on both sides, so what is compared after each
 * step is all there is: HEAD, branches, tags, stashes, index, status and what git printed. In
 * between the daemon is killed in the middle of a rebase. At the end both have pushed: the remotes
 * are equal and whole, and a plain clone of the mount's has its tree.
 *
 * On a generated repository, and with AFS_RUN_E2E_TESTS=1 on that of AFS_E2E_REPO (what is pushed
 * to is a copy of its branch).
 */

import assert from "node:assert/strict";
import { makeSizedRepo } from "../support/repos.ts";
import { git } from "../support/run.ts";
import { fixture, type Lab, mountTest } from "./harness.ts";

const GUARD_MS = 1_800_000;

const sized = fixture((path) =>
  makeSizedRepo(path, { files: 400, dirs: 60, blobBytes: 1500, commits: 6 })
);

/** Before every step; $1 to $8 are ordinary files, each in another directory. */
const FUNCTIONS = `
  first() { { printf '%s\\n' "$2"; cat "$1"; } >"$1.tmp~"; mv "$1.tmp~" "$1"; }
  last() { printf '%s\\n' "$2" >>"$1"; }
  conflicts() { if "$@"; then echo "no conflict"; exit 1; fi; git status --porcelain; }
  resolve() { sed -i -e '/^<<<<<<< /d' -e '/^=======$/d' -e '/^>>>>>>> /d' "$1"; git add "$1"; }
  export GIT_EDITOR=true
`;

interface Step {
  readonly name: string;
  readonly script: string;
  /** The daemon is killed after it, and starts again. */
  readonly kill?: true;
}

/** The names of branches begin with `w-`, so that none is one of the repository's. */
const STEPS: readonly Step[] = [
  {
    name: "edits of every kind, in two commits",
    script: `
      last "$1" one; first "$2" one; mkdir -p w-new/deep; echo new >w-new/deep/file
      ln -s deep/file w-new/link; echo 'echo run' >w-new/run; chmod 755 w-new/run
      git status; git diff --stat; git add "$1" w-new; git commit -m "one"
      git rm -q "$3"; git mv "$4" w-new/moved; chmod 755 "$5"; git add -A; git commit -m "two"
      git log --stat -2 --format=%s`,
  },
  {
    name: "a branch with three commits, one of a path and one of a hunk",
    script: `
      git switch -c w-feature; last "$1" feature; git commit -am "feature 1"
      first "$2" feature; last "$6" feature; git commit -m "feature 2" -- "$2"
      first "$6" feature; printf 'y\\nn\\n' | git add -p "$6" >/dev/null
      git commit -m "feature 3"; git checkout -- "$6"; git log --oneline -3`,
  },
  {
    name: "a merge that conflicts",
    script: `
      git switch w-main; last "$7" ours; git commit -am "ours, elsewhere"
      first "$2" ours; git commit -am "ours"
      conflicts git merge -m "merge" w-feature; git diff --name-only --diff-filter=U
      resolve "$2"; git commit -m "merge"; git log --oneline --graph -6`,
  },
  {
    name: "a stash with untracked files, taken to another branch and back",
    script: `
      last "$1" stashed; echo untracked >w-new/untracked; git add "$1"; last "$7" stashed
      git stash push -u -m "w"; git switch w-feature; git switch -; git stash show --stat
      git stash pop --index; git status --porcelain; git stash; git stash apply
      git checkout -- "$7"; git add -A; git commit -m "of the stash"; git stash drop`,
  },
  {
    name: "amend, and a tag",
    script: `
      last "$7" amended; git commit -a --amend -m "amended"; git tag -a -m "w" w-tag
      git tag w-light HEAD~1; git describe`,
  },
  {
    name: "an interactive rebase that stops at an edit",
    script: `
      git switch -c w-topic HEAD~1
      for i in 1 2 3 4; do last "$8" "topic $i"; git commit -am "topic $i"; done
      last "$5" fix; git commit -a --fixup HEAD
      printf '%s\\n' 's/^pick \\([0-9a-f]* topic 2\\)/edit \\1/' \\
        's/^pick \\([0-9a-f]* topic 3\\)/squash \\1/' >"$OUT/todo.sed"
      GIT_SEQUENCE_EDITOR="sed -i -f $OUT/todo.sed" git rebase -i --autosquash HEAD~5
      git status --porcelain`,
    kill: true,
  },
  {
    name: "another commit in it, and on",
    script: `
      first "$6" "while stopped"; git commit -am "in between"; git rebase --continue
      first "$5" picked; git commit -am "to be picked"
      git log --oneline -6`,
  },
  {
    name: "a rebase onto the other branch that conflicts",
    script: `
      first "$2" topic; git commit -am "topic, same line"
      git switch w-main; first "$2" main; git commit -am "main, same line"; git switch w-topic
      conflicts git rebase w-main; git rebase --show-current-patch
      resolve "$2"; git rebase --continue; git log --oneline -8`,
  },
  {
    name: "a rebase that is given up",
    script: `
      git branch w-old w-main~1; git switch w-old; first "$2" old; git commit -am "old"
      conflicts git rebase w-topic; git rebase --abort; git status --porcelain --branch`,
  },
  {
    name: "cherry-picks, one that conflicts, and a revert",
    script: `
      git switch w-main; git cherry-pick "w-topic^{/to be picked}"
      conflicts git cherry-pick w-old; resolve "$2"; git cherry-pick --continue
      git revert --no-edit HEAD~1; git log --oneline -4`,
  },
  {
    name: "push",
    script: `
      git push -u origin w-main:w-main w-topic w-feature; git push origin --tags
      git status --porcelain --branch`,
  },
  {
    name: "what was pushed is amended and pushed again; a branch goes",
    script: `
      git switch w-topic; last "$8" again; git commit -qa --amend -m "topic, again"
      if git push origin w-topic; then echo "not refused"; exit 1; fi
      git push --force-with-lease origin w-topic; git push origin --delete w-feature
      git branch -D w-old w-feature`,
  },
  {
    name: "somebody else has pushed: pull --rebase",
    script: `
      git switch w-main; last "$7" mine; git commit -qam "mine"
      GIT_INDEX_FILE="$OUT/index"; export GIT_INDEX_FILE; git read-tree HEAD~1
      git update-index --force-remove "$8"
      theirs=$(git commit-tree -p HEAD~1 -m theirs "$(git write-tree)"); unset GIT_INDEX_FILE
      git push origin "$theirs:refs/heads/w-main"; git fetch; git status --porcelain --branch
      git pull --rebase; git push origin w-main; test ! -e "$8"; git log --oneline -3`,
  },
];

/** One side: a work tree, and a folder for what is no part of it. */
interface Side {
  readonly path: string;
  readonly out: string;
}

class Session {
  readonly #lab: Lab;
  #count = 0;

  constructor(lab: Lab) {
    this.#lab = lab;
  }

  async perform(side: Side, script: string, files: readonly string[] = []): Promise<string> {
    const who = { NAME: "A U Thor", EMAIL: "author@example.com", DATE: this.#date() };
    // How long a short id is depends on packs, and advice on how long something took.
    const env: Record<string, string> = {
      OUT: side.out,
      GIT_CONFIG_COUNT: "2",
      GIT_CONFIG_KEY_0: "core.abbrev",
      GIT_CONFIG_VALUE_0: "12",
      GIT_CONFIG_KEY_1: "advice.statusUoption",
      GIT_CONFIG_VALUE_1: "false",
    };
    for (const [key, value] of Object.entries(who)) {
      env[`GIT_AUTHOR_${key}`] = env[`GIT_COMMITTER_${key}`] = value;
    }
    const { stdout } = await this.#lab.sh(
      `cd "$1"; shift; exec 2>"$OUT/stderr"; ${FUNCTIONS}${script}`,
      [side.path, ...files],
      { env, timeoutMs: GUARD_MS },
    ).catch(async (error) => {
      throw new Error(await Deno.readTextFile(`${side.out}/stderr`), { cause: error });
    });
    return stdout;
  }

  nextStep(): void {
    this.#count++;
  }

  #date(): string {
    return `${1_700_000_000 + 60 * this.#count} +0000`;
  }

  /** All that git knows of a side. */
  async seen(side: Side): Promise<string> {
    return await this.perform(
      side,
      `git status --porcelain=v2 --branch; git for-each-ref --format='%(objectname) %(refname)' \\
        refs/heads refs/tags refs/stash refs/remotes
      git reflog -5 --format='%H %gs' | sed 's/clone: .*//'; git ls-files -s | git hash-object --stdin`,
    );
  }
}

/** Eight text files, each in another directory, none in an ignored place or with an odd name. */
async function ordinaryFiles(gitDir: string): Promise<string[]> {
  const { stdout } = await git(["--git-dir", gitDir, "ls-tree", "-r", "-l", "HEAD"]);
  const byDirectory = new Map<string, string>();
  for (const line of stdout.split("\n")) {
    const [, size, path = ""] = /^100644 blob \w+ +(\d+)\t([\w./-]+\.(?:ts|js|json|md|c|h|txt))$/
      .exec(line) ?? [];
    const directory = path.slice(0, path.lastIndexOf("/") + 1);
    if (directory === "" || path.startsWith(".") || path.includes("/.")) continue;
    if (Number(size) > 400 && !byDirectory.has(directory)) byDirectory.set(directory, path);
  }
  const all = [...byDirectory.values()];
  const files = Array.from({ length: 8 }, (_, i) => all[Math.floor(i * all.length / 8)] ?? "");
  assert.equal(new Set(files).size, 8, "too few files for the session");
  return files;
}

/** What is wrong in a repository, if anything; what hangs loose is not. */
async function wrongIn(gitDir: string): Promise<string[]> {
  const wrong: string[] = [];
  for (const how of ["--strict", "--connectivity-only"]) {
    const args = ["--git-dir", gitDir, "fsck", "--no-dangling", "--no-progress", how];
    const { code, stdout, stderr } = await git(args, { timeoutMs: GUARD_MS, okCodes: "any" });
    wrong.push(`${how}: ${code}`, ...(stdout + stderr).split("\n").filter((line) => line !== ""));
  }
  return wrong;
}

async function session(lab: Lab, t: Deno.TestContext, url: string): Promise<void> {
  const [theirs, ours] = [lab.at("remotes", "repo.git"), lab.at("remotes", "plain.git")];
  const one = ["--bare", "--no-local", "--single-branch"];
  await git(["clone", "--quiet", ...one, url, theirs], { timeoutMs: GUARD_MS });
  await git(["clone", "--quiet", "--bare", theirs, ours], { timeoutMs: GUARD_MS });
  // Remotes of ours, at one URL each for their side; fsck of both begins with what is there now.
  const wrongBefore = await wrongIn(theirs);
  const files = await ordinaryFiles(theirs);

  const server = lab.serve({ allowPush: true });
  await lab.startDaemon();
  const mount: Side = {
    path: await lab.mount(server.url("repo"), "repo", "--wait=history"),
    out: lab.at("out-mount"),
  };
  const clone: Side = { path: lab.at("plain"), out: lab.at("out-plain") };
  await git(["clone", "--quiet", server.url("plain"), clone.path], { timeoutMs: GUARD_MS });
  for (const { out } of [mount, clone]) await Deno.mkdir(out);

  const work = new Session(lab);
  const both = async (script: string) => {
    const printed: string[] = [];
    for (const side of [mount, clone]) printed.push(await work.perform(side, script, files));
    return printed;
  };
  await both("git switch -q -c w-main");
  for (const { name, script, kill } of STEPS) {
    const ok = await t.step(name, async () => {
      work.nextStep();
      const [inMount, inClone] = await both(script);
      assert.equal(inMount, inClone);
      assert.equal(await work.seen(mount), await work.seen(clone));
      if (kill === undefined) return;
      await lab.endDaemon("SIGKILL");
      await lab.startDaemon();
      assert.equal(await work.seen(mount), await work.seen(clone), "after a kill");
    });
    assert.ok(ok, name);
  }

  await t.step("the work tree is what git says, looked at without the mount's help", async () => {
    const [inMount, inClone] = await both(
      `git -c core.fsmonitor=false -c core.untrackedCache=false status --porcelain`,
    );
    assert.deepEqual([inMount, inClone], ["", ""]);
    await work.perform(mount, "git fsck --connectivity-only");
  });
  await t.step("both remotes have the same, and nothing is wrong in the mount's", async () => {
    const refs = async (gitDir: string) =>
      (await git(["--git-dir", gitDir, "for-each-ref"])).stdout;
    assert.equal(await refs(theirs), await refs(ours));
    assert.deepEqual(await wrongIn(theirs), wrongBefore);
  });
  await t.step("a plain clone of the pushed branch has the mount's tree", async () => {
    const pushed = lab.at("pushed.git");
    const args = ["clone", "--quiet", "--bare", "--single-branch", "--branch", "w-main"];
    await git([...args, `file://${theirs}`, pushed], { timeoutMs: GUARD_MS });
    const headOid = (await git(["--git-dir", pushed, "rev-parse", "HEAD"])).stdout.trim();
    assert.equal(await work.perform(mount, "git rev-parse HEAD"), `${headOid}\n`);
    await lab.compare(mount.path, { gitDir: pushed, headOid });
  });
}

mountTest("real use: a day's work, pushed", async (lab, t) => {
  await session(lab, t, (await sized()).gitDir);
});

const e2eUrl = Deno.env.get("AFS_E2E_REPO");

mountTest("real use: the same in the repository of AFS_E2E_REPO", async (lab, t) => {
  await session(lab, t, e2eUrl ?? "");
}, {
  skip: Deno.env.get("AFS_RUN_E2E_TESTS") !== "1"
    ? "AFS_RUN_E2E_TESTS is not 1"
    : e2eUrl === undefined
    ? "AFS_E2E_REPO is not set"
    : null,
});
