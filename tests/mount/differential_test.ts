/**
 * The short form of the differential test (tests/differential): a fixed seed and a random one.
 * AFS_SEED and AFS_STEPS say otherwise.
 */

import { Difference, differential, shrink } from "../differential/differential.ts";
import { mountTest } from "./harness.ts";

const STEPS = Number(Deno.env.get("AFS_STEPS") ?? 70);
const GIVEN = Deno.env.get("AFS_SEED");
const SEEDS = GIVEN === undefined
  ? [7, crypto.getRandomValues(new Uint32Array(1))[0] as number]
  : [Number(GIVEN)];

for (const [i, seed] of SEEDS.entries()) {
  const which = GIVEN !== undefined ? "the given" : i === 0 ? "a fixed" : "a random";
  mountTest(`git: random commands as in a plain clone, ${which} seed`, async () => {
    console.log(`differential: AFS_SEED=${seed} AFS_STEPS=${STEPS}`);
    try {
      await differential({ seed, steps: STEPS });
    } catch (error) {
      if (!(error instanceof Difference)) throw error;
      console.log(error.message);
      throw await shrink(error, console.log);
    }
  });
}
