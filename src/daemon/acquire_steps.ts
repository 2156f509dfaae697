/** What a user is shown of an acquisition, and what the daemon tells of it. */

import type { Progress } from "../control/api.ts";
import { messageOf } from "../failure.ts";
import { parseRemote } from "../git/remote_url.ts";
import type { AcquireProgress, AcquireRequest } from "../repo/acquire.ts";
import type { RepoRecord } from "../repo/types.ts";
import { events } from "./events.ts";

const PHASES = {
  check: "Checking",
  fetch: "Fetching the newest commit",
  prepare: "Preparing the work tree",
} as const;

/** Of states that say more than the phase. */
const TEXTS: Partial<Record<AcquireProgress["state"], string>> = {
  waiting: "Waiting for another fetch",
  retry: "Fetching again, since the connection failed",
};

/** Turns events of an acquisition into progress: one line per phase, percent within. */
export class AcquireSteps {
  readonly #onProgress: (progress: Omit<Progress, "kind">) => void;
  #last = "";

  constructor(onProgress: (progress: Omit<Progress, "kind">) => void) {
    this.#onProgress = onProgress;
  }

  show({ phase, state, transfer }: AcquireProgress): void {
    if (state === "asked" || state === "end") return;
    const percent = transfer?.percent ?? null;
    const text = TEXTS[state] ?? PHASES[phase];
    const line = `${text} ${percent}`;
    // git reports several times a second without news.
    if (line === this.#last) return;
    this.#last = line;
    this.#onProgress({ phase: text, percent });
  }
}

/** The events of one acquisition, from its begin on. */
export class AcquireEvents {
  readonly #repo: string;
  readonly #startedAt = performance.now();

  constructor({ name, url, branch }: Pick<AcquireRequest, "name" | "url" | "branch">) {
    this.#repo = name;
    events.emit("preparing", name, { remote: parseRemote(url).url, source: branch ?? "HEAD" });
  }

  get #durationMs(): number {
    return Math.round(performance.now() - this.#startedAt);
  }

  show({ phase, state, durationMs = 0 }: AcquireProgress): void {
    if (state === "retry") events.emit("connection-lost", this.#repo, { phase });
    if (state !== "end") return;
    events.emit("phase-done", this.#repo, { phase, durationMs: Math.round(durationMs) });
  }

  done({ baseCommitOid: commit }: RepoRecord): void {
    events.emit("prepared", this.#repo, { commit, durationMs: this.#durationMs });
  }

  failed(error: unknown): void {
    events.emit("prepare-failed", this.#repo, {
      error: messageOf(error),
      durationMs: this.#durationMs,
    });
  }
}
