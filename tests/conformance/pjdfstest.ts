/** pjdfstest: about 400 cases on what each system call promises, errno by errno. */

import { run } from "../support/run.ts";
import { type Case, GUARD_MS, type Outcome, type Place, type Suite, tailOf } from "./suite.ts";

/** Short sleeps between two changes whose times must differ. */
const NAP_S = 0.02;

const OUTCOMES: Readonly<Record<string, Outcome>> = {
  ok: "passed",
  FAILED: "failed",
  skipped: "skipped",
};

/** Two accounts that every system has, with their groups. */
async function config(): Promise<string> {
  const entries: string[] = [];
  for (const user of ["nobody", "daemon"]) {
    const { stdout } = await run("id", ["-gn", user]);
    entries.push(`["${user}", "${stdout.trim()}"]`);
  }
  return `[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = ${NAP_S}
allow_remount = false
[dummy_auth]
entries = [${entries.join(", ")}]
`;
}

/** One case a line, its reason in the next; throws unless their number is that of the summary. */
export function parsePjdfstest(output: string): Case[] {
  const lines = output.split("\n");
  const cases = lines.flatMap((line, i): Case[] => {
    const match = /^([a-z0-9_]+(?:::[a-z0-9_]+)+)\s+(ok|FAILED|skipped)$/.exec(line);
    const outcome = OUTCOMES[match?.[2] ?? ""];
    if (match === null || outcome === undefined) return [];
    const detail = outcome === "passed" ? "" : lines[i + 1]?.trim() ?? "";
    return [{ name: match[1] ?? "", outcome, detail }];
  });
  const total = Number(/, (\d+) total$/m.exec(output)?.[1] ?? NaN);
  if (total !== cases.length) {
    throw new Error(`${cases.length} cases, and the summary says ${total}: ${tailOf(output)}`);
  }
  return cases;
}

export const pjdfstest: Suite = {
  name: "pjdfstest",
  version: async () => (await run("pjdfstest", ["--version"])).stdout.trim(),
  async run(place: Place) {
    const configPath = `${place.scratch}/pjdfstest.toml`;
    await Deno.writeTextFile(configPath, await config());
    const dir = `${place.path}/pjd`;
    await run("mkdir", [dir]);
    // Any other file system will do, for what must not cross from one to the other.
    const args = ["-c", configPath, "-p", dir, "-s", "/dev/shm"];
    const { stdout, stderr } = await run("pjdfstest", args, {
      okCodes: "any",
      timeoutMs: GUARD_MS,
      env: { NO_COLOR: "1" },
    });
    if (!/^Summary/m.test(stdout)) throw new Error(tailOf(stdout + stderr));
    return parsePjdfstest(stdout);
  },
};
