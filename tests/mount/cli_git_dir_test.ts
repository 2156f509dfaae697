/** Where the user's git directory lies, who prepares it, and a sandbox that sees both. */

import assert from "node:assert/strict";
import { startGitServer } from "../support/git_server.ts";
import type { GitServer } from "../support/git_server_api.ts";
import { git, run, waitFor } from "../support/run.ts";
import { type Cli, cliTest, fieldsOf, makeRepo, namesIn } from "./cli_harness.ts";

const OWNER = 65534;
const OWNED = ["--uid", String(OWNER), "--gid", String(OWNER)];

interface World extends AsyncDisposable {
  readonly url: string;
  readonly server: GitServer;
  /** A folder of the owner's. */
  readonly home: string;
  /** Of main, oldest first. */
  readonly commits: readonly string[];
  /** Runs a script in a directory as the owner. */
  as(dir: string, script: string): Promise<string>;
}

async function serve(afs: Cli): Promise<World> {
  const commits = await makeRepo(afs.at("srv", "repo.git"));
  const server = startGitServer({ root: afs.at("srv") });
  const home = afs.at("users");
  await Deno.mkdir(home);
  await Deno.chown(home, OWNER, OWNER);
  const as = async (dir: string, script: string) => {
    const { stdout } = await afs.sh(
      `cd "$1"; exec setpriv --reuid ${OWNER} --regid ${OWNER} --clear-groups sh -euc "$2"`,
      [dir, script],
      {
        env: {
          HOME: "/nonexistent",
          GIT_AUTHOR_NAME: "A",
          GIT_AUTHOR_EMAIL: "a@example.com",
          GIT_COMMITTER_NAME: "A",
          GIT_COMMITTER_EMAIL: "a@example.com",
        },
      },
    );
    return stdout;
  };
  const url = server.url("repo.git");
  return { url, server, home, commits, as, [Symbol.asyncDispose]: () => server.close() };
}

async function untilState(afs: Cli, name: string, state: string): Promise<void> {
  await waitFor(
    async () => (await afs.statusOf(name)).state === state,
    `${name} that is ${state}`,
  );
}

cliTest("--git-dir: git works there as its owner, and remove-repo takes it away", async (afs) => {
  await using world = await serve(afs);
  const { url, home, commits, as } = world;
  const daemon = await afs.startDaemon();
  const mountPoint = afs.at("mnt", "one");
  const gitDir = `${home}/one.git`;
  const mount = ["mount", url, mountPoint, ...OWNED];
  // The CLI's own directory counts, not the daemon's.
  const relative = ["--git-dir", "users/../users/one.git"];
  await afs.ok([...mount, ...relative, "--wait", "history"]);
  assert.equal(await as(mountPoint, "cat .git"), `gitdir: ${gitDir}\n`);
  assert.deepEqual(await namesIn(`${afs.stateRoot}/gitdirs`), []);
  assert.equal(await as("/", `find ${gitDir} ! -user ${OWNER}`), "");
  assert.equal(
    await as(mountPoint, "git status --porcelain; git log --format=%H"),
    commits.toReversed().map((oid) => `${oid}\n`).join(""),
  );

  await as(mountPoint, "echo more >> file.txt; git commit -qam more");
  const settled = fieldsOf((await afs.ok(["status", "--name", "one"])).stdout);
  assert.deepEqual([settled["overlay_dirty"], settled["ahead"]], ["false", "1"]);
  // The base follows without being asked, too.
  await as(mountPoint, "echo even >> file.txt; git commit -qam even");
  const head = (await as(mountPoint, "git rev-parse HEAD")).trim();
  await waitFor(
    async () => (await daemon.logged("Base follows HEAD")).some(({ to }) => to === head),
    "base that follows HEAD",
  );
  await as(mountPoint, "git branch topic HEAD~1");
  // The hook it ends with is git's, which refuses root.
  await afs.run(["switch", "topic", mountPoint]);
  assert.equal(
    await as(mountPoint, "git symbolic-ref HEAD; git status --porcelain; tail -n 1 file.txt"),
    "refs/heads/topic\nmore\n",
  );
  await as(mountPoint, "git switch -q main");

  await afs.endDaemon();
  await afs.startDaemon();
  assert.equal(await as(mountPoint, "git rev-parse HEAD; git status --porcelain"), `${head}\n`);
  await afs.ok([...mount, "--git-dir", gitDir]);
  await afs.ok(mount);
  await afs.fails(
    [...mount, "--git-dir", `${home}/two.git`],
    6,
    /with its git directory .*one\.git/,
  );
  await afs.fails([...mount, "--single-branch"], 6, /with all branches is registered there/);
  await afs.fails(
    [...mount, "--git-dir", gitDir, "--prepared-gitdir"],
    6,
    /with a git directory of its own/,
  );
  await afs.fails(["remove-repo", mountPoint], 1, /2 commits on branch/);
  await afs.ok(["remove-repo", mountPoint, "--force"]);
  assert.deepEqual(await namesIn(home), []);
  await afs.endDaemon();
  await afs.assertNothingLeft();
});

