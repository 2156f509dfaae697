/**
 * What crosses between main and a mount worker. Commands are posted on the port and then the
 * eventfd is written, because the worker sleeps in poll(2); events are ordinary port messages.
 */

import type { Need } from "../hydrate/messages.ts";
import type { BaseId } from "../git/base_id.ts";
import type { Oid } from "../git/oid.ts";
import type { Arriving } from "../git/pack_reader.ts";
import type { LogLevel } from "../log.ts";
import type { FuseMount } from "../sys/mod.ts";

export interface MountConfig {
  readonly repoId: string;
  readonly repoName: string;
  readonly mountPoint: string;
  /** What /proc/mounts shows as the source: the remote, without credentials. */
  readonly source: string;
  readonly basePath: string;
  /** Folder of the writable layer, which exists. */
  readonly overlayDir: string;
  /** Keep extended attributes. */
  readonly xattrs: boolean;
  /** Permission bits of group and others that what is untouched does not have. */
  readonly umask: number;
  readonly readOnly: boolean;
  /** As in FuseMountOptions. */
  readonly through?: string;
  /** Where packs are: `objects/pack` of the store and of the view. */
  readonly packDirs: readonly string[];
  /** Folder of what was converted for this mount (src/repo/converter.ts). */
  readonly convertedDir: string;
  /** What the suffixes of ids mean; need not exist when there are none. */
  readonly contextsPath: string;
  readonly uid: number;
  readonly gid: number;
  /** The git directory that `.git` names. */
  readonly userGitDir: string;
  /** It lies where its owner wanted it. */
  readonly isGitDirElsewhere: boolean;
  /** statfs reports this file system. */
  readonly stateRoot: string;
}

/** What is mounted: known when the repository is here. */
export interface MountTree {
  readonly objectFormat: "sha1" | "sha256";
  readonly rootTreeId: BaseId;
  readonly baseTimeSeconds: number;
}

/** Below `convertedDir`: what git makes by itself, and what drivers have made. */
export const CONVERTED_FOLDERS = ["made", "kept"] as const;

/** First message to the worker, with the port in the transfer list. */
export interface StartMount {
  readonly kind: "start";
  readonly config: MountConfig;
  /** Null: it comes with `publish`, and until then everything waits at the gate (vfs/gate.ts). */
  readonly tree: MountTree | null;
  readonly eventFd: number;
  readonly port: MessagePort;
  /** Of FuseCounters. The worker writes, main reads. */
  readonly counters: SharedArrayBuffer;
  readonly logLevel: LogLevel;
  /** Of NoticeState. */
  readonly notices: SharedArrayBuffer;
}

/**
 * Bulk data is in an ArrayBuffer, never a typed array or a nested list: receiveMessageOnPort visits
 * every property of a message (1.6 ms for a blob of 7 KB, Deno 2.7), and a buffer has none.
 */
export type MountCommand =
  /** The repository has come, and this is to be served in place of the gate. */
  | { readonly kind: "publish"; readonly tree: MountTree }
  /** Of the gate. */
  | { readonly kind: "gate"; readonly state: "waiting" | "failed" }
  | { readonly kind: "tree"; readonly treeOid: Oid; readonly raw: ArrayBuffer | null }
  /** Object ids one after the other, and as many float64. */
  | { readonly kind: "sizes"; readonly oids: string; readonly sizes: ArrayBuffer }
  | { readonly kind: "contents"; readonly oid: Oid; readonly bytes: ArrayBuffer }
  /** Packs have come into the store. */
  | { readonly kind: "arrived"; readonly paths: readonly string[] }
  /** What was borrowed is in the view's packs now, as far as it could be had. */
  | { readonly kind: "imported" }
  /** Objects of a pack that is being received can be read. */
  | ({ readonly kind: "arriving" } & Arriving)
  | {
    readonly kind: "spool";
    readonly oid: Oid;
    readonly path: string;
    readonly sizeBytes: number;
    readonly availableBytes: number;
  }
  | { readonly kind: "unavailable"; readonly oid: Oid; readonly need: Need }
  /** The answer to `convert`: ids in lines, and as many float64; -1: it could not be converted. */
  | { readonly kind: "converted"; readonly ids: string; readonly sizes: ArrayBuffer }
  /** Whether it answers, and what it has counted. */
  | { readonly kind: "ping"; readonly id: number }
  | { readonly kind: "log-level"; readonly level: LogLevel }
  /** What this mount waits for is on its way. */
  | { readonly kind: "progress" }
  /** This tree is to come beneath; what was imported for it has come. */
  | { readonly kind: "rebase"; readonly treeId: BaseId }
  /**
   * The work tree is to become another commit. Root trees; what changed since the file monitor's
   * token is told; the trees of `to` that `from` does not have have come.
   */
  | {
    readonly kind: "switch";
    readonly from: BaseId;
    readonly to: BaseId;
    readonly token: string;
  }
  /** The answer to `settle`; not through: it takes long, and the answer comes again. */
  | { readonly kind: "settled"; readonly isThrough: boolean }
  /** It was taken out of the tree: who is still inside gets errors from now on. */
  | { readonly kind: "stop" };

