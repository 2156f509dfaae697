import assert from "node:assert/strict";
import * as v from "valibot";
import { type EventName, EVENTS } from "../control/events.ts";
import { setupLog } from "../log.ts";
import { type DaemonEvent, EventBus, events } from "./events.ts";
import { FAMILIES } from "./metrics.ts";
import { linesOf } from "./operating.ts";

const DOC = await Deno.readTextFile(new URL("../../docs/operating.md", import.meta.url));
const HYDRATED = { reason: "read", blobs: 2, packBytes: 3, durationMs: 4 } as const;

const lines: string[] = [];
setupLog({ write: (line) => lines.push(line) });

function logged(work: () => void): Record<string, unknown>[] {
  lines.length = 0;
  work();
  return lines.map((line) => JSON.parse(line));
}

Deno.test("a fact is one event, and one line of the log with the same fields", () => {
  const seen: DaemonEvent[] = [];
  const unsubscribe = events.subscribe((event) => seen.push(event));
  const [line = {}, ...more] = logged(() => {
    events.emit("hydrated", ["a", "b"], { ...HYDRATED, error: null });
  });
  unsubscribe();
  events.emit("removed", "a", { mountPoint: "/x" });
  assert.deepEqual(more, []);
  const { time: _, ...rest } = line;
  assert.deepEqual(rest, {
    level: "info",
    part: "store",
    msg: "Batch hydrated",
    repo: "a,b",
    ...HYDRATED,
  });
  assert.equal(seen.length, 1);
  const [event] = seen;
  assert.ok(event !== undefined && event.event === "hydrated");
  assert.deepEqual(event.fields, { ...HYDRATED, error: null });
});

Deno.test("what failed is a warning; nothing new is for who asks for it", () => {
  const [failed = {}] = logged(() => {
    events.emit("hydrated", "a", { ...HYDRATED, error: "Cannot fetch" });
  });
  assert.deepEqual(
    [failed["level"], failed["msg"], failed["error"]],
    ["warning", "Batch not hydrated", "Cannot fetch"],
  );
  const nothing = { refs: 0, fetched: false, durationMs: 1, error: null };
  assert.deepEqual(logged(() => events.emit("refreshed", "a", nothing)), []);
  const news = logged(() => events.emit("refreshed", "a", { ...nothing, refs: 1 }));
  assert.deepEqual(news.map(({ msg }) => msg), ["Refreshed"]);
});

Deno.test("no listener hears a secret, and one that throws is nobody else's trouble", () => {
  const bus = new EventBus();
  const seen: DaemonEvent[] = [];
  bus.subscribe(() => {
    throw new Error("not mine");
  });
  bus.subscribe((event) => seen.push(event));
  logged(() => {
    bus.emit("mount-failed", "a", { mountPoint: "/x", error: "no https://u:hunter22@h/ there" });
  });
  assert.equal(seen.length, 1);
  assert.doesNotMatch(JSON.stringify(seen), /hunter22/);
});

Deno.test("lines of a stream: one for each repository, those of one by its name", () => {
  const time = new Date(0);
  const fields = { ...HYDRATED, error: null };
  const event: DaemonEvent = { time, event: "hydrated", repos: ["a", "b"], fields };
  assert.deepEqual(linesOf(event, null).map(({ repo }) => repo), ["a", "b"]);
  assert.deepEqual(linesOf(event, "b"), [{
    time: "1970-01-01T00:00:00.000Z",
    event: "hydrated",
    repo: "b",
    fields,
  }]);
  assert.deepEqual(linesOf(event, "c"), []);
  const stopping: DaemonEvent = {
    time,
    event: "daemon-stopping",
    repos: [],
    fields: { cause: "SIGTERM" },
  };
  assert.deepEqual(linesOf(stopping, null).map(({ repo }) => repo), [null]);
  assert.deepEqual(linesOf(stopping, "a"), []);
});

Deno.test("docs/operating.md has every event with its fields, every metric, and no other", () => {
  const rows = new Map(
    [...DOC.matchAll(/^\| `([a-z-]+)` \| ((?:`\w+`(?:, )?)+) \|/gm)]
      .map(([, name = "", fields = ""]) => [name, fields.replaceAll("`", "").split(", ")]),
  );
  const expected = Object.entries(EVENTS).map(([name, schema]) =>
    [name, Object.keys(schema.entries)] as const
  );
  for (const [name, fields] of expected) assert.deepEqual(rows.get(name), fields, name);
  const known: EventName[] = Object.keys(EVENTS) as EventName[];
  assert.deepEqual([...rows.keys()].filter((name) => !known.includes(name as EventName)), []);
  const metrics = [...DOC.matchAll(/`((?:afs|process)_[a-z_]+)`/g)].map(([, name]) => name);
  assert.deepEqual([...new Set(metrics)].sort(), Object.keys(FAMILIES).sort());
});

Deno.test("every event is flat: what its line on the socket takes", () => {
  for (const [name, { entries }] of Object.entries(EVENTS)) {
    for (const [field, schema] of Object.entries(entries)) {
      assert.ok(!v.is(schema, {}) && !v.is(schema, []), `${name}.${field}`);
    }
  }
});
