/** Figures of writing. `roundTrips` is what the kernel alone makes necessary (src/fuse/README.md). */

import type { Figure } from "./figures.ts";

export const WRITE_FIGURES = {
  create: { title: "create, write 4 KiB, close", unit: "us", roundTrips: 4 },
  rename: { title: "rename a file", unit: "us", roundTrips: 3 },
  unlink: { title: "unlink", unit: "us", roundTrips: 2 },
  mkdir: { title: "mkdir", unit: "us", roundTrips: 3 },
  untar: {
    title: "`tar x` of 2,000 small files in 100 directories, each",
    unit: "us",
    aim: { of: "median", atMost: 500 },
    roundTrips: 7,
  },
  removeAll: { title: "`rm -rf` of them, each", unit: "us", roundTrips: 2 },
  copyAll: { title: "`cp -r` of 2,000 small files in 100 directories, each", unit: "us" },
  perRoundTrip: {
    title: "one round trip, of all those above",
    unit: "us",
    aim: { of: "median", atMost: 70 },
  },
  parallelCreate: { title: "create and write 4 KiB, 16 at once, each", unit: "us" },
  renameBase: {
    title: "rename a base directory of 10,000 files",
    unit: "ms",
    aim: { of: "max", atMost: 5 },
  },
  append: {
    title: "append 100 bytes",
    unit: "us",
    aim: { of: "median", atMost: 20 },
    roundTrips: 1,
  },
  randomWrite: {
    title: "write 4 KiB at random in 64 MiB",
    unit: "us",
    aim: { of: "median", atMost: 60 },
    roundTrips: 1,
  },
  randomRead: {
    title: "read 4 KiB at random in 64 MiB, not in the kernel's cache / in it",
    unit: "us",
    aim: { of: "median", atMost: 60 },
    roundTrips: 1,
  },
  firstStat: { title: "stat of a file that was written", unit: "us", roundTrips: 1 },
  warmStat: { title: "the same again", unit: "us", roundTrips: 0 },
  copyUp: { title: "first write to a 1 MiB file of the base / to a local file", unit: "us" },
  fsync: { title: "write 4 KiB and fsync", unit: "us" },
  // 0.7 of the local throughput or more.
  sequentialWrite: {
    title: "write 1 GiB in sequence, 128 KiB at a time, and fsync",
    unit: "ms",
    aim: { of: "ratio", atMost: 1.43 },
  },
  sequentialRead: {
    title: "read it in sequence, caches dropped",
    unit: "ms",
    aim: { of: "ratio", atMost: 1.43 },
  },
} as const satisfies Record<string, Figure>;

export type WriteFigureId = keyof typeof WRITE_FIGURES;
