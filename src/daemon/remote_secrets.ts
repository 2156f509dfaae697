/** Makes the log know the secrets of a repository, so that it can mask them. */

import { readLogin } from "../git/credentials.ts";
import { pathExists } from "../git/files.ts";
import { parseRemote } from "../git/remote_url.ts";
import type { Layout } from "../repo/layout.ts";
import type { RepoRecord } from "../repo/types.ts";

/** Reads its logins, if it has any. Never throws. */
export async function registerSecretsOfRemote(record: RepoRecord, layout: Layout): Promise<void> {
  const { origin } = parseRemote(record.remote);
  if (origin === null) return;
  const { credentialsPath, tokenLinkPath } = layout.repo(record.id);
  for (const path of [credentialsPath, tokenLinkPath]) {
    // Most repositories have none; a token file may have gone.
    if (await pathExists(path)) await readLogin({ origin, path }).catch(() => {});
  }
}
