/**
 * The suite: every case on two plain directories, which must agree; again with one of them broken,
 * which must show; and on a mounted repository against a plain directory.
 *
 * AFS_POSIX_CASES=<text> runs only the cases whose names contain the text.
 */

import assert from "node:assert/strict";
import { allowFilter, type Lab, mountTest } from "../mount/harness.ts";
import { tempDir } from "../support/run.ts";
import { directoryOf, type Origin, originsOf, type PosixCase } from "./case.ts";
import { CASES } from "./cases/mod.ts";
import { FAULTS } from "./faults.ts";
import { commitFixture } from "./fixture.ts";
import { runCase, Side } from "./runner.ts";
import { compareStates, type State } from "./state.ts";

const wanted = Deno.env.get("AFS_POSIX_CASES") ?? "";
const SELECTED = CASES.filter(({ name }) => name.includes(wanted));
const NOT_ROOT = Deno.uid() === 0 ? null : "cases run as several users, which takes root";

interface Run {
  /** As in the output. */
  readonly name: string;
  readonly test: PosixCase;
  readonly origin: Origin;
}

/** Every case with each of its origins. */
const RUNS: readonly Run[] = SELECTED.flatMap((
  test,
) =>
  originsOf(test).map((origin) => ({
    name: test.fixture === undefined ? test.name : `${test.name} [${origin}]`,
    test,
    origin,
  }))
);

/** So many steps that hang, and the rest of the cases is not run: each costs a whole guard. */
const MAX_HUNG = 3;

async function runAll(
  t: Deno.TestContext,
  runs: readonly Run[],
  plain: Side,
  tested: Side,
): Promise<void> {
  const xattr = await xattrErrno(tested);
  for (const { name, test, origin } of runs) {
    if (tested.hungCount >= MAX_HUNG) assert.fail(`${MAX_HUNG} steps hang: the rest is not run`);
    const isAble = test.needs !== "xattr" || xattr === "";
    await t.step({
      name: isAble ? name : `${name} (skipped: extended attributes: ${xattr})`,
      ignore: !isAble,
      fn: async () => {
        const differences = await runCase(plain, tested, test, origin);
        assert.deepEqual(differences, [], `${name}:\n${differences.join("\n")}`);
      },
    });
  }
}

/** "" where a directory has extended attributes. */
async function xattrErrno(side: Side): Promise<string> {
  const reply = await side.ask("root", { kind: "probe", directory: side.root });
  assert.ok("value" in reply, JSON.stringify(reply));
  return reply.value as string;
}

/** Two directories that other users can reach. */
async function plainPair(): Promise<{ a: string; b: string } & AsyncDisposable> {
  const dir = await tempDir("afs-posix-");
  await Deno.chmod(dir.path, 0o755);
  for (const name of ["a", "b"]) await Deno.mkdir(dir.at(name));
  return { a: dir.at("a"), b: dir.at("b"), [Symbol.asyncDispose]: dir.remove };
}

function rootTest(name: string, body: (t: Deno.TestContext) => Promise<void>): void {
  const shown = NOT_ROOT === null ? name : `${name} (skipped: ${NOT_ROOT})`;
  Deno.test({ name: shown, ignore: NOT_ROOT !== null, fn: body });
}

Deno.test("posix: names of cases and their directories are unique", () => {
  assert.equal(new Set(CASES.map(({ name }) => name)).size, CASES.length);
  const directories = CASES.flatMap((test) => originsOf(test).map((o) => directoryOf(test, o)));
  assert.equal(new Set(directories).size, directories.length);
  for (const directory of directories) assert.ok(directory.length < 200, directory);
});

rootTest("posix: two plain directories agree", async (t) => {
  await using dirs = await plainPair();
  const sides = [new Side(dirs.a), new Side(dirs.b)] as const;
  try {
    await runAll(t, RUNS, ...sides);
  } finally {
    await Promise.all(sides.map((side) => side.end()));
  }
});

