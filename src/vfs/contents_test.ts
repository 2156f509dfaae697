import assert from "node:assert/strict";
import { FakeObjects, fakeOid } from "../../tests/fakes/fake_objects.ts";
import { OverlayWorld, WORLD_TIME_SECONDS } from "../../tests/fakes/overlay_world.ts";
import { PathDriver } from "../../tests/fakes/path_driver.ts";
import { ERRNO, FsError } from "../errno.ts";
import { Parked } from "../fuse/filesystem.ts";
import { waitKey } from "./objects.ts";

const ROOT = fakeOid(0x100);
const FILE = fakeOid(0x200);
const MIB = 1024 * 1024;

function world(content: Uint8Array<ArrayBuffer> | null) {
  const objects = new FakeObjects().putTree(ROOT, [{ mode: "100755", name: "file", oid: FILE }]);
  if (content !== null) {
    objects.contents.set(FILE, content);
    objects.sizes.set(FILE, content.length);
  }
  const world = new OverlayWorld({ objects, rootTreeOid: ROOT });
  const driver = new PathDriver(world.filesystem);
  const backing = () => [...Deno.readDirSync(`${world.dir}/upper`)].length;
  return { world, objects, driver, backing, [Symbol.dispose]: () => world[Symbol.dispose]() };
}

/** The key that a call parks with; null: it does not. */
function parkedOn(call: () => unknown): string | null {
  try {
    call();
    return null;
  } catch (error) {
    if (error instanceof Parked) return error.key;
    throw error;
  }
}

const bytes = (text: string) => new TextEncoder().encode(text);

Deno.test("a write to a base file waits for its bytes, and changes nothing meanwhile", () => {
  using each = world(null);
  const { objects, driver, backing } = each;
  objects.sizes.set(FILE, 9);
  assert.equal(parkedOn(() => driver.write("file", 2, "XY")), waitKey("content", FILE));
  assert.equal(each.world.overlay.store.dentries(1).length, 0);
  objects.contents.set(FILE, bytes("the bytes"));
  assert.equal(driver.write("file", 2, "XY"), 2);
  driver.with("file", (node) => assert.equal(driver.read(node), "thXYbytes"));
  assert.equal(backing(), 1);
});

Deno.test("copy-up keeps mode, ino and the bytes; the write moves mtime and ctime", () => {
  using each = world(bytes("the bytes"));
  const { driver } = each;
  const attrOf = () => driver.with("file", (node) => driver.filesystem.getattr(node).attr);
  const before = attrOf();
  driver.write("file", 9, "!");
  const after = attrOf();
  assert.deepEqual([after.ino, after.mode, after.uid, after.gid, after.nlink], [
    before.ino,
    before.mode,
    before.uid,
    before.gid,
    before.nlink,
  ]);
  assert.equal(after.sizeBytes, 10);
  assert.ok(after.mtimeSeconds > WORLD_TIME_SECONDS && after.ctimeSeconds > WORLD_TIME_SECONDS);
  assert.equal(after.atimeSeconds, WORLD_TIME_SECONDS);
});

Deno.test("a big copy pauses, so that others have a turn, and goes on where it was", () => {
  const content = new Uint8Array(40 * MIB);
  for (let i = 0; i < content.length; i += 4093) content[i] = i & 0xff;
  using each = world(content);
  const { driver } = each;
  const held = driver.hold("file");
  let pauses = 0;
  for (;;) {
    const key = parkedOn(() => driver.filesystem.write(held.nodeid, 5, bytes("here"), null));
    if (key === null) break;
    pauses++;
    assert.deepEqual(each.world.woken.splice(0), [key]);
    // Whoever reads in between sees the base.
    const into = new Uint8Array(4);
    driver.filesystem.read(held.nodeid, 5, into);
    assert.deepEqual(into, content.subarray(5, 9));
  }
  assert.equal(pauses, 2);
  const into = new Uint8Array(MIB);
  for (let at = 0; at < content.length; at += MIB) {
    assert.equal(driver.filesystem.read(held.nodeid, at, into), MIB);
    const expected = content.slice(at, at + MIB);
    if (at === 0) expected.set(bytes("here"), 5);
    assert.ok(into.every((byte, i) => byte === expected[i]), `the MiB at ${at}`);
  }
  held.release();
});

Deno.test("what happens to a file while it is being copied", async (t) => {
  const content = new Uint8Array(20 * MIB).fill(7);
  const started = () => {
    const each = world(content);
    const held = each.driver.hold("file");
    const write = () => each.driver.filesystem.write(held.nodeid, 0, bytes("x"), null);
    assert.ok(parkedOn(write)?.startsWith("copy:"));
    assert.equal(each.backing(), 1);
    return { each, held, write };
  };
  await t.step("unlinked: the writer's copy lives until it is closed", () => {
    const { each, held, write } = started();
    using _ = each;
    each.driver.unlink("file");
    assert.equal(write(), 1);
    assert.equal(each.driver.filesystem.getattr(held.nodeid).attr.sizeBytes, content.length);
    held.release();
    assert.equal(each.backing(), 0);
  });
  await t.step("cut to nothing: there is nothing to copy any more", () => {
    const { each, held, write } = started();
    using _ = each;
    each.driver.setattr("file", { sizeBytes: 0 });
    assert.equal(write(), 1);
    assert.equal(each.driver.read(held.nodeid), "x");
  });
  await t.step("renamed: it goes on under the new name", () => {
    const { each, write } = started();
    using _ = each;
    each.driver.rename("file", "other");
    assert.equal(write(), 1);
    each.driver.with("other", (node) => {
      assert.equal(each.driver.filesystem.getattr(node).attr.sizeBytes, content.length);
    });
  });
  await t.step("forgotten: the copy goes", () => {
    const { each, held } = started();
    using _ = each;
    held.release();
    assert.equal(each.backing(), 0);
  });
  await t.step("unavailable: the writer gets EIO and the copy goes", () => {
    const { each, write } = started();
    using _ = each;
    each.objects.contents.delete(FILE);
    each.objects.failing.add(waitKey("content", FILE));
    assert.throws(write, (error) => error instanceof FsError && error.errno === ERRNO.EIO);
    assert.equal(each.backing(), 0);
  });
});

Deno.test("ctime moves with each change, also within one tick of the clock", () => {
  using each = world(bytes("the bytes"));
  const { driver } = each;
  driver.create("new");
  driver.mkdir("dir");
  const ctimeOf = (path: string) =>
    driver.with(path, (node) => {
      const { attr } = driver.filesystem.getattr(node);
      return `${attr.ctimeSeconds}.${String(attr.ctimeNanoseconds).padStart(9, "0")}`;
    });
  for (let i = 0; i < 100; i++) {
    const changes: [string, () => void][] = [
      ["new", () => driver.setattr("new", { mode: 0o600 })],
      ["file", () => driver.setattr("file", { uid: i })],
      ["dir", () => driver.create(`dir/${i}`)],
      ["new", () => driver.link("new", `dir/link-${i}`)],
    ];
    for (const [path, change] of changes) {
      const before = ctimeOf(path);
      change();
      assert.ok(ctimeOf(path) > before, `${path} after round ${i}`);
    }
    driver.write("new", 0, "x");
  }
});
