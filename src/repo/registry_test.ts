import assert from "node:assert/strict";
import { openDatabase } from "../db/mod.ts";
import { Failure } from "../failure.ts";
import { baseIdOf, type Suffix } from "../git/base_id.ts";
import type { Oid } from "../git/oid.ts";
import type { HostPath } from "../path.ts";
import { layoutOf } from "./layout.ts";
import { hydratedOf, openExistingRegistry, openRegistry, type Registry } from "./registry.ts";
import { REGISTRY_MIGRATIONS } from "./schema.ts";
import type { RepoRecord } from "./types.ts";

function record(changes: Partial<RepoRecord> = {}): RepoRecord {
  return {
    id: "0000000000000001",
    name: "one",
    remote: "https://host/one",
    branch: null,
    ref: "refs/heads/main",
    sourceRef: "refs/heads/main",
    requiredCommitOid: null,
    depth: null,
    mountPoint: "/mnt/one" as HostPath,
    madeFolders: 0,
    storeId: "s",
    objectFormat: "sha1",
    acquiredCommitOid: "1".repeat(40) as Oid,
    generation: 1,
    baseCommitOid: "1".repeat(40) as Oid,
    baseTreeOid: "2".repeat(40) as Oid,
    baseTreeId: baseIdOf("2".repeat(40) as Oid, "3".repeat(16) as Suffix),
    baseConversion: "some",
    baseTimeSeconds: 1_700_000_000,
    uid: 0,
    gid: 0,
    xattrs: false,
    umask: 0o022,
    readOnly: false,
    gitDir: null,
    preparedGitDir: false,
    singleBranch: false,
    wanted: "mounted",
    history: "fetching",
    acquiredAt: "2024-01-01T00:00:00.000Z",
    lastFetchAt: null,
    fetchResult: "ok",
    remoteRefreshSeconds: 30,
    tokenFile: null,
    ...changes,
  };
}

