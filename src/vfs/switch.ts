/**
 * Switch: the work tree becomes another commit. Nothing is written but rows and no blob is asked
 * for, so it costs what differs between the two trees and what the overlay holds in directories
 * that differ.
 *
 *   state      event                                         next
 *   planning   something shows that `from` does not have     refused: nothing has changed
 *   planning   all of the difference was looked at           committing
 *   committing the transaction fails                         FsError: nothing has changed
 *   committing the disk has taken it                         done: memory follows, and cannot fail
 *
 * What is there must be what `from` has, at each path that differs: no row, or one with the same
 * object, kind and executable bit. Where a path is new nothing may be. All else is refused, also
 * where git would find a way: whoever asked then lets git do it.
 *
 * Invariants
 *  1. All of it is one transaction with its rows of the journal.
 *  2. What is equal in both trees is not touched: not its row, ino or times, and not what the user
 *     made of it. What the user made besides stays, and keeps the directory that it is in.
 *  3. What came or changed has a row with a new ino and the time of the switch, as a checkout
 *     makes it. So what shows without a row shows through the first base too (rebase.ts).
 *  4. A directory of both trees stays the node that it was. Any other node that is replaced or
 *     removed lives on as an unlinked one with the bytes that it had.
 *
 * The kernel does not know: `stale` says what it may hold of the tree before.
 */

import { Parked, type Time } from "../fuse/filesystem.ts";
import { type BaseId, plainOid } from "../git/base_id.ts";
import type { EntryKind } from "../git/tree.ts";
import { EVERYTHING } from "../monitor_names.ts";
import { CHANGED } from "../overlay/journal.ts";
import { CONTENT, type Inode } from "../overlay/inode.ts";
import type { JournalRow, OverlayStore } from "../overlay/store.ts";
import { joinPath, type Name, type RepoPath } from "../path.ts";
import { fileClock } from "../sys/mod.ts";
import { differs } from "./changes.ts";
import type { BaseEntry, Directory } from "./directory.ts";
import { NO_OID, type Node } from "./node_table.ts";
import { type MergedEntry, mergedEntry, OverlayEntries } from "./overlay_entries.ts";
import { ctimeOf, isLater, type View } from "./view.ts";

export interface SwitchRequest {
  /** Root trees. */
  readonly from: BaseId;
  readonly to: BaseId;
  /** Of the file monitor: what has changed since is told. */
  readonly token: string;
}

/** What a kernel that knows the tree before has to forget, in this order. */
export interface Stale {
  /** Names that lead somewhere else, or nowhere, or somewhere for the first time. */
  readonly entries: readonly { readonly parentNodeid: number; readonly name: Name }[];
  /** Directories whose listing or attributes are others. */
  readonly directories: readonly number[];
  /** Files of which a name is gone. */
  readonly files: readonly number[];
}

export interface SwitchedTree {
  /** Of the file monitor, after it. */
  readonly token: string;
  /** What the file monitor names for the token before, without what the switch itself changed. */
  readonly changedBefore: readonly string[];
  /** mtime and ctime of all that changed. */
  readonly time: Time;
  /** Files and links that changed or came. */
  readonly files: readonly { readonly path: RepoPath; readonly ino: number }[];
  /** Directories, new ones too, in which a name came or went or became a directory or no more. */
  readonly directories: readonly RepoPath[];
  readonly stale: Stale;
}

/** The work tree is not what `from` says, or more is in the way: nothing has changed. */
export class SwitchRefused extends Error {
  override readonly name = "SwitchRefused";
}

/** A directory that stays. */
interface DirectoryPlan {
  readonly node: Node;
  readonly path: RepoPath;
  /** With the times that it had. */
  readonly row: Inode;
  readonly base: Directory | null;
  readonly overlay: OverlayEntries | null;
  readonly names: NamePlan[];
  /** The tree that comes beneath; null: none. */
  treeId: BaseId | null;
  /** Something in it has another ino, or is something else. */
  changed: boolean;
  /** Names came or went. */
  moved: boolean;
  /** Names that show and are none of the tree's: its directory stays. */
  kept: number;
}

