/**
 * `afs switch`: what `git switch` does, without a file written or fetched. What it would refuse, or
 * do in another way, git itself does or refuses.
 */

import assert from "node:assert/strict";
import type { GitServer } from "../support/git_server_api.ts";
import { makeSizedRepo } from "../support/repos.ts";
import { git, type RunResult, waitFor } from "../support/run.ts";
import { AFS, fixture, type Lab, mountTest } from "./harness.ts";

const sized = fixture((path) =>
  makeSizedRepo(path, { files: 300, dirs: 40, blobBytes: 1000, commits: 4 })
);

const IDENTITY = {
  GIT_AUTHOR_NAME: "A",
  GIT_AUTHOR_EMAIL: "a@example.com",
  GIT_COMMITTER_NAME: "C",
  GIT_COMMITTER_EMAIL: "c@example.com",
  GIT_AUTHOR_DATE: "1700000000 +0000",
  GIT_COMMITTER_DATE: "1700000000 +0000",
};

/** A work tree in which `sw` is `afs switch`, or in a plain clone `git switch`. */
class WorkTree {
  constructor(readonly lab: Lab, readonly path: string, readonly isMount: boolean) {}

  async run(script: string): Promise<RunResult> {
    const sw = this.isMount
      ? 'sw() { "$AFS" switch "$@"; }'
      : 'sw() { git show-ref -q "refs/heads/$1" || case $1 in -c|-|r/*) ;; *) set -- --detach "$1" ;; ' +
        'esac; git switch "$@"; }';
    return await this.lab.sh(`cd "$1"; ${sw}; ${script}`, [this.path], {
      env: { ...IDENTITY, AFS },
      okCodes: "any",
    });
  }

  async sh(script: string): Promise<string> {
    const { code, stdout, stderr } = await this.run(script);
    assert.equal(code, 0, `${script}: ${stderr}`);
    return stdout;
  }

  /** All that has to be the same in both. */
  async state(): Promise<string> {
    return await this.sh(`git status --porcelain=v2 --branch -uall | grep -v "^# branch.ab" || true
      git ls-files -s -v; git rev-parse HEAD; git symbolic-ref HEAD || true
      git reflog -1 --format="%gs %gn" HEAD | sed "s/^clone: .*//"; git write-tree || true; git stash list
      find . -name .git -prune -o \\( -type d -printf "%p %m\\n" -o -printf "%p %m %l\\n" \\) | sort
      find . -name .git -prune -o -type f -exec sha256sum {} + | sort -k 2`);
  }
}

interface Pair {
  readonly lab: Lab;
  readonly server: GitServer;
  readonly mount: WorkTree;
  readonly clone: WorkTree;
  /** In both; the exit code is the same. */
  both(script: string): Promise<RunResult>;
  /** Both show the same. */
  agree(): Promise<void>;
  /** By the daemon: whether git was asked for the last switch. */
  switches(): Promise<number>;
  /** Why it was left to git, each time. */
  reasons(): Promise<unknown[]>;
}

async function pair(lab: Lab, ...flags: string[]): Promise<Pair> {
  const repo = await sized();
  const remote = lab.at("remotes", "repo.git");
  await git(["clone", "-q", "--bare", repo.gitDir, remote]);
  for (const [name, commit] of [["old", "main~2"], ["r/only", "main~1"]] as const) {
    await git(["-C", remote, "branch", name, commit]);
  }
  await git(["-C", remote, "tag", "v1", "main~3"]);
  const server = lab.serve();
  const daemon = await lab.startDaemon();
  const url = server.url("repo");
  const mount = new WorkTree(lab, await lab.mount(url, "repo", "--wait=history", ...flags), true);
  await git(["clone", "-q", url, lab.at("clone")]);
  const clone = new WorkTree(lab, lab.at("clone"), false);
  const both = async (script: string) => {
    const [one, other] = [await mount.run(script), await clone.run(script)];
    assert.equal(one.code, other.code, `${script}: ${one.stderr} ${other.stderr}`);
    return one;
  };
  const result = {
    lab,
    server,
    mount,
    clone,
    both,
    agree: async () => {
      const [one, other] = [await mount.state(), await clone.state()].map((text) =>
        text.split("\n")
      );
      const without = (lines: string[] = [], others: string[] = []) =>
        lines.filter((line) => !others.includes(line));
      assert.deepEqual(without(one, other), without(other, one));
      assert.deepEqual(one, other);
    },
    reasons: async () => (await daemon.logged("Left to git")).map(({ reason }) => reason),
    switches: async () => (await daemon.logged("Switched")).length,
  };
  for (const tree of [mount, clone]) {
    await tree.sh(`git config --global safe.directory '*'; owner=$(stat -c %u .)
      setpriv --reuid $owner --regid $owner --clear-groups git branch old origin/old`);
  }
  return result;
}

