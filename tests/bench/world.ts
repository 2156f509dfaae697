/**
 * What a run leaves behind is nothing: everything it starts or mounts has a closer here, and they
 * run in reverse order at its end, after a failure, and on SIGINT, SIGTERM and SIGHUP.
 */

import { descendants } from "./processes.ts";
import { killGroup, type TempDir, tempDir } from "../support/run.ts";

export type Closer = () => Promise<void>;

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

export class World {
  readonly dir: TempDir;
  readonly #closers: Closer[] = [];
  /** Long-lived processes: closers end these, not the sweep. */
  readonly #kept = new Set<number>();
  #closing: Promise<void> | null = null;
  #count = 0;

  private constructor(dir: TempDir) {
    this.dir = dir;
  }

  static async create(): Promise<World> {
    const world = new World(await tempDir("afs-bench-"));
    for (const [name, number] of Object.entries(SIGNALS)) {
      Deno.addSignalListener(name as keyof typeof SIGNALS, () => {
        console.error(`\nbench: ${name}, cleaning up`);
        world.close().finally(() => Deno.exit(128 + number));
      });
    }
    return world;
  }

  /** A path below a folder, by default the temporary directory, that was never given before. */
  fresh(label: string, folder = this.dir.path): string {
    return `${folder}/${label}-${++this.#count}`;
  }

  /** Whether a signal is ending the run: what fails now fails because of that. */
  get isClosing(): boolean {
    return this.#closing !== null;
  }

  /** Returns a closer that runs once, whether by the caller or at the end. */
  own(close: Closer): Closer {
    let done: Promise<void> | null = null;
    const once = () => done ??= close();
    this.#closers.push(once);
    return once;
  }

  keepProcess(pid: number): void {
    this.#kept.add(pid);
  }

  /** Calls after the first wait for it. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    // First those that use a mount or the server; each leads a group of its own.
    for (const pid of descendants(Deno.pid, this.#kept)) killGroup(pid);
    for (let closer = this.#closers.pop(); closer !== undefined; closer = this.#closers.pop()) {
      await closer().catch((error) => console.error("bench: cleaning up:", error));
    }
    await this.dir.remove();
  }
}
