/**
 * The steps of a failed run again, one at a time, each followed by a comparison. What was cut by a
 * kill is made in full here, and the kill comes behind it.
 */

import { noFigures, Soak, SoakFailure, type Step } from "./soak.ts";

/** What a failed run leaves in a file. */
export interface Trace {
  readonly xattrs: boolean;
  readonly steps: readonly Step[];
}

type Note = (line: string) => void;

/** Throws SoakFailure with the steps up to the first difference. */
async function run({ xattrs, steps }: Trace): Promise<void> {
  const soak = await Soak.make(xattrs, noFigures());
  try {
    await soak.compare();
    for (const step of steps) {
      if ("event" in step) await soak.event(step.event);
      else await soak.burst(new Map([[step.lane, [step.op]]]), null);
      await soak.compare();
    }
  } finally {
    await soak.world.destroy();
  }
}

/** Null: nothing differs. */
async function failure(trace: Trace): Promise<SoakFailure | null> {
  try {
    await run(trace);
    return null;
  } catch (error) {
    if (error instanceof SoakFailure) return error;
    throw error;
  }
}

async function read(path: string): Promise<Trace> {
  return JSON.parse(await Deno.readTextFile(path)) as Trace;
}

/** Throws SoakFailure at the first difference. */
export async function replay(path: string, note: Note): Promise<void> {
  const trace = await read(path);
  note(`${trace.steps.length} steps`);
  await run(trace);
}

/**
 * Leaves out what is not needed for a difference, by halves, quarters and so on. Throws the
 * SoakFailure of what is left, and writes that to `<path>.small`; returns when nothing differs.
 */
export async function shrink(path: string, note: Note): Promise<void> {
  const trace = await read(path);
  let found = await failure(trace);
  if (found === null) return;
  let steps = [...found.steps];
  for (let size = Math.ceil(steps.length / 2); size >= 1; size = Math.floor(size / 2)) {
    for (let at = 0; at < steps.length;) {
      const fewer = [...steps.slice(0, at), ...steps.slice(at + size)];
      const failed = fewer.length === 0 ? null : await failure({ ...trace, steps: fewer });
      if (failed === null) at += size;
      else {
        found = failed;
        steps = [...failed.steps];
        note(`${steps.length} steps`);
      }
    }
  }
  await Deno.writeTextFile(`${path}.small`, JSON.stringify({ ...trace, steps }));
  throw found;
}
