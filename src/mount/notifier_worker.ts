/**
 * Entry of a notifier: it tells the kernel what it must forget, and ends. A notification may wait
 * for a process that holds a directory and waits for the mount worker's reply (src/fuse/notify.ts),
 * so this is a thread of its own that nobody waits for but who wants to know that it is done.
 *
 * Its descriptor of the device is its own: the mount's may be closed at any time, and its number be
 * another file's.
 */

import { ERRNO, errnoName } from "../errno.ts";
import { splitMessages } from "../fuse/notify.ts";
import { closeFd, writeFd } from "../sys/mod.ts";
import type { Notices, Told } from "./messages.ts";
import { NoticeState } from "./notice_state.ts";

declare const self: {
  onmessage: ((event: MessageEvent<Notices>) => void) | null;
  postMessage(message: Told): void;
  close(): void;
};

self.onmessage = ({ data }) => {
  self.onmessage = null;
  const { fd, messages, state } = data;
  const shared = new NoticeState(state);
  let failure: string | null = null;
  for (const message of splitMessages(new Uint8Array(messages))) {
    if (shared.isAbandoned) {
      failure = "the mount is going";
      break;
    }
    const written = writeFd(fd, message);
    // ENOENT: the kernel does not hold it.
    if (written < 0 && written !== -ERRNO.ENOENT) failure ??= errnoName(-written);
  }
  closeFd(fd);
  shared.end();
  self.postMessage({ failure });
  self.close();
};
