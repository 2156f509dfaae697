/**
 * Measures afs against plain git and local disk, A B A B, and prints a markdown table.
 *
 * One round has several daemons, each with a state root of its own, because whatever was cold is
 * cold once. Figures are in figures.ts, how they are taken in groups/. Exit code: 0 when all was
 * measured, 1 when something was not, 129 for a bad command line.
 */

import type { Bench } from "./bench.ts";
import { FIGURE_IDS, type FigureId, Recorder } from "./figures.ts";
import { measureAcquire } from "./groups/acquire.ts";
import { WRITE_FIGURES } from "./figures_write.ts";
import { measureGit } from "./groups/git.ts";
import { measureList } from "./groups/list.ts";
import { measureBigBlob, measureMemory, prepareBigBlob } from "./groups/memory.ts";
import { measureMount } from "./groups/mount.ts";
import { measureReadAll } from "./groups/read_all.ts";
import { measureScattered } from "./groups/scattered.ts";
import { measureWrite, prepareWrite, recordPerRoundTrip } from "./groups/write.ts";
import { describeMachine, describeRun } from "./machine.ts";
import { type Group, GROUPS, type Options, parseOptions, USAGE, UsageError } from "./options.ts";
import { prepareRepository } from "./repository.ts";
import { startServer } from "./server.ts";
import { render, type Row, rowsOf } from "./table.ts";
import { World } from "./world.ts";

const note = (text: string) => console.error(`bench: ${text}`);

/** A group that fails leaves its figures without a sample, and the others go on. */
async function attempt(bench: Bench, name: string, body: () => Promise<void>): Promise<void> {
  const start = performance.now();
  try {
    await body();
    note(`${name}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
  } catch (error) {
    if (bench.world.isClosing) throw error;
    const text = error instanceof Error ? error.message : String(error);
    bench.recorder.problems.push(`${name}: ${text.replaceAll(/\s*\n\s*/g, " ").slice(0, 500)}`);
    note(`${name}: FAILED: ${text}`);
  }
}

async function measureRound(bench: Bench, round: number): Promise<void> {
  const { rounds, groups } = bench.options;
  const group = async (id: Group, what: string, body: () => Promise<void>) => {
    if (groups.has(id)) await attempt(bench, `round ${round + 1} of ${rounds}, ${what}`, body);
  };
  await group("acquire", "add-repo and clone", () => measureAcquire(bench));
  await group("list", "listing", () => measureList(bench));
  await group("scattered", "scattered reads", () => measureScattered(bench, round));
  await group("git", "git's commands", () => measureGit(bench, round));
  await group("read", "reading everything", () => measureReadAll(bench));
  await group("mount", "mount", () => measureMount(bench));
  await group("memory", "memory", () => measureMemory(bench));
  await group("write", "writing", () => measureWrite(bench));
}

/** A figure nobody took was left out by `--only` or `--quick`; else its group has failed. */
function isLeftOut(id: FigureId, recorder: Recorder, { groups }: Options): boolean {
  return groups.size < GROUPS.length && recorder.samples(id).afs.length === 0;
}

async function measure(world: World, asked: Options): Promise<number> {
  // A copy: a build in the meantime must not change what is measured.
  const options = { ...asked, program: world.dir.at("afs") };
  await Deno.copyFile(asked.program, options.program).catch((cause) => {
    throw new Error(`there is no ${asked.program}`, { cause });
  });
  const serverRoot = world.dir.at("served");
  await Deno.mkdir(serverRoot);
  const machine = await describeMachine(options.program, world.dir.path);
  note("making the repository");
  const repository = await prepareRepository(options, serverRoot);
  const big = options.groups.has("big");
  if (big) await prepareBigBlob(serverRoot);
  if (options.groups.has("write")) await prepareWrite(serverRoot);
  const bench: Bench = {
    options,
    world,
    repository,
    server: await startServer(world, serverRoot, options.rttMs),
    recorder: new Recorder(),
    isRoot: Deno.uid() === 0,
  };
  const { recorder } = bench;
  for (let round = 0; round < options.rounds; round++) await measureRound(bench, round);
  if (big) await attempt(bench, "a big file", () => measureBigBlob(bench));
  for (const ms of recorder.samples("addRepo").plain) recorder.plain("mountFromNothing", ms);
  recordPerRoundTrip(recorder);

  const facts = [
    ...machine,
    ...describeRun(options, repository, Deno.args, bench.isRoot),
    ...recorder.notes,
  ];
  const rows = rowsOf(
    recorder,
    new Set(FIGURE_IDS.filter((id) => isLeftOut(id, recorder, options))),
  );
  const isWriting = ({ id }: Row) => id in WRITE_FIGURES;
  const tables = [rows.filter((row) => !isWriting(row)), rows.filter(isWriting)]
    .filter((table) => table.length > 0);
  console.log([facts.map((fact) => `- ${fact}`).join("\n"), ...tables.map(render)].join("\n\n"));
  for (const problem of recorder.problems) console.log(`\nnot measured: ${problem}`);
  if (options.jsonPath !== null) {
    const all = { facts, rows, problems: recorder.problems };
    await Deno.writeTextFile(options.jsonPath, JSON.stringify(all, null, 2) + "\n");
  }
  return recorder.problems.length === 0 ? 0 : 1;
}

async function main(): Promise<number> {
  let options: Options;
  try {
    options = parseOptions(Deno.args);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`bench: ${error.message}\n${USAGE}`);
    return 129;
  }
  const world = await World.create();
  try {
    return await measure(world, options);
  } catch (error) {
    // A signal has the last word, and the exit code.
    if (world.isClosing) await new Promise(() => {});
    note(`Cannot measure: ${error instanceof Error ? error.message : error}`);
    return 1;
  } finally {
    await world.close();
  }
}

Deno.exit(await main());
