/**
 * What changes, noted for git's file monitor, and its answers: every path at which git could find
 * something else than at the time of a token. Too many paths only cost git a look; one too few is a
 * change that `git status` does not show.
 *
 * What git makes of an answer (fsmonitor.c, fsmonitor_refresh_callback; dir.c,
 * untracked_cache_invalidate_path), 2.39 and later:
 *  - `a/b`   the index entry of that name, or those below it, are looked at; directory `a` and
 *            those above it are read again for untracked files;
 *  - `a/`    all index entries below are looked at; the directory that contains `a` is read again;
 *  - `/`     as the first path: everything.
 * So what is untracked in `a` itself shows only if a path directly in `a` is named: PROBE, a name
 * that nobody has.
 *
 * At `/` git looks at all entries and believes no directory, but only that one process: it writes
 * a token that is good and directories that it may not have read (fsmonitor.c, use_fsmonitor). So
 * such a token has a mark, and whoever comes with it hears of each directory there is.
 *
 * Directories that were made here (no tree of the base beneath) are noted as a whole, once: what a
 * package manager unpacks is a row a directory. In other directories each name is noted.
 *
 * A file whose content changes is noted before its first byte does, and again only after a token
 * was given out: a write costs one comparison of numbers then.
 *
 * A process whose write was answered may be kept waiting before the kernel, in its name, puts the
 * new attributes in the place of the old ones (fs/fuse/file.c, fuse_write_update_attr). A git that
 * hears of the path in that moment would see the old ones, and believe the file with a token that
 * is newer than the write. So before an answer the kernel forgets the attributes of what was noted.
 * It then asks for them, and gets those after the write, or after a later one: what it was told
 * before it forgot is not taken any more (fuse_change_attributes, attr_version). The caller, when
 * it goes on, makes it forget them again, or brings those that are so.
 *
 * Names are a matter of locks, and waited for (settling.ts).
 */

import { Parked } from "../fuse/filesystem.ts";
import { EVERYTHING } from "../monitor_names.ts";
import { CHANGED } from "../overlay/journal.ts";
import type { JournalRow } from "../overlay/store.ts";
import { bytesOf, joinPath, type Name, type RepoPath } from "../path.ts";
import { ROOT_INO } from "./ino.ts";
import { NO_OID, type Node } from "./node_table.ts";
import { isDirectoryEntry, type MergedEntry } from "./overlay_entries.ts";
import { SETTLE_KEY, Settling } from "./settling.ts";
import type { View } from "./view.ts";

const PROBE = ".afs";
/** At the end of a token that came with EVERYTHING. */
const UNREAD = "u";
/** A longer answer costs git more than looking at everything. */
const PATHS_MAX = 50_000;
/** So many noted files are looked through for those that the kernel has forgotten. */
const WRITTEN_MAX = 10_000;

/** Rows to be written, and the nodes that need none from then on. */
export class Notes {
  readonly #monitor: Monitor;
  readonly rows: JournalRow[] = [];
  readonly #nodes: Node[] = [];
  readonly #names: { readonly parent: Node; readonly name: Name }[] = [];
  readonly #stale: Node[] = [];

  constructor(monitor: Monitor) {
    this.#monitor = monitor;
  }

  /** A name that is no directory's came, went, or leads to something else. */
  name(parent: Node, name: Name): void {
    this.#names.push({ parent, name });
    this.#put(parent, CHANGED.path, name);
  }

  /** A directory is no longer at this name. */
  directoryGone(parent: Node, name: Name): void {
    this.#names.push({ parent, name });
    this.#put(parent, CHANGED.path, `${name}/`);
  }

  /** An empty directory was made at this name. */
  directoryMade(parent: Node, name: Name): void {
    this.#names.push({ parent, name });
    this.#add(this.#monitor.pathIn(parent, name), CHANGED.directory);
  }

  /** Who may look into a directory is no change in it, but git looks from there on or no more. */
  directoryAttributes(node: Node): void {
    const path = this.#monitor.pathOf(node);
    if (path !== "") this.#add(path, CHANGED.directory);
    this.#stale.push(node);
  }

  /** A directory came to this name with all that is in it. */
  directoryMoved(node: Node, parent: Node, name: Name): void {
    this.#names.push({ parent, name });
    this.#add(this.#monitor.pathIn(parent, name), CHANGED.subtree);
    this.#nodes.push(node);
  }

