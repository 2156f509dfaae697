/**
 * Rebase: another tree of the base comes beneath the work tree, and nothing that shows changes: no
 * name, byte, mode, time or ino. It follows the user's git after that has moved HEAD.
 *
 * A directory is anchored to its new tree in these steps, each of them one transaction:
 *  1. What shows through the old tree and is another in the new one is *pinned*: it gets a row with
 *     the object, ino and times that it has. What the new tree has and does not show gets a
 *     whiteout. Under the old tree these rows change nothing, so there may be many transactions.
 *  2. With the last of them the directory's own row names the new tree.
 *  3. Whiteouts of names that the new tree does not have go.
 * Then come the names that the overlay holds: a directory that is one in the new tree too is
 * anchored to that tree, and a file or link whose bytes are the new tree's is *released*: its row
 * says so, keeping ino and times, and its backing file goes (row first, then the file). The new
 * tree's bytes are those that a checkout would write: a conversion is made, and waited for.
 *
 * What is shown is a matter of object and conversion (git/base_id.ts): a path of which only the
 * conversion differs is pinned too.
 *
 * Invariants
 *  1. After each step, in memory and on the disk, everything shows as before. So a kill, a failure
 *     or another rebase at any point leaves a right view, and the next one goes on from there.
 *  2. Between looking and writing nobody else has a turn: what a step is made of is looked at anew.
 *  3. What is released is in a pack here, and git alone makes of it what is shown: nothing depends
 *     on a remote or on a driver that did not before.
 *
 * It costs what differs between the trees and what the overlay holds in directories of the new one.
 */

import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { FsError } from "../errno.ts";
import { type Attr, Parked, type Time } from "../fuse/filesystem.ts";
import { type BaseId, isConverted, plainOid } from "../git/base_id.ts";
import type { Oid } from "../git/oid.ts";
import { CONTENT, type Inode, isDirectory } from "../overlay/inode.ts";
import type { Name } from "../path.ts";
import { fileClock, newStat, preadFull } from "../sys/mod.ts";
import type { BaseEntry, Directory } from "./directory.ts";
import type { Node } from "./node_table.ts";
import type { MergedEntry, OverlayEntries } from "./overlay_entries.ts";
import { ctimeOf, isLater, type View } from "./view.ts";

/** Rows and names of one transaction: some ms. */
const ROWS_PER_STEP = 50;
/** Of a file, hashed without a pause: some ms. */
const HASH_STEP_BYTES = 2 * 1024 * 1024;
const SHA1_DIGITS = 40;

/**
 * Files, by ino, that are not the blob that they might be by their size: the blob, and the ctime at
 * which that was so. One that is changed in the same tick of the clock is released another time.
 */
export type DifferingFiles = Map<number, string>;
/** So many are remembered. */
const DIFFERING_MAX = 100_000;

/** Where a rebase may stop: it can go on at once, or when what it asked for has come. */
type Pause = "more" | "waiting";
type Steps<T = void> = Generator<Pause, T>;

/** How much there was to do. */
export interface RebaseCounts {
  pinned: number;
  released: number;
}

/** So many blobs that are not here are told. */
const UNHELD_MAX = 10_000;

/** A step towards another tree beneath a directory. */
interface Plan {
  readonly pins: readonly BaseEntry[];
  readonly whiteouts: readonly Name[];
  /** Nothing is left to pin or hide after it. */
  readonly last: boolean;
}

export class Rebase {
  readonly counts: RebaseCounts = { pinned: 0, released: 0 };
  /** Blobs that may be what the overlay holds: when they are here, another rebase would say. */
  readonly unheld: Oid[] = [];
  readonly #view: View;
  readonly #steps: Steps;
  #buffer: Uint8Array<ArrayBuffer> | null = null;
  #other: Uint8Array<ArrayBuffer> | null = null;

  readonly #differing: DifferingFiles;

  /** `treeId`: what comes beneath the root. `differing`: what the mount's last ones have found. */
  constructor(view: View, treeId: BaseId, differing: DifferingFiles) {
    this.#view = view;
    this.#differing = differing;
    this.#steps = this.#directory(view.nodes.root, treeId);
  }

  /**
   * Goes on for about `budgetMs`. "waiting": for what was asked for. Throws FsError, and then
   * the rebase has ended.
   */
  turn(budgetMs: number): Pause | "done" {
    const until = performance.now() + budgetMs;
    for (;;) {
      const { done, value } = this.#steps.next();
      if (done === true) return "done";
      if (value === "waiting" || performance.now() >= until) return value;
    }
  }

  /** Ends it where it is. */
  cancel(): void {
    this.#steps.return();
  }

