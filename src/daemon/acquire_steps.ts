/** What a user is shown of an acquisition. */

import type { Progress } from "../control/api.ts";
import type { AcquireProgress } from "../repo/acquire.ts";

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