/** How a rebase went. */
export interface Rebased {
  readonly treeId: BaseId;
  /** Null: the overlay says so, and the disk has it. Else why it has not come to its end. */
  readonly error: string | null;
  readonly pinned: number;
  readonly released: number;
  /** Blobs of the tree that may be what the overlay holds, and are not in the packs. */
  readonly unheld: readonly Oid[];
  readonly durationMs: number;
}

/** How a switch went. */
export interface Switched {
  /** Refused and failed: nothing has changed. */
  readonly outcome: "done" | "refused" | "failed";
  /** One line: why not; when it is done, what of it is not (the disk, the kernel). */
  readonly reason: string | null;
  /** Of the file monitor: after it, and all below is to be known with it. */
  readonly token: string;
  /**
   * What the file monitor names for the token that was given, without what the switch itself
   * changed: what git would be told. As `paths`; a directory may have a slash at its end.
   */
  readonly changedBefore: ArrayBuffer;
  /** mtime and ctime of everything that changed. */
  readonly timeSeconds: number;
  readonly timeNanoseconds: number;
  /** Files and links of `to` that changed or came: bytes, each with a NUL behind it. */
  readonly paths: ArrayBuffer;
  /** As many float64. */
  readonly inos: ArrayBuffer;
  /**
   * Directories that are there and in which names came or went, or became directories or no more;
   * new ones too. As `paths`; the root is empty.
   */
  readonly directories: ArrayBuffer;
  readonly durationMs: number;
}

/** What the worker says of it. */
export interface SwitchedEvent extends Switched {
  /** What the kernel is to be told; null: nothing. Whoever takes it closes the descriptor. */
  readonly notices: Pick<Notices, "fd" | "messages"> | null;
}

/** Work for a notifier. */
export interface Notices {
  /** Of the device, the notifier's own from here on. */
  readonly fd: number;
  /** As `joinMessages` makes them. */
  readonly messages: ArrayBuffer;
  /** Of NoticeState, after `begin`. */
  readonly state: SharedArrayBuffer;
}

/** A notifier's only message. */
export interface Told {
  /** Null: the kernel knows all of it. */
  readonly failure: string | null;
}

/** What a mount worker says of itself. */
export interface Pong {
  /** Requests that wait for something. */
  readonly waiting: number;
  /** Questions of git's file monitor. */
  readonly monitorQueries: number;
}

export type MountEvent =
  /** `fd` is for main to close should the worker die. */
  | ({ readonly kind: "mounted"; readonly protocol: string } & FuseMount)
  /** The mount could not be made; the worker has ended. errno 0: not a system call's. */
  | { readonly kind: "mount-failed"; readonly errno: number; readonly cause: string }
  /** The answer to `publish`; null: it is served. */
  | { readonly kind: "published"; readonly error: string | null }
  | { readonly kind: "want-tree"; readonly treeOid: Oid }
  | {
    readonly kind: "want";
    readonly oid: Oid;
    readonly need: Need;
    readonly trees: readonly Oid[];
    /** Blobs whose contents were read here, without a want, since the last one. */
    readonly read: number;
  }
  /** Their blobs are here, and what a checkout makes of them is not. */
  | { readonly kind: "convert"; readonly ids: readonly BaseId[] }
  /** Found here, for the base to keep. */
  | { readonly kind: "sizes"; readonly sizes: readonly (readonly [Oid, number])[] }
  /** Read in the user's git directory: to be imported, so that it stays. */
  | { readonly kind: "borrowed"; readonly oid: Oid }
  /** The answer to `ping`. */
  | ({ readonly kind: "pong"; readonly id: number } & Pong)
  /** The answer to `rebase`. */
  | ({ readonly kind: "rebased" } & Rebased)
  /** The answer to `switch`. The kernel does not know yet. */
  | ({ readonly kind: "switched" } & SwitchedEvent)
  /** The kernel is to be told this beside, and whoever asked is to hear when it was. */
  | ({ readonly kind: "settle" } & Pick<Notices, "fd" | "messages">)
  /** The session is over: unmounted by us, by somebody else (umount), or aborted. */
  | { readonly kind: "unmounted"; readonly cause: string };
