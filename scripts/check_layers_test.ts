import assert from "node:assert/strict";
import { checkLayers } from "./check_layers.ts";

const check = (files: Record<string, string>) => checkLayers(new Map(Object.entries(files)));

/** Fails unless exactly one violation is found and its line has all the given parts. */
function violates(files: Record<string, string>, ...parts: string[]) {
  const failures = check(files);
  assert.equal(failures.length, 1, failures.join("\n"));
  for (const part of parts) assert.ok(failures[0]!.includes(part), failures[0]);
}

Deno.test("a tree in order passes", () => {
  assert.deepEqual(
    check({
      "main.ts": 'import { run } from "./src/cli/mod.ts";',
      "src/path.ts": 'import { Bug } from "./failure.ts";',
      "src/failure.ts": "",
      "src/sys/mod.ts": 'import { Bug } from "../failure.ts"; import "./libc.ts";',
      "src/sys/libc.ts": "",
      "src/db/mod.ts": "",
      "src/git/oid.ts": 'import * as v from "valibot";',
      "src/snapshot/store.ts": 'import "../db/mod.ts"; import type { O } from "../git/oid.ts";',
      "src/vfs/mod.ts": 'import "../snapshot/store.ts"; export * from "../sys/mod.ts";',
      "src/cli/mod.ts": 'await import("../vfs/mod.ts");',
    }),
    [],
  );
});

Deno.test("a folder must not import from a row below its own", () => {
  violates(
    { "src/git/a.ts": '\nimport {\n  x,\n} from "../vfs/b.ts";' },
    "src/git/a.ts:4: must not import src/vfs/b.ts",
    "not below",
  );
  violates({ "src/git/a.ts": 'import type { X } from "../vfs/b.ts";' }, "src/vfs/b.ts");
  violates({ "src/git/a.ts": 'export { x } from "../vfs/b.ts";' }, "src/vfs/b.ts");
  violates({ "src/git/a.ts": 'await import("../vfs/b.ts");' }, "src/vfs/b.ts");
});

Deno.test("a worker's address is no import", () => {
  const source = 'new Worker(new URL("../mount/worker.ts", import.meta.url), {});';
  assert.deepEqual(check({ "src/git/a.ts": source }), []);
});

Deno.test("pairs that the order would allow", () => {
  violates({ "src/fuse/a.ts": 'import "../db/mod.ts";' }, "no SQL");
  violates({ "src/fuse/a.ts": 'import "../git/oid.ts";' }, "must not import src/git/oid.ts");
  violates({ "src/git/a.ts": 'import "../fuse/abi.ts";' }, "knows no FUSE");
  violates({ "src/overlay/a.ts": 'import "../snapshot/store.ts";' }, "only vfs merges");
  violates({ "src/snapshot/a.ts": 'import "../overlay/store.ts";' }, "src/overlay/store.ts");
  violates({ "src/overlay/a.ts": 'import "../hydrate/queue.ts";' }, "src/hydrate/queue.ts");
  violates({ "src/vfs/a.ts": 'import "../db/mod.ts";' }, "SQL belongs to");
  assert.deepEqual(check({ "src/repo/registry.ts": 'import "../db/mod.ts";' }), []);
});

Deno.test("leaf files, main.ts and what is outside of src", () => {
  violates({ "src/path.ts": 'import "./sys/mod.ts";' }, "leaf files only");
  violates({ "main.ts": 'import "./src/daemon/mod.ts";' }, "main.ts only calls src/cli");
  violates({ "src/sys/a.ts": 'import "../../tests/fakes/clock.ts";' }, "not part of the program");
  violates({ "src/utils/a.ts": "" }, "src/utils is no row");
});

Deno.test("tests beside the code may import anything", () => {
  assert.deepEqual(check({ "src/sys/a_test.ts": 'import "../../tests/fakes/clock.ts";' }), []);
});

Deno.test("a thread must not reach what it must not do", () => {
  violates(
    {
      "src/mount/worker.ts": 'import "../vfs/mod.ts";',
      "src/vfs/mod.ts": 'export * from "../git/mod.ts";',
      "src/git/mod.ts": 'import "./process.ts";',
      "src/git/process.ts": "",
    },
    "src/mount/worker.ts > src/vfs/mod.ts > src/git/mod.ts > src/git/process.ts",
  );
  violates(
    {
      "src/mount/worker.ts": 'await import("../git/refs.ts");',
      "src/git/refs.ts": 'new Deno\n.Command("git");',
    },
    "starts processes",
  );
  violates({ "src/mount/worker.ts": 'import "../hydrate/queue.ts";' }, "src/hydrate/queue.ts");
  violates(
    { "src/hydrate/worker.ts": 'import "../sys/mod.ts";', "src/sys/mod.ts": "" },
    "src/hydrate/worker.ts > src/sys/mod.ts",
  );
  violates(
    { "src/snapshot/worker.ts": 'import "../fuse/abi.ts";', "src/fuse/abi.ts": "" },
    "must not reach src/fuse/abi.ts",
  );
});

Deno.test("a thread may reach messages, and types that are erased", () => {
  assert.deepEqual(
    check({
      "src/mount/worker.ts": [
        'import { A } from "../hydrate/messages.ts";',
        'import type { B } from "../hydrate/queue.ts";',
        'import { type C } from "../git/process.ts";',
        'new Worker(new URL("../hydrate/worker.ts", import.meta.url));',
        '// new Deno.Command("git")',
      ].join("\n"),
    }),
    [],
  );
});

Deno.test("folders in a circle are named with the files that close it", () => {
  const failures = check({
    "src/git/a.ts": 'import type { B } from "../snapshot/b.ts";',
    "src/snapshot/b.ts": 'import type { A } from "../git/a.ts";',
  });
  assert.ok(
    failures.includes(
      "src/git > src/snapshot > src/git: folders import each other (src/git/a.ts, src/snapshot/b.ts)",
    ),
    failures.join("\n"),
  );
});
