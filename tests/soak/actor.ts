/** A process that makes operations, as seen by whoever gives orders. */

import { killGroup } from "../support/run.ts";
import type { Op, Outcome } from "./op.ts";
import type { LookOptions, Tree } from "./tree.ts";

export type Order =
  | { readonly kind: "enter"; readonly directory: string }
  /** Closes everything, and is in no directory that could be unmounted. */
  | { readonly kind: "leave" }
  | { readonly kind: "perform"; readonly ops: readonly Op[] }
  | { readonly kind: "pin"; readonly op: Op }
  | { readonly kind: "look" } & LookOptions;

/** What is said to an order: any number of these, and then "done" or "failed". */
export type Word =
  | { readonly kind: "outcome"; readonly outcome: Outcome }
  /** The daemon died under the operation; those behind it are not made. */
  | { readonly kind: "cut"; readonly errno: string }
  | { readonly kind: "pinned"; readonly op: Op }
  | { readonly kind: "tree"; readonly tree: Tree }
  | { readonly kind: "done" }
  | { readonly kind: "failed"; readonly message: string };

/** How operations ended. */
export interface Performed {
  /** Of the first ones. */
  readonly outcomes: readonly Outcome[];
  /** The next one may have been made or not; the errno, or how the process ended. */
  readonly cut: string | null;
}

const MAIN = decodeURIComponent(new URL("./actor_main.ts", import.meta.url).pathname);
/** Far longer than any order takes. */
const GUARD_MS = 120_000;
const REAP_MS = 10_000;

class Ended extends Error {}

export class Actor {
  #process: Process | null = null;

  /** Takes everything to its end, and starts again at the next order. */
  async end(): Promise<void> {
    await this.#process?.end();
    this.#process = null;
  }

  async enter(directory: string): Promise<void> {
    await this.#order({ kind: "enter", directory });
  }

  async leave(): Promise<void> {
    if (this.#process !== null) await this.#order({ kind: "leave" });
  }

  /** `onOutcome` is called as they come. */
  async perform(ops: readonly Op[], onOutcome: () => void = () => {}): Promise<Performed> {
    const outcomes: Outcome[] = [];
    let cut: string | null = null;
    try {
      await this.#order({ kind: "perform", ops }, (word) => {
        if (word.kind === "cut") cut = word.errno;
        if (word.kind !== "outcome") return;
        outcomes.push(word.outcome);
        onOutcome();
      });
    } catch (error) {
      // A mapping of a file whose daemon is dead ends who touches it.
      if (!(error instanceof Ended)) throw error;
      await this.end();
      cut = error.message;
    }
    return { outcomes, cut };
  }

  async pinned(op: Op): Promise<Op> {
    let pinned = op;
    await this.#order({ kind: "pin", op }, (word) => {
      if (word.kind === "pinned") pinned = word.op;
    });
    return pinned;
  }

  async look(options: LookOptions): Promise<Tree> {
    let tree: Tree = {};
    await this.#order({ kind: "look", ...options }, (word) => {
      if (word.kind === "tree") tree = word.tree;
    });
    return tree;
  }

  async #order(order: Order, onWord: (word: Word) => void = () => {}): Promise<void> {
    this.#process ??= new Process();
    await this.#process.order(order, onWord);
  }
}

class Process {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<string>;
  readonly #status: Promise<Deno.CommandStatus>;
  #hasEnded = false;
  #lines: string[] = [];
  #rest = "";

  constructor() {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", "--quiet", MAIN],
      cwd: "/",
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
      detached: true,
    }).spawn();
    this.#status = this.#child.status.finally(() => this.#hasEnded = true);
    this.#writer = this.#child.stdin.getWriter();
    this.#reader = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Throws Ended when the process ends instead, Error when it fails or hangs. */
  async order(order: Order, onWord: (word: Word) => void): Promise<void> {
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(new Error(`No end of ${order.kind}`)), GUARD_MS);
    try {
      await Promise.race([this.#obeyed(order, onWord), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #obeyed(order: Order, onWord: (word: Word) => void): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(JSON.stringify(order) + "\n"));
    for (;;) {
      const word = JSON.parse(await this.#line()) as Word;
      if (word.kind === "done") return;
      if (word.kind === "failed") throw new Error(`${order.kind}: ${word.message}`);
      onWord(word);
    }
  }

  async #line(): Promise<string> {
    for (;;) {
      const line = this.#lines.shift();
      if (line !== undefined) return line;
      const { done, value } = await this.#reader.read();
      if (done) {
        const { code, signal } = await this.#status;
        throw new Ended(`ended with ${signal ?? code}`);
      }
      const lines = (this.#rest + value).split("\n");
      this.#rest = lines.pop() ?? "";
      this.#lines = lines;
    }
  }

  /** One that does not die is left behind. */
  async end(): Promise<void> {
    if (!this.#hasEnded) killGroup(this.#child.pid);
    const late = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      this.#child.unref();
      late.resolve();
    }, REAP_MS);
    await Promise.race([this.#status, late.promise]);
    clearTimeout(timer);
    await this.#reader.cancel().catch(() => {});
    await this.#writer.abort().catch(() => {});
  }
}
