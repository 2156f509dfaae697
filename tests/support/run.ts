/**
 * Commands under a time guard, temporary directories that survive nothing, and waiting for a
 * condition. Nothing here ever waits without an end: a command that outlives its guard is killed
 * with its whole process group, and a process that does not even die of SIGKILL (stuck in the
 * kernel on a dead mount) is given up with an error that says so.
 */

/**
 * Environment that keeps git away from the configuration, identity and prompts of whoever runs it.
 */
export const GIT_ENV: Readonly<Record<string, string>> = Object.freeze({
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_TERMINAL_PROMPT: "0",
  GIT_ASKPASS: "true",
  GIT_AUTHOR_NAME: "A U Thor",
  GIT_AUTHOR_EMAIL: "author@example.com",
  GIT_AUTHOR_DATE: "1700000000 +0000",
  GIT_COMMITTER_NAME: "C O Mitter",
  GIT_COMMITTER_EMAIL: "committer@example.com",
  GIT_COMMITTER_DATE: "1700000000 +0000",
  LC_ALL: "C",
});

/** Variables of a surrounding git process that must not leak into the repositories of a test. */
const GIT_LEAKS = [
  "GIT_DIR",
  "GIT_WORK_TREE",
  "GIT_INDEX_FILE",
  "GIT_OBJECT_DIRECTORY",
  "GIT_ALTERNATE_OBJECT_DIRECTORIES",
  "GIT_NAMESPACE",
  "GIT_PREFIX",
  "GIT_PROTOCOL",
  "GIT_CONFIG",
  "GIT_CONFIG_COUNT",
  "GIT_CONFIG_PARAMETERS",
  "GIT_TRACE",
];

export interface RunOptions {
  cwd?: string;
  /** Added to the environment of this process, or all of it with `clearEnv`. */
  env?: Readonly<Record<string, string>>;
  clearEnv?: boolean;
  /** Text or bytes for standard input; without it the command reads from /dev/null. */
  stdin?: string | Uint8Array;
  /** Guard in milliseconds, 60,000 unless told. */
  timeoutMs?: number;
  /** Exit codes that are no error; [0] unless told. A command killed by signal n has 128 + n. */
  okCodes?: readonly number[] | "any";
}

export interface RunResult {
  code: number;
  signal: string | null;
  stdout: string;
  stderr: string;
  stdoutBytes: Uint8Array;
  durationMs: number;
}

/** A command that failed, or that outlived its guard (`timedOut`). */
export class RunError extends Error {
  override name = "RunError";
  readonly result: RunResult;
  readonly timedOut: boolean;
  constructor(message: string, result: RunResult, timedOut: boolean) {
    super(message);
    this.result = result;
    this.timedOut = timedOut;
  }
}

/** How long after SIGKILL a process may take to be gone. */
const REAP_MS = 10_000;

/**
 * Runs a command to its end and returns what it printed.
 * Throws RunError when its exit code is not in `okCodes`, and after `timeoutMs` (the whole process
 * group is killed then). Throws Deno.errors.NotFound when there is no such program.
 */
export async function run(
  command: string,
  args: readonly string[] = [],
  options: RunOptions = {},
): Promise<RunResult> {
  const timeoutMs = options.timeoutMs ?? 60_000;
  const okCodes = options.okCodes ?? [0];
  const start = performance.now();
  const child = new Deno.Command(command, {
    args: [...args],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: { ...options.env } }),
    clearEnv: options.clearEnv ?? false,
    stdin: options.stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    detached: true, // its own process group, so that grandchildren can be killed with it
  }).spawn();

  const stdout = new Collector(child.stdout);
  const stderr = new Collector(child.stderr);
  const fed = options.stdin === undefined ? Promise.resolve() : feed(child.stdin, options.stdin);
  const finished = (async () => {
    const [status] = await Promise.all([child.status, stdout.done, stderr.done, fed]);
    return status;
  })();

  const guard = new Timer(timeoutMs);
  let status = await Promise.race([finished, guard.elapsed]);
  guard.clear();
  const timedOut = status === undefined;
  if (status === undefined) {
    killGroup(child.pid);
    const reap = new Timer(REAP_MS);
    status = await Promise.race([finished, reap.elapsed]);
    reap.clear();
    if (status === undefined) {
      stdout.cancel();
      stderr.cancel();
      child.unref();
    }
  }
  const stdoutBytes = stdout.bytes();
  const result: RunResult = {
    code: status?.code ?? -1,
    signal: status?.signal ?? null,
    stdout: new TextDecoder().decode(stdoutBytes),
    stderr: new TextDecoder().decode(stderr.bytes()),
    stdoutBytes,
    durationMs: performance.now() - start,
  };
  const what = `${command} ${args.join(" ")}`.slice(0, 500);
  if (timedOut) {
    const fate = status === undefined ? ", and did not die of SIGKILL" : "";
    throw new RunError(
      `No end after ${timeoutMs} ms${fate}: ${what}\n${tail(result)}`,
      result,
      true,
    );
  }
  if (okCodes !== "any" && !okCodes.includes(result.code)) {
    throw new RunError(`Exit code ${result.code}: ${what}\n${tail(result)}`, result, false);
  }
  return result;
}

