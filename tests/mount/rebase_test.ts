/**
 * The base follows the user's git: what git did to HEAD changes nothing of what the work tree
 * shows, and what was committed is no change of it any more.
 */

import assert from "node:assert/strict";
import { makeSizedRepo } from "../support/repos.ts";
import { git } from "../support/run.ts";
import { type Daemon, fixture, type Lab, mountTest, type RepoStatusJson } from "./harness.ts";

const sized = fixture((path) =>
  makeSizedRepo(path, { files: 300, dirs: 40, blobBytes: 1000, commits: 4 })
);

const IDENTITY = {
  GIT_AUTHOR_NAME: "A",
  GIT_AUTHOR_EMAIL: "a@example.com",
  GIT_COMMITTER_NAME: "A",
  GIT_COMMITTER_EMAIL: "a@example.com",
};

interface Status extends RepoStatusJson {
  readonly overlayDirty: boolean;
  readonly overlay: { created: number; modified: number; deleted: number };
}

class WorkTree {
  constructor(
    readonly lab: Lab,
    readonly path: string,
    readonly name: string,
    readonly daemon: Daemon,
  ) {}

  async sh(script: string, ...args: string[]): Promise<string> {
    const options = { env: IDENTITY };
    const { stdout } = await this.lab.sh(
      `cd "$1"; shift; ${script}`,
      [this.path, ...args],
      options,
    );
    return stdout;
  }

  /** Everything that stat and read show, one line each. */
  async state(): Promise<string> {
    return await this.sh(`find . -printf '%p %y %i %m %n %U %G %s %T@ %C@ %l\\n' | sort
      find . -type f ! -name .git -exec sha256sum {} + | sort -k 2`);
  }

  /** created, modified, deleted */
  async changes(): Promise<number[]> {
    const { overlay, overlayDirty } = await this.lab.statusOf(this.name) as Status;
    const counts = [overlay.created, overlay.modified, overlay.deleted];
    assert.equal(overlayDirty, counts.some((each) => each > 0));
    return counts;
  }

  /** The base follows HEAD, and neither that nor another look changes what shows. */
  async follows(changes = [0, 0, 0]): Promise<void> {
    const before = await this.state();
    assert.deepEqual(await this.changes(), changes);
    const failures = await this.daemon.logged("Base does not follow HEAD");
    assert.deepEqual(failures, []);
    assert.equal(await this.state(), before);
    const expected = changes.some((each) => each > 0);
    assert.equal((await this.sh("git status --porcelain")) !== "", expected);
    await this.lab.sh("sync; echo 2 >/proc/sys/vm/drop_caches");
    assert.equal(await this.state(), before, "after the kernel has forgotten it");
  }
}

async function workTree(lab: Lab, ...flags: string[]): Promise<WorkTree> {
  const repo = await sized();
  await git(["clone", "-q", "--bare", repo.gitDir, lab.at("remotes", "repo.git")]);
  const url = lab.serve({ allowPush: true }).url("repo");
  const daemon = await lab.startDaemon();
  const path = await lab.mount(url, "repo", "--wait=history", ...flags);
  return new WorkTree(lab, path, "repo", daemon);
}

