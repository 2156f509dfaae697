/**
 * The log of a daemon in the background: its standard error, opened with O_APPEND by whoever starts
 * it, bounded to twice MAX_LOG_BYTES on disk.
 *
 * Copied and cut rather than renamed and opened anew: every thread, and every descriptor that the
 * runtime has made of standard error, goes on writing to the same open file. Lines that arrive
 * between the copy and the cut are lost.
 */

import { messageOf } from "../failure.ts";
import { logger } from "../log.ts";

export const MAX_LOG_BYTES = 4 * 1024 * 1024;
const LOOK_EVERY_MS = 5_000;

/** Looks after the file until stopped. */
export function boundLogFile(
  path: string,
  maxBytes = MAX_LOG_BYTES,
  everyMs = LOOK_EVERY_MS,
): { stop(): void } {
  cutLogFile(path, maxBytes);
  const timer = setInterval(() => cutLogFile(path, maxBytes), everyMs);
  return { stop: () => clearInterval(timer) };
}

/** Moves what the file holds to `<path>.1` when it is too long. Never throws. */
export function cutLogFile(path: string, maxBytes: number): void {
  try {
    if (Deno.statSync(path).size <= maxBytes) return;
    Deno.copyFileSync(path, `${path}.1`);
    Deno.chmodSync(`${path}.1`, 0o600);
    Deno.truncateSync(path, 0);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    logger("daemon").warning("Could not cut the log file", { error: messageOf(error) });
  }
}
