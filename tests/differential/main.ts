/**
 * The long form: one seed after the other. Exit code: 0 when nothing differed, 1 when something
 * did, 129 for a bad command line.
 */

import { Difference, differential, replay, shrink, type Step } from "./differential.ts";

const USAGE = "usage: sh scripts/differential [--seeds N] [--steps N] [--seed S] [--keep-going]\n" +
  "       sh scripts/differential --replay FILE [--shrink]";

interface Options {
  readonly seeds: number;
  readonly steps: number;
  readonly seed: number;
  readonly keepGoing: boolean;
  readonly replay: string | null;
  readonly shrink: boolean;
}

/** Null: it cannot be understood. */
function parseOptions(args: readonly string[]): Options | null {
  const values = new Map<string, string>();
  const flags = new Set<string>();
  for (let i = 0; i < args.length; i++) {
    const [flag = "", inline] = (args[i] ?? "").split(/=(.*)/s);
    if (["--shrink", "--keep-going"].includes(flag)) flags.add(flag);
    else if (["--seeds", "--steps", "--seed", "--replay"].includes(flag)) {
      values.set(flag, inline ?? args[++i] ?? "");
    } else return null;
  }
  const number = (flag: string, standard: number) => Number(values.get(flag) ?? standard);
  const options = {
    seeds: number("--seeds", 20),
    steps: number("--steps", 120),
    seed: number("--seed", crypto.getRandomValues(new Uint32Array(1))[0] ?? 1),
    keepGoing: flags.has("--keep-going"),
    replay: values.get("--replay") ?? null,
    shrink: flags.has("--shrink"),
  };
  const isGood = options.seeds > 0 && options.steps > 0 && Number.isInteger(options.seed);
  return isGood ? options : null;
}

async function report(found: Difference, options: Options, name: string): Promise<void> {
  console.log(found.message);
  const least = options.shrink ? await shrink(found, console.log) : found;
  if (options.shrink) console.log(least.message);
  const path = await Deno.makeTempFile({ prefix: `afs-differential-${name}-`, suffix: ".json" });
  await Deno.writeTextFile(path, JSON.stringify(least.steps, null, 1));
  console.log(`all of them: sh scripts/differential --replay ${path} --shrink`);
}

async function main(): Promise<number> {
  const options = parseOptions(Deno.args);
  if (options === null) {
    console.error(USAGE);
    return 129;
  }
  if (options.replay !== null) {
    const steps = JSON.parse(await Deno.readTextFile(options.replay)) as Step[];
    const found = await replay(steps);
    if (found === null) console.log("nothing differs");
    else await report(found, options, "replay");
    return found === null ? 0 : 1;
  }
  let differing = 0;
  for (let seed = options.seed; seed < options.seed + options.seeds; seed++) {
    try {
      await differential({ seed, steps: options.steps });
      console.log(`seed ${seed}: ${options.steps} steps, nothing differs`);
    } catch (error) {
      if (!(error instanceof Difference)) throw error;
      console.log(`seed ${seed}:`);
      await report(error, options, String(seed));
      differing++;
      if (!options.keepGoing) break;
    }
  }
  return differing === 0 ? 0 : 1;
}

Deno.exit(await main());
