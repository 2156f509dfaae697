/** Figures of git's own commands, each against a clone with the whole history on local disk. */

import type { Figure } from "./figures.ts";

export const GIT_FIGURES = {
  statusFirst: {
    title: "first `git status` after mount / in a clone",
    unit: "ms",
    aim: { of: "median", atMost: 200 },
  },
  statusAgain: {
    title: "`git status` again / clone without a file monitor",
    unit: "ms",
    aim: { of: "ratio", atMost: 0.5 },
  },
  statusChanged: { title: "`git status` after one file was changed / clone", unit: "ms" },
  add: { title: "`git add -A` of it / clone", unit: "ms" },
  commit: { title: "`git commit` of it / clone", unit: "ms" },
  diff: { title: "`git diff` with ten files changed / clone", unit: "ms" },
  stash: { title: "`git stash` and `git stash pop` of them / clone", unit: "ms" },
  reset: { title: "`git reset --hard` of them / clone", unit: "ms" },
  switchGit: { title: "`git switch` to a commit about 500 files away / clone", unit: "ms" },
  switchRequests: {
    title: "`git switch` to a commit about 500 files away: requests",
    unit: "count",
    aim: { of: "max", atMost: 10 },
  },
  switchBack: { title: "`git switch` back / clone", unit: "ms" },
  switchAfs: {
    title: "`afs switch` to a commit about 500 files away / `git switch` in the clone",
    unit: "ms",
    aim: { of: "median", atMost: 100 },
  },
  switchAfsRequests: {
    title: "`afs switch` to a commit about 500 files away: requests",
    unit: "count",
    aim: { of: "max", atMost: 0 },
  },
  switchAfsStatus: { title: "`git status` after it / clone", unit: "ms" },
  switchAfsBack: { title: "`afs switch` back / `git switch` in the clone", unit: "ms" },
  log: { title: "`git log -1` / clone", unit: "ms" },
} as const satisfies Record<string, Figure>;
