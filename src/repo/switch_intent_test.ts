import assert from "node:assert/strict";
import { parseIndex } from "../git/index_file.ts";
import { mergedIndex, mergeIndex } from "../git/index_merge.ts";
import type { Oid } from "../git/oid.ts";
import { resolveTarget } from "../git/switch_target.ts";
import { treeChanges } from "../git/tree_changes.ts";
import {
  type HeadMove,
  installIndex,
  lockIndex,
  moveHead,
  unlockIndex,
  writeLockedIndex,
} from "../git/user_index.ts";
import { OverlayStore } from "../overlay/store.ts";
import { S_IFDIR } from "../overlay/inode.ts";
import { ROOT_INO } from "../vfs/ino.ts";
import { userGitDirOf } from "./owner.ts";
import { indexHashOf, recoverSwitch, removeIntent, writeIntent } from "./switch_intent.ts";
import { type Ground, onGround } from "./testing.ts";
import type { RepoRecord } from "./types.ts";

const NONCE = "afs switch test";

/** A repository with another branch, and everything a switch to it would do. */
async function prepare(ground: Ground) {
  const record = await ground.add(`file://${await ground.makeRemote()}`);
  const { layout } = ground;
  const paths = layout.repo(record.id);
  const { userGitDir, viewDir } = paths;
  const inUser = async (...args: string[]) =>
    (await ground.git("/", "--git-dir", userGitDir, ...args)).trim();
  // The tree of main without `file`, which nobody has changed.
  const list = (await inUser("ls-tree", "HEAD")).split("\n");
  const [dir = ""] = list.filter((line) => line.endsWith("\tdir"));
  const tree = await mktree(userGitDir, `${dir}\n${dir.replace(/dir$/, "moved")}\n`);
  const commit = await inUser("commit-tree", "-p", "HEAD", "-m", "other", tree);
  await inUser("branch", "other", commit);
  const gitDir = userGitDirOf(record, layout);
  const resolved = await resolveTarget(gitDir, "other");
  assert.ok(resolved.kind === "resolved");
  const { head, target } = resolved;
  assert.deepEqual(target, {
    name: "other",
    ref: "refs/heads/other",
    commitOid: commit,
    treeOid: tree,
    follows: null,
  });
  const { gitDir: storeGitDir } = ground.layout.store(record.storeId);
  const source = { dir: gitDir, viewDir, storeGitDir, objectFormat: record.objectFormat };
  const changes = await treeChanges(source, head.treeOid, target.treeOid);
  const before = Deno.readFileSync(`${userGitDir}/index`);
  const index = parseIndex(before, "sha1");
  const merge = mergeIndex(index, changes);
  assert.ok(merge.kind === "merged");
  const after = mergedIndex(index, merge.merged, changes, null);
  const move: HeadMove = {
    ref: "refs/heads/other",
    commitOid: target.commitOid,
    message: "checkout: moving from main to other",
    committer: "Me <me@example.com> 1 +0000",
    follows: null,
  };
  const steps = [
    () => writeIntent(paths, { phase: "locking", nonce: NONCE }),
    async () => assert.equal((await lockIndex(gitDir, NONCE)).kind, "locked"),
    () =>
      writeIntent(paths, {
        phase: "switching",
        nonce: NONCE,
        fromCommitOid: head.commitOid,
        fromRef: head.ref,
        fromTreeOid: head.treeOid,
        toTreeOid: target.treeOid,
        toTreeId: target.treeOid,
        conversion: "none",
        indexHash: indexHashOf(before),
        move,
      }),
    () => Promise.resolve(showTree(ground, record, target.treeOid)),
    () => writeLockedIndex(gitDir, after, 1_700_000_000),
    () => moveHead(gitDir, move),
    () => installIndex(gitDir),
    () => removeIntent(paths),
  ];
  return { record, paths, inUser, gitDir, head, target, before, after, steps };
}