cliTest(
  "--git-dir: an owner who leads it to where everything waits stops nobody else",
  async (afs) => {
    await using world = await serve(afs);
    const { url, server, home, as } = world;
    const daemon = await afs.startDaemon();
    const gitDir = `${home}/one.git`;
    await afs.ok(["mount", url, afs.at("mnt", "one"), ...OWNED, "--git-dir", gitDir]);
    await afs.ok(["mount", url, afs.at("mnt", "other"), ...OWNED, "--wait", "history"]);
    const other = afs.at("mnt", "other");
    await as(other, "cat file.txt dir/other.txt");
    server.set({ hang: true });
    await afs.ok(["add-repo", "--name", "waits", "--remote", `${url}/`, "--depth", "1", "--async"]);
    // Everything in there waits, and so does who looks for an index.
    await as(home, `mv one.git moved; ln -s '${afs.at("mnt", "waits")}' one.git`);
    const status = afs.start(["status", "--name", "one"]);
    await afs.ok(["list-repos"]);
    await as(other, "echo more >> file.txt; git commit -qam more");
    const ofOther = fieldsOf((await afs.ok(["status", "--name", "other"])).stdout);
    assert.deepEqual([ofOther["overlay_dirty"], ofOther["ahead"]], ["false", "1"]);
    assert.equal(await daemon.stop(), 0);
    await status.exited;
    server.set({ hang: false });
    await as(home, "rm one.git; mv moved one.git");
  },
);

cliTest("--git-dir: what cannot be used is refused, and nothing is left", async (afs) => {
  await using world = await serve(afs);
  const { url, home, as } = world;
  await afs.startDaemon();
  await afs.ok(["mount", url, afs.at("mnt", "one"), ...OWNED, "--git-dir", `${home}/one.git`]);
  await as(home, "mkdir full; touch full/x");
  const cases: [string, RegExp][] = [
    [`${home}/one.git`, /one\.git is of "one"/],
    [`${home}/one.git/objects`, /one\.git is of "one"/],
    [afs.at("mnt", "one", "x"), /mnt\/one is of "one"/],
    [afs.at("mnt", "two", ".git"), /is to be a mount/],
    [`${afs.stateRoot}/x`, /the state root is/],
    [`${home}/full`, /is not empty/],
    [`${home}/none/x`, /does not exist/],
    [afs.at("x"), /its owner may not make it there/],
  ];
  for (const [path, pattern] of cases) {
    const flags = [...OWNED, "--git-dir", path];
    await afs.fails(["mount", url, afs.at("mnt", "two"), ...flags], 129, pattern);
    const add = ["add-repo", "--name", "two", "--remote", url, "--async", ...flags];
    await afs.fails(add, 129, pattern);
  }
  const add = ["add-repo", "--name", "two"];
  await afs.fails(add, 129, /give its URL with --remote/);
  await afs.fails([...add, "--prepared-gitdir"], 129, /give its path with --git-dir/);
  const prepared = [...add, "--prepared-gitdir", "--git-dir", `${home}/x`];
  await afs.fails([...prepared, "--require-commit", "1".repeat(40)], 129, /together/);
  await afs.fails(
    [...prepared, "--ref", "main", "--fetch-ref", "other"],
    129,
    /both main and other/,
  );
  await afs.ok(["remove-repo", "--name", "one"]);
  assert.deepEqual(await namesIn(home), ["full"]);
  await afs.endDaemon();
  await afs.assertNothingLeft();
});

