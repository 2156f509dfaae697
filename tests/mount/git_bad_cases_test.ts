/**
 * Git in a mount when something goes wrong: always what a clone would show. What git says with the
 * mount as its file monitor is compared with what it says when it looks at every file itself.
 */

import assert from "node:assert/strict";
import { makeSizedRepo } from "../support/repos.ts";
import { git } from "../support/run.ts";
import { fixture, type Lab, mountTest, without } from "./harness.ts";

const sized = fixture((path) =>
  makeSizedRepo(path, { files: 120, dirs: 20, blobBytes: 600, commits: 3 })
);

const IDENTITY = {
  GIT_AUTHOR_NAME: "A",
  GIT_AUTHOR_EMAIL: "a@example.com",
  GIT_COMMITTER_NAME: "A",
  GIT_COMMITTER_EMAIL: "a@example.com",
};

class WorkTree {
  constructor(readonly lab: Lab, readonly path: string) {}

  async sh(script: string, ...args: string[]): Promise<string> {
    const { stdout } = await this.lab.sh(`cd "$1"; shift; ${script}`, [this.path, ...args], {
      env: IDENTITY,
    });
    return stdout;
  }

  /** Exit code and both outputs of a command that may fail. */
  async tried(command: string): Promise<string> {
    return await this.sh(`set +e; { ${command}; } 2>&1; echo "exit $?"`);
  }

  /** `git status`, after making sure that it hides nothing. */
  async status(): Promise<string> {
    const shown = await this.sh("git status --porcelain");
    const looked = await this.sh(
      "git -c core.fsmonitor=false -c core.untrackedCache=false status --porcelain",
    );
    assert.equal(shown, looked);
    return shown;
  }

  /** The base has followed HEAD: what is still changed, in numbers. */
  async changes(): Promise<number[]> {
    const { overlay } = await this.lab.statusOf("repo") as unknown as {
      overlay: { created: number; modified: number; deleted: number };
    };
    return [overlay.created, overlay.modified, overlay.deleted];
  }
}

async function workTree(lab: Lab, ...flags: string[]): Promise<WorkTree> {
  const repo = await sized();
  await git(["clone", "-q", "--bare", repo.gitDir, lab.at("remotes", "repo.git")]);
  await lab.startDaemon();
  const url = lab.serve({ allowPush: true }).url("repo");
  return new WorkTree(lab, await lab.mount(url, "repo", "--wait=history", ...flags));
}

mountTest("git, bad cases: a lock that a killed git has left", async (lab) => {
  const tree = await workTree(lab);
  await tree.sh('echo more >>"$(git ls-files | head -n 1)"; git commit -qam one');
  await tree.sh(': >"$(git rev-parse --git-dir)/index.lock"; echo new >new');
  assert.match(await tree.tried("git add new"), /index\.lock.*File exists[^]*exit 128/);
  assert.equal(await tree.status(), "?? new\n");
  await tree.sh('rm "$(git rev-parse --git-dir)/index.lock"; git add new; git commit -qm two');
  assert.equal(await tree.status(), "");
  assert.deepEqual(await tree.changes(), [0, 0, 0]);
});

mountTest("git, bad cases: killed in the middle of a checkout", async (lab) => {
  const tree = await workTree(lab);
  await tree.sh(`git ls-files -z | xargs -0 -n 1 sh -c 'echo x >>"$0"'; git commit -qam all`);
  for (const after of [5, 20, 60]) {
    // Traced, so that it ends at a call and not at a time.
    const said = await tree.tried(
      `strace -f -qq -o /dev/null -e trace=unlink,unlinkat ` +
        `-e inject=unlink,unlinkat:signal=KILL:when=${after} git checkout -q HEAD~1`,
    );
    assert.match(said, /exit 137\n$/);
    await tree.status();
    await tree.sh('rm -f "$(git rev-parse --git-dir)"/*.lock; git reset -q --hard main');
    assert.equal(await tree.status(), "");
    assert.deepEqual(await tree.changes(), [0, 0, 0]);
  }
}, { skip: await without("strace") });

