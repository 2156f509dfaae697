/** Git's own commands in a mount that nobody has read, and in a clone with the whole history. */

import { acquire, type Bench, goCold, removeTree } from "../bench.ts";
import { type Daemon, GUARD_MS } from "../afs.ts";
import type { FigureId } from "../figures.ts";
import { REPO_NAME, scatteredFiles } from "../repository.ts";
import { resetTraffic, settledTraffic } from "../server.ts";
import { git } from "../../support/run.ts";

const WARM_PASSES = 5;
const CHANGED_FILES = 10;
/** Files that the commit differs in to which the figure of switching goes. */
const SWITCH_FILES = 500;

const IDENTITY = ["-c", "user.name=bench", "-c", "user.email=bench@example.invalid"];

export async function measureGit(bench: Bench, round: number): Promise<void> {
  const { world, server } = bench;
  const clone = world.fresh("clone");
  await git(["clone", "--quiet", server.url(REPO_NAME), clone], { timeoutMs: GUARD_MS });
  const { daemon } = await acquire(bench);
  await goCold(bench);
  try {
    await new Commands(bench, daemon, clone, round).measure();
  } finally {
    await daemon.stop();
    await removeTree(clone);
  }
}

/** The same commands on both sides, by turns. */
class Commands {
  readonly #bench: Bench;
  readonly #daemon: Daemon;
  readonly #mountPoint: string;
  readonly #clone: string;
  readonly #files: readonly string[];

  constructor(bench: Bench, daemon: Daemon, clone: string, round: number) {
    this.#bench = bench;
    this.#daemon = daemon;
    this.#mountPoint = daemon.mountPoint;
    this.#clone = clone;
    const files = scatteredFiles(bench.repository, 4 * CHANGED_FILES, round + 1);
    this.#files = files.filter((path) => /^[\w./-]+$/.test(path) && !path.includes(".git"));
  }

  async measure(): Promise<void> {
    await this.#run("statusFirst", [["status"]]);
    for (let i = 0; i < WARM_PASSES; i++) await this.#run("statusAgain", [["status"]]);
    for (let i = 0; i < WARM_PASSES; i++) await this.#commitOne(i);
    await this.#append(this.#files.slice(0, CHANGED_FILES), "more\n");
    await this.#run("diff", [["diff"]]);
    await this.#run("stash", [["stash", "--quiet"], ["stash", "pop", "--quiet"]]);
    await this.#run("reset", [["reset", "--quiet", "--hard"]]);
    const far = await this.#farCommit();
    await this.#switchAfs(far);
    await this.#switch(far);
    for (let i = 0; i < WARM_PASSES; i++) await this.#run("log", [["log", "-1"]]);
  }

  async #commitOne(i: number): Promise<void> {
    await this.#append(this.#files.slice(i, i + 1), `${i}\n`);
    await this.#run("statusChanged", [["status"]]);
    await this.#run("add", [["add", "-A"]]);
    await this.#run("commit", [["commit", "--quiet", "-m", "one"]]);
  }

  /** Before git does it: nobody has read what differs. */
  async #switchAfs(far: string): Promise<void> {
    const { recorder, server } = this.#bench;
    const to = async (id: FigureId, branch: string) => {
      await resetTraffic(server.control);
      const ms = await this.#daemon.switchTo(branch);
      const seen = await settledTraffic(server.control);
      recorder.afs(id, ms, seen);
      const args = ["-C", this.#clone, "switch", "--quiet", branch];
      recorder.plain(id, (await git(args, { timeoutMs: GUARD_MS })).durationMs);
      await this.#run("switchAfsStatus", [["status"]]);
      return seen.requests;
    };
    const { stdout } = await git(["-C", this.#clone, "symbolic-ref", "--short", "HEAD"]);
    for (const side of [this.#mountPoint, this.#clone]) {
      await git(["-C", side, "branch", "far", far]);
    }
    recorder.afs("switchAfsRequests", await to("switchAfs", "far"));
    await to("switchAfsBack", stdout.trim());
  }

  async #switch(far: string): Promise<void> {
    const requests = await this.#run("switchGit", [["switch", "--quiet", "--detach", far]]);
    this.#bench.recorder.afs("switchRequests", requests);
    await this.#run("switchBack", [["switch", "--quiet", "-"]]);
  }

  /** The nearest ancestor on the first line that differs in so many files, else the first. */
  async #farCommit(): Promise<string> {
    const list = await git(["-C", this.#clone, "rev-list", "--first-parent", "HEAD"]);
    const commits = list.stdout.trim().split("\n");
    let [near, far] = [0, commits.length - 1];
    while (near < far) {
      const middle = (near + far) >> 1;
      const args = ["diff", "--name-only", "--no-renames", commits[middle] ?? "", "HEAD"];
      const { stdout } = await git(["-C", this.#clone, ...args]);
      if (stdout.split("\n").length > SWITCH_FILES) far = middle;
      else near = middle + 1;
    }
    return commits[near] ?? "HEAD";
  }

  async #append(paths: readonly string[], text: string): Promise<void> {
    for (const side of [this.#mountPoint, this.#clone]) {
      for (const path of paths) {
        await Deno.writeTextFile(`${side}/${path}`, text, { append: true });
      }
    }
  }

  /** Requests that it cost. */
  async #run(id: FigureId, commands: readonly (readonly string[])[]): Promise<number> {
    const { recorder, server } = this.#bench;
    const timed = async (side: string) => {
      let ms = 0;
      for (const args of commands) {
        ms += (await git([...IDENTITY, "-C", side, ...args], { timeoutMs: GUARD_MS })).durationMs;
      }
      return ms;
    };
    await resetTraffic(server.control);
    const ms = await timed(this.#mountPoint);
    const seen = await settledTraffic(server.control);
    recorder.afs(id, ms, seen);
    recorder.plain(id, await timed(this.#clone));
    return seen.requests;
  }
}