mountTest("switch: to a branch and back, with no request, and as git does", async (lab, t) => {
  const p = await pair(lab);
  await p.mount.sh("ls -lR >/dev/null; git status");
  const there = await p.mount.sh("git ls-files | while read -r f; do stat -c '%n %i %Y' $f; done");
  for (const [i, target] of ["old", "main", "old", "v1", "-", "HEAD~1", "main"].entries()) {
    await t.step(`${target}, ${i}`, async () => {
      p.server.resetCounters();
      await p.both(`sw ${target}`);
      const { requests } = p.server.counters();
      assert.equal(requests, 0);
      assert.equal(await p.switches(), i + 1);
      p.server.resetCounters();
      assert.match(await p.mount.sh("git status --porcelain"), /^$/);
      // Patterns may be others there.
      assert.ok(p.server.counters().requests <= 2);
      await p.agree();
      const { overlayDirty } = await lab.statusOf("repo") as unknown as { overlayDirty: boolean };
      assert.equal(overlayDirty, false);
    });
  }
  await t.step("what never differed has kept its ino and time", async () => {
    const now = await p.mount.sh("git ls-files | while read -r f; do stat -c '%n %i %Y' $f; done");
    const same = await p.mount.sh("git diff --name-only HEAD~3 | sort");
    const differed = new Set(same.split("\n"));
    const rest = (text: string) =>
      text.split("\n").filter((line) => !differed.has(line.split(" ")[0] as string));
    assert.deepEqual(rest(now), rest(there));
    assert.ok(rest(now).length > 10);
  });
  await t.step("a commit on a branch from there, and the way back", async () => {
    await p.both(
      "sw old; echo more >>$(git ls-files | head -n 1); echo n >n; git add -A; git commit -qm x",
    );
    await p.both("sw main");
    await p.agree();
    await p.both("sw old");
    await p.agree();
    assert.equal(await p.mount.sh("cat n"), "n\n");
  });
});

mountTest("switch: what is not git's to take away stays", async (lab, t) => {
  const p = await pair(lab);
  const changed = (await p.clone.sh("git diff --name-only main old")).trim().split("\n");
  const same = (await p.clone.sh("git ls-files")).trim().split("\n")
    .filter((path) => !changed.includes(path));
  const [one = "", two = ""] = same;
  await t.step("untracked files, and edits of what does not differ", async () => {
    await p.both(`echo u >untracked; mkdir -p new/d; echo u >new/d/u; echo e >>${one}
      echo s >>${two}; git add ${two}; sw old`);
    await p.agree();
    assert.equal(await p.switches(), 1);
    await p.both("sw main; git checkout -q HEAD .; rm -r untracked new");
    await p.agree();
  });
  await t.step("an untracked file in a directory that goes", async () => {
    await p.both(`mkdir -p gone/deep; echo a >gone/deep/a; echo b >gone/b; sw -c more; git add gone
      git commit -qm gone; echo u >gone/deep/u; sw main`);
    await p.agree();
    assert.equal(await p.mount.sh("find gone | sort"), "gone\ngone/deep\ngone/deep/u\n");
    await p.both("sw more");
    await p.agree();
    await p.both("rm gone/deep/u; sw main");
    await p.agree();
    assert.equal(await p.mount.sh("ls -d gone 2>/dev/null || true"), "");
  });
  await t.step("who has an old file open, or is inside, goes on", async () => {
    const [path = ""] = changed;
    const before = await p.clone.sh(`cat ${path}`);
    const out = await p.mount.sh(`exec 3<${path}; ls $(dirname ${path}) >/dev/null
      cd $(dirname ${path}); sw old; cat <&3; [ "$(pwd -P)" = "$(pwd)" ]; ls >/dev/null`);
    assert.deepEqual(await p.reasons(), []);
    assert.equal(out, before);
    await p.clone.sh("git switch -q old");
    await p.agree();
    await p.both("sw main");
  });
  await t.step("a directory that was listed, and a name that was not there", async () => {
    await p.both("sw more; sw main; ls >/dev/null; cat gone/b 2>/dev/null || true; sw more");
    assert.equal(await p.mount.sh("cat gone/b; ls gone; ls -d gone"), "b\nb\ndeep\ngone\n");
    await p.agree();
  });
});

