/** What it takes to operate a daemon: shutdown, events, logs, log level, status that goes on. */

import assert from "node:assert/strict";
import * as v from "valibot";
import type { Params, Verb } from "../../src/control/api.ts";
import { call } from "../../src/control/client.ts";
import { type EventName, EVENTS } from "../../src/control/events.ts";
import { startGitServer } from "../support/git_server.ts";
import { git, run, waitFor } from "../support/run.ts";
import { type Cli, cliTest, fieldsOf, makeCli, makeRepo } from "./cli_harness.ts";
import { AFS, type Parked, without } from "./harness.ts";

/** A verb that goes on, with its output in files. */
class GoingOn {
  constructor(
    readonly process: Parked,
    readonly outPath: string,
    readonly errPath: string,
  ) {}

  static #count = 0;

  static start(afs: Cli, ...args: string[]): GoingOn {
    const id = GoingOn.#count++;
    const [out, err] = [afs.at(`out-${id}`), afs.at(`err-${id}`)];
    const script = 'exec "$0" "$@" >"$OUT" 2>"$ERR"';
    const command = ["env", `OUT=${out}`, `ERR=${err}`, "sh", "-c", script, AFS, ...args] as const;
    return new GoingOn(afs.park(...command), out, err);
  }

  async lines(): Promise<string[]> {
    const text = await Deno.readTextFile(this.outPath).catch(() => "");
    return text.split("\n").slice(0, -1);
  }

  errors(): Promise<string> {
    return Deno.readTextFile(this.errPath).catch(() => "");
  }

  async waitFor(pattern: RegExp): Promise<string> {
    return await waitFor(
      async () => (await this.lines()).find((line) => pattern.test(line)),
      `line ${pattern}`,
      { timeoutMs: 60_000 },
    ) as string;
  }

  /** Ctrl-C; the exit code. */
  async interrupt(signal: Deno.Signal = "SIGINT"): Promise<number> {
    this.process.kill(signal);
    return await this.process.exited;
  }
}

/** `afs events --json`, from when it listens. */
async function listen(afs: Cli, ...args: string[]): Promise<GoingOn> {
  const listening = GoingOn.start(afs, "events", "--json", ...args);
  await waitFor(async () => /listening/.test(await listening.errors()), "listening");
  return listening;
}

interface Told {
  readonly event: EventName;
  readonly repo: string | null;
  readonly time: string;
  // deno-lint-ignore no-explicit-any -- checked against its schema
  readonly fields: any;
}

/** What was told so far; each line is checked against the schema of its event. */
async function told(listening: GoingOn): Promise<Told[]> {
  return (await listening.lines()).map((line) => {
    const { version, time, event, repo, fields, ...more } = JSON.parse(line);
    assert.equal(version, 1);
    assert.deepEqual(more, {});
    assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    assert.ok(Object.hasOwn(EVENTS, event), event);
    v.parse(EVENTS[event as EventName], fields);
    return { event, repo, time, fields };
  });
}

async function cat(path: string): Promise<string> {
  return (await run("cat", ["--", path], { timeoutMs: 60_000 })).stdout;
}

Deno.test("without a daemon: one line, 5, and nothing is started or made", async () => {
  await using afs = await makeCli();
  await afs.fails(["shutdown"], 5, /no daemon runs/);
  await afs.fails(["shutdown", "--json"], 5, /no daemon runs/);
  await afs.fails(["events"], 5, /no daemon runs/);
  await afs.fails(["status", "--watch"], 5, /no daemon runs/);
  await afs.fails(["log-level"], 5, /no daemon runs/);
  await afs.fails(["log-level", "debug"], 5, /no daemon runs/);
  await afs.fails(["logs"], 1, /there is none/);
  await assert.rejects(Deno.lstat(afs.stateRoot), Deno.errors.NotFound);
  for (
    const args of [
      ["log-level", "loud"],
      ["logs", "-n", "x"],
      ["shutdown", "x"],
      ["events", "x"],
      ["completion"],
      ["completion", "csh"],
      ["daemon", "--metrics-port", "0"],
      ["daemon", "--metrics-port", "65536"],
    ]
  ) {
    const { code, stderr } = await afs.run(args);
    assert.equal(code, 129, `${args.join(" ")}: ${stderr}`);
  }
});

