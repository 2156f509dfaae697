import assert from "node:assert/strict";
import { readSummary, reportOf, sumsOf } from "./checks.ts";

const testRun = { task: "test", isTestRun: true };

Deno.test("readSummary: the forms of the line", () => {
  assert.deepEqual(readSummary("a\nok | 12 passed | 0 failed (3ms)\n"), {
    passed: 12,
    failed: 0,
    skipped: 0,
  });
  const line =
    "FAILED | 3 passed (2 steps) | 1 failed (1 step) | 2 ignored (1 step) | 4 filtered out (1s)";
  assert.deepEqual(readSummary(line), { passed: 3, failed: 1, skipped: 2 });
  assert.deepEqual(readSummary("\x1b[32mok\x1b[0m | 1 passed | 0 failed (3ms)"), {
    passed: 1,
    failed: 0,
    skipped: 0,
  });
  assert.equal(readSummary("error: no such module"), undefined);
});

Deno.test("sumsOf: whatever fails counts", () => {
  const none = { passed: 0, failed: 0, skipped: 0 };
  const lint = { task: "lint", isTestRun: false };
  assert.deepEqual(sumsOf(lint, true, ""), none);
  assert.deepEqual(sumsOf(lint, false, ""), { ...none, failed: 1 });
  assert.deepEqual(sumsOf(testRun, false, "error: broken"), { ...none, failed: 1 });
  const output = "ok | 2 passed | 0 failed (1s)\nerror: outside of a test";
  assert.deepEqual(sumsOf(testRun, false, output), { passed: 2, failed: 1, skipped: 0 });
  const failed = "FAILED | 2 passed | 3 failed (1s)";
  assert.deepEqual(sumsOf(testRun, false, failed), { passed: 2, failed: 3, skipped: 0 });
});

Deno.test("reportOf: the failures, else the end", () => {
  const listed =
    "a ... ok\n\n\x1b[0m ERRORS \n\nb => ./b.ts:1:1\nerror: no\n\n FAILURES \n\nb => ./b.ts:1:1";
  assert.match(reportOf(listed.replace("\x1b[0m", "")), /^ERRORS[^]*FAILURES[^]*b => /);
  assert.equal(reportOf("x".repeat(10_000) + "\nthe end\n").slice(-8), "\nthe end");
  const long = `\n ERRORS \nfirst ${"x".repeat(10_000)} last`;
  assert.match(reportOf(long), /^ERRORS \nfirst x+\n\[\.\.\.\]\nx+ last$/);
});
