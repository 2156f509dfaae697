/**
 * How much of the disk an overlay's backing files take. They are counted by looking, in the
 * background and seldom: nobody who writes to a mount pays for it.
 */

import { turn } from "../promises.ts";

export interface OverlayUsage {
  readonly files: number;
  readonly bytes: number;
}

/** A look is good for so long. */
const GOOD_MS = 30_000;
/** Who asks waits so long for the first look; later ones are done behind. */
const WAIT_MS = 1_000;
const FORGET_MS = 600_000;
const LOOKED_AT_ONCE = 200;

interface Look {
  readonly at: number;
  readonly usage: OverlayUsage;
}

export class OverlayUsages {
  readonly #looks = new Map<string, Look>();
  readonly #looking = new Map<string, Promise<void>>();

  /** What the overlay in this folder held lately; null: that is not known yet. Never throws. */
  async of(overlayDir: string): Promise<OverlayUsage | null> {
    const now = performance.now();
    // Of repositories that are gone.
    for (const [dir, { at }] of this.#looks) if (now - at > FORGET_MS) this.#looks.delete(dir);
    const last = this.#looks.get(overlayDir);
    if (last === undefined || now - last.at > GOOD_MS) {
      const looking = this.#looking.get(overlayDir) ?? this.#look(overlayDir);
      this.#looking.set(overlayDir, looking);
      let timer: number | undefined;
      const late = new Promise<void>((resolve) => timer = setTimeout(resolve, WAIT_MS));
      await Promise.race([looking, late]);
      clearTimeout(timer);
    }
    return this.#looks.get(overlayDir)?.usage ?? null;
  }

  async #look(overlayDir: string): Promise<void> {
    const upperDir = `${overlayDir}/upper`;
    let [files, bytes] = [0, 0];
    try {
      for await (const { name } of Deno.readDir(upperDir)) {
        files++;
        // It may be gone by now.
        bytes += await Deno.lstat(`${upperDir}/${name}`).then(({ size }) => size, () => 0);
        if (files % LOOKED_AT_ONCE === 0) await turn();
      }
    } catch {
      // Nothing was ever changed, or it was removed.
    } finally {
      this.#looking.delete(overlayDir);
    }
    this.#looks.set(overlayDir, { at: performance.now(), usage: { files, bytes } });
  }
}