cliTest(
  "shutdown: unmounts what is in use too, and the next daemon mounts it again",
  async (afs) => {
    await makeRepo(afs.at("repo.git"));
    await afs.ok(["mount", afs.at("repo.git"), "m"]);
    const inside = afs.park("sh", "-c", 'cd "$1" && exec sleep 1000', "sh", afs.at("m"));
    await waitFor(
      async () => /^sleep$/m.test(await Deno.readTextFile(`/proc/${inside.pid}/comm`)),
      "shell inside",
    );
    const pid = await afs.pid();
    const { stdout, stderr } = await afs.ok(["shutdown"]);
    assert.equal(stdout, "");
    assert.match(stderr, new RegExp(`\nafs: the daemon \\(pid ${pid}\\) has ended\n$`));
    assert.deepEqual(await afs.daemons(), []);
    assert.deepEqual(await afs.mounts(), []);
    await afs.fails(["shutdown"], 5, /no daemon runs/);
    await afs.ok(["remount", "m"]);
    assert.equal(await cat(afs.at("m/file.txt")), "content 3\n");
    const again = await afs.pid();
    assert.deepEqual(await afs.json(["shutdown"]), { version: 1, pid: again });
    // Of a daemon in the foreground the exit code can be seen.
    const daemon = await afs.startDaemon();
    assert.deepEqual(await afs.mounts(), [afs.at("m")]);
    // Two at once: both wait for the same end, unless one of them comes after it.
    const both = await Promise.all([afs.run(["shutdown"]), afs.run(["shutdown"])]);
    assert.ok(both.some(({ code }) => code === 0));
    for (const { code, stderr } of both) assert.ok(code === 0 || code === 5, stderr);
    assert.equal(await daemon.exited, 0);
    assert.equal((await daemon.logged("Stopping"))[0]?.["cause"], "shutdown");
    assert.deepEqual(await afs.mounts(), []);
  },
);

cliTest("shutdown ends a mount, a reader and a listener that hang", async (afs) => {
  await makeRepo(afs.at("srv", "repo.git"));
  await makeRepo(afs.at("srv", "other.git"));
  await using server = startGitServer({ root: afs.at("srv") });
  await afs.ok(["mount", server.url("repo.git"), "m", "--wait=history"]);
  const listener = await listen(afs);
  listener.process.kill("SIGSTOP");
  server.set({ hang: true });
  server.resetCounters();
  const reader = afs.park("cat", afs.at("m/dir/other.txt"));
  const mounting = afs.fails(["mount", server.url("other.git"), "n"], 1, /stopping|interrupted/);
  await waitFor(() => server.counters().requests > 0, "request");
  const started = performance.now();
  await afs.ok(["shutdown"]);
  console.log(`      shutdown with all that: ${Math.round(performance.now() - started)} ms`);
  await mounting;
  assert.notEqual(await reader.exited, 0);
  listener.process.kill("SIGCONT");
  assert.equal(await listener.process.exited, 1);
  assert.deepEqual(await afs.mounts(), []);
  assert.deepEqual(await afs.daemons(), []);
});