mountTest("base: a commit makes the work tree clean, and moves nothing", async (lab, t) => {
  const tree = await workTree(lab);
  await tree.sh("cat $(git ls-files | head -n 3) >/dev/null");
  await t.step("an edit, a new file, a removed one", async () => {
    await tree.sh(`set -- $(git ls-files | head -n 4)
      echo more >>"$1"; rm "$2"; mkdir -p new/deep; echo new >new/deep/file; chmod 755 "$3"
      ln -s file new/deep/link`);
    await tree.follows([4, 2, 1]);
    await tree.sh("git add -A; git commit -qm one");
    await tree.follows();
  });
  await t.step("bytes are in the base now, and can be changed again", async () => {
    assert.equal(await tree.sh("cat new/deep/file; readlink new/deep/link"), "new\nfile\n");
    const upper = await lab.sh('find "$1"/repos/*/overlay/upper -type f | wc -l', [lab.stateRoot]);
    assert.equal(upper.stdout.trim(), "0");
    await tree.sh("echo again >>new/deep/file");
    await tree.follows([0, 1, 0]);
    await tree.sh("git commit -qam two --amend");
    await tree.follows();
  });
  await t.step("a directory gets another name", async () => {
    await tree.sh(`dir="$(git ls-files | grep / | head -n 1 | cut -d / -f 1)"
      git mv "$dir" elsewhere; git commit -qm moved`);
    await tree.follows();
  });
  await t.step("the daemon is killed and comes back", async () => {
    const before = await tree.state();
    await lab.endDaemon("SIGKILL");
    const daemon = await lab.startDaemon();
    assert.equal(await tree.state(), before);
    await new WorkTree(lab, tree.path, tree.name, daemon).follows();
  });
});

mountTest("base: branches, resets, stashes, merges", async (lab, t) => {
  const tree = await workTree(lab);
  await tree.sh("git branch old HEAD~2");
  await t.step("another branch and back", async () => {
    await tree.sh("git checkout -q old");
    await tree.follows();
    await tree.sh("git checkout -q main");
    await tree.follows();
  });
  await t.step("reset --soft keeps what shows", async () => {
    const before = await tree.state();
    await tree.sh("git reset -q --soft HEAD~1");
    const [created = 0, modified = 0, deleted = 0] = await tree.changes();
    assert.ok(created + modified + deleted > 0);
    assert.equal(await tree.state(), before);
    await tree.sh("git reset -q --soft ORIG_HEAD");
    await tree.follows();
  });
  await t.step("reset --mixed and --hard", async () => {
    await tree.sh("git reset -q --mixed HEAD~1");
    assert.ok((await tree.sh("git status --porcelain")).length > 0);
    await tree.sh("git reset -q --hard");
    await tree.follows();
    await tree.sh("git reset -q --hard ORIG_HEAD");
    await tree.follows();
  });
  await t.step("stash and pop", async () => {
    await tree.sh('echo stashed >>"$(git ls-files | head -n 1)"; git stash -q');
    await tree.follows();
    await tree.sh("git stash pop -q");
    await tree.follows([0, 1, 0]);
    await tree.sh("git checkout -q .");
    await tree.follows();
  });
  await t.step("merge, with a conflict first", async () => {
    await tree.sh(`git checkout -qb one; echo one >conflict; git add .; git commit -qm one
      git checkout -q main; echo two >conflict; git add .; git commit -qm two
      git merge -q one >/dev/null || true; [ -e "$(git rev-parse --git-dir)/MERGE_HEAD" ]`);
    assert.deepEqual((await tree.changes()).slice(1), [1, 0]);
    await tree.sh("echo both >conflict; git add .; git commit -qm merged");
    await tree.follows();
  });
  await t.step("a rebase of several commits", async () => {
    await tree.sh(`git checkout -qb topic HEAD~1
      for i in 1 2 3; do echo $i >"t$i"; git add .; git commit -qm "t$i"; done
      git rebase -q main`);
    await tree.follows();
  });
  await t.step("a branch without a commit leaves the base alone", async () => {
    await tree.sh("git checkout -q --orphan empty");
    assert.deepEqual(await tree.changes(), [0, 0, 0]);
    await tree.sh("git checkout -qf main");
    await tree.follows();
  });
  await t.step("while the daemon does not run", async () => {
    await tree.sh('echo later >>"$(git ls-files | head -n 1)"; git commit -qam later');
    const before = await tree.state();
    await lab.endDaemon();
    await git(["--git-dir", await gitDirOf(lab), "update-ref", "HEAD", "HEAD~1"]);
    const daemon = await lab.startDaemon();
    const again = new WorkTree(lab, tree.path, tree.name, daemon);
    assert.equal(await again.state(), before);
    await again.follows([0, 1, 0]);
  });
});