interface NamePlan {
  readonly name: Name;
  /** Null: it leads nowhere. */
  readonly ino: number | null;
  readonly mode: number;
}

/** What comes, with all the rows that it needs. */
interface Made {
  readonly ino: number;
  readonly parentIno: number;
  readonly name: Name;
  readonly kind: EntryKind;
  readonly oid: BaseId;
}

/** A name of a node that the kernel knows goes. */
interface Unlinked {
  readonly node: Node;
  readonly parent: Node;
  readonly name: Name;
}

export class Switch {
  readonly #view: View;
  readonly #isCopying: (node: Node) => boolean;
  /** Parents before what is in them. */
  readonly #plans: DirectoryPlan[] = [];
  readonly #made: Made[] = [];
  /** Rows of files that lose one of several names. */
  readonly #lessened = new Map<number, Inode>();
  readonly #removedInos: number[] = [];
  readonly #unlinked: Unlinked[] = [];
  readonly #removed: (Unlinked & { readonly row: Inode })[] = [];
  readonly #journal: JournalRow[] = [];
  readonly #files: { path: RepoPath; ino: number }[] = [];
  readonly #newDirectories: RepoPath[] = [];
  readonly #staleNames: { parent: Node; name: Name }[] = [];
  readonly #held: Node[] = [];
  /** The latest of the times that may not come again. */
  #shown: Time = { seconds: 0, nanoseconds: 0 };

  /** `isCopying`: the first write to a file is under way. */
  constructor(view: View, isCopying: (node: Node) => boolean) {
    this.#view = view;
    this.#isCopying = isCopying;
  }

  /** Once. Throws SwitchRefused; FsError, and nothing has changed either. */
  run({ from, to, token }: SwitchRequest): SwitchedTree {
    const { nodes, overlay, monitor } = this.#view;
    if (nodes.root.oid !== from) throw new SwitchRefused("the base does not follow HEAD yet");
    let time: Time;
    let changedBefore: Set<string> | null;
    try {
      changedBefore = monitor.changedSince(token);
      if (from !== to) this.#stay(nodes.root, "" as RepoPath, to);
      time = this.#commit();
    } catch (error) {
      if (error instanceof Parked) throw new SwitchRefused("a directory is not here yet");
      throw error;
    } finally {
      for (const node of this.#held.reverse()) nodes.forget(node.nodeid, 1);
    }
    const moved = this.#plans.filter((plan) => plan.moved);
    return {
      token: overlay.journal.issue(),
      changedBefore: changedBefore === null ? [EVERYTHING] : [...changedBefore],
      time,
      files: this.#files,
      directories: [...moved.map(({ path }) => path), ...this.#newDirectories],
      stale: this.#stale(),
    };
  }

  /** A directory that has another tree beneath from now on; null: none. */
  #stay(node: Node, path: RepoPath, treeId: BaseId | null): DirectoryPlan {
    const tree = treeId === null ? null : this.#tree(treeId);
    const plan = this.#planOf(node, path);
    plan.treeId = treeId;
    this.#plans.push(plan);
    this.#compare(plan, tree);
    if (plan.moved) this.#show(this.#view.ctimeOf(node));
    return plan;
  }

  #planOf(node: Node, path: RepoPath): DirectoryPlan {
    const { base, overlay } = this.#view.merged(node);
    const row = node.inode ?? this.#view.rowOfUntouched(node);
    return {
      node,
      path,
      row,
      base,
      overlay,
      names: [],
      treeId: null,
      changed: false,
      moved: false,
      kept: 0,
    };
  }

