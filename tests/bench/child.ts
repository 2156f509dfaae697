/** The parent's side of child_main.ts. */

import { GUARD_MS } from "./afs.ts";
import { CHECKOUT } from "./options.ts";
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

async function child(args: readonly string[]): Promise<unknown> {
  const { stdout } = await run(Deno.execPath(), [
    ...["run", "--quiet", "--no-check", "--no-prompt", "-A", "--config", `${CHECKOUT}/deno.json`],
    `${CHECKOUT}/tests/bench/child_main.ts`,
    ...args,
  ], { cwd: "/", timeoutMs: GUARD_MS });
  return JSON.parse(stdout);
}

export async function warmLoops(
  passes: number,
  tree: string,
  reference: string,
): Promise<WarmResult> {
  return await child(["warm", String(passes), tree, reference]) as WarmResult;
}

export async function coldReads(
  tree: string,
  control: string,
  pathsFile: string,
): Promise<ColdRead[]> {
  return await child(["scattered", tree, control, pathsFile]) as ColdRead[];
}
