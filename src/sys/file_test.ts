import assert from "node:assert/strict";
import { tempDir } from "../../tests/support/run.ts";
import { ERRNO, FsError } from "../errno.ts";
import { closeFd, O, openFd, preadFull } from "./fd.ts";
import {
  copyRange,
  fileClock,
  newStat,
  openAt,
  pwriteAll,
  SEEK,
  seekFd,
  setTimes,
  statAt,
  statFd,
  syncFd,
  truncateFd,
  unlinkAt,
} from "./file.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

Deno.test("a file below a directory: written, read, cut, stat'ed, removed", async () => {
  await using dir = await tempDir();
  const dirFd = openFd(dir.path, O.PATH | O.DIRECTORY);
  const fd = openAt(dirFd, "f", O.RDWR | O.CREAT | O.EXCL, 0o600);
  assert.equal(pwriteAll(fd, bytes("hello"), 3), 5);
  const into = new Uint8Array(20);
  assert.equal(preadFull(fd, into, 0), 8);
  assert.deepEqual(into.subarray(0, 8), bytes("\0\0\0hello"));
  truncateFd(fd, 5);
  const stat = statFd(fd, newStat());
  const named = Deno.statSync(dir.at("f"));
  assert.equal(stat.sizeBytes, 5);
  assert.equal(stat.blocks, named.blocks);
  assert.equal(stat.mtimeSeconds, Math.floor((named.mtime as Date).getTime() / 1000));
  assert.deepEqual(statAt(dirFd, "f", newStat()), stat);
  syncFd(fd, { dataOnly: true });
  syncFd(fd, { dataOnly: false });
  unlinkAt(dirFd, "f");
  unlinkAt(dirFd, "f");
  assert.throws(
    () => statAt(dirFd, "f", newStat()),
    (error) => error instanceof FsError && error.errno === ERRNO.ENOENT,
  );
  closeFd(fd);
  closeFd(dirFd);
});

Deno.test("a link in a file's place is not followed", async () => {
  await using dir = await tempDir();
  await Deno.writeTextFile(dir.at("target"), "x");
  await Deno.symlink("target", dir.at("link"));
  const dirFd = openFd(dir.path, O.PATH | O.DIRECTORY);
  assert.throws(() => openAt(dirFd, "link", O.RDWR), { errno: ERRNO.ELOOP });
  closeFd(dirFd);
});

Deno.test("times to the nanosecond, before 1970 too, now, and left alone", async () => {
  await using dir = await tempDir();
  const dirFd = openFd(dir.path, O.PATH | O.DIRECTORY);
  const fd = openAt(dirFd, "f", O.RDWR | O.CREAT, 0o600);
  setTimes(fd, { seconds: 10, nanoseconds: 1 }, { seconds: -5, nanoseconds: 999_999_999 });
  const first = statFd(fd, newStat());
  assert.deepEqual([first.atimeSeconds, first.atimeNanoseconds], [10, 1]);
  assert.deepEqual([first.mtimeSeconds, first.mtimeNanoseconds], [-5, 999_999_999]);
  const before = fileClock();
  setTimes(fd, null, "now");
  const second = statFd(fd, newStat());
  assert.deepEqual([second.atimeSeconds, second.atimeNanoseconds], [10, 1]);
  assert.ok(
    second.mtimeSeconds > before.seconds ||
      second.mtimeSeconds === before.seconds && second.mtimeNanoseconds >= before.nanoseconds,
  );
  closeFd(fd);
  closeFd(dirFd);
});

Deno.test("data and holes are found, ranges are copied", async () => {
  await using dir = await tempDir();
  const dirFd = openFd(dir.path, O.PATH | O.DIRECTORY);
  const fd = openAt(dirFd, "f", O.RDWR | O.CREAT, 0o600);
  const other = openAt(dirFd, "g", O.RDWR | O.CREAT, 0o600);
  pwriteAll(fd, bytes("abc"), 1 << 20);
  assert.equal(seekFd(fd, 0, SEEK.HOLE), 0);
  assert.ok(seekFd(fd, 0, SEEK.DATA) > 0);
  assert.throws(() => seekFd(fd, 2 << 20, SEEK.DATA), { errno: ERRNO.ENXIO });
  assert.equal(copyRange(fd, 1 << 20, other, 2, 100), 3);
  const into = new Uint8Array(5);
  preadFull(other, into, 0);
  assert.deepEqual(into, bytes("\0\0abc"));
  for (const each of [fd, other, dirFd]) closeFd(each);
});
