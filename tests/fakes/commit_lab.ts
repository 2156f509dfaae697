/**
 * Commits as literals, a file system on them with an overlay that can be killed and opened again,
 * and what a user may do to it, at random: what tests of another base beneath stand on.
 */

import fc from "fast-check";
import { ERRNO, FsError } from "../../src/errno.ts";
import { type BaseId, baseIdOf, plainOid, type Suffix, suffixOf } from "../../src/git/base_id.ts";
import { digest } from "../../src/git/conversion.ts";
import type { Oid } from "../../src/git/oid.ts";
import type { Overlay } from "../../src/overlay/overlay.ts";
import type { Name } from "../../src/path.ts";
import { countChanges } from "../../src/vfs/changes.ts";
import type { SwitchedTree } from "../../src/vfs/switch.ts";
import { objectOid } from "../support/git_objects.ts";
import { checkInvariants } from "../support/overlay_invariants.ts";
import { FakeObjects, rawTree } from "./fake_objects.ts";
import { OverlayWorld } from "./overlay_world.ts";
import { PathDriver } from "./path_driver.ts";

/** A directory of a commit: text is a file's content. */
export interface Spec {
  readonly [name: string]: string | Shout | Tool | Link | Module | Spec;
}
/** A file that a checkout converts. */
export class Shout {
  constructor(readonly text: string) {}

  get shown(): string {
    return `${this.text.toUpperCase()}!`;
  }
}
export class Tool {
  constructor(readonly text: string) {}
}
export class Link {
  constructor(readonly target: string) {}
}
export class Module {
  constructor(readonly digit: string) {}
}

export const SHOUTED = digest("conversion", "shouted");

export function blobOid(text: string): Oid {
  return objectOid("blob", new TextEncoder().encode(text), "sha1") as Oid;
}

/** Puts a directory and all below it among the objects, under the names that git gives them. */
export function put(objects: FakeObjects, spec: Spec): BaseId {
  const blob = (text: string) => {
    const oid = blobOid(text);
    objects.putBlob(oid, text);
    return oid;
  };
  const context = new Map<Name, Suffix>();
  const entries = Object.keys(spec).sort().map((name) => {
    const value = spec[name] as Spec[string];
    if (value instanceof Shout) {
      const oid = blob(value.text);
      context.set(name as Name, SHOUTED);
      objects.putBlob(baseIdOf(oid, SHOUTED), value.shown);
      return { mode: "100644", name, oid };
    }
    if (typeof value === "string") return { mode: "100644", name, oid: blob(value) };
    if (value instanceof Tool) return { mode: "100755", name, oid: blob(value.text) };
    if (value instanceof Link) return { mode: "120000", name, oid: blob(value.target) };
    if (value instanceof Module) return { mode: "160000", name, oid: value.digit.repeat(40) };
    const id = put(objects, value);
    const suffix = suffixOf(id);
    if (suffix !== null) context.set(name as Name, suffix);
    return { mode: "40000", name, oid: plainOid(id) };
  });
  const oid = objectOid("tree", rawTree(entries), "sha1") as Oid;
  const suffix = context.size === 0 ? null : digest("context", JSON.stringify([...context]));
  const id = baseIdOf(oid, suffix);
  objects.putTree(id, entries, "sha1", context);
  return id;
}

export class Lab implements Disposable {
  readonly dir = Deno.makeTempDirSync({ prefix: "afs-rebase-" });
  readonly objects = new FakeObjects();
  readonly #rootTreeOid: BaseId;
  world: OverlayWorld;

  constructor(base: Spec) {
    this.#rootTreeOid = put(this.objects, base);
    this.world = this.#open();
  }

  /** The commit that fails, counted from 1; 0: none. */
  failAt = 0;

