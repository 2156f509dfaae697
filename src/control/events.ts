/**
 * What happens in a daemon, as `afs events` tells it: one line of JSON a fact.
 *
 *     {"version": 1, "time": "<UTC>", "event": "<name>", "repo": "<name>", "fields": {...}}
 *
 * `repo` is null where it is about the daemon. Names and fields stay what they are; new ones may
 * come, so whoever reads must pass over what it does not know. docs/operating.md has them all.
 */

import * as v from "valibot";

const text = v.string();
const whole = v.pipe(v.number(), v.integer(), v.minValue(0));
/** Null: it went well. */
const error = v.nullable(text);
const durationMs = v.pipe(v.number(), v.minValue(0));

/** The fields of every event. */
export const EVENTS = {
  "daemon-started": v.strictObject({ afs: text, pid: whole, stateRoot: text }),
  /** All that was to be mounted is, or has failed. */
  "daemon-ready": v.strictObject({ socket: text }),
  "daemon-stopping": v.strictObject({ cause: text }),
  /** Its acquisition begins. */
  preparing: v.strictObject({ remote: text, source: text }),
  "phase-done": v.strictObject({ phase: v.picklist(["check", "fetch", "prepare"]), durationMs }),
  /** A fetch of the acquisition broke, and is tried again. */
  "connection-lost": v.strictObject({ phase: text }),
  prepared: v.strictObject({ commit: text, durationMs }),
  "prepare-failed": v.strictObject({ error: text, durationMs }),
  /** `placeholder`: everything in it waits until it is prepared. */
  mounted: v.strictObject({ mountPoint: text, placeholder: v.boolean() }),
  "mount-failed": v.strictObject({ mountPoint: text, error: text }),
  /** `asked`: by a verb, or the daemon stops. `umount`: by somebody else. */
  unmounted: v.strictObject({ mountPoint: text, cause: v.picklist(["asked", "umount"]) }),
  /** The connection to the kernel is lost, or a thread has crashed. */
  "mount-lost": v.strictObject({ mountPoint: text, cause: text }),
  removed: v.strictObject({ mountPoint: text }),
  /** A fetch of contents has ended. */
  hydrated: v.strictObject({
    reason: v.picklist(["read", "directory", "walk", "scan"]),
    blobs: whole,
    packBytes: whole,
    durationMs,
    error,
  }),
  "history-fetched": v.strictObject({ history: text, durationMs, error }),
  /** The remote was asked for new refs; `refs`: how many have changed. */
  refreshed: v.strictObject({ refs: whole, fetched: v.boolean(), durationMs, error }),
  /** Another commit is beneath the work tree, of which nothing has changed. */
  rebased: v.strictObject({
    from: text,
    to: text,
    generation: whole,
    imported: whole,
    pinned: whole,
    released: whole,
    rebaseMs: durationMs,
    durationMs,
  }),
  "rebase-failed": v.strictObject({ error: text }),
  switched: v.strictObject({
    from: text,
    to: text,
    ref: v.nullable(text),
    changed: whole,
    mountMs: durationMs,
  }),
  "switch-left-to-git": v.strictObject({ target: text, reason: text }),
} as const;

export type EventName = keyof typeof EVENTS;
export type EventFields = { readonly [E in EventName]: v.InferOutput<(typeof EVENTS)[E]> };

/** As it comes over the socket. */
export const EventLine = v.object({
  /** ISO 8601, UTC. */
  time: v.string(),
  event: v.string(),
  repo: v.nullable(v.string()),
  fields: v.record(v.string(), v.union([v.string(), v.number(), v.boolean(), v.null()])),
});
export type EventLine = v.InferOutput<typeof EventLine>;