async function mktree(gitDir: string, text: string): Promise<Oid> {
  const child = new Deno.Command("git", {
    args: ["--git-dir", gitDir, "mktree", "--missing"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(text));
  await writer.close();
  return (await new Response(child.stdout).text()).trim() as Oid;
}

/** As a mount does, which says what is beneath the root. */
function showTree({ layout }: Ground, { id }: RepoRecord, oid: Oid): void {
  Deno.mkdirSync(layout.repo(id).overlayDir, { recursive: true });
  const store = new OverlayStore(layout.repo(id).overlayPath);
  store.open();
  store.transaction(() =>
    store.putInode({
      ino: ROOT_INO,
      mode: S_IFDIR | 0o755,
      uid: 0,
      gid: 0,
      rdev: 0,
      nlink: 1,
      atimeSeconds: 0,
      atimeNanoseconds: 0,
      mtimeSeconds: 0,
      mtimeNanoseconds: 0,
      ctimeSeconds: 0,
      ctimeNanoseconds: 0,
      content: 0,
      oid,
      target: null,
    })
  );
  store.close({ clean: true });
}

const leftovers = (path: string) =>
  [...Deno.readDirSync(path)].map(({ name }) => name).filter((name) => name.includes(".lock"));

Deno.test("a kill after each step of a switch leaves the commit before or the one after", async () => {
  for (let count = 0; count <= 8; count++) {
    await onGround(async (ground) => {
      const it = await prepare(ground);
      for (const step of it.steps.slice(0, count)) await step();
      const record = await recoverSwitch(it.record, ground.layout, ground.registry);
      const done = count >= 4;
      const expected = done ? it.target : it.head;
      const what = `after ${count} steps`;
      assert.equal(await it.inUser("rev-parse", "HEAD"), expected.commitOid, what);
      assert.equal(await it.inUser("symbolic-ref", "HEAD"), expected.ref, what);
      assert.equal(await it.inUser("write-tree"), expected.treeOid, what);
      // The last one is told by nobody but the follower.
      if (count < 8) assert.equal(record.baseTreeOid, expected.treeOid, what);
      assert.deepEqual(leftovers(it.paths.userGitDir), [], what);
      assert.throws(() => Deno.lstatSync(it.paths.switchIntentPath), Deno.errors.NotFound, what);
      if (!done) return;
      assert.match(
        await it.inUser("reflog", "-1", "--format=%gs %gn <%ge>"),
        /^checkout: moving from main to other Me <me@example.com>$/,
      );
    });
  }
});

Deno.test("who went on after a kill is left alone", async (t) => {
  await t.step("HEAD is elsewhere", () =>
    onGround(async (ground) => {
      const it = await prepare(ground);
      for (const step of it.steps.slice(0, 4)) await step();
      await it.inUser("branch", "third", "HEAD");
      await it.inUser("symbolic-ref", "HEAD", "refs/heads/third");
      await recoverSwitch(it.record, ground.layout, ground.registry);
      assert.equal(await it.inUser("symbolic-ref", "HEAD"), "refs/heads/third");
      assert.deepEqual(Deno.readFileSync(`${it.paths.userGitDir}/index`), it.before);
    }));
  await t.step("another index", () =>
    onGround(async (ground) => {
      const it = await prepare(ground);
      for (const step of it.steps.slice(0, 4)) await step();
      await unlockIndex(it.gitDir, NONCE);
      await it.inUser("read-tree", "HEAD");
      const index = Deno.readFileSync(`${it.paths.userGitDir}/index`);
      await recoverSwitch(it.record, ground.layout, ground.registry);
      assert.equal(await it.inUser("symbolic-ref", "HEAD"), "refs/heads/main");
      assert.deepEqual(Deno.readFileSync(`${it.paths.userGitDir}/index`), index);
      assert.deepEqual(leftovers(it.paths.userGitDir), []);
    }));
  await t.step("a lock that is not ours", () =>
    onGround(async (ground) => {
      const it = await prepare(ground);
      await it.steps[0]?.();
      Deno.writeTextFileSync(`${it.paths.userGitDir}/index.lock`, "");
      assert.equal((await lockIndex(it.gitDir, NONCE)).kind, "busy");
      await recoverSwitch(it.record, ground.layout, ground.registry);
      assert.deepEqual(leftovers(it.paths.userGitDir), ["index.lock"]);
    }));
});

Deno.test("an intent that is none is left behind, with a word in the log", async () => {
  await onGround(async (ground) => {
    const it = await prepare(ground);
    Deno.writeTextFileSync(it.paths.switchIntentPath, "{");
    assert.deepEqual(await recoverSwitch(it.record, ground.layout, ground.registry), it.record);
  });
});

Deno.test("what git would not switch to plainly is left to it", async () => {
  await onGround(async (ground) => {
    const it = await prepare(ground);
    const kind = async (name: string) => {
      const resolved = await resolveTarget(it.gitDir, name);
      return resolved.kind === "unclear" ? "unclear" : resolved.target.ref ?? "detached";
    };
    await it.inUser("tag", "t", "other");
    await it.inUser("update-ref", "refs/remotes/origin/remote/only", "other");
    assert.equal(await kind("other"), "refs/heads/other");
    assert.equal(await kind("t"), "detached");
    assert.equal(await kind(it.target.commitOid), "detached");
    assert.equal(await kind("other~0"), "detached");
    assert.equal(await kind("remote/only"), "refs/heads/remote/only");
    assert.equal(await kind("only"), "unclear");
    assert.equal(await kind("main"), "unclear");
    assert.equal(await kind("HEAD"), "unclear");
    for (const name of ["none", "-f", "", "--detach", "a b", "refs/heads/../x", "*"]) {
      assert.equal(await kind(name), "unclear", name);
    }
    await it.inUser("update-ref", "refs/remotes/fork/remote/only", "main");
    assert.equal(await kind("remote/only"), "unclear");
  });
});