  #open(): OverlayWorld {
    const { objects, dir } = this;
    const wrap = (overlay: Overlay) =>
      new Proxy(overlay, {
        get: (target, key) => {
          const value = Reflect.get(target, key, target);
          if (typeof value !== "function") return value;
          return (...args: unknown[]) => {
            if (key === "commit" && this.failAt > 0 && --this.failAt === 0) {
              throw new FsError(ERRNO.ENOSPC);
            }
            return value.apply(target, args);
          };
        },
      });
    return new OverlayWorld({ objects, rootTreeOid: this.#rootTreeOid, dir, wrap });
  }

  get driver(): PathDriver {
    return new PathDriver(this.world.filesystem);
  }

  reopen(options: { kill: boolean }): void {
    if (options.kill) this.world.kill();
    else this.world[Symbol.dispose]();
    this.world = this.#open();
  }

  /** One step a turn; `between` after each. How many turns it took. */
  rebase(to: Spec, between: (turn: number) => void = () => {}): number {
    const rebase = this.world.filesystem.rebase(put(this.objects, to));
    for (let turn = 1;; turn++) {
      const state = rebase.turn(0);
      between(turn);
      if (state === "done") return turn;
    }
  }

  /** As whoever has just asked the file monitor. Throws SwitchRefused, FsError. */
  switchTo(from: Spec, to: Spec): SwitchedTree {
    return this.world.filesystem.switchTo({
      from: put(this.objects, from),
      to: put(this.objects, to),
      token: this.world.overlay.journal.issue(),
    });
  }

  /** Everything that shows, ino, mtime and ctime too. */
  snapshot(): string[] {
    const { filesystem } = this.world;
    const lines: string[] = [];
    const { driver } = this;
    const visit = (path: string) =>
      driver.with(path, (nodeid) => {
        const { attr } = filesystem.getattr(nodeid);
        const kind = attr.mode >> 12;
        // A backing file has the disk's blocks, a blob its size's; reading here moves atime.
        const { blocks: _, atimeSeconds: __, atimeNanoseconds: ___, ...shown } = attr;
        const bytes = kind === 8
          ? driver.read(nodeid)
          : kind === 10
          ? new TextDecoder().decode(filesystem.readlink(nodeid))
          : "";
        lines.push(`${path} ${JSON.stringify(bytes)} ${JSON.stringify(shown)}`);
        if (kind === 4) { for (const name of driver.names(nodeid)) visit(`${path}/${name}`); }
      });
    visit("");
    return lines.sort();
  }

  /** created, modified, deleted */
  async counts(): Promise<number[]> {
    const directory = (oid: BaseId) => this.objects.directoryAtHand(oid) ?? null;
    const { store } = this.world.overlay;
    const { created, modified, deleted } = await countChanges(store, this.#rootTreeOid, directory);
    return [created, modified, deleted];
  }

  /** The next `room` names of a directory, from a cookie on. */
  readSome(
    nodeid: number,
    cookie: number,
    room: number,
  ): { readonly names: string[]; readonly cookie: number; readonly ended: boolean } {
    const names: string[] = [];
    let last = cookie;
    this.world.filesystem.readdir(nodeid, cookie, {
      fits: () => true,
      add(name, _ino, _type, next) {
        if (names.length === room) return false;
        names.push(name);
        last = next;
        return true;
      },
      addPlus: () => false,
    });
    return { names, cookie: last, ended: names.length < room };
  }

  /** Looked at, and done with. */
  end<T>(look: (lab: Lab) => T): T {
    using lab = this;
    return look(lab);
  }

  [Symbol.dispose](): void {
    this.world[Symbol.dispose]();
    checkInvariants(this.dir, true);
    Deno.removeSync(this.dir, { recursive: true });
  }
}

export const NAMES = ["a", "b", "c", "d"];
export const TEXTS = ["", "one", "two", "a longer text"];

export const text = fc.constantFrom(...TEXTS);
export const leaf = fc.oneof(
  { weight: 5, arbitrary: text },
  text.map((each) => new Tool(each)),
  { weight: 2, arbitrary: text.map((each) => new Shout(each)) },
  text.filter((each) => each !== "").map((each) => new Link(each)),
  fc.constantFrom("1", "2").map((digit) => new Module(digit)),
);
/** So many levels of directories. */
export function specOf(depth: number): fc.Arbitrary<Spec> {
  const value: fc.Arbitrary<Spec[string]> = depth === 0
    ? leaf
    : fc.oneof({ weight: 2, arbitrary: leaf }, specOf(depth - 1));
  return fc.dictionary(fc.constantFrom(...NAMES), value, { maxKeys: 4, noNullPrototype: true });
}
export const spec = specOf(2);
export const path = fc.array(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 3 })
  .map((parts) => parts.join("/"));

export type Op = (driver: PathDriver) => void;
export const op: fc.Arbitrary<Op> = fc.oneof(
  path.map((at) => (d: PathDriver) => d.create(at)),
  fc.tuple(path, text).map(([at, to]) => (d: PathDriver) => overwrite(d, at, to)),
  fc.tuple(path, text).map(([at, to]) => (d: PathDriver) => d.write(at, 0, to)),
  path.map((at) => (d: PathDriver) => d.mkdir(at)),
  path.map((at) => (d: PathDriver) => d.symlink("one", at)),
  path.map((at) => (d: PathDriver) => d.unlink(at)),
  path.map((at) => (d: PathDriver) => d.rmdir(at)),
  fc.tuple(path, path).map(([at, to]) => (d: PathDriver) => d.link(at, to)),
  fc.tuple(path, path, fc.constantFrom(0, 0, 2)).map(([at, to, flags]) => (d: PathDriver) =>
    d.rename(at, to, flags)
  ),
  fc.tuple(path, fc.constantFrom(0o644, 0o755, 0o600)).map(([at, mode]) => (d: PathDriver) =>
    d.setattr(at, { mode })
  ),
  path.map((at) => (d: PathDriver) => d.setattr(at, { mtime: { seconds: 7, nanoseconds: 8 } })),
);

export function overwrite(driver: PathDriver, at: string, text: string): void {
  driver.setattr(at, { sizeBytes: 0 });
  driver.write(at, 0, text);
}

export function run(driver: PathDriver, each: Op): void {
  try {
    each(driver);
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
  }
}

/** As `git checkout` does. */
export function writeTree(driver: PathDriver, from: Spec, to: Spec, at = ""): void {
  for (const [name, value] of Object.entries(from)) {
    const path = `${at}${name}`;
    const next = to[name];
    if (isSpec(value) && isSpec(next)) writeTree(driver, value, next, `${path}/`);
    else if (JSON.stringify(value) !== JSON.stringify(next) || kindOf(value) !== kindOf(next)) {
      remove(driver, value, path);
    } else continue;
    if (isSpec(value) && isSpec(next)) continue;
    if (next !== undefined) write(driver, next, path);
  }
  for (const [name, value] of Object.entries(to)) {
    if (from[name] === undefined) write(driver, value, `${at}${name}`);
  }
}

export function isSpec(value: Spec[string] | undefined): value is Spec {
  return typeof value === "object" && kindOf(value) === "Object";
}

export function kindOf(value: Spec[string] | undefined): string | undefined {
  return value?.constructor.name;
}

export function remove(driver: PathDriver, value: Spec[string], path: string): void {
  if (isSpec(value)) {
    for (const [name, each] of Object.entries(value)) remove(driver, each, `${path}/${name}`);
    driver.rmdir(path);
  } else if (value instanceof Module) driver.rmdir(path);
  else driver.unlink(path);
}

export function write(driver: PathDriver, value: Spec[string], path: string): void {
  if (value instanceof Link) driver.symlink(value.target, path);
  else if (value instanceof Module) driver.mkdir(path);
  else if (isSpec(value)) {
    driver.mkdir(path);
    writeTree(driver, {}, value, `${path}/`);
  } else {
    driver.create(path, value instanceof Tool ? 0o755 : 0o644);
    const shown = value instanceof Shout ? value.shown : value instanceof Tool ? value.text : value;
    driver.write(path, 0, shown);
  }
}
