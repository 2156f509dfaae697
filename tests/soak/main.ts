/**
 * The long form of the soak: one seed after the other, until so many operations were made, or so
 * many hours have passed. Exit code: 0 when all was right, 1 when not, 129 for a bad command line.
 */

import { replay, shrink } from "./replay.ts";
import { type Figures, soak, SoakFailure } from "./soak.ts";

const USAGE = "usage: sh scripts/soak [--steps N] [--seed S] [--hours H]\n" +
  "       sh scripts/soak --replay FILE [--shrink]";
/** On one seed, when there is more time. */
const STEPS_PER_SEED = 12_000;

interface Options {
  readonly steps: number;
  readonly seed: number;
  readonly hours: number;
  readonly replay: string | null;
  readonly shrink: boolean;
}

/** Null: it cannot be understood. */
function parseOptions(args: readonly string[]): Options | null {
  const values = new Map<string, string>();
  const flags = new Set<string>();
  for (let i = 0; i < args.length; i++) {
    const [flag = "", inline] = (args[i] ?? "").split(/=(.*)/s);
    if (flag === "--shrink") flags.add(flag);
    else if (["--steps", "--seed", "--hours", "--replay"].includes(flag)) {
      values.set(flag, inline ?? args[++i] ?? "");
    } else return null;
  }
  const number = (flag: string, standard: number) => Number(values.get(flag) ?? standard);
  const options = {
    steps: number("--steps", values.has("--hours") ? Infinity : STEPS_PER_SEED),
    seed: number("--seed", crypto.getRandomValues(new Uint32Array(1))[0] ?? 1),
    hours: number("--hours", Infinity),
    replay: values.get("--replay") ?? null,
    shrink: flags.has("--shrink"),
  };
  const isGood = options.steps > 0 && Number.isInteger(options.seed) && options.hours > 0;
  return isGood ? options : null;
}

async function main(): Promise<number> {
  const options = parseOptions(Deno.args);
  if (options === null) {
    console.error(USAGE);
    return 129;
  }
  try {
    if (options.replay !== null) {
      const run = options.shrink ? shrink : replay;
      await run(options.replay, console.log);
      console.log("nothing differs");
      return 0;
    }
    const until = performance.now() + options.hours * 3_600_000;
    let steps = 0;
    for (let seed = options.seed; steps < options.steps && performance.now() < until; seed++) {
      const figures: Figures = await soak({
        seed,
        steps: Math.min(STEPS_PER_SEED, options.steps - steps),
        until,
        note: console.log,
      });
      steps += figures.operations;
    }
    return 0;
  } catch (error) {
    console.error(error instanceof SoakFailure ? error.message : error);
    return 1;
  }
}

Deno.exit(await main());
