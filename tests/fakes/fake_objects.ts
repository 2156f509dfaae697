/** Trees, sizes and bytes that are there when a test says so. */

import { ERRNO, FsError } from "../../src/errno.ts";
import type { BaseId } from "../../src/git/base_id.ts";
import type { ObjectFormat, Oid } from "../../src/git/oid.ts";
import type { Context } from "../../src/snapshot/contexts.ts";
import { Directory } from "../../src/vfs/directory.ts";
import { type Objects, waitKey } from "../../src/vfs/objects.ts";

export interface RawEntry {
  readonly mode: string;
  /** One char code per byte. */
  readonly name: string;
  readonly oid: string;
}

/** The bytes of a tree object with exactly these entries, however wrong. */
export function rawTree(entries: readonly RawEntry[]): Uint8Array<ArrayBuffer> {
  const bytes: number[] = [];
  for (const { mode, name, oid } of entries) {
    for (const char of `${mode} ${name}\0`) bytes.push(char.charCodeAt(0));
    for (let i = 0; i < oid.length; i += 2) bytes.push(Number.parseInt(oid.slice(i, i + 2), 16));
  }
  return Uint8Array.from(bytes);
}

/** An oid that says what it is: the number, at the end of 40 digits. */
export function fakeOid(number: number, format: ObjectFormat = "sha1"): Oid {
  return number.toString(16).padStart(format === "sha1" ? 40 : 64, "0") as Oid;
}

export class FakeObjects implements Objects {
  readonly trees = new Map<BaseId, Directory>();
  readonly sizes = new Map<BaseId, number>();
  readonly contents = new Map<BaseId, Uint8Array<ArrayBuffer>>();
  /** Needs that fail with EIO. */
  readonly failing = new Set<string>();
  readonly driven = new Set<BaseId>();
  /** Needs asked for, with the trees that came along. */
  readonly asked: { readonly key: string; readonly trees: readonly BaseId[] }[] = [];
  readonly released: BaseId[] = [];

  putTree(
    oid: BaseId,
    entries: readonly RawEntry[],
    format: ObjectFormat = "sha1",
    context: Context | null = null,
  ): this {
    this.trees.set(oid, new Directory(rawTree(entries), format, context));
    return this;
  }

  putBlob(oid: BaseId, text: string): this {
    const bytes = new TextEncoder().encode(text);
    this.sizes.set(oid, bytes.length);
    this.contents.set(oid, bytes);
    return this;
  }

  #ask(key: string, trees: readonly BaseId[] = []): undefined {
    if (this.failing.has(key)) throw new FsError(ERRNO.EIO);
    this.asked.push({ key, trees });
    return undefined;
  }

  directory(oid: BaseId): Directory | undefined {
    return this.trees.get(oid) ?? this.#ask(waitKey("tree", oid));
  }

  directoryAtHand(oid: BaseId): Directory | undefined {
    return this.trees.get(oid);
  }

  size(oid: BaseId, treeOids: () => BaseId[]): number | undefined {
    return this.sizes.get(oid) ?? this.#ask(waitKey("size", oid), treeOids());
  }

  sizeAtHand(oid: BaseId): number | undefined {
    return this.sizes.get(oid);
  }

  heldSize(oid: BaseId): number | undefined {
    return this.contents.get(oid)?.length;
  }

  isDriven(oid: BaseId): boolean {
    return this.driven.has(oid);
  }

  keepSize(oid: BaseId, sizeBytes: number): void {
    this.sizes.set(oid, sizeBytes);
  }

  sizesAtHand(oids: readonly BaseId[]): Map<BaseId, number> {
    const known = new Map<BaseId, number>();
    for (const oid of oids) {
      const size = this.sizes.get(oid);
      if (size !== undefined) known.set(oid, size);
    }
    return known;
  }

  read(
    oid: BaseId,
    offset: number,
    into: Uint8Array<ArrayBuffer>,
    treeOids: () => BaseId[],
  ): number | undefined {
    const bytes = this.contents.get(oid);
    if (bytes === undefined) return this.#ask(waitKey("content", oid), treeOids());
    const part = bytes.subarray(offset, offset + into.length);
    into.set(part);
    return part.length;
  }

  release(oid: BaseId): void {
    this.released.push(oid);
  }
}
