/**
 * Stock git in a mount against stock git in a plain clone: random steps, each made on both sides,
 * and what can be seen afterwards must be the same. Now and then the daemon is restarted or killed,
 * or the mount is taken away and made again.
 */

import { Random } from "../support/git_objects.ts";
import { nextScript } from "./generate.ts";
import { type Event, EVENTS, type Look, LOOKS, type Seen, World } from "./world.ts";

export type Step =
  | { readonly script: string; readonly look: Look }
  | { readonly event: Event | "push" };

export class Difference extends Error {
  override readonly name = "Difference";
  constructor(readonly steps: readonly Step[], what: string, options?: ErrorOptions) {
    const last = steps.slice(-25).map((step) => `  ${show(step)}`);
    super([what, `the last of ${steps.length} steps:`, ...last].join("\n"), options);
  }
}

function show(step: Step): string {
  return "event" in step ? `[${step.event}]` : `${step.script}   # ${step.look}`;
}

/** Null: the same. */
function compare(plain: Seen, mounted: Seen): string | null {
  const lines: string[] = [];
  for (const name of new Set([...Object.keys(plain), ...Object.keys(mounted)])) {
    if (plain[name] === mounted[name]) continue;
    const [want, got] = [plain, mounted].map((seen) => (seen[name] ?? "").split("\n"));
    lines.push(`${name}:`);
    lines.push(...without(want, got).map((line) => `  only plain:   ${line}`));
    lines.push(...without(got, want).map((line) => `  only mounted: ${line}`));
  }
  return lines.length === 0 ? null : lines.slice(0, 60).join("\n");
}

function without(lines: readonly string[] = [], others: readonly string[] = []): string[] {
  const known = new Set(others);
  return lines.filter((line) => !known.has(line)).slice(0, 12);
}

/** Throws Difference. */
async function perform(world: World, step: Step, done: Step[]): Promise<void> {
  done.push(step);
  try {
    if (!("event" in step)) {
      const { plain, mounted } = await world.step(step.script, step.look);
      const what = compare(plain, mounted);
      if (what !== null) {
        throw new Difference([...done], `${what}\nstderr\n${await world.complaints()}`);
      }
    } else if (step.event === "push") await world.push();
    else await world.happen(step.event);
  } catch (error) {
    if (error instanceof Difference) throw error;
    throw new Difference([...done], Deno.inspect(error), { cause: error });
  }
}

const LAST: Step = { script: "true", look: "all" };

/** The steps again, in a new world; null: nothing differs. */
export async function replay(steps: readonly Step[]): Promise<Difference | null> {
  const world = await World.make();
  const done: Step[] = [];
  try {
    for (const step of [...steps, LAST]) await perform(world, step, done);
    return null;
  } catch (error) {
    if (error instanceof Difference) return error;
    throw error;
  } finally {
    await world.destroy();
  }
}

/** Leaves out what is not needed for a difference: halves first, then less, then single steps. */
export async function shrink(found: Difference, note: (line: string) => void): Promise<Difference> {
  let least = found;
  for (let size = Math.ceil(least.steps.length / 2);; size = Math.ceil(size / 2)) {
    for (let at = Math.max(0, least.steps.length - size); at >= 0; at -= size) {
      const rest = least.steps.toSpliced(at, size);
      const again = rest.length === least.steps.length ? null : await replay(rest);
      if (again === null || again.steps.length >= least.steps.length) continue;
      least = again;
      note(`${least.steps.length} steps are enough`);
    }
    if (size <= 1) return least;
  }
}

export interface Run {
  readonly seed: number;
  readonly steps: number;
}

/** One world from its first step to its end. Throws Difference. */
export async function differential({ seed, steps }: Run): Promise<void> {
  const random = new Random(seed);
  const world = await World.make();
  const done: Step[] = [];
  try {
    // As different as possible: some look after each step, some seldom.
    const patience = 1 + random.below(4);
    while (done.length < steps) {
      if (random.below(25) === 0) {
        const event = random.below(5) === 0 ? "push" : EVENTS[random.below(EVENTS.length)] as Event;
        await perform(world, { event }, done);
      }
      const script = nextScript(random, world.paths());
      const look = random.below(patience) > 0 ? "nothing" : LOOKS[1 + random.below(2)] as Look;
      await perform(world, { script, look }, done);
    }
    await perform(world, LAST, done);
    await world.finish();
  } catch (error) {
    if (!(error instanceof Difference) || Deno.env.has("AFS_LOGS")) await world.lab.showLogs();
    throw error;
  } finally {
    await world.destroy();
  }
}