mountTest("git, bad cases: HEAD that leads nowhere, a branch deleted under it", async (lab) => {
  const tree = await workTree(lab);
  const head = (await tree.sh("git rev-parse HEAD")).trim();
  const files = (await tree.sh("git ls-files")).split("\n").length - 1;
  const gitDir = (await tree.sh("git rev-parse --absolute-git-dir")).trim();
  await tree.sh("git update-ref -d refs/heads/main");
  assert.equal(
    (await tree.status()).split("\n").filter((line) => line.startsWith("A ")).length,
    files,
  );
  assert.deepEqual(await tree.changes(), [0, 0, 0]);
  await tree.sh("git update-ref refs/heads/main $1", head);
  assert.equal(await tree.status(), "");
  for (const text of ["ref: refs/heads/none/such\n", "f".repeat(40) + "\n", "nonsense", ""]) {
    await Deno.writeTextFile(`${gitDir}/HEAD`, text);
    // Nothing else is known of it, and the work tree answers.
    await lab.afs(["status", "--name", "repo"]);
    await tree.sh("ls -lR >/dev/null");
  }
  await Deno.writeTextFile(`${gitDir}/HEAD`, "ref: refs/heads/main\n");
  assert.equal(await tree.status(), "");
  assert.deepEqual(await tree.changes(), [0, 0, 0]);
});

mountTest("git, bad cases: many git commands at once", async (lab) => {
  const tree = await workTree(lab);
  await tree.sh(`
    for i in 1 2 3 4 5 6 7 8; do
      (for j in 1 2 3 4 5 6; do
        echo "$i $j" >"f$i"; echo "$j" >>"$(git ls-files | sed -n "\${i}p")"
        git add -A 2>/dev/null || true
        git status --porcelain >/dev/null
        git commit -qm "$i.$j" 2>/dev/null >/dev/null || true
      done) &
    done; wait`);
  await tree.status();
  await tree.sh("git add -A; git commit -qm last || true; git fsck --no-dangling");
  assert.equal(await tree.status(), "");
  assert.deepEqual(await tree.changes(), [0, 0, 0]);
});

mountTest("git, bad cases: another user is told why, and whose it is", async (lab) => {
  const tree = await workTree(lab);
  const said = await tree.tried(
    "HOME=/nonexistent setpriv --reuid 65534 --regid 65534 --clear-groups git status",
  );
  assert.match(said, /exit 128/);
  assert.match(said, /dubious ownership|not a git repository|Permission denied/);
});

mountTest("git, bad cases: the daemon ends between add and commit", async (lab) => {
  const tree = await workTree(lab);
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    await tree.sh('echo "$1" >"$1"; echo "$1" >>"$(git ls-files | head -n 1)"; git add -A', signal);
    await lab.endDaemon(signal);
    await lab.startDaemon();
    await tree.sh('git commit -qm "$1"', signal);
    assert.equal(await tree.status(), "");
    assert.equal(await tree.sh('git show "HEAD:$1"', signal), `${signal}\n`);
    assert.deepEqual(await tree.changes(), [0, 0, 0]);
  }
});

mountTest("git, bad cases: a hook that refuses, and one that changes files", async (lab) => {
  const tree = await workTree(lab);
  await tree.sh(`hooks="$(git rev-parse --git-path hooks)"
    printf '#!/bin/sh\\necho no >&2; exit 1\\n' >"$hooks/pre-commit"; chmod +x "$hooks/pre-commit"
    echo new >new; git add new`);
  assert.match(await tree.tried("git commit -qm one"), /^no\nexit 1\n$/);
  assert.equal(await tree.status(), "A  new\n");
  await tree.sh(`hooks="$(git rev-parse --git-path hooks)"
    printf '#!/bin/sh\\necho formatted >new; git add new\\n' >"$hooks/pre-commit"
    git commit -qm one`);
  assert.equal(await tree.sh("git show HEAD:new; cat new"), "formatted\nformatted\n");
  assert.equal(await tree.status(), "");
  assert.deepEqual(await tree.changes(), [0, 0, 0]);
});

mountTest("git, bad cases: an edit of the same size with its time put back", async (lab) => {
  const tree = await workTree(lab);
  const edit = `f="$(git ls-files | sed -n 7p)"; cp -p "$f" ../kept; [ -s "$f" ]
    tr '[:alnum:]' x <"$f" >../other; touch -r "$f" ../other; cd ..; other="$PWD/other"; cd - >/dev/null`;
  const ways = [
    'cat "$other" >"$f"; touch -r ../kept "$f"',
    'cp -p "$other" "$f"',
    ...(await without("rsync") === null ? ['rsync -t --ignore-times "$other" "$f"'] : []),
    'rm "$f"; cp -p "$other" "$f"',
    'mv "$other" "$f"',
    'mkdir ../t; mkdir -p "../t/$(dirname "$f")"; cp -p "$other" "../t/$f"; tar cf - -C ../t "$f" | tar xf -',
  ];
  for (const way of ways) {
    await tree.sh(`cd "$PWD"; ${edit}; git status >/dev/null; ${way}`);
    const status = await tree.status();
    assert.match(status, /^ M \S+\n$/, way);
    await tree.sh("git add -A; git commit -qm edit; git revert --no-edit HEAD >/dev/null");
    assert.equal(await tree.status(), "", way);
    await tree.sh("rm -rf ../t ../kept ../other");
  }
});

