/**
 * What main has converted for this mount (src/repo/converter.ts): files, named by what they show,
 * that never change; and what ids with a suffix mean.
 */

import { LRUCache } from "lru-cache";
import { ERRNO, FsError } from "../errno.ts";
import { type BaseId, isConverted, type Suffix, suffixOf } from "../git/base_id.ts";
import type { HostPath } from "../path.ts";
import { type Context, ContextReader } from "../snapshot/contexts.ts";
import { CONVERTED_FOLDERS } from "./messages.ts";
import { closeFd, newStat, O, openAt, openFd, statAt, statFd } from "../sys/mod.ts";

/** Conversions of which it is remembered whether others may be made along with them. */
const FORMS_MAX = 1000;

export class ConvertedFiles {
  readonly #dir: HostPath;
  readonly #contextsPath: HostPath;
  /** Of those that are there. */
  readonly #dirFds = new Map<string, number>();
  #reader: ContextReader | null = null;
  readonly #filtered = new LRUCache<Suffix, boolean>({
    maxSize: FORMS_MAX,
    sizeCalculation: () => 1,
  });
  readonly #stat = newStat();

  constructor(dir: HostPath, contextsPath: HostPath) {
    this.#dir = dir;
    this.#contextsPath = contextsPath;
  }

  /** Of a directory; null: it shows everything as it is. Throws FsError. */
  context(id: BaseId): Context | null {
    const suffix = suffixOf(id);
    if (suffix === null) return null;
    const context = this.#contexts()?.context(suffix) ?? null;
    if (context === null) throw new FsError(ERRNO.EIO, `context ${suffix} is gone`);
    return context;
  }

  /** A driver makes it: who knows what, another time. */
  isDriven(id: BaseId): boolean {
    const suffix = suffixOf(id);
    if (suffix === null) return false;
    let filtered = this.#filtered.get(suffix);
    if (filtered === undefined) {
      filtered = (this.#contexts()?.conversion(suffix)?.filter ?? null) !== null;
      this.#filtered.set(suffix, filtered);
    }
    return filtered;
  }

  /** Undefined: it is not converted yet. */
  size(id: BaseId): number | undefined {
    return this.#inFolders(id, (dirFd) => statAt(dirFd, id, this.#stat).sizeBytes);
  }

  /** To be closed; undefined: it is not converted yet. */
  open(id: BaseId): { readonly fd: number; readonly sizeBytes: number } | undefined {
    return this.#inFolders(id, (dirFd) => {
      const fd = openAt(dirFd, id, O.RDONLY);
      return { fd, sizeBytes: statFd(fd, this.#stat).sizeBytes };
    });
  }

  close(): void {
    for (const fd of this.#dirFds.values()) closeFd(fd);
    this.#dirFds.clear();
    this.#reader?.close();
    this.#reader = null;
  }

  #inFolders<T>(id: BaseId, take: (dirFd: number) => T): T | undefined {
    if (!isConverted(id)) return undefined;
    for (const folder of CONVERTED_FOLDERS) {
      try {
        return take(this.#folder(folder));
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
      }
    }
    return undefined;
  }

  /** They come with the first conversion. Throws FsError. */
  #folder(name: string): number {
    const fd = this.#dirFds.get(name) ?? openFd(`${this.#dir}/${name}`, O.RDONLY | O.DIRECTORY);
    this.#dirFds.set(name, fd);
    return fd;
  }

  #contexts(): ContextReader | null {
    return this.#reader ??= ContextReader.open(this.#contextsPath);
  }
}
