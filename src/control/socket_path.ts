/** The one limit a socket's path has. */

import { Failure } from "../failure.ts";

/** sun_path of sockaddr_un, without its NUL. */
const MAX_BYTES = 107;

/** Throws Failure (fatal): the kernel would refuse the path. */
export function checkSocketPath(socketPath: string): void {
  const length = new TextEncoder().encode(socketPath).length;
  if (length <= MAX_BYTES) return;
  throw new Failure(
    "fatal",
    `Cannot use ${socketPath}: a socket's path has at most ${MAX_BYTES} bytes, this one has ` +
      `${length}; set ARTIFACT_FS_ROOT to a shorter path`,
  );
}
