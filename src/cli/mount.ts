/** `afs mount <url> [dir]`: a work tree of a repository in a few round trips. */

import { Command, Option } from "commander";
import type { MountResult } from "../control/api.ts";
import { defaultDirectory } from "../git/remote_url.ts";
import { type AcquireOptions, acquireParams, addAcquireOptions } from "./acquire_options.ts";
import { hostPath } from "./host_paths.ts";
import type { JsonOption } from "./options.ts";
import { fieldLine, print, printJson, refText } from "./output.ts";
import { Session } from "./session.ts";

interface MountOptions extends AcquireOptions {
  readonly wait?: "history";
}

export function mountCommand(): Command {
  const command = new Command("mount")
    .description("mount a Git repository; starts a daemon in the background if none runs")
    .argument("<url>", "remote repository, as git clone takes it")
    .argument("[dir]", "where to mount it (default: the repository's name)")
    .option("--name <name>", "name in list-repos and status (default: the directory's)")
    .addOption(
      new Option("--wait <what>", "return when the history is there too").choices(["history"]),
    );
  return addAcquireOptions(command).action(mount);
}

async function mount(url: string, dir: string | undefined, options: MountOptions): Promise<void> {
  const { remote, ...params } = acquireParams(url, options);
  const result = await new Session().ask("mount", {
    ...params,
    url: remote,
    dir: hostPath(dir ?? defaultDirectory(remote)),
    name: options.name ?? null,
    ownerGiven: options.uid !== undefined,
    wait: options.wait ?? "tree",
  });
  printMount(result, options);
}

/** What `mount` and `add-repo` print. */
export function printMount(result: MountResult, { json }: JsonOption): void {
  if (json) return printJson(result);
  print(fieldLine({
    repo: result.repo,
    state: result.preparing ? "preparing" : result.mounted ? "mounted" : "unmounted",
    mount: result.mountPoint,
    head: result.head,
    ref: result.preparing ? null : refText(result.ref),
    history: result.history,
  }));
}
