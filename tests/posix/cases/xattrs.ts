/** Extended attributes of the user's namespace. */

import { by, fails, named, type PosixCase } from "../case.ts";
import * as c from "../syscalls.ts";

export const XATTRS: readonly PosixCase[] = [
  {
    name: "xattr: set, get, list, remove",
    needs: "xattr",
    fixture: ["small"],
    compare: { xattr: true },
    steps: [
      fails("ENODATA", (s) => s.getxattr("file", "user.a")),
      (s) => s.listxattr("file"),
      (s) => s.times(["file", "."], () => s.setxattr("file", "user.a", "value")),
      (s) => s.getxattr("file", "user.a"),
      (s) => s.getxattr("file", "user.a", 0),
      fails("ERANGE", (s) => s.getxattr("file", "user.a", 3)),
      (s) => s.setxattr("file", "user.b", ""),
      (s) => s.getxattr("file", "user.b"),
      (s) => s.setxattr("file", "user.a", "\x00\xff binary", c.XATTR_REPLACE),
      (s) => s.getxattr("file", "user.a"),
      fails("EEXIST", (s) => s.setxattr("file", "user.a", "x", c.XATTR_CREATE)),
      fails("ENODATA", (s) => s.setxattr("file", "user.c", "x", c.XATTR_REPLACE)),
      (s) => s.setxattr("file", "user.c", "x", c.XATTR_CREATE),
      (s) => s.listxattr("file"),
      fails("ERANGE", (s) => s.listxattr("file", 3)),
      (s) => s.times(["file"], () => s.removexattr("file", "user.b")),
      fails("ENODATA", (s) => s.removexattr("file", "user.b")),
      (s) => s.setxattr("dir", "user.d", "on a directory"),
      fails("EPERM", (s) => s.setxattr("link", "user.l", "on a link")),
      fails("EOPNOTSUPP", (s) => s.setxattr("file", "nonsense.x", "x")),
      fails("ENOENT", (s) => s.setxattr("none", "user.x", "x")),
      fails("ERANGE", (s) => s.setxattr("file", `user.${"n".repeat(251)}`, "x")),
      (s) => s.setxattr("file", `user.${"n".repeat(250)}`, "x"),
    ],
  },
  {
    name: "xattr: stay over rename, link, write, chmod",
    needs: "xattr",
    fixture: ["small"],
    compare: { xattr: true },
    steps: [
      (s) => s.setxattr("file", "user.a", "stays"),
      (s) => s.append("file", "x"),
      (s) => s.rename("file", "dir/renamed"),
      (s) => s.getxattr("dir/renamed", "user.a"),
      (s) => s.link("dir/renamed", "linked"),
      (s) => s.setxattr("linked", "user.b", "on both names"),
      (s) => s.getxattr("dir/renamed", "user.b"),
      (s) => s.chmod("linked", 0o600),
      (s) => s.setxattr("dir", "user.d", "stays too"),
      (s) => s.rename("dir", "moved"),
      (s) => s.getxattr("moved", "user.d"),
      (s) => s.put("file", "a new one has none"),
      (s) => s.listxattr("file"),
    ],
  },
  {
    name: "xattr: who may",
    needs: "xattr",
    compare: { xattr: true },
    setup: (s) => {
      s.put("readable", "x", 0o644);
      s.put("secret", "x", 0o600);
      for (const path of ["readable", "secret"]) s.setxattr(path, "user.a", "value");
    },
    steps: [
      by("user", (s) => s.getxattr("readable", "user.a")),
      by("user", fails("EACCES", (s) => s.setxattr("readable", "user.a", "other"))),
      by("user", fails("EACCES", (s) => s.removexattr("readable", "user.a"))),
      by("user", fails("EACCES", (s) => s.getxattr("secret", "user.a"))),
      by("user", (s) => s.listxattr("secret")),
    ],
  },
  {
    name: "xattr: many of them",
    needs: "xattr",
    setup: (s) => s.put("file", "x"),
    compare: { xattr: true },
    steps: [
      named("set 40", (s) => {
        for (let i = 0; i < 40; i++) s.setxattr("file", `user.name${i}`, `value ${i}`);
      }),
      (s) => s.listxattr("file"),
      (s) => s.setxattr("file", "user.long", "v".repeat(2000)),
      (s) => s.getxattr("file", "user.long"),
    ],
  },
];
