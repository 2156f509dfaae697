/**
 * Blobs that lie in a user's git directory, because the user's git has fetched or made them: read
 * in this thread, without a process.
 *
 *   state      event                                     next     packs
 *   unseen     somebody asks                             seen     opened, those that are there
 *   seen       asked, `objects/pack` has not changed     seen     the same
 *   seen       asked, it has changed, or may have        seen     closed, and opened anew
 *   any        close                                     unseen   closed
 *
 * Loose objects are looked for by their path, each time.
 *
 * Invariants
 *  1. The directory is hostile input. Bytes are given out only if their hash is the object's name.
 *  2. No name leads out of it, to another file system (not to our own mounts either), or to what
 *     is not the owner's or root's: nobody reads here what the owner could not (openBeneath).
 *  3. Nothing waits, and time and memory are bounded: regular files only, PACKS_MAX packs, objects
 *     of OBJECT_BYTES_MAX. What is more, or damaged, is as if it were not there.
 *  4. No configuration and no alternates are read: whatever else is named there is not looked at.
 *  5. A pack that the owner's gc removes is read on, and closed at the next look.
 */

import { createHash } from "node:crypto";
import { inflateSync } from "node:zlib";
import { ERRNO, FsError } from "../errno.ts";
import {
  closeFd,
  fileClock,
  type FileStat,
  namesIn,
  newStat,
  O,
  openBeneath,
  openFd,
  ownedStatFd,
  preadFull,
  statFd,
} from "../sys/mod.ts";
import type { ObjectFormat, Oid } from "./oid.ts";
import type { RandomFile } from "./pack_index.ts";
import { compressedBytesMax, OBJECT_BYTES_MAX } from "./pack_object.ts";
import { type PackFolder, PackReader } from "./pack_reader.ts";

/** Packs that are read: those that came last. */
const PACKS_MAX = 64;
const NAMES_MAX = 4096;
/** Loose objects of one first byte; git packs at 27 of them. */
const LOOSE_MAX = 100_000;
/** A folder that changed so lately may change again within the same tick of its clock. */
const RACY_MS = 100;
/** `blob 1048576` and a NUL. */
const LOOSE_HEADER_BYTES_MAX = 32;

const S_IFMT = 0o170000;
const S_IFREG = 0o100000;

export interface UserObjectsOptions {
  /**
   * Absolute. What is above it is ours: a link there could lead into a mount of ours, and this
   * thread would wait for itself. Null: it lies elsewhere, and nothing of it is to be had here.
   */
  readonly gitDir: string | null;
  /** Its owner. */
  readonly uid: number;
  readonly objectFormat: ObjectFormat;
}

export class UserObjects {
  readonly #options: UserObjectsOptions;
  /** Of the folder that the git directory is in, and its path from there. */
  #parentFd: number | null = null;
  readonly #objects: string;
  #packs: PackReader | null = null;
  /** What `objects/pack` was like when it was looked at; null: look again. */
  #stamp: string | null = null;
  #leftOut = false;

  constructor(options: UserObjectsOptions) {
    this.#options = options;
    const { gitDir } = options;
    this.#objects = `${gitDir?.slice(gitDir.lastIndexOf("/") + 1)}/objects`;
  }

  /** A blob of at most `maxBytes`; undefined: not to be had here. Never throws. */
  read(oid: Oid, maxBytes = OBJECT_BYTES_MAX): Uint8Array<ArrayBuffer> | undefined {
    try {
      return this.#look().read(oid, "blob", maxBytes) ?? this.#readLoose(oid, maxBytes);
    } catch {
      return undefined;
    }
  }

  /** Those that seem to be there, of whatever type and size. Never throws. */
  present(oids: readonly Oid[]): Oid[] {
    let packs: PackReader;
    try {
      packs = this.#look();
    } catch {
      return [];
    }
    const others = oids.filter((oid) => !packs.has(oid));
    const loose = new Set(this.#presentLoose(others));
    const absent = new Set(others.filter((oid) => !loose.has(oid)));
    return oids.filter((oid) => !absent.has(oid));
  }

  #presentLoose(oids: readonly Oid[]): Oid[] {
    return [...Map.groupBy(oids, (oid) => oid.slice(0, 2))].flatMap(([folder, ofFolder]) => {
      const names = this.#looseIn(folder);
      return ofFolder.filter((oid) => names.has(oid.slice(2)));
    });
  }

  #looseIn(folder: string): ReadonlySet<string> {
    try {
      const fd = openBeneath(this.#parent(), `${this.#objects}/${folder}`, O.DIRECTORY);
      try {
        return new Set(namesIn(fd, LOOSE_MAX));
      } finally {
        closeFd(fd);
      }
    } catch {
      return new Set();
    }
  }

  /**
   * Whether all objects that git finds there are found here too; `alternates`: of that content, the
   * file adds none. Never throws.
   */
  isWhole(alternates: string): boolean {
    try {
      const packs = this.#look();
      // Opens them.
      packs.has("0".repeat(40) as Oid);
      return !this.#leftOut && packs.unreadable === 0 && this.#isPlain(alternates);
    } catch {
      return false;
    }
  }

