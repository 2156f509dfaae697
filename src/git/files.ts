/**
 * Files and folders with exact rights: chmod follows creation, because the umask takes rights away
 * from the mode that is asked for. A file replaces the one before it by rename, so a reader sees
 * the old or the new one.
 *
 * What is a few system calls is done on this thread: to have it done on another takes ten times as
 * long, and a repository is made of more than a hundred of them.
 */

// deno-lint-ignore-file require-await -- callers need not know which of these wait

import type { Owner } from "./process.ts";

/**
 * Makes a folder (not its parents) with exactly this mode; one that exists keeps its mode. Returns
 * whether it was made.
 */
export async function makeFolder(path: string, mode: number): Promise<boolean> {
  try {
    Deno.mkdirSync(path, { mode });
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) return false;
    throw error;
  }
  Deno.chmodSync(path, mode);
  return true;
}

/** Writes a file by rename, with exactly this mode and, when given, this owner. */
export async function writeFileAtomically(
  path: string,
  content: string | Uint8Array,
  mode: number,
  owner: Owner | null = null,
): Promise<void> {
  const temporary = `${path}.new-${crypto.randomUUID().slice(0, 8)}`;
  try {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    Deno.writeFileSync(temporary, bytes, { createNew: true, mode: 0o600 });
    if (owner !== null) Deno.chownSync(temporary, owner.uid, owner.gid);
    Deno.chmodSync(temporary, mode);
    Deno.renameSync(temporary, path);
  } catch (error) {
    await removeIfExists(temporary);
    throw error;
  }
}

/** The content of a file; null when there is none. */
export async function readIfExists(path: string): Promise<Uint8Array<ArrayBuffer> | null> {
  try {
    return Deno.readFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

export async function readTextIfExists(path: string): Promise<string | null> {
  const bytes = await readIfExists(path);
  return bytes === null ? null : new TextDecoder().decode(bytes);
}

export async function pathExists(path: string): Promise<boolean> {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Removes a file or link, or an empty folder. Returns whether there was one. */
export async function removeIfExists(path: string): Promise<boolean> {
  try {
    Deno.removeSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

const REMOVE_TRIES = 20;
const REMOVE_WAIT_MS = 50;

/**
 * Removes a folder and all in it; links are not followed. Processes that were just ended may still
 * write there for a moment, so a folder that is not empty is tried again.
 */
export async function removeTree(path: string): Promise<void> {
  for (let attempt = 1;; attempt++) {
    try {
      await Deno.remove(path, { recursive: true });
      return;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound && !await pathExists(path)) return;
      if (attempt === REMOVE_TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, REMOVE_WAIT_MS));
    }
  }
}

/** Gives a folder and all in it to an owner; links themselves are given, not what they name. */
export async function giveTree(path: string, owner: Owner): Promise<void> {
  for await (const entry of Deno.readDir(path)) {
    const inner = `${path}/${entry.name}`;
    if (entry.isDirectory) await giveTree(inner, owner);
    else if (!entry.isSymlink) await Deno.chown(inner, owner.uid, owner.gid);
  }
  await Deno.chown(path, owner.uid, owner.gid);
}
