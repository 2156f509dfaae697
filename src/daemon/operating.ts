/** The verbs and pages for whoever operates the daemon itself, not a repository. */

import type { Handlers } from "../control/server.ts";
import type { Progress } from "../control/api.ts";
import { Failure } from "../failure.ts";
import { type LogLevel, logLevel } from "../log.ts";
import type { DaemonEvent, EventBus } from "./events.ts";

export type OperatingVerb = "shutdown" | "events" | "log-level";

export interface OperatingParts {
  readonly events: Pick<EventBus, "subscribe">;
  /** Ends the daemon; resolves when nothing is mounted any more. */
  readonly shutdown: (onProgress: (progress: Omit<Progress, "kind">) => void) => Promise<void>;
  /** Of all threads. */
  readonly setLogLevel: (level: LogLevel) => void;
}

export function operatingVerbs(parts: OperatingParts): Pick<Handlers, OperatingVerb> {
  return {
    // Whoever has asked may go: it stops all the same.
    shutdown: async (_, { onProgress }) => {
      await parts.shutdown(onProgress);
      return { pid: Deno.pid };
    },

    events: ({ name }, { onEvent, onProgress, signal }) => {
      const { promise, reject } = Promise.withResolvers<never>();
      const unsubscribe = parts.events.subscribe((event) => {
        for (const line of linesOf(event, name)) if (!onEvent(line)) reject(tooSlow());
      });
      // Whoever has gone reads none of this.
      const onAbort = () => reject(new Failure("failed", "Cannot go on: the daemon has stopped"));
      if (signal.aborted) onAbort();
      signal.addEventListener("abort", onAbort, { once: true });
      onProgress({ phase: "Listening", percent: null });
      return promise.finally(unsubscribe);
    },

    "log-level": ({ level }) => {
      if (level !== null) parts.setLogLevel(level);
      return Promise.resolve({ level: logLevel() });
    },
  };
}

/** What concerns several repositories is a line for each; `name`: only of that one. */
export function linesOf({ time, event, repos, fields }: DaemonEvent, name: string | null) {
  const about = repos.length === 0 ? [null] : repos;
  return about.filter((repo) => name === null || repo === name).map((repo) => ({
    time: time.toISOString(),
    event,
    repo,
    fields,
  }));
}

function tooSlow(): Failure {
  return new Failure(
    "failed",
    "Cannot go on: the events were not read as fast as they came, and the next would be lost",
  );
}
