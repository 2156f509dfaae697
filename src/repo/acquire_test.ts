import assert from "node:assert/strict";
import { startGitDaemon } from "../../tests/support/git_daemon.ts";
import { systemClock } from "../clock.ts";
import { Failure } from "../failure.ts";
import type { Oid } from "../git/oid.ts";
import { fileUrlOf } from "../git/remote_url.ts";
import { aheadBehind, readHead } from "../git/user_git_dir.ts";
import { fetchHistory } from "./history.ts";
import { userGitDirOf } from "./owner.ts";
import { listTree, onGround } from "./testing.ts";

const isRoot = Deno.uid() === 0;

async function failureOf(promise: Promise<unknown>): Promise<Failure> {
  const error = await promise.then(() => null, (error: unknown) => error);
  assert.ok(error instanceof Failure, `no Failure: ${error}`);
  assert.match(error.message, /^Cannot /);
  assert.ok(!error.message.includes("\n"));
  return error;
}

/** Paths of the state root but those of the empty one. */
function leftovers(lines: readonly string[]): string[] {
  const always =
    /^\d+ (?:registry\.sqlite(?:-wal|-shm)?|credentials|convert|empty|gitdirs|repos|stores)$/;
  return lines.filter((line) => !always.test(line));
}

Deno.test("acquire: what git says in the work tree is what a clone says", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const phases: string[] = [];
    const record = await ground.add(remote, {}, {
      onProgress: (progress) => {
        if (progress.state === "end") phases.push(progress.phase);
      },
    });
    assert.deepEqual(phases, ["check", "fetch", "prepare"]);
    assert.equal(record.ref, "refs/heads/main");
    assert.equal(record.history, "fetching");
    assert.equal(record.remote, `file://${remote}`);
    assert.deepEqual(ground.registry.all().map((row) => ({ ...row })), [record]);
    const head = (await ground.git(remote, "rev-parse", "HEAD")).trim();
    assert.equal(record.baseCommitOid, head);
    assert.equal(record.baseTreeOid, (await ground.git(remote, "rev-parse", "HEAD^{tree}")).trim());
    assert.ok(record.baseTimeSeconds <= Date.now() / 1000 - 1);
    const tree = await ground.workTreeOf(record);
    assert.equal(await ground.git(tree, "status", "--porcelain"), "");
    assert.equal(await ground.git(tree, "log", "--format=%s"), "three\n");
    // The blob is not in the store: git fetches it by itself.
    assert.equal(await ground.git(tree, "show", "HEAD:dir/two"), "in dir: two\n");
    assert.match(
      await ground.git(tree, "status", "--branch", "--porcelain"),
      /^## main\.\.\.origin\/main$/m,
    );
    assert.equal(
      (await ground.git(tree, "symbolic-ref", "refs/remotes/origin/HEAD")).trim(),
      "refs/remotes/origin/main",
    );
    assert.match(await ground.git(tree, "reflog"), /HEAD@\{0\}: clone: from file:/);
    assert.equal(await ground.git(tree, "fetch", "origin"), "");
    assert.match(await ground.git(tree, "branch", "-r"), /origin\/feature\/x/);
  });
});

/** The git commands that `work` starts, by a git in front of the real one that notes them. */
async function gitCommands(dir: string, work: () => Promise<unknown>): Promise<string[]> {
  const path = Deno.env.get("PATH") ?? "";
  const [bin, log] = [`${dir}/bin`, `${dir}/commands`];
  await Deno.mkdir(bin);
  const script = `#!/bin/sh
PATH='${path}'
for word; do
  case $before$word in
    -c) before=-c; continue ;;
    -c*) before=; continue ;;
  esac
  echo "$word" >>'${log}'
  break
done
exec git "$@"
`;
  await Deno.writeTextFile(`${bin}/git`, script, { mode: 0o755 });
  Deno.env.set("PATH", `${bin}:${path}`);
  try {
    await work();
  } finally {
    Deno.env.set("PATH", path);
  }
  return (await Deno.readTextFile(log)).trimEnd().split("\n");
}

