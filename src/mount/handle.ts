/**
 * Main's handle on one mount worker.
 *
 *   state      event                            next       what main sees
 *   starting   mounted                          serving    `started` resolves
 *   starting   mount-failed, worker error       ended      `started` rejects
 *   serving    unmount, somebody is inside      serving    `unmount` rejects (busy)
 *   serving    unmounted                        ended      `closed` resolves
 *   serving    worker error                     ended      the device is closed, `closed` resolves
 */

import { ERRNO, type FsError } from "../errno.ts";
import { Failure, messageOf } from "../failure.ts";
import { logger } from "../log.ts";
import {
  closeFd,
  createEventFd,
  detachMount,
  flushServed,
  type FuseMount,
  signalEventFd,
  unmountServed,
} from "../sys/mod.ts";
import { FuseCounters } from "../fuse/counters.ts";
import type { BaseId } from "../git/base_id.ts";
import { logLevel } from "../log.ts";
import type {
  MountCommand,
  MountConfig,
  MountEvent,
  MountTree,
  Pong,
  Rebased,
  StartMount,
  Switched,
  SwitchedEvent,
} from "./messages.ts";
import { NoticeState } from "./notice_state.ts";
import { SETTLE_MS, spawnNotifier, tellAside, tellKernel } from "./notifier.ts";

/** How long what is dirty may take to be written when a mount goes. */
const FLUSH_MS = 4_000;

/** What the worker asks for, and what it found. */
export type MountWant = MountEvent & {
  readonly kind: "want" | "want-tree" | "sizes" | "convert" | "borrowed";
};

/** How it is mounted. */
export type Started = Pick<FuseMount, "allowsOthers">;

/** What its store's workers answer. */
export type StoreWant = Exclude<MountWant, { readonly kind: "convert" | "borrowed" }>;

export class MountHandle {
  readonly #config: MountConfig;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #eventFd: number;
  readonly #onWant: (want: MountWant) => void;
  readonly #started = Promise.withResolvers<Started>();
  readonly #counters = new FuseCounters();
  /** Questions without an answer yet. */
  readonly #pings = new Map<number, (pong: Pong | null) => void>();
  #nextPing = 1;
  readonly #closed = Promise.withResolvers<string>();
  /** While the kernel has our answer to INIT. */
  #mounted: FuseMount | null = null;
  #ended = false;
  #publishing: PromiseWithResolvers<void> | null = null;
  /** The worker is no more; its mount is being taken away. */
  #crashed = false;
  /** The rebase under way. */
  #rebasing: PromiseWithResolvers<Rebased> | null = null;
  /** The switch under way. */
  #switching: PromiseWithResolvers<Switched> & { readonly notifier: Worker } | null = null;
  readonly #notices = new NoticeState();

  /**
   * Mounts in a worker of `spawnMountWorker`, which is this mount's from now on. Without a tree
   * everything in it waits until there is one (`publish`).
   */
  constructor(
    config: MountConfig,
    tree: MountTree | null,
    worker: Worker,
    onWant: (want: MountWant) => void,
  ) {
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
    const start: StartMount = {
      kind: "start",
      config,
      tree,
      eventFd: this.#eventFd,
      port: port2,
      counters: this.#counters.buffer,
      logLevel: logLevel(),
      notices: this.#notices.buffer,
    };
    this.#worker.postMessage(start, [port2]);
  }

  /** Requests of the kernel so far. */
  get counters(): Pick<FuseCounters, "awaited" | "byOp" | "byErrno"> {
    return this.#counters;
  }

