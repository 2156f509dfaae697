/**
 * Runs suites of other projects in a mount and in a directory on local disk, and prints a table of
 * both. Exit code: 0 when the mount passes what the directory passes, 1 when not, 129 for a bad
 * command line.
 */

import { describeMachine } from "../bench/machine.ts";
import { AFS, allowFilter, Lab, makeLab } from "../mount/harness.ts";
import { git } from "../support/run.ts";
import { fio } from "./fio.ts";
import { fsx } from "./fsx.ts";
import { pjdfstest } from "./pjdfstest.ts";
import { type Finding, isGood, render } from "./report.ts";
import { stressNg } from "./stress_ng.ts";
import type { Case, Place, PlaceName, Scale, Suite } from "./suite.ts";

const SUITES: readonly Suite[] = [pjdfstest, fsx, stressNg, fio];
const PLACES: readonly PlaceName[] = ["local", "mount", "mount --xattr"];
const USAGE = "usage: sh scripts/conformance [--quick] [--suite NAME]...";

const note = (text: string) => console.error(`conformance: ${text}`);

interface Options {
  readonly suites: readonly Suite[];
  readonly scale: Scale;
}

/** Null for a bad command line. */
function parse(args: readonly string[]): Options | null {
  const names: string[] = [];
  let divisor = 1;
  for (let i = 0; i < args.length; i++) {
    if (args[i] === "--quick") divisor = 10;
    else if (args[i] === "--suite") names.push(args[++i] ?? "");
    else return null;
  }
  if (names.some((name) => !SUITES.some((suite) => suite.name === name))) return null;
  const suites = SUITES.filter(({ name }) => names.length === 0 || names.includes(name));
  return { suites, scale: { divisor } };
}

/** Small files and some of 1 MiB, so that the suites find files of the commit too. */
async function makeRepository(path: string): Promise<void> {
  await git(["init", "-q", path]);
  await Deno.mkdir(`${path}/data`);
  for (let i = 0; i < 10; i++) {
    await Deno.writeTextFile(`${path}/data/small-${i}.txt`, `file ${i}\n`.repeat(i * 20));
    const block = crypto.getRandomValues(new Uint8Array(65_536));
    const big = new Uint8Array(1 << 20);
    for (let at = 0; at < big.length; at += block.length) big.set(block, at);
    await Deno.writeFile(`${path}/data/big-${i}.bin`, big);
  }
  await git(["-C", path, "add", "."]);
  await git(["-C", path, "commit", "-q", "-m", "Files to work on"]);
  await allowFilter(`${path}/.git`);
}

async function makePlaces(lab: Lab): Promise<Place[]> {
  const repository = lab.at("remotes", "repository");
  await makeRepository(repository);
  const url = `file://${repository}`;
  // Of the same length, and short: a socket's path has at most 107 bytes.
  const paths: Record<PlaceName, string> = {
    local: lab.at("dir", "l"),
    mount: await lab.mount(url, "m", "--wait=history"),
    "mount --xattr": await lab.mount(url, "x", "--wait=history", "--xattr"),
  };
  await git(["clone", "-q", url, paths.local]);
  return await Promise.all(PLACES.map(async (name, i) => {
    const scratch = lab.at(`scratch-${i}`);
    await Deno.mkdir(scratch);
    return { name, path: paths[name], scratch };
  }));
}

async function runSuite(suite: Suite, places: readonly Place[], scale: Scale): Promise<Finding> {
  const results = new Map<PlaceName, Case[] | Error>();
  for (const place of places) {
    const start = performance.now();
    const cases = await suite.run(place, scale).catch((error: Error) => error);
    results.set(place.name, cases);
    const text = cases instanceof Error ? `broken: ${cases.message}` : `${cases.length} cases`;
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    note(`${suite.name}, ${place.name}: ${text}, ${seconds} s`);
  }
  return { suite: suite.name, results };
}

async function compareAll({ suites, scale }: Options): Promise<boolean> {
  const lab = await makeLab(Lab);
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => void lab.destroy().finally(() => Deno.exit(130)));
  }
  try {
    await lab.startDaemon();
    const facts = await describeMachine(AFS, lab.dir.path);
    const places = await makePlaces(lab);
    const findings: Finding[] = [];
    for (const suite of suites) {
      facts.push(`suite: ${await suite.version()}`);
      findings.push(await runSuite(suite, places, scale));
    }
    // A daemon that died or a mount that broke on the way shows here.
    await lab.sh('git -C "$1" status --porcelain >/dev/null', [lab.at("mnt", "m")]);
    await lab.finish();
    const short = scale.divisor === 1 ? "" : `, one in ${scale.divisor} of the operations`;
    console.log(
      [...facts, `places: a directory and mounts of the same commit${short}`]
        .map((fact) => `- ${fact}`).join("\n"),
    );
    console.log(`\n${render(findings, PLACES)}`);
    return isGood(findings);
  } catch (error) {
    await lab.showLogs();
    throw error;
  } finally {
    await lab.destroy();
  }
}

if (import.meta.main) {
  const options = parse(Deno.args);
  if (options === null) {
    console.error(USAGE);
    Deno.exit(129);
  }
  Deno.exit(await compareAll(options) ? 0 : 1);
}
