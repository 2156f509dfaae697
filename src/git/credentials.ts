/**
 * The one place where a secret is kept: a file of the mount's owner (0600) in git's credential
 * format. Configuration names its path only, through a helper that prints it.
 *
 * Invariants
 *  1. The helper list is reset before ours, so that no other helper ever stores our secret.
 *  2. The helper is configured for one scheme, host and port: git asks it for no other.
 *  3. The file is replaced by rename, never written in place.
 *
 * The mounts of a store may have credentials each, of which some may not be valid any more, and
 * may share its fetches. So a store lists the paths of all, the ones given last first; a transfer
 * tries them in this order, and then what git finds by itself (transfer.ts). Only a login that is
 * refused leads to the next. An acquisition that was given credentials uses these and no others:
 * whoever gives wrong ones is to know.
 */

import type { ConfigEntry } from "./config_file.ts";
import { writeFileAtomically } from "./files.ts";
import type { Owner } from "./process.ts";
import type { Credentials } from "./remote_url.ts";

/** Where the credentials for a server lie. */
export interface CredentialSource {
  /** `https://host:port`. */
  readonly origin: string;
  /** Absolute path of the credentials file. */
  readonly path: string;
}

/** Content of a credentials file. A user name alone gets an empty password: tokens come so. */
export function credentialText(credentials: Credentials): string {
  return `username=${credentials.username}\npassword=${credentials.password ?? ""}\n`;
}

export async function writeCredentials(
  path: string,
  credentials: Credentials,
  owner: Owner | null,
): Promise<void> {
  await writeFileAtomically(path, credentialText(credentials), 0o600, owner);
}

/** The shell function git runs; `store` and `erase` do nothing. */
export function credentialHelper(path: string): string {
  const quoted = `'${path.replaceAll("'", `'\\''`)}'`;
  return `!f() { test "$1" != get || cat ${quoted}; }; f`;
}

/** For a configuration file; empty without credentials, and then the user's own helpers serve. */
export function credentialEntries(source: CredentialSource | null): ConfigEntry[] {
  if (source === null) return [];
  return [
    ["credential", source.origin, "helper", ""],
    ["credential", source.origin, "helper", credentialHelper(source.path)],
  ];
}

/** The same for `git -c`. */
export function credentialConfig(source: CredentialSource | null): string[] {
  return credentialEntries(source).map(([section, subsection, key, value]) =>
    `${section}.${subsection}.${key}=${value}`
  );
}
