/** Raw tree objects: `<octal mode> <name> NUL <raw oid>`, again and again (git: tree-walk.c). */

import { byteString, isSafeName, type Name } from "../path.ts";
import { hexOf, type ObjectFormat, type Oid, OID_BYTES } from "./oid.ts";

/** What a tree entry becomes in a work tree. */
export type EntryKind = "file" | "executable" | "symlink" | "directory" | "gitlink";

export interface TreeEntry {
  readonly name: Name;
  readonly kind: EntryKind;
  readonly oid: Oid;
}

const S_IFMT = 0o170000;
const KINDS: ReadonlyMap<number, EntryKind> = new Map([
  [0o100000, "file"],
  [0o120000, "symlink"],
  [0o040000, "directory"],
  [0o160000, "gitlink"],
]);

/** canon_mode of git: only the owner's execute bit of a file counts. Null: no such kind. */
function kindOf(mode: number): EntryKind | null {
  const kind = KINDS.get(mode & S_IFMT);
  if (kind === "file" && (mode & 0o100) !== 0) return "executable";
  return kind ?? null;
}

export interface ParsedTree {
  /** In the tree's own order, which is the order of cookies in READDIR. */
  readonly entries: readonly TreeEntry[];
  /** Entries that a work tree may not have: unsafe or repeated names, unknown modes. */
  readonly hidden: number;
}

const SPACE = 0x20;
const ZERO = 0x30;
const SEVEN = 0x37;

/**
 * Entries that are safe to show. Of entries with one name the first counts, as for git's own
 * look-ups. A tree that ends in the middle of an entry shows what came before.
 */
export function parseTree(raw: Uint8Array, format: ObjectFormat): ParsedTree {
  const oidBytes = OID_BYTES[format];
  const entries: TreeEntry[] = [];
  const seen = new Set<string>();
  let hidden = 0;
  let at = 0;
  while (at < raw.length) {
    let mode = 0;
    let digit = raw[at];
    while (digit !== undefined && digit >= ZERO && digit <= SEVEN) {
      mode = mode * 8 + digit - ZERO;
      digit = raw[++at];
    }
    const end = raw.indexOf(0, at);
    if (digit !== SPACE || end < 0 || end + 1 + oidBytes > raw.length) {
      hidden++;
      break;
    }
    const name = byteString(raw.subarray(at + 1, end)) as Name;
    const kind = kindOf(mode);
    at = end + 1 + oidBytes;
    if (kind === null || !isSafeName(name) || isDotGit(name) || seen.has(name)) {
      hidden++;
      continue;
    }
    seen.add(name);
    entries.push({ name, kind, oid: hexOf(raw, end + 1, oidBytes) });
  }
  return { entries, hidden };
}

/**
 * Names git itself refuses in an index (verify_path, is_hfs_dotgit and is_ntfs_dotgit aside, which
 * matter on other systems): `.git` in any case, in any directory.
 */
function isDotGit(name: string): boolean {
  return name.length === 4 && name.toLowerCase() === ".git";
}