Deno.test("acquire: a new store takes one fetch and few processes", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    await ground.add(await ground.makeRemote());
    const commands = await gitCommands(ground.dir, () => ground.add(remote));
    // A clone of a file URL starts upload-pack by its path in git's own folder.
    assert.deepEqual(commands.sort(), ["clone", "config", "read-tree", "rev-list", "update-ref"]);
  });
});

Deno.test("acquire: says when it waits for the remote", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    for (const round of ["new store", "store that is there"]) {
      const events: string[] = [];
      await ground.add(remote, {}, {
        onProgress: ({ phase, state }) => {
          if (state !== "transfer") events.push(`${phase} ${state}`);
        },
      });
      const [asked, ended] = ["fetch asked", "fetch end"].map((each) => events.indexOf(each));
      assert.ok(asked !== undefined && ended !== undefined, round);
      assert.ok(asked > events.indexOf("fetch begin") && asked < ended, `${round}: ${events}`);
    }
  });
});

Deno.test("acquire: the view calls what is not there missing", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const record = await ground.add(remote);
    const { viewDir } = ground.layout.repo(record.id);
    const blob = (await ground.git(remote, "rev-parse", "HEAD:file")).trim();
    const child = new Deno.Command("git", {
      args: ["cat-file", "--batch-check"],
      env: { GIT_DIR: viewDir, GIT_NO_LAZY_FETCH: "1", GIT_ALLOW_PROTOCOL: "none" },
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(`${blob}\n${record.baseTreeOid}\n`));
    await writer.close();
    const text = new TextDecoder().decode((await child.output()).stdout);
    assert.match(text, new RegExp(`^${blob} missing\n${record.baseTreeOid} tree \\d+\n$`));
  });
});

Deno.test("acquire: sha256", async () => {
  await onGround(async (ground) => {
    const record = await ground.add(await ground.makeRemote({ objectFormat: "sha256" }));
    assert.equal(record.objectFormat, "sha256");
    assert.equal(record.baseCommitOid.length, 64);
    const tree = await ground.workTreeOf(record);
    assert.equal(await ground.git(tree, "status", "--porcelain"), "");
    assert.equal(await ground.git(tree, "show", "HEAD:file"), "three\n");
    assert.deepEqual(await ground.add(record.remote).then((again) => again.objectFormat), "sha256");
  });
});

Deno.test("acquire: branches, tags, and what is neither", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const tag = await ground.add(remote, { branch: "v1" });
    assert.equal(tag.ref, null);
    assert.equal(tag.baseCommitOid, (await ground.git(remote, "rev-parse", "v1^0")).trim());
    const head = await readHead(userGitDirOf(tag, ground.layout));
    assert.deepEqual(head, { ref: null, commitOid: tag.baseCommitOid });
    const tree = await ground.workTreeOf(tag);
    assert.equal(await ground.git(tree, "status", "--porcelain"), "");
    assert.equal(await ground.git(tree, "describe", "--tags"), "v1\n");
    // The same store, another branch; then by full name.
    const branch = await ground.add(remote, { branch: "feature/x" });
    assert.equal(branch.storeId, tag.storeId);
    assert.equal(branch.ref, "refs/heads/feature/x");
    assert.equal((await ground.add(remote, { branch: "refs/tags/light" })).ref, null);
    assert.equal((await ground.add(remote, { branch: "refs/heads/main" })).ref, "refs/heads/main");
    const missing = await failureOf(ground.add(remote, { branch: "nope" }));
    assert.match(missing.message, /no branch or tag "nope"/);
    const first = await failureOf(
      ground.add(await ground.makeRemote({ name: "other" }), { branch: "nope" }),
    );
    assert.match(first.message, /no branch or tag "nope"/);
    assert.equal(ground.registry.all().length, 4);
  });
});