mountTest("base: a pull, and two work trees of one store", async (lab) => {
  const tree = await workTree(lab);
  const url = (await tree.sh("git remote get-url origin")).trim();
  const other = new WorkTree(lab, await lab.mount(url, "other"), "other", tree.daemon);
  await tree.sh(`echo pushed >>"$(git ls-files | head -n 1)"; mkdir p; echo p >p/q
    git add .; git commit -qm pushed; git push -q origin main`);
  await tree.follows();
  await other.follows();
  const [line] = (await tree.daemon.logged("Base follows HEAD")).slice(-1);
  assert.equal(line?.["repo"], "repo");
  await other.sh("git pull -q");
  await other.follows();
  assert.equal(await other.sh("git rev-parse HEAD"), await tree.sh("git rev-parse HEAD"));
  await tree.sh("echo mine >mine; git add .; git commit -qm mine");
  await tree.follows();
  await other.follows();
  // What one has committed and not pushed is in its own view, and not where both read.
  const oid = (await tree.sh("git rev-parse HEAD:mine")).trim();
  const { stdout } = await lab.sh(
    `for dir in "$1"/repos/*/view "$1"/stores/*/git; do
      GIT_NO_LAZY_FETCH=1 git --git-dir "$dir" cat-file -e "$2" 2>/dev/null && echo "$dir"; done
      true`,
    [lab.stateRoot, oid],
  );
  assert.match(stdout, /^\S+\/view\n$/);
});

mountTest("base: it follows as the owner, whatever the git directory says", async (lab) => {
  const tree = await workTree(lab, "--uid", "65534", "--gid", "65534");
  const trap = lab.at("trap");
  await Deno.writeTextFile(trap, `#!/bin/sh\nid -u >>"${lab.at("home")}/trapped"\n`);
  await Deno.chmod(trap, 0o755);
  await Deno.chmod(lab.at("home"), 0o777);
  const asOwner = async (script: string) =>
    await tree.sh('exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -euc "$1"', script);
  const home = "export HOME=/nonexistent GIT_CONFIG_GLOBAL=/dev/null";
  await asOwner(`${home}; echo more >>"$(git ls-files | head -n 1)"; echo n >n; git add .
    git commit -qm one
    for key in core.fsmonitor core.sshCommand core.pager diff.external uploadpack.packObjectsHook \\
      credential.helper core.askPass filter.x.clean; do git config "$key" ${trap}; done`);
  assert.deepEqual(await tree.changes(), [0, 0, 0]);
  const gitDir = await gitDirOf(lab);
  // Names that lead elsewhere are not followed.
  await lab.sh('rm -rf "$1/logs"; ln -s "$2" "$1/logs"; ln -s "$2" "$1/index.lock"', [
    gitDir,
    tree.path,
  ]);
  assert.deepEqual(await tree.changes(), [0, 0, 0]);
  await lab.sh('rm "$1/logs" "$1/index.lock"', [gitDir]);
  await asOwner(`${home}; git config --unset core.fsmonitor; echo n2 >n; git commit -qam two`);
  assert.deepEqual(await tree.changes(), [0, 0, 0]);
  assert.deepEqual(await tree.daemon.logged("Base does not follow HEAD"), []);
  const trapped = await Deno.readTextFile(`${lab.at("home")}/trapped`).catch(() => "");
  assert.ok(!trapped.split("\n").includes("0"), trapped);
});

mountTest("base: killed while it follows, it goes on at the next start", async (lab) => {
  let tree = await workTree(lab);
  await tree.sh("git ls-files | while read -r f; do echo x >>$f; done; git commit -qam all");
  await tree.follows();
  for (const command of ["checkout -q HEAD~1", "checkout -q main", "reset -q --soft HEAD~1"]) {
    await tree.sh(`git ${command}`);
    const before = await tree.state();
    await lab.endDaemon("SIGKILL");
    tree = new WorkTree(lab, tree.path, tree.name, await lab.startDaemon());
    assert.equal(await tree.state(), before);
    if (command.startsWith("checkout")) await tree.follows();
    else assert.deepEqual(await tree.changes(), [0, 300, 0]);
    assert.equal(await tree.state(), before);
  }
});

