import assert from "node:assert/strict";
import {
  deviceOfNew,
  type MountInfo,
  parseMountInfo,
  readMountInfo,
  statFileSystem,
} from "./mount.ts";

Deno.test("lines of mountinfo as proc(5) has them", () => {
  const text = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n" +
    "40 36 0:33 / /srv/r ro,nosuid,nodev - fuse.afs https://host/x ro,user_id=0\n" +
    "41 36 0:34 / /many rw shared:2 master:3 propagate_from:4 unbindable - tmpfs tmpfs rw\n";
  assert.deepEqual(parseMountInfo(text), [
    { device: "98:0", mountPoint: "/mnt2", fsType: "ext3", source: "/dev/root" },
    { device: "0:33", mountPoint: "/srv/r", fsType: "fuse.afs", source: "https://host/x" },
    { device: "0:34", mountPoint: "/many", fsType: "tmpfs", source: "tmpfs" },
  ]);
});

Deno.test("blanks, tabs, newlines and backslashes are octal", () => {
  const line = (point: string, source: string) => `1 2 0:1 / ${point} rw - fuse.afs ${source} rw\n`;
  const cases: readonly (readonly [string, string])[] = [
    ["/a\\040b", "/a b"],
    ["/a\\011b", "/a\tb"],
    ["/a\\012b", "/a\nb"],
    ["/a\\134b", "/a\\b"],
    ["/a\\134040b", "/a\\040b"], // a backslash, then digits: unescaped once only
    ["/\\040\\040", "/  "],
    ["/\u00e4\u20ac", "/\u00e4\u20ac"],
    ["/a\\043b", "/a#b"],
    ["/-", "/-"],
  ];
  for (const [escaped, plain] of cases) {
    const [info] = parseMountInfo(line(escaped, escaped));
    assert.deepEqual(info, { device: "0:1", mountPoint: plain, fsType: "fuse.afs", source: plain });
  }
});

Deno.test("an empty source, no lines, and a last line without a newline", () => {
  assert.deepEqual(parseMountInfo(""), []);
  assert.deepEqual(parseMountInfo("1 2 0:1 / /a rw - tmpfs  rw"), [
    { device: "0:1", mountPoint: "/a", fsType: "tmpfs", source: "" },
  ]);
});

Deno.test("this machine's own mounts have /proc among them", () => {
  const mounts = readMountInfo();
  assert.ok(mounts.some(({ mountPoint, fsType }) => mountPoint === "/proc" && fsType === "proc"));
});

Deno.test("statvfs of the root is plausible, of nothing is ENOENT", () => {
  const stats = statFileSystem("/");
  assert.ok(stats.blockSizeBytes >= 512 && stats.blockSizeBytes % 512 === 0);
  assert.ok(stats.fragmentSizeBytes >= 512);
  assert.ok(stats.availableBlocks <= stats.freeBlocks && stats.freeBlocks <= stats.blocks);
  assert.throws(() => statFileSystem("/no/such/folder"), /ENOENT/);
});

Deno.test("a new mount is told from those that come and go meanwhile", () => {
  const mount = (device: string, mountPoint: string, fsType = "fuse.afs"): MountInfo => ({
    device,
    mountPoint,
    fsType,
    source: "s",
  });
  const cases: readonly (readonly [string, MountInfo[], MountInfo[], string])[] = [
    ["alone", [], [mount("0:5", "/m")], "0:5"],
    ["beside others", [mount("0:4", "/a")], [mount("0:4", "/a"), mount("0:5", "/m")], "0:5"],
    ["one made at once", [], [mount("0:5", "/m"), mount("0:6", "/b")], "0:5"],
    ["the number of one that went", [mount("0:4", "/a")], [mount("0:4", "/m")], "0:4"],
    ["another kind", [], [mount("0:5", "/m", "tmpfs"), mount("0:6", "/m")], "0:6"],
    ["below another name", [], [mount("0:5", "/elsewhere")], "0:5"],
    ["none", [mount("0:4", "/a")], [mount("0:4", "/a")], ""],
  ];
  for (const [name, before, after, expected] of cases) {
    assert.equal(deviceOfNew(before, after, "/m"), expected, name);
  }
});