  /** What the worker's loop says; null: nothing within that time, or the mount is gone. */
  ping(timeoutMs: number): Promise<Pong | null> {
    if (this.#ended) return Promise.resolve(null);
    const id = this.#nextPing++;
    const { promise, resolve } = Promise.withResolvers<Pong | null>();
    const timer = setTimeout(resolve, timeoutMs, null);
    this.#pings.set(id, resolve);
    this.send({ kind: "ping", id });
    return promise.finally(() => {
      clearTimeout(timer);
      this.#pings.delete(id);
    });
  }

  /** Resolves when the kernel has our answer to INIT. Throws Failure. */
  started(): Promise<Started> {
    return this.#started.promise;
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

  /** Serves what has come, in place of the gate. Throws Failure. */
  publish(tree: MountTree): Promise<void> {
    if (this.#ended) return Promise.reject(gone());
    this.#publishing = Promise.withResolvers<void>();
    this.send({ kind: "publish", tree });
    return this.#publishing.promise;
  }

  /** Puts another tree beneath. Not while another is under way. Throws Failure (it is gone). */
  rebase(treeId: BaseId): Promise<Rebased> {
    if (this.#ended) return Promise.reject(gone());
    this.#rebasing = Promise.withResolvers<Rebased>();
    this.send({ kind: "rebase", treeId });
    return this.#rebasing.promise;
  }

  /**
   * Makes the work tree another commit; resolves when the kernel knows. Not while another is under
   * way. A rebase that is ends. Throws Failure (it is gone).
   */
  switchTo(request: Omit<MountCommand & { kind: "switch" }, "kind">): Promise<Switched> {
    if (this.#ended) return Promise.reject(gone());
    this.send({ kind: "switch", ...request });
    // Some tens of ms, in which the worker is at it; its answer is taken after this.
    this.#switching = { ...Promise.withResolvers<Switched>(), notifier: spawnNotifier() };
    return this.#switching.promise;
  }

  /**
   * Takes the mount out of the tree, with what is dirty in shared mappings written before. Throws
   * Failure (busy) when not lazy and somebody is inside.
   */
  async unmount(options: { lazy: boolean }): Promise<void> {
    if (this.#mounted === null) return;
    const mounted = this.#mounted;
    if (options.lazy) await within(FLUSH_MS, flushServed(mounted.device));
    const unmounting = unmountServed(mounted, options);
    // What must not refuse must not wait either.
    const error = (options.lazy ? await within(FLUSH_MS, unmounting) : await unmounting) ?? null;
    if (error !== null) throw unmountFailure(this.#config.mountPoint, error);
    // Another mount namespace may hold it still.
    if (!options.lazy) await within(FLUSH_MS, this.closed);
    // Who is still inside gets errors from now on, not a hung call.
    this.send({ kind: "stop" });
  }

  #onEvent(event: MountEvent): void {
    switch (event.kind) {
      case "mounted":
        this.#mounted = event;
        this.#started.resolve(event);
        break;
      case "mount-failed":
        this.#started.reject(mountFailure(this.#config, event.errno, event.cause));
        this.#finish(event.cause);
        break;
      case "published":
        if (event.error === null) this.#publishing?.resolve();
        else {
          const { mountPoint } = this.#config;
          this.#publishing?.reject(
            new Failure("failed", `Cannot mount ${mountPoint}: ${event.error}`),
          );
        }
        break;
      case "want":
      case "want-tree":
      case "sizes":
      case "borrowed":
      case "convert":
        this.#onWant(event);
        break;
      case "pong":
        this.#pings.get(event.id)?.(event);
        break;
      case "rebased":
        this.#rebasing?.resolve(event);
        break;
      case "switched":
        this.#onSwitched(event);
        break;
      case "settle":
        this.#onSettle(event);
        break;
      case "unmounted":
        this.#mounted = null;
        this.#started.reject(
          new Failure("failed", `Cannot mount ${this.#config.mountPoint}: it was unmounted`),
        );
        this.#finish(event.cause);
        break;
    }
  }

  async #onSwitched({ notices, ...switched }: SwitchedEvent): Promise<void> {
    const switching = this.#switching;
    if (switching === null) return;
    const { notifier, resolve } = switching;
    if (notices === null) {
      this.#switching = null;
      notifier.terminate();
      resolve(switched);
      return;
    }
    const failure = await tellKernel(notifier, { ...notices, state: this.#notices.buffer });
    this.#switching = null;
    const reason = failure === null ? switched.reason : `the kernel was not told: ${failure}`;
    resolve({ ...switched, reason });
  }

  async #onSettle({ fd, messages }: MountEvent & { readonly kind: "settle" }): Promise<void> {
    const told = tellAside({ fd, messages, state: this.#notices.buffer });
    if (await within(SETTLE_MS, told.then(() => true)) === undefined) {
      this.send({ kind: "settled", isThrough: false });
      await told;
    }
    this.send({ kind: "settled", isThrough: true });
  }

  async #onCrash(message: string): Promise<void> {
    if (this.#ended || this.#crashed) return;
    this.#crashed = true;
    const { mountPoint } = this.#config;
    const mounted = this.#mounted;
    if (mounted !== null) {
      this.#mounted = null;
      this.#notices.abandon();
      // Closing the device ends every call that hangs in the mount; then it can be detached.
      closeFd(mounted.fd);
      await detachMount(mountPoint).catch((error) => {
        logger("mounts").error("Dead mount is left", { mountPoint, error: messageOf(error) });
      });
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
    this.#mounted = null;
    for (const resolve of this.#pings.values()) resolve(null);
    this.#publishing?.reject(gone());
    this.#rebasing?.reject(gone());
    if (this.#switching !== null) {
      // One that is at work ends by itself, and must not be waited for.
      if (!this.#notices.isTelling) this.#switching.notifier.terminate();
      this.#switching.reject(gone());
    }
    this.#closed.resolve(cause);
  }
}

function gone(): Failure {
  return new Failure("not-mounted", "Cannot change the base: the mount is gone");
}

/** `work`, or undefined when it takes longer: it goes on all the same. */
async function within<T>(timeoutMs: number, work: Promise<T>): Promise<T | undefined> {
  let timer: number | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, timeoutMs, undefined);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A worker that waits for its mount. `folders`: all it may read and write. */
export function spawnMountWorker(folders: string[]): Worker {
  return new Worker(new URL("../mount/worker.ts", import.meta.url), {
    type: "module",
    name: "mount",
    deno: { permissions: mountWorkerPermissions(folders) },
  });
}

/**
 * What a mount worker may do. With ffi it could open any file, so this is defence in depth; what
 * keeps a repository inside its mount is that names from a tree never become paths of the host.
 */
function mountWorkerPermissions(folders: string[]): Deno.PermissionOptionsObject {
  return {
    read: folders,
    write: folders,
    ffi: true,
    env: false,
    net: false,
    run: false,
    sys: false,
    import: false,
  };
}

function mountFailure(
  { mountPoint, source }: MountConfig,
  errno: number,
  cause: string,
): Failure {
  const cannot = `Cannot mount ${mountPoint}: ${cause}`;
  const wayOut = `or, without FUSE, \`git clone --depth 1 ${source}\``;
  switch (errno) {
    case ERRNO.EPERM:
    case ERRNO.EACCES:
      return new Failure(
        "fatal",
        `${cannot}; run the daemon as root, or in a container with the capability SYS_ADMIN and ` +
          `the device /dev/fuse, ${wayOut}`,
      );
    case ERRNO.ENOENT:
    case ERRNO.ENODEV:
      return new Failure("fatal", `${cannot}; make sure that it is there, ${wayOut}`);
    default:
      return new Failure("failed", cannot);
  }
}

function unmountFailure(mountPoint: string, error: FsError): Failure {
  if (error.errno === ERRNO.EBUSY) {
    return new Failure(
      "busy",
      `Cannot unmount ${mountPoint}: it is in use (an open file or a working directory); ` +
        "end what uses it, or add --force",
    );
  }
  return new Failure("failed", `Cannot unmount ${mountPoint}: ${error.message}`);
}
