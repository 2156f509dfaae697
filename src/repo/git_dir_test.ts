/** Git directories where their users want them: new ones, and prepared ones. */

import assert from "node:assert/strict";
import { Failure } from "../failure.ts";
import type { HostPath } from "../path.ts";
import type { AcquireRequest } from "./acquire.ts";
import { checkGitDir, isOwnGitfile, remoteOfPrepared, takeAwayGitDir } from "./git_dir.ts";
import { removeOrphans, removeRepo } from "./remove.ts";
import { type Ground, listTree, onGround } from "./testing.ts";

const IS_ROOT = Deno.uid() === 0;
/** Another than this process's, where that may be. */
const OWNER = IS_ROOT
  ? { uid: 65534, gid: 65534 }
  : { uid: Deno.uid() as number, gid: Deno.gid() as number };

async function failureOf(promise: Promise<unknown>): Promise<Failure> {
  const error = await promise.then(() => null, (error: unknown) => error);
  assert.ok(error instanceof Failure, String(error));
  assert.ok(!error.message.includes("\n"));
  return error;
}

/** A folder of the owner, in which they may do anything. */
async function homeOf(ground: Ground): Promise<string> {
  const home = `${ground.dir}/home`;
  await Deno.mkdir(home, { mode: 0o755, recursive: true });
  await Deno.chown(home, OWNER.uid, OWNER.gid);
  return home;
}

async function asOwner(script: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command("sh", {
    args: ["-euc", script, "sh", ...args],
    clearEnv: true,
    env: { PATH: Deno.env.get("PATH") ?? "", HOME: "/nonexistent", GIT_CONFIG_GLOBAL: "/dev/null" },
    cwd: "/",
    ...OWNER,
  }).output();
  const decoder = new TextDecoder();
  assert.ok(success, decoder.decode(stderr));
  return decoder.decode(stdout);
}

function wanted(ground: Ground, changes: Partial<AcquireRequest> = {}) {
  return {
    ...OWNER,
    gitDir: `${ground.dir}/home/git` as HostPath,
    preparedGitDir: false,
    mountPoint: `${ground.dir}/mnt` as HostPath,
    ...changes,
  };
}

const checks = ({ layout, registry }: Ground) => ({ layout, records: registry.all() });

/** What is below a folder: rights, names and content. */
async function stateOf(path: string): Promise<string> {
  return await asOwner(
    'cd "$1"; find . -type d -exec stat -c "%a %n" {} + | sort; find . -type f -exec cksum {} + | sort',
    path,
  );
}

