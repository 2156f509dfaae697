/**
 * mount(2), umount2(2), /dev/fuse, mountinfo, statvfs.
 *
 * Each call is made by ourselves first, and where this process has no right to (EPERM) by
 * fusermount3: root, a container and a user namespace of one's own need nobody's help.
 */

import { ERRNO, errnoName, FsError } from "../errno.ts";
import { closeFd, O, openFd, setNonBlocking, writeFd } from "./fd.ts";
import { ownedStatFd } from "./file.ts";
import { mountByHelper, unmountByHelper, unmountByHelperAside } from "./fusermount.ts";
import { cString, errno, lastError, libc } from "./libc.ts";
import { readProcFile } from "./process.ts";

const SUBTYPE = "afs";
/** File system type in /proc/self/mountinfo. */
export const FS_TYPE = `fuse.${SUBTYPE}`;

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
  /** fusermount3 has made it, and must take it away. */
  readonly byHelper: boolean;
  /** Whether other users may look into it, as far as its files' modes let them. */
  readonly allowsOthers: boolean;
}

export interface FuseMountOptions {
  readonly mountPoint: string;
  readonly source: string;
  readonly readOnly: boolean;
  /** /proc/PID/fd/N of somebody who has the mount point open, where a walk to it would wait. */
  readonly through?: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Opens /dev/fuse and mounts it, nosuid, nodev, with default_permissions (unknown sizes are safe
 * only with it: notes in src/fuse/README.md). Throws FsError; nothing is mounted then.
 */
export function mountFuse(options: FuseMountOptions): FuseMount {
  const before = readMountInfo();
  const { mountPoint } = options;
  const mount = mountDirectly(options) ?? mountHelped(options, () => {
    const isLeft = oursAt(mountPoint, readMountInfo()).length > oursAt(mountPoint, before).length;
    if (isLeft) unmountByHelper(mountPoint, true);
  });
  return { ...mount, device: deviceMade(mountPoint, before, readMountInfo()) };
}

/**
 * The device number of what was mounted there just now; "" when it is nowhere. The number may be
 * one that was another mount's before, since the kernel gives them out again at once. Only where
 * mountinfo has other paths than ours (proc(5): "relative to the process's root") must it be new.
 */
export function deviceMade(
  mountPoint: string,
  before: readonly MountInfo[],
  after: readonly MountInfo[],
): string {
  const top = oursAt(mountPoint, after).at(-1);
  if (top !== undefined) return top.device;
  const known = new Set(before.map(({ device }) => device));
  const made = after.findLast(({ device, fsType }) => fsType === FS_TYPE && !known.has(device));
  return made?.device ?? "";
}

function oursAt(mountPoint: string, mounts: readonly MountInfo[]): MountInfo[] {
  return mounts.filter((info) => info.fsType === FS_TYPE && info.mountPoint === mountPoint);
}

/** Where pages are larger than 4 KiB, max_pages alone would allow more than one reply can hold. */
const OPTIONS = ["default_permissions", "max_read=1048576"];

/** Null: this process may not. Throws FsError. */
function mountDirectly(options: FuseMountOptions): Omit<FuseMount, "device"> | null {
  // A directory, and no link: whoever may write beside it must not choose where root mounts.
  const target = options.through === undefined
    ? openFd(options.mountPoint, O.PATH | O.DIRECTORY | O.NOFOLLOW)
    : -1;
  let fd = -1;
  try {
    fd = openFd("/dev/fuse", O.RDWR | O.NONBLOCK);
    const data = [
      `fd=${fd}`,
      `rootmode=${S_IFDIR.toString(8)}`,
      `user_id=${options.uid}`,
      `group_id=${options.gid}`,
      ...OPTIONS,
      "allow_other",
    ].join(",");
    const result = libc.mount(
      cString(options.source),
      cString(options.through ?? `/proc/self/fd/${target}`),
      cString(FS_TYPE),
      BigInt(MS_NOSUID | MS_NODEV | (options.readOnly ? MS_RDONLY : 0)),
      cString(data),
    );
    if (result !== 0) throw lastError(`mount ${options.mountPoint}`);
    return { fd, byHelper: false, allowsOthers: true };
  } catch (error) {
    if (fd >= 0) closeFd(fd);
    if (error instanceof FsError && error.errno === ERRNO.EPERM) return null;
    throw error;
  } finally {
    if (target >= 0) closeFd(target);
  }
}

/** `undo`: it may have mounted, and then not said so. Throws FsError. */
function mountHelped(options: FuseMountOptions, undo: () => void): Omit<FuseMount, "device"> {
  try {
    const more = options.readOnly ? ["ro"] : [];
    const mount = mountByHelper({ ...options, subtype: SUBTYPE, options: [...OPTIONS, ...more] });
    setNonBlocking(mount.fd);
    return { ...mount, byHelper: true };
  } catch (error) {
    undo();
    throw error;
  }
}

/**
 * Unmounts the FUSE mount with this device number, wherever it is by now; null, or why not (EBUSY:
 * in use, or something else is mounted on top of it). Null also when it is gone already. Only for a
 * mount whose device is closed: the kernel may write to one that is not, and wait for us.
 */
export function unmountDevice(device: string, options: UnmountOptions): FsError | null {
  const mountPoint = mountPointOf(device);
  if (mountPoint === null) return null;
  if (mountPoint === COVERED) return covered();
  const error = unmountDirectly({ mountPoint, device }, options);
  if (error?.errno !== ERRNO.EPERM) return error;
  return unmountByHelper(mountPoint, options.lazy);
}

/**
 * As unmountDevice, of a mount that is still served, without blocking this thread: what is dirty in
 * shared mappings is written on the way, and the mount's thread must answer.
 */
export async function unmountServed(
  { device, byHelper }: Pick<FuseMount, "device" | "byHelper">,
  { lazy }: { lazy: boolean },
): Promise<FsError | null> {
  const mountPoint = mountPointOf(device);
  if (mountPoint === null) return null;
  if (mountPoint === COVERED) return covered();
  let error: FsError | null;
  if (byHelper) {
    error = await unmountByHelperAside(mountPoint, lazy);
  } else {
    const flags = UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0);
    const isDone = await libc.umount2Aside(cString(mountPoint), flags) === 0;
    // errno is the other thread's. What refuses to go is in use; there is no other reason for ours.
    error = isDone ? null : new FsError(ERRNO.EBUSY);
  }
  return error === null || mountPointOf(device) === null ? null : error;
}

