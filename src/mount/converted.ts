/**
 * What main has converted for this mount (src/repo/converter.ts): files, named by what they show,
 * that never change; and what ids with a suffix mean.
 */

import { LRUCache } from "lru-cache";
import { ERRNO, FsError } from "../errno.ts";
import { type BaseId, isConverted, type Suffix, suffixOf } from "../git/base_id.ts";
import type { HostPath } from "../path.ts";
import { type Context, ContextReader } from "../snapshot/contexts.ts";
import { closeFd, newStat, O, openAt, openFd, statAt, statFd } from "../sys/mod.ts";

/** Conversions of which it is remembered whether others may be made along with them. */
const FORMS_MAX = 1000;

export class ConvertedFiles {
  readonly #dir: HostPath;
  readonly #contextsPath: HostPath;
  #dirFd: number | null = null;
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

  /** A file that may be made because another one of its directory is: no driver runs for it. */
  mayComeAlong(id: BaseId): boolean {
    const suffix = suffixOf(id);
    if (suffix === null) return false;
    let filtered = this.#filtered.get(suffix);
    if (filtered === undefined) {
      filtered = (this.#contexts()?.conversion(suffix)?.filter ?? null) !== null;
      this.#filtered.set(suffix, filtered);
    }
    return !filtered;
  }

  /** Undefined: it is not converted yet. */
  size(id: BaseId): number | undefined {
    const dirFd = this.#folder();
    if (dirFd === null || !isConverted(id)) return undefined;
    try {
      return statAt(dirFd, id, this.#stat).sizeBytes;
    } catch {
      return undefined;
    }
  }

  /** To be closed; undefined: it is not converted yet. */
  open(id: BaseId): { readonly fd: number; readonly sizeBytes: number } | undefined {
    const dirFd = this.#folder();
    if (dirFd === null) return undefined;
    try {
      const fd = openAt(dirFd, id, O.RDONLY);
      return { fd, sizeBytes: statFd(fd, this.#stat).sizeBytes };
    } catch {
      return undefined;
    }
  }

  close(): void {
    if (this.#dirFd !== null) closeFd(this.#dirFd);
    this.#dirFd = null;
    this.#reader?.close();
    this.#reader = null;
  }

  /** Null: nothing was ever converted. */
  #folder(): number | null {
    if (this.#dirFd !== null) return this.#dirFd;
    try {
      this.#dirFd = openFd(this.#dir, O.RDONLY | O.DIRECTORY);
    } catch {
      // It comes with the first conversion.
    }
    return this.#dirFd;
  }

  #contexts(): ContextReader | null {
    return this.#reader ??= ContextReader.open(this.#contextsPath);
  }
}
