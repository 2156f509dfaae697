/**
 * Random operations on a mount and on a plain directory, with random kills of the daemon: what each
 * operation gives, and what is there afterwards, must be the same.
 *
 * Operations come in bursts: some in each lane, lanes at the same time, and then both trees are
 * compared. A kill in the middle of a burst leaves at most one operation in each lane of which
 * nobody knows whether it was made: it must be made in full, not at all, or, of a write, in a part
 * of its pages. All that was acknowledged must be there.
 */

import { settle } from "../posix/state.ts";
import { realtimeNs } from "../support/raw_process.ts";
import { Random } from "../support/git_objects.ts";
import { Generator, type Lane, laneOf, LANES } from "./generate.ts";
import { type Op, type Outcome, partsOf, show, split } from "./op.ts";
import { differences, Followed, lost, type Oddity, timesOf, type Tree } from "./tree.ts";
import { type Blow, type Event, EVENTS, World } from "./world.ts";

/** What has happened so far, for a replay. */
export type Step =
  | { readonly lane: Lane; readonly op: Op }
  | { readonly event: Event };

export interface Figures {
  operations: number;
  /** Of these, operations that changed something or gave something. */
  succeeded: number;
  comparisons: number;
  /** Daemons ended by SIGKILL; in the middle of a burst or between two. */
  kills: number;
  /** Operations of which it was found out afterwards whether they were made. */
  cut: number;
  /** Of these, made in full or in part. */
  cutMade: number;
  events: number;
}

export class SoakFailure extends Error {
  override readonly name = "SoakFailure";
  constructor(
    readonly differences: readonly string[],
    readonly steps: readonly Step[],
    options?: ErrorOptions,
  ) {
    const last = steps.slice(-20).map((step) =>
      "event" in step ? `  [${step.event}]` : `  ${step.lane}: ${show(step.op)}`
    );
    super(
      [
        `after ${steps.length} steps on this mount:`,
        ...differences.slice(0, 20).map((line) => `  ${line.slice(0, 2000)}`),
        ...(differences.length > 20 ? [`  and ${differences.length - 20} more`] : []),
        "the last steps:",
        ...last,
      ].join("\n"),
      options,
    );
  }
}

/**
 * A write may be several requests, and returns early when the daemon ends between them; what needs
 * no daemon may still follow. Takes what was not acknowledged out of it, and returns that.
 */
function splitShort(made: Op[], outcomes: readonly Outcome[]): Op[] {
  for (const [at, op] of made.entries()) {
    const outcome = outcomes[at];
    if (op.call !== "write" || outcome === undefined || !("value" in outcome)) continue;
    if (outcome.value === op.length) continue;
    const [done, rest] = split(op, Number(outcome.value));
    made[at] = done;
    return [rest];
  }
  return [];
}

function line({ path, text }: Oddity): string {
  return `${path}: ${text}`;
}

/** One mount from its first operation to its end. */
export class Soak {
  readonly world: World;
  readonly figures: Figures;
  readonly steps: Step[] = [];
  readonly #startNs = realtimeNs();
  readonly #followed = new Followed();

  private constructor(world: World, figures: Figures) {
    this.world = world;
    this.figures = figures;
  }

  static async make(xattrs: boolean, figures: Figures): Promise<Soak> {
    return new Soak(await World.make({ xattrs }), figures);
  }