async function withRegistry(fn: (registry: Registry, root: HostPath) => void): Promise<void> {
  const root = await Deno.makeTempDir() as HostPath;
  try {
    using registry = openRegistry(layoutOf(root));
    fn(registry, root);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

Deno.test("registry: insert, find, update, remove", async () => {
  await withRegistry((registry, root) => {
    const one = record();
    const two = record({
      id: "2",
      name: "a two",
      mountPoint: "/mnt/two" as HostPath,
      depth: 5,
      branch: "b",
      acquiredAt: "2025-01-01T00:00:00.000Z",
    });
    registry.insert(one);
    registry.insert(two);
    assert.deepEqual(registry.byName("one"), one);
    assert.deepEqual(registry.byMountPoint("/mnt/two"), two);
    assert.deepEqual(registry.all(), [two, one]);
    assert.deepEqual(registry.byStore("s"), [two, one]);
    assert.equal(registry.byName("none"), null);
    assert.equal(registry.update(one.id, { wanted: "unmounted", lastFetchAt: "now" }), true);
    assert.equal(registry.update(two.id, { remoteRefreshSeconds: null }), true);
    assert.equal(registry.byId(two.id)?.remoteRefreshSeconds, null);
    registry.update(two.id, { remoteRefreshSeconds: 30 });
    // Another process sees it.
    using other = openExistingRegistry(layoutOf(root)) as Registry;
    assert.deepEqual(other.byId(one.id), { ...one, wanted: "unmounted", lastFetchAt: "now" });
    assert.equal(registry.update("none", { wanted: "mounted" }), false);
    assert.equal(registry.remove(one.id), true);
    assert.equal(registry.remove(one.id), false);
    assert.deepEqual(other.all(), [two]);
  });
});

Deno.test("registry: rows of an older program have what they stand for", async () => {
  const root = await Deno.makeTempDir() as HostPath;
  try {
    const layout = layoutOf(root);
    const {
      madeFolders: _,
      xattrs: __,
      acquiredCommitOid: ___,
      generation: ____,
      remoteRefreshSeconds: _____,
      baseTreeId: ______,
      baseConversion: _______,
      sourceRef: ________,
      requiredCommitOid: _________,
      umask: __________,
      readOnly: ___________,
      tokenFile: ____________,
      gitDir: _gitDir,
      preparedGitDir: _prepared,
      singleBranch: _single,
      ...old
    } = record();
    const db = openDatabase(layout.registryPath, { migrations: REGISTRY_MIGRATIONS.slice(0, 1) });
    db.prepare(
      `INSERT INTO repos (${Object.keys(old).join()}) VALUES (${Object.keys(old).map(() => "?")})`,
    ).run(...Object.values(old));
    db.close();
    using registry = openRegistry(layout);
    const shown = { baseTreeId: old.baseTreeOid, baseConversion: "some" } as const;
    assert.deepEqual(registry.all(), [record(shown)]);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("registry: names and mount points are unique", async () => {
  await withRegistry((registry) => {
    registry.insert(record());
    assert.throws(() => registry.insert(record({ id: "2", mountPoint: "/x" as HostPath })), {
      name: "Failure",
      message: /name "one".*another/,
    });
    assert.throws(() => registry.insert(record({ id: "2", name: "two" })), {
      name: "Failure",
      message: /\/mnt\/one.*registered/,
    });
    assert.equal(registry.all().length, 1);
  });
});

Deno.test("registry: none yet, and one of a newer program", async () => {
  const root = await Deno.makeTempDir() as HostPath;
  try {
    assert.equal(openExistingRegistry(layoutOf(root)), null);
    const { DatabaseSync } = await import("node:sqlite");
    const db = new DatabaseSync(layoutOf(root).registryPath);
    db.exec("PRAGMA user_version = 99");
    db.close();
    assert.throws(() => openRegistry(layoutOf(root)), Failure);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("hydratedOf: counts when there is something to count", async () => {
  await withRegistry((_registry, root) => {
    const store = { ...layoutOf(root).store("x"), basePath: `${root}/base.sqlite` as HostPath };
    assert.deepEqual(hydratedOf(store), { blobs: 0, sizeBytes: 0 });
    using db = openDatabase(store.basePath, { migrations: ["CREATE TABLE other (x)"] });
    assert.deepEqual(hydratedOf(store), { blobs: 0, sizeBytes: 0 });
    db.exec(
      `CREATE TABLE sizes(oid BLOB, conversion INTEGER, sizeBytes INTEGER,
       PRIMARY KEY(oid, conversion)) WITHOUT ROWID;
       INSERT INTO sizes VALUES (x'01', 0, 10), (x'02', 0, 5)`,
    );
    assert.deepEqual(hydratedOf(store), { blobs: 2, sizeBytes: 15 });
  });
});

Deno.test("registry: a name and a mount point are of one repository or one preparation", async () => {
  await withRegistry((registry) => {
    const { id: _, name: __, mountPoint: ___, ...rest } = record();
    const preparation = (id: string, name: string, mountPoint: string) => ({
      ...rest,
      id,
      name,
      mountPoint: mountPoint as HostPath,
      askedAt: "2026-01-02T03:04:05.000Z",
      error: null,
    });
    registry.insert(record());
    const taken = { name: "Failure", message: /name "one".*another/ };
    const there = { name: "Failure", message: /registered there/ };
    assert.throws(() => registry.insertPreparation(preparation("2", "one", "/x")), taken);
    assert.throws(() => registry.insertPreparation(preparation("2", "x", "/mnt/one")), there);
    registry.insertPreparation(preparation("2", "two", "/mnt/two"));
    assert.throws(() => registry.insertPreparation(preparation("3", "two", "/x")), {
      message: /name "two".*another/,
    });
    const other = record({ id: "3", name: "two", mountPoint: "/x" as HostPath });
    assert.throws(() => registry.insert(other), { message: /name "two".*another/ });
    assert.throws(
      () => registry.insert({ ...other, name: "x", mountPoint: "/mnt/two" as HostPath }),
      there,
    );
    assert.equal(registry.preparations.all().length, 1);
    registry.insert(record({ id: "2", name: "two", mountPoint: "/mnt/two" as HostPath }));
    assert.deepEqual(registry.preparations.all(), []);
    assert.equal(registry.all().length, 2);
  });
});
