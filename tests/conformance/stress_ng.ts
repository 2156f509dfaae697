/** stress-ng: its file system stressors, two processes each, with their own verification. */

import { run } from "../support/run.ts";
import { type Case, GUARD_MS, type Place, type Scale, type Suite, tailOf } from "./suite.ts";

/** Operations that take a local disk about a second. */
const STRESSORS: Readonly<Record<string, number>> = {
  access: 200,
  aio: 5000,
  aiol: 200,
  chattr: 200,
  chdir: 20_000,
  chmod: 2000,
  chown: 2000,
  "copy-file": 200,
  dentry: 4096,
  dir: 2048,
  dirdeep: 200,
  dirmany: 100_000,
  dup: 500,
  fallocate: 200,
  fcntl: 20_000,
  fiemap: 2000,
  "file-ioctl": 20_000,
  filename: 1000,
  flock: 20_000,
  fpunch: 20,
  fsize: 50,
  fstat: 20_000,
  getdent: 20_000,
  handle: 20_000,
  hdd: 5000,
  inotify: 20,
  io: 20,
  "io-uring": 2000,
  iomix: 2000,
  lease: 20_000,
  link: 2,
  locka: 20_000,
  lockf: 20_000,
  lockofd: 20_000,
  mknod: 1000,
  mmap: 100,
  msync: 1000,
  open: 5000,
  readahead: 20_000,
  rename: 5000,
  revio: 5000,
  seek: 20_000,
  sendfile: 1000,
  splice: 20_000,
  symlink: 2,
  "sync-file": 20,
  touch: 2000,
  utime: 5000,
  // One round makes as many attributes as the file system takes.
  xattr: 2,
};

/** Some stressors look at the count only between long rounds; this ends them. In seconds. */
const AT_MOST_S = 20;
/** Makes directories for half of its time, then counts them while it removes them. */
const DIRMANY_S = 6;

/** Exit code 3: no resources or no support, 4: not for this system. */
const SKIPPED = [3, 4];

/** What one stressor's run says. Exit code 0 without an operation: a skip, if it says so. */
export function readStressor(stressor: string, code: number, output: string): Case {
  const done = new RegExp(`metrc: \\[\\d+\\] ${stressor} +(\\d+) `).exec(output)?.[1];
  const why = output.split("\n").find((line) => /skipp|fail:|not supported/.test(line)) ?? "";
  const detail = why.replace(/^.*?\[\d+\] /, "").replace(/\(pid \d+\)/, "");
  if (SKIPPED.includes(code)) return { name: stressor, outcome: "skipped", detail };
  if (code !== 0) {
    return { name: stressor, outcome: "failed", detail: detail || `exit code ${code}` };
  }
  if (Number(done ?? 0) > 0) return { name: stressor, outcome: "passed", detail: "" };
  return detail.includes("skipp")
    ? { name: stressor, outcome: "skipped", detail }
    : { name: stressor, outcome: "failed", detail: `it did nothing: ${tailOf(output)}` };
}

export const stressNg: Suite = {
  name: "stress-ng",
  version: async () => (await run("stress-ng", ["--version"])).stdout.replace(/ \(.*/s, "").trim(),
  async run(place: Place, scale: Scale) {
    const dir = `${place.path}/stress-ng`;
    await run("mkdir", [dir]);
    const cases: Case[] = [];
    for (const [stressor, operations] of Object.entries(STRESSORS)) {
      if (place.name === "mount --xattr" && stressor !== "xattr") continue;
      const count = Math.max(2, Math.ceil(operations / scale.divisor));
      const args = ["--temp-path", dir, `--${stressor}`, "2", `--${stressor}-ops`, `${count}`];
      const seconds = stressor === "dirmany" ? DIRMANY_S : AT_MOST_S;
      const { code, stdout, stderr } = await run(
        "stress-ng",
        [...args, "--timeout", `${seconds}`, "--verify", "--metrics-brief"],
        { okCodes: "any", timeoutMs: GUARD_MS },
      );
      cases.push(readStressor(stressor, code, stdout + stderr));
    }
    return cases;
  },
};
