/** That the state of a directory shows every kind of difference, and only differences. */

import assert from "node:assert/strict";
import { tempDir } from "../support/run.ts";
import { writeFixture } from "./fixture.ts";
import { compareStates, describeTime, stateOf, timesBefore } from "./state.ts";
import * as c from "./syscalls.ts";

/** What is done to one of two equal directories, and the lines that must tell. */
const DIFFERENCES: Readonly<Record<string, { change: (root: string) => void; lines: RegExp[] }>> = {
  "nothing": { change: () => {}, lines: [] },
  "a byte of the same file": {
    change: (root) => {
      const fd = c.open(`${root}/file`, c.O_WRONLY);
      const { atimeNs, mtimeNs } = c.fstat(fd);
      c.pwrite(fd, c.toBytes("!"), 4999);
      c.futimens(fd, [atimeNs, mtimeNs]);
      c.close(fd);
    },
    lines: [/^file: content/, /^file: ctime: expected "old", got "now"/],
  },
  "mode": {
    change: (root) => c.chmod(`${root}/dir`, 0o2755),
    lines: [/^dir: mode: expected "0755", got "2755"/, /^dir: ctime/],
  },
  "owner and group": {
    change: (root) => c.lchown(`${root}/link`, 1, 2),
    lines: [/^link: uid/, /^link: gid/, /^link: ctime/],
  },
  "mtime": {
    change: (root) => c.utimens(`${root}/text`, ["omit", 5n]),
    lines: [/^text: mtime: expected "old", got "5"/, /^text: ctime/],
  },
  "a hard link": {
    change: (root) => c.link(`${root}/exec`, `${root}/exec2`),
    lines: [/^\.: mtime/, /^\.: ctime/, /^exec: nlink/, /^exec: ctime/, /^exec2: only under test/],
  },
  "a copy in place of a hard link": {
    change: (root) => {
      c.unlink(`${root}/hard`);
      c.close(c.open(`${root}/hard`, c.O_CREAT | c.O_WRONLY));
    },
    lines: [
      /^\.: mtime/,
      /^\.: ctime/,
      /^empty: nlink/,
      /^empty: ctime/,
      /^hard: nlink/,
      /^hard: sameInodeAs: expected "empty", got undefined/,
      /^hard: mtime/,
      /^hard: ctime/,
    ],
  },
  "a directory more": {
    change: (root) => c.mkdir(`${root}/dir/more`),
    lines: [/^dir: nlink/, /^dir: mtime/, /^dir: ctime/, /^dir\/more: only under test/],
  },
  "another target": {
    change: (root) => {
      c.unlink(`${root}/dangling`);
      c.symlink("elsewhere", `${root}/dangling`);
    },
    lines: [
      /^\.: mtime/,
      /^\.: ctime/,
      /^dangling: size/,
      /^dangling: target: expected "nowhere"/,
      /^dangling: mtime/,
      /^dangling: ctime/,
    ],
  },
  "an attribute": {
    change: (root) => c.setxattr(`${root}/file`, "user.a", c.toBytes("b")),
    lines: [/^file: ctime/, /^file: xattr: expected {}, got {"user.a":"b"}/],
  },
};

for (const [name, { change, lines }] of Object.entries(DIFFERENCES)) {
  const fn = async () => {
    await using dir = await tempDir();
    const [a, b] = ["a", "b"].map((name) => {
      const root = c.fromUtf8(dir.at(name));
      c.mkdir(root);
      writeFixture(root, ["small"]);
      c.link(`${root}/empty`, `${root}/hard`);
      const before = timesBefore(root);
      if (name === "b") change(root);
      return stateOf(root, before, { xattr: true });
    });
    assert.ok(a && b);
    const found = compareStates(a, b);
    assert.equal(found.length, lines.length, found.join("\n"));
    for (const [i, line] of lines.entries()) assert.match(found[i] ?? "", line);
  };
  // Only root may give files away.
  Deno.test({ name: `state: shows ${name}`, ignore: Deno.uid() !== 0, fn });
}

Deno.test("state: a time is old, now, or what it was set to", () => {
  const startNs = c.realtimeNs();
  const before = { startNs, times: new Set([1n, startNs + 1n]) };
  assert.equal(describeTime(1n, before), "old");
  assert.equal(describeTime(startNs + 1n, before), "old");
  assert.equal(describeTime(startNs + 2n, before), "now");
  assert.equal(describeTime(startNs - 5_000_000n, before), "now");
  assert.equal(describeTime(startNs - 1_000_000_000n, before), String(startNs - 1_000_000_000n));
  assert.equal(describeTime(startNs + 10n ** 15n, before), String(startNs + 10n ** 15n));
});
