/** What an operation costs the daemon: round trips, and processor time, which drifts less. */

import { call } from "../../src/control/client.ts";

export interface Cost {
  readonly roundTrips: number;
  /** Of all threads of the daemon. */
  readonly processorUs: number;
}

export class Meter {
  readonly #socketPath: string;
  readonly #pid: number;

  private constructor(socketPath: string, pid: number) {
    this.#socketPath = socketPath;
    this.#pid = pid;
  }

  static async of(socketPath: string): Promise<Meter> {
    const { pid } = await call(socketPath, "ping", {});
    return new Meter(socketPath, pid);
  }

  /** What `body` costs by each of its `count` operations. */
  async cost(count: number, body: () => void | Promise<void>): Promise<Cost> {
    const requestsBefore = await this.#requests();
    const processorBefore = this.#processorUs();
    await body();
    const processorUs = (this.#processorUs() - processorBefore) / count;
    return { processorUs, roundTrips: (await this.#requests() - requestsBefore) / count };
  }

  async #requests(): Promise<number> {
    const { repos: [repo] } = await call(this.#socketPath, "status", { repo: null });
    return repo?.requests ?? NaN;
  }

  /** Nanoseconds on a processor are the first number of schedstat. */
  #processorUs(): number {
    let total = 0;
    for (const { name } of Deno.readDirSync(`/proc/${this.#pid}/task`)) {
      const text = Deno.readTextFileSync(`/proc/${this.#pid}/task/${name}/schedstat`);
      total += Number(text.split(" ")[0]) / 1000;
    }
    return total;
  }
}
