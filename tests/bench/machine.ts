/** Facts without which the figures say little. */

import type { Options } from "./options.ts";
import type { Repository } from "./repository.ts";
import { run } from "../support/run.ts";

async function firstLine(command: string, ...args: string[]): Promise<string> {
  try {
    const { stdout } = await run(command, args, { okCodes: "any" });
    return stdout.split("\n")[0]?.trim() ?? "";
  } catch {
    return "";
  }
}

export async function describeMachine(program: string, folder: string): Promise<string[]> {
  const cpu = await firstLine("sh", "-c", "sed -n 's/^model name[^:]*: //p' /proc/cpuinfo");
  const gib = (Deno.systemMemoryInfo().total / 2 ** 30).toFixed(0);
  return [
    `date: ${new Date().toISOString().replace(/\.\d+Z$/, "Z")}`,
    `kernel: ${await firstLine("uname", "-srm")}`,
    `cores: ${navigator.hardwareConcurrency}${cpu === "" ? "" : ` (${cpu})`}, ${gib} GiB`,
    `file system: ${await firstLine("stat", "-f", "-c", "%T", folder)}`,
    `load before: ${Deno.loadavg().map((load) => load.toFixed(2)).join(" ")}`,
    `deno: ${Deno.version.deno}, ${await firstLine("git", "--version")}`,
    `afs: ${await firstLine(program, "--version")}`,
  ];
}

export function describeRun(
  options: Options,
  repository: Repository,
  args: readonly string[],
  isCold: boolean,
): string[] {
  const { files, directoryCount, totalBytes, commitCount } = repository;
  return [
    `command: sh scripts/bench ${args.join(" ")}`.trimEnd(),
    `repository: ${files.length} files, ${directoryCount} directories, ` +
    `${(totalBytes / 2 ** 20).toFixed(1)} MiB, ${commitCount} commits`,
    `server: loopback, ${options.rttMs} ms per round trip, 2 more for a new connection`,
    `rounds: ${options.rounds}, afs and plain git by turns, a fresh state root for each cold figure`,
    isCold
      ? "cold: caches dropped for both sides; programs and the server's packs read back in"
      : "cold: caches not dropped (that takes root)",
    "values: median (smallest–largest); the ratio is that of the medians",
  ];
}