cliTest("events: the life of a repository, as the log has it; a name; the ends", async (afs) => {
  const gitDir = afs.at("srv", "repo.git");
  const commits = await makeRepo(gitDir);
  await using server = startGitServer({ root: afs.at("srv") });
  const daemon = await afs.startDaemon();
  const all = await listen(afs);
  const ofN = await listen(afs, "--name", "n");
  const text = GoingOn.start(afs, "events", "--name", "m");
  await waitFor(async () => /listening/.test(await text.errors()), "listening");

  await afs.ok(["mount", server.url("repo.git"), "m", "--wait=history", "--refresh", "never"]);
  await cat(afs.at("m/file.txt"));
  await all.waitFor(/"hydrated"/);
  await afs.ok(["fetch", "m"]);
  await afs.ok(["switch", "feature", afs.at("m")]);
  await git([
    "-C",
    afs.at("m"),
    "-c",
    "user.name=A",
    "-c",
    "user.email=a@b",
    "commit",
    "-q",
    "--allow-empty",
    "-m",
    "another",
  ]);
  await all.waitFor(/"rebased"/);
  // A second work tree on the same store.
  await afs.ok(["mount", server.url("repo.git"), "n", "--refresh", "never"]);
  await afs.ok(["fetch", "n"]);
  await run("umount", [afs.at("n")]);
  await ofN.waitFor(/"unmounted"/);
  await afs.ok(["remount", "n"]);
  await afs.abortConnection(afs.at("n"));
  await ofN.waitFor(/"mount-lost"/);
  await afs.ok(["remove-repo", "--name", "n"]);
  await afs.fails(["mount", server.url("none.git"), "x"], 1, /Cannot/);
  await ofN.waitFor(/"removed"/);
  await all.waitFor(/"prepare-failed"/);

  const seen = await told(all);
  const of = (name: EventName, repo = "m") =>
    seen.filter((each) => each.event === name && each.repo === repo);
  const [mounted] = of("mounted");
  assert.deepEqual(mounted?.fields, { mountPoint: afs.at("m"), placeholder: false });
  assert.deepEqual(of("phase-done").map(({ fields }) => fields.phase), [
    "check",
    "fetch",
    "prepare",
  ]);
  assert.equal(of("prepared")[0]?.fields.commit, commits.at(-1));
  const [batch] = of("hydrated");
  assert.equal(batch?.fields.error, null);
  assert.ok(batch?.fields.blobs > 0 && batch?.fields.packBytes > 0);
  assert.equal(of("history-fetched")[0]?.fields.history, "full");
  assert.deepEqual(
    [of("switched")[0]?.fields.from, of("switched")[0]?.fields.to],
    [commits.at(-1), commits[0]],
  );
  const [rebased] = of("rebased");
  assert.equal(rebased?.fields.from, commits[0]);
  assert.equal(rebased?.fields.generation, 3);
  // One fact about the store that both share, told for each.
  assert.equal(of("refreshed", "m").length, 2);
  assert.equal(of("refreshed", "n").length, 1);

  const onlyN = await told(ofN);
  assert.deepEqual(new Set(onlyN.map(({ repo }) => repo)), new Set(["n"]));
  const life = onlyN.map(({ event }) => event).filter((event) =>
    ["mounted", "unmounted", "mount-lost", "removed"].includes(event)
  );
  assert.deepEqual(life, ["mounted", "unmounted", "mounted", "mount-lost", "removed"]);
  assert.equal(onlyN.find(({ event }) => event === "unmounted")?.fields.cause, "umount");

  // The log has the same facts with the same fields.
  const [logged] = await daemon.logged("Batch hydrated");
  const { error: _, ...fields } = batch?.fields ?? {};
  for (const [field, value] of Object.entries(fields)) assert.equal(logged?.[field], value, field);

  const line = fieldsOf(await text.waitFor(/event=mounted/));
  assert.deepEqual({ ...line, time: "" }, {
    time: "",
    event: "mounted",
    repo: "m",
    mount_point: afs.at("m"),
    placeholder: "false",
  });
  assert.equal(await text.interrupt(), 0);
  assert.equal(await ofN.interrupt("SIGTERM"), 0);
  // A reader that has enough.
  const headed = afs.park("sh", "-c", '"$0" events --name m | head -n 1', AFS);
  await afs.ok(["shutdown"]);
  assert.equal(await headed.exited, 0);
  assert.equal(await all.process.exited, 1);
  const last = (await told(all)).slice(-2).map(({ event, repo }) => [event, repo]);
  assert.deepEqual(last, [["daemon-stopping", null], ["unmounted", "m"]]);
  assert.match(await all.errors(), /\nafs: Cannot go on: the daemon has stopped\n$/);
});

cliTest("events: a secret is in none of them", async (afs) => {
  await makeRepo(afs.at("srv", "repo.git"));
  const login = { user: "user", password: "hunter22hunter22" };
  await using server = startGitServer({ root: afs.at("srv"), login });
  await afs.startDaemon();
  const all = await listen(afs);
  const url = server.url("repo.git").replace("//", "//user:hunter22hunter22@");
  await afs.ok(["mount", url, "m", "--wait=history"]);
  await afs.run(["mount", url.replace("repo.git", "none.git"), "x"]);
  await all.waitFor(/"prepare-failed"/);
  assert.doesNotMatch((await all.lines()).join("\n") + await all.errors(), /hunter22/);
  await all.interrupt();
});

