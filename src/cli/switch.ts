/**
 * `afs switch`: goes to another branch or commit without writing a file. What the daemon cannot do
 * that way, or what git would refuse, is handed to `git switch`, in the user's name.
 */

import { Command } from "commander";
import type { Selector, SwitchResult } from "../control/api.ts";
import { DaemonEnded } from "../control/client.ts";
import { Failure } from "../failure.ts";
import { hostPath } from "./host_paths.ts";
import {
  addJsonOption,
  addNameOption,
  type JsonOption,
  selectorFrom,
  type WhichOptions,
} from "./options.ts";
import { printJson, sayPlain } from "./output.ts";
import { Session } from "./session.ts";
import { runUserGit, userGitText } from "./user_git.ts";

type SwitchOptions = WhichOptions & JsonOption & { readonly create?: true };
type Switched = SwitchResult & { readonly outcome: "switched" };

export function switchCommand(): Command {
  const command = new Command("switch")
    .description(
      "go to another branch or commit without writing or fetching files; what cannot be done so, " +
        "and what git would refuse, is left to `git switch`",
    )
    .argument(
      "<branch|commit>",
      "a branch, of the remote too; a commit, tag or revision detaches HEAD; - is where HEAD was",
    )
    .argument("[dir]", "where it is mounted, or a directory inside (default: here)")
    .option("-c, --create", "make the branch, at HEAD");
  return addJsonOption(addNameOption(command)).action(switchTo);
}

/** Throws Failure; ends the process with git's exit code where git had the last word. */
async function switchTo(
  target: string,
  dir: string | undefined,
  options: SwitchOptions,
): Promise<void> {
  if (target.startsWith("-") && target !== "-") {
    throw new Failure(
      "usage",
      `Cannot switch to ${JSON.stringify(target)}: no branch is called so`,
    );
  }
  const { repo, name, place } = await placeOf(dir, options);
  // It stays where it is: git writes no file either.
  if (options.create) return await leaveToGit(place, ["-c", target], "no file differs", options);
  const known = target === "-" ? await before(place) : target;
  if (known === null) {
    return await leaveToGit(place, [target], "there is no branch before", options);
  }
  const committer = await userGitText(place, ["var", "GIT_COMMITTER_IDENT"]);
  const params = { repo, target: known, committer, cwd: cwdIn(place) };
  const result = await new Session().askOrDo("switch", params).catch((error) => {
    throw error instanceof DaemonEnded ? cutShort(name, known) : error;
  });
  if (result.outcome === "handed-over") {
    const args = await namesBranch(place, known) ? [target] : ["--detach", known];
    return await leaveToGit(place, args, result.reason, options);
  }
  await tell(place, result, options);
  const { head, target: to } = result;
  const hook = ["hook", "run", "--ignore-missing", "post-checkout", "--"];
  const code = await runUserGit(place, [...hook, head.commitOid, to.commitOid, "1"]);
  if (code !== 0) Deno.exit(1);
}

/** Which repository, and its work tree or one inside. Throws Failure, also when none is mounted. */
async function placeOf(
  dir: string | undefined,
  options: WhichOptions,
): Promise<{ repo: Selector; name: string; place: string }> {
  const named = selectorFrom(dir, options);
  const folder = named?.by === "name" ? null : named?.dir ?? hostPath(".");
  if (folder !== null && !isDirectory(folder)) {
    throw new Failure("usage", `Cannot switch: ${folder} is no directory`);
  }
  const asked: Selector = folder === null
    ? named as Selector
    : { by: "dir", dir: workTreeOf(folder) ?? folder };
  const { repos } = await new Session().askOrDo("list-repos", {});
  const found = repos.find(({ repo, mountPoint }) =>
    asked.by === "name"
      ? repo === asked.name
      : asked.dir === mountPoint || asked.dir.startsWith(`${mountPoint}/`)
  );
  if (found === undefined) {
    const what = asked.by === "name" ? JSON.stringify(asked.name) : `at ${asked.dir}`;
    throw new Failure("failed", `Cannot find a repository ${what}: see afs list-repos`);
  }
  if (found.state !== "mounted") {
    const why = found.state === "preparing" ? "is being prepared" : "is not mounted";
    throw new Failure("not-mounted", `Cannot switch: ${found.repo} ${why}; see afs status`);
  }
  const place = asked.by === "dir" ? asked.dir : found.mountPoint;
  return { repo: asked, name: found.repo, place };
}

/** What a daemon that is killed leaves: src/repo/switch_intent.ts. */
function cutShort(name: string, target: string): Failure {
  return new Failure(
    "fatal",
    `Cannot tell how the switch ended: the daemon has ended in the middle of it; the work tree is ` +
      `as before or as ${target} has it, as a whole, with all edits; the next mount of it finishes ` +
      `the switch or undoes it; run: afs remount --name ${name}`,
  );
}

/** The branch that HEAD was on before, or the commit; null: there is none. */
async function before(place: string): Promise<string | null> {
  const branch = await userGitText(place, ["rev-parse", "--abbrev-ref", "@{-1}"]);
  if (branch !== null && branch !== "") return branch;
  return await userGitText(place, ["rev-parse", "--verify", "--quiet", "@{-1}^{commit}"]);
}

/** This process's directory, from the root of the work tree; null: it is elsewhere. */
function cwdIn(place: string): string | null {
  try {
    const cwd = hostPath(".");
    return cwd.startsWith(`${place}/`) ? cwd.slice(place.length + 1) : null;
  } catch {
    return null;
  }
}

function isDirectory(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch (error) {
    // A mount without a daemon: that is said of it later.
    return !(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory);
  }
}

/** The next directory above that is a work tree of git; null: there is none. */
function workTreeOf(dir: string): string | null {
  for (let at = dir;; at = at.slice(0, at.lastIndexOf("/"))) {
    try {
      Deno.lstatSync(`${at}/.git`);
      return at === "" ? "/" : at;
    } catch {
      // Not here.
    }
    if (at === "" || at === "/") break;
  }
  return null;
}

/** For anything else that names a commit `git switch` wants `--detach`. */
async function namesBranch(dir: string, target: string): Promise<boolean> {
  const branch = ["show-ref", "--verify", "--", `refs/heads/${target}`];
  const commit = ["rev-parse", "--verify", "--end-of-options", `${target}^{commit}`];
  return await userGitText(dir, branch) !== null || await userGitText(dir, commit) === null;
}

async function leaveToGit(
  dir: string,
  args: readonly string[],
  reason: string,
  { json }: JsonOption,
): Promise<void> {
  const code = await runUserGit(dir, ["switch", ...args], { quiet: json === true });
  if (code !== 0) Deno.exit(code);
  if (json) printJson({ mountPoint: dir, outcome: "handed-over", reason });
}

/** In git's words, where git has some. */
async function tell(dir: string, result: Switched, { json }: JsonOption): Promise<void> {
  if (json) return printJson(result);
  const { head, target } = result;
  const describe = (oid: string) => userGitText(dir, ["show", "-s", "--format=%h %s", oid, "--"]);
  if (head.ref === null) {
    sayPlain(`Previous HEAD position was ${await describe(head.commitOid)}`);
  }
  if (target.ref === null) sayPlain(`HEAD is now at ${await describe(target.commitOid)}`);
  else if (target.follows === null) sayPlain(`Switched to branch '${target.name}'`);
  else {
    sayPlain(`branch '${target.name}' set up to track '${target.follows}'.`);
    sayPlain(`Switched to a new branch '${target.name}'`);
  }
}