  *#directory(node: Node, to: BaseId): Steps {
    const { nodes } = this.#view;
    const isRoot = node === nodes.root;
    if (!isRoot) nodes.count(node);
    try {
      const tree = yield* this.#tree(to);
      yield* this.#anchor(node, to, tree);
      yield* this.#below(node, to, tree);
    } finally {
      if (!isRoot) nodes.forget(node.nodeid, 1);
    }
  }

  *#anchor(node: Node, to: BaseId, tree: Directory): Steps {
    for (;;) {
      const { base, overlay } = yield* this.#merged(node);
      if (node.oid === to || node.unlinked) return;
      if (node.inode === null || overlay === null) {
        this.#makeRow(node);
        continue;
      }
      const plan = planOf(base, overlay, tree);
      this.#apply(node, base, overlay, plan, to);
      yield "more";
      if (plan.last) break;
    }
    yield* this.#uncover(node, tree);
  }

  /** Of the root; any other directory that gets another tree beneath was pinned before. */
  #makeRow(node: Node): void {
    const row = this.#view.rowOfUntouched(node);
    this.#view.overlay.commit((store) => store.putInode(row));
    this.#view.nodes.setInode(node, row);
  }

  #apply(
    node: Node,
    base: Directory | null,
    overlay: OverlayEntries,
    { pins, whiteouts, last }: Plan,
    to: BaseId,
  ): void {
    const view = this.#view;
    const children: Node[] = [];
    const anchored = { ...node.inode as Inode, oid: to };
    try {
      const pinned = pins.map((entry) => {
        const child = view.childOf(node, entry.name, { from: "base", entry });
        children.push(child);
        return { child, name: entry.name, row: view.rowOfUntouched(child) };
      });
      view.overlay.commit((store) => {
        for (const { name, row } of pinned) {
          store.putInode(row);
          store.putDentry(node.ino, name, row.ino);
        }
        for (const name of whiteouts) store.putDentry(node.ino, name, null);
        if (last) store.putInode(anchored);
      });
      for (const { child, name, row } of pinned) {
        overlay.put(base, name, row.ino, row.mode);
        view.nodes.setInode(child, row);
      }
      for (const name of whiteouts) overlay.cover(name);
      if (last) {
        overlay.rebase(base);
        view.nodes.setInode(node, anchored);
      }
      this.counts.pinned += pinned.length;
    } finally {
      for (const child of children) view.nodes.release(child);
    }
  }

  /** Takes whiteouts away that hide nothing. Those that a kill leaves hide nothing either. */
  *#uncover(node: Node, tree: Directory): Steps {
    for (;;) {
      const { overlay } = yield* this.#merged(node);
      if (overlay === null || node.unlinked) return;
      const idle: Name[] = [];
      for (const [name, { ino }] of overlay) {
        if (ino === null && tree.get(name) === undefined) idle.push(name);
        if (idle.length === ROWS_PER_STEP) break;
      }
      if (idle.length === 0) return;
      this.#view.overlay.commit((store) => {
        for (const name of idle) store.deleteDentry(node.ino, name);
      }, { frees: true });
      for (const name of idle) overlay.uncover(name);
      yield "more";
    }
  }

  /** What the overlay holds in a directory that is anchored. */
  *#below(node: Node, to: BaseId, tree: Directory): Steps {
    const { overlay } = yield* this.#merged(node);
    // The names may change meanwhile: a Map's iterator goes on with what there is.
    for (const [name, { ino, mode }] of overlay ?? []) {
      if (node.unlinked) return;
      const entry = ino === null ? undefined : tree.get(name);
      if (ino === null || entry === undefined) continue;
      const shown: MergedEntry = { from: "overlay", ino, mode };
      if (!isDirectory({ mode })) yield* this.#release(node, to, shown, entry);
      else if (entry.kind === "directory") {
        yield* this.#directory(this.#view.childOf(node, name, shown), entry.oid);
      }
      yield "more";
    }
  }

  *#release(parent: Node, tree: BaseId, shown: MergedEntry, entry: BaseEntry): Steps {
    const { nodes } = this.#view;
    const node = nodes.count(this.#view.childOf(parent, entry.name, shown));
    try {
      if (!hasOwnContent(node, entry)) return;
      const size = yield* this.#heldSize(entry.oid, tree);
      // It may have waited.
      if (size === undefined || !hasOwnContent(node, entry)) return;
      // Looking is nobody's access.
      const { atimeSeconds, atimeNanoseconds } = this.#view.attributes(node).attr;
      if (!(yield* this.#shows(node, entry.oid, size))) return;
      this.#commitRelease(node, entry.oid, size, { atimeSeconds, atimeNanoseconds });
    } finally {
      nodes.forget(node.nodeid, 1);
    }
  }

  /** Size of what the new tree shows; undefined: it needs a fetch or a driver, or it fails. */
  *#heldSize(id: BaseId, tree: BaseId): Steps<number | undefined> {
    const { objects } = this.#view;
    const oid = plainOid(id);
    const held = objects.heldSize(oid);
    if (held === undefined && this.unheld.length < UNHELD_MAX) this.unheld.push(oid);
    if (held === undefined || !isConverted(id)) return held;
    if (objects.isDriven(id)) return undefined;
    for (;;) {
      try {
        const size = objects.size(id, () => [tree]);
        if (size !== undefined) return size;
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
        return undefined;
      }
      yield "waiting";
    }
  }

  /** Its bytes are what the new tree shows, now. */
  *#shows(node: Node, oid: BaseId, sizeBytes: number): Steps<boolean> {
    const converted = isConverted(oid);
    const hash = createHash(oid.length === SHA1_DIGITS ? "sha1" : "sha256");
    hash.update(`blob ${sizeBytes}\0`, "latin1");
    if (!node.hasBackingFile) {
      return hash.update(node.inode?.target ?? "").digest("hex") === oid;
    }
    const { upper } = this.#view.overlay;
    const before = upper.stat(node.ino, newStat());
    if (before.sizeBytes !== sizeBytes) return false;
    const version = `${oid} ${before.ctimeSeconds}.${before.ctimeNanoseconds}`;
    if (this.#differing.get(node.ino) === version) return false;
    const pauses = sizeBytes > HASH_STEP_BYTES;
    // A write in the same tick of the clock would not show in ctime.
    if (pauses && !isLater(fileClock(), ctimeOf(before))) return false;
    const buffer = this.#buffer ??= new Uint8Array(HASH_STEP_BYTES);
    for (let offset = 0; offset < sizeBytes;) {
      const part = buffer.subarray(0, Math.min(buffer.length, sizeBytes - offset));
      if (preadFull(upper.fd(node.ino), part, offset) < part.length) return false;
      if (!converted) hash.update(part);
      else if (!this.#isPartOf(oid, offset, part)) return this.#differs(node, version);
      offset += part.length;
      if (!pauses) break;
      yield "more";
      if (node.unlinked || !node.hasBackingFile) return false;
      const after = upper.stat(node.ino, newStat());
      // Earlier too: the clock may have been set back.
      if (!isSameTime(ctimeOf(after), ctimeOf(before))) return false;
    }
    return converted || hash.digest("hex") === oid || this.#differs(node, version);
  }

  #isPartOf(id: BaseId, offset: number, part: Uint8Array): boolean {
    const other = (this.#other ??= new Uint8Array(HASH_STEP_BYTES)).subarray(0, part.length);
    const count = this.#view.objects.read(id, offset, other, () => []);
    return count === part.length && Buffer.compare(other, part) === 0;
  }

  /** It need not be looked at again until it changes. */
  #differs(node: Node, version: string): false {
    if (this.#differing.size >= DIFFERING_MAX) this.#differing.clear();
    this.#differing.set(node.ino, version);
    return false;
  }

  #commitRelease(
    node: Node,
    oid: BaseId,
    sizeBytes: number,
    atime: Pick<Inode, "atimeSeconds" | "atimeNanoseconds">,
  ): void {
    const { overlay, nodes, objects } = this.#view;
    const { hasBackingFile, inode } = node;
    const row: Inode = {
      ...inode as Inode,
      ...timesOf(this.#view.attributes(node).attr),
      ...atime,
      content: CONTENT.base,
      oid,
      target: null,
    };
    // First: a size that was shown must not be unknown for a moment.
    objects.keepSize(oid, sizeBytes);
    overlay.commit((store) => store.putInode(row), { frees: true });
    nodes.setInode(node, row);
    if (hasBackingFile) overlay.retireBackingFile(row.ino);
    this.counts.released++;
  }

  *#tree(id: BaseId): Steps<Directory> {
    for (;;) {
      const tree = this.#view.objects.directory(id);
      if (tree !== undefined) return tree;
      yield "waiting";
    }
  }

  *#merged(node: Node): Steps<ReturnType<View["merged"]>> {
    for (;;) {
      try {
        return this.#view.merged(node);
      } catch (error) {
        if (!(error instanceof Parked)) throw error;
      }
      yield "waiting";
    }
  }
}

