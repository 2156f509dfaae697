/**
 * What git's standard error means for a user: the kind of failure (which fixes the exit code), what
 * is wrong, and what to do about it. git has no error codes, so its English text (LC_ALL=C) is
 * matched; the first row that matches wins, so the special rows stand before the general ones.
 */

import { Failure, type FailureKind, messageOf } from "../failure.ts";
import { redact } from "../redact.ts";
import { GitError } from "./process.ts";

/** What went wrong, apart from the kind: callers act on some of these. */
export type GitCause =
  | "no-branch"
  | "no-repository"
  | "not-git"
  | "authentication"
  | "host-key"
  | "certificate"
  | "network"
  | "disk-full"
  | "ownership"
  | "protocol"
  | "shallow-unsupported"
  | "lock"
  | "other";

interface Row {
  readonly pattern: RegExp;
  readonly cause: GitCause;
  readonly kind: FailureKind;
  readonly what: string;
  readonly advice: string;
}

/** Without regard to case. */
function anyOf(...patterns: readonly RegExp[]): RegExp {
  return new RegExp(patterns.map((pattern) => pattern.source).join("|"), "im");
}

const NETWORK_ADVICE = "check the network and the server, then try again";

const ROWS: readonly Row[] = [
  {
    pattern: anyOf(
      /No space left on device/,
      /Disk quota exceeded/,
    ),
    cause: "disk-full",
    kind: "failed",
    what: "the disk is full",
    advice: "free some space below the state root, then try again",
  },
  {
    pattern: anyOf(
      /Remote branch .* not found/,
      /couldn't find remote ref/,
      /invalid refspec/,
      /not our ref/,
      /does not allow request for unadvertised object/,
    ),
    cause: "no-branch",
    kind: "failed",
    what: "it has no such branch or tag",
    advice: "see `git ls-remote` for those it has",
  },
  {
    pattern: anyOf(
      /dubious ownership/,
    ),
    cause: "ownership",
    kind: "failed",
    what: "the repository belongs to another user",
    advice: "add its directory to git's safe.directory, or run as its owner",
  },
  {
    pattern: anyOf(
      /does not support shallow/,
      /shallow.*not supported/,
    ),
    cause: "shallow-unsupported",
    kind: "failed",
    what: "the server cannot give a part of the history",
    advice: "use a plain `git clone`",
  },
  {
    pattern: anyOf(
      /Host key verification failed/,
      /REMOTE HOST IDENTIFICATION HAS CHANGED/,
    ),
    cause: "host-key",
    kind: "authentication",
    what: "the host's key is not known to ssh",
    advice: "connect to it once with ssh and accept the key",
  },
  {
    pattern: anyOf(
      /^afs: token file /,
    ),
    cause: "authentication",
    kind: "authentication",
    what: "there is no token",
    advice: "write the token into the file, in one line",
  },
  {
    pattern: anyOf(
      /Authentication failed/,
      /could not read (?:Username|Password)/,
      /Permission denied \(/,
      /The requested URL returned error: 40[13]/,
      /HTTP Basic: Access denied/,
      /Invalid username or/,
      /terminal prompts disabled/,
      /Too many authentication failures/,
    ),
    cause: "authentication",
    kind: "authentication",
    what: "it needs a login, or the one given was refused",
    advice:
      "give a token (--token-file, or https://user:token@host/...), a git credential helper or an " +
      "ssh key",
  },
  {
    pattern: anyOf(
      /repository .* not found/,
      /Repository not found/,
      /does not appear to be a git repository/,
      /does not exist/,
      /The requested URL returned error: 404/,
      /no such repository/,
      /not exported/,
      /project you were looking for could not be found/,
    ),
    cause: "no-repository",
    kind: "failed",
    what: "there is no git repository there, or it needs a login",
    advice: "check the URL",
  },
  {
    pattern: anyOf(
      /not valid: is this a git repository/,
      /not a git repository/,
      /smart HTTP.*(?:invalid|unexpected)/,
      /invalid server response/,
      /protocol error: bad line length/,
      /bad line length character/,
      /invalid content-type/,
    ),
    cause: "not-git",
    kind: "failed",
    what: "what answers there is not a git server",
    advice: "check the URL",
  },
  {
    pattern: anyOf(
      /certificate/,
      /SSL_ERROR/,
      /SSL routines/,
      /SSL peer/,
      /gnutls_handshake/,
    ),
    cause: "certificate",
    kind: "network",
    what: "the server's TLS certificate was refused",
    advice: "add its authority to the system's certificates or to git's http.sslCAInfo",
  },
  {
    pattern: anyOf(
      /Could not resolve/,
      /Name or service not known/,
      /Temporary failure in name resolution/,
      /Connection refused/,
      /Couldn't connect/,
      /Failed to connect/,
      /timed? ?out/,
      /Network is unreachable/,
      /No route to host/,
      /Operation too slow/,
      /nothing arrived for/,
      /The requested URL returned error: (?:429|5\d\d)/,
      /unexpected disconnect/,
      /early EOF/,
      /hung up unexpectedly/,
      /Connection (?:reset|closed)/,
      /RPC failed/,
      /Empty reply from server/,
      /Recv failure/,
      /Send failure/,
      /Could not read from remote repository/,
    ),
    cause: "network",
    kind: "network",
    what: "the server cannot be reached, or the connection broke",
    advice: NETWORK_ADVICE,
  },
  {
    pattern: anyOf(
      /transport '.*' not allowed/,
      /Unable to find remote helper/,
    ),
    cause: "protocol",
    kind: "usage",
    what: "this kind of URL is not supported or not allowed",
    advice: "use https, http, ssh, git or file",
  },
  {
    pattern: anyOf(
      /cannot lock ref/,
      /Unable to create '.*\.lock'/,
      /unable to update local ref/,
    ),
    cause: "lock",
    kind: "failed",
    what: "a ref of the store could not be written",
    advice: "try again",
  },
];

/** The row for git's text; null when none fits. */
function rowOf(stderr: string): Row | null {
  return ROWS.find((row) => row.pattern.test(stderr)) ?? null;
}

/** What git's standard error says went wrong. */
export function gitCauseOf(error: unknown): GitCause {
  return error instanceof GitError ? rowOf(error.stderr)?.cause ?? "other" : "other";
}

/**
 * A thrown thing as a Failure: `Cannot <action>: <what>; <what to do>`. A Failure stays as it is.
 * `action` names the remote without credentials: `mount https://host/x`.
 */
export function gitFailure(action: string, error: unknown): Failure {
  if (error instanceof Failure) return error;
  if (!(error instanceof GitError)) {
    const full = /os error 28|No space left/i.test(messageOf(error));
    const what = full ? "the disk is full; free some space, then try again" : messageOf(error);
    return new Failure("failed", redact(`Cannot ${action}: ${what}`), { cause: error });
  }
  const row = rowOf(error.stderr);
  const text = row === null ? lastWords(error) : `${row.what} (${lastWords(error)}); ${row.advice}`;
  return new Failure(row?.kind ?? "failed", redact(`Cannot ${action}: ${text}`), { cause: error });
}

/** Whether the same may go well a moment later: the network's fault, or a server's. */
export function isTransient(failure: unknown): boolean {
  return failure instanceof Failure && gitCauseOf(failure.cause) === "network";
}

/** Whether another form of the request may fare better: not when nobody answers. */
export function isWorthAnotherForm(error: unknown, signal: AbortSignal | undefined): boolean {
  if (signal?.aborted === true) return false;
  const { kind } = gitFailure("fetch", error);
  return kind !== "network" && kind !== "authentication";
}

/** git's own line that says most, without its prefix. */
function lastWords(error: GitError): string {
  const lines = error.stderr.split("\n").filter((line) => line !== "" && !/^warning:/.test(line));
  const said = lines.filter((line) => /^(?:fatal|error|remote: error|ERROR):/i.test(line));
  // ssh and our helper say what is wrong in a line of their own, before git's general one.
  const special = lines.find((line) => /^afs: |^ssh: |^Host key|Permission denied/.test(line));
  const line = special ?? said[0] ?? lines.at(-1) ?? error.message;
  const text = line.replace(/^(?:(?:remote: )?(?:fatal|error)|afs): /i, "").trim().replace(
    /[.:]$/,
    "",
  );
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}
