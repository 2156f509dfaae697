/** The tree that a run starts from: a commit, and the same as plain files. */

import { ObjectWriter, TreeBuilder } from "../support/git_objects.ts";
import { chmod, mkdir, symlink, utimens } from "../support/raw_change.ts";
import * as raw from "../support/raw_fs.ts";
import type { ByteString } from "../support/raw_fs.ts";
import { git } from "../support/run.ts";
import { pattern } from "./op.ts";

interface Entry {
  readonly mode: "100644" | "100755" | "120000";
  readonly content: Uint8Array<ArrayBuffer>;
}

/** More than is ever held in memory, so that it is spooled. */
const LARGE_BYTES = 1_300_000;

function file(length: number, seed: number): Entry {
  return { mode: "100644", content: pattern({ length, seed }) };
}

function link(target: ByteString): Entry {
  return { mode: "120000", content: raw.toBytes(target) };
}

/** In each of some directories. */
const PARTS: Readonly<Record<ByteString, Entry>> = {
  "f0": file(10, 1),
  "f1": file(5000, 2),
  "f2": file(0, 3),
  "f3": file(70_000, 4),
  "exec": { mode: "100755", content: raw.toBytes("#!/bin/sh\nexit 7\n") },
  "link": link("f0"),
  "dangling": link("nowhere"),
  "sub/s0": file(4096, 5),
  "sub/s1": file(9000, 6),
  "sub/deep/d0": file(300, 7),
  "sub/deep/d1": file(12_000, 8),
  "sub/deep/er/e0": file(1, 9),
  "sublink": link("sub"),
  "bytes\xff": file(77, 10),
};

/** The names of all that is in the base. */
export const BASE_NAMES: readonly ByteString[] = [
  ...new Set(Object.keys(PARTS).flatMap((path) => path.split("/"))),
];

/** Directories that have these parts. */
const TOPS = ["a", "a/lib", "b", "b/sub", "top", "top/lib", "other"];

function* entries(): Generator<[ByteString, Entry]> {
  for (const [i, top] of TOPS.entries()) {
    for (const [path, entry] of Object.entries(PARTS)) {
      // No two alike, so that none is hydrated with another.
      const own = entry.mode === "100644" && entry.content.length > 1;
      const content = own ? entry.content.map((byte) => byte + i) : entry.content;
      yield [`${top}/${path}`, { ...entry, content }];
    }
    for (let n = 0; n < 8; n++) yield [`${top}/many/m${n}`, file(100 * n, 100 * i + n)];
  }
  yield ["a/large", file(LARGE_BYTES, 20)];
  yield ["large", file(LARGE_BYTES, 21)];
}

/** A bare repository with one commit. */
export async function commitBase(gitDir: string): Promise<void> {
  await git(["init", "--quiet", "--bare", "--initial-branch=main", gitDir]);
  const writer = new ObjectWriter("sha1");
  const tree = new TreeBuilder();
  for (const [path, { mode, content }] of entries()) {
    tree.put(path, mode, writer.add("blob", content));
  }
  const head = writer.commit(tree.write(writer), [], 0, "base");
  await writer.flush(gitDir);
  await git(["-C", gitDir, "update-ref", "refs/heads/main", head]);
}

/** Writes it into a directory that exists, with these times. Throws RawFsError. */
export function writeBase(root: string, timeNs: bigint): void {
  const made = new Set<ByteString>([""]);
  for (const [path, { mode, content }] of entries()) {
    for (let at = path.indexOf("/"); at >= 0; at = path.indexOf("/", at + 1)) {
      const parent = path.slice(0, at);
      if (!made.has(parent)) mkdir(`${root}/${parent}`, 0o755);
      made.add(parent);
    }
    const at = `${root}/${path}`;
    if (mode === "120000") symlink(content, at);
    else {
      const fd = raw.open(at, raw.O_WRONLY | raw.O_CREAT | raw.O_EXCL);
      if (content.length > 0) raw.write(fd, content);
      raw.close(fd);
      chmod(at, mode === "100755" ? 0o755 : 0o644);
    }
    utimens(at, [timeNs, timeNs], raw.AT_SYMLINK_NOFOLLOW);
  }
  for (const directory of made) utimens(`${root}/${directory}`, [timeNs, timeNs]);
}
