/** A token that comes with a later `mount` of a repository. */

import { writeCredentials } from "../git/credentials.ts";
import { gitFailure } from "../git/errors.ts";
import { parseRemote } from "../git/remote_url.ts";
import { preferCredentials } from "../git/store.ts";
import { useCredentials } from "../git/user_git_dir.ts";
import type { Layout } from "./layout.ts";
import { takeLock } from "./lock.ts";
import { ownerOf, userGitDirOf } from "./owner.ts";
import type { RepoRecord } from "./types.ts";

/**
 * Keeps the credentials of a URL, if it has any, for a registered repository that had others or
 * none: its store's fetches and its user's git use them from now on. Safe to repeat. Throws
 * Failure, or the signal's reason.
 */
export async function keepCredentials(
  record: RepoRecord,
  url: string,
  layout: Layout,
  signal?: AbortSignal,
): Promise<void> {
  const { credentials, origin } = parseRemote(url);
  if (credentials === null || origin === null) return;
  const path = layout.repo(record.id).credentialsPath;
  const store = layout.store(record.storeId);
  try {
    await writeCredentials(path, credentials, ownerOf(record));
    const lock = await takeLock(store.lockPath, signal === undefined ? {} : { signal });
    try {
      await preferCredentials(store.gitDir, path);
    } finally {
      await lock.release();
    }
    // Last: it is the user's, and may be broken.
    await useCredentials(userGitDirOf(record, layout), { origin, path });
  } catch (error) {
    signal?.throwIfAborted();
    throw gitFailure(`keep the credentials for ${record.remote}`, error);
  }
}