/** Each changes the work tree, HEAD or both; "$N" is a random number. A failure is one of git's. */
const COMMANDS = [
  'f="$(git ls-files | sed -n "$((N % 50 + 1))p")"; [ -f "$f" ] && echo "$N" >>"$f"',
  'f="$(git ls-files | sed -n "$((N % 50 + 1))p")"; git rm -qf "$f"',
  'd="$(git ls-files | grep / | sed -n "$((N % 50 + 1))p" | cut -d / -f 1)"; git mv "$d" "m$N"',
  'mkdir -p "n$((N % 3))/deep"; echo "$N" >"n$((N % 3))/deep/$((N % 5))"',
  'rm -rf "n$((N % 3))"',
  'f="$(git ls-files | sed -n "$((N % 50 + 1))p")"; chmod 755 "$f"',
  'ln -sfn "target$N" "link$((N % 3))"',
  'git add -A; git commit -qm "$N"',
  'git add -A; git commit -qm "$N"',
  'git commit -qa --amend -m "$N"',
  'git checkout -q -b "b$N"',
  'git checkout -q "$(git branch --format="%(refname:short)" | sed -n "$((N % 4 + 1))p")"',
  "git checkout -q -f main",
  'git reset -q --soft "HEAD~$((N % 2))"',
  'git reset -q --mixed "HEAD~$((N % 3))"',
  'git reset -q --hard "HEAD~$((N % 2))"',
  "git stash -q -u",
  "git stash pop -q",
  'git merge -q --no-edit -X ours "$(git branch --format="%(refname:short)" | tail -n 1)"',
  "git rebase -q main || git rebase --abort",
  'git cherry-pick -X theirs "main~$((N % 2))" || git cherry-pick --abort',
  "git clean -qfd",
];

mountTest("base: as a plain clone, whatever is done to it", async (lab) => {
  const seed = Number(Deno.env.get("AFS_BASE_SEED") ?? 20261125);
  const steps = Number(Deno.env.get("AFS_BASE_STEPS") ?? 60);
  const tree = await workTree(lab);
  const remote = (await tree.sh("git remote get-url origin")).trim();
  await git(["clone", "-q", remote, lab.at("clone")]);
  const clone = new WorkTree(lab, lab.at("clone"), "", tree.daemon);
  let state = seed;
  const random = () => state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
  const look = `git status --porcelain=v2 --branch | grep -v '^# branch.ab'
    git ls-tree -r HEAD; git stash list --format=%gs
    find . -path ./.git -prune -o \\( -type f -printf '%p %m\\n' -o -printf '%p %y %l\\n' \\) | sort
    find . -path ./.git -prune -o -type f -exec sha256sum {} + | sort -k 2`;
  for (let step = 0; step < steps; step++) {
    const number = random() >> 8;
    const command = COMMANDS[(random() >> 8) % COMMANDS.length] as string;
    const script = `N=${number}; export GIT_AUTHOR_DATE="${1700000000 + step} +0000"
      export GIT_COMMITTER_DATE="$GIT_AUTHOR_DATE"
      { ${command}; } >/dev/null 2>&1 && echo done || echo failed`;
    const done = await tree.sh(script);
    const what = `seed ${seed}, step ${step}: ${command} with ${number}`;
    assert.equal(done, await clone.sh(script), what);
    // Every other time the next command comes while the base follows.
    if (step % 2 === 0) continue;
    const before = await tree.state();
    await tree.changes();
    assert.equal(await tree.state(), before, what);
    assert.equal(await tree.sh(look), await clone.sh(look), what);
  }
  await tree.sh("git add -A; git commit -qm last || true");
  await tree.follows();
});

async function gitDirOf(lab: Lab): Promise<string> {
  return (await lab.sh('ls -d "$1"/gitdirs/*', [lab.stateRoot])).stdout.trim();
}
