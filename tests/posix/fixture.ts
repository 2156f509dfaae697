/**
 * The files that cases start from. What git can keep, and no more: modes 644 and 755, no empty
 * directory, no times. Written into a directory, or committed once per case, so that one mount
 * serves all cases.
 */

import { ObjectWriter, TreeBuilder } from "../support/git_objects.ts";
import { mkdir, symlink } from "../support/raw_change.ts";
import {
  type ByteString,
  close,
  O_CREAT,
  O_EXCL,
  O_WRONLY,
  open,
  toBytes,
  write,
} from "../support/raw_fs.ts";
import { git } from "../support/run.ts";

/** `small`: one of each kind; `many`: a directory of 300 files; `large`: a file of 3 MiB. */
export type Part = "small" | "many" | "large";

export const MANY = 300;
export const LARGE_BYTES = 3 << 20;
/** What each file of `many` holds. */
export const MANY_CONTENT = "0123456789";

interface Entry {
  readonly path: ByteString;
  readonly mode: "100644" | "100755" | "120000";
  /** Or the target of a link. */
  readonly content: Uint8Array<ArrayBuffer>;
}

/** Bytes that differ from page to page, the same at every run. */
export function pattern(length: number, seed = 1): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(length);
  for (let i = 0; i < length; i++) out[i] = (i * 31 + (i >> 8) * 7 + (i >> 16) + seed) & 0xff;
  return out;
}

/** The n-th file of `many`. */
export function manyName(n: number): ByteString {
  return `many/e${String(n).padStart(3, "0")}`;
}

function file(path: ByteString, content: Uint8Array<ArrayBuffer> | string): Entry {
  const bytes = typeof content === "string" ? toBytes(content) : content;
  return { path, mode: "100644", content: bytes };
}

function link(path: ByteString, target: ByteString): Entry {
  return { path, mode: "120000", content: toBytes(target) };
}

const PARTS: Readonly<Record<Part, readonly Entry[]>> = {
  small: [
    file("file", pattern(5000)),
    file("text", "hello\n"),
    { ...file("exec", "#!/bin/sh\nexit 7\n"), mode: "100755" },
    file("empty", ""),
    link("link", "file"),
    link("dangling", "nowhere"),
    link("dirlink", "dir"),
    file("dir/a", "in dir\n"),
    file("dir/b", pattern(4096, 2)),
    file("dir/sub/leaf", "leaf\n"),
    file("other/x", "x\n"),
    file("caf\xe9", "a name that is not UTF-8\n"),
  ],
  many: Array.from({ length: MANY }, (_, n) => file(manyName(n), MANY_CONTENT)),
  large: [file("large", pattern(LARGE_BYTES, 3))],
};

function entriesOf(parts: readonly Part[]): readonly Entry[] {
  return parts.flatMap((part) => PARTS[part]);
}

/** Writes the parts into a directory that exists. Throws RawFsError. */
export function writeFixture(root: ByteString, parts: readonly Part[]): void {
  const made = new Set<ByteString>();
  for (const { path, mode, content } of entriesOf(parts)) {
    for (let at = path.indexOf("/"); at >= 0; at = path.indexOf("/", at + 1)) {
      const parent = path.slice(0, at);
      if (!made.has(parent)) mkdir(`${root}/${parent}`);
      made.add(parent);
    }
    if (mode === "120000") {
      symlink(content, `${root}/${path}`);
      continue;
    }
    const permissions = mode === "100755" ? 0o755 : 0o644;
    const fd = open(`${root}/${path}`, O_WRONLY | O_CREAT | O_EXCL, permissions);
    if (content.length > 0) write(fd, content);
    close(fd);
  }
}

/** A bare repository whose one commit has these directories, each with its parts. */
export async function commitFixture(
  gitDir: string,
  directories: ReadonlyMap<string, readonly Part[]>,
): Promise<void> {
  await git(["init", "--quiet", "--bare", "--initial-branch=main", gitDir]);
  const writer = new ObjectWriter("sha1");
  const tree = new TreeBuilder();
  // A commit of nothing would be no tree to mount.
  tree.put("README", "100644", writer.add("blob", toBytes("cases\n")));
  const oids = new Map<Entry, string>();
  for (const [directory, parts] of directories) {
    for (const entry of entriesOf(parts)) {
      let oid = oids.get(entry);
      if (oid === undefined) oids.set(entry, oid = writer.add("blob", entry.content));
      tree.put(`${directory}/${entry.path}`, entry.mode, oid);
    }
  }
  const head = writer.commit(tree.write(writer), [], 0, "fixture");
  await writer.flush(gitDir);
  await git(["-C", gitDir, "update-ref", "refs/heads/main", head]);
}
