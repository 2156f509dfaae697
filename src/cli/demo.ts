/**
 * `afs demo`: shows all of it on a small repository that it makes itself, with a state root and a
 * daemon of its own. Needs no network, and leaves nothing behind, also when something fails.
 */

import { Command } from "commander";
import { call } from "../control/client.ts";
import { checkMountRights } from "../daemon/preflight.ts";
import { Failure } from "../failure.ts";
import { gitVersion } from "../git/process.ts";
import { layoutOf } from "../repo/layout.ts";
import { detachMount, effectiveGid, effectiveUid, readMountInfo } from "../sys/mod.ts";
import { daemonEnd } from "./daemon_process.ts";
import { variable } from "./environment.ts";
import { hostPath } from "./host_paths.ts";
import { print, say, statusLine } from "./output.ts";
import { Interrupted, Session } from "./session.ts";

const STOP_MS = 15_000;

export function demoCommand(): Command {
  return new Command("demo")
    .description("mount a small made-up repository, look around in it, and clean up")
    .action(demo);
}

/** A person's configuration (signing, templates, hooks) has no say in it. */
const MAKE_REPOSITORY = `
set -eu
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
export GIT_AUTHOR_NAME=Demo GIT_AUTHOR_EMAIL=demo@example.com
export GIT_COMMITTER_NAME=Demo GIT_COMMITTER_EMAIL=demo@example.com
git init -q "$1"
cd "$1"
git symbolic-ref HEAD refs/heads/main
printf '* -text\\n' > .gitattributes
printf '# Demo\\n\\nThis file came out of Git when you read it.\\n' > README.md
mkdir src
printf '#!/bin/sh\\necho hello from a mounted file\\n' > src/hello
chmod +x src/hello
git add .
git commit -qm 'First commit'
ln -s src/hello hello
git add .
git commit -qm 'Add a link'
`;

/** What a person would type. */
const TOUR = [
  "ls -l",
  "cat README.md",
  "./hello",
  "git log --oneline --decorate",
  "git status --short --branch",
];

async function demo(): Promise<void> {
  checkMountRights();
  await gitVersion();
  const dir = hostPath(Deno.makeTempDirSync({
    dir: variable("TMPDIR") ?? "/tmp",
    prefix: "afs-demo-",
  }));
  // The mount may belong to another user, who has to pass.
  Deno.chmodSync(dir, 0o755);
  const interrupted = new AbortController();
  const onSignal = () => interrupted.abort();
  Deno.addSignalListener("SIGINT", onSignal);
  Deno.addSignalListener("SIGTERM", onSignal);
  try {
    await showAll(dir, interrupted.signal);
  } catch (error) {
    if (interrupted.signal.aborted) throw new Interrupted("Interrupted", { cause: error });
    throw error;
  } finally {
    await cleanUp(dir);
    Deno.removeSignalListener("SIGINT", onSignal);
    Deno.removeSignalListener("SIGTERM", onSignal);
  }
}

async function showAll(dir: string, signal: AbortSignal): Promise<void> {
  const [repository, mountPoint] = [`${dir}/demo.git`, `${dir}/demo`];
  await runShell(MAKE_REPOSITORY, [repository], signal);
  print(`$ afs mount ${repository} ${mountPoint}`);
  const session = new Session(layoutOf(hostPath(`${dir}/state`)));
  const mounted = await session.ask("mount", {
    url: repository,
    dir: mountPoint,
    name: null,
    branch: null,
    depth: null,
    requiredCommit: null,
    tokenFile: null,
    readOnly: false,
    uid: effectiveUid(),
    gid: effectiveGid(),
    xattrs: false,
    gitDir: null,
    preparedGitDir: false,
    singleBranch: false,
    ownerGiven: false,
    wait: "history",
  });
  print(`$ cd ${mounted.mountPoint}`);
  for (const command of TOUR) {
    print(`$ ${command}`);
    await runShell(`cd "$1" && ${command}`, [mountPoint], signal);
  }
  print("$ afs status");
  const { repos } = await session.ask("status", { repo: null });
  for (const repo of repos) print(statusLine(repo));
  print(`$ afs unmount ${mountPoint}`);
  await session.ask("unmount", { repo: { by: "dir", dir: mountPoint }, lazy: false });
}

/** Throws Failure when the script fails; its output is ours. */
async function runShell(script: string, args: string[], signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const child = new Deno.Command("sh", {
    args: ["-c", script, "sh", ...args],
    env: { GIT_PAGER: "cat", GIT_OPTIONAL_LOCKS: "0" },
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
    signal,
  }).spawn();
  const { success, code } = await child.status;
  if (!success) throw new Failure("failed", `Cannot go on: a command ended with status ${code}`);
}

/** Never throws: the first failure is what matters. */
async function cleanUp(dir: string): Promise<void> {
  const layout = layoutOf(hostPath(`${dir}/state`));
  try {
    const { pid } = await call(layout.socketPath, "ping", {});
    // Deno.kill would need the right to run everything.
    const kill = new Deno.Command("sh", { args: ["-c", 'kill -TERM "$1"', "sh", `${pid}`] });
    await kill.output();
    await daemonEnd(layout, STOP_MS);
  } catch {
    // It did not get that far.
  }
  try {
    for (const { mountPoint } of readMountInfo()) {
      if (mountPoint === `${dir}/demo`) await detachMount(mountPoint);
    }
    Deno.removeSync(dir, { recursive: true });
  } catch {
    say(`could not remove ${dir}`);
  }
}
