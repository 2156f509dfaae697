import assert from "node:assert/strict";
import { FakeObjects, fakeOid } from "../../tests/fakes/fake_objects.ts";
import { OverlayWorld } from "../../tests/fakes/overlay_world.ts";
import { PathDriver } from "../../tests/fakes/path_driver.ts";
import type { BaseId } from "../git/base_id.ts";
import { countChanges } from "./changes.ts";

const ROOT = fakeOid(0x100);
const SRC = fakeOid(0x101);

function world(): { world: OverlayWorld; driver: PathDriver; count(): Promise<unknown> } {
  const objects = new FakeObjects()
    .putBlob(fakeOid(1), "one").putBlob(fakeOid(2), "two").putBlob(fakeOid(3), "a")
    .putTree(SRC, [{ mode: "100644", name: "main", oid: fakeOid(2) }])
    .putTree(ROOT, [
      { mode: "100644", name: "a", oid: fakeOid(1) },
      { mode: "120000", name: "link", oid: fakeOid(3) },
      { mode: "160000", name: "module", oid: fakeOid(9) },
      { mode: "40000", name: "src", oid: SRC },
    ]);
  const world = new OverlayWorld({ objects, rootTreeOid: ROOT });
  return {
    world,
    driver: new PathDriver(world.filesystem),
    async count() {
      const directory = (oid: BaseId) => objects.directoryAtHand(oid) ?? null;
      const { created, modified, deleted } = await countChanges(
        world.overlay.store,
        ROOT,
        directory,
      );
      return [created, modified, deleted];
    },
  };
}

const CASES: readonly {
  readonly name: string;
  readonly run: (driver: PathDriver) => void;
  /** created, modified, deleted */
  readonly counts: readonly [number, number, number];
}[] = [
  { name: "nothing", run: () => {}, counts: [0, 0, 0] },
  { name: "a file", run: (d) => d.create("src/new"), counts: [1, 0, 0] },
  {
    name: "a file and back",
    run(d) {
      d.create("src/new");
      d.unlink("src/new");
    },
    counts: [0, 0, 0],
  },
  {
    name: "a tree",
    run(d) {
      d.mkdir("x");
      d.mkdir("x/y");
      d.create("x/y/z");
    },
    counts: [3, 0, 0],
  },
  { name: "content", run: (d) => d.write("src/main", 0, "T"), counts: [0, 1, 0] },
  { name: "a removed file", run: (d) => d.unlink("src/main"), counts: [0, 0, 1] },
  { name: "the executable bit", run: (d) => d.setattr("a", { mode: 0o755 }), counts: [0, 1, 0] },
  { name: "other bits", run: (d) => d.setattr("a", { mode: 0o600 }), counts: [0, 0, 0] },
  {
    name: "times, owner, attributes of a directory",
    run(d) {
      d.setattr("a", { mtime: { seconds: 1, nanoseconds: 0 } });
      d.setattr("link", { uid: 5 });
      d.setattr("src", { mode: 0o700 });
      d.setattr("module", { mode: 0o700 });
    },
    counts: [0, 0, 0],
  },
  { name: "another name", run: (d) => d.rename("a", "src/b"), counts: [1, 0, 1] },
  { name: "a moved directory", run: (d) => d.rename("src", "moved"), counts: [1, 0, 1] },
  {
    name: "a name and back",
    run(d) {
      d.rename("src", "moved");
      d.rename("moved", "src");
    },
    counts: [0, 0, 0],
  },
  {
    name: "another kind",
    run(d) {
      d.unlink("a");
      d.mkdir("a");
    },
    counts: [0, 1, 0],
  },
  { name: "a second name", run: (d) => d.link("a", "b"), counts: [1, 0, 0] },
  {
    name: "a file in a submodule",
    run: (d) => d.create("module/inside"),
    counts: [0, 0, 0],
  },
];

for (const { name, run, counts } of CASES) {
  Deno.test(`changes: ${name}`, async () => {
    const { world: each, driver, count } = world();
    using _ = each;
    run(driver);
    assert.deepEqual(await count(), counts);
  });
}