  #fail(lines: readonly string[]): never {
    throw new SoakFailure(lines, [...this.steps]);
  }

  /**
   * Makes the operations of each lane, lanes at the same time, and compares what they gave. Lanes
   * whose operation was cut are in the result.
   */
  async burst(ops: ReadonlyMap<Lane, readonly Op[]>, blow: Blow | null): Promise<Set<Lane>> {
    const { world, figures } = this;
    const lanes = [...ops];
    const results = await world.under(blow, (onOutcome) =>
      Promise.all(
        lanes.map(async ([lane, list]) => await world.mounted[lane].perform(list, onOutcome)),
      ));
    const cut = new Map<Lane, readonly Op[]>();
    const wrong: string[] = [];
    for (const [i, [lane, list]] of lanes.entries()) {
      const { outcomes, cut: how } = results[i] ?? { outcomes: [], cut: "lost" };
      const made = list.slice(0, outcomes.length);
      const next = list[outcomes.length];
      const unsure = how !== null && next !== undefined ? [next] : [];
      if (unsure.length > 0 && blow === null) wrong.push(`${how}, but the daemon lives`);
      if (blow !== null) unsure.unshift(...splitShort(made, outcomes));
      for (const op of made) this.steps.push({ lane, op });
      figures.operations += made.length;
      const expected = await world.plain.perform(made);
      for (const [at, op] of made.entries()) {
        const [want, got] = [expected.outcomes[at], outcomes[at]].map((o) => JSON.stringify(o));
        if (want !== got) wrong.push(`${show(op)}: expected ${want}, got ${got}`);
        if (want?.startsWith('{"value"')) figures.succeeded++;
      }
      if (unsure.length > 0) cut.set(lane, unsure);
    }
    if (wrong.length > 0) this.#fail(wrong);
    if (blow !== null) await this.#recover(cut, blow);
    return new Set(cut.keys());
  }

  /** The daemon is dead: it comes back, and what was cut is found out. */
  async #recover(cut: ReadonlyMap<Lane, readonly Op[]>, blow: Blow): Promise<void> {
    const { world, figures } = this;
    const signal = "signal" in blow ? blow.signal : "SIGKILL";
    if (signal === "SIGKILL") figures.kills++;
    await world.leave();
    await world.restart(signal);
    await world.enter();
    const mounted = await world.lookAtMount();
    for (const [lane, ops] of cut) {
      figures.cut++;
      const differ = await this.#resolve(lane, ops, mounted);
      for (const op of ops) this.steps.push({ lane, op });
      if (differ.length === 0) continue;
      const what = ops.map(show).join("; ");
      const how = JSON.stringify(blow);
      this.#fail([`${what} was cut by ${how}, and is neither made nor not:`, ...differ.map(line)]);
    }
    this.steps.push({ event: signal === "SIGKILL" ? "kill" : "term" });
    await world.dropSlots();
  }

  /** Makes on the plain side what the mount has of it, part by part; what differs at the end. */
  async #resolve(lane: Lane, ops: readonly Op[], mounted: Tree): Promise<Oddity[]> {
    const { world, figures } = this;
    const compare = async () => {
      const { plain } = await world.look();
      return differences({ plain, mounted }, this.#startNs)
        .filter(({ path }) => laneOf(path) === lane);
    };
    let differ = await compare();
    if (differ.length === 0) return [];
    for (const op of ops) {
      for (const part of partsOf(await world.plain.pinned(op))) {
        await world.plain.perform([part]);
        differ = await compare();
        if (differ.length > 0) continue;
        figures.cutMade++;
        return [];
      }
    }
    return differ;
  }

  /** Nobody works, something happens to the mount, and all is as it was. */
  async event(event: Event): Promise<void> {
    const { world, figures } = this;
    const before = await world.lookAtMount();
    this.steps.push({ event });
    await world.happen(event);
    const changed = lost(before, await world.lookAtMount());
    if (changed.length > 0) this.#fail(changed.map(line));
    figures.events++;
    if (event === "kill") figures.kills++;
  }

  /** Compares both trees; `cut` as `burst` gave it. What is there now is the result. */
  async compare(cut: ReadonlySet<Lane> = new Set()): Promise<Tree> {
    const moment = await this.world.look();
    this.figures.comparisons++;
    const differ = differences(moment, this.#startNs);
    if (differ.length > 0) this.#fail(differ.map(line));
    const odd = this.#followed.follow(moment);
    for (const lane of cut) {
      // What was cut may have moved times of what it was about, and shown nothing else.
      const [first] = odd.filter(({ path }) => laneOf(path) === lane);
      const rest = odd.filter(({ path }) => path !== first?.path);
      odd.splice(0, odd.length, ...rest);
    }
    if (odd.length > 0) this.#fail(odd.map(line));
    // Whatever changes from now on gets another time.
    settle(timesOf(moment, realtimeNs()));
    return moment.plain;
  }
}