Deno.test("acquire: an existing store gets the newest commit", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const first = await ground.add(remote);
    await Deno.writeTextFile(`${remote}/file`, "four\n");
    await ground.git(remote, "commit", "-qam", "four");
    const second = await ground.add(remote);
    assert.equal(second.storeId, first.storeId);
    assert.notEqual(second.baseCommitOid, first.baseCommitOid);
    assert.equal((await ground.git(remote, "rev-parse", "HEAD")).trim(), second.baseCommitOid);
    const tree = await ground.workTreeOf(second);
    assert.equal(await ground.git(tree, "log", "--format=%s"), "four\n");
    assert.equal(await ground.git(tree, "status", "--porcelain"), "");
  });
});

Deno.test("acquire: --depth has a store of its own and stays shallow", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const shallow = await ground.add(remote, { depth: 2 });
    assert.equal(shallow.history, "shallow");
    assert.notEqual(shallow.storeId, (await ground.add(remote)).storeId);
    const tree = await ground.workTreeOf(shallow);
    assert.equal(await ground.git(tree, "log", "--format=%s"), "three\ntwo\n");
    assert.equal((await ground.add(remote, { depth: 10 })).history, "full");
  });
});

Deno.test("acquire: a commit, a ref of another kind and a tag are mounted detached", async () => {
  for (const objectFormat of ["sha1", "sha256"] as const) {
    await onGround(async (ground) => {
      const remote = await ground.makeRemote({ objectFormat });
      // On no branch.
      await ground.git(remote, "checkout", "-q", "--detach");
      await ground.git(remote, "commit", "-q", "--allow-empty", "-m", "aside");
      await ground.git(remote, "update-ref", "refs/pull/5/head", "HEAD");
      await ground.git(remote, "checkout", "-q", "main");
      const oidOf = async (rev: string) => (await ground.git(remote, "rev-parse", rev)).trim();
      const aside = await oidOf("refs/pull/5/head");
      const cases: [string, string, string][] = [
        [aside, aside, aside],
        ["refs/pull/5/head", "refs/pull/5/head", aside],
        ["v1", "refs/tags/v1", await oidOf("v1^{commit}")],
        ["refs/tags/light", "refs/tags/light", await oidOf("light")],
      ];
      // A store of its own each, and one that is there.
      for (const depth of [2, null]) {
        for (const [branch, sourceRef, commit] of cases) {
          const record = await ground.add(remote, { branch, depth });
          assert.deepEqual(
            [record.ref, record.sourceRef, record.baseCommitOid, record.objectFormat],
            [null, sourceRef, commit, objectFormat],
          );
          const tree = await ground.workTreeOf(record);
          assert.equal(await ground.git(tree, "rev-parse", "HEAD"), `${commit}\n`);
          assert.equal(await ground.git(tree, "status", "--porcelain"), "");
        }
      }
      const [record] = ground.registry.all().filter(({ sourceRef, depth }) =>
        sourceRef === aside && depth === null
      );
      assert.ok(record !== undefined);
      const result = await fetchHistory(record, ground.layout, {
        repos: () => ground.registry.byStore(record.storeId),
      });
      assert.deepEqual([result.fetchResult, result.history], ["ok", "full"]);
      const tree = `${ground.dir}/tree-${record.id}`;
      assert.equal(await ground.git(tree, "log", "--format=%s"), "aside\nthree\ntwo\none\n");
      // Gone at the remote: the rest comes all the same.
      await ground.git(remote, "update-ref", "-d", "refs/pull/5/head");
      assert.equal((await fetchHistory(record, ground.layout)).fetchResult, "ok");
      const none = "0".repeat(aside.length - 1) + "1";
      const failure = await failureOf(ground.add(remote, { branch: none }));
      assert.match(failure.message, /does not have, or does not give, the commit 0+1/);
      await failureOf(ground.add(remote, { branch: "refs/pull/6/head", depth: 3 }));
    });
  }
});

