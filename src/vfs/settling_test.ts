import assert from "node:assert/strict";
import { FakeObjects, fakeOid } from "../../tests/fakes/fake_objects.ts";
import { OverlayWorld, WORLD_ID, WORLD_SYNTHETIC_DIR } from "../../tests/fakes/overlay_world.ts";
import { SessionHarness } from "../../tests/fakes/session_harness.ts";
import { getattrRequest } from "../../tests/fakes/wire_bytes.ts";
import { ERRNO } from "../errno.ts";
import { Parked } from "../fuse/filesystem.ts";
import { firstToken } from "../monitor_names.ts";
import type { Name } from "../path.ts";
import { SETTLE_KEY } from "./settling.ts";

const [ROOT, DIR, BLOB] = [fakeOid(1), fakeOid(2), fakeOid(3)];
const ROOT_NODE = 1;
const CALLER = { uid: 5, gid: 6, pid: 7 };
const FIRST = firstToken(WORLD_ID);
const name = (text: string) => text as Name;
const token = (sequence: number) => `${WORLD_ID}-${sequence}`;

interface Answer {
  readonly token: string;
  readonly paths: readonly string[];
}

class Ground implements Disposable {
  readonly world: OverlayWorld;
  readonly directory: number;
  readonly #monitor: number;
  #asker = 0;

  constructor() {
    const file = { mode: "100644", oid: BLOB };
    const objects = new FakeObjects().putBlob(BLOB, "bytes")
      .putTree(ROOT, [{ mode: "40000", name: "dir", oid: DIR }, { ...file, name: "file" }])
      .putTree(DIR, [{ ...file, name: "one" }, { ...file, name: "two" }]);
    this.world = new OverlayWorld({ objects, rootTreeOid: ROOT });
    this.directory = this.#lookup(ROOT_NODE, "dir");
    const synthetic = this.#lookup(ROOT_NODE, WORLD_SYNTHETIC_DIR);
    this.#monitor = this.#lookup(synthetic, "fsmonitor");
  }

  get filesystem() {
    return this.world.filesystem;
  }

  #lookup(parent: number, text: string): number {
    return this.filesystem.lookup(parent, name(text)).nodeid;
  }

  create(text: string, parent = ROOT_NODE): void {
    this.filesystem.mknod(parent, name(text), 0o100644, 0, CALLER);
  }

  unlink(text: string, parent = ROOT_NODE): void {
    this.filesystem.unlink(parent, name(text));
  }

  /** Node id of an answer. */
  ask(since: string): number {
    return this.#lookup(this.#monitor, `t-${since}~${++this.#asker}`);
  }

  /** What it says; null: it waits. */
  read(nodeid: number): Answer | null {
    try {
      const { attr } = this.filesystem.getattr(nodeid);
      const bytes = new Uint8Array(attr.sizeBytes);
      this.filesystem.read(nodeid, 0, bytes);
      const [token = "", ...paths] = new TextDecoder().decode(bytes).split("\0").slice(0, -1);
      return { token, paths };
    } catch (error) {
      assert.ok(error instanceof Parked);
      assert.equal(error.key, SETTLE_KEY);
      return null;
    }
  }

  /** Where the kernel was asked to come by since the last time. */
  asked(): string[][] {
    const paths = (names: OverlayWorld["settling"][number]) =>
      names.map(({ parentNodeid, name }) =>
        parentNodeid === ROOT_NODE
          ? name
          : `${parentNodeid === this.directory ? "dir" : parentNodeid}/${name}`
      );
    return this.world.settling.splice(0).map(paths);
  }

  [Symbol.dispose](): void {
    this.world[Symbol.dispose]();
  }
}

Deno.test("settling: an answer waits until the kernel has come by", () => {
  using ground = new Ground();
  ground.create("new");
  assert.deepEqual(ground.asked(), [], "nobody has asked yet");
  const answer = ground.ask(FIRST);
  assert.deepEqual(ground.asked(), [["new"]]);
  assert.equal(ground.read(answer), null);
  assert.equal(ground.read(answer), null);
  assert.deepEqual(ground.asked(), [], "once");
  ground.filesystem.settled(true);
  assert.deepEqual(ground.read(answer), { token: token(1), paths: ["new"] });
  assert.deepEqual(ground.read(ground.ask(token(1))), { token: token(1), paths: [] });
  assert.deepEqual(ground.asked(), []);
});

Deno.test("settling: one name a directory, the last; none of bytes and attributes", () => {
  using ground = new Ground();
  const { filesystem, directory } = ground;
  ground.create("a");
  ground.unlink("one", directory);
  ground.create("b");
  filesystem.rename(ROOT_NODE, name("b"), directory, name("c"), 0);
  ground.create("d", directory);
  const answer = ground.ask(FIRST);
  assert.deepEqual(ground.asked(), [["b", "dir/d"]]);
  filesystem.settled(true);
  const { token: after } = ground.read(answer) as Answer;
  const file = filesystem.lookup(directory, name("two")).nodeid;
  filesystem.write(file, 0, new Uint8Array(1), null);
  filesystem.setattr(file, { mode: 0o755, killSuidGidFor: null });
  ground.world.stale.splice(0);
  filesystem.setattr(directory, { mode: 0o700, killSuidGidFor: null });
  const { paths } = ground.read(ground.ask(after)) as Answer;
  assert.deepEqual(new Set(paths), new Set(["dir/two", "dir/", "dir/.afs"]));
  assert.deepEqual(ground.asked(), []);
  assert.deepEqual(ground.world.stale, [file, directory], "their attributes are forgotten");
});

