/**
 * The one way to run a git that receives something from a remote, whatever the transport.
 *
 * The rule: a transfer that moves is never cut; one without progress for STALL_MS is ended, and
 * fails as a network does (errors.ts). Progress is a line from git (the remote's own progress
 * included) or a change of the temporary files where packs arrive. Once git says that it has
 * received everything, it works on this machine only, and nothing is counted. What git receives
 * without a word (a list of refs, before protocol v2) has STALL_MS as a whole.
 *
 * Logins are tried in their order as long as they are refused, and one that has been replaced
 * since it was read (a token that was renewed) once more. When all are refused, the first one's
 * failure is the transfer's.
 *
 * What is configured for git is git's: helpers, GIT_ASKPASS, proxies, core.sshCommand. A login of
 * ours is used alone.
 *
 * http has the same rule once more inside git (lowSpeedTime), which counts bytes; git:// and ssh
 * have none there, and a host that swallows packets would be waited for much longer.
 */

import { type Clock, systemClock } from "../clock.ts";
import {
  basicAuthorization,
  credentialConfig,
  type CredentialSource,
  readLogin,
} from "./credentials.ts";
import { gitCauseOf } from "./errors.ts";
import {
  GitError,
  type GitOutput,
  gitText,
  NO_ASKPASS,
  readVariable,
  runGit,
  type RunOptions,
} from "./process.ts";
import { REFS_BYTES_MAX } from "./refs.ts";
import { parseRemote } from "./remote_url.ts";

/** A transfer without progress for so long is given up. */
export const STALL_MS = 30_000;
/** How often is looked for progress. */
const LOOK_MS = 1_000;

/** Null: what git finds by itself. */
export type Login = CredentialSource | null;

const TRANSFER_CONFIG = ["http.lowSpeedLimit=1", `http.lowSpeedTime=${STALL_MS / 1000}`];

/** git has all it asked for; what follows may be long and silent. Servers' lines have a prefix. */
const ALL_RECEIVED =
  /^(?:(?:Receiving|Unpacking) objects: +100%|Resolving deltas|Checking connectivity)/;

export interface TransferOptions extends RunOptions {
  /** `<git directory>/objects/pack` where packs arrive; absent: nothing but lines is expected. */
  readonly packDir?: string;
  /** Without credentials. */
  readonly remoteUrl: string;
  /** Default: what git finds by itself. */
  readonly logins?: readonly Login[];
  /** Called whenever there is progress. */
  readonly onProgress?: (() => void) | undefined;
  /** Default: the real time. */
  readonly clock?: Clock | undefined;
}

export interface Transferred extends GitOutput {
  /** The one that was not refused. */
  readonly login: Login;
}

/** As runGit; a transfer that stalled throws GitError too. */
export async function runTransfer(
  args: readonly string[],
  options: TransferOptions,
): Promise<Transferred> {
  const [first = null, ...others] = options.logins ?? [];
  try {
    return await transferAs(first, args, options);
  } catch (error) {
    let last = error;
    for (const login of others) {
      if (!isRefusal(last)) break;
      try {
        return await transferAs(login, args, options);
      } catch (another) {
        last = another;
      }
    }
    throw isRefusal(last) ? error : last;
  }
}

/** Some hosts say that a repository does not exist to who may not see it. */
function isRefusal(error: unknown): boolean {
  const cause = gitCauseOf(error);
  return cause === "authentication" || cause === "no-repository";
}

async function transferAs(
  login: Login,
  args: readonly string[],
  options: TransferOptions,
): Promise<Transferred> {
  if (login === null) {
    const env = { ...await sshEnvironment(options), ...options.env };
    return { ...await transferOnce(args, { ...options, env }), login };
  }
  const authorization = basicAuthorization(await readLogin(login));
  const own = {
    ...options,
    config: [...options.config ?? [], ...credentialConfig(login)],
    env: { ...NO_ASKPASS, ...options.env },
  };
  try {
    return { ...await transferOnce(args, own), login };
  } catch (error) {
    if (!isRefusal(error) || basicAuthorization(await readLogin(login)) === authorization) {
      throw error;
    }
    return { ...await transferOnce(args, own), login };
  }
}

/** BatchMode keeps ssh from asking anybody; a user's own command for ssh is left as it is. */
async function sshEnvironment({ remoteUrl }: TransferOptions): Promise<Record<string, string>> {
  if (parseRemote(remoteUrl).scheme !== "ssh") return {};
  const own = readVariable("GIT_SSH_COMMAND") ?? readVariable("GIT_SSH");
  if (own !== undefined) return {};
  const configured = await gitText(["config", "--get", "core.sshCommand"]).catch(() => "");
  return configured === "" ? { GIT_SSH_COMMAND: "ssh -oBatchMode=yes" } : {};
}

async function transferOnce(
  args: readonly string[],
  options: TransferOptions,
): Promise<GitOutput> {
  const stalled = new AbortController();
  const guard = new StallGuard(options, () => stalled.abort());
  const { signal } = options;
  try {
    return await runGit(args, {
      // A list of refs, if anything.
      stdoutMaxBytes: REFS_BYTES_MAX,
      ...options,
      config: [...TRANSFER_CONFIG, ...options.config ?? []],
      signal: signal === undefined ? stalled.signal : AbortSignal.any([signal, stalled.signal]),
      onStderr: (line) => {
        guard.onLine(line);
        options.onStderr?.(line);
      },
    });
  } catch (error) {
    if (!stalled.signal.aborted || signal?.aborted === true) throw error;
    throw stalledError(args[0] ?? "");
  } finally {
    guard.stop();
  }
}

/** The shell's status for a process that SIGTERM ended. */
const TERMINATED = 143;

/** Of a transfer that was ended by the rule above. */
export function stalledError(command: string): GitError {
  return new GitError(command, TERMINATED, `fatal: nothing arrived for ${STALL_MS / 1000} s`);
}

class StallGuard {
  readonly #options: TransferOptions;
  readonly #stopped = new AbortController();
  /** Not by the clock: it jumps when a machine wakes up. */
  #silentMs = 0;
  #size = 0;
  #receiving = true;

  constructor(options: TransferOptions, onStall: () => void) {
    this.#options = options;
    this.#watch(options.clock ?? systemClock, onStall).catch(() => {
      // Stopped.
    });
  }

  onLine(line: string): void {
    this.#receiving = !ALL_RECEIVED.test(line);
    this.#moved();
  }

  stop(): void {
    this.#stopped.abort();
  }

  async #watch(clock: Clock, onStall: () => void): Promise<void> {
    const { packDir } = this.#options;
    do {
      await clock.sleep(LOOK_MS, this.#stopped.signal);
      this.#silentMs += LOOK_MS;
      const size = packDir === undefined ? 0 : sizeOfArriving(packDir);
      if (size !== this.#size) this.#moved();
      this.#size = size;
    } while (!this.#receiving || this.#silentMs < STALL_MS);
    onStall();
  }

  #moved(): void {
    this.#silentMs = 0;
    this.#options.onProgress?.();
  }
}

/** Bytes of the packs that arrive; complete ones may come from another transfer. */
function sizeOfArriving(packDir: string): number {
  let size = 0;
  try {
    for (const { name } of Deno.readDirSync(packDir)) {
      if (name.startsWith("tmp_")) size += Deno.statSync(`${packDir}/${name}`).size;
    }
  } catch {
    // Not made yet, or a file was renamed between the two calls: the next look sees it.
  }
  return size;
}
