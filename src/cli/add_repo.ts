/** `afs add-repo`: registers a repository below a mount root; mounts it when a daemon runs. */

import { Command, Option } from "commander";
import { checkMountRights } from "../daemon/preflight.ts";
import { Failure } from "../failure.ts";
import { remoteWithoutCredentials } from "../git/remote_url.ts";
import { registerSecretsOf } from "../redact.ts";
import { checkBranch, checkDepth, checkName } from "../repo/checks.ts";
import { hostPath, remoteForDaemon } from "./host_paths.ts";
import { printMount } from "./mount.ts";
import {
  addJsonOption,
  addOwnerOptions,
  type JsonOption,
  ownerFrom,
  type OwnerOptions,
  wholeNumber,
} from "./options.ts";
import { say } from "./output.ts";
import { Session } from "./session.ts";

interface AddRepoOptions extends OwnerOptions, JsonOption {
  readonly name: string;
  readonly remote: string;
  readonly branch?: string;
  readonly ref?: string;
  readonly mountRoot?: string;
  readonly depth?: number;
  readonly xattr?: true;
}

export function addRepoCommand(): Command {
  const command = new Command("add-repo")
    .description("register a repository at <mount root>/<name>; a daemon mounts it")
    .requiredOption("--name <name>", "its name")
    .requiredOption("--remote <url>", "remote repository, as git clone takes it")
    .option("--branch <branch>", "branch or tag (default: the remote's HEAD)")
    .addOption(new Option("--ref <ref>", "the same as --branch").conflicts("branch"))
    .option("--mount-root <dir>", "absolute path (default: the running daemon's --root)")
    .option("--depth <n>", "keep the history this shallow", wholeNumber(1))
    .option("--xattr", "keep extended attributes; each write is dearer with them");
  return addJsonOption(addOwnerOptions(command)).action(addRepo);
}

async function addRepo(options: AddRepoOptions): Promise<void> {
  registerSecretsOf(options.remote);
  const remote = remoteForDaemon(options.remote);
  const shown = remoteWithoutCredentials(remote);
  checkName(options.name);
  const branch = options.branch ?? options.ref;
  if (branch !== undefined) checkBranch(branch);
  if (options.depth !== undefined) checkDepth(options.depth);
  const owner = ownerFrom(options);
  checkMountRights(shown);
  const result = await new Session().askOrDo("add-repo", {
    remote,
    name: options.name,
    branch: branch ?? null,
    depth: options.depth ?? null,
    mountRoot: options.mountRoot === undefined ? null : absoluteRoot(options.mountRoot),
    ...owner,
    xattrs: options.xattr ?? false,
  });
  printMount(result, options);
  if (!result.mounted) say("registered; `afs daemon` mounts it");
}

/** Throws Failure (usage): a relative one would depend on who starts the daemon where. */
export function absoluteRoot(path: string): string {
  if (!path.startsWith("/")) {
    throw new Failure(
      "usage",
      `Cannot use the mount root ${JSON.stringify(path)}: it is relative; give an absolute path`,
    );
  }
  return hostPath(path);
}