  /** A file's content or attributes, under all of its names. */
  file(node: Node): void {
    if (node.unlinked || this.#monitor.isNoted(node)) return;
    for (const { parent, path, name } of this.#monitor.places(node)) {
      if (parent !== null) this.#put(parent, CHANGED.path, name);
      else this.#add(path, CHANGED.path);
    }
    this.#nodes.push(node);
  }

  #put(parent: Node, kind: number, name: string): void {
    if (this.#monitor.isNoted(parent) || this.#nodes.includes(parent)) return;
    const path = this.#monitor.pathOf(parent);
    if (path === null) return;
    if (parent.oid === NO_OID && path !== "") {
      this.#add(path, CHANGED.directory);
      this.#nodes.push(parent);
    } else this.#add(joinPath(path, name), kind);
  }

  #add(path: RepoPath | null, kind: number): void {
    if (path !== null) this.rows.push({ path, kind });
  }

  /** The rows are on disk. */
  written(): void {
    for (const node of this.#nodes) this.#monitor.note(node);
    for (const node of this.#stale) this.#monitor.changedAttributes(node);
    for (const { parent, name } of this.#names) this.#monitor.settling.changed(parent, name);
  }
}

interface NamePlace {
  /** Null: the kernel does not know that directory. */
  readonly parent: Node | null;
  readonly name: Name;
  /** Null: unlinked. */
  readonly path: RepoPath | null;
}

/** What a file of the file monitor holds. */
export class Answer {
  /** Null: it waits for what has not settled. */
  bytes: Uint8Array<ArrayBuffer> | null = null;

  /** `changeCount`: of changes that it is to know of. */
  constructor(readonly token: string, readonly changeCount: number) {}
}

export class Monitor {
  readonly settling: Settling;
  readonly #view: View;
  #queries = 0;
  /** Node ids of what was noted since the last answer, and whose attributes that tells of. */
  readonly #written = new Set<number>();
  #writtenMax = WRITTEN_MAX;

  constructor(view: View) {
    this.#view = view;
    this.settling = new Settling(view);
  }

  get #journal() {
    return this.#view.overlay.journal;
  }

  /** It is in the journal after every token that was given out. */
  isNoted(node: Node): boolean {
    return node.notedAt > this.#journal.issued;
  }

  note(node: Node): void {
    node.notedAt = this.#journal.sequence;
    if (!node.isDirectory) this.changedAttributes(node);
  }

  changedAttributes(node: Node): void {
    this.#written.add(node.nodeid);
    if (this.#written.size > this.#writtenMax) this.#forgetGone();
  }

  /** Nobody sees attributes of what the kernel does not know. */
  #forgetGone(): void {
    for (const nodeid of this.#written) {
      if (this.#view.nodes.get(nodeid) === undefined) this.#written.delete(nodeid);
    }
    this.#writtenMax = 2 * this.#written.size + WRITTEN_MAX;
  }

  /** Before bytes of a file change that are in no row. Throws FsError. */
  beforeContent(node: Node): void {
    if (this.isNoted(node)) return;
    const notes = new Notes(this);
    notes.file(node);
    if (notes.rows.length > 0) {
      this.#view.overlay.commit(() => {}, { rows: notes.rows, frees: true });
    }
    notes.written();
  }

  /** Null: no name leads there any more. */
  pathOf(node: Node): RepoPath | null {
    const names: string[] = [];
    const { root } = this.#view.nodes;
    for (let at = node; at !== root; at = at.parent) {
      if (at.parent === null) return null;
      names.push(at.name);
    }
    return names.reverse().join("/") as RepoPath;
  }

  pathIn(parent: Node, name: Name): RepoPath | null {
    const path = this.pathOf(parent);
    return path === null ? null : joinPath(path, name);
  }

  /** All names of a file, also those that the kernel has not looked up. */
  places(node: Node): NamePlace[] {
    const known = [
      ...(node.parent === null ? [] : [{ parent: node.parent, name: node.name }]),
      ...node.others ?? [],
    ];
    if ((node.inode?.nlink ?? 1) <= known.length) {
      return known.map((place) => ({ ...place, path: this.pathIn(place.parent, place.name) }));
    }
    return this.#view.overlay.store.namesOf(node.ino).map(({ parentIno, name }) => ({
      parent: null,
      name,
      path: joinPath(this.#pathOfRow(parentIno), name),
    }));
  }

  #pathOfRow(ino: number): RepoPath {
    if (ino === ROOT_INO) return "" as RepoPath;
    const [place] = this.#view.overlay.store.namesOf(ino);
    return place === undefined
      ? "" as RepoPath
      : joinPath(this.#pathOfRow(place.parentIno), place.name);
  }

  /** So often it was asked. */
  get queries(): number {
    return this.#queries;
  }

  /** What changed since a token; without bytes when it has to wait. Throws Parked. */
  ask(token: string): Answer {
    const answer = new Answer(token, this.settling.count);
    if (this.settling.mayAnswer(answer.changeCount)) answer.bytes = this.#answer(token);
    return answer;
  }

  /** Throws Parked. */
  bytesOf(answer: Answer): Uint8Array<ArrayBuffer> {
    if (answer.bytes !== null) return answer.bytes;
    if (!this.settling.mayAnswer(answer.changeCount)) throw new Parked(SETTLE_KEY);
    return answer.bytes = this.#answer(answer.token);
  }

  /**
   * A new token and what changed since another one, as a hook of version 2 prints it (githooks,
   * fsmonitor-watchman): the token, a NUL, and paths with a NUL behind each. Throws Parked.
   */
  #answer(token: string): Uint8Array<ArrayBuffer> {
    this.#queries++;
    const paths = this.changedSince(token);
    const next = this.#journal.issue(this.settling.heldAt) + (paths === null ? UNREAD : "");
    // They are noted again from here on.
    this.#written.clear();
    return bytesOf([next, ...paths ?? [EVERYTHING]].map((part) => `${part}\0`).join(""));
  }