cliTest("logs: all, the last, what comes, over a rotation and a daemon's end", async (afs) => {
  await makeRepo(afs.at("repo.git"));
  await afs.ok(["mount", afs.at("repo.git"), "m"]);
  const logPath = `${afs.stateRoot}/daemon.log`;
  const whole = (await afs.ok(["logs"])).stdout;
  assert.ok((await Deno.readTextFile(logPath)).startsWith(whole));
  assert.equal(JSON.parse(whole.split("\n")[0] ?? "").msg, "Starting");
  const { stdout: two } = await afs.ok(["logs", "-n", "2"]);
  assert.equal(two.trimEnd().split("\n").length, 2);
  assert.equal((await afs.ok(["logs", "--lines", "0"])).stdout, "");

  const following = GoingOn.start(afs, "logs", "--follow", "-n", "1");
  await waitFor(async () => (await following.lines()).length > 0, "first line");
  await afs.ok(["unmount", "m"]);
  await following.waitFor(/"Unmounted"/);
  // Longer than it may be: the daemon copies and cuts it within seconds.
  const filler = `${JSON.stringify({ msg: "Filler", text: "x".repeat(1000) })}\n`;
  using file = await Deno.open(logPath, { append: true });
  const bytes = new TextEncoder().encode(filler.repeat(5000));
  for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
  await waitFor(
    () => Deno.stat(`${logPath}.1`).then(() => true, () => false),
    "rotation",
    { timeoutMs: 60_000 },
  );
  await waitFor(async () => (await Deno.stat(logPath)).size < 100_000, "cut");
  await afs.ok(["remount", "m"]);
  await following.waitFor(/"Mounted"/);
  const lines = await following.lines();
  assert.equal(lines.filter((line) => line.includes('"Filler"')).length, 5000);
  assert.equal(await following.interrupt(), 0);
  const both = (await afs.ok(["logs"])).stdout;
  assert.ok(both.startsWith(whole), "the rotated file comes first");
  assert.match(both, /"Mounted"[^\n]*\n([^\n]*\n)*$/);

  await afs.ok(["shutdown"]);
  assert.match((await afs.ok(["logs", "-n", "1"])).stdout, /"Stopped"/);
  const daemon = await afs.startDaemon();
  const { stdout, stderr } = await afs.ok(["logs", "-n", "1"]);
  assert.match(stdout, /"Stopped"/);
  assert.match(
    stderr,
    new RegExp(`^afs: the daemon \\(pid ${daemon.pid}\\) runs in the foreground`),
  );
  await afs.fails(["logs", "-f"], 1, /foreground/);
});

cliTest("log-level: of every thread, those that run and those that come", async (afs) => {
  for (const name of ["a", "b", "c", "d"]) await makeRepo(afs.at(`${name}.git`));
  const daemon = await afs.startDaemon();
  assert.equal((await afs.ok(["log-level"])).stdout, "info\n");
  const mount = (name: string) => afs.ok(["mount", `file://${afs.at(`${name}.git`)}`, name]);
  // A line of the hydrator's own thread, once for each remote.
  const said = async () =>
    (await daemon.logged("Fetching with git")).filter(({ part }) => part === "git").length;
  const read = async (name: string) => {
    await cat(afs.at(name, "file.txt"));
    await waitFor(
      async () => (await afs.json(["status", name])).repos[0].hydratedBlobs > 0,
      "blob",
    );
  };
  await mount("a");
  const before = await said();
  await read("a");
  const each = await said() - before;
  assert.ok(each > 0, "a line of the hydrator");
  await mount("b");
  assert.deepEqual(await afs.json(["log-level", "warning"]), { version: 1, level: "warning" });
  const quiet = (await daemon.log()).length;
  await read("b");
  await mount("c");
  await read("c");
  assert.equal((await daemon.log()).length, quiet);
  assert.equal((await afs.ok(["log-level", "debug"])).stdout, "debug\n");
  await mount("d");
  await read("d");
  assert.ok((await daemon.log()).some(({ level }) => level === "debug"));
  assert.ok((await daemon.logged("Fetching with git")).length > before + each);
  await afs.ok(["shutdown"]);
  await afs.startDaemon();
  assert.equal((await afs.ok(["log-level"])).stdout, "info\n");
});

