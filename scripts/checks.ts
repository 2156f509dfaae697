/**
 * Runs the checks one after another, shows what they print, and ends with one line of sums over all
 * test runs: `N passed, N failed, N skipped`. A check that is no test run counts as one failed when
 * it fails.
 *
 * usage: deno run ... scripts/checks.ts gate|all
 */

interface Check {
  /** The name of a task in deno.json. */
  readonly task: string;
  readonly isTestRun: boolean;
  /** Not run when the check of this name failed. */
  readonly needs?: string;
}

const GATE: readonly Check[] = [
  { task: "fmt:check", isTestRun: false },
  { task: "lint", isTestRun: false },
  { task: "check", isTestRun: false },
  { task: "layers", isTestRun: false },
  { task: "tidy", isTestRun: false },
  { task: "test:unit", isTestRun: true },
];

const ALL: readonly Check[] = [
  ...GATE,
  { task: "compile", isTestRun: false },
  { task: "test:mount", isTestRun: true, needs: "compile" },
  { task: "test:posix", isTestRun: true, needs: "compile" },
  { task: "test:bootstrap", isTestRun: true },
];

/** Longer than any run should take, so that a hanging one ends with a message. */
const TIMEOUT_MS = 20 * 60_000;

export interface Sums {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** Reads the summary lines of `deno test`; undefined when there is none. Steps do not count. */
export function readSummary(output: string): Sums | undefined {
  // deno-lint-ignore no-control-regex
  const plain = output.replace(/\x1b\[[0-9;]*m/g, "");
  const steps = String.raw`(?: \([^)]*\))?`;
  const line = String
    .raw`^(?:ok|FAILED) \| (\d+) passed${steps} \| (\d+) failed${steps}(?: \| (\d+) ignored)?`;
  const found = [...plain.matchAll(new RegExp(line, "gm"))].at(-1);
  if (found === undefined) return undefined;
  return { passed: Number(found[1]), failed: Number(found[2]), skipped: Number(found[3] ?? 0) };
}

/** What is shown again of one failed check, in characters. */
const REPORT_LIMIT = 6000;

/**
 * What a failed check is shown again as, after all others have printed their part: the failures
 * that `deno test` lists, or the end of the output. Logs are often kept without their middle.
 */
export function reportOf(output: string): string {
  // deno-lint-ignore no-control-regex
  const plain = output.replace(/\x1b\[[0-9;]*m/g, "");
  const errors = plain.lastIndexOf("\n ERRORS ");
  if (errors < 0) return plain.slice(-REPORT_LIMIT).trim();
  const report = plain.slice(errors).trim();
  if (report.length <= REPORT_LIMIT) return report;
  // Names of all failures stand at the end, the first message at the beginning.
  const half = REPORT_LIMIT / 2;
  return `${report.slice(0, half)}\n[...]\n${report.slice(-half)}`;
}

/** What a finished check adds to the sums. */
export function sumsOf(check: Check, success: boolean, output: string): Sums {
  const none = { passed: 0, failed: 0, skipped: 0 };
  if (!check.isTestRun) return success ? none : { ...none, failed: 1 };
  const sums = readSummary(output) ?? none;
  // Also a leak or an error outside of any test must show.
  return !success && sums.failed === 0 ? { ...sums, failed: 1 } : sums;
}

/** Runs one task, showing its output as it comes. */
async function run(task: string): Promise<{ success: boolean; output: string }> {
  const child = new Deno.Command("deno", {
    args: ["task", "--quiet", task],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  }).spawn();
  const decoder = new TextDecoder();
  let output = "";
  const show = async (from: ReadableStream<Uint8Array>, to: typeof Deno.stdout) => {
    for await (const chunk of from) {
      output += decoder.decode(chunk);
      for (let at = 0; at < chunk.length;) at += to.writeSync(chunk.subarray(at));
    }
  };
  const [status] = await Promise.all([
    child.status,
    show(child.stdout, Deno.stdout),
    show(child.stderr, Deno.stderr),
  ]);
  return { success: status.success, output };
}

async function main(checks: readonly Check[]): Promise<boolean> {
  const failures = new Map<string, string>();
  const sums = { passed: 0, failed: 0, skipped: 0 };
  for (const check of checks) {
    if (check.needs !== undefined && failures.has(check.needs)) {
      console.log(`== ${check.task}: not run, ${check.needs} failed`);
      continue;
    }
    const started = performance.now();
    console.log(`== ${check.task}`);
    const { success, output } = await run(check.task);
    const added = sumsOf(check, success, output);
    sums.passed += added.passed;
    sums.failed += added.failed;
    sums.skipped += added.skipped;
    if (!success) failures.set(check.task, reportOf(output));
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    console.log(`== ${check.task}: ${success ? "ok" : "FAILED"} (${seconds} s)\n`);
  }
  for (const [task, report] of failures) console.log(`== ${task}, again:\n${report}\n`);
  if (failures.size > 0) console.log(`failed: ${[...failures.keys()].join(", ")}`);
  console.log(`${sums.passed} passed, ${sums.failed} failed, ${sums.skipped} skipped`);
  return failures.size === 0;
}

if (import.meta.main) {
  const checks = { gate: GATE, all: ALL }[Deno.args[0] ?? ""];
  if (checks === undefined) {
    console.error("usage: checks.ts gate|all");
    Deno.exit(129);
  }
  Deno.exit(await main(checks) ? 0 : 1);
}