/**
 * Runs git with GIT_ENV and without the variables of a surrounding git process.
 * `-c init.defaultBranch=main` and `-c protocol.file.allow=always` are set.
 */
export function git(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return run(
    "git",
    ["-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always", ...args],
    {
      ...options,
      clearEnv: true,
      env: { ...gitBaseEnv(), ...options.env },
    },
  );
}

/** This process's environment without git's variables, plus GIT_ENV. */
export function gitBaseEnv(): Record<string, string> {
  const env = Deno.env.toObject();
  for (const name of GIT_LEAKS) delete env[name];
  // Deno hands LD_* to a child only when it may do everything (-A).
  for (const name of Object.keys(env)) if (/^(LD|DYLD)_/.test(name)) delete env[name];
  return { ...env, ...GIT_ENV };
}

/** Kills a process and its group with SIGKILL; no error when it is gone already. */
export function killGroup(pid: number): void {
  for (const target of [-pid, pid]) {
    try {
      Deno.kill(target, "SIGKILL");
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound) && !isGone(error)) throw error;
    }
  }
}

function isGone(error: unknown): boolean {
  // ESRCH of a group arrives as a plain TypeError or Error in some versions.
  return error instanceof Error && /ESRCH|no such process|already terminated/i.test(error.message);
}

function tail(result: RunResult): string {
  return (result.stderr + "\n" + result.stdout.slice(-2000)).trim().slice(-4000);
}

async function feed(
  stream: WritableStream<Uint8Array>,
  data: string | Uint8Array,
): Promise<void> {
  const writer = stream.getWriter();
  try {
    await writer.write(typeof data === "string" ? new TextEncoder().encode(data) : data);
    await writer.close();
  } catch {
    // The command did not want its input; its exit code says whether that is an error.
    await writer.abort().catch(() => {});
  }
}

class Collector {
  readonly done: Promise<void>;
  #chunks: Uint8Array[] = [];
  #reader: ReadableStreamDefaultReader<Uint8Array>;
  constructor(stream: ReadableStream<Uint8Array>) {
    const reader = stream.getReader();
    this.#reader = reader;
    this.done = (async () => {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        this.#chunks.push(value);
      }
    })().catch(() => {});
  }
  cancel(): void {
    this.#reader.cancel().catch(() => {});
  }
  bytes(): Uint8Array {
    return concat(this.#chunks);
  }
}

/** All parts one after the other, in one new array. */
export function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

class Timer {
  readonly elapsed: Promise<undefined>;
  #id: ReturnType<typeof setTimeout> | undefined;
  #resolve!: (value: undefined) => void;
  constructor(ms: number) {
    this.elapsed = new Promise((resolve) => {
      this.#resolve = resolve;
      this.#id = setTimeout(resolve, ms, undefined);
    });
  }
  clear(): void {
    clearTimeout(this.#id);
    this.#resolve(undefined);
  }
}

/** Waits for so many milliseconds. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

export interface WaitOptions {
  /** Guard in milliseconds, 30,000 unless told. */
  timeoutMs?: number;
  /** Pause between two looks in milliseconds, 10 unless told. */
  pollMs?: number;
}

