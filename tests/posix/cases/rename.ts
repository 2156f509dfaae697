/** rename(2), renameat2(2). */

import { by, compared, fails, mountFails, named, type PosixCase } from "../case.ts";
import { manyName } from "../fixture.ts";
import * as c from "../syscalls.ts";

const { RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT } = c;

/** One of each kind, by what rename(2) makes of it. */
const KINDS = ["file", "link", "fifo", "empty-dir", "full-dir", "missing"] as const;

function makeKind(s: c.Sys, kind: (typeof KINDS)[number], path: string): void {
  switch (kind) {
    case "file":
      return s.put(path, path);
    case "link":
      return s.symlink("anything", path);
    case "fifo":
      return s.mknod(path, c.S_IFIFO | 0o644);
    case "empty-dir":
      return s.mkdir(path);
    case "full-dir":
      s.mkdir(path);
      return s.put(`${path}/in`, path);
    case "missing":
  }
}

const PAIRS = KINDS.flatMap((from) => KINDS.map((to) => ({ from, to })));

/** Every kind onto every kind, with these flags. */
function everyPair(title: string, flags: number): PosixCase {
  return {
    name: `rename: every kind onto every kind, ${title}`,
    setup: (s) => {
      for (const { from, to } of PAIRS) {
        makeKind(s, from, `${from}-onto-${to}`);
        makeKind(s, to, `${to}-under-${from}`);
      }
    },
    steps: PAIRS.map(({ from, to }) =>
      compared(
        `rename ${from} onto ${to}`,
        (s) => s.rename(`${from}-onto-${to}`, `${to}-under-${from}`, flags),
      )
    ),
  };
}

