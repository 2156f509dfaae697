/**
 * The index of a new mount, made from the one that `git read-tree` wrote: with the stat data that the
 * mount reports, every entry valid for the file monitor, and every directory known to have nothing
 * untracked. The first `git status` then opens no directory, and reads no file but some .gitignore.
 *
 * The file has to be newer than every mtime in it: else git compares contents (is_racy_timestamp)
 * and stats all entries whenever it writes the index.
 *
 * A mount waits for this, so entries are changed where they are, without an object for each.
 */

import { byteString, byteStringOfText, type HostPath, NAME_MAX_BYTES } from "../path.ts";
import { fsmonitorExtension } from "./fsmonitor.ts";
import { IndexError } from "./index_bytes.ts";
import {
  type FileStat,
  GITLINK_MODE,
  openIndex,
  type RawEntry,
  readExtensions,
  replaceExtension,
  S_IFDIR,
  S_IFMT,
  S_IFREG,
  sealIndex,
  walkEntries,
  writeStat,
} from "./index_file.ts";
import { hexOf, type ObjectFormat, type Oid, OID_BYTES } from "./oid.ts";
import { ATTRIBUTES_FILE, IGNORE_FILE } from "./rule_files.ts";
import {
  freshDirectory,
  freshUntrackedCache,
  type UntrackedDirectory,
  untrackedExtension,
} from "./untracked_cache.ts";

/** What st_ino will be in the mount. */
export interface Inos {
  readonly root: number;
  ofDirectory(parentIno: number, name: string): number;
  /** Of anything else: its name, and the bytes of its oid. */
  ofFile(
    parentIno: number,
    name: Uint8Array,
    nameFrom: number,
    nameEnd: number,
    oid: Uint8Array,
    oidFrom: number,
    oidEnd: number,
  ): number;
}

export interface FirstIndex {
  readonly format: ObjectFormat;
  /** Of the file monitor: nothing has changed since. */
  readonly token: string;
  /** Absolute, without symbolic links. */
  readonly workTree: HostPath;
  /** Content of info/exclude. */
  readonly exclude: Uint8Array;
  /** What lstat(2) will say of every entry, but for its ino. */
  readonly stat: FileStat;
  readonly inos: Inos;
  /** Told of each attributes file. */
  readonly onAttributes?: (oid: Oid) => void;
}

/** Nobody can open a path that is so long; and how deep it goes costs time. */
const PATH_MAX_BYTES = 4096;
const SLASH = 0x2f;
const DOT = 0x2e;

/** Changes `written`, which is of no use then. Throws IndexError. */
export function firstIndex(
  written: Uint8Array<ArrayBuffer>,
  options: FirstIndex,
): Uint8Array<ArrayBuffer> {
  const { format, stat, inos } = options;
  const file = openIndex(written, format);
  const { bytes, view } = file;
  const directories = new Directories(inos);
  const dirty = new Uint8Array(file.count);
  let rank = 0;
  const end = walkEntries(file, (raw) => {
    const { at, mode, path, pathFrom, pathEnd, oidAt } = raw;
    if (pathEnd - pathFrom >= PATH_MAX_BYTES) throw new IndexError("a path that is too long");
    if ((mode & S_IFMT) === S_IFDIR) throw new IndexError("a sparse index");
    const place = directories.enter(raw);
    const nameFrom = pathFrom + place.prefixBytes;
    const oidEnd = oidAt + OID_BYTES[format];
    const ino = inos.ofFile(place.ino, path, nameFrom, pathEnd, bytes, oidAt, oidEnd);
    writeStat(view, at, stat, ino, mode);
    const hidden = place.hidden || pathEnd - nameFrom > NAME_MAX_BYTES;
    if (hidden || mode === GITLINK_MODE) dirty[rank] = 1;
    // Git follows no link to either of them.
    if (path[nameFrom] === DOT && (mode & S_IFMT) === S_IFREG) {
      const name = byteString(path.subarray(nameFrom, pathEnd));
      if (name === IGNORE_FILE) place.directory.ignoreOid = hexOf(bytes, oidAt, OID_BYTES[format]);
      else if (name === ATTRIBUTES_FILE) {
        place.directory.hasAttributes = true;
        options.onAttributes?.(hexOf(bytes, oidAt, OID_BYTES[format]));
      }
    }
    rank++;
  });
  const cache = freshUntrackedCache({ ...options, root: directories.root });
  const token = byteStringOfText(options.token);
  const extensions = [untrackedExtension(cache, format), fsmonitorExtension({ token, dirty })];
  return sealIndex(
    bytes.subarray(0, end),
    extensions.reduce(replaceExtension, readExtensions(file, end)),
    format,
  );
}

interface Place {
  readonly directory: UntrackedDirectory;
  readonly ino: number;
  /** Its path and a slash; 0: the root. */
  readonly prefixBytes: number;
  /** A mount hides names that are too long for the kernel: git has to see that they are gone. */
  readonly hidden: boolean;
}

/** The directories of an index, as its entries come: all of one directory are together. */
class Directories {
  readonly root = freshDirectory("");
  readonly #inos: Inos;
  /** From the root to the directory of the entry before. */
  readonly #places: Place[];
  #place: Place;

  constructor(inos: Inos) {
    this.#inos = inos;
    this.#place = { directory: this.root, ino: inos.root, prefixBytes: 0, hidden: false };
    this.#places = [this.#place];
  }

  /** The directory of the entry that comes next. */
  enter({ path, pathFrom, pathEnd, common }: RawEntry): Place {
    while (this.#place.prefixBytes > common) {
      this.#places.pop();
      this.#place = this.#places.at(-1) as Place;
    }
    // In what is as before there is no other slash.
    for (let i = pathFrom + common; i < pathEnd; i++) {
      if (path[i] !== SLASH) continue;
      const above = this.#place;
      const name = byteString(path.subarray(pathFrom + above.prefixBytes, i));
      const directory = freshDirectory(name);
      above.directory.directories.push(directory);
      this.#place = {
        directory,
        ino: this.#inos.ofDirectory(above.ino, name),
        prefixBytes: i + 1 - pathFrom,
        hidden: above.hidden || name.length > NAME_MAX_BYTES,
      };
      this.#places.push(this.#place);
    }
    return this.#place;
  }
}
