/**
 * The mount's side of a switch with a real kernel: what it holds of the tree before is gone when
 * the switch is done, what processes hold is not, and nobody at work in the mount stands still.
 */

import assert from "node:assert/strict";
import { LineChild } from "../support/lines.ts";
import { git, run } from "../support/run.ts";
import { fixture, type Lab, mountTest } from "./harness.ts";
import type { HeldJson } from "./switch_hold_main.ts";
import type { SwitchedJson } from "./switch_main.ts";

const pathOf = (relative: string) =>
  decodeURIComponent(new URL(relative, import.meta.url).pathname);

/** Branch `a` and branch `b`, of which 500 files in 50 directories differ. */
const remote = fixture(async (gitDir) => {
  const script = `
    git init -q -b a "$1"; cd "$1"
    git config user.name A; git config user.email a@example.com
    commit() { git add -A; git commit -qm "$1"; }
    tree() {
      mkdir -p dir kept gone/deep
      for d in $(seq 50); do
        mkdir -p "many/$d"
        for f in $(seq 10); do echo "$1 $d $f" >"many/$d/$f"; done
        echo same >"many/$d/same"
      done
      echo "$1 text" >dir/changed; echo same >dir/same; echo same >kept/same
    }
    tree a; echo here >dir/removed; ln -s same dir/link; echo x >gone/deep/x; echo y >gone/y
    echo kind >kind; commit a
    git checkout -qb b; git rm -rq gone dir/removed; tree b; rm -rf gone
    echo new >dir/added; mkdir -p fresh/sub; echo f >fresh/sub/f; rm kind; mkdir kind
    echo inside >kind/inside; rm dir/link; ln -s changed dir/link; commit b
    git checkout -q a`;
  await run("sh", ["-euc", script, "sh", `${gitDir}.work`]);
  await git(["clone", "-q", "--bare", `${gitDir}.work`, gitDir]);
  const tree = async (name: string) =>
    (await git(["--git-dir", gitDir, "rev-parse", `${name}^{tree}`])).stdout.trim();
  return { gitDir, a: await tree("a"), b: await tree("b") };
});

class WorkTree {
  private constructor(
    readonly lab: Lab,
    readonly path: string,
    readonly server: LineChild,
    readonly trees: { readonly a: string; readonly b: string },
  ) {}

  static async mount(lab: Lab): Promise<WorkTree> {
    const repo = await remote();
    await git(["clone", "-q", "--bare", repo.gitDir, lab.at("remotes", "repo.git")]);
    await lab.startDaemon();
    const path = await lab.mount(lab.serve().url("repo"), "repo", "--wait=history");
    await lab.endDaemon();
    return new WorkTree(lab, path, await WorkTree.#serve(lab), repo);
  }

  static async #serve(lab: Lab): Promise<LineChild> {
    const options = { env: lab.env, logPath: lab.at("switch.log") };
    const server = new LineChild(pathOf("./switch_main.ts"), ["repo"], options);
    assert.equal(await server.next(), "mounted");
    return server;
  }

  async sh(script: string, ...args: string[]): Promise<string> {
    const { stdout } = await this.lab.sh(`cd "$1"; shift; ${script}`, [this.path, ...args]);
    return stdout;
  }

  /** Of the file monitor, with which nothing is unread. */
  async token(): Promise<string> {
    return (await this.sh(`ask() { cat .afs-*/fsmonitor/"t-$1" 2>/dev/null || cat "$dir/t-$1"; }
      dir="$(git config core.fsmonitor | grep -o '[.]afs-[0-9a-f]*')/fsmonitor"
      first() { cat "$dir/t-$1" | tr '\\0' '\\n' | head -n 1; }
      first "$(first x)"`)).trim();
  }

  async switchTo(from: "a" | "b", to: "a" | "b"): Promise<SwitchedJson> {
    const { trees } = this;
    const request = { from: trees[from], to: trees[to], token: await this.token() };
    return await this.server.ask(request) as SwitchedJson;
  }

  /** All that shows is the branch, and what is at `others`. */
  async shows(branch: "a" | "b", ...others: string[]): Promise<void> {
    const script = `git --git-dir "$1" archive "$2" | tar x -C "$3"
      for other; do :; done; shift 3; for other; do mkdir -p "$(dirname "$WANT/$other")"
      cp -r "$other" "$WANT/$other"; done
      diff -r --no-dereference -x .git . "$WANT"; find . -type f -exec cat {} + >/dev/null`;
    const want = await Deno.makeTempDir({ dir: this.lab.at(), prefix: "want-" });
    const { gitDir } = await remote();
    await this.lab.sh(
      `cd "$1"; shift; ${script}`,
      [this.path, gitDir, branch, want, ...others],
      { env: { WANT: want } },
    );
  }

  async end(): Promise<void> {
    assert.equal(await this.server.finish(), 0);
  }
}

