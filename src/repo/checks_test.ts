import assert from "node:assert/strict";
import { Failure } from "../failure.ts";
import type { HostPath } from "../path.ts";
import {
  checkBranch,
  checkDepth,
  checkMountPoint,
  checkName,
  makeMountPoint,
  removeMountPoint,
} from "./checks.ts";
import type { RepoRecord } from "./types.ts";

Deno.test("checkName: what may be a name", () => {
  for (const name of ["a", "workers-sdk", "ä", ".x", "a b", "a..b"]) checkName(name);
  const bad = ["", ".", "..", "a/b", "a\nb", "a\0", "-x", " a", "x".repeat(256), "ä".repeat(128)];
  for (const name of bad) assert.throws(() => checkName(name), Failure, JSON.stringify(name));
});

Deno.test("checkBranch: as git check-ref-format", async () => {
  const names = [
    "main",
    "a/b",
    "v1.0",
    "refs/heads/x",
    "ä",
    "@x",
    "",
    "-x",
    "/a",
    "a/",
    "a..b",
    "a b",
    "a~1",
    "a^",
    "a:b",
    "a?",
    "a*",
    "a[",
    "a\\",
    "a.lock",
    "a.lock/b",
    "a@{b",
    ".a",
    "a/.b",
    "a//b",
    "a.",
    "a\x7f",
    "a\n",
  ];
  for (const name of names) {
    const git = await new Deno.Command("git", {
      args: ["check-ref-format", "--branch", name],
      cwd: "/",
      stderr: "null",
    }).output();
    let ours = true;
    try {
      checkBranch(name);
    } catch {
      ours = false;
    }
    assert.equal(ours, git.success, JSON.stringify(name));
  }
});

Deno.test("checkDepth", () => {
  for (const depth of [1, 50, 0x7ffffffe]) checkDepth(depth);
  for (const depth of [0, -1, 1.5, NaN, 0x7fffffff]) {
    assert.throws(() => checkDepth(depth), Failure);
  }
});

async function inFolder(fn: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await fn(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("checkMountPoint: absent, empty, and what is refused", async () => {
  await inFolder(async (dir) => {
    await Deno.mkdir(`${dir}/empty`);
    await Deno.mkdir(`${dir}/full/x`, { recursive: true });
    await Deno.writeTextFile(`${dir}/file`, "");
    await Deno.symlink("nowhere", `${dir}/link`);
    const stateRoot = `${dir}/state/root`;
    const check = (path: string) => checkMountPoint(path, { records: [], stateRoot });
    assert.deepEqual(await check(`${dir}/empty`), { path: `${dir}/empty`, state: "empty" });
    assert.deepEqual(await check(`${dir}/./new//deep/`), {
      path: `${dir}/new/deep`,
      state: "absent",
    });
    assert.equal((await check(`${stateRoot}2`)).state, "absent");
    for (
      const [path, text] of [
        ["relative", /not absolute/],
        ["/", /the root directory/],
        [`${dir}/full`, /not empty/],
        [`${dir}/file`, /not a directory/],
        [`${dir}/file/below`, /not a directory/],
        [`${dir}/link`, /link to nothing/],
        [`${dir}/a\nb`, /control/],
        [stateRoot, /it lies in the state root/],
        [`${stateRoot}/repos/./x`, /it lies in the state root/],
        [`${dir}/state`, /it holds the state root/],
      ] as const
    ) {
      await assert.rejects(check(path), (error: unknown) => {
        assert.ok(error instanceof Failure);
        assert.match(error.message, text);
        return error.message.startsWith("Cannot mount at ");
      });
    }
    const deny = { records: [], stateRoot, isWritable: () => false };
    await assert.rejects(checkMountPoint(`${dir}/empty`, deny), /may not write/);
    await assert.rejects(checkMountPoint(`${dir}/new`, deny), /may not make/);
  });
});

Deno.test("checkMountPoint: other mounts are refused without touching them", async () => {
  const records = [{ id: "1", name: "one", mountPoint: "/nowhere/one" }] as RepoRecord[];
  const check = (path: string, own?: string) =>
    checkMountPoint(path, { records, stateRoot: "/state", ...(own === undefined ? {} : { own }) });
  await assert.rejects(check("/nowhere/one"), /"one" is registered there/);
  await assert.rejects(check("/nowhere/one/sub"), /inside the mount of "one"/);
  assert.equal((await check("/nowhere/one", "1")).state, "absent");
  assert.equal((await check("/nowhere/onetwo")).state, "absent");
});

Deno.test("makeMountPoint: missing folders are made, and removed again while they are empty", async () => {
  await inFolder(async (dir) => {
    const path = `${dir}/a/b/c` as HostPath;
    const made = await makeMountPoint(path, null);
    assert.deepEqual(made, [`${dir}/a`, `${dir}/a/b`, path]);
    assert.deepEqual(await makeMountPoint(path, null), []);
    await Deno.writeTextFile(`${dir}/a/keep`, "");
    await removeMountPoint(made);
    assert.deepEqual([...Deno.readDirSync(`${dir}/a`)].map((entry) => entry.name), ["keep"]);
    await Deno.writeTextFile(`${dir}/file`, "");
    await assert.rejects(makeMountPoint(`${dir}/file/x` as HostPath, null), Failure);
  });
});
