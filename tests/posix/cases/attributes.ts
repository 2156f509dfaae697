/** chmod, chown, and the special bits that writing and owning take away. */

import { by, fails, named, type PosixCase } from "../case.ts";
import * as c from "../syscalls.ts";

const { UNCHANGED } = c;
const USER = 12345;
const OTHER = 12346;
const MEMBER = 12347;

export const ATTRIBUTES: readonly PosixCase[] = [
  {
    name: "chmod: every bit",
    fixture: ["small"],
    steps: [
      ...[0, 0o400, 0o222, 0o644, 0o755, 0o1777, 0o2755, 0o2644, 0o4755, 0o6711, 0o7777].map(
        (mode) =>
          named(`chmod ${mode.toString(8)}`, (s) => {
            s.chmod("file", mode);
            s.chmod("dir", mode);
            return [s.lstat("file"), s.lstat("dir")];
          }),
      ),
      (s) => s.times(["text", "."], () => s.chmod("text", 0o600)),
      (s) => s.times(["text"], () => s.chmod("text", 0o600)),
      (s) => s.times(["dir", "."], () => s.chmod("dir", 0o755)),
      (s) => s.times(["link", "exec"], () => s.chmod("link", 0o600)),
      (s) => s.cat("file"),
      (s) => s.open("a", "exec"),
      (s) => s.times(["exec"], () => s.fchmod("a", 0o700)),
      (s) => s.fstat("a"),
      (s) => s.open("d", "dir"),
      (s) => s.fchmod("d", 0o711),
      (s) => s.unlink("exec"),
      (s) => s.fchmod("a", 0o640),
      (s) => s.fstat("a"),
      fails("ENOENT", (s) => s.chmod("none", 0o600)),
      fails("ENOENT", (s) => s.chmod("dangling", 0o600)),
      fails("ENOTDIR", (s) => s.chmod("file/x", 0o600)),
      by("user", fails("EPERM", (s) => s.chmod("text", 0o666))),
    ],
  },
  {
    name: "chmod: by owners, and setgid outside of one's groups",
    setup: (s) => {
      s.chmod(".", 0o777);
      s.put("own", "x");
      s.chown("own", USER, USER);
      s.put("foreign-group", "x");
      s.chown("foreign-group", USER, 0);
      s.put("members", "x");
      s.chown("members", MEMBER, USER);
      s.mkdir("foreign-dir");
      s.chown("foreign-dir", USER, 0);
    },
    steps: [
      by("user", (s) => s.chmod("own", 0o6755)),
      by("user", (s) => s.chmod("foreign-group", 0o6755)),
      (s) => s.lstat("own"),
      (s) => s.lstat("foreign-group"),
      by("member", (s) => s.chmod("members", 0o2755)),
      (s) => s.lstat("members"),
      by("user", (s) => s.chmod("foreign-dir", 0o2775)),
      (s) => s.lstat("foreign-dir"),
      by("user", (s) => s.chmod("own", 0o1644)),
      (s) => s.lstat("own"),
      by("other", fails("EPERM", (s) => s.chmod("own", 0o777))),
      by("other", fails("EPERM", (s) => s.chmod("own", 0o1644))),
    ],
  },
  {
    name: "chown: by root",
    fixture: ["small"],
    steps: [
      (s) => s.times(["file", "."], () => s.chown("file", 11, 22)),
      (s) => s.lstat("file"),
      (s) => s.chown("file", UNCHANGED, 33),
      (s) => s.chown("file", 44, UNCHANGED),
      (s) => s.lstat("file"),
      (s) => s.times(["file"], () => s.chown("file", UNCHANGED, UNCHANGED)),
      (s) => s.times(["file"], () => s.chown("file", 44, 33)),
      (s) => s.chown("dir", 1, 2),
      (s) => s.chown("link", 5, 6),
      (s) => s.lstat("link"),
      (s) => s.lchown("dangling", 7, 8),
      fails("ENOENT", (s) => s.chown("dangling", 7, 8)),
      fails("ENOENT", (s) => s.chown("none", 7, 8)),
      (s) => s.chown("text", 0xffff_fffe, 0x7fff_ffff),
      (s) => s.lstat("text"),
      (s) => s.open("a", "exec"),
      (s) => s.fchown("a", 9, 10),
      (s) => s.fstat("a"),
      (s) => s.cat("file"),
    ],
  },
  {
    name: "chown: by users",
    setup: (s) => {
      s.chmod(".", 0o777);
      for (const [name, owner] of [["own", USER], ["members", MEMBER]] as const) {
        s.put(name, "x");
        s.chown(name, owner, owner);
      }
      s.put("roots", "x");
    },
    steps: [
      by("user", fails("EPERM", (s) => s.chown("own", OTHER, UNCHANGED))),
      by("user", fails("EPERM", (s) => s.chown("own", UNCHANGED, OTHER))),
      by("user", fails("EPERM", (s) => s.chown("roots", USER, UNCHANGED))),
      by("user", fails("EPERM", (s) => s.chown("roots", UNCHANGED, USER))),
      by("user", (s) => s.chown("own", USER, USER)),
      by("user", (s) => s.chown("own", UNCHANGED, UNCHANGED)),
      by("user", fails("EPERM", (s) => s.chown("roots", UNCHANGED, 0))),
      by("member", (s) => s.chown("members", UNCHANGED, USER)),
      (s) => s.lstat("members"),
      by("member", fails("EPERM", (s) => s.chown("members", UNCHANGED, OTHER))),
      by("member", (s) => s.chown("members", MEMBER, MEMBER)),
    ],
  },
  {
    name: "chown: takes suid and sgid away",
    setup: (s) => {
      s.chmod(".", 0o777);
      for (const mode of ["4755", "2755", "6755", "2644", "6644", "1755"]) {
        s.put(mode, "x");
        s.chmod(mode, parseInt(mode, 8));
        s.put(`user-${mode}`, "x");
        s.chown(`user-${mode}`, USER, USER);
        s.chmod(`user-${mode}`, parseInt(mode, 8));
      }
      s.mkdir("dir");
      s.chmod("dir", 0o6755);
    },
    steps: [
      ...["4755", "2755", "6755", "2644", "6644", "1755"].flatMap((mode) => [
        named(`chown ${mode}`, (s) => s.chown(mode, 1, 1)),
        by("user", named(`chown user-${mode}`, (s) => s.chown(`user-${mode}`, UNCHANGED, USER))),
      ]),
      (s) => s.chown("dir", 1, 1),
      (s) => s.lstat("dir"),
    ],
  },
  {
    name: "suid and sgid: a write by another user takes them away",
    setup: (s) => {
      for (const mode of ["6777", "4777", "2777", "2767", "6766"]) {
        for (const how of ["write", "truncate", "open", "falloc", "copy", "own", "root"]) {
          s.put(`${how}-${mode}`, "content");
          if (how === "own") s.chown(`${how}-${mode}`, USER, USER);
          s.chmod(`${how}-${mode}`, parseInt(mode, 8));
        }
      }
    },
    steps: ["6777", "4777", "2777", "2767", "6766"].flatMap((mode) => {
      const step = (how: string, call: (s: c.Sys, path: string) => unknown) =>
        named(`${how} ${mode}`, (s) => {
          call(s, `${how}-${mode}`);
          return s.lstat(`${how}-${mode}`);
        });
      return [
        by("user", step("write", (s, path) => s.append(path, "x"))),
        by("user", step("truncate", (s, path) => s.truncate(path, 3))),
        by("user", step("open", (s, path) => s.tryOpen(path, c.O_WRONLY | c.O_TRUNC))),
        by(
          "user",
          step("falloc", (s, path) => {
            s.open(path, path, c.O_RDWR);
            s.fallocate(path, 0, 0, 100);
          }),
        ),
        by(
          "user",
          step("copy", (s, path) => {
            s.open(path, path, c.O_RDWR);
            s.copyRange(path, path, 3, { in: 0, out: 3 });
          }),
        ),
        by("user", step("own", (s, path) => s.append(path, "x"))),
        step("root", (s, path) => s.append(path, "x")),
      ];
    }),
  },
  {
    name: "setgid directories hand their group down",
    setup: (s) => {
      s.mkdir("shared", 0o777);
      s.chown("shared", 0, USER);
      s.chmod("shared", 0o2777);
    },
    steps: [
      (s) => s.put("shared/roots", "x"),
      (s) => s.mkdir("shared/rootdir"),
      (s) => s.symlink("x", "shared/rootlink"),
      (s) => s.mknod("shared/fifo", c.S_IFIFO | 0o644),
      by("other", (s) => s.umask(0)),
      by("other", (s) => s.put("shared/others", "x", 0o664)),
      by("other", (s) => s.put("shared/sgid", "x", 0o2775)),
      by("other", (s) => s.put("shared/sgid-noexec", "x", 0o2664)),
      by("other", (s) => s.mkdir("shared/otherdir", 0o775)),
      by("other", (s) => s.put("shared/otherdir/below", "x")),
      by("member", (s) => s.put("shared/members", "x", 0o2775)),
      by("other", (s) => s.open("t", "shared", c.O_RDWR | c.O_TMPFILE, 0o2775)),
      by("other", (s) => s.fstat("t")),
      (s) => s.lstat("shared/rootdir"),
      (s) => s.lstat("shared/otherdir"),
      (s) => s.put("moved", "x"),
      (s) => s.rename("moved", "shared/moved"),
      (s) => s.lstat("shared/moved"),
      (s) => s.link("shared/moved", "linked"),
    ],
  },
  {
    name: "new files belong to who makes them",
    setup: (s) => s.chmod(".", 0o777),
    steps: [
      by("user", (s) => s.put("file", "x")),
      by("user", (s) => s.mkdir("dir")),
      by("user", (s) => s.symlink("x", "link")),
      by("member", (s) => s.put("members", "x")),
      by("user", (s) => s.put("dir/below", "x")),
      (s) => s.put("dir/roots", "x"),
      by("user", (s) => s.rename("dir/roots", "roots")),
      by("user", (s) => s.unlink("roots")),
    ],
  },
];