  close(): void {
    this.#closePacks();
    if (this.#parentFd !== null) closeFd(this.#parentFd);
    this.#parentFd = null;
  }

  #isPlain(alternates: string): boolean {
    let file: RandomFile;
    try {
      file = this.#openFile("info/alternates");
    } catch (error) {
      return error instanceof FsError && error.errno === ERRNO.ENOENT;
    }
    try {
      const { length } = new TextEncoder().encode(alternates);
      const bytes = new Uint8Array(length);
      file.readAt(0, bytes);
      return file.sizeBytes === length && new TextDecoder().decode(bytes) === alternates;
    } finally {
      file.close();
    }
  }

  #closePacks(): void {
    this.#packs?.close();
    this.#packs = null;
    this.#stamp = null;
  }

  /** The packs that are there now. Throws FsError. */
  #look(): PackReader {
    const fd = openBeneath(this.#parent(), `${this.#objects}/pack`, O.DIRECTORY);
    try {
      const stat = statFd(fd, newStat());
      const stamp = stampOf(stat);
      if (this.#packs !== null && this.#stamp === stamp) return this.#packs;
      this.#closePacks();
      // Looked at before it is listed: what comes in between is seen the next time.
      const isSettled = millisecondsOf(fileClock()) - millisecondsOf(mtimeOf(stat)) > RACY_MS;
      const names = this.#namesOfPacks(fd);
      this.#packs = new PackReader(this.#folderOf(names), this.#options.objectFormat);
      if (isSettled) this.#stamp = stamp;
      return this.#packs;
    } finally {
      closeFd(fd);
    }
  }

  /** Without a suffix. */
  #namesOfPacks(fd: number): string[] {
    const names = namesIn(fd, NAMES_MAX);
    this.#leftOut = names.length >= NAMES_MAX;
    const packs = names.flatMap((name) => /^(pack-[0-9a-f]{40,64})\.idx$/.exec(name)?.[1] ?? []);
    if (packs.length <= PACKS_MAX) return packs;
    this.#leftOut = true;
    const times = new Map(packs.map((name) => [name, this.#timeOf(name)]));
    const newest = packs.sort((a, b) => (times.get(b) as number) - (times.get(a) as number));
    return newest.slice(0, PACKS_MAX);
  }

  #timeOf(name: string): number {
    try {
      const fd = openBeneath(this.#parent(), `${this.#objects}/pack/${name}.idx`);
      try {
        return millisecondsOf(mtimeOf(statFd(fd, newStat())));
      } finally {
        closeFd(fd);
      }
    } catch {
      return 0;
    }
  }

  #folderOf(names: readonly string[]): PackFolder {
    return {
      names: () => names.map((name) => `pack/${name}.idx`),
      open: (path) => this.#openFile(path),
    };
  }

  /** Below `objects`. Throws FsError, or Error when it is no file of the owner's. */
  #openFile(path: string): RandomFile {
    const fd = openBeneath(this.#parent(), `${this.#objects}/${path}`);
    try {
      const { mode, uid, sizeBytes } = ownedStatFd(fd);
      if ((mode & S_IFMT) !== S_IFREG) throw new Error("not a file");
      // By a hard link it may be somebody else's.
      if (uid !== this.#options.uid && uid !== 0) throw new Error("not the owner's");
      return {
        sizeBytes,
        readAt: (offset, into) => preadFull(fd, into, offset),
        close: () => closeFd(fd),
      };
    } catch (error) {
      closeFd(fd);
      throw error;
    }
  }

  /** Throws when there is none that is whole. */
  #readLoose(oid: Oid, maxBytes: number): Uint8Array<ArrayBuffer> | undefined {
    const file = this.#openFile(loosePath(oid));
    let packed: Uint8Array<ArrayBuffer>;
    try {
      const inflatedMax = maxBytes + LOOSE_HEADER_BYTES_MAX;
      if (file.sizeBytes > compressedBytesMax(inflatedMax)) return undefined;
      packed = new Uint8Array(file.sizeBytes);
      file.readAt(0, packed);
    } finally {
      file.close();
    }
    const all = inflateSync(packed, { maxOutputLength: maxBytes + LOOSE_HEADER_BYTES_MAX });
    if (createHash(this.#options.objectFormat).update(all).digest("hex") !== oid) return undefined;
    const headerEnd = all.indexOf(0) + 1;
    if (!/^blob \d+\0$/.test(all.subarray(0, headerEnd).toString("latin1"))) return undefined;
    if (all.length - headerEnd > maxBytes) return undefined;
    return new Uint8Array(all.subarray(headerEnd));
  }

  #parent(): number {
    const { gitDir } = this.#options;
    if (gitDir === null) throw new FsError(ERRNO.ENOENT);
    const parent = gitDir.slice(0, gitDir.lastIndexOf("/"));
    return this.#parentFd ??= openFd(parent, O.PATH | O.DIRECTORY);
  }
}

function loosePath(oid: Oid): string {
  return `${oid.slice(0, 2)}/${oid.slice(2)}`;
}

interface Time {
  readonly seconds: number;
  readonly nanoseconds: number;
}

function mtimeOf({ mtimeSeconds, mtimeNanoseconds }: FileStat): Time {
  return { seconds: mtimeSeconds, nanoseconds: mtimeNanoseconds };
}

function millisecondsOf({ seconds, nanoseconds }: Time): number {
  return 1000 * seconds + nanoseconds / 1e6;
}

/** Changes with every file that comes or goes. */
function stampOf(stat: FileStat): string {
  const { mtimeSeconds, mtimeNanoseconds, ctimeSeconds, ctimeNanoseconds } = stat;
  return `${mtimeSeconds} ${mtimeNanoseconds} ${ctimeSeconds} ${ctimeNanoseconds}`;
}
