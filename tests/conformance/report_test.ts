import assert from "node:assert/strict";
import { parsePjdfstest } from "./pjdfstest.ts";
import { differencesOf, type Finding, isGood, render } from "./report.ts";
import { readStressor } from "./stress_ng.ts";
import type { Case, Outcome, PlaceName } from "./suite.ts";

const one = (name: string, outcome: Outcome, detail = ""): Case => ({ name, outcome, detail });

function finding(
  suite: string,
  results: Partial<Record<PlaceName, readonly Case[] | Error>>,
): Finding {
  return { suite, results: new Map(Object.entries(results) as [PlaceName, readonly Case[]][]) };
}

Deno.test("report: what the mount fails and the directory passes is a defect", () => {
  const found = [finding("fio", {
    local: [one("a", "passed"), one("b", "failed"), one("c", "passed"), one("d", "skipped")],
    mount: [one("a", "failed", "it broke"), one("b", "failed"), one("c", "passed")],
  })];
  assert.deepEqual(differencesOf(found), [{
    suite: "fio",
    name: "a",
    place: "mount",
    local: "passed",
    here: "failed",
    detail: "it broke",
    known: null,
  }]);
  assert.equal(isGood(found), false);
  assert.match(
    render(found, ["local", "mount"]),
    /^\| fio +\| 4 +\| 2 \/ 1 \/ 1 +\| 1 \/ 2 \/ 0 /m,
  );
});

Deno.test("report: what is skipped or missing in the mount alone is a defect too", () => {
  for (const mount of [[one("a", "skipped")], []]) {
    const found = [finding("fio", { local: [one("a", "passed")], mount })];
    assert.equal(isGood(found), false, JSON.stringify(mount));
  }
});

Deno.test("report: a known difference is a skip in its place, never a failure", () => {
  const local = [one("fiemap", "passed")];
  const skipped = [one("fiemap", "skipped")];
  const good = (results: Partial<Record<PlaceName, readonly Case[]>>) =>
    isGood([finding("stress-ng", results)]);
  assert.equal(good({ local, mount: skipped }), true);
  assert.equal(good({ local, mount: [one("fiemap", "failed")] }), false);
  assert.equal(good({ local, mount: local, "mount --xattr": skipped }), false);
});

Deno.test("report: where only some cases run, the others are not missed", () => {
  const local = [one("a", "passed"), one("b", "passed")];
  const found = [finding("fio", { local, mount: local, "mount --xattr": [one("a", "passed")] })];
  assert.equal(isGood(found), true);
});

Deno.test("report: a suite that passes nothing, or broke, is never good", () => {
  const nothing = [one("a", "failed")];
  assert.equal(isGood([finding("fio", { local: nothing, mount: nothing })]), false);
  const found = [finding("fio", { local: new Error("no fio"), mount: new Error("no fio") })];
  assert.equal(isGood(found), false);
  assert.match(render(found, ["local", "mount"]), /broken: no fio/);
});

Deno.test("pjdfstest: cases, reasons, and a summary that must agree", () => {
  const output = `unlink::erofs_named           skipped
\tRemounts are not allowed
chmod::enotdir::type_1        ok
open::eacces                  FAILED
\tassertion failed
\nSummary: 1 failed, 1 skipped, 1 passed, 0 expected failures, 3 total\n`;
  assert.deepEqual(parsePjdfstest(output), [
    one("unlink::erofs_named", "skipped", "Remounts are not allowed"),
    one("chmod::enotdir::type_1", "passed"),
    one("open::eacces", "failed", "assertion failed"),
  ]);
  assert.throws(() => parsePjdfstest(output.replace("3 total", "4 total")), /the summary says 4/);
  assert.throws(() => parsePjdfstest(""), /the summary says NaN/);
});

Deno.test("stress-ng: done, skipped, failed, and nothing done", () => {
  const metrics = (ops: number) =>
    `stress-ng: metrc: [7] fiemap            ${ops}      0.10      0.01      0.00         4.0\n`;
  const info = "stress-ng: info:  [8] fiemap: not supported, skipping stressor\n";
  assert.deepEqual(readStressor("fiemap", 0, metrics(4)), one("fiemap", "passed"));
  const skipped = one("fiemap", "skipped", "fiemap: not supported, skipping stressor");
  assert.deepEqual(readStressor("fiemap", 0, info), skipped);
  assert.deepEqual(readStressor("fiemap", 3, info), skipped);
  assert.equal(readStressor("fiemap", 0, metrics(0)).outcome, "failed");
  const failed = readStressor("fiemap", 2, "stress-ng: fail:  [9] fiemap: bad byte\n");
  assert.deepEqual(failed, one("fiemap", "failed", "fiemap: bad byte"));
});
