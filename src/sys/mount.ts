/** mount(2), umount2(2), /dev/fuse, mountinfo, statvfs. */

import { ERRNO } from "../errno.ts";
import { closeFd, O, openFd } from "./fd.ts";
import { cString, errno, lastError, libc } from "./libc.ts";
import { readProcFile } from "./process.ts";

/** File system type in /proc/self/mountinfo. */
export const FS_TYPE = "fuse.afs";

const MS_RDONLY = 1;
const MS_NOSUID = 2;
const MS_NODEV = 4;
/** Of FUSE: whoever waits for a reply gets an error, and no request comes any more. */
const MNT_FORCE = 1;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;
const S_IFDIR = 0o040000;

export interface FuseMount {
  /** Of /dev/fuse. */
  readonly fd: number;
  /** As in MountInfo. */
  readonly device: string;
}

export interface FuseMountOptions {
  readonly mountPoint: string;
  readonly source: string;
  readonly allowOther: boolean;
  readonly readOnly: boolean;
  /** /proc/PID/fd/N of somebody who has the mount point open, where a walk to it would wait. */
  readonly through?: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Opens /dev/fuse and mounts it, nosuid, nodev, with default_permissions (unknown sizes are safe
 * only with it: notes in src/fuse/README.md). Throws FsError.
 */
export function mountFuse(options: FuseMountOptions): FuseMount {
  const before = readMountInfo();
  if (options.through !== undefined) return mountedOn(options.through, options, before);
  // A directory, and no link: whoever may write beside it must not choose where root mounts.
  const target = openFd(options.mountPoint, O.PATH | O.DIRECTORY | O.NOFOLLOW);
  try {
    return mountedOn(`/proc/self/fd/${target}`, options, before);
  } finally {
    closeFd(target);
  }
}

function mountedOn(
  target: string,
  options: FuseMountOptions,
  before: readonly MountInfo[],
): FuseMount {
  const fd = mountOn(target, options);
  return { fd, device: deviceOfNew(before, readMountInfo(), options.mountPoint) };
}

/**
 * Device of the mount that was made between two looks, "" if none. Its number alone does not tell:
 * it may be that of another mount of this kind which went away meanwhile.
 */
export function deviceOfNew(
  before: readonly MountInfo[],
  after: readonly MountInfo[],
  mountPoint: string,
): string {
  const placeOf = (mount: MountInfo) => `${mount.device} ${mount.mountPoint}`;
  const places = new Set(before.map(placeOf));
  const made = after.filter((mount) => mount.fsType === FS_TYPE && !places.has(placeOf(mount)));
  const ours = made.findLast((mount) => mount.mountPoint === mountPoint) ?? made.at(-1);
  return ours?.device ?? "";
}

function mountOn(target: string, options: FuseMountOptions): number {
  const fd = openFd("/dev/fuse", O.RDWR | O.NONBLOCK);
  const data = [
    `fd=${fd}`,
    `rootmode=${S_IFDIR.toString(8)}`,
    `user_id=${options.uid}`,
    `group_id=${options.gid}`,
    "default_permissions",
    // Where pages are larger than 4 KiB, max_pages alone would allow more than one reply can hold.
    "max_read=1048576",
    ...(options.allowOther ? ["allow_other"] : []),
  ].join(",");
  const result = libc.mount(
    cString(options.source),
    cString(target),
    cString(FS_TYPE),
    BigInt(MS_NOSUID | MS_NODEV | (options.readOnly ? MS_RDONLY : 0)),
    cString(data),
  );
  if (result !== 0) {
    const error = lastError(`mount ${options.mountPoint}`);
    closeFd(fd);
    throw error;
  }
  return fd;
}

/**
 * Unmounts the FUSE mount with this device number, wherever it is by now; 0 or errno. EBUSY: in
 * use, or something else is mounted on top of it. 0 also when it is gone already. Only for a mount
 * whose device is closed: the kernel may write to one that is not, and wait for us.
 */
export function unmountDevice(device: string, options: UnmountOptions): number {
  const mountPoint = mountPointOf(device);
  if (mountPoint === null) return 0;
  return mountPoint === COVERED ? ERRNO.EBUSY : unmount(mountPoint, options);
}

/**
 * As unmountDevice, of a mount that is still served, without blocking this thread: what is dirty in
 * shared mappings is written on the way, and the mount's thread must answer.
 */
export async function unmountServed(device: string, options: { lazy: boolean }): Promise<number> {
  const mountPoint = mountPointOf(device);
  if (mountPoint === null) return 0;
  if (mountPoint === COVERED) return ERRNO.EBUSY;
  const flags = UMOUNT_NOFOLLOW | (options.lazy ? MNT_DETACH : 0);
  if (await libc.umount2Aside(cString(mountPoint), flags) === 0) return 0;
  // errno is the other thread's. What refuses to go is in use; there is no other reason for ours.
  return mountPointOf(device) === null ? 0 : ERRNO.EBUSY;
}

/**
 * Has the kernel write what is dirty in shared mappings of a mount that is served. Resolves when it
 * has, or when it cannot.
 */
export async function flushServed(device: string): Promise<void> {
  const mountPoint = mountPointOf(device);
  if (mountPoint === null || mountPoint === COVERED) return;
  const fd = await libc.openAside(cString(mountPoint), O.RDONLY | O.DIRECTORY | O.CLOEXEC, 0);
  if (fd < 0) return;
  await libc.syncfsAside(fd);
  closeFd(fd);
}

/** Something else is mounted on top. */
const COVERED = Symbol("covered");

/** Where the mount with this device number is; null: nowhere. */
function mountPointOf(device: string): string | typeof COVERED | null {
  const mounts = readMountInfo();
  // The kernel gives a number out again as soon as its file system is gone, to any other kind.
  const ours = mounts.findLast((mount) => mount.device === device && mount.fsType === FS_TYPE);
  if (ours === undefined) return null;
  const top = mounts.findLast(({ mountPoint }) => mountPoint === ours.mountPoint);
  return top === ours ? ours.mountPoint : COVERED;
}

export interface UnmountOptions {
  /** Out of the tree now, gone when nobody is inside. */
  readonly lazy: boolean;
  /** The connection ends. */
  readonly force?: boolean;
}

/** Unmounts; 0 or errno (EBUSY: in use). */
export function unmount(mountPoint: string, { lazy, force }: UnmountOptions): number {
  const flags = UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0) | (force === true ? MNT_FORCE : 0);
  return libc.umount2(cString(mountPoint), flags) === 0 ? 0 : errno();
}