export const RENAME: readonly PosixCase[] = [
  everyPair("plain", 0),
  everyPair("NOREPLACE", RENAME_NOREPLACE),
  everyPair("EXCHANGE", RENAME_EXCHANGE),
  {
    name: "rename: a file within and across directories",
    fixture: ["small"],
    steps: [
      (s) => s.mark("file", "it"),
      (s) => s.times([".", "dir"], () => s.rename("file", "renamed")),
      (s) => s.isMarked("renamed", "it"),
      fails("ENOENT", (s) => s.lstat("file")),
      (s) => s.times([".", "dir", "other"], () => s.rename("renamed", "dir/moved")),
      (s) => s.isMarked("dir/moved", "it"),
      (s) => s.cat("dir/moved"),
      (s) => s.times([".", "dir", "other"], () => s.rename("dir/moved", "other/moved")),
      (s) => s.append("other/moved", "still writable"),
      (s) => s.rename("other/moved", "file"),
      (s) => s.isMarked("file", "it"),
      (s) => s.cat("link"),
    ],
  },
  {
    name: "rename: the renamed keeps mtime, and moves ctime",
    fixture: ["small"],
    steps: [
      (s) => {
        s.mark("file", "it");
        const was = s.rawStat("file");
        s.rename("file", "moved");
        const is = s.rawStat("moved");
        return [was.mtimeNs === is.mtimeNs, is.ctimeNs > was.ctimeNs];
      },
      (s) => {
        const was = s.rawStat("dir");
        s.rename("dir", "other/dir");
        const is = s.rawStat("other/dir");
        return [was.mtimeNs === is.mtimeNs, is.ctimeNs > was.ctimeNs];
      },
    ],
  },
  {
    name: "rename: over a file that is open, hard linked, mapped",
    fixture: ["small"],
    steps: [
      (s) => s.open("old", "file", c.O_RDWR),
      (s) => s.map("m", "old", 100, { shared: true }),
      (s) => s.link("file", "second"),
      (s) => s.rename("text", "file"),
      (s) => s.cat("file"),
      (s) => s.fstat("old"),
      (s) => s.pread("old", 10, 0),
      (s) => s.peek("m", 0, 10),
      (s) => s.write("old", "written"),
      (s) => s.cat("second"),
      (s) => s.unlink("second"),
      (s) => s.fstat("old"),
      (s) => s.cat("file"),
    ],
  },
  {
    name: "rename: the way editors and git save",
    fixture: ["small"],
    steps: [
      (s) => s.put("file.lock", "new content"),
      (s) => s.times(["."], () => s.rename("file.lock", "file")),
      (s) => s.cat("file"),
      (s) => s.rename("exec", "exec~"),
      (s) => s.put("exec", "#!/bin/sh\nexit 8\n", 0o755),
      (s) => s.unlink("exec~"),
      (s) => s.link("text", "text~"),
      (s) => s.put("text.new", "newer"),
      (s) => s.rename("text.new", "text"),
      (s) => s.cat("text~"),
      (s) => s.list("."),
    ],
  },
  {
    name: "rename: a directory with all that is below it",
    fixture: ["small"],
    steps: [
      (s) => s.mark("dir/sub/leaf", "leaf"),
      (s) => s.mark("dir", "dir"),
      (s) => s.open("leaf", "dir/sub/leaf", c.O_RDWR),
      (s) => s.times([".", "other"], () => s.rename("dir", "moved")),
      (s) => [s.isMarked("moved", "dir"), s.isMarked("moved/sub/leaf", "leaf")],
      fails("ENOENT", (s) => s.lstat("dir")),
      fails("ENOENT", (s) => s.lstat("dir/a")),
      (s) => s.cat("moved/sub/leaf"),
      (s) => s.write("leaf", "by fd"),
      (s) => s.put("moved/new", "x"),
      (s) => s.unlink("moved/a"),
      (s) => s.times([".", "other"], () => s.rename("moved", "other/deeper")),
      (s) => s.lstat("."),
      (s) => s.lstat("other"),
      (s) => s.list("other/deeper"),
      fails("ENOENT", (s) => s.lstat("other/deeper/a")),
      (s) => s.mkdir("dir"),
      (s) => s.list("dir"),
      (s) => s.rename("other/deeper", "dir"),
      (s) => s.list("dir"),
    ],
  },
  {
    name: "rename: a large directory, and a new one in its place",
    fixture: ["many"],
    steps: [
      (s) => s.unlink(manyName(3)),
      (s) => s.put(manyName(4), "changed"),
      (s) => s.rename("many", "moved"),
      (s) => s.mkdir("many"),
      (s) => s.put(manyName(5), "in the new one"),
      (s) => s.list("many"),
      (s) => s.cat("moved/e005"),
      (s) => s.cat("moved/e004"),
      fails("ENOENT", (s) => s.cat("moved/e003")),
      (s) => s.unlink(manyName(5)),
      (s) => s.rename("moved", "many"),
      (s) => s.list("many"),
    ],
  },
  {
    name: "rename: a directory somebody is in",
    fixture: ["small"],
    steps: [
      by("peer", (s) => s.chdir("dir/sub")),
      (s) => s.rename("dir", "moved"),
      by("peer", (s) => s.cat("leaf")),
      by("peer", (s) => s.put("new", "x")),
      by("peer", (s) => s.list("..")),
      (s) => s.list("moved/sub"),
      (s) => s.rename("moved/sub", "sub"),
      by("peer", (s) => s.list("..")),
      by("peer", (s) => s.rename("leaf", "../leaf")),
    ],
  },
  {
    name: "rename: what is refused",
    fixture: ["small"],
    steps: [
      fails("EINVAL", (s) => s.times(["."], () => s.rename("dir", "dir/sub/dir"))),
      fails("EINVAL", (s) => s.rename("dir", "dir/new")),
      fails("ENOTEMPTY", (s) => s.rename("other", "dir")),
      fails("ENOTEMPTY", (s) => s.rename("dir/sub", "dir")),
      fails("ENOTDIR", (s) => s.rename("dir", "file")),
      fails("EISDIR", (s) => s.rename("file", "dir")),
      fails("EISDIR", (s) => s.rename("link", "dir")),
      fails("ENOENT", (s) => s.rename("none", "file")),
      fails("ENOENT", (s) => s.rename("file", "none/file")),
      fails("ENOENT", (s) => s.rename("", "file")),
      fails("ENOENT", (s) => s.rename("file", "")),
      fails("ENOTDIR", (s) => s.rename("file/x", "y")),
      fails("ENOTDIR", (s) => s.rename("file", "text/x")),
      fails("ENOTDIR", (s) => s.rename("file/", "y")),
      fails("ENOTDIR", (s) => s.rename("file", "y/")),
      fails("EBUSY", (s) => s.rename(".", "x")),
      fails("EBUSY", (s) => s.rename("dir/.", "x")),
      fails("EBUSY", (s) => s.rename("file", "dir/..")),
      fails("EEXIST", (s) => s.times(["."], () => s.rename("file", "text", RENAME_NOREPLACE))),
      fails("EEXIST", (s) => s.rename("file", "file", RENAME_NOREPLACE)),
      fails("ENOENT", (s) => s.rename("file", "none", RENAME_EXCHANGE)),
      fails("EINVAL", (s) => s.rename("dir", "dir/sub", RENAME_EXCHANGE)),
      fails("EINVAL", (s) => s.rename("file", "text", RENAME_EXCHANGE | RENAME_NOREPLACE)),
      fails("EINVAL", (s) => s.rename("file", "new", 0x100)),
      mountFails("EINVAL", (s) => s.rename("file", "new", RENAME_WHITEOUT)),
      by("user", fails("EACCES", (s) => s.rename("file", "new"))),
      (s) => s.rename("dir/", "dir2/"),
    ],
  },
  {
    name: "rename: onto itself and onto a hard link of it",
    fixture: ["small"],
    steps: [
      (s) => s.times(["file", "."], () => s.rename("file", "file")),
      (s) => s.times(["dir", "."], () => s.rename("dir", "dir")),
      (s) => s.link("file", "second"),
      (s) => s.times(["file", "."], () => s.rename("file", "second")),
      (s) => s.lstat("file"),
      (s) => s.lstat("second"),
      (s) => s.link("file", "dir/third"),
      (s) => s.times(["file", ".", "dir"], () => s.rename("dir/third", "file")),
      (s) => s.lstat("dir/third"),
      (s) => s.rename("file", "second", RENAME_EXCHANGE),
      (s) => s.lstat("second"),
    ],
  },
  {
    name: "rename: EXCHANGE of files and directories",
    fixture: ["small"],
    steps: [
      (s) => s.mark("file", "file"),
      (s) => s.mark("dir", "dir"),
      (s) => s.times([".", "dir/sub"], () => s.rename("file", "dir/sub/leaf", RENAME_EXCHANGE)),
      (s) => s.isMarked("dir/sub/leaf", "file"),
      (s) => s.cat("file"),
      (s) => s.times([".", "other"], () => s.rename("dir", "text", RENAME_EXCHANGE)),
      (s) => s.isMarked("text", "dir"),
      (s) => s.cat("dir"),
      (s) => s.list("text"),
      (s) => s.lstat("."),
      (s) => s.rename("text/sub", "other/x", RENAME_EXCHANGE),
      (s) => s.lstat("text"),
      (s) => s.lstat("other"),
      (s) => s.list("other/x"),
      (s) => s.rename("link", "other", RENAME_EXCHANGE),
      (s) => s.readlink("other"),
    ],
  },
  {
    name: "rename: NOREPLACE onto a free name",
    fixture: ["small"],
    steps: [
      (s) => s.rename("file", "new", RENAME_NOREPLACE),
      (s) => s.rename("dir", "other/dir", RENAME_NOREPLACE),
      (s) => s.unlink("text"),
      (s) => s.rename("new", "text", RENAME_NOREPLACE),
      fails("EEXIST", (s) => s.rename("exec", "dangling", RENAME_NOREPLACE)),
    ],
  },
  {
    name: "rename: counts of links of directories",
    setup: (s) => {
      for (const path of ["a", "a/x", "a/y", "b", "b/z"]) s.mkdir(path);
    },
    steps: [
      (s) => s.rename("a/x", "b/x"),
      (s) => [s.lstat("a"), s.lstat("b"), s.lstat("b/x")],
      (s) => s.rename("a/y", "b/z"),
      (s) => [s.lstat("a"), s.lstat("b")],
      (s) => s.put("a/file", "x"),
      (s) => s.rename("a/file", "b/x", RENAME_EXCHANGE),
      (s) => [s.lstat("a"), s.lstat("b")],
      (s) => s.lstat("."),
    ],
  },
  {
    name: "rename: many, back and forth",
    fixture: ["many"],
    steps: [
      named("each to another name", (s) => {
        for (let i = 0; i < 100; i++) s.rename(manyName(i), `many/r${i}`);
      }),
      named("half of them back", (s) => {
        for (let i = 0; i < 100; i += 2) s.rename(`many/r${i}`, manyName(i));
      }),
      named("in a ring", (s) => {
        s.rename(manyName(200), "held");
        for (let i = 200; i < 250; i++) s.rename(manyName(i + 1), manyName(i));
        s.rename("held", manyName(250));
      }),
      (s) => s.list("many"),
    ],
  },
];