mountTest("switch: git refuses, in its own words", async (lab, t) => {
  const p = await pair(lab);
  const [changed = ""] = (await p.clone.sh("git diff --name-only main old")).split("\n");
  const cases: readonly (readonly [string, string, string])[] = [
    ["a dirty path", `echo x >>${changed}`, "git checkout -q ."],
    ["a staged path", `echo x >>${changed}; git add ${changed}`, "git reset -q --hard"],
    ["a removed path that is staged", `git rm -q ${changed}`, "git reset -q --hard"],
    [
      "a merge",
      "git switch -qc x; echo 1 >c; git add c; git commit -qm 1; git switch -qc y HEAD~1; " +
      "echo 2 >c; git add c; git commit -qm 2; git merge -q x || true",
      "git merge --abort; git switch -q main",
    ],
    ["a bisection", "git bisect start -q || git bisect start", "git bisect reset"],
    [
      "a lock",
      'touch "$(git rev-parse --git-path index.lock)"',
      'rm "$(git rev-parse --git-path index.lock)"',
    ],
    [
      "a branch that is checked out elsewhere",
      "git worktree add -q ../linked old >/dev/null",
      "git worktree list --porcelain | sed -n 's/^worktree //p' | tail -n 1 | " +
      "xargs git worktree remove -f",
    ],
  ];
  for (const [name, make, undo] of cases) {
    await t.step(name, async () => {
      await p.both(make);
      const [one, other] = [await p.mount.run("sw old"), await p.clone.run("sw old")];
      const mask = (text: string) => text.replaceAll(/'\/[^']*'/g, "PATH");
      assert.deepEqual([one.code, mask(one.stderr)], [other.code, mask(other.stderr)]);
      // Of a bisection it warns only.
      assert.equal(one.code !== 0, name !== "a bisection");
      await p.both(undo);
      await p.agree();
    });
  }
  await t.step("an untracked file in the way", async () => {
    await p.both(
      "sw -c way; echo w >way; git add way; git commit -qm way; sw main; echo mine >way",
    );
    const [one, other] = [await p.mount.run("sw way"), await p.clone.run("sw way")];
    assert.deepEqual([one.code, one.stderr], [other.code, other.stderr]);
    assert.match(one.stderr, /untracked working tree files would be overwritten/);
    assert.equal(await p.mount.sh("cat way; rm way"), "mine\n");
    await p.clone.sh("rm way");
  });
  await t.step("no such branch", async () => {
    const { code, stderr } = await p.mount.run("sw nowhere");
    assert.equal(code, 128);
    assert.match(stderr, /invalid reference: nowhere/);
  });
  await t.step("sparse checkout and assume-unchanged", async () => {
    await p.both(`git update-index --assume-unchanged ${changed}`);
    const [one, other] = [await p.mount.run("sw old"), await p.clone.run("sw old")];
    assert.equal(one.code, other.code);
    await p.both(`sw main; git update-index --no-assume-unchanged ${changed} || true`);
    await p.agree();
  });
  await t.step("skip-worktree, of a file whose size git knows", async () => {
    const known = `git -c core.fsmonitor=false add ${changed}`;
    await p.both(`${known}; git update-index --skip-worktree ${changed}`);
    assert.equal((await p.both("sw old")).code, 0);
    await p.both(`sw main; git update-index --no-skip-worktree ${changed} || true`);
    await p.agree();
  });
  await t.step("an index without a file monitor, until the next status", async () => {
    const before = await p.switches();
    await p.both("git read-tree HEAD; sw old");
    assert.equal((await p.reasons()).at(-1), "the index has no file monitor");
    assert.equal(await p.switches(), before);
    await p.both("git status; sw main");
    assert.equal(await p.switches(), before + 1);
    await p.both("git read-tree HEAD; git status; sw old; sw main");
    assert.equal(await p.switches(), before + 3);
    await p.agree();
  });
});