cliTest("add-repo --async --git-dir: it is there when the mount answers", async (afs) => {
  await using world = await serve(afs);
  const { url, server, home, as } = world;
  await as(home, "mkdir volume");
  server.set({ hang: true });
  const add = ["add-repo", "--remote", url, "--mount-root", afs.at("mnt"), "--async", ...OWNED];
  const daemon = await afs.startDaemon();
  await afs.ok([...add, "--name", "one", "--git-dir", `${home}/volume`, "--single-branch"]);
  await afs.fails(
    [...add, "--name", "two", "--git-dir", `${home}/volume`],
    129,
    /is of "one"; choose another/,
  );
  // The next daemon goes on.
  await daemon.stop("SIGKILL");
  server.set({ hang: false });
  await afs.startDaemon();
  const mountPoint = afs.at("mnt", "one");
  await afs.ok(["prepare", "--name", "one"]);
  assert.equal(await as(mountPoint, "cat file.txt .git"), `content 3\ngitdir: ${home}/volume\n`);
  const refs = await as(mountPoint, "git for-each-ref --format='%(refname)' refs/remotes");
  assert.equal(refs, "refs/remotes/origin/HEAD\nrefs/remotes/origin/main\n");
  await afs.ok(["remove-repo", "--name", "one"]);
  // It was there before.
  assert.deepEqual(await namesIn(`${home}/volume`), []);
  await afs.endDaemon();
  await afs.assertNothingLeft();
});

/** Binds of a sandbox that has a system, the mount, the git directory, the store's objects. */
const SANDBOX = `
root=$1 mount=$2 git=$3 objects=$4 script=$5
for dir in usr bin sbin lib lib64 etc dev; do
  [ -e "/$dir" ] || continue
  if [ -L "/$dir" ]; then cp -P "/$dir" "$root/$dir"; else
    mkdir -p "$root/$dir"; mount --rbind "/$dir" "$root/$dir"
  fi
done
mkdir -p "$root/work" "$root/$git" "$root/$objects" "$root/tmp"
mount --bind "$mount" "$root/work"
mount --bind "$git" "$root/$git"
mount --bind "$objects" "$root/$objects"
mount -o remount,bind,ro "$root/$objects"
# Nothing else of the host is there.
[ ! -e "$root/$objects/../config" ]
exec chroot "$root" setpriv --reuid ${OWNER} --regid ${OWNER} --clear-groups \\
  sh -euc "cd /work; $script"
`;

cliTest(
  "--git-dir: a sandbox with mount, git directory and objects has all of git",
  async (afs) => {
    await using world = await serve(afs);
    const { url, server, home, as } = world;
    await afs.startDaemon();
    const mountPoint = afs.at("mnt", "one");
    const gitDir = `${home}/one.git`;
    await afs.ok(["mount", url, mountPoint, ...OWNED, "--git-dir", gitDir, "--wait", "history"]);
    const objects = (await as(gitDir, "cat objects/info/alternates")).trim();
    let count = 0;
    const inside = async (script: string, { network = true } = {}) => {
      const root = afs.at(`sandbox-${++count}`);
      await Deno.mkdir(root);
      const unshare = network ? "unshare -m" : "unshare -m -n";
      const { stdout } = await afs.sh(
        `exec ${unshare} sh -euc "$@"`,
        [SANDBOX, "sh", root, mountPoint, gitDir, objects, script],
        {
          env: {
            HOME: "/nonexistent",
            GIT_AUTHOR_NAME: "A",
            GIT_AUTHOR_EMAIL: "a@example.com",
            GIT_COMMITTER_NAME: "A",
            GIT_COMMITTER_EMAIL: "a@example.com",
          },
        },
      );
      return stdout;
    };
    // Without a network: contents come through the mount, whose daemon is outside.
    const offline = { network: false };
    server.resetCounters();
    assert.equal(
      await inside("git status --porcelain; git log --format=%s", offline),
      "c3\nc2\nc1\n",
    );
    assert.equal(await inside("cat file.txt", offline), "content 3\n");
    // A blob that nobody has read is for the remote to give, and git asks it itself.
    const first = "git cat-file blob HEAD~2:file.txt";
    assert.match(
      await inside(`${first} 2>&1 || echo "exit $?"`, offline),
      /fatal: .*\nexit 128\n$/,
    );
    assert.equal(await inside(first), "content 1\n");
    // The first commit wants all contents of HEAD, which have come when all was read.
    const commit = "echo sandboxed > new.txt; git add new.txt; git commit -qm inside";
    assert.match(await inside(`{ ${commit}; } 2>&1 || echo "exit $?"`, offline), /exit 128\n$/);
    await inside("git ls-files -z | xargs -0 cat > /dev/null", offline);
    await inside(commit, offline);
    assert.equal(
      await as(mountPoint, "git log -1 --format=%s; git status --porcelain"),
      "inside\n",
    );
    const status = fieldsOf((await afs.ok(["status", "--name", "one"])).stdout);
    assert.deepEqual([status["overlay_dirty"], status["ahead"]], ["false", "1"]);
    // What is bound read-only cannot be written, whoever is inside.
    assert.equal(await inside(`touch ${objects}/x 2>/dev/null || echo no`), "no\n");
  },
);

