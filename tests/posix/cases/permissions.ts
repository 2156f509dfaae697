/** Who may do what: mode bits, search permission, sticky directories, access(2). */

import { by, compared, fails, type PosixCase, type Step } from "../case.ts";
import * as c from "../syscalls.ts";

const USER = 12345;
const MODES = [0, 0o400, 0o200, 0o100, 0o040, 0o020, 0o010, 0o004, 0o002, 0o001, 0o644, 0o750];
const modeName = (mode: number) => mode.toString(8).padStart(3, "0");

/** Each way of using a path, by everybody. */
function everybody(text: string, call: (s: c.Sys) => unknown): Step[] {
  return (["user", "other", "member", "root"] as const).map((actor) =>
    by(actor, compared(text, call))
  );
}

export const PERMISSIONS: readonly PosixCase[] = [
  {
    name: "permissions: files of every mode, for owner, group, others, root",
    setup: (s) => {
      for (const mode of MODES) {
        s.put(modeName(mode), "#!/bin/sh\nexit 0\n");
        s.chown(modeName(mode), USER, USER);
        s.chmod(modeName(mode), mode);
      }
    },
    steps: MODES.map(modeName).flatMap((path) => [
      ...everybody(`read ${path}`, (s) => s.tryOpen(path, c.O_RDONLY)),
      ...everybody(`write ${path}`, (s) => s.tryOpen(path, c.O_WRONLY)),
      ...everybody(`run ${path}`, (s) => s.run(`./${path}`)),
      ...everybody(
        `access ${path}`,
        (s) => [4, 2, 1, 0, 6, 7].map((mode) => c.errnoOf(() => s.access(path, mode))),
      ),
    ]),
  },
  {
    name: "permissions: directories of every mode",
    setup: (s) => {
      for (const mode of MODES) {
        s.mkdir(modeName(mode));
        s.put(`${modeName(mode)}/file`, "x", 0o666);
        s.chown(modeName(mode), USER, USER);
        s.chmod(modeName(mode), mode);
      }
    },
    steps: MODES.map(modeName).flatMap((path) => [
      ...everybody(`list ${path}`, (s) => s.list(path)),
      ...everybody(`stat in ${path}`, (s) => s.stat(`${path}/file`)),
      ...everybody(`stat nothing in ${path}`, (s) => s.stat(`${path}/none`)),
      ...everybody(`create in ${path}`, (s) => s.mkdir(`${path}/new`)),
      ...everybody(`remove in ${path}`, (s) => s.rmdir(`${path}/new`)),
      ...everybody(`rename in ${path}`, (s) => s.rename(`${path}/file`, `${path}/file`)),
      ...everybody(
        `access ${path}`,
        (s) => [4, 2, 1].map((mode) => c.errnoOf(() => s.access(path, mode))),
      ),
    ]),
  },
  {
    name: "permissions: an ancestor that may not be searched",
    fixture: ["small"],
    setup: (s) => s.chmod("dir", 0o600),
    steps: [
      by("user", fails("EACCES", (s) => s.stat("dir/a"))),
      by("user", fails("EACCES", (s) => s.cat("dir/sub/leaf"))),
      by("user", fails("EACCES", (s) => s.stat("dirlink/a"))),
      by("user", (s) => s.lstat("dir")),
      (s) => s.chmod("dir", 0o711),
      by("user", (s) => s.cat("dir/sub/leaf")),
      by("user", fails("EACCES", (s) => s.list("dir"))),
      by("user", (s) => s.open("leaf", "dir/sub/leaf")),
      (s) => s.chmod("dir", 0o700),
      by("user", (s) => s.read("leaf", 10)),
      by("user", fails("EACCES", (s) => s.cat("dir/sub/leaf"))),
    ],
  },
  {
    name: "permissions: what was opened stays open",
    setup: (s) => s.put("file", "content", 0o666),
    steps: [
      (s) => s.chmod("file", 0o666),
      by("user", (s) => s.open("a", "file", c.O_RDWR)),
      (s) => s.chmod("file", 0o600),
      by("user", (s) => s.read("a", 100)),
      by("user", (s) => s.write("a", " more")),
      by("user", (s) => s.ftruncate("a", 3)),
      by("user", fails("EACCES", (s) => s.open("b", "file"))),
      by("user", fails("EACCES", (s) => s.truncate("file", 0))),
      by("user", fails("EPERM", (s) => s.fchmod("a", 0o666))),
    ],
  },
  {
    name: "permissions: files of the fixture, for users",
    fixture: ["small"],
    steps: [
      by("user", (s) => s.cat("file")),
      by("user", (s) => s.run("./exec")),
      by("user", (s) => s.list("dir")),
      by("user", fails("EACCES", (s) => s.append("file", "x"))),
      by("user", fails("EACCES", (s) => s.put("dir/new", "x"))),
      by("user", fails("EACCES", (s) => s.unlink("dir/a"))),
      by("user", fails("EACCES", (s) => s.rmdir("dir/sub"))),
      by("user", fails("EACCES", (s) => s.rename("dir/a", "dir/z"))),
      by("user", fails("EACCES", (s) => s.symlink("x", "dir/z"))),
      by("user", compared("link a file of root", (s) => s.link("dir/a", "dir/z"))),
      by("user", fails("EACCES", (s) => s.run("./file"))),
      (s) => s.chmod("dir", 0o777),
      (s) => s.chmod("file", 0o666),
      by("user", (s) => s.append("file", "x")),
      by("user", (s) => s.put("dir/new", "x")),
      by("user", (s) => s.unlink("dir/a")),
      by("user", fails("EACCES", (s) => s.put("dir/b", "x"))),
      by("user", (s) => s.unlink("dir/b")),
      by("user", (s) => s.rename("dir/sub", "dir/renamed")),
    ],
  },
  {
    name: "permissions: sticky directories",
    setup: (s) => {
      s.mkdir("sticky");
      s.chmod("sticky", 0o1777);
      s.mkdir("users");
      s.chown("users", USER, USER);
      s.chmod("users", 0o1777);
    },
    steps: [
      by("user", (s) => s.put("sticky/users", "x", 0o666)),
      by("user", (s) => s.mkdir("sticky/dir")),
      by("other", (s) => s.put("sticky/others", "x")),
      by("other", (s) => s.put("users/others", "x")),
      by("other", fails("EPERM", (s) => s.unlink("sticky/users"))),
      by("other", fails("EPERM", (s) => s.rmdir("sticky/dir"))),
      by("other", fails("EPERM", (s) => s.rename("sticky/users", "sticky/mine"))),
      by("other", fails("EPERM", (s) => s.rename("sticky/others", "sticky/users"))),
      by(
        "other",
        fails("EPERM", (s) => s.rename("sticky/others", "sticky/users", c.RENAME_EXCHANGE)),
      ),
      by("other", (s) => s.rename("sticky/others", "sticky/renamed")),
      by("user", (s) => s.unlink("users/others")),
      by("user", (s) => s.rename("sticky/users", "sticky/mine")),
      by("user", (s) => s.rmdir("sticky/dir")),
      (s) => s.unlink("sticky/renamed"),
    ],
  },
  {
    name: "permissions: renaming a directory needs to write it, when it moves",
    setup: (s) => {
      s.chmod(".", 0o777);
      for (const path of ["from", "to"]) {
        s.mkdir(path);
        s.chown(path, USER, USER);
      }
      s.mkdir("from/roots");
    },
    steps: [
      by("user", (s) => s.rename("from/roots", "from/renamed")),
      by("user", fails("EACCES", (s) => s.rename("from/renamed", "to/moved"))),
      (s) => s.chmod("from/renamed", 0o777),
      by("user", (s) => s.rename("from/renamed", "to/moved")),
    ],
  },
  {
    name: "access: of root, and of what is not there",
    fixture: ["small"],
    steps: [
      (s) => s.access("file", 6),
      fails("EACCES", (s) => s.access("file", 1)),
      (s) => s.access("exec", 7),
      (s) => s.access("dir", 7),
      (s) => s.access("link", 4),
      fails("ENOENT", (s) => s.access("dangling", 0)),
      (s) => s.access("dangling", 0, c.AT_SYMLINK_NOFOLLOW),
      fails("ENOENT", (s) => s.access("none", 0)),
      fails("ENOTDIR", (s) => s.access("file/x", 0)),
      fails("EINVAL", (s) => s.access("file", 8)),
      (s) => s.access("file", 6, c.AT_EACCESS),
      (s) => s.chmod("file", 0),
      (s) => s.access("file", 6),
      (s) => s.chmod("file", 0o001),
      (s) => s.access("file", 7),
    ],
  },
];
