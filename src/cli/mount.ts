/** `afs mount <url> [dir]`: a work tree of a repository in a few round trips. */

import { Command, Option } from "commander";
import type { MountResult } from "../control/api.ts";
import { checkMountRights } from "../daemon/preflight.ts";
import { defaultDirectory, remoteWithoutCredentials } from "../git/remote_url.ts";
import { registerSecretsOf } from "../redact.ts";
import { checkBranch, checkDepth, checkName } from "../repo/checks.ts";
import { hostPath, remoteForDaemon } from "./host_paths.ts";
import {
  addJsonOption,
  addOwnerOptions,
  type JsonOption,
  ownerFrom,
  type OwnerOptions,
  wholeNumber,
} from "./options.ts";
import { fieldLine, print, printJson, refText } from "./output.ts";
import { Session } from "./session.ts";

interface MountOptions extends OwnerOptions, JsonOption {
  readonly branch?: string;
  readonly depth?: number;
  readonly name?: string;
  readonly xattr?: true;
  readonly wait?: "history";
}

export function mountCommand(): Command {
  const command = new Command("mount")
    .description("mount a Git repository; starts a daemon in the background if none runs")
    .argument("<url>", "remote repository, as git clone takes it")
    .argument("[dir]", "where to mount it (default: the repository's name)")
    .option("--branch <branch>", "branch or tag (default: the remote's HEAD)")
    .option("--depth <n>", "keep the history this shallow", wholeNumber(1))
    .option("--xattr", "keep extended attributes; each write is dearer with them")
    .option("--name <name>", "name in list-repos and status (default: the directory's)")
    .addOption(
      new Option("--wait <what>", "return when the history is there too").choices(["history"]),
    );
  return addJsonOption(addOwnerOptions(command)).action(mount);
}

async function mount(url: string, dir: string | undefined, options: MountOptions): Promise<void> {
  registerSecretsOf(url);
  const remote = remoteForDaemon(url);
  // All that can be known to be wrong before a daemon is started for it.
  const shown = remoteWithoutCredentials(remote);
  const directory = hostPath(dir ?? defaultDirectory(remote));
  if (options.name !== undefined) checkName(options.name);
  if (options.branch !== undefined) checkBranch(options.branch);
  if (options.depth !== undefined) checkDepth(options.depth);
  const owner = ownerFrom(options);
  checkMountRights(shown);
  const result = await new Session().ask("mount", {
    url: remote,
    dir: directory,
    name: options.name ?? null,
    branch: options.branch ?? null,
    depth: options.depth ?? null,
    ...owner,
    xattrs: options.xattr ?? false,
    wait: options.wait ?? "tree",
  });
  printMount(result, options);
}

/** What `mount` and `add-repo` print. */
export function printMount(result: MountResult, { json }: JsonOption): void {
  if (json) return printJson(result);
  print(fieldLine({
    repo: result.repo,
    state: result.mounted ? "mounted" : "unmounted",
    mount: result.mountPoint,
    head: result.head,
    ref: refText(result.ref),
    history: result.history,
  }));
}
