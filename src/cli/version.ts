/** `afs --version`. */

import { API_VERSION } from "../control/api.ts";
import { messageOf } from "../failure.ts";
import { FUSE_MINOR_MAX, FUSE_MINOR_MIN } from "../fuse/abi.ts";
import { gitVersion } from "../git/process.ts";
import { findProgram, fuseDeviceError, FUSERMOUNT, kernelRelease } from "../sys/mod.ts";

export const AFS_VERSION = "0.1.0";

/** One line per part. Never throws: it is what a bug report begins with. */
export async function versionText(): Promise<string> {
  const git = await gitVersion().catch((error) => `(${messageOf(error)})`);
  const device = fuseDeviceError() === null ? "/dev/fuse can be opened" : "no usable /dev/fuse";
  const helper = findProgram(FUSERMOUNT) ?? `no ${FUSERMOUNT}`;
  return [
    `afs ${AFS_VERSION}, API version ${API_VERSION}`,
    `git ${git}`,
    `Deno ${Deno.version.deno}`,
    `FUSE protocol 7.${FUSE_MINOR_MIN} to 7.${FUSE_MINOR_MAX}, ${device}, ${helper}`,
    `kernel ${kernelText()}`,
  ].join("\n");
}

function kernelText(): string {
  try {
    return kernelRelease();
  } catch (error) {
    return `(${messageOf(error)})`;
  }
}
