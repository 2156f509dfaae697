/**
 * The one way in which a fact about the daemon is told: who finds it calls `events.emit`, and the
 * log, the metrics and whoever runs `afs events` hear of it from here. So none of them can say what
 * another does not. What is of interest to nobody but who reads the log is logged only.
 *
 * Invariants
 *  1. `emit` never throws and never waits.
 *  2. Nothing secret is in an event: texts are redacted here, once for all who listen.
 *  3. A fact about a store is one event that names all repositories on it.
 */

import type { EventFields, EventName } from "../control/events.ts";
import { logger, type LogLevel } from "../log.ts";
import { redact } from "../redact.ts";

/** One fact, of the kinds in src/control/events.ts. */
export type DaemonEvent = {
  readonly [E in EventName]: {
    readonly time: Date;
    readonly event: E;
    /** Names; none: it is about the daemon. */
    readonly repos: readonly string[];
    readonly fields: EventFields[E];
  };
}[EventName];

type Listener = (event: DaemonEvent) => void;
type About = string | readonly string[] | null;

export class EventBus {
  readonly #listeners = new Set<Listener>();

  /** `about`: names of repositories. */
  emit<E extends EventName>(name: E, about: About, fields: EventFields[E]): void {
    const repos = about === null ? [] : typeof about === "string" ? [about] : about;
    const clean = Object.fromEntries(
      Object.entries(fields).map(([key, value]) => [
        key,
        typeof value === "string" ? redact(value) : value,
      ]),
    );
    const event = { time: new Date(), event: name, repos, fields: clean };
    for (const listener of [...this.#listeners]) {
      try {
        // The fields are those of the name: the signature says so, and cleaning changes no type.
        listener(event as unknown as DaemonEvent);
      } catch (error) {
        logger("daemon").error("An event was not taken", { event: name, error });
      }
    }
  }

  /** Hears of everything from now on. Returns what ends it. */
  subscribe(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** Level, part and sentence of its line in the log. */
type Line = readonly [LogLevel, string, string];

const LINES: { readonly [E in EventName]: (fields: EventFields[E]) => Line } = {
  "daemon-started": () => ["info", "daemon", "Starting"],
  "daemon-ready": () => ["info", "daemon", "Ready"],
  "daemon-stopping": () => ["info", "daemon", "Stopping"],
  preparing: () => ["info", "prepare", "Preparing"],
  "phase-done": () => ["info", "prepare", "Phase done"],
  "connection-lost": () => ["warning", "prepare", "Connection lost"],
  prepared: () => ["info", "prepare", "Prepared"],
  "prepare-failed": () => ["error", "prepare", "Could not prepare"],
  mounted: ({ placeholder }) =>
    placeholder ? ["info", "mounts", "Mounted a placeholder"] : ["info", "mounts", "Mounted"],
  "mount-failed": () => ["error", "mounts", "Could not mount"],
  unmounted: () => ["info", "mounts", "Unmounted"],
  "mount-lost": () => ["warning", "mounts", "Mount is gone"],
  removed: () => ["info", "daemon", "Removed repository"],
  hydrated: ({ error }) =>
    error === null
      ? ["info", "store", "Batch hydrated"]
      : ["warning", "store", "Batch not hydrated"],
  "history-fetched": ({ error }) =>
    error === null
      ? ["info", "history", "Fetched the history"]
      : ["warning", "history", "Could not fetch the history"],
  refreshed: ({ error, fetched, refs }) => {
    if (error !== null) return ["warning", "refresh", "Could not refresh"];
    // Nothing new is no news.
    return [fetched || refs > 0 ? "info" : "debug", "refresh", "Refreshed"];
  },
  rebased: () => ["info", "base", "Base follows HEAD"],
  "rebase-failed": () => ["warning", "base", "Base does not follow HEAD"],
  switched: () => ["info", "switch", "Switched"],
  "switch-left-to-git": () => ["info", "switch", "Left to git"],
};

function log({ event, repos, fields }: DaemonEvent): void {
  const [level, part, sentence] = (LINES[event] as (fields: unknown) => Line)(fields);
  const present = Object.entries(fields).filter(([key, value]) =>
    key !== "error" || value !== null
  );
  const repo = repos.length === 0 ? {} : { repo: repos.join(",") };
  logger(part)[level](sentence, { ...repo, ...Object.fromEntries(present) });
}

/** This thread's. */
export const events = new EventBus();
events.subscribe(log);
