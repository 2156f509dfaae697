/** fio: blocks with a checksum each, written and read back by several processes. */

import { run } from "../support/run.ts";
import { type Case, GUARD_MS, type Place, type Scale, type Suite, tailOf } from "./suite.ts";

const MIB = 32;
const COMMON = ["--verify=crc32c", "--verify_fatal=1", "--randseed=1", "--group_reporting"];

const JOBS: Readonly<Record<string, readonly string[]>> = {
  "psync, random, 4 jobs": [
    "--ioengine=psync",
    "--rw=randrw",
    "--bsrange=512-64k",
    "--bs_unaligned=1",
    "--numjobs=4",
  ],
  "psync, sequential, fsync each 32 blocks": [
    "--ioengine=psync",
    "--rw=write",
    "--bs=16k",
    "--fsync=32",
    "--numjobs=2",
  ],
  "psync, random, holes": [
    "--ioengine=psync",
    "--rw=randwrite",
    "--bs=4k",
    "--fallocate=none",
    "--numjobs=2",
  ],
  "psync, O_DIRECT": ["--ioengine=psync", "--rw=randrw", "--bs=4k", "--direct=1", "--numjobs=2"],
  "mmap, random, 4 jobs": ["--ioengine=mmap", "--rw=randrw", "--bs=4k", "--numjobs=4"],
  "libaio, O_DIRECT, depth 16": [
    "--ioengine=libaio",
    "--rw=randrw",
    "--bs=4k",
    "--direct=1",
    "--iodepth=16",
    "--numjobs=2",
  ],
  "io_uring, random, depth 16": [
    "--ioengine=io_uring",
    "--rw=randrw",
    "--bs=8k",
    "--iodepth=16",
    "--numjobs=2",
  ],
};

export const fio: Suite = {
  name: "fio",
  version: async () => (await run("fio", ["--version"])).stdout.trim(),
  async run(place: Place, scale: Scale) {
    if (place.name === "mount --xattr") return [];
    const cases: Case[] = [];
    for (const [name, job] of Object.entries(JOBS)) {
      const dir = `${place.path}/fio`;
      await run("mkdir", [dir]);
      const size = `--size=${Math.ceil(MIB / scale.divisor)}m`;
      const { code, stdout, stderr } = await run(
        "fio",
        ["--name=job", `--directory=${dir}`, size, ...COMMON, ...job],
        // Its state files land in the current directory.
        { okCodes: "any", timeoutMs: GUARD_MS, cwd: place.scratch },
      );
      const passed = code === 0 && /err= 0/.test(stdout);
      cases.push({
        name,
        outcome: passed ? "passed" : "failed",
        detail: passed ? "" : tailOf(stderr || stdout),
      });
      await run("rm", ["-r", dir]);
    }
    return cases;
  },
};
