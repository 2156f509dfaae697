/**
 * The one place that starts git.
 *
 * Invariants
 *  1. No git process of ours touches a path below a mount: GIT_DIR is always given, the working
 *     directory is `/`, and in a user's git directory GIT_WORK_TREE is an empty folder. Stores and
 *     views are bare and have no work tree at all.
 *  2. What the caller's environment says about other repositories or about tracing is removed;
 *     what it says about connections (proxy, ssh, configuration) is kept.
 *  3. No secret is in argv or in the environment.
 *  4. Files that git makes are 0644 or 0444 and folders 0755, whatever this process's umask is.
 *
 * A user's git directory is hostile input: commands there run with `owner`, never as this process's
 * own user when the two differ, and without this user's configuration. Where the owner's own counts
 * (attributes.ts, checkout.ts), `env` says where it is.
 */

import { Failure, messageOf } from "../failure.ts";
import { redact } from "../redact.ts";

/** The user a process runs as. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export interface GitOptions {
  /** GIT_DIR. Absent only for commands without a repository. */
  readonly gitDir?: string;
  /** GIT_WORK_TREE: an empty folder; needed in a user's git directory. */
  readonly workTree?: string;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Configuration as `key=value`, stronger than any file's. */
  readonly config?: readonly string[];
  /** Null or absent: as this process's own user. */
  readonly owner?: Owner | null;
  /** Reads objects only: neither fetches missing ones nor connects to anything. */
  readonly probe?: boolean;
  /** Nobody waits for it: it gets what processors the others leave. */
  readonly background?: boolean;
}

export interface SpawnOptions extends GitOptions {
  /** Default "null". */
  readonly stdin?: "piped" | "null";
  /** Default "piped". */
  readonly stderr?: "piped" | "null";
}

export interface RunOptions extends GitOptions {
  readonly stdin?: Uint8Array | ReadableStream<Uint8Array>;
  /** Called when git runs: what follows is waiting. */
  readonly onStarted?: () => void;
  /** Each line and each progress update of standard error as it comes, redacted. */
  readonly onStderr?: (line: string) => void;
  /** Abort ends git and its helpers with SIGTERM, so that they remove their temporary files. */
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
  /** More than that on standard output ends git and is a Failure. */
  readonly stdoutMaxBytes?: number;
}

export interface GitOutput {
  readonly stdout: Uint8Array<ArrayBuffer>;
  /** Redacted; at most the last 64 KiB. */
  readonly stderr: string;
}

/** git ended with another status than 0. The message has no secret. */
export class GitError extends Error {
  override readonly name = "GitError";

  constructor(readonly command: string, readonly code: number, readonly stderr: string) {
    const lines = stderr.split("\n").filter((line) => /^(?:fatal|error):/.test(line));
    const cause = lines.length > 0 ? lines.join(" ") : stderr.trim().split("\n").at(-1) ?? "";
    super(`git ${command} ended with status ${code}${cause === "" ? "" : `: ${cause}`}`);
  }
}

/** Oldest git that has all that is used here. */
export const MINIMUM_GIT = [2, 36] as const;

/**
 * Variables that are removed from this process's environment before the first git starts, so that
 * no child sees them: other repositories, traces (which print what is sent), prompts of a desktop.
 * A compiled program needs `--allow-env` for these names and for those in READ_VARIABLES.
 */
