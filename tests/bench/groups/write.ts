/** Writing: system calls by libc (write_main.ts), and tools that write many files. */

import { Daemon } from "../afs.ts";
import { becomeIdle, type Bench, goCold, inChild } from "../bench.ts";
import { writeLoops } from "../child.ts";
import { freshDisk } from "../disk.ts";
import type { Recorder } from "../figures.ts";
import type { WriteFigureId } from "../figures_write.ts";
import { Meter } from "../meter.ts";
import { makeWriteRepo } from "../write_repository.ts";
import { git } from "../../support/run.ts";

const NAME = "written.git";
const FILES = 2000;
const DIRECTORIES = 100;
const ENTRIES = FILES + DIRECTORIES;
/** Names and little else: their times and round trips make up `perRoundTrip`. */
const NAME_FIGURES = ["create", "rename", "unlink", "mkdir", "untar", "removeAll"] as const;

export async function prepareWrite(serverRoot: string): Promise<void> {
  await makeWriteRepo(`${serverRoot}/${NAME}`);
}

export async function measureWrite(bench: Bench): Promise<void> {
  const { world, server, options, recorder } = bench;
  const disk = await freshDisk(world);
  recorder.notes.add(`writing: both sides on ${disk.kind}, new in each round`);
  const daemon = await Daemon.start(world, options.program, disk.path);
  await goCold(bench, NAME);
  await daemon.addRepo(server.url(NAME), "big");
  await becomeIdle(bench, daemon);
  const clone = `${disk.path}/clone`;
  await git(["clone", "--quiet", "--depth", "1", server.url(NAME), clone]);
  const read = 'cd "$1" && cat big/* >/dev/null && ls wide >/dev/null';
  for (const path of [daemon.mountPoint, clone]) await inChild(["sh", "-c", read, "sh", path]);

  const loops = await writeLoops(
    daemon.socketPath,
    daemon.mountPoint,
    clone,
    options.quick ? { passes: 2, scale: 4 } : { passes: 3, scale: 1 },
  );
  for (const [id, { tree, reference, costs }] of loops) {
    tree.forEach((value, i) => recorder.afs(id, value, costs[i]));
    for (const value of reference) recorder.plain(id, value);
  }
  await measureTools(bench, daemon, clone, await makeArchive(disk.path));
  await daemon.stop();
  await disk.remove();
}

async function measureTools(bench: Bench, daemon: Daemon, clone: string, archive: string) {
  const meter = await Meter.of(daemon.socketPath);
  const timed = async (id: WriteFigureId, path: string, script: string) => {
    let us = NaN;
    const body = async () => {
      const command = ["sh", "-c", `cd "$1" && ${script}`, "sh", path, archive] as const;
      us = (await inChild(command)).durationMs * 1000 / ENTRIES;
    };
    if (path === clone) {
      await body();
      bench.recorder.plain(id, us);
    } else {
      const cost = await meter.cost(ENTRIES, body);
      bench.recorder.afs(id, us, cost);
    }
  };
  for (let i = 0; i < (bench.options.quick ? 2 : 3); i++) {
    for (const path of [daemon.mountPoint, clone]) {
      await timed("untar", path, `mkdir many-${i} && tar xf "$2" -C many-${i}`);
    }
    for (const path of [daemon.mountPoint, clone]) {
      await timed("copyAll", path, `cp -r many-${i} copy-${i}`);
    }
    for (const path of [daemon.mountPoint, clone]) {
      await timed("removeAll", path, `rm -rf many-${i}`);
    }
  }
}

/** 2,000 files of 0.5 to 4 KiB in 100 directories, owned by somebody else, as sources are. */
async function makeArchive(folder: string): Promise<string> {
  const [source, archive] = [`${folder}/source`, `${folder}/source.tar`];
  for (let i = 0; i < FILES; i++) {
    const directory = `${source}/dir-${i % DIRECTORIES}`;
    Deno.mkdirSync(directory, { recursive: true });
    Deno.writeTextFileSync(`${directory}/file-${i}`, "a line of text\n".repeat(35 + i % 239));
  }
  const owner = ["--owner=1000", "--group=1000"];
  await inChild(["tar", "cf", archive, ...owner, "-C", source, "."]);
  return archive;
}

/** After all rounds: of each pass, all the time of all these by all their round trips. */
export function recordPerRoundTrip(recorder: Recorder): void {
  const all = NAME_FIGURES.map((id) => recorder.samples(id));
  const passes = Math.min(...all.map(({ afs }) => afs.length));
  const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
  for (let i = 0; i < passes; i++) {
    const us = sum(all.map(({ afs }) => afs[i] ?? NaN));
    recorder.afs("perRoundTrip", us / sum(all.map(({ costs }) => costs[i]?.roundTrips ?? NaN)));
  }
}