Deno.test("acquire: a server without filters sends all blobs", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote({ filter: false });
    const record = await ground.add(remote);
    const tree = await ground.workTreeOf(record);
    await Deno.rename(remote, `${remote}.gone`);
    assert.equal(await ground.git(tree, "show", "HEAD:file"), "three\n");
    assert.equal(await ground.git(tree, "status", "--porcelain"), "");
  });
});

Deno.test("acquire: bad remotes fail in one line and leave nothing", async () => {
  await onGround(async (ground) => {
    const plain = `${ground.dir}/plain`;
    await Deno.mkdir(plain);
    const empty = await ground.makeRemote({ empty: true });
    const cases: [string, RegExp, Failure["kind"]][] = [
      [`${ground.dir}/nothing`, /no such directory/, "failed"],
      [`file://${ground.dir}/nothing`, /no git repository there/, "failed"],
      [plain, /no git repository there/, "failed"],
      [empty, /is empty/, "failed"],
      ["http://127.0.0.1:1/x", /cannot be reached/, "network"],
      ["https://name.invalid/x", /cannot be reached/, "network"],
      ["ext::sh -c id", /use https/, "usage"],
      ["--upload-pack=x", /dash/, "usage"],
    ];
    for (const [url, text, kind] of cases) {
      const failure = await failureOf(ground.add(url));
      assert.match(failure.message, text);
      assert.equal(failure.kind, kind, failure.message);
    }
    for (const name of ["", "a/b", "..", ".", "a\nb", "-x"]) {
      assert.equal((await failureOf(ground.add(empty, { name }))).kind, "usage");
    }
    assert.deepEqual(leftovers(await listTree(ground.layout.stateRoot)), []);
    assert.deepEqual(ground.registry.all(), []);
  });
});

Deno.test("acquire: another commit than the required one is refused, and nothing is left", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const oidOf = async (rev: string) => (await ground.git(remote, "rev-parse", rev)).trim() as Oid;
    const [last, first] = [await oidOf("main"), await oidOf("v1^{commit}")];
    const failure = await failureOf(ground.add(remote, { requiredCommitOid: first }));
    assert.equal(failure.kind, "failed");
    assert.ok(failure.message.includes(first) && failure.message.includes(last));
    assert.deepEqual(leftovers(await listTree(ground.layout.stateRoot)), []);
    const record = await ground.add(remote, { requiredCommitOid: last });
    assert.equal(ground.registry.byId(record.id)?.requiredCommitOid, last);
    // An annotated tag is at a commit too.
    await ground.add(remote, { branch: "v1", requiredCommitOid: first });
    const before = await listTree(ground.layout.stateRoot);
    await failureOf(ground.add(remote, { requiredCommitOid: first }));
    assert.deepEqual(await listTree(ground.layout.stateRoot), before);
  });
});

Deno.test("acquire: what takes longer than the limit is undone", async () => {
  await onGround(async (ground) => {
    await ground.makeRemote({ name: "remote" });
    await using daemon = startGitDaemon(ground.dir);
    daemon.set({ silent: true });
    const failure = await failureOf(ground.add(daemon.url("remote"), {}, { limitMs: 200 }));
    assert.match(failure.message, /^Cannot prepare "repo\d+": it was not done within/);
    assert.deepEqual(leftovers(await listTree(ground.layout.stateRoot)), []);
  });
});

Deno.test("acquire: a row that cannot be written undoes all, and an existing store stays", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const twice = { name: "same" };
    const refuse = () => {
      throw new Failure("usage", "Cannot use it: taken");
    };
    await failureOf(ground.add(remote, twice, { register: refuse }));
    assert.deepEqual(leftovers(await listTree(ground.layout.stateRoot)), []);
    await ground.add(remote, twice);
    const before = await listTree(ground.layout.stateRoot);
    const failure = await failureOf(ground.add(remote, twice));
    assert.match(failure.message, /another repository has it/);
    await failureOf(ground.add(remote, { branch: "nope" }));
    assert.deepEqual(await listTree(ground.layout.stateRoot), before);
  });
});

