/** fsx: random changes of one file, every read compared with what must be there. */

import { run } from "../support/run.ts";
import { type Case, GUARD_MS, type Place, type Scale, type Suite, tailOf } from "./suite.ts";

interface Exercise {
  readonly name: string;
  readonly operations: number;
  readonly seeds: readonly number[];
  /** The file, below the place; "SEED" stands for the seed. */
  readonly file: string;
  readonly config: string;
}

const READ_WRITE = `mapread = 0
mapwrite = 0
read = 10
write = 10
truncate = 5
close_open = 1
`;
const EVERYTHING = `mapread = 10
mapwrite = 10
read = 10
write = 10
truncate = 5
close_open = 1
invalidate = 1
fsync = 0.2
fdatasync = 0.2
posix_fallocate = 1
punch_hole = 2
sendfile = 3
posix_fadvise = 1
copy_file_range = 3
`;
/** Of a file that keeps its size. */
const IN_PLACE = `mapread = 10
mapwrite = 10
read = 10
write = 10
truncate = 0
invalidate = 1
fsync = 0.2
punch_hole = 2
sendfile = 3
copy_file_range = 3
`;
const config = (weights: string) => `flen = 1048576\n[opsize]\nmax = 65536\n[weights]\n${weights}`;
const blockConfig = `blockmode = true\n[opsize]\nmax = 65536\n[weights]\n${IN_PLACE}`;

const EXERCISES: readonly Exercise[] = [
  {
    name: "new file, read and write",
    operations: 100_000,
    seeds: [1, 2, 3],
    file: "fsx-rw-SEED",
    config: config(READ_WRITE),
  },
  {
    name: "new file, all operations",
    operations: 50_000,
    seeds: [4, 5],
    file: "fsx-all-SEED",
    config: config(EVERYTHING),
  },
  {
    name: "base file, all operations",
    operations: 25_000,
    seeds: [6, 7],
    file: "data/big-SEED.bin",
    config: config(EVERYTHING),
  },
  {
    name: "base file in place, all operations",
    operations: 25_000,
    seeds: [8, 9],
    file: "data/big-SEED.bin",
    config: blockConfig,
  },
];

export const fsx: Suite = {
  name: "fsx",
  version: async () => (await run("fsx", ["--version"])).stdout.trim(),
  async run(place: Place, scale: Scale) {
    if (place.name === "mount --xattr") return [];
    const cases: Case[] = [];
    for (const { name, operations, seeds, file, config } of EXERCISES) {
      const configPath = `${place.scratch}/fsx.toml`;
      await Deno.writeTextFile(configPath, config);
      for (const seed of seeds) {
        const count = Math.ceil(operations / scale.divisor);
        const path = `${place.path}/${file.replace("SEED", String(seed))}`;
        const args = ["-f", configPath, "-N", `${count}`, "-S", `${seed}`, "-P", place.scratch];
        const { code, stdout, stderr } = await run("fsx", [...args, path], {
          okCodes: "any",
          timeoutMs: GUARD_MS,
        });
        // The number of operations is the scale's, and no part of the name.
        cases.push({
          name: `${name}, seed ${seed}`,
          outcome: code === 0 ? "passed" : "failed",
          detail: code === 0 ? "" : tailOf(stdout + stderr),
        });
      }
    }
    return cases;
  },
};
