/**
 * Random sequences of calls on few names, the same at every run: what no table thinks of. Each call
 * may succeed or fail, as long as both sides do the same, and leave the same behind.
 */

import { Random } from "../../support/git_objects.ts";
import { compared, type PosixCase, type Step } from "../case.ts";
import * as c from "../syscalls.ts";

const SEEDS = 12;
const STEPS = 150;

const PATHS = [
  "file",
  "text",
  "exec",
  "empty",
  "link",
  "dangling",
  "dirlink",
  "dir",
  "dir/a",
  "dir/b",
  "dir/sub",
  "dir/sub/leaf",
  "other",
  "other/x",
  "new",
  "dir/new",
  "other/new",
  "other/sub",
  "dirlink/new",
  "nowhere",
];
const DESCRIPTORS = ["a", "b", "c"];

/** The next call, with all that is random in it chosen. */
function nextStep(random: Random): Step {
  const pick = <T>(from: readonly T[]): T => from[random.below(from.length)] as T;
  const path = pick(PATHS);
  const to = pick(PATHS);
  const fd = pick(DESCRIPTORS);
  const size = random.below(20_000);
  const text = `${random.below(1000)}`.repeat(1 + random.below(300));
  const mode = random.below(0o10000);
  const flags = pick([0, 0, 0, c.RENAME_NOREPLACE, c.RENAME_EXCHANGE]);
  const openFlags = pick([c.O_RDWR, c.O_RDWR | c.O_CREAT, c.O_RDWR | c.O_APPEND, c.O_RDONLY]);
  // What changes names comes more often than the rest.
  return pick<() => Step>([
    () => compared(`put ${path}`, (s) => s.put(path, text)),
    () => compared(`append to ${path}`, (s) => s.append(path, text)),
    () => compared(`truncate ${path} to ${size}`, (s) => s.truncate(path, size)),
    () => compared(`cat ${path}`, (s) => s.cat(path)),
    () => compared(`lstat ${path}`, (s) => s.lstat(path)),
    () => compared(`stat ${path}`, (s) => s.stat(path)),
    () => compared(`list ${path}`, (s) => s.list(path)),
    () => compared(`mkdir ${path}`, (s) => s.mkdir(path)),
    () => compared(`mkdir ${path}`, (s) => s.mkdir(path)),
    () => compared(`rmdir ${path}`, (s) => s.rmdir(path)),
    () => compared(`unlink ${path}`, (s) => s.unlink(path)),
    () => compared(`unlink ${path}`, (s) => s.unlink(path)),
    () => compared(`rename ${path} to ${to}, ${flags}`, (s) => s.rename(path, to, flags)),
    () => compared(`rename ${path} to ${to}, ${flags}`, (s) => s.rename(path, to, flags)),
    () => compared(`rename ${path} to ${to}, ${flags}`, (s) => s.rename(path, to, flags)),
    () => compared(`link ${path} to ${to}`, (s) => s.link(path, to)),
    () => compared(`symlink ${path} at ${to}`, (s) => s.symlink(path, to)),
    () => compared(`chmod ${path} ${mode.toString(8)}`, (s) => s.chmod(path, mode)),
    () => compared(`chown ${path}`, (s) => s.lchown(path, size, mode)),
    () => compared(`utimens ${path}`, (s) => s.utimens(path, [1n, BigInt(size)])),
    () =>
      compared(`open ${path} as ${fd}, ${openFlags}`, (s) => {
        if (s.has(fd)) s.close(fd);
        s.open(fd, path, openFlags);
      }),
    () => onDescriptor(`pwrite ${fd}`, fd, (s) => s.pwrite(fd, text, size)),
    () => onDescriptor(`write ${fd}`, fd, (s) => s.write(fd, text)),
    () => onDescriptor(`pread ${fd}`, fd, (s) => s.pread(fd, 5000, size)),
    () => onDescriptor(`ftruncate ${fd} to ${size}`, fd, (s) => s.ftruncate(fd, size)),
    () => onDescriptor(`fstat ${fd}`, fd, (s) => s.fstat(fd)),
  ])();
}

function onDescriptor(text: string, fd: string, call: (s: c.Sys) => unknown): Step {
  return compared(text, (s) => s.has(fd) ? call(s) : null);
}

export const RANDOM: readonly PosixCase[] = Array.from({ length: SEEDS }, (_, seed) => {
  const random = new Random(seed + 1);
  return {
    name: `random: ${STEPS} calls, seed ${seed + 1}`,
    fixture: ["small"],
    steps: Array.from({ length: STEPS }, () => nextStep(random)),
  };
});