export interface SoakOptions {
  readonly seed: number;
  /** Operations. */
  readonly steps: number;
  /** When to end all the same, as performance.now() has it. */
  readonly until?: number;
  readonly note: (line: string) => void;
}

/** On one mount; after that a new one, since in time nothing is left of the base. */
const STEPS_PER_MOUNT = 1000;

export function noFigures(): Figures {
  return { operations: 0, succeeded: 0, comparisons: 0, kills: 0, cut: 0, cutMade: 0, events: 0 };
}

/** Throws SoakFailure, whatever went wrong, and leaves the steps in a file. */
export async function soak({ seed, steps, until = Infinity, note }: SoakOptions): Promise<Figures> {
  const figures = noFigures();
  for (let mount = 0; figures.operations < steps && performance.now() < until; mount++) {
    const random = new Random(seed + mount * 1_000_003);
    const xattrs = mount % 2 === 1;
    const run = await Soak.make(xattrs, figures);
    try {
      await soakOne(run, random, xattrs, Math.min(steps, figures.operations + STEPS_PER_MOUNT));
      await run.world.finish();
      note(`seed ${seed}, mount ${mount + 1}: ${JSON.stringify(figures)}`);
    } catch (error) {
      await run.world.lab.showLogs();
      const failure = error instanceof SoakFailure
        ? error
        : new SoakFailure([Deno.inspect(error)], run.steps, { cause: error });
      const path = await Deno.makeTempFile({ prefix: `afs-soak-${seed}-`, suffix: ".json" });
      await Deno.writeTextFile(path, JSON.stringify({ xattrs, steps: run.steps }));
      failure.message = `Seed ${seed}, mount ${mount + 1}, ${failure.message}\n` +
        `all of them: sh scripts/soak --replay ${path} --shrink`;
      throw failure;
    } finally {
      await run.world.destroy();
    }
  }
  return figures;
}

async function soakOne(run: Soak, random: Random, xattrs: boolean, until: number): Promise<void> {
  const generator = new Generator(random, { xattrs });
  const below = (limit: number) => random.below(limit);
  generator.learn(await run.compare());
  while (run.figures.operations < until) {
    const lanes = below(3) === 0 ? [LANES[below(3)] as Lane] : LANES;
    const fatal = below(5) === 0;
    const length = 1 + below(fatal ? 20 : below(4) === 0 ? 4 : 40);
    const ops = new Map(lanes.map((lane) => [
      lane,
      Array.from({ length }, () => generator.next(lane)),
    ]));
    const blow = fatal ? chooseBlow(random, length * lanes.length) : null;
    const cut = await run.burst(ops, blow);
    generator.learn(await run.compare(cut));
    if (below(6) === 0) await run.event(EVENTS[below(EVENTS.length)] as Event);
  }
}

/**
 * System calls of the daemon, and about how many of one there are for an operation. In place of
 * `write` dies who has done it and has not said so.
 */
const SYSCALLS: readonly (readonly [string, number])[] = [
  ["write", 1],
  ["write", 1],
  ["write", 1],
  ["write", 0.2],
  ["pwrite64", 1],
  ["pwrite64", 1],
  ["openat", 0.1],
  ["openat", 0.1],
  ["unlinkat", 0.05],
  ["ftruncate", 0.05],
  ["fallocate", 0.05],
  ["utimensat", 0.05],
];

function chooseBlow(random: Random, operations: number): Blow {
  const kind = random.below(6);
  if (kind === 0) return { signal: "SIGTERM", after: 1 + random.below(operations) };
  if (kind === 1) return { signal: "SIGKILL", after: 1 + random.below(operations) };
  const [syscall, each] = SYSCALLS[random.below(SYSCALLS.length)] as readonly [string, number];
  return { syscall, nth: 1 + random.below(Math.ceil(operations * each)) };
}
