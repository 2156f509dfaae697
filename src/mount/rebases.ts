/**
 * The rebase that a mount is at, between the requests of its kernel: a few milliseconds at a time.
 * When it ends, what the overlay says of it is made durable, and only then is main told, which
 * writes it down where the next start reads it.
 */

import { messageOf } from "../failure.ts";
import type { BaseId } from "../git/base_id.ts";
import type { Overlay } from "../overlay/overlay.ts";
import type { MergedFilesystem } from "../vfs/merged_filesystem.ts";
import type { Rebase } from "../vfs/rebase.ts";
import type { MountEvent } from "./messages.ts";

/** So long requests may wait for a turn, and for the step that it ends with. */
const TURN_MS = 4;

interface Running {
  readonly treeId: BaseId;
  readonly rebase: Rebase;
  readonly startedAt: number;
}

export class Rebases {
  readonly #filesystem: Pick<MergedFilesystem, "rebase">;
  readonly #overlay: Pick<Overlay, "sync">;
  readonly #tell: (event: MountEvent) => void;
  #running: Running | null = null;

  constructor(
    filesystem: Pick<MergedFilesystem, "rebase">,
    overlay: Pick<Overlay, "sync">,
    tell: (event: MountEvent) => void,
  ) {
    this.#filesystem = filesystem;
    this.#overlay = overlay;
    this.#tell = tell;
  }

  /** One that is under way ends where it is. */
  start(treeId: BaseId): void {
    this.cancel("another one has come");
    const rebase = this.#filesystem.rebase(treeId);
    this.#running = { treeId, rebase, startedAt: performance.now() };
  }

  cancel(why: string): void {
    if (this.#running === null) return;
    this.#running.rebase.cancel();
    this.#end(this.#running, why);
  }

  /** Goes on with it; whether there is more to do at once. */
  turn(): boolean {
    const running = this.#running;
    if (running === null) return false;
    try {
      const state = running.rebase.turn(TURN_MS);
      if (state !== "done") return state === "more";
      this.#overlay.sync(null, { dataOnly: false });
      this.#end(running, null);
    } catch (error) {
      this.#end(running, messageOf(error));
    }
    return false;
  }

  #end({ treeId, rebase, startedAt }: Running, error: string | null): void {
    this.#running = null;
    const durationMs = Math.round(performance.now() - startedAt);
    const { counts, unheld } = rebase;
    this.#tell({ kind: "rebased", treeId, error, ...counts, unheld, durationMs });
  }
}