cliTest("log-level: of a mount's thread, while it runs and when it starts", async (afs) => {
  await makeRepo(afs.at("repo.git"));
  const daemon = await afs.startDaemon();
  await afs.ok(["mount", afs.at("repo.git"), "m", "--wait=history", "--refresh", "never"]);
  await afs.sh('cd "$1"; for name in one two three; do echo x >"$name"; done', [afs.at("m")]);
  await afs.ok(["unmount", "m"]);
  // What a disk may do in a power failure: the thread warns when it looks for them.
  await afs.sh('find "$1"/repos/*/overlay/upper -type f -delete', [afs.stateRoot]);
  const warned = async () => (await daemon.logged(/^Backing file was lost/)).length;
  await afs.ok(["log-level", "error"]);
  await afs.ok(["remount", "m"]);
  await cat(afs.at("m/one"));
  assert.equal(await warned(), 0);
  await afs.ok(["log-level", "warning"]);
  await cat(afs.at("m/two"));
  assert.equal(await warned(), 1);
  await afs.ok(["log-level", "fatal"]);
  await cat(afs.at("m/three"));
  assert.equal(await warned(), 1);
});

cliTest("status --watch: a line a change, JSON, a terminal, and the ends", async (afs) => {
  await makeRepo(afs.at("repo.git"));
  await makeRepo(afs.at("other.git"));
  const daemon = await afs.startDaemon();
  await afs.ok(["mount", afs.at("repo.git"), "m", "--wait=history", "--refresh", "never"]);
  const plain = GoingOn.start(afs, "status", "--watch");
  const json = GoingOn.start(afs, "status", "-w", "--json", "--name", "m");
  await plain.waitFor(/^repo=m state=mounted/);
  await json.waitFor(/"state":"mounted"/);
  await afs.ok(["mount", afs.at("other.git"), "n", "--wait=history", "--refresh", "never"]);
  await plain.waitFor(/^repo=n state=mounted .*history=full/);
  await afs.sh('echo x > "$1/new"', [afs.at("m")]);
  await plain.waitFor(/^repo=m .*overlay_dirty=true/);
  await afs.ok(["unmount", "m"]);
  await plain.waitFor(/^repo=m state=unmounted/);
  await json.waitFor(/"state":"unmounted"/);
  await afs.ok(["remove-repo", "--name", "n"]);
  await plain.waitFor(/^repo=n state=removed$/);
  const lines = await plain.lines();
  for (let i = 1; i < lines.length; i++) assert.notEqual(lines[i], lines[i - 1], "no change");
  for (const line of await json.lines()) {
    const { version, repos } = JSON.parse(line);
    assert.deepEqual([version, repos.length, repos[0].repo], [1, 1, "m"]);
  }
  assert.equal(await plain.interrupt(), 0);
  assert.equal(await plain.errors(), "");
  // What is watched goes.
  await afs.ok(["remove-repo", "--name", "m", "--force"]);
  assert.equal(await json.process.exited, 1);

  const lastly = GoingOn.start(afs, "status", "--watch", "--json");
  await lastly.waitFor(/"repos":\[\]/);
  assert.equal(await daemon.stop(), 0);
  assert.equal(await lastly.process.exited, 1);
  assert.match(await lastly.errors(), /^afs: Cannot go on: the daemon has ended\n$/);
});

cliTest(
  "status --watch on a terminal draws the lines anew, on a dumb one it does not",
  async (afs) => {
    if (await without("script") !== null) return;
    await makeRepo(afs.at("repo.git"));
    await afs.startDaemon();
    await afs.ok(["mount", afs.at("repo.git"), "m", "--wait=history", "--refresh", "never"]);
    for (const [term, redraws] of [["xterm", true], ["dumb", false]] as const) {
      const typescript = afs.at(`typescript-${term}`);
      const watching = afs.park(
        ...["env", `TERM=${term}`, "script", "-qfec", `'${AFS}' status --watch`] as const,
        typescript,
      );
      const drawn = () => Deno.readTextFile(typescript).catch(() => "");
      await waitFor(async () => /repo=m/.test(await drawn()), "first drawing");
      await afs.ok(["unmount", "m"]);
      await waitFor(async () => /state=unmounted/.test(await drawn()), "second drawing");
      await afs.ok(["remount", "m"]);
      assert.equal((await drawn()).includes("\x1b[H\x1b[2Jrepo=m"), redraws, term);
      watching.killGroup();
      await watching.exited;
    }
  },
);