Deno.test("git dir: it is made by its owner, where they want it, and taken away again", async () => {
  await onGround(async (ground) => {
    const { layout, registry } = ground;
    const remote = await ground.makeRemote();
    const home = await homeOf(ground);
    const gitDir = await checkGitDir(wanted(ground), checks(ground));
    const record = await ground.add(remote, { ...wanted(ground), gitDir });
    assert.deepEqual(registry.byId(record.id)?.gitDir, `${home}/git`);
    assert.ok(!(await listTree(layout.stateRoot)).some((line) => line.includes(" gitdirs/")));
    assert.equal(
      await asOwner(
        'git --git-dir "$1" rev-parse HEAD; find "$1" ! -user "$2"',
        home + "/git",
        String(OWNER.uid),
      ),
      `${record.baseCommitOid}\n`,
    );
    assert.equal(((await Deno.lstat(`${home}/git`)).mode as number) & 0o7777, 0o700);

    const other = await failureOf(checkGitDir(wanted(ground), checks(ground)));
    assert.match(other.message, /is of "repo/);
    await removeRepo(record, { layout, registry });
    assert.deepEqual(await listTree(home), []);
  });
});

Deno.test("git dir: an empty directory is filled, and emptied", async () => {
  await onGround(async (ground) => {
    const { layout, registry } = ground;
    const remote = await ground.makeRemote();
    const home = await homeOf(ground);
    await asOwner('mkdir "$1"', `${home}/git`);
    const { ino } = await Deno.stat(`${home}/git`);
    // What it lies in need not be the owner's.
    await Deno.chown(home, 0, 0).catch(() => {});
    const record = await ground.add(remote, wanted(ground));
    await asOwner('git --git-dir "$1" fsck --connectivity-only', `${home}/git`);
    await removeRepo(record, { layout, registry });
    assert.deepEqual((await listTree(home)).map((line) => line.slice(4)), ["git"]);
    assert.equal((await Deno.stat(`${home}/git`)).ino, ino);
  });
});

Deno.test("git dir: what cannot be used is refused, and says why", async () => {
  await onGround(async (ground) => {
    const { layout } = ground;
    const home = await homeOf(ground);
    await asOwner(
      'cd "$1"; mkdir full mine; touch full/x file; ln -s mine link; ln -s "$2" state; mkdir -m 0 shut',
      home,
      layout.stateRoot,
    );
    await Deno.mkdir(`${home}/others`);
    const cases: [string, RegExp][] = [
      [`${home}/none/git`, /the folder it is to lie in does not exist/],
      [`${home}/full`, /is not empty/],
      [`${home}/file`, /not a directory/],
      [`${home}/link`, /symbolic link/],
      [`${layout.stateRoot}/gitdirs/x`, /the state root is/],
      [`${home}/state/gitdirs/x`, /the state root is|may not make it there/],
      [ground.dir, /the state root is/],
      [`${ground.dir}/mnt/.git`, /is to be a mount/],
      [`${home}/../x`, /absolute path/],
      [`${home}/a\nb`, /control character/],
      ...(IS_ROOT
        ? [
          [`${home}/others`, /not its owner's/],
          [`${ground.dir}/x`, /its owner may not make it there/],
          [`${home}/shut/x`, /may not go there/],
        ] as [string, RegExp][]
        : []),
    ];
    for (const [path, pattern] of cases) {
      const gitDir = path as HostPath;
      const failure = await failureOf(checkGitDir(wanted(ground, { gitDir }), checks(ground)));
      assert.equal(failure.kind, "usage");
      assert.match(failure.message, pattern, path);
    }
  });
});

Deno.test("git dir: a failure after it was placed takes it away", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const home = await homeOf(ground);
    const fails = ground.add(remote, wanted(ground), {
      register: () => {
        throw new Failure("failed", "Cannot register");
      },
    });
    assert.match((await failureOf(fails)).message, /Cannot register/);
    assert.deepEqual(await listTree(home), []);
  });
});

Deno.test("git dir: what a killed acquisition left goes, and nothing that is not ours", async () => {
  await onGround(async (ground) => {
    const { layout, registry } = ground;
    const remote = await ground.makeRemote();
    const home = await homeOf(ground);
    const record = await ground.add(remote, wanted(ground), { register: () => {} });
    await asOwner('cp -a "$1" "$1.new-$2"', `${home}/git`, record.id);
    assert.ok((await removeOrphans(layout, registry)).includes(`repos/${record.id}`));
    assert.deepEqual(await listTree(home), []);

    // The user has put another in its place.
    const second = await ground.add(remote, wanted(ground));
    await asOwner('mv "$1" "$1.moved"; git init -q --bare "$1"', `${home}/git`);
    const theirs = await stateOf(`${home}/git`);
    await removeRepo(second, { layout, registry });
    assert.equal(await stateOf(`${home}/git`), theirs);
  });
});

