/**
 * The one place where a secret is kept: a file of the mount's owner (0600) in git's credential
 * format. Configuration names its path only, through a helper that prints it. Where the secret is
 * in a token file of somebody else, a link to that has the place of ours (token_file.ts).
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

import { registerSecret } from "../redact.ts";
import type { ConfigEntry } from "./config_file.ts";
import { writeFileAtomically } from "./files.ts";
import { gitText, NO_ASKPASS, type Owner } from "./process.ts";
import type { Credentials } from "./remote_url.ts";
import { TOKEN_LINK_SUFFIX, tokenHelper } from "./token_file.ts";

/** Where the credentials for a server lie. */
export interface CredentialSource {
  /** `https://host:port`. */
  readonly origin: string;
  /** Absolute path of the credentials file, or of a link to a token file. */
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
  if (path.endsWith(TOKEN_LINK_SUFFIX)) return tokenHelper(quoted);
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

/**
 * What a source says now, which this thread's log and messages mask from then on. Throws GitError
 * when it says nothing.
 */
export async function readLogin(source: CredentialSource): Promise<Credentials> {
  const text = await gitText(["credential", "fill"], {
    config: credentialConfig(source),
    env: NO_ASKPASS,
    stdin: new TextEncoder().encode(`url=${source.origin}\n\n`),
  });
  const value = (key: string) => new RegExp(`^${key}=(.*)$`, "m").exec(text)?.[1] ?? "";
  const login = { username: value("username"), password: value("password") };
  registerLogin(login);
  return login;
}

/** Value of the Authorization header. */
export function basicAuthorization({ username, password }: Credentials): string {
  const bytes = new TextEncoder().encode(`${username}:${password ?? ""}`);
  return `Basic ${bytes.toBase64()}`;
}

/** Makes this thread mask a login wherever it is printed, also as it is sent. */
export function registerLogin(login: Credentials): void {
  const { username, password } = login;
  // Tokens come as user names too.
  const nameIsToken = password === null || password === "" || password === "x-oauth-basic";
  registerSecret(nameIsToken ? username : password);
  registerSecret(basicAuthorization(login).replace("Basic ", ""));
}
