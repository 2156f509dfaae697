/**
 * `afs switch`: goes to another branch or commit without writing a file. What the daemon cannot do
 * that way, or what git would refuse, is handed to `git switch`, in the user's name.
 */

import { Command } from "commander";
import type { SwitchResult } from "../control/api.ts";
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
      "go to another branch or commit: no file is written, none is fetched; else as git switch",
    )
    .argument(
      "<branch|commit>",
      "a commit, tag or revision detaches HEAD; - is where HEAD was before",
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
  const named = selectorFrom(dir, options);
  const repo = named?.by === "name"
    ? named
    : { by: "dir", dir: workTreeOf(named?.dir ?? hostPath(".")) } as const;
  const place = repo.by === "dir" ? repo.dir : await mountPointOf(repo.name);
  // It stays where it is: git writes no file either.
  if (options.create) return await leaveToGit(place, ["-c", target], "no file differs", options);
  const known = target === "-"
    ? await userGitText(place, ["rev-parse", "--abbrev-ref", "@{-1}"])
    : target;
  if (known === null || known === "") {
    return await leaveToGit(place, [target], "there is no branch before", options);
  }
  const committer = await userGitText(place, ["var", "GIT_COMMITTER_IDENT"]);
  const result = await new Session().askOrDo("switch", { repo, target: known, committer });
  if (result.outcome === "handed-over") {
    const args = await namesBranch(place, target) ? [target] : ["--detach", target];
    return await leaveToGit(place, args, result.reason, options);
  }
  await tell(place, result, options);
  const { head, target: to } = result;
  const hook = ["hook", "run", "--ignore-missing", "post-checkout", "--"];
  const code = await runUserGit(place, [...hook, head.commitOid, to.commitOid, "1"]);
  if (code !== 0) Deno.exit(1);
}

/** The next directory above that is a work tree of git. Throws Failure. */
function workTreeOf(dir: string): string {
  for (let at = dir;; at = at.slice(0, at.lastIndexOf("/"))) {
    try {
      Deno.lstatSync(`${at}/.git`);
      return at === "" ? "/" : at;
    } catch {
      // Not here.
    }
    if (at === "" || at === "/") break;
  }
  throw new Failure("failed", `Cannot switch: ${dir} is in no work tree; see afs list-repos`);
}

async function mountPointOf(name: string): Promise<string> {
  const { repos } = await new Session().askOrDo("status", { repo: { by: "name", name } });
  const [repo] = repos;
  if (repo?.state === "mounted") return repo.mountPoint;
  throw new Failure("not-mounted", `Cannot switch: ${name} is not mounted; see afs remount`);
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
