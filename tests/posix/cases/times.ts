/** utimensat(2), and which calls move which times. */

import { by, fails, named, type PosixCase } from "../case.ts";
import * as c from "../syscalls.ts";

const USER = 12345;
const SECOND = 1_000_000_000n;

export const TIMES: readonly PosixCase[] = [
  {
    name: "times: set to the nanosecond",
    fixture: ["small"],
    compare: { atime: true },
    steps: [
      (s) => s.times(["file@", "."], () => s.utimens("file", [123_456_789n, 987_654_321_123n])),
      (s) => s.times(["text@"], () => s.utimens("text", ["omit", 5n * SECOND + 1n])),
      (s) => s.times(["text@"], () => s.utimens("text", [7n * SECOND + 999_999_999n, "omit"])),
      (s) => s.times(["text@"], () => s.utimens("text", ["omit", "omit"])),
      (s) => s.times(["text@"], () => s.utimens("text", ["now", "omit"])),
      (s) => s.times(["text@"], () => s.utimens("text", [8n * SECOND, "now"])),
      (s) => s.times(["text@"], () => s.utimens("text", null)),
      (s) => s.times(["exec@"], () => s.utimens("exec", ["now", "now"])),
      (s) => s.utimens("text", [1n, 2n]),
      (s) => s.utimens("exec", [3n, 4n]),
      (s) => s.utimens("empty", [0n, 0n]),
      (s) => s.times(["dir@"], () => s.utimens("dir", [11n, 12n])),
      (s) =>
        s.times(["link@", "file@"], () => s.utimens("link", [21n, 22n], c.AT_SYMLINK_NOFOLLOW)),
      (s) => s.times(["link", "file@"], () => s.utimens("link", [31n, 32n])),
      fails("ENOENT", (s) => s.utimens("dangling", [1n, 1n])),
      fails("ENOENT", (s) => s.utimens("none", [1n, 1n])),
      fails("ENOTDIR", (s) => s.utimens("file/x", [1n, 1n])),
      // What was not set is what the file had, and that is not the same on both sides.
      ...[
        ".",
        "other",
        // Following a link is reading it, which a mount does not record.
        "link",
        "dangling",
        "dirlink",
        "dir/sub",
        "dir/a",
        "dir/b",
        "dir/sub/leaf",
        "other/x",
        "caf\xe9",
      ]
        .map((path) =>
          named("settle the rest", (s) => s.utimens(path, [1n, 1n], c.AT_SYMLINK_NOFOLLOW))
        ),
    ],
  },
  {
    name: "times: before 1970 and after 2038",
    fixture: ["small"],
    steps: [
      ...[
        -1n,
        -SECOND,
        -SECOND - 1n,
        -2_000_000_000n * SECOND + 5n,
        (1n << 31n) * SECOND + 7n,
        (1n << 32n) * SECOND + 9n,
        10_000_000_000n * SECOND + 11n,
      ].map((time) =>
        named(`set to ${time}`, (s) => {
          s.utimens("file", [time, time]);
          s.utimens("dir", [time, time]);
          return [s.rawStat("file").mtimeNs, s.rawStat("dir").mtimeNs, s.rawStat("file").atimeNs];
        })
      ),
    ],
  },
  {
    name: "times: by descriptor, also of what is unlinked",
    fixture: ["small"],
    steps: [
      (s) => s.open("a", "file"),
      (s) => s.times(["file@"], () => s.futimens("a", [1n, 2n])),
      (s) => s.times(["file@"], () => s.futimens("a", null)),
      (s) => s.futimens("a", [3n, 4n]),
      (s) => s.open("d", "dir"),
      (s) => s.futimens("d", [5n, 6n]),
      (s) => s.unlink("file"),
      (s) => s.futimens("a", [7n, 8n]),
      (s) => c.fstat(s.fd("a")).mtimeNs,
    ],
  },
  {
    name: "times: who may set them",
    setup: (s) => {
      for (
        const [name, owner, mode] of [
          ["own", USER, 0o400],
          ["writable", 0, 0o666],
          ["readable", 0, 0o644],
        ] as const
      ) {
        s.put(name, "x");
        s.chown(name, owner, owner);
        s.chmod(name, mode);
      }
    },
    steps: [
      by("user", (s) => s.utimens("own", [1n, 2n])),
      by("user", (s) => s.utimens("own", null)),
      by("user", (s) => s.utimens("own", ["omit", 3n])),
      by(
        "user",
        fails("EPERM", (s) => s.times(["writable"], () => s.utimens("writable", [1n, 2n]))),
      ),
      by("user", fails("EPERM", (s) => s.utimens("writable", ["omit", 2n]))),
      by("user", fails("EPERM", (s) => s.utimens("writable", ["now", "omit"]))),
      by("user", (s) => s.times(["writable"], () => s.utimens("writable", null))),
      by("user", (s) => s.times(["writable"], () => s.utimens("writable", ["now", "now"]))),
      by("user", (s) => s.times(["writable"], () => s.utimens("writable", ["omit", "omit"]))),
      by("user", fails("EACCES", (s) => s.utimens("readable", null))),
      by("user", fails("EACCES", (s) => s.utimens("readable", ["now", "now"]))),
      by("user", fails("EPERM", (s) => s.utimens("readable", [1n, 2n]))),
      by("user", (s) => s.utimens("readable", ["omit", "omit"])),
      (s) => s.utimens("own", [1n, 2n]),
      (s) => s.utimens("writable", [1n, 2n]),
    ],
  },
  {
    name: "times: reading and looking moves none",
    fixture: ["small"],
    steps: [
      (s) => s.times(["file", "."], () => s.cat("file")),
      (s) => s.times(["dir", "."], () => s.list("dir")),
      (s) => s.times(["link", "file", "."], () => s.readlink("link")),
      (s) => s.times(["file", "."], () => s.tryOpen("file", c.O_RDWR)),
      (s) => s.times(["exec", "."], () => s.run("./exec")),
      (s) => s.times(["file", "."], () => s.access("file", 6)),
      (s) => s.times(["file", "."], () => s.statfs("file")),
    ],
  },
  {
    name: "times: what a write sets survives, and utimens wins over what was written before",
    fixture: ["small"],
    steps: [
      (s) => s.open("a", "file", c.O_RDWR),
      (s) => s.write("a", "written"),
      (s) => s.futimens("a", [100n, 200n]),
      (s) => s.close("a"),
      (s) => s.rawStat("file").mtimeNs,
      (s) => s.open("b", "text", c.O_RDWR),
      (s) => s.utimens("text", [300n, 400n]),
      (s) => s.times(["text"], () => s.write("b", "after")),
      (s) => s.utimens("text", [300n, 400n]),
      (s) => s.close("b"),
      (s) => s.rawStat("text").mtimeNs,
      (s) => s.rename("text", "renamed"),
      (s) => s.chmod("renamed", 0o600),
      (s) => s.link("renamed", "linked"),
      (s) => s.rawStat("linked").mtimeNs,
    ],
  },
  {
    name: "times: of a directory, by what happens in it",
    fixture: ["small"],
    steps: [
      (s) => s.times(["dir", "."], () => s.put("dir/new", "x")),
      (s) => s.times(["dir", "."], () => s.append("dir/new", "y")),
      (s) => s.times(["dir", "."], () => s.chmod("dir/new", 0o600)),
      (s) => s.times(["dir"], () => s.link("dir/new", "dir/new2")),
      (s) => s.times(["dir"], () => s.rename("dir/new", "dir/new3")),
      (s) => s.times(["dir", "dir/sub"], () => s.rename("dir/new3", "dir/sub/new")),
      (s) => s.times(["dir"], () => s.unlink("dir/new2")),
      (s) => s.times(["dir"], () => s.mkdir("dir/d")),
      (s) => s.times(["dir", "dir/d"], () => s.symlink("x", "dir/d/l")),
      (s) => s.times(["dir", "dir/d"], () => s.unlink("dir/d/l")),
      (s) => s.times(["dir"], () => s.rmdir("dir/d")),
      (s) => s.times(["dir"], () => s.mknod("dir/fifo", c.S_IFIFO | 0o600)),
      (s) => s.times(["dir"], () => s.unlink("dir/a")),
      (s) => s.times(["dir", "dir/sub"], () => s.unlink("dir/sub/leaf")),
    ],
  },
];
