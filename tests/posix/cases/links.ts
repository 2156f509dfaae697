/** symlink(2), readlink(2), link(2). */

import { by, compared, fails, named, type PosixCase } from "../case.ts";
import * as c from "../syscalls.ts";

export const LINKS: readonly PosixCase[] = [
  {
    name: "symlink: targets",
    fixture: ["small"],
    steps: [
      (s) => s.times(["."], () => s.symlink("file", "to-file")),
      (s) => s.lstat("to-file"),
      (s) => s.stat("to-file"),
      (s) => s.cat("to-file"),
      (s) => s.symlink("nowhere at all", "to-nothing"),
      (s) => s.readlink("to-nothing"),
      fails("ENOENT", (s) => s.stat("to-nothing")),
      (s) => s.symlink("dir", "to-dir"),
      (s) => s.list("to-dir"),
      (s) => s.put("to-dir/through", "x"),
      (s) => s.symlink("../dir/../file", "dir/up"),
      (s) => s.cat("dir/up"),
      (s) => s.symlink("\xff\n", "to-bytes"),
      (s) => s.readlink("to-bytes"),
      (s) => s.symlink("dir/", "to-slash"),
      (s) => s.stat("to-slash"),
      (s) => s.symlink("file/", "to-bad-slash"),
      fails("ENOTDIR", (s) => s.stat("to-bad-slash")),
      (s) => s.symlink("x".repeat(60), "at-60"),
      (s) => s.symlink("y".repeat(1000), "at-1000"),
      (s) => s.symlink("z".repeat(4095), "at-4095"),
      (s) => s.readlink("at-60"),
      (s) => s.readlink("at-1000"),
      (s) => s.readlink("at-4095"),
      (s) => s.lstat("at-4095"),
      fails("ENAMETOOLONG", (s) => s.symlink("z".repeat(4096), "at-4096")),
      fails("ENOENT", (s) => s.symlink("", "to-empty")),
    ],
  },
  {
    name: "symlink: what is refused",
    fixture: ["small"],
    steps: [
      fails("EEXIST", (s) => s.times(["."], () => s.symlink("x", "file"))),
      fails("EEXIST", (s) => s.symlink("x", "dir")),
      fails("EEXIST", (s) => s.symlink("x", "dangling")),
      fails("ENOENT", (s) => s.symlink("x", "none/x")),
      fails("ENOTDIR", (s) => s.symlink("x", "file/x")),
      fails("ENOENT", (s) => s.symlink("x", "new/")),
      fails("EINVAL", (s) => s.readlink("file")),
      fails("EINVAL", (s) => s.readlink("dir")),
      fails("ENOENT", (s) => s.readlink("none")),
      by("user", fails("EACCES", (s) => s.symlink("x", "mine"))),
    ],
  },
  {
    name: "symlink: loops, and chains of 40",
    setup: (s) => {
      s.put("end", "reached");
      s.symlink("end", "chain0");
      for (let i = 1; i <= 40; i++) s.symlink(`chain${i - 1}`, `chain${i}`);
      s.symlink("self", "self");
      s.symlink("./pong/x", "ping");
      s.symlink("ping", "pong");
    },
    steps: [
      (s) => s.cat("chain39"),
      fails("ELOOP", (s) => s.cat("chain40")),
      fails("ELOOP", (s) => s.stat("self")),
      (s) => s.lstat("self"),
      fails("ELOOP", (s) => s.stat("ping")),
      fails("ELOOP", (s) => s.truncate("self", 0)),
      fails("ELOOP", (s) => s.chmod("self", 0o600)),
      fails("ELOOP", (s) => s.mkdir("self/x")),
      fails("ELOOP", (s) => s.link("self", "x", c.AT_SYMLINK_FOLLOW)),
      (s) => s.unlink("self"),
    ],
  },
  {
    name: "symlink: a link itself is owned, dated, renamed, not its target",
    fixture: ["small"],
    steps: [
      (s) => s.times(["link", "file"], () => s.lchown("link", 5, 6)),
      (s) => s.times(["link", "file"], () => s.utimens("link", [1n, 2n], c.AT_SYMLINK_NOFOLLOW)),
      (s) => s.times(["link", "file"], () => s.chmod("link", 0o600)),
      (s) => s.rename("link", "renamed"),
      (s) => s.times(["renamed", "file"], () => s.chown("renamed", 7, 8)),
      (s) => s.lstat("renamed"),
      (s) => s.readlink("renamed"),
    ],
  },
  {
    name: "link: counts, one inode, and all of its names",
    fixture: ["small"],
    steps: [
      (s) => s.mark("file", "it"),
      (s) => s.times(["file", "."], () => s.link("file", "second")),
      (s) => s.lstat("file"),
      (s) => s.times(["dir", "file", "second"], () => s.link("second", "dir/third")),
      (s) => [s.isMarked("file", "it"), s.isMarked("second", "it"), s.isMarked("dir/third", "it")],
      (s) => s.append("dir/third", "by the third name"),
      (s) => s.cat("file"),
      (s) => s.cat("second"),
      (s) => s.chmod("second", 0o600),
      (s) => s.lstat("dir/third"),
      (s) => s.times(["second", "dir/third", "."], () => s.unlink("file")),
      (s) => s.lstat("second"),
      (s) => s.put("file", "another one"),
      (s) => s.isMarked("second", "it"),
      (s) => s.times(["dir/third"], () => s.rename("file", "second")),
      (s) => s.lstat("dir/third"),
      (s) => s.isMarked("dir/third", "it"),
      (s) => s.open("a", "dir/third", c.O_RDWR),
      (s) => s.unlink("dir/third"),
      (s) => s.fstat("a"),
      fails("ENOENT", (s) => s.linkFd("a", "back")),
      (s) => s.write("a", "still"),
    ],
  },
  {
    name: "link: what is refused",
    fixture: ["small"],
    steps: [
      fails("EPERM", (s) => s.link("dir", "dir2")),
      fails("EEXIST", (s) => s.times(["file", "."], () => s.link("file", "text"))),
      fails("EEXIST", (s) => s.link("file", "file")),
      fails("EEXIST", (s) => s.link("file", "dir")),
      fails("EEXIST", (s) => s.link("file", "dangling")),
      fails("ENOENT", (s) => s.link("none", "x")),
      fails("ENOENT", (s) => s.link("file", "none/x")),
      fails("ENOENT", (s) => s.link("", "x")),
      fails("ENOTDIR", (s) => s.link("file", "text/x")),
      fails("ENOTDIR", (s) => s.link("file/", "x")),
      fails("ENOENT", (s) => s.link("file", "x/")),
      fails("ENOENT", (s) => s.link("dangling", "x", c.AT_SYMLINK_FOLLOW)),
      // EPERM with fs.protected_hardlinks, else EACCES.
      by("user", compared("link a file of root", (s) => s.link("file", "mine"))),
    ],
  },
  {
    name: "link: of links, fifos and through links",
    fixture: ["small"],
    steps: [
      (s) => s.link("link", "link2"),
      (s) => s.lstat("link2"),
      (s) => s.readlink("link2"),
      (s) => s.link("dangling", "dangling2"),
      (s) => s.link("link", "hard", c.AT_SYMLINK_FOLLOW),
      (s) => s.lstat("hard"),
      (s) => s.mknod("fifo", c.S_IFIFO | 0o600),
      (s) => s.link("fifo", "fifo2"),
      (s) => s.lstat("fifo2"),
      (s) => s.unlink("link"),
      (s) => s.readlink("link2"),
    ],
  },
  {
    name: "link: a hundred names",
    fixture: ["small"],
    steps: [
      named("make them", (s) => {
        for (let i = 0; i < 100; i++) s.link("text", `dir/text${i}`);
      }),
      (s) => s.lstat("text"),
      (s) => s.put("dir/text50", "by one of them"),
      (s) => s.cat("text"),
      named("remove half", (s) => {
        for (let i = 0; i < 100; i += 2) s.unlink(`dir/text${i}`);
      }),
      (s) => s.lstat("dir/text1"),
    ],
  },
];
