/**
 * How main tells the kernel what may wait for the mount worker's reply: a switch by a notifier of
 * its own, which says what failed (there are few, and a thread costs memory); barriers, of which
 * there may be some before each answer to git, one by one on a thread of Deno's pool.
 */

import { splitMessages } from "../fuse/notify.ts";
import { closeFd, writeFdAside } from "../sys/mod.ts";
import type { Notices, Told } from "./messages.ts";
import { NoticeState } from "./notice_state.ts";

/**
 * An answer of the file monitor waits so long for its barriers. They take as long as a process
 * needs to get a processor; whoever holds a directory for longer waits for the network.
 */
export const SETTLE_MS = 250;

/** Only libc: it is given a descriptor. */
const PERMISSIONS: Deno.PermissionOptionsObject = {
  read: false,
  write: false,
  ffi: true,
  env: false,
  net: false,
  run: false,
  sys: false,
  import: false,
};

export function spawnNotifier(): Worker {
  return new Worker(new URL("../mount/notifier_worker.ts", import.meta.url), {
    type: "module",
    name: "notifier",
    deno: { permissions: PERMISSIONS },
  });
}

/** Resolves when the kernel has been told, or cannot be (why not). The descriptor is gone then. */
export function tellKernel(notifier: Worker, notices: Notices): Promise<string | null> {
  return new Promise((resolve) => {
    notifier.onmessage = ({ data }: MessageEvent<Told>) => resolve(data.failure);
    notifier.onerror = (event) => {
      event.preventDefault();
      const state = new NoticeState(notices.state);
      // Else it has come to its end, and its descriptor may be another's.
      if (state.isTelling) {
        closeFd(notices.fd);
        state.end();
      }
      resolve(`the notifier has crashed: ${event.message}`);
    };
    notifier.postMessage(notices, [notices.messages]);
  });
}

/** Resolves when all of it was written, or cannot be any more. The descriptor is gone then. */
export async function tellAside({ fd, messages, state }: Notices): Promise<void> {
  const shared = new NoticeState(state);
  for (const message of splitMessages(new Uint8Array(messages))) {
    if (shared.isAbandoned) break;
    await writeFdAside(fd, message);
  }
  closeFd(fd);
  shared.end();
}
