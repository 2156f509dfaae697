/**
 * Whether this process may mount at all: asked before anything is fetched or written. By mount(2),
 * or else by fusermount3, which becomes root; what that refuses is seen when it mounts.
 */

import { ERRNO, errnoName } from "../errno.ts";
import { Failure } from "../failure.ts";
import {
  findProgram,
  fuseDeviceAccess,
  fuseDeviceError,
  FUSERMOUNT,
  readProcFile,
} from "../sys/mod.ts";

/** include/uapi/linux/capability.h */
const CAP_SYS_ADMIN = 21n;

const GIVE_CONTAINER = "the capability SYS_ADMIN and the device /dev/fuse";

/** Throws Failure (fatal). `url` is what `git clone` would take, without credentials. */
export function checkMountRights(url: string = "<url>"): void {
  const obstacle = rightsObstacle(readProcFile("/proc/self/status"), findProgram(FUSERMOUNT)) ??
    deviceObstacle(fuseDeviceError());
  if (obstacle === null) return;
  throw new Failure(
    "fatal",
    `Cannot mount: ${obstacle}, or, without FUSE, \`git clone --depth 1 ${url}\``,
  );
}

/**
 * What is wrong, and what to do; null: nothing is known. `status` is /proc/self/status, `helper`
 * where fusermount3 is.
 */
export function rightsObstacle(status: string, helper: string | null): string | null {
  if (mayAdmin(status, "CapEff")) return null;
  if (!mayAdmin(status, "CapBnd")) {
    return `this user has no right to, and here not even root has; give the container ` +
      GIVE_CONTAINER;
  }
  if (helper === null) {
    return `this user has no right to, and there is no ${FUSERMOUNT} in PATH; install fuse3, use ` +
      `\`sudo\`, or give a container ${GIVE_CONTAINER}`;
  }
  if (/^NoNewPrivs:\s*1$/m.test(status)) {
    return `this user has no right to, and ${helper} cannot become root, since no_new_privs is ` +
      `set; start afs without it, use \`sudo\`, or give a container ${GIVE_CONTAINER}`;
  }
  return null;
}

/** Whether CAP_SYS_ADMIN is in a set; yes where nothing is said. */
function mayAdmin(status: string, set: "CapEff" | "CapBnd"): boolean {
  const bits = new RegExp(`^${set}:\\s*([0-9a-f]+)$`, "m").exec(status)?.[1];
  return bits === undefined || (BigInt(`0x${bits}`) >> CAP_SYS_ADMIN & 1n) === 1n;
}

/** fusermount3 too opens the device as the user. */
function deviceObstacle(error: number | null): string | null {
  switch (error) {
    case null:
      return null;
    case ERRNO.ENOENT:
    case ERRNO.ENODEV:
      return "there is no /dev/fuse; load the kernel module fuse (modprobe fuse), or give the " +
        "container the device (--device /dev/fuse)";
    case ERRNO.EACCES: {
      const { mode, uid } = fuseDeviceAccess();
      return `/dev/fuse may not be opened by this user (mode ${mode}, owner ${uid}); let root ` +
        "run `chmod 666 /dev/fuse`, use `sudo`";
    }
    default:
      return `/dev/fuse cannot be opened (${errnoName(error)}); give the container the device ` +
        "(--device /dev/fuse)";
  }
}