cliTest("every long verb says what it is at", async (afs) => {
  await makeRepo(afs.at("srv", "repo.git"));
  await using server = startGitServer({ root: afs.at("srv") });
  const daemon = await afs.startDaemon();
  const ask = async <V extends Verb>(verb: V, params: Params<V>) => {
    const phases: string[] = [];
    await call(afs.socketPath, verb, params, {
      onProgress: ({ phase }) => phases.at(-1) === phase || phases.push(phase),
    });
    return phases;
  };
  const repo = { by: "name", name: "m" } as const;
  const owner = { uid: Deno.uid() ?? 0, gid: Deno.gid() ?? 0, xattrs: false };
  const source = {
    ...owner,
    branch: null,
    depth: null,
    requiredCommit: null,
    tokenFile: null,
    readOnly: false,
    gitDir: null,
    preparedGitDir: false,
    singleBranch: false,
    refreshSeconds: null,
  };
  const acquired = [
    "Checking",
    "Fetching the newest commit",
    "Preparing the work tree",
    "Mounting",
  ];
  const url = server.url("repo.git");
  const added = await ask("add-repo", {
    ...source,
    remote: url,
    name: "m",
    mountRoot: afs.at("mnt"),
    async: false,
  });
  assert.deepEqual(added, acquired);
  const mounted = await ask("mount", {
    ...source,
    url,
    dir: afs.at("n"),
    name: null,
    ownerGiven: false,
    wait: "history",
  });
  assert.deepEqual(mounted.filter((phase) => phase !== "Fetching the history").slice(-2), [
    "Preparing the work tree",
    "Mounting",
  ]);
  await afs.ok(["mount", url, afs.at("mnt", "m"), "--wait=history"]);
  await git(["-C", afs.at("srv", "repo.git"), "branch", "more", "main~1"]);
  await git(["-C", afs.at("srv", "repo.git"), "tag", "v9", "main"]);
  assert.ok((await ask("fetch", { repo })).every((phase) => phase === "Fetching"));
  const to = { repo, target: "feature", committer: "A <a@b> 1700000000 +0000", cwd: null };
  assert.deepEqual(await ask("switch", to), ["Switching"]);
  assert.deepEqual(await ask("remount", { repo }), ["Unmounting", "Mounting"]);
  assert.deepEqual(await ask("unmount", { repo, lazy: false }), ["Unmounting"]);
  const removal = { repo, force: true, dryRun: false };
  assert.deepEqual(await ask("remove-repo", removal), [
    "Looking for work that is only here",
    "Removing",
  ]);
  assert.deepEqual(await ask("shutdown", {}), ["Ending what runs", "Unmounting"]);
  assert.equal(await daemon.exited, 0);
});

cliTest("completion and the manual page of the binary itself", async (afs) => {
  const { stdout: page } = await afs.ok(["man"]);
  assert.match(page, /^\.TH AFS 1 /);
  await Deno.writeTextFile(afs.at("afs.bash"), (await afs.ok(["completion", "bash"])).stdout);
  for (const shell of ["zsh", "fish"]) {
    assert.match((await afs.ok(["completion", shell])).stdout, /shutdown/);
  }
  await makeRepo(afs.at("repo.git"));
  await afs.ok([
    "add-repo",
    "--name",
    "one",
    "--remote",
    afs.at("repo.git"),
    "--mount-root",
    "/tmp",
  ]);
  const script = 'source "$1"; COMP_WORDS=("$2" status --name o); COMP_CWORD=3; _afs "$2"; ' +
    'printf "%s\\n" "${COMPREPLY[@]}"';
  const offered = await run("bash", ["-uc", script, "bash", afs.at("afs.bash"), AFS], {
    env: afs.env,
  });
  assert.equal(offered.stdout, "one\n");
  assert.deepEqual(await afs.daemons(), [], "no daemon was started");
  await afs.ok(["remove-repo", "--name", "one"]);
});
