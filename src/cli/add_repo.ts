/** `afs add-repo`: registers a repository below a mount root; mounts it when a daemon runs. */

import { Command } from "commander";
import { Failure } from "../failure.ts";
import { type AcquireOptions, acquireParams, addAcquireOptions } from "./acquire_options.ts";
import { hostPath } from "./host_paths.ts";
import { printMount } from "./mount.ts";
import { say } from "./output.ts";
import { Session } from "./session.ts";

interface AddRepoOptions extends AcquireOptions {
  readonly name: string;
  readonly remote?: string;
  readonly mountRoot?: string;
  readonly async?: true;
}

export function addRepoCommand(): Command {
  const command = new Command("add-repo")
    .description("register a repository at <mount root>/<name>; a daemon mounts it")
    .requiredOption("--name <name>", "its name")
    .option("--remote <url>", "remote repository, as git clone takes it")
    .option("--async", "return at once; what is done in the mount waits until it is here")
    .option("--mount-root <dir>", "absolute path (default: the running daemon's --root)");
  return addAcquireOptions(command).action(addRepo);
}

async function addRepo(options: AddRepoOptions): Promise<void> {
  const { name, remote = null, mountRoot } = options;
  if (remote === null && options.preparedGitdir === undefined) {
    throw new Failure("usage", "Cannot add a repository: give its URL with --remote");
  }
  const result = await new Session().askOrDo("add-repo", {
    ...acquireParams(remote, options),
    name,
    mountRoot: mountRoot === undefined ? null : absoluteRoot(mountRoot),
    async: options.async ?? false,
  });
  printMount(result, options);
  if (result.mounted) return;
  say(`registered; \`afs daemon\` ${result.preparing ? "prepares and " : ""}mounts it`);
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
