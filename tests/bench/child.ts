/** The parent's side of child_main.ts and write_main.ts. */

import { GUARD_MS } from "./afs.ts";
import { CHECKOUT } from "./options.ts";
import type { WriteFigureId } from "./figures_write.ts";
import type { Cost } from "./meter.ts";
import { run } from "../support/run.ts";

export interface WarmResult {
  readonly walk: { readonly tree: number[]; readonly reference: number[] };
  readonly read: { readonly tree: number[]; readonly reference: number[] };
}

export interface ColdRead {
  readonly ms: number;
  readonly requests: number;
  readonly wants: number;
}

async function child(program: string, args: readonly string[]): Promise<unknown> {
  const { stdout } = await run(Deno.execPath(), [
    ...["run", "--quiet", "--no-check", "--no-prompt", "-A", "--config", `${CHECKOUT}/deno.json`],
    `${CHECKOUT}/tests/bench/${program}`,
    ...args,
  ], { cwd: "/", timeoutMs: GUARD_MS });
  return JSON.parse(stdout);
}

export async function warmLoops(
  passes: number,
  tree: string,
  reference: string,
): Promise<WarmResult> {
  return await child("child_main.ts", ["warm", String(passes), tree, reference]) as WarmResult;
}

export async function coldReads(
  tree: string,
  control: string,
  pathsFile: string,
): Promise<ColdRead[]> {
  return await child("child_main.ts", ["scattered", tree, control, pathsFile]) as ColdRead[];
}

/** The time of one operation in the figure's unit, one number for each pass. */
export interface WriteSamples {
  readonly tree: number[];
  readonly reference: number[];
  /** In the tree. */
  readonly costs: Cost[];
}

/** `scale` divides what each pass does. */
export async function writeLoops(
  socketPath: string,
  tree: string,
  reference: string,
  { passes, scale }: { readonly passes: number; readonly scale: number },
): Promise<[WriteFigureId, WriteSamples][]> {
  const args = [socketPath, tree, reference, String(passes), String(scale)];
  const samples = await child("write_main.ts", args) as Record<string, WriteSamples>;
  return Object.entries(samples) as [WriteFigureId, WriteSamples][];
}
