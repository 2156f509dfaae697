/**
 * What the threads of one mount share of those that tell the kernel something (notifier.ts): how
 * many there are, and whether they are to stop after the notification that they are at.
 *
 *   thread         does
 *   mount worker   `begin` before it hands the work on; before it closes the device `abandon`
 *                  and `waitUntilTold`
 *   notifier       `end`, after its own descriptor is closed
 *   main           `end` when there is no notifier to do it, and of what it tells aside; `abandon`
 *                  when the worker has crashed
 */

const TELLING = 0;
const ABANDONED = 1;
const BYTES = 2 * Int32Array.BYTES_PER_ELEMENT;

export class NoticeState {
  readonly #cells: Int32Array<SharedArrayBuffer>;

  constructor(readonly buffer: SharedArrayBuffer = new SharedArrayBuffer(BYTES)) {
    this.#cells = new Int32Array(buffer);
  }

  get isTelling(): boolean {
    return Atomics.load(this.#cells, TELLING) !== 0;
  }

  get isAbandoned(): boolean {
    return Atomics.load(this.#cells, ABANDONED) !== 0;
  }

  begin(): void {
    Atomics.add(this.#cells, TELLING, 1);
  }

  end(): void {
    Atomics.sub(this.#cells, TELLING, 1);
    Atomics.notify(this.#cells, TELLING);
  }

  abandon(): void {
    Atomics.store(this.#cells, ABANDONED, 1);
  }

  /** Blocks the thread. False: it still tells. */
  waitUntilTold(timeoutMs: number): boolean {
    const until = performance.now() + timeoutMs;
    for (;;) {
      const count = Atomics.load(this.#cells, TELLING);
      if (count === 0) return true;
      const leftMs = Math.max(0, until - performance.now());
      if (Atomics.wait(this.#cells, TELLING, count, leftMs) === "timed-out") return false;
    }
  }
}