rootTest("posix: a broken file system is seen", async (t) => {
  for (const [fault, { area }] of Object.entries(FAULTS)) {
    const runs = CASES.filter(({ name }) => name.startsWith(area));
    await t.step(fault, async () => {
      await using dirs = await plainPair();
      const sides = [new Side(dirs.a), new Side(dirs.b, { fault })] as const;
      try {
        for (const test of runs) {
          const differences = await runCase(...sides, test, "made");
          if (differences.length > 0) return;
        }
        assert.fail(`no case of ${runs.length} has seen it`);
      } finally {
        await Promise.all(sides.map((side) => side.end()));
      }
    });
  }
});

rootTest("posix: a step that hangs or dies fails its case, and the next case runs", async () => {
  const test = CASES.find(({ name }) => name === "rename: counts of links of directories");
  const mkdir = CASES.find(({ name }) => name === "readdir: an empty directory");
  assert.ok(test !== undefined && mkdir !== undefined);
  for (
    const { fault, guardMs, message } of [
      { fault: "mkdir never ends", guardMs: 10_000, message: /mkdir.*no reply after 10000 ms/ },
      {
        fault: "mkdir ends the process",
        guardMs: 60_000,
        message: /mkdir.*has ended with SIGKILL/,
      },
    ]
  ) {
    await using dirs = await plainPair();
    const sides = [new Side(dirs.a), new Side(dirs.b, { fault, guardMs })] as const;
    try {
      const differences = await runCase(...sides, mkdir, "made");
      assert.equal(differences.length, 1);
      assert.match(differences[0] ?? "", message);
      assert.equal(sides[1].hungCount, guardMs === 10_000 ? 1 : 0);
      assert.deepEqual(await runCase(...sides, test, "made"), []);
    } finally {
      await Promise.all(sides.map((side) => side.end()));
    }
  }
});

/**
 * A repository with a directory for each case that starts from files of its commit, mounted; all
 * cases against a plain directory.
 */
async function compareMount(
  lab: Lab,
  t: Deno.TestContext,
  runs: readonly Run[],
  ...flags: string[]
): Promise<void> {
  const base = runs.filter(({ origin }) => origin === "base")
    .map(({ test }) => [directoryOf(test, "base"), test.fixture ?? []] as const);
  const gitDir = lab.at("cases.git");
  await commitFixture(gitDir, new Map(base));
  await allowFilter(gitDir);
  const daemon = await lab.startDaemon();
  const mountPoint = await lab.mount(`file://${gitDir}`, "cases", ...flags);
  await Deno.mkdir(lab.at("plain"));
  const sides = [new Side(lab.at("plain")), new Side(mountPoint, { isMount: true })] as const;
  try {
    await runAll(t, runs, ...sides);
    const xattr = flags.includes("--xattr");
    const shown = await exactState(sides[1], xattr);
    await t.step("everything again, when the kernel has forgotten it", async () => {
      await sides[1].end();
      await lab.dropCaches();
      assert.deepEqual(compareStates(shown, await exactState(sides[1], xattr)), []);
    });
    await t.step("everything again, after a restart of the daemon", async () => {
      await sides[1].end();
      assert.equal(await daemon.stop(), 0);
      await lab.startDaemon();
      assert.deepEqual(compareStates(shown, await exactState(sides[1], xattr)), []);
    });
  } finally {
    await Promise.all(sides.map((side) => side.end()));
  }
}

/** All that the cases have left, with times in nanoseconds and inode numbers. */
async function exactState(side: Side, xattr: boolean): Promise<State> {
  const reply = await side.ask("root", { kind: "exact", directory: side.root, xattr });
  assert.ok("value" in reply, JSON.stringify(reply));
  const state = reply.value as State;
  assert.ok(Object.keys(state).length > 1);
  return state;
}

mountTest("posix: a mount and a plain directory agree", async (lab, t) => {
  await compareMount(lab, t, RUNS.filter(({ test }) => test.needs === undefined));
});

/** With extended attributes it is the server that takes setuid and setgid away. */
mountTest("posix: a mount with extended attributes and a plain directory agree", async (lab, t) => {
  const runs = RUNS.filter(({ test: { name, needs } }) =>
    needs === "xattr" || /^(suid|chown|chmod|setgid)/.test(name)
  );
  await compareMount(lab, t, runs, "--xattr");
});
