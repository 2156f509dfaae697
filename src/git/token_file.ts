/**
 * Files of a user or a secret manager that hold a token and nothing else: `token` or `user:token`,
 * in one line. Only the path is kept. The file is read again by whoever logs in, so that a token
 * that is renewed there is used at once.
 *
 * Each repository names its file by a symbolic link of ours (layout.ts, `tokenLinkPath`), in a folder
 * that only this process's user may write: a mount's owner, who may write in a credentials file, can
 * have no other file of the machine read and sent.
 *
 * There are two readers by the same rules: `readTokenFile`, which says at once what is wrong, and
 * `tokenHelper`, which is git's and so also the user's.
 */

import { Failure, messageOf } from "../failure.ts";
import { removeIfExists } from "./files.ts";
import type { Credentials } from "./remote_url.ts";

/** More is no token. */
const MAX_CHARACTERS = 4096;
/** For hosts that look at the token only; as GitHub calls it. */
const ANY_USER = "x-access-token";
/** What a path of a credentials file ends with that is a link to a token file. */
export const TOKEN_LINK_SUFFIX = ".token";

const WRONG = {
  absent: "it is not there",
  unreadable: "it cannot be read",
  notFile: "it is no file",
  empty: "it is empty",
  long: "it is too long",
  lines: "it has more than one line",
  control: "it has control characters",
} as const;

/** Throws Failure (usage) for what is no token; `from` is what it is called there. */
export function parseToken(text: string, from: string): Credentials {
  const line = text.replace(/\n+$/, "").replace(/\r$/, "");
  if (line === "") throw unusable(from, WRONG.empty);
  if (line.length > MAX_CHARACTERS) throw unusable(from, WRONG.long);
  if (line.includes("\n")) throw unusable(from, WRONG.lines);
  // deno-lint-ignore no-control-regex -- exactly these are refused
  if (/[\x00-\x1f\x7f]/.test(line)) throw unusable(from, WRONG.control);
  const colon = line.indexOf(":");
  if (colon < 0) return { username: ANY_USER, password: line };
  return { username: line.slice(0, colon), password: line.slice(colon + 1) };
}

/** Null: it is where only git's helper may look (below /dev). Throws Failure (usage). */
export function readTokenFile(path: string): Credentials | null {
  const from = `the token file ${path}`;
  try {
    if (!Deno.statSync(path).isFile) throw unusable(from, WRONG.notFile);
    using file = Deno.openSync(path);
    return parseToken(new TextDecoder().decode(firstBytes(file)), from);
  } catch (error) {
    if (error instanceof Failure) throw error;
    if (error instanceof Deno.errors.NotCapable) return null;
    if (error instanceof Deno.errors.NotFound) throw unusable(from, WRONG.absent);
    if (error instanceof Deno.errors.PermissionDenied) throw unusable(from, WRONG.unreadable);
    throw unusable(from, messageOf(error));
  }
}

/** From standard input, to its end. Throws Failure (usage). */
export function readTokenFrom(input: { readSync(bytes: Uint8Array): number | null }): Credentials {
  return parseToken(new TextDecoder().decode(firstBytes(input)), "the token of standard input");
}

function firstBytes(input: { readSync(bytes: Uint8Array): number | null }): Uint8Array {
  const bytes = new Uint8Array(4 * MAX_CHARACTERS);
  let length = 0;
  for (;;) {
    const count = input.readSync(bytes.subarray(length));
    if (count === null || count === 0) return bytes.subarray(0, length);
    length += count;
  }
}

function unusable(from: string, what: string): Failure {
  return new Failure("usage", `Cannot use ${from}: ${what}; it is to hold a token in one line`);
}

/**
 * The shell function git runs for a link; `store` and `erase` do nothing. Only builtins see the
 * token. It ends with a failure and a line on standard error when there is none.
 */
export function tokenHelper(quotedLink: string): string {
  return [
    `!f() { test "$1" = get || return 0`,
    `p=$(readlink ${quotedLink})`,
    `no() { echo "afs: token file $p: $1" >&2; exit 1; }`,
    `test -r "$p" || no "${WRONG.absent}, or cannot be read"`,
    `test -f "$p" || no "${WRONG.notFile}"`,
    `head -c ${4 * MAX_CHARACTERS} "$p" | { IFS= read -r t; u=$(cat)`,
    `t=\${t%"$(printf '\\r')"}`,
    `test -z "$u" || no "${WRONG.lines}"`,
    `test -n "$t" || no "${WRONG.empty}"`,
    `test \${#t} -le ${MAX_CHARACTERS} || no "${WRONG.long}"`,
    `case $t in *:*) ;; *) t=${ANY_USER}:$t ;; esac`,
    `printf 'username=%s\\npassword=%s\\n' "\${t%%:*}" "\${t#*:}"; }; }; f`,
  ].join("; ");
}

/** The link names this file from now on. */
export async function linkTokenFile(link: string, tokenFile: string): Promise<void> {
  const temporary = `${link}.new-${crypto.randomUUID().slice(0, 8)}`;
  try {
    Deno.symlinkSync(tokenFile, temporary);
    Deno.renameSync(temporary, link);
  } catch (error) {
    await removeIfExists(temporary);
    throw error;
  }
}