mountTest("switch: new branches, remote branches, hooks, output", async (lab, t) => {
  const p = await pair(lab);
  await t.step("-c, a branch of the remote, a commit", async () => {
    await p.both("sw -c topic");
    await p.agree();
    await p.both("sw r/only");
    await p.agree();
    assert.equal(await p.mount.sh("git rev-parse --abbrev-ref @{u}"), "origin/r/only\n");
    assert.equal(await p.switches(), 1);
    assert.equal((await p.both("sw -c topic")).code, 128);
  });
  await t.step("the hook runs as the user, and its failure is told", async () => {
    await p.both(`h="$(git rev-parse --git-path hooks)"; mkdir -p "$h"
      printf '#!/bin/sh\\necho "$@" >>"$(git rev-parse --git-dir)/hooked"\\nexit 7\\n' >"$h/post-checkout"
      chmod 755 "$h/post-checkout"`);
    assert.equal((await p.both("sw old")).code, 1);
    assert.equal((await p.both("sw main")).code, 1);
    const hooked = 'cat "$(git rev-parse --git-dir)/hooked"';
    assert.equal(await p.mount.sh(hooked), await p.clone.sh(hooked));
    await p.both('rm "$(git rev-parse --git-path hooks)/post-checkout"');
    await p.agree();
  });
  await t.step("what it says", async () => {
    assert.equal((await p.mount.run("sw old")).stderr, "Switched to branch 'old'\n");
    const said = (await p.mount.run("sw v1")).stderr;
    assert.match(said, /^HEAD is now at [0-9a-f]{7,} .+\n$/);
    assert.match((await p.mount.run("sw main")).stderr, /^Previous HEAD position was .+\nSwitched/);
    const json = JSON.parse((await p.mount.run("sw old --json")).stdout);
    assert.equal(json.outcome, "switched");
    assert.equal(json.target.ref, "refs/heads/old");
    const same = JSON.parse((await p.mount.run("sw old --json")).stdout);
    assert.equal(same.outcome, "handed-over");
    await p.mount.sh(
      '"$AFS" switch main --name repo; "$AFS" switch old .; "$AFS" switch main "$PWD"',
    );
  });
  await t.step("names and directories that are none", async () => {
    const { path: cwd } = p.mount;
    for (const args of [["--", "-Cmain"], ["main", "nodir"], ["main", "/dev/null"]]) {
      const { code, stderr } = await lab.afs(["switch", ...args], { cwd, okCodes: "any" });
      assert.equal(code, 129, stderr);
      assert.match(stderr, /^afs: Cannot switch/);
    }
    const clone = await lab.afs(["switch", "-c", "n"], { cwd: p.clone.path, okCodes: "any" });
    assert.equal(clone.code, 1);
    const env = { GIT_DIR: `${p.clone.path}/.git` };
    await lab.afs(["switch", "-c", "here"], { cwd, env });
    assert.equal(await p.mount.sh("git symbolic-ref --short HEAD; git switch -q main"), "here\n");
    assert.equal(await p.clone.sh("git branch --list here"), "");
  });
  await t.step("a directory that would go is git's to keep; - goes back to a commit", async () => {
    await p.both(`git switch -qc deep; mkdir -p far/in; echo 1 >far/in/f; git add far
      git commit -qm far; cd far/in; sw old; ls -d ../in`);
    await p.agree();
    await p.both("rm -r far; sw v1; sw main");
    const back = await p.mount.run("sw -");
    assert.equal(back.code, 0, back.stderr);
    assert.equal(
      await p.mount.sh("git rev-parse HEAD"),
      await p.mount.sh("git rev-parse v1^{commit}"),
    );
    await p.mount.sh("sw main");
  });
  await t.step("another work tree inside is git's", async () => {
    await p.mount.sh("git worktree add -q inner old; cd inner; sw -c inside; sw v1");
    assert.equal(await p.mount.sh("git symbolic-ref --short HEAD"), "main\n");
    await p.mount.sh("git worktree remove -f inner");
  });
  await t.step("where nothing is mounted", async () => {
    const outside = await lab.afs(["switch", "main"], { cwd: lab.dir.path, okCodes: "any" });
    assert.equal(outside.code, 1);
    assert.match(outside.stderr, /^afs: Cannot find a repository at /);
    const plain = await lab.afs(["switch", "main"], { cwd: lab.at("clone"), okCodes: "any" });
    assert.equal(plain.code, 1);
    assert.match(plain.stderr, /^afs: Cannot find a repository at /);
    await lab.afs(["unmount", "--name", "repo"]);
    const gone = await lab.afs(["switch", "main", "--name", "repo"], { okCodes: "any" });
    assert.equal(gone.code, 5);
    await lab.afs(["remount", "--name", "repo"]);
    await p.mount.sh("sw old");
  });
});

