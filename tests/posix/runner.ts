/**
 * Runs cases in two directories at once, each with processes of its own, and says what differs.
 *
 * This process touches neither directory: what hangs there is a child, and the case fails after a
 * guard that is far longer than any step takes.
 */

import { type Actor, directoryOf, type Origin, type PosixCase, type Step, toStep } from "./case.ts";
import { compareStates, type State } from "./state.ts";
import { killGroup } from "../support/run.ts";

/** What an actor is told. Directories are absolute. */
export type Request =
  /** Makes the directory and its fixture unless they are there, does the case's setup. */
  | {
    readonly kind: "prepare";
    readonly case: string;
    readonly directory: string;
    readonly make: boolean;
  }
  | { readonly kind: "enter"; readonly directory: string }
  | { readonly kind: "step"; readonly case: string; readonly index: number }
  /** Closes everything and leaves the directory. */
  | { readonly kind: "leave" }
  | { readonly kind: "state"; readonly case: string; readonly directory: string }
  /** Everything below a directory, to be compared with itself later. */
  | { readonly kind: "exact"; readonly directory: string; readonly xattr: boolean }
  /** Whether there are extended attributes: "" or the errno. */
  | { readonly kind: "probe"; readonly directory: string };

/** What it gave, the errno it failed with, or what went wrong in the case itself. */
export type Reply =
  | { readonly value: unknown }
  | { readonly errno: string }
  | { readonly threw: string };

export interface ActorOptions {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  /** A name in faults.ts. */
  readonly fault?: string;
}

/** `member` is of `user`'s group as well as its own. */
export const ACTORS: Readonly<Record<Actor, ActorOptions>> = {
  root: { uid: 0, gid: 0, groups: [] },
  peer: { uid: 0, gid: 0, groups: [] },
  user: { uid: 12345, gid: 12345, groups: [] },
  other: { uid: 12346, gid: 12346, groups: [] },
  member: { uid: 12347, gid: 12347, groups: [12345] },
};

const CHILD_MAIN = decodeURIComponent(new URL("./child_main.ts", import.meta.url).pathname);
/** For one step; far longer than any takes, also on a busy machine. */
const GUARD_MS = 60_000;
const REAP_MS = 10_000;

/** A step that has not ended. */
class Hung extends Error {
  override name = "Hung";
}

class ActorProcess {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<string>;
  #rest = "";

