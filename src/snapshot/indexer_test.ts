import assert from "node:assert/strict";
import { ObjectWriter, TreeBuilder } from "../../tests/support/git_objects.ts";
import { git, tempDir, waitFor } from "../../tests/support/run.ts";
import { type ObjectFormat, type Oid, oid } from "../git/oid.ts";
import { parseTree } from "../git/tree.ts";
import { createView } from "../git/view.ts";
import type { HostPath } from "../path.ts";
import { Indexer } from "./indexer.ts";
import type { Indexed, IndexerEvent, TreeReady } from "./messages.ts";
import { BaseStore } from "./store.ts";

const DIRECTORIES = 700;

/** The indexer's git processes live as long as its thread, so they outlive a test. */
const LONG_LIVED = { sanitizeResources: false, sanitizeOps: false };

async function repository(format: ObjectFormat = "sha1") {
  const dir = await tempDir();
  const gitDir = dir.at("store.git");
  await git(["init", "-q", "--bare", `--object-format=${format}`, gitDir]);
  const writer = new ObjectWriter(format);
  const builder = new TreeBuilder();
  for (let i = 0; i < DIRECTORIES; i++) {
    builder.put(`group${i % 7}/dir${i}/file`, "100644", writer.blob(`${i}\n`));
  }
  // One tree in two places, and a gitlink that names nothing here.
  builder.put("twin/a/same", "100644", writer.blob("same"));
  builder.put("twin/b/same", "100644", writer.blob("same"));
  builder.put("module", "160000", "c".repeat(format === "sha1" ? 40 : 64));
  const rootTreeOid = oid(builder.write(writer));
  await writer.flush(gitDir);
  const makeView = async (name: string, objectDirs = [`${gitDir}/objects`]) => {
    const viewDir = dir.at(name);
    await createView(viewDir, { objectFormat: format, objectDirs });
    return viewDir as HostPath;
  };
  const base = new BaseStore(dir.at("base.db") as HostPath);
  const events: IndexerEvent[] = [];
  return {
    dir,
    base,
    events,
    rootTreeOid,
    makeView,
    viewDir: await makeView("view"),
    start: () => new Indexer(base, format, (event) => events.push(event)),
    indexed: async (count = 1) => {
      const done = () => events.filter((event): event is Indexed => event.kind === "indexed");
      await waitFor(() => done().length >= count, "end of the walk");
      return done()[count - 1] as Indexed;
    },
    async [Symbol.asyncDispose]() {
      base.close();
      await dir.remove();
    },
  };
}

/** Trees below a root that are in the base; null in the list: one is not. */
function walk(base: BaseStore, root: Oid, format: ObjectFormat = "sha1"): Set<Oid | null> {
  const seen = new Set<Oid | null>();
  const visit = (treeOid: Oid) => {
    if (seen.has(treeOid)) return;
    const raw = base.tree(treeOid);
    seen.add(raw === null ? null : treeOid);
    if (raw === null) return;
    for (const { kind, oid } of parseTree(raw, format).entries) {
      if (kind === "directory") visit(oid);
    }
  };
  visit(root);
  return seen;
}

for (const format of ["sha1", "sha256"] as const) {
  Deno.test(
    { name: `${format}: every tree comes into the base, each once`, ...LONG_LIVED },
    async () => {
      await using r = await repository(format);
      r.start().index({ kind: "index", viewDir: r.viewDir, rootTreeOid: r.rootTreeOid });
      const { trees, error, rootTreeOid } = await r.indexed();
      assert.equal(error, null);
      assert.equal(rootTreeOid, r.rootTreeOid);
      // The root, 7 groups, their directories, `twin` and its one child.
      assert.equal(trees, 1 + 7 + DIRECTORIES + 1 + 1);
      const seen = walk(r.base, r.rootTreeOid, format);
      assert.equal(seen.size, trees);
      assert.ok(!seen.has(null));
      assert.ok(r.base.isIndexed(r.rootTreeOid));
    },
  );
}

Deno.test({ name: "a root that is indexed is not walked again", ...LONG_LIVED }, async () => {
  await using r = await repository();
  const indexer = r.start();
  const request = { kind: "index", viewDir: r.viewDir, rootTreeOid: r.rootTreeOid } as const;
  indexer.index(request);
  await r.indexed();
  indexer.index(request);
  assert.deepEqual((await r.indexed(2)).trees, 0);
  assert.equal((await r.indexed(2)).error, null);
});

Deno.test(
  { name: "a wanted tree is answered before the walk has ended", ...LONG_LIVED },
  async () => {
    await using r = await repository();
    const indexer = r.start();
    indexer.index({ kind: "index", viewDir: r.viewDir, rootTreeOid: r.rootTreeOid });
    indexer.want({ kind: "tree", mountId: 4, viewDir: r.viewDir, treeOid: r.rootTreeOid });
    await r.indexed();
    const [first] = r.events as [TreeReady];
    assert.equal(first.kind, "tree");
    assert.equal(first.mountId, 4);
    assert.equal(first.treeOid, r.rootTreeOid);
    assert.equal(first.cause, null);
    assert.deepEqual(first.raw, r.base.tree(r.rootTreeOid));
  },
);

