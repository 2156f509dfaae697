import assert from "node:assert/strict";
import type { LogRecord } from "@logtape/logtape";
import { formatRecord, logger, logLevel, setLogLevel, setupLog } from "./log.ts";

function record(rawMessage: string, properties: Record<string, unknown>): LogRecord {
  return {
    category: ["afs", "daemon"],
    level: "info",
    message: [rawMessage],
    rawMessage,
    timestamp: Date.UTC(2026, 0, 2, 3, 4, 5, 6),
    properties,
  };
}

Deno.test("a record is one line of flat JSON in a fixed order", () => {
  const line = formatRecord(record("Mounted repository", { ms: 3, repo: "a", none: undefined }));
  assert.equal(
    line,
    '{"time":"2026-01-02T03:04:05.006Z","level":"info","part":"daemon","msg":"Mounted repository","repo":"a","ms":3}\n',
  );
});

Deno.test("fields cannot forge the fixed ones, and newlines stay inside", () => {
  const line = formatRecord(record("Failed", { level: "debug", msg: "x", error: "a\nb" }));
  assert.equal(line.split("\n").length, 2);
  assert.deepEqual(JSON.parse(line), {
    time: "2026-01-02T03:04:05.006Z",
    level: "info",
    part: "daemon",
    msg: "Failed",
    error: "a\nb",
  });
});

Deno.test("credentials are masked in every kind of field", () => {
  const url = "https://user:hunter22@host/x";
  const line = formatRecord(
    record("Failed", { url, error: new Error(`no ${url}`), list: [url], deep: { url }, n: 5n }),
  );
  assert.ok(!line.includes("hunter22"), line);
  assert.equal(JSON.parse(line).n, "5");
});

Deno.test("long texts are cut", () => {
  const line = formatRecord(record("Failed", { error: "x".repeat(5000) }));
  assert.ok(line.length < 1300);
});

Deno.test("the level can be another at run time; what is below it costs no line", () => {
  const lines: string[] = [];
  setupLog({ write: (line) => lines.push(line) });
  const log = logger("test");
  const before = logLevel();
  try {
    setLogLevel("debug");
    log.debug("One");
    setLogLevel("error");
    log.warning("Two");
    log.error("Three");
    assert.equal(logLevel(), "error");
  } finally {
    setLogLevel(before);
  }
  assert.deepEqual(lines.map((line) => JSON.parse(line).msg), ["One", "Three"]);
});