function covered(): FsError {
  return new FsError(ERRNO.EBUSY, "something else is mounted on top of it");
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

type Mount = Pick<MountInfo, "mountPoint" | "device">;

/** By umount2(2). Null, or why not. */
function unmountDirectly(mount: Mount, { lazy, force = false }: UnmountOptions): FsError | null {
  const { mountPoint, device } = mount;
  const flags = UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0);
  const unmount = (more: number) =>
    libc.umount2(cString(mountPoint), flags | more) === 0 ? 0 : errno();
  let number = unmount(force ? MNT_FORCE : 0);
  if (number === ERRNO.EPERM && force) {
    // Some kernels let nobody but root use force, in whatever namespace.
    abortConnection(device);
    number = unmount(0);
  }
  // It is gone.
  if (number === 0 || number === ERRNO.EINVAL) return null;
  return new FsError(number, `umount ${mountPoint}: ${errnoName(number)}`);
}

/**
 * What force does, for who may not use it: a mount's user may write this file, where the machine
 * shows it (Documentation/filesystems/fuse/fuse.rst).
 */
function abortConnection(device: string): void {
  try {
    const minor = device.split(":")[1] ?? "";
    const fd = openFd(`/sys/fs/fuse/connections/${minor}/abort`, O.WRONLY);
    writeFd(fd, new TextEncoder().encode("1"));
    closeFd(fd);
  } catch {
    // It ends when its device is closed everywhere.
  }
}

/**
 * Takes dead mounts out of the tree. By force: a thread that tells the kernel something may hold
 * the device open, and wait for somebody who waits for a reply. Throws FsError.
 */
async function detach(mounts: readonly Mount[]): Promise<void> {
  for (const mount of mounts) {
    const error = unmountDirectly(mount, { lazy: true, force: true });
    if (error === null) continue;
    if (error.errno !== ERRNO.EPERM) throw error;
    const refused = await unmountByHelperAside(mount.mountPoint, true);
    if (refused !== null && mountPointOf(mount.device) !== null) throw refused;
  }
}

/** Takes what is mounted there out of the tree: the last mount, which is dead. Throws FsError. */
export async function detachMount(mountPoint: string): Promise<void> {
  const mount = readMountInfo().findLast((info) => info.mountPoint === mountPoint);
  if (mount !== undefined) await detach([mount]);
}

/** Takes the mounts of a daemon that is gone out of the tree. Throws FsError. */
export async function detachOurMounts(mountPoints: ReadonlySet<string>): Promise<void> {
  const isOurs = ({ fsType, mountPoint }: MountInfo) =>
    fsType === FS_TYPE && mountPoints.has(mountPoint);
  await detach(readMountInfo().filter(isOurs));
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

/** Who may open /dev/fuse, as `ls -n` would say; Deno refuses to look. Throws FsError. */
export function fuseDeviceAccess(): { readonly mode: string; readonly uid: number } {
  const fd = openFd("/dev/fuse", O.PATH);
  try {
    const { mode, uid } = ownedStatFd(fd);
    return { mode: (mode & 0o777).toString(8).padStart(4, "0"), uid };
  } finally {
    closeFd(fd);
  }
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