export const REMOVED_VARIABLES = [
  "GIT_DIR",
  "GIT_WORK_TREE",
  "GIT_COMMON_DIR",
  "GIT_INDEX_FILE",
  "GIT_OBJECT_DIRECTORY",
  "GIT_ALTERNATE_OBJECT_DIRECTORIES",
  "GIT_NAMESPACE",
  "GIT_PREFIX",
  "GIT_SHALLOW_FILE",
  "GIT_GRAFT_FILE",
  "GIT_REPLACE_REF_BASE",
  "GIT_NO_REPLACE_OBJECTS",
  "GIT_QUARANTINE_PATH",
  "GIT_INTERNAL_SUPER_PREFIX",
  "GIT_CONFIG",
  "GIT_TEMPLATE_DIR",
  "GIT_DEFAULT_HASH",
  "GIT_LITERAL_PATHSPECS",
  "GIT_GLOB_PATHSPECS",
  "GIT_NOGLOB_PATHSPECS",
  "GIT_ICASE_PATHSPECS",
  "GIT_NO_LAZY_FETCH",
  "GIT_TRACE",
  "GIT_TRACE_CURL",
  "GIT_TRACE_CURL_NO_DATA",
  "GIT_TRACE_FSMONITOR",
  "GIT_TRACE_PACKET",
  "GIT_TRACE_PACKFILE",
  "GIT_TRACE_PACK_ACCESS",
  "GIT_TRACE_PERFORMANCE",
  "GIT_TRACE_REDACT",
  "GIT_TRACE_REFS",
  "GIT_TRACE_SETUP",
  "GIT_TRACE_SHALLOW",
  "GIT_TRACE2",
  "GIT_TRACE2_EVENT",
  "GIT_TRACE2_PERF",
  "GIT_CURL_VERBOSE",
  "SSH_ASKPASS",
] as const;

/** Programs of the user's that git runs, and that are left to it. */
export const READ_VARIABLES = ["GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS"] as const;

/** Nobody is asked for a login, not even a program that the environment names (git: prompt.c). */
export const NO_ASKPASS = { GIT_ASKPASS: "" } as const;

const BASE_CONFIG = [
  "gc.auto=0",
  "maintenance.auto=false",
  "core.fsmonitor=false",
  "core.hooksPath=/dev/null",
  "advice.detachedHead=false",
  "protocol.version=2",
];

/** Without renice git runs all the same. */
const YIELDING_GIT = 'renice -n 10 -p $$ >/dev/null 2>&1; exec git "$@"';
const STDERR_LIMIT = 64 * 1024;
/** After SIGTERM git gets this long to clean up. */
const KILL_AFTER_MS = 2_000;
const GIT_UMASK = 0o022;

let environmentReady = false;

/** Removes REMOVED_VARIABLES; once per thread, since a later one starts with what main left. */
function prepareEnvironment(): void {
  if (environmentReady) return;
  environmentReady = true;
  for (const name of REMOVED_VARIABLES) {
    try {
      Deno.env.delete(name);
    } catch (error) {
      // A worker without the right to its environment: main has removed them before.
      if (!(error instanceof Deno.errors.NotCapable)) throw error;
    }
  }
}

/** Undefined also where this thread may not read it. */
export function readVariable(name: string): string | undefined {
  try {
    return Deno.env.get(name);
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return undefined;
    throw error;
  }
}

function environmentOf(options: GitOptions): Record<string, string> {
  return {
    GIT_TERMINAL_PROMPT: "0",
    // One that the environment names answers by itself; those that configuration or SSH_ASKPASS
    // name are mostly windows of a desktop.
    ...(readVariable("GIT_ASKPASS") === undefined ? NO_ASKPASS : {}),
    GIT_OPTIONAL_LOCKS: "0",
    LC_ALL: "C",
    ...(options.gitDir === undefined ? {} : { GIT_DIR: options.gitDir }),
    ...(options.workTree === undefined ? {} : { GIT_WORK_TREE: options.workTree }),
    ...(options.probe === true ? { GIT_NO_LAZY_FETCH: "1", GIT_ALLOW_PROTOCOL: "none" } : {}),
    // The owner cannot read this user's files, and must not act on them.
    ...(options.owner
      ? { GIT_CONFIG_GLOBAL: "/dev/null", HOME: "/nonexistent", ...NO_ASKPASS }
      : {}),
    ...options.env,
  };
}

/**
 * Starts `git <args>`. Standard output is piped. The caller reads it to its end and awaits
 * `status`. Throws Failure (fatal) when there is no git.
 */