Deno.test("acquire: an abort at any moment leaves nothing", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    for (const delayMs of [0, 3, 6, 10, 15, 20, 30, 40]) {
      const abort = new AbortController();
      const timer = setTimeout(() => abort.abort(), delayMs);
      const result = await ground.add(remote, {}, { signal: abort.signal }).then(
        (record) => record,
        (error: unknown) => error,
      );
      clearTimeout(timer);
      if (!(result instanceof Error)) {
        // It was faster.
        break;
      }
      assert.match(result.message, /interrupted/);
      assert.deepEqual(leftovers(await listTree(ground.layout.stateRoot)), []);
    }
  });
});

Deno.test("acquire: an abort while the server is silent", async () => {
  await onGround(async (ground) => {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const connections: Deno.Conn[] = [];
    const accepting = (async () => {
      for await (const connection of listener) connections.push(connection);
    })();
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 200);
    const url = `http://127.0.0.1:${(listener.addr as Deno.NetAddr).port}/x`;
    const start = Date.now();
    const failure = await failureOf(ground.add(url, {}, { signal: abort.signal }));
    assert.match(failure.message, /interrupted/);
    assert.ok(Date.now() - start < 10_000);
    listener.close();
    await accepting;
    for (const connection of connections) connection.close();
    assert.deepEqual(leftovers(await listTree(ground.layout.stateRoot)), []);
  });
});

Deno.test("acquire: four at the same time make one store", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const records = await Promise.all([1, 2, 3, 4].map(() => ground.add(remote)));
    assert.equal(new Set(records.map((record) => record.storeId)).size, 1);
    assert.equal(new Set(records.map((record) => record.id)).size, 4);
    for (const record of records) {
      const dir = userGitDirOf(record, ground.layout);
      assert.equal((await readHead(dir)).commitOid, record.baseCommitOid);
      assert.deepEqual(await aheadBehind(dir), { ahead: 0, behind: 0 });
    }
    // No locks, no temporary folders.
    const odd = (await listTree(ground.layout.stateRoot)).filter((line) =>
      /\.new|\.lock|\.history|tmp/.test(line)
    );
    assert.deepEqual(odd, []);
  });
});

for (const umask of [0o000, 0o022, 0o077]) {
  Deno.test(`acquire: rights with umask ${umask.toString(8).padStart(3, "0")}`, async () => {
    await onGround(async (ground) => {
      const remote = await ground.makeRemote();
      const before = Deno.umask(umask);
      try {
        await ground.add(remote);
      } finally {
        Deno.umask(before);
      }
      const wrong = (await listTree(ground.layout.stateRoot)).filter((line) => !rightsHold(line));
      assert.deepEqual(wrong, []);
    });
  });
}

/** The table of layout.ts. */
function rightsHold(line: string): boolean {
  const [mode = "", path = ""] = line.split(" ");
  if (/^(?:credentials|convert|empty|gitdirs|stores|stores\/\w+)$/.test(path)) {
    return mode === "711";
  }
  if (/^repos(?:\/\w+(?:\/view)?)?$/.test(path)) return mode === "700";
  if (/^gitdirs\/\w+$/.test(path)) return mode === "700";
  if (/^convert\/\w+$/.test(path)) return mode === "711";
  if (/^(?:repos|credentials|registry)/.test(path)) return mode === "600" || mode === "700";
  if (/^stores\/\w+\/git\/objects\/pack\/./.test(path)) return mode === "444";
  return mode === "755" || mode === "644" || mode === "444";
}