  #compare(plan: DirectoryPlan, tree: Directory | null): void {
    const { base, overlay } = plan;
    for (const entry of base?.entries ?? []) {
      const next = tree?.get(entry.name);
      if (next?.oid !== entry.oid || next.kind !== entry.kind) this.#replace(plan, entry, next);
    }
    for (const [name, { ino }] of overlay ?? []) {
      if (ino !== null && base?.get(name) === undefined) plan.kept++;
    }
    for (const entry of tree?.entries ?? []) {
      if (base?.get(entry.name) === undefined) this.#enter(plan, entry);
    }
  }

  /** A name of the tree before that has changed or gone. */
  #replace(plan: DirectoryPlan, entry: BaseEntry, next: BaseEntry | undefined): void {
    const { node, base, overlay } = plan;
    const { name } = entry;
    const path = joinPath(plan.path, name);
    if (entry.kind === "gitlink" || next?.kind === "gitlink") throw refused(path, "is a submodule");
    // To git it is the same, and stays as it was written.
    if (entry.kind === next?.kind && entry.kind !== "directory" && isSameBlob(entry, next)) {
      throw refused(path, "is converted in another way");
    }
    const shown = mergedEntry(name, base, overlay);
    if (shown === undefined) throw refused(path, "was removed");
    if (entry.kind !== "directory") {
      this.#leaveFile(plan, entry, shown, path);
      if (next === undefined) this.#leave(plan, name);
    } else {
      const child = this.#directoryOf(node, name, shown, path);
      if (child.oid !== entry.oid) throw refused(path, "is another directory");
      if (next?.kind === "directory") this.#goOn(plan, child, name, path, next.oid);
      else this.#leaveDirectory(plan, child, path, next);
    }
    if (next === undefined || entry.kind === "directory" && next.kind === "directory") return;
    this.#make(plan, next, path);
    if ((entry.kind === "directory") !== (next.kind === "directory")) plan.moved = true;
  }

  /** A name that only the new tree has. */
  #enter(plan: DirectoryPlan, entry: BaseEntry): void {
    const { node, base, overlay } = plan;
    const { name } = entry;
    const path = joinPath(plan.path, name);
    if (entry.kind === "gitlink") throw refused(path, "is a submodule");
    if (this.#view.isReserved(node, name)) throw refused(path, "is in the way");
    const shown = mergedEntry(name, base, overlay);
    if (shown === undefined) {
      this.#make(plan, entry, path);
      plan.moved = true;
      return;
    }
    if (entry.kind !== "directory") throw refused(path, "is in the way");
    const child = this.#directoryOf(node, name, shown, path);
    // A directory of the base that was moved here would show its own tree's names.
    if (child.oid !== NO_OID) throw refused(path, "is another directory");
    this.#goOn(plan, child, name, path, entry.oid);
    this.#note(path, CHANGED.directory);
  }

  /** A directory below stays one. */
  #goOn(plan: DirectoryPlan, child: Node, name: Name, path: RepoPath, treeId: BaseId | null): void {
    const { inode } = child;
    const { row } = this.#stay(child, path, treeId);
    if (inode === null) plan.names.push({ name, ino: row.ino, mode: row.mode });
  }

  #directoryOf(parent: Node, name: Name, shown: MergedEntry, path: RepoPath): Node {
    const child = this.#view.nodes.count(this.#view.childOf(parent, name, shown));
    this.#held.push(child);
    if (!child.isDirectory) throw refused(path, "is no directory");
    return child;
  }

  /** It goes, unless something is in it that is not the tree's. */
  #leaveDirectory(
    plan: DirectoryPlan,
    child: Node,
    path: RepoPath,
    next: BaseEntry | undefined,
  ): void {
    const at = this.#plans.length;
    const left = this.#stay(child, path, null);
    if (left.kept > 0) {
      if (next !== undefined) throw refused(path, "holds files that are not in the commit");
      plan.kept++;
      this.#note(path, CHANGED.directory);
      // What is kept in it has a row, and so has it.
      return;
    }
    // Its own plan only: what is below has gone before it.
    this.#plans.splice(at);
    this.#note(`${path}/` as RepoPath, CHANGED.path);
    const { row } = left;
    this.#removed.push({ node: child, parent: plan.node, name: child.name, row });
    if (child.inode !== null) this.#removedInos.push(row.ino);
    if (next === undefined) this.#leave(plan, child.name);
  }

  #leaveFile(plan: DirectoryPlan, entry: BaseEntry, shown: MergedEntry, path: RepoPath): void {
    const { nodes, overlay } = this.#view;
    const { name } = entry;
    let node: Node | undefined;
    if (shown.from === "base") node = plan.node.children?.get(name);
    else {
      node = nodes.byRow(shown.ino);
      const row = this.#lessened.get(shown.ino) ?? node?.inode ?? overlay.store.inode(shown.ino);
      if (row === null || differs(row, entry)) throw refused(path, "was changed");
      this.#show(ctimeOf(row));
      if (row.nlink > 1) {
        this.#lessened.set(row.ino, { ...row, nlink: row.nlink - 1 });
      } else {
        this.#lessened.delete(row.ino);
        this.#removedInos.push(row.ino);
      }
    }
    if (node === undefined) return;
    if (this.#isCopying(node)) throw refused(path, "is being written");
    this.#unlinked.push({ node, parent: plan.node, name });
  }

  /** A file, a link, or a directory with all that is in it. */
  #make(plan: DirectoryPlan, entry: BaseEntry, path: RepoPath): void {
    const ino = this.#makeBelow(plan.row.ino, entry, path);
    plan.names.push({ name: entry.name, ino, mode: this.#view.modes[entry.kind] });
    plan.changed = true;
    this.#staleNames.push({ parent: plan.node, name: entry.name });
  }

  #makeBelow(parentIno: number, { name, kind, oid }: BaseEntry, path: RepoPath): number {
    // Not the hash that an untouched one has: the node before may have that, and live on.
    const ino = this.#view.overlay.allocateIno();
    this.#made.push({ ino, parentIno, name, kind, oid });
    if (kind !== "directory") {
      this.#files.push({ path, ino });
      this.#note(path, CHANGED.path);
      return ino;
    }
    this.#newDirectories.push(path);
    this.#note(path, CHANGED.directory);
    for (const entry of this.#tree(oid).entries) {
      const entryPath = joinPath(path, entry.name);
      if (entry.kind === "gitlink") throw refused(entryPath, "is a submodule");
      this.#makeBelow(ino, entry, entryPath);
    }
    return ino;
  }

  /** A name leads nowhere any more. */
  #leave(plan: DirectoryPlan, name: Name): void {
    plan.names.push({ name, ino: null, mode: 0 });
    plan.changed = true;
    plan.moved = true;
    this.#staleNames.push({ parent: plan.node, name });
    this.#note(joinPath(plan.path, name), CHANGED.path);
  }

  #note(path: RepoPath, kind: number): void {
    this.#journal.push({ path, kind });
  }

  /** Whoever looks before and after sees times move, however close they are. */
  #show(time: Time): void {
    if (isLater(time, this.#shown)) this.#shown = time;
  }

  #tree(oid: BaseId): Directory {
    const tree = this.#view.objects.directory(oid);
    if (tree === undefined) throw new SwitchRefused("a directory is not here yet");
    return tree;
  }

  /** First the disk, then memory. */
  #commit(): Time {
    const tick = fileClock();
    const time = isLater(tick, this.#shown) ? tick : fileClock({ precise: true });
    const rows = this.#plans.map(({ row, treeId, moved }): Inode => ({
      ...row,
      oid: treeId,
      ...(moved ? { ...mtime(time), ...ctime(time) } : {}),
    }));
    const lessened = new Map<number, Inode>();
    for (const [ino, row] of this.#lessened) lessened.set(ino, { ...row, ...ctime(time) });
    this.#view.overlay.commit(
      (store) => this.#write(store, [...rows, ...lessened.values()], time),
      { rows: this.#journal },
    );
    this.#plans.forEach((plan, i) => this.#follow(plan, rows[i] as Inode));
    const { nodes } = this.#view;
    for (const { node, parent, name } of this.#unlinked) {
      const stays = node.inode === null ? undefined : lessened.get(node.ino);
      nodes.removeName(node, parent, name, { last: stays === undefined });
      if (stays !== undefined) nodes.setInode(node, stays);
      else if (node.inode !== null) {
        nodes.setInode(node, { ...node.inode, ...ctime(time), nlink: 0 });
      }
    }
    for (const { node, parent, name, row } of this.#removed) {
      nodes.removeName(node, parent, name, { last: true });
      nodes.setInode(node, { ...row, ...ctime(time), oid: null, nlink: 0 });
      node.entries = new OverlayEntries(null);
    }
    return time;
  }

  #write(store: OverlayStore, rows: readonly Inode[], time: Time): void {
    for (const ino of this.#removedInos) store.deleteInode(ino);
    for (const row of rows) store.putInode(row);
    for (const { ino, parentIno, name, kind, oid } of this.#made) {
      store.putInode(this.#newRow(ino, kind, oid, time));
      store.putDentry(parentIno, name, ino);
    }
    for (const { row, names, overlay } of this.#plans) {
      for (const { name, ino } of names) {
        if (ino !== null) store.putDentry(row.ino, name, ino);
        else if (overlay?.get(name) !== undefined) store.deleteDentry(row.ino, name);
      }
    }
  }

  #newRow(ino: number, kind: EntryKind, oid: BaseId, time: Time): Inode {
    const { uid, gid } = this.#view.options;
    const { seconds, nanoseconds } = time;
    return {
      ino,
      mode: this.#view.modes[kind],
      uid,
      gid,
      rdev: 0,
      nlink: 1,
      atimeSeconds: seconds,
      atimeNanoseconds: nanoseconds,
      ...mtime(time),
      ...ctime(time),
      content: kind === "directory" ? CONTENT.none : CONTENT.base,
      oid,
      target: null,
    };
  }

  #follow({ node, base, names }: DirectoryPlan, row: Inode): void {
    const entries = node.entries ??= new OverlayEntries(base);
    for (const { name, ino, mode } of names) {
      if (ino === null) entries.hide(base, name);
      else entries.put(base, name, ino, mode);
    }
    entries.rebase(base);
    for (const { name, ino } of names) if (ino === null) entries.uncover(name);
    this.#view.nodes.setInode(node, row);
  }

  /** As far as the kernel knows the node: nobody else holds it now. */
  #stale(): Stale {
    const { nodes } = this.#view;
    const isKnown = (node: Node) => nodes.get(node.nodeid) === node;
    const nodeidsOf = (all: readonly { readonly node: Node }[]) =>
      all.map(({ node }) => node).filter(isKnown).map(({ nodeid }) => nodeid);
    return {
      entries: this.#staleNames.filter(({ parent }) => isKnown(parent))
        .map(({ parent, name }) => ({ parentNodeid: parent.nodeid, name })),
      directories: nodeidsOf([...this.#plans.filter(({ changed }) => changed), ...this.#removed]),
      files: nodeidsOf(this.#unlinked),
    };
  }
}

function refused(path: RepoPath, why: string): SwitchRefused {
  return new SwitchRefused(`${path}: ${why}`);
}

function mtime({ seconds, nanoseconds }: Time) {
  return { mtimeSeconds: seconds, mtimeNanoseconds: nanoseconds };
}

function ctime({ seconds, nanoseconds }: Time) {
  return { ctimeSeconds: seconds, ctimeNanoseconds: nanoseconds };
}

function isSameBlob(one: BaseEntry, other: BaseEntry): boolean {
  return plainOid(one.oid) === plainOid(other.oid);
}
