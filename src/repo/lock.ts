/**
 * Locks between processes and within one: flock on a file of its own, which ends with its holder
 * however that dies. The file goes when its holder lets go, so a lock leaves nothing behind; who
 * was waiting for the removed file notices that the path names another one, and starts anew.
 */

import { removeIfExists } from "../git/files.ts";

export interface Lock {
  /** Lets go. Safe to call twice. */
  release(): Promise<void>;
}

const POLL_MS = 20;

/** Waits for the lock; `onWait` is called once if it has to. Throws the signal's reason. */
export async function takeLock(
  path: string,
  options: { readonly signal?: AbortSignal; readonly onWait?: () => void } = {},
): Promise<Lock> {
  for (let waited = false;; waited = true) {
    options.signal?.throwIfAborted();
    const lock = await tryLock(path);
    if (lock !== null) return lock;
    if (!waited) options.onWait?.();
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** Null: somebody else holds it. */
// deno-lint-ignore require-await -- to be awaited as takeLock is
export async function tryLock(path: string): Promise<Lock | null> {
  const file = Deno.openSync(path, { create: true, write: true, mode: 0o600 });
  let held = false;
  try {
    held = file.tryLockSync(true) && isStillAt(file, path);
  } finally {
    if (!held) file.close();
  }
  return held ? lockOf(file, path) : null;
}

function isStillAt(file: Deno.FsFile, path: string): boolean {
  try {
    const [opened, named] = [file.statSync(), Deno.lstatSync(path)];
    return opened.ino === named.ino && opened.dev === named.dev;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function lockOf(file: Deno.FsFile, path: string): Lock {
  let released = false;
  return {
    async release() {
      if (released) return;
      released = true;
      // Before the close: while it is held nobody else can hold this file.
      await removeIfExists(path);
      file.close();
    },
  };
}
