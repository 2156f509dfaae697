import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type Answer,
  type Asked,
  assertBytes,
  type Blob,
  type Gate,
  gates,
  sizeOf,
  world,
} from "../../tests/fakes/hydration_world.ts";
import { sleep, waitFor } from "../../tests/support/run.ts";
import type { Need } from "./messages.ts";

type Step =
  | { readonly kind: "want"; mountId: number; at: number; file: number; need: Need }
  | { readonly kind: "end"; which: number; outcome: "ok" | "fails" | "half" | "loses" }
  | { readonly kind: "pause"; ms: number };

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant("want" as const),
        mountId: fc.constantFrom(1, 2),
        at: fc.nat(4),
        file: fc.nat(2),
        need: fc.constantFrom<Need>("size", "content"),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant("end" as const),
        which: fc.nat(3),
        outcome: fc.constantFrom(
          "ok" as const,
          "fails" as const,
          "half" as const,
          "loses" as const,
        ),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("pause" as const), ms: fc.nat(4) }),
    },
  ),
  { minLength: 5, maxLength: 40 },
);

function end({ call, open, fail }: Gate, outcome: (Step & { kind: "end" })["outcome"]): void {
  if (outcome === "ok") call.arrive(call.oids);
  if (outcome === "half") call.arrive(call.oids.filter((_, i) => i % 2 === 1));
  if (outcome === "loses") call.arrive(call.oids.slice(1));
  if (outcome === "fails" || outcome === "half") fail("broken");
  else open();
}

Deno.test("property: however wants and failures fall, every want gets the right answer", async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (list) => {
      await using w = await world({ dirs: 5, files: 3, mounts: [1, 2] });
      const gate = gates(w.source);
      const asked: { blob: Blob; asked: Asked }[] = [];
      for (const step of list) {
        if (step.kind === "want") {
          const { at, file, need, mountId } = step;
          asked.push({ blob: w.blob(at, file), asked: w.want(at, file, need, mountId) });
        } else if (step.kind === "pause") await sleep(2 * step.ms);
        else {
          const [which] = gate.waiting.splice(step.which % (gate.waiting.length || 1), 1);
          if (which !== undefined) end(which, step.outcome);
        }
      }
      await waitFor(
        () => {
          for (const each of gate.waiting.splice(0)) end(each, "ok");
          return asked.every(({ asked: { answer } }) => answer() !== null);
        },
        `answers to ${asked.length} wants`,
        { timeoutMs: 10_000, pollMs: 1 },
      );
      for (const { blob, asked: { answer } } of asked) {
        const given = answer() as Answer;
        if (given.kind === "size") assert.deepEqual(given, sizeOf(blob));
        else if (given.kind === "bytes") assertBytes(given, blob);
        else assert.equal(given.kind, "unavailable");
      }
      assert.deepEqual(w.source.twice, []);
      assert.ok(w.source.mostActive <= 2);
      await waitFor(
        () => {
          for (const each of gate.waiting.splice(0)) end(each, "ok");
          return w.source.active === 0;
        },
        "end of the fetches",
        { pollMs: 1 },
      );
    }),
    { numRuns: 40 },
  );
});
