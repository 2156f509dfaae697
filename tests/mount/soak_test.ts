/**
 * The short form of the soak (tests/soak): a fixed seed and a random one. AFS_SOAK_SEED and
 * AFS_SOAK_STEPS say otherwise.
 */

import assert from "node:assert/strict";
import { soak } from "../soak/soak.ts";
import { mountTest } from "./harness.ts";

const STEPS = Number(Deno.env.get("AFS_SOAK_STEPS") ?? 1800);
const GIVEN = Deno.env.get("AFS_SOAK_SEED");
const SEEDS = GIVEN === undefined
  ? [9, crypto.getRandomValues(new Uint32Array(1))[0] as number]
  : [Number(GIVEN)];

for (const [i, seed] of SEEDS.entries()) {
  const which = GIVEN !== undefined ? "the given" : i === 0 ? "a fixed" : "a random";
  mountTest(`soak: random operations and kills, ${which} seed`, async () => {
    console.log(`soak: seed ${seed}, ${STEPS} steps`);
    const figures = await soak({ seed, steps: STEPS, note: console.log });
    assert.ok(figures.operations >= STEPS);
    // Most operations must find what they are about, or little is tried.
    assert.ok(figures.succeeded > figures.operations / 2, JSON.stringify(figures));
  });
}