Deno.test({
  name: "git dir: an owner who puts links there reaches nothing that is not theirs",
  ignore: !IS_ROOT,
  fn: async () => {
    await onGround(async (ground) => {
      const { layout, registry } = ground;
      const remote = await ground.makeRemote();
      const home = await homeOf(ground);
      const roots = `${ground.dir}/roots`;
      await Deno.mkdir(roots);

      // After the check, before it is placed.
      await asOwner('mkdir "$1/sub"', home);
      const gitDir = await checkGitDir(
        wanted(ground, { gitDir: `${home}/sub/git` as HostPath }),
        checks(ground),
      );
      await asOwner('rmdir "$1/sub"; ln -s "$2" "$1/sub"', home, roots);
      await failureOf(ground.add(remote, { ...wanted(ground), gitDir }));
      assert.deepEqual(await listTree(roots), []);

      // When it is removed: one with the mark, which the owner can read.
      await asOwner('rm "$1/sub"; mkdir "$1/sub"', home);
      const record = await ground.add(remote, { ...wanted(ground), gitDir });
      await Deno.mkdir(`${roots}/git`);
      await Deno.writeTextFile(`${roots}/git/afs-repo`, `${record.id}\n`);
      await asOwner('mv "$1/sub" "$1/moved"; ln -s "$2" "$1/sub"', home, roots);
      const before = await listTree(roots);
      await removeRepo(record, { layout, registry });
      assert.deepEqual(await listTree(roots), before);
    });
  },
});

/** What somebody prepares: with hooks, an identity and paths that are ignored. */
async function prepare(home: string, url: string, ...flags: string[]): Promise<string> {
  await asOwner(
    `cd "$1"; shift; url=$1; shift
    git init -q "$@" --separate-git-dir "$PWD/git" tree
    cd tree
    git remote add origin "$url"
    git config user.name "Somebody Else"
    git config gc.auto 7
    echo '*.secret' >> ../git/info/exclude
    printf 'exit 0\\n' > ../git/hooks/pre-commit; chmod 755 ../git/hooks/pre-commit
    touch ../git/their-own`,
    home,
    url,
    ...flags,
  );
  return await stateOf(`${home}/git`);
}

Deno.test("git dir: a prepared one is filled in place, what was there stays, and it comes back", async () => {
  await onGround(async (ground) => {
    const { layout, registry } = ground;
    const remote = `file://${await ground.makeRemote()}`;
    const home = await homeOf(ground);
    const before = await prepare(home, remote, "--initial-branch", "other");
    const request = wanted(ground, { preparedGitDir: true });
    assert.equal(await remoteOfPrepared(request, null, layout), remote);
    assert.equal(await remoteOfPrepared(request, `${remote}/`, layout), remote);
    assert.equal(await checkGitDir(request, checks(ground)), `${home}/git`);
    const { ino } = await Deno.stat(`${home}/git`);
    const record = await ground.add(remote, request);
    assert.equal((await Deno.stat(`${home}/git`)).ino, ino);
    const git = (command: string) => asOwner(`git --git-dir "$1" ${command}`, `${home}/git`);
    assert.equal(await git("symbolic-ref HEAD"), "refs/heads/main\n");
    assert.equal(await git("rev-parse HEAD origin/main"), `${record.baseCommitOid}\n`.repeat(2));
    assert.equal(await git("config user.name"), "Somebody Else\n");
    assert.equal(await git("config --get-all gc.auto"), "0\n");
    assert.equal(await git("config --get-all remote.origin.promisor"), "true\n");
    assert.equal(await git("config --get-all branch.main.merge"), "refs/heads/main\n");
    assert.equal(
      await git("config --get-all remote.origin.fetch"),
      "+refs/heads/*:refs/remotes/origin/*\n",
    );
    assert.equal(await git("ls-files"), "dir/one\ndir/three\ndir/two\nfile\n");
    await git("fsck --connectivity-only");
    assert.match(await Deno.readTextFile(`${home}/git/info/exclude`), /\*\.secret\n\/\.afs-/);
    assert.equal(await isOwnGitfile(record, layout)(`${home}/tree/.git`), true);
    assert.equal(await isOwnGitfile(record, layout)(`${home}/git/config`), false);

    await git("branch mine");
    await removeRepo(record, { layout, registry });
    assert.equal(await stateOf(`${home}/git`), before);
    // And once more; what the user has configured since stays.
    const again = await ground.add(remote, request);
    await git("config user.email me@example.com");
    await removeRepo(again, { layout, registry });
    assert.equal(await git("config user.email"), "me@example.com\n");
    assert.equal(await checkGitDir(request, checks(ground)), `${home}/git`);
  });
});