Deno.test(
  { name: "what cannot be had as a tree is null with a cause", ...LONG_LIVED },
  async () => {
    await using r = await repository();
    const indexer = r.start();
    const blobOid = oid(new ObjectWriter().blob("same"));
    for (const treeOid of ["d".repeat(40) as Oid, blobOid]) {
      indexer.want({ kind: "tree", mountId: 1, viewDir: r.viewDir, treeOid });
    }
    indexer.want({
      kind: "tree",
      mountId: 1,
      viewDir: r.dir.at("no view"),
      treeOid: "e".repeat(40) as Oid,
    });
    await waitFor(() => r.events.length === 3, "answers");
    for (const event of r.events as TreeReady[]) {
      assert.equal(event.raw, null);
      assert.ok((event.cause ?? "").length > 3);
    }
    assert.equal(r.base.tree(blobOid), null);
  },
);

Deno.test(
  { name: "a walk that cannot be ended leaves no mark, and resumes", ...LONG_LIVED },
  async () => {
    await using r = await repository();
    // A store in which only the root can be found.
    const poor = r.dir.at("poor.git");
    await git(["init", "-q", "--bare", poor]);
    const raw =
      (await git(["--git-dir", r.viewDir, "cat-file", "tree", r.rootTreeOid])).stdoutBytes;
    const { stdout } = await git(
      ["--git-dir", poor, "hash-object", "-w", "-t", "tree", "--stdin"],
      { stdin: raw },
    );
    assert.equal(stdout.trim(), r.rootTreeOid);
    const poorView = await r.makeView("poor-view", [`${poor}/objects`]);

    const indexer = r.start();
    indexer.index({ kind: "index", viewDir: poorView, rootTreeOid: r.rootTreeOid });
    const first = await r.indexed();
    assert.ok(first.error !== null);
    assert.equal(first.trees, 1);
    assert.equal(r.base.isIndexed(r.rootTreeOid), false);
    assert.notEqual(r.base.tree(r.rootTreeOid), null, "what was found is kept");

    indexer.index({ kind: "index", viewDir: r.viewDir, rootTreeOid: r.rootTreeOid });
    const second = await r.indexed(2);
    assert.equal(second.error, null);
    assert.ok(r.base.isIndexed(r.rootTreeOid));
    assert.ok(!walk(r.base, r.rootTreeOid).has(null));
  },
);

Deno.test(
  { name: "trees of a new root: its mark follows the old one's", ...LONG_LIVED },
  async () => {
    await using r = await repository();
    const indexer = r.start();
    const old = "c".repeat(40) as Oid;
    const inner = "d".repeat(40) as Oid;
    const load = async (treeOids: Oid[]) => {
      const before = r.events.length;
      const { viewDir, rootTreeOid } = r;
      indexer.load({ kind: "load", viewDir, treeOids, fromTreeOid: old, rootTreeOid });
      await waitFor(() => r.events.length > before, "answer");
      const event = r.events.at(-1);
      assert.ok(event?.kind === "loaded");
      return event.error;
    };
    assert.equal(await load([r.rootTreeOid]), null);
    assert.ok(r.base.tree(r.rootTreeOid) !== null);
    assert.equal(r.base.isIndexed(r.rootTreeOid), false, "the old one is not");
    r.base.markIndexed(old);
    assert.ok((await load([r.rootTreeOid, inner])) !== null);
    assert.equal(r.base.isIndexed(r.rootTreeOid), false, "one is missing");
    assert.equal(await load([r.rootTreeOid]), null);
    assert.ok(r.base.isIndexed(r.rootTreeOid));
  },
);

Deno.test({ name: "another indexer goes on where one was aborted", ...LONG_LIVED }, async () => {
  await using r = await repository();
  const aborted = r.start();
  // As after a kill: some trees are committed, the root is not marked.
  for (const treeOid of [r.rootTreeOid]) {
    aborted.want({ kind: "tree", mountId: 1, viewDir: r.viewDir, treeOid });
  }
  await waitFor(() => r.events.length === 1, "answer");
  assert.equal(r.base.isIndexed(r.rootTreeOid), false);
  r.start().index({ kind: "index", viewDir: r.viewDir, rootTreeOid: r.rootTreeOid });
  assert.equal((await r.indexed()).error, null);
  assert.ok(!walk(r.base, r.rootTreeOid).has(null));
});

Deno.test(
  { name: "git that cannot run fails the walk, and the next one works", ...LONG_LIVED },
  async () => {
    await using r = await repository();
    const indexer = r.start();
    indexer.index({ kind: "index", viewDir: r.dir.at("no view"), rootTreeOid: r.rootTreeOid });
    const first = await r.indexed();
    assert.ok(first.error !== null);
    assert.equal(r.base.isIndexed(r.rootTreeOid), false);
    indexer.index({ kind: "index", viewDir: r.viewDir, rootTreeOid: r.rootTreeOid });
    assert.equal((await r.indexed(2)).error, null);
  },
);
