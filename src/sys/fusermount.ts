/**
 * Mounting and unmounting for users who may not: through fusermount3, which is setuid root and
 * belongs to the distribution (package fuse3). It opens /dev/fuse, mounts with the caller as the
 * mount's user, and sends the device (libfuse: util/fusermount.c, lib/mount.c).
 *
 * What it refuses is EPERM here, with its own words as the message: it has no codes.
 */

import { ERRNO, FsError } from "../errno.ts";
import {
  findProgram,
  HELPER_SOCKET,
  type HelperOptions,
  type HelperResult,
  runHelper,
  runHelperAside,
} from "./helper.ts";

export const FUSERMOUNT = "fusermount3";

/** It does a few system calls; one that takes longer hangs. */
const HELPER_MS = 10_000;

export interface HelperMount {
  /** Of /dev/fuse. */
  readonly fd: number;
  /** Whether other users may look into it. */
  readonly allowsOthers: boolean;
}

export interface HelperMountOptions {
  readonly mountPoint: string;
  readonly source: string;
  /** The part of the type behind `fuse.`. */
  readonly subtype: string;
  /** As in mount(2)'s data. */
  readonly options: readonly string[];
}

/**
 * Mounts, nosuid and nodev. Other users may look in where the machine's administrator allows it
 * (user_allow_other in /etc/fuse.conf, which not everybody may read: so it is tried). Throws FsError.
 */
export function mountByHelper(options: HelperMountOptions): HelperMount {
  try {
    return { fd: mount(options, ["allow_other"]), allowsOthers: true };
  } catch (error) {
    const isForOthers = error instanceof FsError && error.message.includes("allow_other");
    if (!isForOthers) throw error;
    return { fd: mount(options, []), allowsOthers: false };
  }
}

function mount(
  { mountPoint, source, subtype, options }: HelperMountOptions,
  more: readonly string[],
): number {
  const list = [`fsname=${escapeOption(source)}`, `subtype=${subtype}`, ...options, ...more];
  const result = runHelper({
    ...helper(["-o", list.join(","), "--", mountPoint]),
    env: { _FUSE_COMMFD: String(HELPER_SOCKET) },
  });
  if (result.fd !== null) return result.fd;
  throw refusal(result);
}

/** A comma would end it, a backslash quotes (libfuse: fuse_opt_add_opt_escaped). */
export function escapeOption(text: string): string {
  return text.replaceAll(/[\\,]/g, (character) => `\\${character}`);
}

/** Null: done. EBUSY: in use. */
export function unmountByHelper(mountPoint: string, lazy: boolean): FsError | null {
  try {
    return outcome(runHelper(unmountHelper(mountPoint, lazy)));
  } catch (error) {
    return expected(error);
  }
}

/** The same, while this thread's event loop goes on. */
export async function unmountByHelperAside(
  mountPoint: string,
  lazy: boolean,
): Promise<FsError | null> {
  try {
    return outcome(await runHelperAside(unmountHelper(mountPoint, lazy)));
  } catch (error) {
    return expected(error);
  }
}

function outcome(result: HelperResult): FsError | null {
  if (result.exitCode === 0) return null;
  const { errno, message } = refusal(result);
  return new FsError(/\bbusy\b/.test(result.said) ? ERRNO.EBUSY : errno, message);
}

function expected(error: unknown): FsError {
  if (error instanceof FsError) return error;
  throw error;
}

function unmountHelper(mountPoint: string, lazy: boolean): HelperOptions {
  return helper(["-u", ...(lazy ? ["-z"] : []), "--", mountPoint]);
}

/** Throws FsError. */
function helper(args: readonly string[]): HelperOptions {
  const path = findProgram(FUSERMOUNT);
  if (path === null) {
    throw new FsError(ERRNO.EPERM, `no right to, and there is no ${FUSERMOUNT} in PATH`);
  }
  return { path, args, timeoutMs: HELPER_MS };
}

function refusal({ exitCode, said }: HelperResult): FsError {
  if (exitCode === null) {
    return new FsError(ERRNO.EPERM, `${FUSERMOUNT} was ended: nothing after ${HELPER_MS / 1000} s`);
  }
  const words = said.replaceAll(/^\S*fusermount3?: /gm, "").replaceAll(/\s*\n\s*/g, "; ");
  const what = exitCode === 0
    ? `${FUSERMOUNT} handed over no device`
    : `${FUSERMOUNT} refused with status ${exitCode}`;
  return new FsError(ERRNO.EPERM, words === "" ? what : `${what}: ${words}`);
}