/** Somebody's preparation: `git init`, a remote, an identity and a hook. */
function preparation(gitDir: string, dir: string, url: string): string {
  return `
    git init -q --separate-git-dir '${gitDir}' --initial-branch main '${dir}'
    git -C '${dir}' remote add origin '${url}'
    git -C '${dir}' config user.name Prepared
    git -C '${dir}' config user.email prepared@example.com
    printf '#!/bin/sh\\necho hooked >> "$GIT_DIR/hooked"\\n' > '${gitDir}/hooks/post-commit'
    chmod 755 '${gitDir}/hooks/post-commit'`;
}

const STATE =
  'find . -type d -exec stat -c "%a %n" {} + | sort; find . -type f -exec cksum {} + | sort';

for (const isAsync of [true, false]) {
  const kind = isAsync ? ", behind the mount" : "";
  cliTest(
    `--prepared-gitdir${kind}: the directory is filled, and what is theirs stays`,
    async (afs) => {
      await using world = await serve(afs);
      const { url, home, commits, as } = world;
      await Deno.chown(afs.at("mnt"), OWNER, OWNER);
      const mountPoint = afs.at("mnt", "one");
      const gitDir = `${home}/one.git`;
      await as(home, preparation(gitDir, mountPoint, url));
      const before = await as(gitDir, STATE);
      await afs.startDaemon();
      const flags = ["--prepared-gitdir", "--git-dir", gitDir, ...OWNED];
      const add = ["add-repo", "--name", "one", ...(isAsync ? ["--async"] : []), ...flags];
      await afs.ok([...add, "--ref", "refs/heads/main", "--fetch-ref", "main"]);
      await afs.ok(["prepare", "--name", "one"]);
      assert.equal(await as(mountPoint, "cat file.txt .git"), `content 3\ngitdir: ${gitDir}\n`);
      assert.equal(
        await as(
          mountPoint,
          "git status --porcelain; git rev-parse HEAD; git branch -vv --format='%(upstream)'",
        ),
        `${commits.at(-1)}\nrefs/remotes/origin/main\n`,
      );
      await as(
        mountPoint,
        "unset GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL; " +
          "echo more >> file.txt; git commit -qam more",
      );
      assert.equal(await as(mountPoint, "git log -1 --format=%an"), "Prepared\n");
      assert.equal(await as(gitDir, "cat hooked"), "hooked\n");
      await waitFor(
        async () => (await afs.statusOf("one")).history === "full",
        "history",
      );
      assert.equal((await as(mountPoint, "git rev-list --count HEAD")).trim(), "4");

      await afs.endDaemon();
      await afs.startDaemon();
      assert.equal(
        await as(mountPoint, "git log -1 --format=%s; git status --porcelain"),
        "more\n",
      );
      await afs.ok(["mount", url, mountPoint, ...flags]);
      await afs.fails(["remove-repo", "--name", "one"], 1, /1 commit on branch main/);
      await afs.ok(["remove-repo", "--name", "one", "--force"]);
      assert.equal(await as(gitDir, STATE), before);
      assert.deepEqual(await namesIn(mountPoint), [".git"]);
      await afs.ok(add);
      await afs.ok(["prepare", "--name", "one"]);
      assert.equal(await as(mountPoint, "cat file.txt"), "content 3\n");
      await afs.ok(["remove-repo", "--name", "one"]);
      await afs.endDaemon();
      await afs.assertNothingLeft();
    },
  );
}

