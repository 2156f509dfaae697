/** Whether this process may mount at all: asked before anything is fetched or written. */

import { ERRNO, errnoName } from "../errno.ts";
import { Failure } from "../failure.ts";
import { fuseDeviceError, readProcFile } from "../sys/mod.ts";

/** include/uapi/linux/capability.h */
const CAP_SYS_ADMIN = 21n;

/** Throws Failure (fatal). `url` is what `git clone` would take, without credentials. */
export function checkMountRights(url: string = "<url>"): void {
  const wayOut = `or, without FUSE, \`git clone --depth 1 ${url}\``;
  if (!maySysAdmin()) {
    throw new Failure(
      "fatal",
      `Cannot mount: this user has no right to; use \`sudo\`, or in a container add the ` +
        `capability SYS_ADMIN and the device /dev/fuse, ${wayOut}`,
    );
  }
  const error = fuseDeviceError();
  if (error === null) return;
  const missing = error === ERRNO.ENOENT || error === ERRNO.ENODEV;
  throw new Failure(
    "fatal",
    missing
      ? `Cannot mount: there is no /dev/fuse; load the kernel module fuse (modprobe fuse), or give ` +
        `the container the device (--device /dev/fuse), ${wayOut}`
      : `Cannot mount: /dev/fuse cannot be opened (${errnoName(error)}); give the container the ` +
        `device (--device /dev/fuse), ${wayOut}`,
  );
}

/** Whether mount(2) is allowed, as far as capabilities say. */
function maySysAdmin(): boolean {
  const line = /^CapEff:\s*([0-9a-f]+)$/m.exec(readProcFile("/proc/self/status"));
  if (line === null) return true;
  return (BigInt(`0x${line[1]}`) >> CAP_SYS_ADMIN & 1n) === 1n;
}
