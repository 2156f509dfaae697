/** Mount points at which something else decides when they are mounted. */

import { logger } from "../log.ts";
import type { RepoRecord } from "../repo/types.ts";
import { detachOurMounts, isAutomount } from "../sys/mod.ts";

/**
 * At a daemon's start: whether an automount is there, which has it mounted when somebody comes. It
 * waits for this daemon to be ready, so to wait for it would be for ever.
 */
export function leftToAutomount({ name: repo, mountPoint }: RepoRecord): boolean {
  if (!isAutomount(mountPoint)) return false;
  // Of a daemon that was killed: it would be in the way.
  detachOurMounts(new Set([mountPoint]));
  logger("daemon").info("Left to the automount", { repo, mountPoint });
  return true;
}