mountTest("switch: for another user, as that user", async (lab) => {
  const p = await pair(lab, "--uid", "65534", "--gid", "65534");
  const asOwner = (script: string) =>
    p.mount.sh(`export HOME=/nonexistent GIT_CONFIG_GLOBAL=/dev/null
      exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -euc '${script}'`);
  await lab.afs(["switch", "old", "--name", "repo"], { okCodes: "any" });
  const owner = await lab.sh(
    'ls -ln "$1"/gitdirs/*/ | grep -v "^total" | awk \'{print $3}\' | sort -u',
    [
      lab.stateRoot,
    ],
  );
  assert.equal(owner.stdout, "65534\n");
  assert.equal(
    (await asOwner("git symbolic-ref --short HEAD; git status --porcelain")).trim(),
    "old",
  );
});

mountTest("switch: files that a checkout converts, and attributes that differ", async (lab, t) => {
  const p = await pair(lab);
  await p.both(`printf '*.crlf eol=crlf\\n' >.gitattributes; printf 'a\\r\\n' >one.crlf
    printf 'b\\r\\n' >two.crlf; git add -A; git commit -qm crlf
    git switch -qc other; printf 'c\\r\\n' >one.crlf; printf 'n\\r\\n' >new.crlf; git add -A
    git commit -qm other; git switch -q main`);
  await t.step("the same attributes", async () => {
    for (const target of ["other", "main", "other"]) {
      await p.both(`sw ${target}`);
      await p.agree();
    }
    assert.equal(await p.switches(), 3);
    assert.equal(await p.mount.sh("cat one.crlf new.crlf two.crlf"), "c\r\nn\r\nb\r\n");
  });
  await t.step("other ones", async () => {
    // What status says of files that git has just written is a matter of the second (racy-git).
    const look =
      "git symbolic-ref HEAD; find . -name .git -prune -o -type f -exec sha256sum {} + |" +
      "sort -k 2";
    await p.both(`git switch -q main; git switch -qc raw; echo >.gitattributes
      printf 'd\\n' >one.crlf; git add .gitattributes one.crlf; git commit -qm raw
      git switch -qf main`);
    for (const target of ["raw", "main", "other", "main", "raw"]) {
      await p.both(`sw ${target}`);
      assert.equal(await p.mount.sh(look), await p.clone.sh(look), target);
    }
  });
});

