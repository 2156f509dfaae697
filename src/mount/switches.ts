/**
 * A switch of the mount to another commit. Write order:
 *  1. A descriptor of the device for the notifier: without one the kernel could not be told.
 *  2. The transaction, and memory (src/vfs/switch.ts). From here on requests are answered from the
 *     new tree; what the kernel holds of the old one leads to the old nodes.
 *  3. The overlay is made durable.
 *  4. Main is told, with what the kernel has to forget. It has a notifier do that, and only then
 *     tells whoever asked for the switch.
 *
 * Requests wait for 2 and 3, and for nothing after.
 */

import { messageOf } from "../failure.ts";
import { invalAttributes, invalEntry, invalInode, joinMessages } from "../fuse/notify.ts";
import type { Overlay } from "../overlay/overlay.ts";
import { bytesOf } from "../path.ts";
import type { MergedFilesystem } from "../vfs/merged_filesystem.ts";
import { type Stale, type SwitchedTree, SwitchRefused, type SwitchRequest } from "../vfs/switch.ts";
import type { MountEvent, Switched, SwitchedEvent } from "./messages.ts";
import type { NoticeState } from "./notice_state.ts";

export interface SwitchesOptions {
  readonly filesystem: Pick<MergedFilesystem, "switchTo">;
  readonly overlay: Pick<Overlay, "sync">;
  readonly notices: NoticeState;
  /** Another descriptor of the device. Throws FsError. */
  readonly duplicateDevice: () => number;
  readonly closeFd: (fd: number) => void;
  readonly tell: (event: MountEvent) => void;
}

const NOTHING: Omit<Switched, "outcome" | "reason" | "durationMs"> = {
  token: "",
  timeSeconds: 0,
  timeNanoseconds: 0,
  paths: new ArrayBuffer(0),
  inos: new ArrayBuffer(0),
  changedBefore: new ArrayBuffer(0),
  directories: new ArrayBuffer(0),
};

export class Switches {
  readonly #options: SwitchesOptions;

  constructor(options: SwitchesOptions) {
    this.#options = options;
  }

  /** Not while a rebase is under way, nor while the kernel is being told of another switch. */
  run(request: SwitchRequest): void {
    const startedAt = performance.now();
    const event = this.#run(request);
    const durationMs = Math.round(performance.now() - startedAt);
    this.#options.tell({ kind: "switched", ...event, durationMs });
  }

  #run(request: SwitchRequest): Omit<SwitchedEvent, "durationMs"> {
    const { filesystem, duplicateDevice, closeFd, notices } = this.#options;
    let fd: number | null = null;
    let tree: SwitchedTree;
    try {
      fd = duplicateDevice();
      tree = filesystem.switchTo(request);
    } catch (error) {
      if (fd !== null) closeFd(fd);
      const isRefused = error instanceof SwitchRefused;
      return {
        ...NOTHING,
        outcome: isRefused ? "refused" : "failed",
        reason: isRefused ? lineOf(error.message) : messageOf(error),
        notices: null,
      };
    }
    const reason = this.#sync();
    const messages = noticesOf(tree.stale);
    if (messages.length > 0) notices.begin();
    else closeFd(fd);
    return {
      outcome: "done",
      reason,
      token: tree.token,
      timeSeconds: tree.time.seconds,
      timeNanoseconds: tree.time.nanoseconds,
      paths: terminated(tree.files.map(({ path }) => path)),
      inos: Float64Array.from(tree.files, ({ ino }) => ino).buffer,
      changedBefore: terminated(tree.changedBefore),
      directories: terminated(tree.directories),
      notices: messages.length > 0 ? { fd, messages: messages.buffer } : null,
    };
  }

  /** It is done, and a kill leaves it done; should the disk not take it, it says why. */
  #sync(): string | null {
    try {
      this.#options.overlay.sync(null, { dataOnly: false });
      return null;
    } catch (error) {
      return `not on the disk yet: ${messageOf(error)}`;
    }
  }
}

/**
 * Names first: that waits for listings under way, which could otherwise be kept after their
 * directory's was dropped.
 */
function noticesOf({ entries, directories, files }: Stale): Uint8Array<ArrayBuffer> {
  return joinMessages([
    ...entries.map(({ parentNodeid, name }) => invalEntry(parentNodeid, name)),
    ...directories.map(invalInode),
    ...files.map(invalAttributes),
  ]);
}

function terminated(paths: readonly string[]): ArrayBuffer {
  return bytesOf(paths.map((path) => `${path}\0`).join("")).buffer;
}

/** One line for people: the bytes of a path as UTF-8, if they are that. */
function lineOf(text: string): string {
  // deno-lint-ignore no-control-regex
  return new TextDecoder().decode(bytesOf(text)).replaceAll(/[\x00-\x1f\x7f]/g, "?");
}