mountTest("switch: what the kernel has cached is the other commit's", async (lab, t) => {
  const tree = await WorkTree.mount(lab);
  // Everything is listed and read, and what is not there is known not to be.
  await tree.shows("a");
  await tree.sh("ls dir/added fresh kind/inside 2>/dev/null || true; echo mine >untracked");
  await t.step("there", async () => {
    const done = await tree.switchTo("a", "b");
    assert.deepEqual([done.outcome, done.reason], ["done", null]);
    assert.equal(done.paths.length, 505);
    assert.deepEqual([...done.directories].sort(), ["", "dir", "fresh", "fresh/sub", "kind"]);
    await tree.shows("b", "untracked");
    const inos = await tree.sh('stat -c "%i %Y %n" "$@"', ...done.paths);
    for (const [i, line] of inos.trimEnd().split("\n").entries()) {
      assert.equal(line, `${done.inos[i]} ${done.timeSeconds} ${done.paths[i]}`);
    }
    assert.equal(await tree.sh("ls -i dir | awk '{print $2}'"), "added\nchanged\nlink\nsame\n");
    console.log(`      500 files: ${done.durationMs} ms, ${done.wholeMs.toFixed()} ms with all`);
  });
  await t.step("back, and there again", async () => {
    await tree.switchTo("b", "a");
    await tree.shows("a", "untracked");
    await tree.switchTo("a", "b");
    await tree.shows("b", "untracked");
  });
  await t.step("refused: the kernel goes on with what it has", async () => {
    await tree.sh("echo mine >>dir/changed");
    const { outcome, reason } = await tree.switchTo("b", "a");
    assert.deepEqual([outcome, reason], ["refused", "dir/changed: was changed"]);
    assert.equal(await tree.sh("cat dir/changed"), "b text\nmine\n");
  });
  await tree.end();
});

mountTest("switch: processes keep what they hold", async (lab) => {
  const tree = await WorkTree.mount(lab);
  const at = (path: string) => `${tree.path}/${path}`;
  const hold = (...paths: string[]) =>
    new LineChild(pathOf("./switch_hold_main.ts"), paths.map(at), {
      env: lab.env,
      logPath: lab.at("hold.log"),
    });
  const holders = [
    hold("dir", "dir/changed", "dir/removed", "dir/added"),
    hold("kept", "many/1/1", "many/2/2", "dir/added"),
  ];
  for (const holder of holders) assert.equal(await holder.next(), "ready");
  await tree.switchTo("a", "b");
  const [first, second] = await Promise.all(holders.map((holder) => holder.ask("go"))) as [
    HeldJson,
    HeldJson,
  ];
  assert.deepEqual(first, {
    opened: "a text\n",
    mapped: "here\n",
    nlink: 0,
    cwd: at("dir"),
    names: ["added", "changed", "link", "same"],
    missing: "new\n",
    now: "b text\n",
  });
  assert.deepEqual([second.opened, second.mapped, second.cwd, second.now], [
    "a 1 1\n",
    "a 2 2\n",
    at("kept"),
    "b 1 1\n",
  ]);
  for (const holder of holders) await holder.finish();
  await tree.end();
});

mountTest("switch: nobody stands still, however busy the directories are", async (lab) => {
  const tree = await WorkTree.mount(lab);
  const loop = (work: string) =>
    `cd "$1"; count=0
    while [ ! -e "$STOP" ]; do ${work}; count=$((count + 1)); done; echo "$count"`;
  const look = loop(`
    ls dir many/1 fresh kind >/dev/null 2>&1 || true
    for f in added removed changed $count; do cat "dir/$f" >/dev/null 2>&1 || true; done`);
  // Now and then, or the file monitor would always have something new.
  const make = loop(`
    for f in 1 2 3 4 5 6 7 8; do echo "$f" >"dir/own-$f"; mv "dir/own-$f" "many/1/own-$f"
      mkdir "dir/own"; rmdir "dir/own"; rm "many/1/own-$f"; done; sleep 0.3`);
  const stop = lab.at("stop");
  const workers = [look, look, look, make].map((script) =>
    lab.sh(script, [tree.path], { env: { STOP: stop } })
  );
  const { a, b } = tree.trees;
  let [from, to] = [a, b];
  const done = { done: 0, refused: 0 };
  while (done.done < 20) {
    // Directories are busy, so the file monitor often has something new by then.
    const answer = await tree.server.ask({ from, to, token: await tree.token() }) as SwitchedJson;
    if (answer.outcome === "done") {
      assert.equal(answer.reason, null);
      done.done++;
      [from, to] = [to, from];
    } else {
      assert.equal(answer.reason, "the file monitor names everything");
      done.refused++;
    }
  }
  await Deno.writeTextFile(stop, "");
  for (const { stdout } of await Promise.all(workers)) assert.ok(Number(stdout) > 0);
  await tree.shows(from === a ? "a" : "b");
  await tree.end();
});
