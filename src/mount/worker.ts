/**
 * Entry of a mount worker: one synchronous loop that owns one mount. It never returns to the event
 * loop, so no promise here ever settles: what is not at hand is asked of main through the port, and
 * main wakes the loop through the eventfd.
 */

import { receiveMessageOnPort } from "node:worker_threads";
import type { MessagePort as NodeMessagePort } from "node:worker_threads";
import { FsError } from "../errno.ts";
import { messageOf } from "../failure.ts";
import { type Device, Session, type SessionEnd } from "../fuse/session.ts";
import { PackDirectory } from "../git/pack_directory.ts";
import { PackReader } from "../git/pack_reader.ts";
import { logger, setupLog } from "../log.ts";
import { bytesOf, byteStringOfText, type HostPath, NAME_MAX_BYTES } from "../path.ts";
import { BaseStore } from "../snapshot/store.ts";
import {
  clearEventFd,
  closeFd,
  type FuseMount,
  mountFuse,
  pollTwo,
  readFd,
  statFileSystem,
  unmountDevice,
  writeFd,
} from "../sys/mod.ts";
import { BaseFilesystem } from "../vfs/base_filesystem.ts";
import type { MountCommand, MountConfig, MountEvent, StartMount } from "./messages.ts";
import { PortObjects } from "./port_objects.ts";

declare const self: {
  onmessage: ((event: MessageEvent<StartMount>) => void) | null;
};

self.onmessage = ({ data }) => {
  self.onmessage = null;
  setupLog();
  serve(data);
};

function fuseDevice(fd: number, eventFd: number): Device {
  return {
    read: (into) => readFd(fd, into),
    write: (reply) => writeFd(fd, reply),
    wait: (timeoutMs) => pollTwo(fd, eventFd, timeoutMs),
  };
}

/** Mounts, answers until the mount is gone, and says so. */
function serve({ config, eventFd, port }: StartMount): void {
  const tell = (event: MountEvent) => port.postMessage(event);
  let base: BaseStore | null = null;
  let mount: FuseMount;
  try {
    // First: a damaged base must not leave a mount that nobody answers.
    base = new BaseStore(config.basePath as HostPath);
    mount = mountFuse(config);
  } catch (error) {
    base?.close();
    const errno = error instanceof FsError ? error.errno : 0;
    tell({ kind: "mount-failed", errno, cause: messageOf(error) });
    return;
  }
  const { fd, device } = mount;
  const log = logger("mount").with({ repo: config.repoName });
  const packs = new PackReader(new PackDirectory(config.packDir), config.objectFormat);
  const objects = new PortObjects(base, packs, config.objectFormat, tell);
  const session = new Session({
    device: fuseDevice(fd, eventFd),
    filesystem: filesystemOf(config, objects),
    log: { warn: (message, fields) => log.warn(message, fields) },
    drain: () => {
      clearEventFd(eventFd);
      drain(port as unknown as NodeMessagePort, device, session, objects, tell);
    },
    onExpired: (key) => objects.forgetAsked(key),
    onReady: (protocol) => tell({ kind: "mounted", protocol, fd }),
  });
  let cause: SessionEnd = "failed";
  try {
    cause = session.run();
  } catch (error) {
    log.error("Mount worker has ended", { error: messageOf(error) });
  }
  closeFd(fd);
  // Nobody answers there any more, whatever ended it: it must not stay in the tree.
  const errno = unmountDevice(device, { lazy: true });
  if (errno !== 0) log.error("Dead mount is left", { mountPoint: config.mountPoint, errno });
  objects.close();
  tell({ kind: "unmounted", requests: session.requestCount, cause });
}

function filesystemOf(config: MountConfig, objects: PortObjects): BaseFilesystem {
  return new BaseFilesystem({
    objects,
    rootTreeOid: config.rootTreeOid,
    timeSeconds: config.baseTimeSeconds,
    uid: config.uid,
    gid: config.gid,
    gitfile: bytesOf(byteStringOfText(`gitdir: ${config.userGitDir}\n`)),
    statfs: () => {
      const stats = statFileSystem(config.stateRoot);
      return { ...stats, nameMaxBytes: NAME_MAX_BYTES };
    },
  });
}

/** Takes every command that has come. */
function drain(
  port: NodeMessagePort,
  device: string,
  session: Session,
  objects: PortObjects,
  tell: (event: MountEvent) => void,
): void {
  for (;;) {
    const received = receiveMessageOnPort(port);
    if (received === undefined) return;
    const command = received.message as MountCommand;
    if (command.kind === "unmount") leave(device, command.lazy, session, tell);
    else if (command.kind === "progress") session.postponeDeadlines();
    else {
      for (const key of objects.accept(command)) session.wake(key);
      if (command.kind === "spool") session.postponeDeadlines();
    }
  }
}

function leave(
  device: string,
  lazy: boolean,
  session: Session,
  tell: (event: MountEvent) => void,
): void {
  const errno = unmountDevice(device, { lazy });
  if (errno !== 0) {
    tell({ kind: "unmount-refused", errno });
    return;
  }
  // Who is still inside after a lazy unmount gets errors from now on, not a hung call.
  session.stop("unmounted");
}
