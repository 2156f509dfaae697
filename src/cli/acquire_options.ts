/** What `mount` and `add-repo` take about what they acquire, checked before anything is started. */

import type { Command } from "commander";
import { checkMountRights } from "../daemon/preflight.ts";
import { remoteWithoutCredentials } from "../git/remote_url.ts";
import { registerSecretsOf } from "../redact.ts";
import { checkBranch, checkDepth, checkName } from "../repo/checks.ts";
import { remoteForDaemon } from "./host_paths.ts";
import {
  addJsonOption,
  addOwnerOptions,
  type JsonOption,
  ownerFrom,
  type OwnerOptions,
  wholeNumber,
} from "./options.ts";

export interface AcquireOptions extends OwnerOptions, JsonOption {
  readonly name?: string;
  readonly branch?: string;
  readonly depth?: number;
  readonly xattr?: true;
}

export function addAcquireOptions(command: Command): Command {
  command
    .option("--branch <branch>", "branch or tag (default: the remote's HEAD)")
    .option("--depth <n>", "keep the history this shallow", wholeNumber(1))
    .option("--xattr", "keep extended attributes; each write is dearer with them");
  return addJsonOption(addOwnerOptions(command));
}

export interface AcquireParams {
  /** As the daemon can use it; may hold credentials. */
  readonly remote: string;
  readonly branch: string | null;
  readonly depth: number | null;
  readonly uid: number;
  readonly gid: number;
  readonly xattrs: boolean;
}

/** All that can be known to be wrong before a daemon is started for it. Throws Failure. */
export function acquireParams(url: string, options: AcquireOptions): AcquireParams {
  registerSecretsOf(url);
  const remote = remoteForDaemon(url);
  const shown = remoteWithoutCredentials(remote);
  const { name, branch, depth } = options;
  if (name !== undefined) checkName(name);
  if (branch !== undefined) checkBranch(branch);
  if (depth !== undefined) checkDepth(depth);
  const owner = ownerFrom(options);
  checkMountRights(shown);
  const xattrs = options.xattr ?? false;
  return { remote, branch: branch ?? null, depth: depth ?? null, ...owner, xattrs };
}