/**
 * Takes a dead mount out of the tree. By force: a thread that tells the kernel something may hold
 * its device open, and wait for somebody who waits for a reply. Throws FsError.
 */
export function detachMount(mountPoint: string): void {
  const number = unmount(mountPoint, { lazy: true, force: true });
  if (number !== 0 && number !== ERRNO.EINVAL) throw lastError(`umount ${mountPoint}`);
}

/** Takes the mounts of a daemon that is gone out of the tree. Throws FsError. */
export function detachOurMounts(mountPoints: ReadonlySet<string>): void {
  for (const { fsType, mountPoint } of readMountInfo()) {
    if (fsType === FS_TYPE && mountPoints.has(mountPoint)) detachMount(mountPoint);
  }
}

/**
 * Whether an automount waits at `path` for whoever comes first, and has somebody mount then. Until
 * it is mounted every walk there waits (fs/autofs/root.c, autofs_d_manage), but for the process
 * group of who mounts.
 */
export function isAutomount(path: string): boolean {
  const there = readMountInfo().filter(({ mountPoint, fsType }) =>
    mountPoint === path && fsType !== FS_TYPE
  );
  return there.at(-1)?.fsType === "autofs";
}

/** For `through`: opens a directory for as long as this process lives. Throws FsError. */
export function holdOpen(path: string): string {
  // Not O_DIRECTORY, which would have the automount begin.
  return `/proc/${Deno.pid}/fd/${openFd(path, O.PATH | O.NOFOLLOW)}`;
}

export interface MountInfo {
  /** `major:minor`: what tells one FUSE mount from another, wherever it is. */
  readonly device: string;
  readonly mountPoint: string;
  readonly fsType: string;
  readonly source: string;
}

/** Every mount this process sees, from /proc/self/mountinfo: never by stat, which a dead mount hangs. */
export function readMountInfo(): MountInfo[] {
  return parseMountInfo(readProcFile("/proc/self/mountinfo"));
}

/** Format: proc(5), "/proc/pid/mountinfo"; blanks, tabs, newlines and backslashes are octal. */
export function parseMountInfo(text: string): MountInfo[] {
  const unescape = (field: string) =>
    field.replaceAll(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
  return text.split("\n").filter((line) => line !== "").map((line) => {
    const fields = line.split(" ");
    const dash = fields.indexOf("-");
    return {
      device: fields[2] ?? "",
      mountPoint: unescape(fields[4] ?? ""),
      fsType: fields[dash + 1] ?? "",
      source: unescape(fields[dash + 2] ?? ""),
    };
  });
}

/** Whether /dev/fuse is there and may be opened: null, or errno. */
export function fuseDeviceError(): number | null {
  const fd = libc.open(cString("/dev/fuse"), O.RDWR | O.CLOEXEC, 0);
  if (fd < 0) return errno();
  closeFd(fd);
  return null;
}

export interface FileSystemStats {
  readonly blockSizeBytes: number;
  readonly fragmentSizeBytes: number;
  readonly blocks: number;
  readonly freeBlocks: number;
  readonly availableBlocks: number;
  readonly files: number;
  readonly freeFiles: number;
}

/** statvfs(3); glibc's struct is 112 bytes of u64 on x86_64 and aarch64. Throws FsError. */
export function statFileSystem(path: string): FileSystemStats {
  const out = new BigUint64Array(14);
  if (libc.statvfs(cString(path), new Uint8Array(out.buffer)) !== 0) {
    throw lastError(`statvfs ${path}`);
  }
  const at = (index: number) => Number(out[index]);
  return {
    blockSizeBytes: at(0),
    fragmentSizeBytes: at(1),
    blocks: at(2),
    freeBlocks: at(3),
    availableBlocks: at(4),
    files: at(5),
    freeFiles: at(6),
  };
}