mountTest("switch: a daemon killed in the middle: what is so, and what to run", async (lab) => {
  const [hold, bin] = [lab.at("hold"), lab.at("bin")];
  await Deno.mkdir(bin);
  const { stdout: real } = await lab.sh("command -v git");
  // Once the intent is on the disk, the daemon's git does nothing until it is killed.
  await Deno.writeTextFile(
    `${bin}/git`,
    `#!/bin/sh
    held=
    while [ -e '${hold}' ] && ls '${lab.stateRoot}'/repos/*/switch.json >/dev/null 2>&1; do
      held=1; sleep 0.05
    done
    [ -z "$held" ] || exit 1
    exec ${real.trim()} "$@"\n`,
    { mode: 0o755 },
  );
  lab.env["PATH"] = `${bin}:${lab.env["PATH"]}`;
  const p = await pair(lab);
  await p.mount.sh("echo mine >untracked");
  await Deno.writeTextFile(hold, "");
  const switching = p.mount.run("sw old");
  const intent = 'cat "$1"/repos/*/switch.json 2>/dev/null';
  await waitFor(
    async () => (await lab.sh(intent, [lab.stateRoot], { okCodes: "any" })).code === 0,
    "the intent of the switch",
  );
  const [daemon] = await lab.daemons();
  assert.equal(await daemon?.stop("SIGKILL"), 137);
  await Deno.remove(hold);
  const { code, stderr } = await switching;
  assert.equal(code, 128);
  assert.match(stderr, /^afs: Cannot tell .* the work tree is as before or as old has it.*\n$/);
  const advice = /run: afs (remount --name \S+)\n$/.exec(stderr)?.[1]?.split(" ") ?? [];
  await lab.afs(advice);
  assert.equal(
    await p.mount.sh("git symbolic-ref HEAD; git status --porcelain; cat untracked"),
    "refs/heads/main\n?? untracked\nmine\n",
  );
  await p.mount.sh("sw old");
  assert.equal(
    await p.mount.sh("git symbolic-ref HEAD; git status --porcelain; cat untracked"),
    "refs/heads/old\n?? untracked\nmine\n",
  );
});

mountTest("switch: a killed daemon leaves the commit before or the one after", async (lab) => {
  const p = await pair(lab);
  await p.mount.sh("echo u >untracked");
  let state = 20261125;
  const random = () => state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
  for (let i = 0; i < 12; i++) {
    const target = i % 2 === 0 ? "old" : "main";
    // From before the first step to after the last.
    const delay = ((random() >> 8) % 150) / 1000;
    const [daemon] = await lab.daemons();
    await p.mount.run(
      `sw ${target} >/dev/null 2>&1 & sleep ${delay}; kill -9 ${daemon?.pid}; wait`,
    );
    await daemon?.ended();
    await lab.startDaemon();
    const [head, status] = (await p.mount.sh(
      "git symbolic-ref --short HEAD; git status --porcelain -uno; cat untracked",
    )).split("\n") as [string, string];
    assert.ok(head === "old" || head === "main", head);
    assert.equal(status, "u", `${i}: HEAD is ${head}`);
    await p.mount.sh("git fsck --connectivity-only; git diff --exit-code HEAD");
    await p.mount.sh(
      `sw ${target === "old" ? "main" : "old"} 2>/dev/null || true; sw ${target} || true`,
    );
  }
  await p.mount.sh("sw main 2>/dev/null || true");
  await p.clone.sh("echo u >untracked");
  const rest = (text: string) =>
    text.split("\n").filter((line) => line !== "" && !line.startsWith("checkout:"));
  assert.deepEqual(rest(await p.mount.state()), rest(await p.clone.state()));
});
