/**
 * Calls a file system by path as the kernel would: looks up every component, counts what the
 * replies count, and forgets it again. What is held open is a node, as for the kernel.
 */

import { ERRNO, FsError } from "../../src/errno.ts";
import type { AttrChanges, Caller, DirentSink, Entry } from "../../src/fuse/filesystem.ts";
import type { Name } from "../../src/path.ts";
import type { MergedFilesystem } from "../../src/vfs/merged_filesystem.ts";

const ROOT_NODE = 1;
const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;
const S_IFREG = 0o100000;

export const CALLER: Caller = { uid: 501, gid: 502, pid: 1 };

export class PathDriver {
  readonly filesystem: MergedFilesystem;

  constructor(filesystem: MergedFilesystem) {
    this.filesystem = filesystem;
  }

  /** Runs `work` with the node of a path. Throws FsError (ENOENT). */
  with<T>(path: string, work: (nodeid: number, entry: Entry | null) => T): T {
    const held: number[] = [];
    try {
      let nodeid = ROOT_NODE;
      let entry: Entry | null = null;
      for (const part of path.split("/").filter((each) => each !== "")) {
        entry = this.filesystem.lookup(nodeid, part as Name);
        if (entry.nodeid === 0) throw new FsError(ERRNO.ENOENT);
        nodeid = entry.nodeid;
        held.push(nodeid);
      }
      return work(nodeid, entry);
    } finally {
      for (const nodeid of held.reverse()) this.filesystem.forget(nodeid, 1);
    }
  }

  /** Opens a file as the kernel does: its node stays until `release`. */
  hold(path: string): { readonly nodeid: number; release(): void } {
    const nodeid = this.#in(path, (parent, name) => this.filesystem.lookup(parent, name).nodeid);
    return { nodeid, release: () => this.filesystem.forget(nodeid, 1) };
  }

  create(path: string, mode = 0o644): void {
    this.#made(
      path,
      (parent, name) => this.filesystem.mknod(parent, name, S_IFREG | mode, 0, CALLER),
    );
  }

  mknod(path: string, mode: number, rdev: number): void {
    this.#made(path, (parent, name) => this.filesystem.mknod(parent, name, mode, rdev, CALLER));
  }

  mkdir(path: string, mode = 0o755): void {
    this.#made(path, (parent, name) => this.filesystem.mkdir(parent, name, mode, CALLER));
  }

  symlink(target: string, path: string): void {
    const bytes = new TextEncoder().encode(target);
    this.#made(path, (parent, name) => this.filesystem.symlink(parent, name, bytes, CALLER));
  }

  link(path: string, newPath: string): void {
    this.with(path, (nodeid) => {
      this.#made(newPath, (parent, name) => this.filesystem.link(nodeid, parent, name));
    });
  }

  /** The kernel has looked up what it removes. */
  unlink(path: string): void {
    this.with(path, () => this.#in(path, (parent, name) => this.filesystem.unlink(parent, name)));
  }

  rmdir(path: string): void {
    this.with(path, () => this.#in(path, (parent, name) => this.filesystem.rmdir(parent, name)));
  }

  rename(path: string, newPath: string, flags = 0): void {
    this.with(
      path,
      () =>
        this.#withIfThere(
          newPath,
          () =>
            this.#in(path, (parent, name) =>
              this.#in(newPath, (newParent, newName) =>
                this.filesystem.rename(parent, name, newParent, newName, flags))),
        ),
    );
  }

  write(path: string, offset: number, text: string): number {
    const bytes = new TextEncoder().encode(text);
    return this.with(path, (nodeid) => this.filesystem.write(nodeid, offset, bytes, null));
  }

  setattr(path: string, changes: Partial<AttrChanges>): void {
    this.with(
      path,
      (nodeid) => this.filesystem.setattr(nodeid, { killSuidGidFor: null, ...changes }),
    );
  }

  read(nodeid: number): string {
    const into = new Uint8Array(1 << 20);
    const count = this.filesystem.read(nodeid, 0, into);
    return new TextDecoder().decode(into.subarray(0, count));
  }

  names(nodeid: number): string[] {
    const names: string[] = [];
    const sink: DirentSink = {
      fits: () => true,
      add: (name) => names.push(name) > 0,
      addPlus: () => false,
    };
    this.filesystem.readdir(nodeid, 0, sink);
    return names.filter((name) => name !== "." && name !== "..");
  }

  /** Every path with all that stat and read show but times: sorted lines. */
  snapshot(): string[] {
    const lines: string[] = [];
    const visit = (path: string) =>
      this.with(path, (nodeid) => {
        const { attr } = this.filesystem.getattr(nodeid);
        const kind = attr.mode & S_IFMT;
        const mode = attr.mode.toString(8);
        let line = `${path || "/"} ${mode} ${attr.uid}:${attr.gid} nlink=${attr.nlink}`;
        if (kind === S_IFREG) {
          line += ` size=${attr.sizeBytes} ${JSON.stringify(this.read(nodeid))}`;
        }
        if (kind === S_IFLNK) {
          line += ` -> ${new TextDecoder().decode(this.filesystem.readlink(nodeid))}`;
        }
        if (attr.rdev !== 0) line += ` rdev=${attr.rdev}`;
        lines.push(line);
        if (kind === S_IFDIR) { for (const name of this.names(nodeid)) visit(`${path}/${name}`); }
      });
    visit("");
    return lines.sort();
  }

  #withIfThere<T>(path: string, work: () => T): T {
    try {
      return this.with(path, work);
    } catch (error) {
      if (error instanceof FsError && error.errno === ERRNO.ENOENT) return work();
      throw error;
    }
  }

  #in<T>(path: string, work: (parent: number, name: Name) => T): T {
    const slash = path.lastIndexOf("/");
    return this.with(
      path.slice(0, Math.max(0, slash)),
      (parent) => work(parent, path.slice(slash + 1) as Name),
    );
  }

  #made(path: string, make: (parent: number, name: Name) => Entry): void {
    const { nodeid } = this.#in(path, make);
    this.filesystem.forget(nodeid, 1);
  }
}