/** What has to be pinned and hidden before `tree` may come beneath, as far as one step goes. */
function planOf(base: Directory | null, overlay: OverlayEntries, tree: Directory): Plan {
  const pins: BaseEntry[] = [];
  const whiteouts: Name[] = [];
  const isFull = () => pins.length + whiteouts.length >= ROWS_PER_STEP;
  for (const entry of base?.entries ?? []) {
    if (isFull()) break;
    if (overlay.get(entry.name) !== undefined) continue;
    const next = tree.get(entry.name);
    if (next?.oid !== entry.oid || next.kind !== entry.kind) pins.push(entry);
  }
  for (const { name } of tree.entries) {
    if (isFull()) break;
    if (overlay.get(name) === undefined && base?.get(name) === undefined) whiteouts.push(name);
  }
  return { pins, whiteouts, last: !isFull() };
}

/** A file or link of the entry's kind, but for the executable bit, whose bytes are not the base's. */
function hasOwnContent(node: Node, { kind }: BaseEntry): boolean {
  if (node.unlinked) return false;
  if (node.hasBackingFile) return kind === "file" || kind === "executable";
  return kind === "symlink" && node.kind === "symlink" && (node.inode?.target ?? null) !== null;
}

function isSameTime(a: Time, b: Time): boolean {
  return a.seconds === b.seconds && a.nanoseconds === b.nanoseconds;
}

function timesOf(attr: Attr) {
  return {
    mtimeSeconds: attr.mtimeSeconds,
    mtimeNanoseconds: attr.mtimeNanoseconds,
    ctimeSeconds: attr.ctimeSeconds,
    ctimeNanoseconds: attr.ctimeNanoseconds,
  };
}
