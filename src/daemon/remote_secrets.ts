/** Makes the log know the secrets of a repository, so that it can mask them. */

import { registerSecret } from "../redact.ts";
import type { Layout } from "../repo/layout.ts";
import type { RepoRecord } from "../repo/types.ts";

/** Reads the credentials file, if there is one. Never throws. */
export async function registerSecretsOfRemote(record: RepoRecord, layout: Layout): Promise<void> {
  try {
    const text = await Deno.readTextFile(layout.repo(record.id).credentialsPath);
    const username = /^username=(.*)$/m.exec(text)?.[1] ?? "";
    const password = /^password=(.*)$/m.exec(text)?.[1] ?? "";
    // Tokens come as user names too.
    registerSecret(password === "" || password === "x-oauth-basic" ? username : password);
  } catch {
    // Most repositories have none.
  }
}
