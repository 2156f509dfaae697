/** What the hydrator worker is asked and what it answers. Plain data: it crosses threads. */

import type { Oid } from "../git/oid.ts";
import type { Arriving } from "../git/pack_reader.ts";
import type { LogLevel } from "../log.ts";

/** size: how long the blob is. content: its bytes. */
export type Need = "size" | "content";

export interface StartHydrator {
  readonly kind: "start";
  readonly storeGitDir: string;
  readonly stagingDir: string;
  readonly blobsDir: string;
  readonly basePath: string;
  readonly objectFormat: "sha1" | "sha256";
  readonly concurrency: number;
  readonly logLevel: LogLevel;
}

/** A mount that may ask from now on; its objects are read in `viewDir`. */
export interface AttachMount {
  readonly kind: "attach";
  readonly mountId: number;
  readonly viewDir: string;
  readonly commitOid: Oid;
  readonly rootTreeOid: Oid;
}

/** Another commit's tree is beneath this mount now: lookahead goes by that one. */
export interface MoveMount {
  readonly kind: "move";
  readonly mountId: number;
  readonly commitOid: Oid;
  readonly rootTreeOid: Oid;
}

export interface DetachMount {
  readonly kind: "detach";
  readonly mountId: number;
}

export interface Want {
  readonly kind: "want";
  readonly mountId: number;
  readonly oid: Oid;
  readonly need: Need;
  /** Tree oids from the root to the directory that was looked in, for lookahead. */
  readonly trees: readonly Oid[];
  /** Blobs whose contents were read there, without a want, since the last one: for lookahead. */
  readonly read: number;
}

/** End every git process; `stopped` is the answer. Nothing is asked afterwards. */
export interface StopHydrator {
  readonly kind: "stop";
}

/** How much it has to do: `load` is the answer. */
export interface AskLoad {
  readonly kind: "ask-load";
  readonly id: number;
}

export interface SetLogLevel {
  readonly kind: "log-level";
  readonly level: LogLevel;
}

export type HydratorRequest =
  | StartHydrator
  | AskLoad
  | SetLogLevel
  | AttachMount
  | MoveMount
  | DetachMount
  | Want
  | StopHydrator;

/** Sizes that became known, asked for or not: [oid, sizeBytes]. */
export interface Sizes {
  readonly kind: "sizes";
  readonly sizes: readonly (readonly [Oid, number])[];
}

/** The sizes of all blobs of these packs were told before. */
export interface SizedPacks {
  readonly kind: "sized-packs";
  readonly names: readonly string[];
}

/** A small blob that the mount could not read itself. */
export interface Contents {
  readonly kind: "contents";
  readonly mountId: number;
  readonly oid: Oid;
  readonly bytes: ArrayBuffer;
}

/** A big blob is being written to a file; bytes below availableBytes may be read. */
export interface Spool {
  readonly kind: "spool";
  readonly mountId: number;
  readonly oid: Oid;
  readonly path: string;
  readonly sizeBytes: number;
  readonly availableBytes: number;
}

export interface Unavailable {
  readonly kind: "unavailable";
  readonly mountId: number;
  readonly oid: Oid;
  readonly need: Need;
  readonly cause: string;
}

/** Something arrived; what waits in the queue behind it waits for a transfer that moves. */
export interface Progress {
  readonly kind: "progress";
}

/** Packs have come into the store: what waits may be there. Its answer comes all the same. */
export interface Arrived {
  readonly kind: "arrived";
  /** Where they were arriving, if anything was said of them. */
  readonly paths: readonly string[];
}

/** Objects of a pack that is being received can be read. */
export interface ArrivingObjects extends Arriving {
  readonly kind: "arriving";
}

/** One fetch ended; for the log and the counters. */
export interface Hydrated {
  readonly kind: "hydrated";
  readonly reason: "read" | "directory" | "walk" | "scan";
  readonly blobs: number;
  readonly packBytes: number;
  readonly durationMs: number;
  /** Null: done. */
  readonly error: string | null;
}

/** No git process of the hydrator runs any more. */
export interface Stopped {
  readonly kind: "stopped";
}

/** What it has to do. */
export interface Load {
  /** Objects that are waited for or come along, and are not here. */
  readonly queued: number;
  /** Fetches that run. */
  readonly fetches: number;
}

export interface LoadEvent extends Load {
  readonly kind: "load";
  readonly id: number;
}

export type HydratorEvent =
  | LoadEvent
  | Stopped
  | Sizes
  | SizedPacks
  | Contents
  | Spool
  | Unavailable
  | Progress
  | Arrived
  | ArrivingObjects
  | Hydrated;
