/** Logins that are given with `mount` or `add-repo`: in the URL, or as the path of a token file. */

import { registerLogin, writeCredentials } from "../git/credentials.ts";
import type { CredentialSource } from "../git/credentials.ts";
import { Failure } from "../failure.ts";
import { gitFailure } from "../git/errors.ts";
import { removeIfExists } from "../git/files.ts";
import type { Owner } from "../git/process.ts";
import { type Credentials, parseRemote, type Remote } from "../git/remote_url.ts";
import { dropCredentials, preferCredentials } from "../git/store.ts";
import { linkTokenFile, readTokenFile } from "../git/token_file.ts";
import { useCredentials } from "../git/user_git_dir.ts";
import type { Layout, RepoLayout } from "./layout.ts";
import { takeLock } from "./lock.ts";
import { ownerOf, userGitDirOf } from "./owner.ts";
import type { RepoRecord } from "./types.ts";

export interface GivenLogin {
  /** Where it is to be found from now on. */
  readonly source: CredentialSource;
  /** What is to be there: a secret, or the path of a token file. */
  readonly content: Credentials | string;
}

/** Reads the token file, if one is given. Throws Failure (usage) for what cannot be used. */
export function checkLogin({ url, origin, credentials }: Remote, tokenFile: string | null): void {
  if (credentials !== null) registerLogin(credentials);
  if (tokenFile === null) return;
  const refuse = (why: string) =>
    new Failure("usage", `Cannot use a token file for ${url}: ${why}`);
  if (credentials !== null) throw refuse("its URL has a login too; give one of them");
  if (origin === null) throw refuse("only http and https take a token");
  const login = readTokenFile(tokenFile);
  if (login !== null) registerLogin(login);
}

/** Null: none was given. Throws as checkLogin. */
export function givenLogin(
  remote: Remote,
  tokenFile: string | null,
  { credentialsPath, tokenLinkPath }: RepoLayout,
): GivenLogin | null {
  checkLogin(remote, tokenFile);
  const { origin, credentials } = remote;
  if (origin === null) return null;
  if (tokenFile !== null) return { source: { origin, path: tokenLinkPath }, content: tokenFile };
  if (credentials === null) return null;
  return { source: { origin, path: credentialsPath }, content: credentials };
}

/** Puts it where its source says. */
export async function writeLogin(
  { source: { path }, content }: GivenLogin,
  owner: Owner | null,
): Promise<void> {
  if (typeof content === "string") await linkTokenFile(path, content);
  else await writeCredentials(path, content, owner);
}

/**
 * Keeps a login, if one is given, for a registered repository that had another or none: its store's
 * fetches and its user's git use it from now on. Safe to repeat. Returns whether one was given.
 * Throws Failure, or the signal's reason.
 */
export async function keepCredentials(
  record: RepoRecord,
  given: { readonly url: string; readonly tokenFile: string | null },
  layout: Layout,
  signal?: AbortSignal,
): Promise<boolean> {
  const { credentialsPath, tokenLinkPath } = layout.repo(record.id);
  const login = givenLogin(parseRemote(given.url), given.tokenFile, layout.repo(record.id));
  if (login === null) return false;
  const { path } = login.source;
  const other = path === credentialsPath ? tokenLinkPath : credentialsPath;
  const store = layout.store(record.storeId);
  try {
    await writeLogin(login, ownerOf(record));
    const lock = await takeLock(store.lockPath, signal === undefined ? {} : { signal });
    try {
      await preferCredentials(store.gitDir, path);
      await dropCredentials(store.gitDir, other);
    } finally {
      await lock.release();
    }
    await removeIfExists(other);
    // Last: it is the user's, and may be broken.
    await useCredentials(userGitDirOf(record, layout), login.source);
    return true;
  } catch (error) {
    signal?.throwIfAborted();
    throw gitFailure(`keep the credentials for ${record.remote}`, error);
  }
}
