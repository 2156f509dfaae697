import assert from "node:assert/strict";
import type { RepoStatus } from "../control/api.ts";
import { fieldLine, plainProgress, refText, statusLine } from "./output.ts";

const STATUS: RepoStatus = {
  repo: "workers",
  state: "mounted",
  mountPoint: "/mnt/workers",
  remote: "https://host/workers",
  head: "0123456789012345678901234567890123456789",
  ref: "refs/heads/main",
  sourceRef: "refs/heads/main",
  requiredCommit: null,
  acquisition: "not_required",
  baseCommit: "b".repeat(40),
  ahead: 1,
  behind: 2,
  diverged: true,
  lastFetch: "2026-01-02T03:04:05.000Z",
  result: "ok",
  prepareError: null,
  hydratedBlobs: 3,
  hydratedBytes: 4096,
  overlayDirty: false,
  overlay: { created: 0, modified: 0, deleted: 0 },
  requests: 1,
  history: "full",
  remoteRefresh: "30s",
  tokenFile: null,
  uid: 0,
  gid: 0,
};

Deno.test("the status line has fixed fields in a fixed order", () => {
  assert.equal(
    statusLine(STATUS),
    "repo=workers state=mounted head=0123456789012345678901234567890123456789 ref=main " +
      "source_ref=refs/heads/main required_commit=none acquisition=not_required " +
      `base_commit=${"b".repeat(40)} ahead=1 ` +
      "behind=2 diverged=true last_fetch=2026-01-02T03:04:05.000Z result=ok prepare_error=none hydrated_blobs=3 " +
      "hydrated_bytes=4096 overlay_dirty=false history=full remote_refresh=30s",
  );
});

Deno.test("what is not known says so", () => {
  const line = statusLine({
    ...STATUS,
    head: null,
    ref: null,
    ahead: null,
    behind: null,
    diverged: null,
    lastFetch: null,
    history: "fetching",
  });
  for (
    const part of [
      "head=unknown",
      "ref=detached",
      "ahead=unknown",
      "behind=unknown",
      "diverged=unknown",
      "last_fetch=never",
      "history=fetching",
    ]
  ) assert.ok(line.split(" ").includes(part), part);
});

Deno.test("values cannot forge fields, lines or a terminal's text", () => {
  const line = fieldLine({
    a: "two words",
    b: "x=1",
    c: 'say "hi"',
    d: "line\nbreak",
    e: "",
    f: "\x1b[31m\u009b\u2028\u202e",
    g: "ünïcode",
  });
  assert.equal(
    line,
    'a="two words" b="x=1" c="say \\"hi\\"" d="line\\nbreak" e="" ' +
      'f="\\u001b[31m\\u009b\\u2028\\u202e" g=ünïcode',
  );
});

Deno.test("refs as people write them", () => {
  assert.equal(refText("refs/heads/a/b"), "a/b");
  assert.equal(refText("refs/pull/1/head"), "refs/pull/1/head");
  assert.equal(refText(null), "detached");
});

Deno.test("plain progress is a line per phase", () => {
  const lines: string[] = [];
  const view = plainProgress((text) => lines.push(text));
  for (const percent of [null, 10, 20]) view.show({ phase: "Fetching", percent });
  view.show({ phase: "Mounting", percent: null });
  view.end();
  assert.deepEqual(lines, ["Fetching", "Mounting"]);
});