/** Keys of git-config(1) whose value is a command that some git command runs. */
const COMMAND_KEYS = [
  "core.fsmonitor",
  "core.sshCommand",
  "core.gitProxy",
  "core.pager",
  "core.editor",
  "core.askPass",
  "core.alternateRefsCommand",
  "sequence.editor",
  "credential.helper",
  "diff.external",
  "diff.x.textconv",
  "diff.x.command",
  "filter.x.clean",
  "filter.x.smudge",
  "filter.x.process",
  "merge.x.driver",
  "gpg.program",
  "gpg.ssh.defaultKeyCommand",
  "interactive.diffFilter",
  "pack.packObjectsHook",
  "uploadpack.packObjectsHook",
  "pager.log",
  "remote.origin.uploadpack",
  "remote.origin.receivepack",
  "remote.origin.vcs",
  "trailer.x.command",
  "alias.rev-list",
  "alias.cat-file",
  "alias.update-ref",
  "hook.x.command",
] as const;

const HOOKS = [
  "reference-transaction",
  "post-checkout",
  "post-index-change",
  "post-merge",
  "post-update",
  "post-rewrite",
  "pre-auto-gc",
  "fsmonitor-watchman",
  "update",
  "pre-receive",
  "proc-receive",
] as const;

mountTest("git, bad cases: nothing of a user's git directory runs as the daemon", async (lab) => {
  const tree = await workTree(lab, "--uid", "65534", "--gid", "65534");
  const gitDir = (await lab.sh('ls -d "$1"/gitdirs/*', [lab.stateRoot])).stdout.trim();
  const trap = lab.at("trap");
  const marks = lab.at("home", "marks");
  await Deno.writeTextFile(trap, `#!/bin/sh\necho "$(id -u) $0 $*" >>"${marks}"\nexit 1\n`);
  await Deno.chmod(trap, 0o755);
  await Deno.writeTextFile(marks, "");
  await Deno.chmod(lab.at("home"), 0o777);
  await Deno.chmod(marks, 0o666);
  const lines = COMMAND_KEYS.map((key) => {
    const parts = key.split(".");
    const [section = "", name = ""] = [parts[0], parts.at(-1)];
    const middle = parts.slice(1, -1).join(".");
    const value = key.startsWith("alias.") ? `!${trap}` : trap;
    return `[${section}${middle === "" ? "" : ` "${middle}"`}]\n\t${name} = ${value}\n`;
  });
  const config = `${gitDir}/config`;
  const before = await Deno.readTextFile(config);
  await Deno.writeTextFile(
    config,
    before + lines.join("") + `[core]\n\thooksPath = ${gitDir}/hooks\n`,
  );
  for (const hook of HOOKS) {
    await lab.sh('cp "$1" "$2"; chown 65534 "$2"', [trap, `${gitDir}/hooks/${hook}`]);
  }
  await lab.sh('mkdir -p "$1/info"; echo "* filter=x diff=x merge=x" >"$1/info/attributes"', [
    gitDir,
  ]);
  // Every part of the daemon that looks there: HEAD has moved, the remote has news, a restart.
  const bare = lab.at("remotes", "repo.git");
  await git(["--git-dir", bare, "update-ref", "refs/heads/news", "HEAD~1"]);
  await git(["--git-dir", bare, "tag", "news-tag", "HEAD"]);
  await lab.sh('printf "%s\\n" "$2" >"$1/HEAD"; chown 65534 "$1/HEAD"', [
    gitDir,
    (await git(["--git-dir", bare, "rev-parse", "HEAD~1"])).stdout.trim(),
  ]);
  for (const verb of [["status"], ["fetch"], ["remove-repo", "--dry-run"]]) {
    await lab.afs([...verb, "--name", "repo"], { okCodes: "any" });
  }
  await tree.sh("ls -lR >/dev/null");
  await lab.endDaemon();
  await lab.startDaemon();
  await lab.afs(["status", "--name", "repo"]);
  await lab.afs(["unmount", "--name", "repo"]);
  await lab.afs(["remount", "--name", "repo"]);
  await lab.afs(["fetch", "--name", "repo"], { okCodes: "any" });
  const marksOf = async (uid: number) =>
    (await Deno.readTextFile(marks)).split("\n").filter((line) => line.startsWith(`${uid} `));
  assert.deepEqual(await marksOf(0), []);
  // It is a trap: the owner's own git steps into it.
  await tree.tried(
    "HOME=/nonexistent setpriv --reuid 65534 --regid 65534 --clear-groups git status",
  );
  assert.ok((await marksOf(65534)).length > 0);
});
