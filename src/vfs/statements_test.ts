/** How often the overlay's rows are asked: never for what the kernel already knows. */

import assert from "node:assert/strict";
import { FakeObjects, fakeOid } from "../../tests/fakes/fake_objects.ts";
import { OverlayWorld } from "../../tests/fakes/overlay_world.ts";
import type { Overlay } from "../overlay/overlay.ts";
import type { Name } from "../path.ts";

const ROOT = fakeOid(1);
const BLOB = fakeOid(2);
const ROOT_NODE = 1;
const CALLER = { uid: 5, gid: 6, pid: 7 };
const name = (text: string) => text as Name;

/** A file system that notes each method of its store that is called. */
function spied() {
  const calls: string[] = [];
  const wrap = (overlay: Overlay) => {
    const store = new Proxy(overlay.store, {
      get: (target, key) => {
        const value = Reflect.get(target, key, target);
        if (typeof value !== "function") return value;
        return (...args: unknown[]) => {
          calls.push(String(key));
          return value.apply(target, args);
        };
      },
    });
    return new Proxy(overlay, {
      get: (target, key) => {
        const value = key === "store" ? store : Reflect.get(target, key, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  };
  const objects = new FakeObjects();
  objects.putTree(ROOT, [{ mode: "100644", name: "known", oid: BLOB }]).putBlob(
    BLOB,
    "of the base",
  );
  const world = new OverlayWorld({ objects, rootTreeOid: ROOT, wrap });
  calls.length = 0;
  return { world, calls };
}

Deno.test("a node that the kernel knows is looked at, read and written without the rows", () => {
  const { world, calls } = spied();
  using _ = world;
  const { filesystem } = world;
  const file = filesystem.mknod(ROOT_NODE, name("new"), 0o100644, 0, CALLER).nodeid;
  const directory = filesystem.mkdir(ROOT_NODE, name("dir"), 0o755, CALLER).nodeid;
  const known = filesystem.lookup(ROOT_NODE, name("known")).nodeid;
  calls.length = 0;
  filesystem.write(file, 0, new TextEncoder().encode("bytes"), null);
  for (const nodeid of [file, directory, known, ROOT_NODE]) filesystem.getattr(nodeid);
  for (const nodeid of [file, known]) filesystem.read(nodeid, 0, new Uint8Array(100));
  for (const text of ["new", "dir", "known", "absent"]) filesystem.lookup(ROOT_NODE, name(text));
  filesystem.lookup(directory, name("absent"));
  assert.deepEqual(calls, []);
});

Deno.test("a directory that was just made is not looked up", () => {
  const { world, calls } = spied();
  using _ = world;
  world.filesystem.mkdir(ROOT_NODE, name("first"), 0o755, CALLER);
  calls.length = 0;
  const { nodeid, attr } = world.filesystem.mkdir(ROOT_NODE, name("second"), 0o755, CALLER);
  assert.ok(!calls.includes("dentries"), calls.join(" "));
  assert.equal(attr.nlink, 2);
  world.filesystem.mkdir(nodeid, name("below"), 0o755, CALLER);
  assert.equal(world.filesystem.getattr(nodeid).attr.nlink, 3);
});
