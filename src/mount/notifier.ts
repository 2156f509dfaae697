/** Main's side of a notifier: one for each switch. There are few, and a thread costs memory. */

import { closeFd } from "../sys/mod.ts";
import type { Notices, Told } from "./messages.ts";
import { NoticeState } from "./notice_state.ts";

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