/**
 * Polls until the condition gives something true, and returns that. `what` completes the sentence
 * "No ... after 30000 ms". An exception of the condition counts as "not yet" and is named as the
 * cause if the guard ends first.
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  what: string,
  options: WaitOptions = {},
): Promise<T> {
  const timeoutMs = options.timeoutMs ?? 30_000;
  const until = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    const guard = new Timer(Math.max(1, until - performance.now()));
    try {
      const value = await Promise.race([(async () => await condition())(), guard.elapsed]);
      if (value) return value;
      last = undefined;
    } catch (error) {
      last = error;
    } finally {
      guard.clear();
    }
    if (performance.now() >= until) {
      throw new Error(`No ${what} after ${timeoutMs} ms`, { cause: last });
    }
    await sleep(options.pollMs ?? 10);
  }
}

/** One line of /proc/self/mountinfo. Paths are decoded (`\040` and the like). */
export interface MountInfo {
  id: number;
  /** `major:minor`. */
  device: string;
  mountPoint: string;
  fsType: string;
  source: string;
  options: string;
  /** Of the file system. */
  superOptions: string;
}

/**
 * Mounts a process can see (default: this one), in the order of the kernel's list. Reads through
 * `cat`: Deno refuses /proc.
 */
export async function mountInfo(pid: number | "self" = "self"): Promise<MountInfo[]> {
  const { stdout } = await run("cat", [`/proc/${pid}/mountinfo`]);
  const mounts: MountInfo[] = [];
  for (const line of stdout.split("\n")) {
    const [left, right] = line.split(" - ");
    if (left === undefined || right === undefined) continue;
    const a = left.split(" ");
    const b = right.split(" ");
    mounts.push({
      id: Number(a[0]),
      device: a[2] ?? "",
      mountPoint: unescapeMount(a[4] ?? ""),
      fsType: b[0] ?? "",
      source: unescapeMount(b[1] ?? ""),
      options: a[5] ?? "",
      superOptions: b[2] ?? "",
    });
  }
  return mounts;
}

function unescapeMount(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8)));
}

/** Mount points at or below a path, the innermost and latest first. */
export async function mountsBelow(path: string): Promise<string[]> {
  const below = (await mountInfo())
    .map((mount) => mount.mountPoint)
    .filter((point) => point === path || point.startsWith(path + "/"));
  return below.reverse().sort((a, b) => b.length - a.length);
}

/**
 * Unmounts, lazily, everything at or below a path; touches nothing of it. Returns what was mounted.
 */
export async function unmountBelow(path: string): Promise<string[]> {
  const points = await mountsBelow(path);
  for (const point of points) {
    await run("umount", ["-l", "--", point], { okCodes: "any" });
  }
  return points;
}

export interface TempDir extends AsyncDisposable {
  readonly path: string;
  /** A path below it; parts are joined with "/". Nothing is created. */
  at(...parts: string[]): string;
  /** Unmounts what is below and removes everything. A second call does nothing. */
  remove(): Promise<void>;
}

/**
 * A new directory, gone at the end of the scope, also after a failure:
 * `await using dir = await tempDir()`. Set AFS_KEEP_TEMP=1 to look at what is left.
 */
export async function tempDir(prefix = "afs-test-"): Promise<TempDir> {
  const path = await Deno.realPath(await Deno.makeTempDir({ prefix }));
  let removed = false;
  const remove = async () => {
    if (removed) return;
    removed = true;
    await unmountBelow(path);
    if (Deno.env.get("AFS_KEEP_TEMP") === "1") return;
    // rm, not Deno.remove: it must never walk into a mount that could not be taken away.
    await run("rm", ["-rf", "--one-file-system", "--", path], { timeoutMs: 120_000 });
  };
  return {
    path,
    at: (...parts) => [path, ...parts].join("/"),
    remove,
    [Symbol.asyncDispose]: remove,
  };
}

/** Calls `body` with a temporary directory that is removed afterwards, whatever happens. */
export async function withTempDir<T>(body: (dir: TempDir) => Promise<T>): Promise<T> {
  await using dir = await tempDir();
  return await body(dir);
}