cliTest(
  "--prepared-gitdir: a failure leaves it as it was, and prepare tries again",
  async (afs) => {
    await using world = await serve(afs);
    const { server, home, as } = world;
    await Deno.chown(afs.at("mnt"), OWNER, OWNER);
    const mountPoint = afs.at("mnt", "one");
    const gitDir = `${home}/one.git`;
    const url = server.url("later.git");
    await as(home, preparation(gitDir, mountPoint, url));
    const before = await as(gitDir, STATE);
    await afs.startDaemon();
    const add = ["add-repo", "--name", "one", "--prepared-gitdir", "--git-dir", gitDir, ...OWNED];
    await afs.fails([...add, "--fetch-ref", "main"], 1, /no git repository there/);
    assert.equal(await as(gitDir, STATE), before);
    assert.deepEqual(await namesIn(mountPoint), [".git"]);
    await afs.ok([...add, "--async", "--fetch-ref", "main"]);
    await untilState(afs, "one", "failed");
    assert.equal(await as(gitDir, STATE), before);
    await Deno.rename(afs.at("srv", "repo.git"), afs.at("srv", "later.git"));

    // Somebody has used it meanwhile.
    await as(gitDir, "git --git-dir=. commit -q --allow-empty -m mine");
    const mine = await as(gitDir, STATE);
    await afs.fails(["prepare", "--name", "one"], 129, /only a fresh one can be prepared/);
    assert.equal(await as(gitDir, STATE), mine);
    await as(gitDir, "rm -rf logs refs/heads/main objects/?? hooked COMMIT_EDITMSG index");
    assert.equal(await as(gitDir, STATE), before);
    await afs.ok(["prepare", "--name", "one"]);
    assert.equal(await as(mountPoint, "cat file.txt"), "content 3\n");

    // Another's gitfile, or anything else, is not covered.
    await as(home, preparation(`${home}/two.git`, afs.at("mnt", "two"), url));
    await as(afs.at("mnt", "two"), "touch theirs");
    const two = ["add-repo", "--name", "two", "--prepared-gitdir", ...OWNED, "--git-dir"];
    await afs.fails([...two, `${home}/two.git`], 129, /not empty/);
    await as(afs.at("mnt", "two"), "rm theirs; echo 'gitdir: /elsewhere' > .git");
    await afs.fails([...two, `${home}/two.git`], 129, /not empty/);
    const login = url.replace("://", "://user:hunter22@");
    await as(home, `git --git-dir=two.git remote set-url origin '${login}'`);
    const line = await afs.fails([...two, `${home}/two.git`], 129, /has a login/);
    assert.ok(!line.includes("hunter22") && !afs.output.includes("hunter22"));
  },
);

cliTest(
  "--single-branch: git in the mount knows that branch, then and after pushes",
  async (afs) => {
    await using world = await serve(afs);
    const { url } = world;
    const daemon = await afs.startDaemon();
    const mountPoint = afs.at("mnt", "one");
    const clone = afs.at("clone");
    await git(["clone", "-q", "--single-branch", url, clone]);
    await afs.ok([
      "mount",
      url,
      mountPoint,
      "--single-branch",
      "--wait",
      "history",
      "--refresh",
      "never",
    ]);
    const compare = async () => {
      const commands = [
        ["for-each-ref", "--format=%(refname) %(objectname) %(symref)"],
        ["config", "--get-all", "remote.origin.fetch"],
        ["log", "--format=%H", "--all"],
      ];
      for (const command of commands) {
        const [ours, theirs] = await Promise.all(
          [mountPoint, clone].map((dir) => git(["-C", dir, ...command])),
        );
        assert.equal(ours?.stdout, theirs?.stdout, command.join(" "));
      }
    };
    await compare();
    const remote = ["--git-dir", afs.at("srv", "repo.git")];
    const who = ["-c", "user.name=T", "-c", "user.email=t@example.com"];
    for (const branch of ["main", "feature"]) {
      const tree = `${branch}^{tree}`;
      const { stdout } = await git([
        ...remote,
        ...who,
        "commit-tree",
        "-p",
        branch,
        "-m",
        "n",
        tree,
      ]);
      await git([...remote, "update-ref", `refs/heads/${branch}`, stdout.trim()]);
      await git([...remote, ...who, "tag", "-a", "-m", "t", `on-${branch}`, branch]);
    }
    await afs.ok(["fetch", mountPoint]);
    await git(["-C", clone, "fetch", "-q"]);
    await compare();
    assert.match((await git(["-C", mountPoint, "tag"])).stdout, /^on-main\n$/);
    // Git's own fetch brings no more, either.
    await git(["-C", mountPoint, "fetch", "-q"]);
    await compare();
    assert.equal((await run("cat", [`${mountPoint}/file.txt`])).stdout, "content 3\n");
    assert.deepEqual(await daemon.logged(/^Could not/), []);
  },
);