Deno.test("settling: what changes while an answer waits is told, and told again", () => {
  using ground = new Ground();
  ground.create("before");
  const answer = ground.ask(FIRST);
  ground.unlink("file");
  ground.filesystem.settled(true);
  assert.deepEqual(ground.read(answer), { token: token(1), paths: ["before", "file"] });
  const second = ground.ask(token(1));
  assert.deepEqual(ground.asked(), [["before"], ["file"]]);
  ground.filesystem.settled(true);
  assert.deepEqual(ground.read(second), { token: token(2), paths: ["file"] });
});

Deno.test("settling: who waits is not kept by changes that never end", () => {
  using ground = new Ground();
  ground.create("0");
  const first = ground.ask(FIRST);
  ground.create("1", ground.directory);
  // It came when the kernel had been asked without the second.
  const second = ground.ask(FIRST);
  ground.create("2");
  ground.filesystem.settled(true);
  assert.notEqual(ground.read(first), null);
  assert.equal(ground.read(second), null);
  assert.deepEqual(ground.asked(), [["0"], ["dir/1", "2"]]);
  ground.create("3");
  ground.filesystem.settled(true);
  assert.deepEqual(ground.read(second)?.token, token(3));
});

Deno.test("settling: a directory that is held keeps tokens back, and nobody waiting", () => {
  using ground = new Ground();
  ground.create("early");
  const early = ground.ask(FIRST);
  ground.filesystem.settled(true);
  assert.equal(ground.read(early)?.token, token(1));
  ground.unlink("file");
  const answer = ground.ask(token(1));
  ground.filesystem.settled(false);
  assert.deepEqual(ground.read(answer), { token: token(1), paths: ["file"] });
  ground.asked();
  ground.create("late", ground.directory);
  for (let i = 0; i < 2; i++) {
    const { token: next, paths } = ground.read(ground.ask(token(1))) as Answer;
    assert.deepEqual([next, paths], [token(1), ["file", "dir/late"]]);
  }
  // Everything, and every directory the next time.
  assert.deepEqual(ground.read(ground.ask("")), { token: `${token(1)}u`, paths: ["/"] });
  assert.deepEqual(ground.asked(), [], "it is on its way");
  ground.filesystem.settled(true);
  const last = ground.ask(token(1));
  assert.deepEqual(ground.asked(), [["dir/late"]]);
  ground.filesystem.settled(true);
  assert.deepEqual(ground.read(last), { token: token(3), paths: ["file", "dir/late"] });
});

Deno.test("settling: while a token is held back, later writes are noted and forgotten", () => {
  using ground = new Ground();
  const { filesystem, world } = ground;
  const file = filesystem.lookup(ROOT_NODE, name("file")).nodeid;
  filesystem.write(file, 0, new Uint8Array(1), null);
  ground.create("new");
  const answer = ground.ask(FIRST);
  filesystem.settled(false);
  assert.equal(ground.read(answer)?.token, FIRST);
  for (let i = 0; i < 2; i++) {
    world.stale.splice(0);
    filesystem.write(file, 0, new Uint8Array(1), null);
    const { token: held, paths } = ground.read(ground.ask(FIRST)) as Answer;
    assert.equal(held, FIRST);
    assert.ok(paths.includes("file"));
    assert.deepEqual(world.stale, [file]);
  }
});

Deno.test("settling: when the kernel cannot be asked, the token is held back this time", () => {
  using ground = new Ground();
  ground.create("new");
  ground.world.canSettle = false;
  assert.deepEqual(ground.read(ground.ask(FIRST)), { token: FIRST, paths: ["new"] });
  ground.world.canSettle = true;
  const answer = ground.ask(FIRST);
  ground.filesystem.settled(true);
  assert.deepEqual(ground.read(answer), { token: token(1), paths: ["new"] });
});

Deno.test("settling: nothing is under way in a directory that is gone", () => {
  using ground = new Ground();
  const { filesystem } = ground;
  const { nodeid } = filesystem.mkdir(ROOT_NODE, name("gone"), 0o755, CALLER);
  ground.create("inner", nodeid);
  ground.unlink("inner", nodeid);
  filesystem.rmdir(ROOT_NODE, name("gone"));
  const kept = filesystem.mkdir(ROOT_NODE, name("kept"), 0o755, CALLER).nodeid;
  const { nodeid: inner } = filesystem.mknod(kept, name("f"), 0o100644, 0, CALLER);
  filesystem.forget(inner, 1);
  filesystem.forget(kept, 1);
  ground.ask(FIRST);
  assert.deepEqual(ground.asked(), [["kept"]]);
});

Deno.test("settling: others are answered meanwhile, and an end lets go of who waits", () => {
  for (const end of ["through", "stopped"] as const) {
    using ground = new Ground();
    const { filesystem } = ground;
    const harness = new SessionHarness(filesystem);
    const { device, session } = harness;
    ground.create("new");
    harness.isAwaited = true;
    device.push(getattrRequest(2, ground.ask(FIRST))).onWait(() => {
      assert.deepEqual(device.repliesTo(2), []);
      device.push(getattrRequest(4, ROOT_NODE));
    }, () => {
      assert.equal(device.replyTo(4).error, 0);
      assert.deepEqual(device.repliesTo(2), []);
      if (end === "stopped") session.finish("stopped");
      else {
        filesystem.settled(true);
        session.wake(SETTLE_KEY);
      }
    }, () => harness.isAwaited = false);
    harness.run();
    assert.equal(device.replyTo(2).error, end === "stopped" ? -ERRNO.EIO : 0);
  }
});
