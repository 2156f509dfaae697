/**
 * Names and paths. A file name in a repository is any bytes but NUL and `/`, so inside afs a name
 * is a byte string: a JavaScript string with one char code (0-255) per byte. V8 keeps such strings
 * at one byte per character, they compare and hash fast, and nothing is lost.
 */

declare const brand: unique symbol;

/** One path component as a byte string. */
export type Name = string & { readonly [brand]: "Name" };
/** A path relative to the repository's root as a byte string; no leading slash, root is "". */
export type RepoPath = string & { readonly [brand]: "RepoPath" };
/** An absolute path on the host, an ordinary string. */
export type HostPath = string & { readonly [brand]: "HostPath" };

/** NAME_MAX of Linux: longer names get ENAMETOOLONG, and are hidden when a tree has them. */
export const NAME_MAX_BYTES = 255;

/** So many arguments a call may have. */
const CHUNK_BYTES = 4096;

const latin1 = new TextDecoder("latin1");
const utf8 = new TextEncoder();

/** The byte string of `bytes`. (The latin1 decoder of the platform is windows-1252: not exact.) */
export function byteString(bytes: Uint8Array): string {
  let out = "";
  // Most names are ASCII, for which the fast decoder is exact.
  let ascii = true;
  for (let i = 0; i < bytes.length; i++) {
    if ((bytes[i] as number) >= 0x80) {
      ascii = false;
      break;
    }
  }
  if (ascii) return latin1.decode(bytes);
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    out += String.fromCharCode(...bytes.subarray(at, at + CHUNK_BYTES));
  }
  return out;
}

/** The bytes of a byte string. */
export function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

/** The byte string of an ordinary string in UTF-8. */
export function byteStringOfText(text: string): string {
  return byteString(utf8.encode(text));
}

/** Whether a mount may show this name: see design "hostile repository". */
export function isSafeName(name: string): boolean {
  return name.length > 0 && name.length <= NAME_MAX_BYTES && name !== "." && name !== ".." &&
    !name.includes("/") && !name.includes("\0");
}

/** The directory of a path; of a name in the root, and of the root, "". */
export function parentOf(path: RepoPath): RepoPath {
  return path.slice(0, Math.max(0, path.lastIndexOf("/"))) as RepoPath;
}

export function baseNameOf(path: RepoPath): Name {
  return path.slice(path.lastIndexOf("/") + 1) as Name;
}

/** A name in a directory. `name` may have a slash at its end. */
export function joinPath(directory: RepoPath, name: string): RepoPath {
  return (directory === "" ? name : `${directory}/${name}`) as RepoPath;
}
