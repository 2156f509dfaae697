import assert from "node:assert/strict";
import { isMountHelper, type MountRequest, parseMountArgs } from "./mount_helper.ts";

const URL = "https://host/repo.git";

function parsed(...args: string[]): MountRequest {
  return parseMountArgs(args);
}

Deno.test("the names by which mount(8) calls a helper", () => {
  assert.deepEqual(
    ["mount.fuse.afs", "mount.afs", "afs", "mount.fuse", "deno", ""].map(isMountHelper),
    [true, true, false, false, false, false],
  );
});

Deno.test("arguments as mount(8) gives them", () => {
  const plain = { url: URL, dir: "/d", readOnly: false, fake: false };
  const cases: readonly (readonly [readonly string[], Partial<MountRequest>])[] = [
    [[URL, "/d"], {}],
    [[URL, "/d", "-o", "rw"], {}],
    [[URL, "/d", "-sfnv", "-o", "ro,odd"], { readOnly: true, fake: true }],
    [[URL, "/d", "-n", "-v", "-o", "rw", "-t", "fuse.afs"], {}],
    [["-r", URL, "/d"], { readOnly: true }],
    [["-r", URL, "/d", "-o", "rw"], {}],
    [[URL, "/d", "-oro"], { readOnly: true }],
    [[URL, "/d", "-o", "ro,rw"], {}],
    [[`${URL}#main`, "/d"], { ref: "main" }],
    [[`${URL}#`, "/d"], {}],
    [[`${URL}#a`, "/d", "-o", "ref=a"], { ref: "a" }],
    [["/a#b/repo.git#v1", "/d"], { url: "/a#b/repo.git", ref: "v1" }],
    [[URL, "/d", "-o", "ref=refs/heads/x=y"], { ref: "refs/heads/x=y" }],
    [[URL, "/d", "-o", "name=n", "-o", "depth=3,uid=7,gid=8,umask=002"], {
      name: "n",
      umask: 2,
      depth: 3,
      uid: 7,
      gid: 8,
    }],
    [[
      URL,
      "/d",
      "-o",
      "rw,nosuid,nodev,noatime,_netdev,noauto,nofail,user=me,x-systemd.automount,X-mount.mkdir",
    ], {}],
  ];
  for (const [args, expected] of cases) {
    assert.deepEqual(parsed(...args), { ...plain, ...expected }, args.join(" "));
  }
});

Deno.test("what cannot be is said in one line, and is wrong usage", () => {
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [[URL], /give a URL and a directory/],
    [[URL, "/d", "/e"], /more than a URL and a directory: \/e/],
    [[URL, "/d", "-o"], /-o has no value/],
    [[URL, "/d", "-x"], /no option -x/],
    [[URL, "/d", "-N", "/proc/1/ns/mnt"], /another namespace/],
    [[URL, "/d", "-o", "odd=secret"], /no option "odd"; see/],
    [[URL, "/d", "-o", "noexec"], /with noexec/],
    [[URL, "/d", "-o", "remount,ro"], /with remount: unmount it/],
    [[URL, "/d", "-o", "suid"], /with suid/],
    [[URL, "/d", "-o", "uid=1"], /give both/],
    [[URL, "/d", "-o", "uid=me,gid=1"], /uid=me is no whole number/],
    [[URL, "/d", "-o", "depth"], /depth= has no value/],
    [[URL, "/d", "-o", "umask=700"], /umask=700 is not from/],
    [[`${URL}#a`, "/d", "-o", "ref=b"], /two refs are given, a and b/],
  ];
  for (const [args, message] of cases) {
    assert.throws(() => parsed(...args), { name: "Failure", kind: "usage", message });
  }
});