export function spawnGit(args: readonly string[], options: SpawnOptions = {}): Deno.ChildProcess {
  prepareEnvironment();
  const config = [...BASE_CONFIG, ...options.config ?? []].flatMap((entry) => ["-c", entry]);
  const gitArgs = [...config, ...args];
  const command = new Deno.Command(options.background === true ? "sh" : "git", {
    args: options.background === true ? ["-c", YIELDING_GIT, "sh", ...gitArgs] : gitArgs,
    cwd: options.cwd ?? "/",
    env: environmentOf(options),
    stdin: options.stdin ?? "null",
    stdout: "piped",
    stderr: options.stderr ?? "piped",
    // A process group of its own, so that a signal reaches git's helpers (git-remote-https), and no
    // terminal on which ssh could ask.
    detached: true,
    ...(options.owner ? { uid: options.owner.uid, gid: options.owner.gid } : {}),
  });
  // A child's umask is ours at the fork, and spawn() forks before it returns.
  // The daemon's is the right one already: the mask is the whole process's, and two threads that
  // changed it at the same time would leave the wrong one behind.
  const umask = Deno.umask();
  if (umask !== GIT_UMASK) Deno.umask(GIT_UMASK);
  try {
    return command.spawn();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Failure(
      "fatal",
      `Cannot run git: it is not in PATH; install git ${MINIMUM_GIT.join(".")} or newer`,
      { cause: error },
    );
  } finally {
    if (umask !== GIT_UMASK) Deno.umask(umask);
  }
}

/** Runs git to its end. Throws GitError; the signal's reason when aborted; Failure without git. */
export async function runGit(
  args: readonly string[],
  options: RunOptions = {},
): Promise<GitOutput> {
  const timeout = options.timeoutMs === undefined ? [] : [AbortSignal.timeout(options.timeoutMs)];
  const signals = options.signal === undefined ? timeout : [options.signal, ...timeout];
  const tooMuch = new AbortController();
  const signal = AbortSignal.any([...signals, tooMuch.signal]);
  signal.throwIfAborted();
  const child = spawnGit(args, {
    ...options,
    stdin: options.stdin === undefined ? "null" : "piped",
  });
  const end = endOnAbort(child, signal);
  try {
    options.onStarted?.();
    const [stdout, stderr, status] = await Promise.all([
      new Response(atMost(child.stdout, options.stdoutMaxBytes, tooMuch)).arrayBuffer(),
      readStderr(child.stderr, options.onStderr),
      child.status,
      options.stdin === undefined ? null : writeAll(child.stdin, options.stdin),
    ]);
    signal.throwIfAborted();
    if (!status.success) throw new GitError(args[0] ?? "", status.code, stderr);
    return { stdout: new Uint8Array(stdout), stderr };
  } finally {
    end.stop();
  }
}

/** The stream, which ends where it would be longer than `maxBytes`: `tooMuch` is aborted then. */
function atMost(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  maxBytes: number | undefined,
  tooMuch: AbortController,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  if (maxBytes === undefined) return stream;
  let left = maxBytes;
  return stream.pipeThrough(
    new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
      transform(chunk, controller) {
        left -= chunk.length;
        if (left >= 0) controller.enqueue(chunk);
        else {
          tooMuch.abort(new Failure("failed", "Cannot use what git says: it is too much"));
          controller.terminate();
        }
      },
    }),
  );
}

/** As runGit; standard output as text without its last newline. For output that is ASCII. */
export async function gitText(args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { stdout } = await runGit(args, options);
  return new TextDecoder().decode(stdout).replace(/\n$/, "");
}

/**
 * On abort, SIGTERM for git and its helpers, which hold its pipes open; SIGKILL for what is left
 * after KILL_AFTER_MS.
 */
