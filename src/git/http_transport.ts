/**
 * Requests of protocol v2 to a server over http(s), on connections that are kept.
 *
 * The rule of all transfers (transfer.ts) holds: one that moves is never cut, one from which
 * nothing came for STALL_MS is ended. Redirects are not followed, and only what git would take for
 * an answer is one: everything else is a ProtocolError, and git may have another try.
 *
 * The login goes into a header, and nowhere else; a ProtocolError never holds it.
 */

import { type Clock, systemClock } from "../clock.ts";
import { messageOf } from "../failure.ts";
import { ProtocolError } from "./pkt_line.ts";
import { STALL_MS, stalledError } from "./transfer.ts";

export interface PostOptions {
  readonly signal?: AbortSignal | undefined;
  /** Value of the Authorization header; null: none. */
  readonly authorization: string | null;
  /** Called when the request is on its way, and whenever something arrived. */
  readonly onProgress?: (() => void) | undefined;
  /** Default: the real time. */
  readonly clock?: Clock | undefined;
}

/** The server wants a login, or another one; or so it may be. */
export class LoginRefused extends ProtocolError {}

/** Some hosts say that a repository does not exist to who may not see it. */
const REFUSALS: readonly number[] = [401, 403, 404];

/** How often is looked for silence. */
const LOOK_MS = 1_000;

/**
 * The answer to a POST to `git-upload-pack`, as it comes. Throws ProtocolError, GitError when the
 * server is silent for too long, or the signal's reason.
 */
export async function* postUploadPack(
  remoteUrl: string,
  body: string,
  options: PostOptions,
): AsyncGenerator<Uint8Array> {
  const { signal, authorization, onProgress } = options;
  const guard = new SilenceGuard(options.clock ?? systemClock);
  const end = new AbortController();
  const signals = [guard.signal, end.signal, ...(signal === undefined ? [] : [signal])];
  try {
    onProgress?.();
    const response = await fetch(`${remoteUrl.replace(/\/+$/, "")}/git-upload-pack`, {
      method: "POST",
      redirect: "manual",
      signal: AbortSignal.any(signals),
      headers: {
        "Content-Type": "application/x-git-upload-pack-request",
        "Accept": "application/x-git-upload-pack-result",
        "Accept-Encoding": "identity",
        "Git-Protocol": "version=2",
        "User-Agent": "git/2 (afs)",
        ...(authorization === null ? {} : { "Authorization": authorization }),
      },
      body,
    });
    checkAnswer(response);
    for await (const chunk of response.body ?? []) {
      guard.moved();
      onProgress?.();
      yield chunk;
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (guard.signal.aborted) throw stalledError("fetch");
    if (error instanceof ProtocolError) throw error;
    throw new ProtocolError(messageOf(error), { cause: error });
  } finally {
    guard.stop();
    // Whoever reads no further lets go of the connection.
    end.abort();
  }
}

function checkAnswer({ status, headers, body }: Response): void {
  const type = headers.get("content-type") ?? "";
  const ok = status === 200 && type === "application/x-git-upload-pack-result";
  if (ok) return;
  body?.cancel().catch(() => {
    // It has failed already.
  });
  if (REFUSALS.includes(status)) throw new LoginRefused(`HTTP status ${status}`);
  throw new ProtocolError(status === 200 ? "an answer of another type" : `HTTP status ${status}`);
}

class SilenceGuard {
  readonly #silent = new AbortController();
  readonly #stopped = new AbortController();
  /** Not by the clock: it jumps when a machine wakes up. */
  #silentMs = 0;

  constructor(clock: Clock) {
    this.#watch(clock).catch(() => {
      // Stopped.
    });
  }

  get signal(): AbortSignal {
    return this.#silent.signal;
  }

  moved(): void {
    this.#silentMs = 0;
  }

  stop(): void {
    this.#stopped.abort();
  }

  async #watch(clock: Clock): Promise<void> {
    while (this.#silentMs < STALL_MS) {
      await clock.sleep(LOOK_MS, this.#stopped.signal);
      this.#silentMs += LOOK_MS;
    }
    this.#silent.abort();
  }
}
