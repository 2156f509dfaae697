/** Every figure: what it says, and what is aimed at. The order is that of the table. */

import { GIT_FIGURES } from "./figures_git.ts";
import { WRITE_FIGURES } from "./figures_write.ts";
import type { Cost } from "./meter.ts";

export type Unit = "ms" | "us" | "MiB" | "count";

export interface Aim {
  /** `ratio`: median afs by median plain; `median`, `max`: of afs alone. */
  readonly of: "ratio" | "median" | "max";
  readonly atMost: number;
}

export interface Figure {
  readonly title: string;
  readonly unit: Unit;
  readonly aim?: Aim;
  /** Round trips to the daemon for each operation, at most. */
  readonly roundTrips?: number;
}

export const FIGURES = {
  addRepo: {
    title: "`add-repo` until root and a subdirectory are listed / `git clone --depth 1`",
    unit: "ms",
    aim: { of: "ratio", atMost: 0.35 },
  },
  mountFromNothing: {
    title: "`afs mount` without a daemon, until listed / `git clone --depth 1`",
    unit: "ms",
  },
  listCold: { title: "cold `ls -lR` of everything", unit: "ms" },
  listColdRequests: {
    title: "cold `ls -lR` of everything: requests",
    unit: "count",
    aim: { of: "max", atMost: 60 },
  },
  scattered: { title: "cold read of one file in a random directory, each of ten", unit: "ms" },
  scatteredRequests: {
    title: "cold read of one file in a random directory: requests, each of ten",
    unit: "count",
    aim: { of: "max", atMost: 2 },
  },
  readAll: {
    title: "cold read of every byte of a mounted tree / `git clone --depth 1` and read",
    unit: "ms",
    aim: { of: "ratio", atMost: 1.3 },
  },
  readAllFromNothing: {
    title: "the same, with `add-repo` / `git clone --depth 1` and read",
    unit: "ms",
  },
  warmWalk: {
    title: "warm lstat walk, per entry (readdir and lstat by FFI) / local disk",
    unit: "us",
    aim: { of: "ratio", atMost: 1.3 },
  },
  warmFind: {
    title: "warm `find -printf '%s %T@ %i'` / local disk",
    unit: "ms",
    aim: { of: "ratio", atMost: 1.3 },
  },
  warmRead: {
    title: "warm open, read, close, per file (by FFI) / local disk",
    unit: "us",
    aim: { of: "ratio", atMost: 2 },
  },
  idlePss: { title: "memory of all processes, mounted and idle (PSS)", unit: "MiB" },
  idleAnon: { title: "… of it anonymous", unit: "MiB" },
  readAllPss: { title: "memory at most in the cold read of everything (PSS)", unit: "MiB" },
  readAllAnon: { title: "… of it anonymous, at most", unit: "MiB" },
  readAllGitAnon: { title: "… of that in git processes, at most", unit: "MiB" },
  afterReadAllAnon: { title: "anonymous memory 2 s after it", unit: "MiB" },
  bigBlob: { title: "cold read of a 512 MiB file / `git clone --depth 1` and read", unit: "ms" },
  bigBlobGrowth: {
    title: "growth of anonymous memory in the read of a 512 MiB file",
    unit: "MiB",
    aim: { of: "max", atMost: 64 },
  },
  bigBlobGitAnon: { title: "… anonymous memory of its git processes, at most", unit: "MiB" },
  bigBlobFile: { title: "… growth of file-backed memory (mapped packs), at most", unit: "MiB" },
  ...GIT_FIGURES,
  ...WRITE_FIGURES,
} as const satisfies Record<string, Figure>;

export type FigureId = keyof typeof FIGURES;
export const FIGURE_IDS = Object.keys(FIGURES) as FigureId[];

/** What the git server saw of one sample. */
export interface Traffic {
  readonly requests: number;
  readonly wants: number;
}

export interface Samples {
  readonly afs: number[];
  readonly plain: number[];
  readonly traffic: Traffic[];
  readonly costs: Cost[];
}

/** All samples of a run. */
export class Recorder {
  readonly #samples = new Map<FigureId, Samples>();
  /** What could not be measured, one line each. */
  readonly problems: string[] = [];
  /** Facts that only some group knows. */
  readonly notes = new Set<string>();

  samples(id: FigureId): Samples {
    const known = this.#samples.get(id);
    if (known !== undefined) return known;
    const empty: Samples = { afs: [], plain: [], traffic: [], costs: [] };
    this.#samples.set(id, empty);
    return empty;
  }

  afs(id: FigureId, value: number, seen?: Traffic | Cost): void {
    this.samples(id).afs.push(value);
    if (seen === undefined) return;
    if ("roundTrips" in seen) this.samples(id).costs.push(seen);
    else this.samples(id).traffic.push(seen);
  }

  plain(id: FigureId, value: number): void {
    this.samples(id).plain.push(value);
  }
}