Deno.test("git dir: a prepared one is as it was after a failure and after a kill", async () => {
  await onGround(async (ground) => {
    const { layout, registry } = ground;
    const remote = `file://${await ground.makeRemote()}`;
    const home = await homeOf(ground);
    const before = await prepare(home, remote);
    const request = wanted(ground, { preparedGitDir: true });
    const register = () => {
      throw new Failure("failed", "Cannot register");
    };
    await failureOf(ground.add(remote, request, { register }));
    assert.equal(await stateOf(`${home}/git`), before);
    await failureOf(ground.add(remote, { ...request, branch: "none" }));
    assert.equal(await stateOf(`${home}/git`), before);
    const killed = await ground.add(remote, request, { register: () => {} });
    // Before it was written down that all is done.
    const { placedPath } = layout.repo(killed.id);
    const { since: _, ...placed } = JSON.parse(await Deno.readTextFile(placedPath));
    await Deno.writeTextFile(placedPath, JSON.stringify(placed));
    await removeOrphans(layout, registry);
    assert.equal(await stateOf(`${home}/git`), before);
    await takeAwayGitDir(killed.id, layout);
  });
});

Deno.test("git dir: one that is not fresh, or has no proper remote, is refused", async () => {
  await onGround(async (ground) => {
    const { layout } = ground;
    const remote = `file://${await ground.makeRemote()}`;
    const home = await homeOf(ground);
    const request = wanted(ground, { preparedGitDir: true });
    const cases: [string, RegExp][] = [
      ["git commit -q --allow-empty -m x", /only a fresh one can be prepared/],
      ["echo x > x; git add x", /only a fresh one/],
      ["mkdir ../git/logs", /only a fresh one/],
      ["touch ../git/index", /only a fresh one/],
      ["echo x | git hash-object -w --stdin", /only a fresh one/],
      ["git config core.worktree /x", /its configuration has core.worktree/],
      ["git config extensions.other x", /its configuration has extensions.other/],
      ["git remote remove origin", /no remote "origin"/],
      ["rm -rf ../git/objects", /is no git directory/],
      ["rm -rf ../git", /does not exist/],
      ["head -c 2000000 /dev/zero >> ../git/info/exclude", /too large/],
    ];
    for (const [script, pattern] of cases) {
      await asOwner('rm -rf "$1/git" "$1/tree"', home);
      await prepare(home, remote);
      await asOwner(
        `cd "$1/tree"; export GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_EMAIL=a@b; ${script}`,
        home,
      );
      const failure = await failureOf(checkGitDir(request, checks(ground)));
      assert.match(failure.message, pattern, script);
    }
    await asOwner('rm -rf "$1/git" "$1/tree"', home);
    await prepare(home, "https://user:hunter22@host.invalid/x");
    const login = await failureOf(remoteOfPrepared(request, null, layout));
    assert.match(login.message, /https:\/\/host\.invalid\/x has a login/);
    await asOwner('cd "$1/tree"; git remote set-url origin "$2"', home, remote);
    const other = await failureOf(remoteOfPrepared(request, "https://host/other", layout));
    assert.match(other.message, /its remote is file:/);

    // sha256 of a remote with sha1.
    await asOwner('rm -rf "$1/git" "$1/tree"', home);
    const before = await prepare(home, remote, "--object-format=sha256");
    assert.match((await failureOf(ground.add(remote, request))).message, /object format/);
    assert.equal(await stateOf(`${home}/git`), before);
  });
});