function endOnAbort(child: Deno.ChildProcess, signal: AbortSignal): { stop(): void } {
  let timer: number | undefined;
  const onAbort = () => {
    signalGroup(child, "TERM");
    timer = setTimeout(() => signalGroup(child, "KILL"), KILL_AFTER_MS);
  };
  signal.addEventListener("abort", onAbort, { once: true });
  return {
    stop() {
      signal.removeEventListener("abort", onAbort);
      clearTimeout(timer);
    },
  };
}

/**
 * Signals a process group. By a shell: Deno.kill would need the right to run anything. A worker may
 * run git only; there git alone is signalled, and its helpers end with their pipes.
 */
function signalGroup(child: Deno.ChildProcess, name: "TERM" | "KILL"): void {
  try {
    const kill = new Deno.Command("sh", {
      args: ["-c", `kill -s "$1" -- "-$2"`, "sh", name, String(child.pid)],
      cwd: "/",
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    // A group that has ended meanwhile is no error.
    kill.status.catch(() => {});
  } catch (error) {
    if (!(error instanceof Deno.errors.NotCapable)) throw error;
    try {
      child.kill(`SIG${name}`);
    } catch {
      // It has ended meanwhile.
    }
  }
}

async function writeAll(
  stdin: WritableStream<Uint8Array>,
  bytes: Uint8Array | ReadableStream<Uint8Array>,
): Promise<void> {
  if (bytes instanceof ReadableStream) {
    await bytes.pipeTo(stdin).catch(() => {});
    return;
  }
  const writer = stdin.getWriter();
  try {
    await writer.write(bytes);
    await writer.close();
  } catch {
    // git ended without reading all; its status says why.
  }
}

/**
 * Splits at newlines and at the carriage returns of progress, which is not kept. ssh ends its lines
 * with both.
 */
async function readStderr(
  stream: ReadableStream<Uint8Array>,
  onLine: ((line: string) => void) | undefined,
): Promise<string> {
  let rest = "";
  let kept = "";
  /** The last one, if it ended with a carriage return. */
  let progress = "";
  const take = (line: string, end: string | undefined) => {
    const clean = redact(line.trimEnd());
    if (clean !== "") onLine?.(clean);
    const whole = line === "" && end === "\n" ? progress : clean;
    progress = end === "\r" ? clean : "";
    if (end !== "\r" && whole !== "") kept = `${kept}${whole}\n`.slice(-STDERR_LIMIT);
  };
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    rest += text;
    for (;;) {
      const end = rest.search(/[\r\n]/);
      if (end < 0) break;
      take(rest.slice(0, end), rest[end]);
      rest = rest.slice(end + 1);
    }
    if (rest.length > STDERR_LIMIT) rest = rest.slice(-STDERR_LIMIT);
  }
  take(rest, undefined);
  return kept;
}

let checked: Promise<string> | null = null;

/**
 * The version of git (`2.39.5`), asked once. Throws Failure (fatal) when git is missing or older
 * than MINIMUM_GIT.
 */
export function gitVersion(): Promise<string> {
  checked ??= readVersion();
  return checked;
}

async function readVersion(): Promise<string> {
  let text: string;
  try {
    text = await gitText(["--version"]);
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure("fatal", `Cannot run git: ${messageOf(error)}`, { cause: error });
  }
  return checkVersion(text);
}

/** `git version 2.39.5 (Apple Git-154)` to `2.39.5`. Throws Failure (fatal) when it is too old. */
export function checkVersion(text: string): string {
  const match = /(\d+)\.(\d+)[0-9.]*/.exec(text);
  const [major, minor] = MINIMUM_GIT;
  const found = match === null ? [0, 0] : [Number(match[1]), Number(match[2])];
  const [foundMajor = 0, foundMinor = 0] = found;
  if (foundMajor < major || (foundMajor === major && foundMinor < minor)) {
    throw new Failure(
      "fatal",
      `Cannot work with ${text.trim()}: it is too old; install git ${major}.${minor} or newer`,
    );
  }
  return (match as RegExpExecArray)[0].replace(/\.$/, "");
}