Deno.test({
  name: "acquire: the owner's git works, and everything of theirs is theirs",
  ignore: !isRoot,
  fn: async () => {
    await onGround(async (ground) => {
      const remote = await ground.makeRemote();
      const record = await ground.add(remote, { uid: 65534, gid: 65534 });
      const { userGitDir } = ground.layout.repo(record.id);
      const tree = await ground.workTreeOf(record);
      await new Deno.Command("chown", { args: ["-R", "65534:65534", tree] }).output();
      const output = await new Deno.Command("git", {
        args: ["status", "--porcelain=v2", "--branch"],
        cwd: tree,
        uid: 65534,
        gid: 65534,
        env: { HOME: "/nonexistent", GIT_CONFIG_GLOBAL: "/dev/null" },
      }).output();
      const text = new TextDecoder().decode(output.stdout);
      assert.match(text, /# branch\.ab \+0 -0/, new TextDecoder().decode(output.stderr));
      for (const line of await listTree(userGitDir)) {
        const path = `${userGitDir}/${line.split(" ")[1]}`;
        assert.equal((await Deno.lstat(path)).uid, 65534, path);
      }
    });
  },
});

Deno.test({
  name: "acquire: a hostile git directory runs nothing as root",
  ignore: !isRoot,
  fn: async () => {
    await onGround(async (ground) => {
      const record = await ground.add(await ground.makeRemote(), { uid: 65534, gid: 65534 });
      const { userGitDir } = ground.layout.repo(record.id);
      const proof = `${ground.dir}/proof`;
      await Deno.mkdir(proof);
      await Deno.chmod(proof, 0o777);
      await Deno.writeTextFile(
        `${userGitDir}/config`,
        `\n[core]\n\tfsmonitor = "id -u >>${proof}/ran; false"\n\tpager = "id -u >>${proof}/ran"\n`,
        { append: true },
      );
      const dir = userGitDirOf(record, ground.layout);
      assert.deepEqual(dir.owner, { uid: 65534, gid: 65534 });
      await readHead(dir);
      await aheadBehind(dir);
      const ran = await Deno.readTextFile(`${proof}/ran`).catch(() => "");
      assert.doesNotMatch(ran, /^0$/m);
    });
  },
});

Deno.test("acquire: a path with odd characters", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote({ name: "a b%41?#é'\"\\x" });
    const record = await ground.add(remote);
    assert.equal(record.remote, fileUrlOf(remote));
    const { userGitDir } = ground.layout.repo(record.id);
    const env = { GIT_DIR: userGitDir, GIT_CONFIG_GLOBAL: "/dev/null" };
    const output = await new Deno.Command("git", { args: ["show", "HEAD:file"], env }).output();
    assert.equal(new TextDecoder().decode(output.stdout), "three\n");
    const relative = await ground.add(`./${remote.split("/").at(-1)}`, { cwd: ground.dir });
    assert.equal(relative.storeId, record.storeId);
  });
});

Deno.test("acquire: a server that says nothing is given up, and nothing is left", async () => {
  await onGround(async (ground) => {
    await ground.makeRemote({ name: "remote" });
    await using daemon = startGitDaemon(ground.dir);
    const clock = { now: () => 0, sleep: (_: number, s?: AbortSignal) => systemClock.sleep(1, s) };
    daemon.set({ silent: true });
    const before = await listTree(ground.layout.stateRoot);
    const failure = await failureOf(ground.add(daemon.url("remote"), {}, { clock }));
    assert.equal(failure.kind, "network");
    assert.match(failure.message, /^Cannot mount git:.*nothing arrived for 30 s/);
    assert.deepEqual(await listTree(ground.layout.stateRoot), before);
    // The same of a store that is there, and of the history.
    daemon.set({ silent: false });
    const record = await ground.add(daemon.url("remote"));
    daemon.set({ silent: true });
    const second = await failureOf(ground.add(daemon.url("remote"), {}, { clock }));
    assert.match(second.message, /nothing arrived for 30 s/);
    const history = await fetchHistory(record, ground.layout, { clock });
    assert.equal(history.failure?.kind, "network");
    assert.match(history.fetchResult, /nothing arrived for 30 s/);
    daemon.set({ silent: false });
    assert.equal((await fetchHistory(record, ground.layout)).fetchResult, "ok");
  });
});