  /** What an answer names; null: everything. Throws Parked. */
  changedSince(token: string): Set<string> | null {
    for (const nodeid of this.#written) this.#view.options.invalidateAttributes(nodeid);
    const isUnread = token.endsWith(UNREAD);
    const rows = this.#journal.since(isUnread ? token.slice(0, -UNREAD.length) : token);
    const paths = rows === null ? null : this.#paths(rows);
    if (isUnread && paths !== null) this.#expandAll(paths);
    return paths;
  }

  /** Null: too many. */
  #paths(rows: readonly JournalRow[]): Set<string> | null {
    const paths = new Set<string>();
    for (const { path, kind } of rows) {
      if (kind === CHANGED.path) paths.add(path);
      else {
        paths.add(`${path}/`);
        paths.add(`${path}/${PROBE}`);
        if (kind === CHANGED.subtree) this.#expand(path, paths);
      }
      if (paths.size > PATHS_MAX) return null;
    }
    return paths;
  }

  /** However many: a second `/` would not help. */
  #expandAll(paths: Set<string>): void {
    paths.add(PROBE);
    this.#expandBelow(this.#view.nodes.root, "" as RepoPath, paths, Infinity);
  }

  /** A path in each directory that is below now. */
  #expand(path: RepoPath, paths: Set<string>): void {
    const { root } = this.#view.nodes;
    let last: Node = root;
    const held: Node[] = [];
    try {
      for (const name of path.split("/") as Name[]) {
        const entry = last.isSynthetic ? undefined : this.#view.find(last, name);
        if (entry === undefined || !isDirectoryEntry(entry)) return;
        last = this.#view.childOf(last, name, entry);
        held.push(last);
      }
      this.#expandBelow(last, path, paths, PATHS_MAX);
    } finally {
      for (const node of held.reverse()) this.#view.nodes.release(node);
    }
  }

  #expandBelow(directory: Node, path: RepoPath, paths: Set<string>, pathsMax: number): void {
    for (const [name, entry] of this.#subdirectories(directory)) {
      if (paths.size > pathsMax) return;
      const child = this.#view.childOf(directory, name, entry);
      try {
        const childPath = joinPath(path, name);
        paths.add(`${childPath}/${PROBE}`);
        this.#expandBelow(child, childPath, paths, pathsMax);
      } finally {
        this.#view.nodes.release(child);
      }
    }
  }

  *#subdirectories(directory: Node): Generator<[Name, MergedEntry]> {
    const { base, overlay } = this.#view.merged(directory);
    const names = new Set<Name>(base?.entries.map(({ name }) => name));
    // Not only those that were added: a name of a base before this one has a rank in that.
    for (const [name] of overlay ?? []) names.add(name);
    for (const name of names) {
      const entry = this.#view.find(directory, name);
      if (entry !== undefined && isDirectoryEntry(entry)) yield [name, entry];
    }
  }
}
