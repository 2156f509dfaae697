/**
 * A repository of files that are to be touched for the first time: each in a directory of its own,
 * so that nothing else brings it along.
 */

import { createHash } from "node:crypto";
import { latin1, ObjectWriter, Random, TreeBuilder } from "../support/git_objects.ts";
import { git } from "../support/run.ts";

export interface TouchFile {
  path: string;
  sizeBytes: number;
  sha256: string;
  oid: string;
}

export interface TouchRepo {
  gitDir: string;
  headOid: string;
  /** `one/file`, 70,001 bytes: no multiple of a page. */
  one: TouchFile;
  /** Equal neighbours in `group/`. */
  group: TouchFile[];
  /** `script/run.sh` and `binary/echo`, both print what they are given. */
  script: string;
  binary: string;
  /** `link/link`, names LINK_TARGET. */
  link: string;
  /** `many/`, MANY files of some bytes. */
  many: string[];
  /** `parked/D/file`, PARKED directories. */
  parked: string[];
}

export const LINK_TARGET = "../one/file";
const ONE_BYTES = 70_001;
const MANY = 300;
const PARKED = 500;

export async function makeTouchRepo(gitDir: string): Promise<TouchRepo> {
  await git(["init", "--quiet", "--bare", "--template=", "--initial-branch=main", gitDir]);
  const writer = new ObjectWriter("sha1");
  const tree = new TreeBuilder();
  const random = new Random(7);
  const put = (path: string, bytes: Uint8Array, mode = "100644"): TouchFile => {
    const oid = writer.blob(bytes);
    tree.put(path, mode, oid);
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    return { path, sizeBytes: bytes.length, sha256, oid };
  };
  const one = put("one/file", random.bytes(ONE_BYTES));
  const group = Array.from({ length: 5 }, (_, i) => put(`group/${i}`, random.bytes(5000 + i)));
  put("script/run.sh", latin1('#!/bin/sh\necho "script $1"\n'), "100755");
  put("binary/echo", await Deno.readFile("/bin/echo"), "100755");
  tree.put("link/link", "120000", writer.blob(LINK_TARGET));
  const many = Array.from({ length: MANY }, (_, i) => {
    const path = `many/${"n".repeat(i % 50)}-${i}`;
    put(path, latin1(`${i}\n`));
    return path;
  });
  const parked = Array.from({ length: PARKED }, (_, i) => {
    const path = `parked/${i}/file`;
    put(path, latin1(`parked ${i}\n`));
    return path;
  });
  const headOid = writer.commit(tree.write(writer), [], 0, "touch");
  await writer.flush(gitDir);
  await git(["--git-dir", gitDir, "update-ref", "refs/heads/main", headOid]);
  return {
    gitDir,
    headOid,
    one,
    group,
    script: "script/run.sh",
    binary: "binary/echo",
    link: "link/link",
    many,
    parked,
  };
}
