/**
 * Main's handle on one mount worker.
 *
 *   state      event                            next       what main sees
 *   starting   mounted                          serving    `started` resolves
 *   starting   mount-failed, worker error       ended      `started` rejects
 *   serving    unmount refused                  serving    `unmount` rejects (busy)
 *   serving    unmounted                        ended      `closed` resolves
 *   serving    worker error                     ended      the device is closed, `closed` resolves
 */

import { ERRNO, errnoName } from "../errno.ts";
import { Failure } from "../failure.ts";
import { closeFd, createEventFd, detachMount, signalEventFd } from "../sys/mod.ts";
import type { MountCommand, MountConfig, MountEvent, StartMount } from "./messages.ts";

/** What the worker asks for. */
export type MountWant = MountEvent & { readonly kind: "want" | "want-tree" | "read-ahead" };

export class MountHandle {
  readonly #config: MountConfig;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #eventFd: number;
  readonly #onWant: (want: MountWant) => void;
  readonly #started = Promise.withResolvers<string>();
  readonly #closed = Promise.withResolvers<string>();
  #unmounting: PromiseWithResolvers<void> | null = null;
  #deviceFd: number | null = null;
  #ended = false;

  /** Mounts in a worker of `spawnMountWorker`, which is this mount's from now on. */
  constructor(config: MountConfig, worker: Worker, onWant: (want: MountWant) => void) {
    this.#config = config;
    this.#worker = worker;
    this.#onWant = onWant;
    this.#eventFd = createEventFd();
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    port1.onmessage = ({ data }) => this.#onEvent(data as MountEvent);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#onCrash(event.message);
    };
    const start: StartMount = { kind: "start", config, eventFd: this.#eventFd, port: port2 };
    this.#worker.postMessage(start, [port2]);
  }

  /** Resolves when the kernel has our answer to INIT. Throws Failure. */
  async started(): Promise<void> {
    await this.#started.promise;
  }

  /** Resolves when the mount is gone, with the reason. */
  get closed(): Promise<string> {
    return this.#closed.promise;
  }

  send(command: MountCommand, transfer: Transferable[] = []): void {
    if (this.#ended) return;
    this.#port.postMessage(command, transfer);
    signalEventFd(this.#eventFd);
  }

  /** Throws Failure (busy) when not lazy and somebody is inside. */
  async unmount(options: { lazy: boolean }): Promise<void> {
    if (this.#ended) return;
    this.#unmounting ??= Promise.withResolvers();
    this.send({ kind: "unmount", lazy: options.lazy });
    await this.#unmounting.promise;
  }

  #onEvent(event: MountEvent): void {
    switch (event.kind) {
      case "mounted":
        this.#deviceFd = event.fd;
        this.#started.resolve(event.protocol);
        break;
      case "mount-failed":
        this.#started.reject(mountFailure(this.#config.mountPoint, event.errno, event.cause));
        this.#finish(event.cause);
        break;
      case "want":
      case "want-tree":
      case "read-ahead":
        this.#onWant(event);
        break;
      case "unmount-refused":
        this.#unmounting?.reject(unmountFailure(this.#config.mountPoint, event.errno));
        this.#unmounting = null;
        break;
      case "unmounted":
        this.#deviceFd = null;
        this.#started.reject(
          new Failure("failed", `Cannot mount ${this.#config.mountPoint}: it was unmounted`),
        );
        this.#finish(event.cause);
        break;
    }
  }

  #onCrash(message: string): void {
    if (this.#ended) return;
    const { mountPoint } = this.#config;
    if (this.#deviceFd !== null) {
      // Closing the device ends every call that hangs in the mount; then it can be detached.
      closeFd(this.#deviceFd);
      detachMount(mountPoint);
    }
    this.#started.reject(new Failure("failed", `Cannot mount ${mountPoint}: ${message}`));
    this.#finish(`the mount worker has crashed: ${message}`);
  }

  #finish(cause: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#worker.terminate();
    this.#port.close();
    closeFd(this.#eventFd);
    this.#unmounting?.resolve();
    this.#closed.resolve(cause);
  }
}

/** A worker that waits for its mount. `folder`: all it may read and write. */
export function spawnMountWorker(folder: string): Worker {
  return new Worker(new URL("../mount/worker.ts", import.meta.url), {
    type: "module",
    name: "mount",
    deno: { permissions: mountWorkerPermissions(folder) },
  });
}

/**
 * What a mount worker may do. With ffi it could open any file, so this is defence in depth; what
 * keeps a repository inside its mount is that names from a tree never become paths of the host.
 */
function mountWorkerPermissions(folder: string): Deno.PermissionOptionsObject {
  return {
    read: [folder],
    write: [folder],
    ffi: true,
    env: false,
    net: false,
    run: false,
    sys: false,
    import: false,
  };
}

function mountFailure(mountPoint: string, errno: number, cause: string): Failure {
  const cannot = `Cannot mount ${mountPoint}`;
  switch (errno) {
    case ERRNO.EPERM:
    case ERRNO.EACCES:
      return new Failure(
        "fatal",
        `${cannot}: no right to mount (${errnoName(errno)}); run the daemon as root, or in a ` +
          "container with the capability SYS_ADMIN and the device /dev/fuse",
      );
    case ERRNO.ENOENT:
    case ERRNO.ENODEV:
      return new Failure(
        "fatal",
        `${cannot}: ${cause}; without FUSE use \`git clone --depth 1\` instead`,
      );
    default:
      return new Failure("failed", `${cannot}: ${cause}`);
  }
}

function unmountFailure(mountPoint: string, errno: number): Failure {
  if (errno === ERRNO.EBUSY) {
    return new Failure(
      "busy",
      `Cannot unmount ${mountPoint}: it is in use (an open file or a working directory); ` +
        "end what uses it, or add --force",
    );
  }
  return new Failure("failed", `Cannot unmount ${mountPoint}: ${errnoName(errno)}`);
}