  constructor(options: ActorOptions, readonly guardMs: number) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", "--quiet", CHILD_MAIN, JSON.stringify(options)],
      cwd: "/",
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
      detached: true, // a group of its own, so that its children die with it
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#reader = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Throws Hung after the guard, and Error when the process ends instead of replying. */
  async ask(request: Request): Promise<Reply> {
    const { promise: late, reject } = Promise.withResolvers<never>();
    const hung = new Hung(`no reply after ${this.guardMs} ms`);
    const timer = setTimeout(reject, this.guardMs, hung);
    try {
      await this.#writer.write(new TextEncoder().encode(JSON.stringify(request) + "\n"));
      return await Promise.race([this.#line(), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #line(): Promise<Reply> {
    for (;;) {
      const end = this.#rest.indexOf("\n");
      if (end >= 0) {
        const line = this.#rest.slice(0, end);
        this.#rest = this.#rest.slice(end + 1);
        return JSON.parse(line) as Reply;
      }
      const { done, value } = await this.#reader.read();
      if (done) {
        const { code, signal } = await this.#child.status;
        throw new Error(`the process has ended with ${signal ?? code}`);
      }
      this.#rest += value;
    }
  }

  /** Kills it with all its children; one that does not die is left behind. */
  async end(): Promise<void> {
    killGroup(this.#child.pid);
    const late = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      this.#child.unref();
      late.resolve();
    }, REAP_MS);
    await Promise.race([this.#child.status, late.promise]);
    clearTimeout(timer);
    await this.#reader.cancel().catch(() => {});
    await this.#writer.abort().catch(() => {});
  }
}

export interface SideOptions {
  /** Whether fixtures with origin "base" are there already. */
  readonly isMount?: boolean;
  /** A fault for all its actors. */
  readonly fault?: string;
  readonly guardMs?: number;
}

/** A directory with the processes that work in it. */
export class Side {
  readonly root: string;
  readonly isMount: boolean;
  /** Steps that have not ended so far. */
  hungCount = 0;
  readonly #fault: string | undefined;
  readonly #guardMs: number;
  readonly #actors = new Map<Actor, ActorProcess>();

  constructor(root: string, options: SideOptions = {}) {
    this.root = root;
    this.isMount = options.isMount ?? false;
    this.#fault = options.fault;
    this.#guardMs = options.guardMs ?? GUARD_MS;
  }

  async ask(actor: Actor, request: Request): Promise<Reply> {
    let process = this.#actors.get(actor);
    if (process === undefined) {
      const fault = this.#fault === undefined ? {} : { fault: this.#fault };
      process = new ActorProcess({ ...ACTORS[actor], ...fault }, this.#guardMs);
      this.#actors.set(actor, process);
    }
    try {
      return await process.ask(request);
    } catch (error) {
      if (error instanceof Hung) this.hungCount++;
      throw error;
    }
  }

  /** Ends all its processes; the next case starts new ones. */
  async end(): Promise<void> {
    const processes = [...this.#actors.values()];
    this.#actors.clear();
    await Promise.all(processes.map((process) => process.end()));
  }
}

interface Outcome {
  /** By step; null: not made. */
  readonly replies: (Reply | null)[];
  readonly state: State;
}

function valueOf(reply: Reply, what: string): unknown {
  if ("value" in reply) return reply.value;
  throw new Error(`${what}: ${"errno" in reply ? reply.errno : reply.threw}`);
}

/** Makes all steps of a case on one side. Throws when the case cannot go on. */
async function perform(
  side: Side,
  test: PosixCase,
  steps: readonly Step[],
  origin: Origin,
): Promise<Outcome> {
  const directory = `${side.root}/${directoryOf(test, origin)}`;
  const make = !(side.isMount && origin === "base");
  const prepared = await side.ask("root", { kind: "prepare", case: test.name, directory, make });
  valueOf(prepared, "setup");
  const inside = new Set<Actor>();
  const begun = new Map<Actor, Promise<Reply>>();
  const replies: (Reply | null)[] = [];
  try {
    for (const [index, step] of steps.entries()) {
      const { actor } = step;
      if (!inside.has(actor)) {
        valueOf(await side.ask(actor, { kind: "enter", directory }), `${actor} enters`);
        inside.add(actor);
      }
      if (step.mountOnly && !side.isMount) {
        replies.push(null);
        continue;
      }
      if (step.phase === "end") {
        replies.push(await begun.get(actor) ?? { threw: "nothing was begun" });
        begun.delete(actor);
        continue;
      }
      const reply = side.ask(actor, { kind: "step", case: test.name, index });
      if (step.phase === "whole") {
        replies.push(await reply);
      } else {
        // Whoever waits for it sees the failure.
        reply.catch(() => {});
        begun.set(actor, reply);
        replies.push(null);
      }
    }
    for (const actor of inside) {
      valueOf(await side.ask(actor, { kind: "leave" }), `${actor} leaves`);
    }
    const state = await side.ask("root", { kind: "state", case: test.name, directory });
    return { replies, state: valueOf(state, "state") as State };
  } catch (error) {
    const at = steps[replies.length];
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(at === undefined ? message : `${at.actor}: ${at.text}: ${message}`);
  }
}

function show(reply: Reply): string {
  if ("errno" in reply) return reply.errno;
  return "threw" in reply ? `an error (${reply.threw})` : JSON.stringify(reply.value);
}

/** The errno's name; "" for success, null for an error of the case. */
function errnoOf(reply: Reply): string | null {
  if ("errno" in reply) return reply.errno;
  return "threw" in reply ? null : "";
}

/**
 * Runs a case on both sides. One line for each difference, and for each step that did not give
 * what the case says it gives on a plain directory.
 */
export async function runCase(
  plain: Side,
  tested: Side,
  test: PosixCase,
  origin: Origin,
): Promise<string[]> {
  const steps = test.steps.map(toStep);
  const outcomes = await Promise.allSettled(
    [plain, tested].map((side) => perform(side, test, steps, origin)),
  );
  const failures = outcomes.flatMap((outcome, i) =>
    outcome.status === "fulfilled"
      ? []
      : [`${i === 0 ? "plain" : "tested"}: ${(outcome.reason as Error).message}`]
  );
  const [a, b] = outcomes.map((each) => each.status === "fulfilled" ? each.value : null);
  if (!a || !b) {
    await Promise.all([plain.end(), tested.end()]);
    return failures;
  }

  for (const [index, step] of steps.entries()) {
    const [want, got] = [a.replies[index], b.replies[index]];
    const where = `step ${index + 1}, ${step.actor}: ${step.text}`;
    if (step.mountOnly && got && errnoOf(got) !== step.expects) {
      failures.push(`${where}: must fail with ${step.expects}, got ${show(got)}`);
    }
    if (!want || !got) continue;
    if (step.refusable !== undefined && errnoOf(got) === step.refusable) return failures;
    const errno = errnoOf(want);
    if (errno === null || (step.expects !== null && errno !== step.expects)) {
      const expected = step.expects ? `fail with ${step.expects}` : "succeed";
      failures.push(`${where}: must ${expected} on a plain directory, got ${show(want)}`);
    }
    if (show(want) !== show(got)) {
      failures.push(`${where}: expected ${show(want)}, got ${show(got)}`);
    }
  }
  return [...failures, ...compareStates(a.state, b.state)];
}
