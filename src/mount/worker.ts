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
import { UserObjects } from "../git/user_objects.ts";
import { logger, setupLog } from "../log.ts";
import { syntheticDirName } from "../monitor_names.ts";
import { Overlay } from "../overlay/overlay.ts";
import { bytesOf, byteStringOfText, type HostPath, NAME_MAX_BYTES } from "../path.ts";
import { BaseStore } from "../snapshot/store.ts";
import {
  bootId,
  clearEventFd,
  closeFd,
  duplicateFd,
  type FuseMount,
  mountFuse,
  pollTwo,
  readFd,
  signalEventFd,
  statFileSystem,
  unmountDevice,
  writeFd,
} from "../sys/mod.ts";
import { MergedFilesystem, type MergedFilesystemOptions } from "../vfs/merged_filesystem.ts";
import { ConvertedFiles } from "./converted.ts";
import type { MountCommand, MountConfig, MountEvent, StartMount } from "./messages.ts";
import { NoticeState } from "./notice_state.ts";
import { PortObjects } from "./port_objects.ts";
import { Rebases } from "./rebases.ts";
import { Switches } from "./switches.ts";

/** So long a notifier may take to end when the mount does. */
const TOLD_MS = 5_000;

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
function serve({ config, eventFd, port, requests, ...shared }: StartMount): void {
  const tell = (event: MountEvent) => port.postMessage(event);
  const log = logger("mount").with({ repo: config.repoName });
  let base: BaseStore | null = null;
  let overlay: Overlay | null = null;
  let objects: PortObjects;
  let filesystem: MergedFilesystem;
  let mount: FuseMount;
  const soon: string[] = [];
  try {
    // First all that reads: a damaged database must not leave a mount that nobody answers.
    base = new BaseStore(config.basePath as HostPath);
    overlay = new Overlay(config.overlayDir as HostPath, {
      warn: (message, fields) => log.warn(message, fields),
      firstId: config.repoId,
      bootId: bootId(),
    });
    const packs = new PackReader(new PackDirectory(...config.packDirs), config.objectFormat);
    const converted = new ConvertedFiles(
      config.convertedDir as HostPath,
      config.contextsPath as HostPath,
    );
    const user = new UserObjects({
      gitDir: config.userGitDir,
      uid: config.uid,
      objectFormat: config.objectFormat,
    });
    objects = new PortObjects(base, packs, config.objectFormat, converted, user, tell);
    filesystem = filesystemOf(config, objects, overlay, {
      invalidateListing: (nodeid) => session.invalidateListing(nodeid),
      invalidateAttributes: (nodeid) => session.invalidateAttributes(nodeid),
      wakeSoon: (key) => {
        soon.push(key);
        // The loop would sleep.
        signalEventFd(eventFd);
      },
    });
    mount = mountFuse(config);
  } catch (error) {
    base?.close();
    overlay?.close();
    const errno = error instanceof FsError ? error.errno : 0;
    tell({ kind: "mount-failed", errno, cause: messageOf(error) });
    return;
  }
  const { fd, device } = mount;
  const rebases = new Rebases(filesystem, overlay, tell);
  const notices = new NoticeState(shared.notices);
  const duplicateDevice = () => duplicateFd(fd);
  const switches = new Switches({
    filesystem,
    overlay,
    notices,
    duplicateDevice,
    closeFd,
    tell,
  });
  const session: Session = new Session({
    device: fuseDevice(fd, eventFd),
    filesystem,
    log: { warn: (message, fields) => log.warn(message, fields) },
    drain: () => {
      clearEventFd(eventFd);
      for (const key of soon.splice(0)) session.wake(key);
      drain(port as unknown as NodeMessagePort, { session, objects, rebases, switches, notices });
      if (rebases.turn()) signalEventFd(eventFd);
      objects.tellSizes();
    },
    onExpired: (key) => objects.forgetAsked(key),
    isAwaited: () => notices.isTelling,
    requests: new Float64Array(requests),
    onReady: (protocol) => tell({ kind: "mounted", protocol, fd, device }),
  });
  let cause: SessionEnd = "failed";
  try {
    cause = session.run();
  } catch (error) {
    log.error("Mount worker has ended", { error: messageOf(error) });
  }
  notices.abandon();
  if (notices.isTelling) {
    // It may wait for somebody who waits for a reply: that ends with the connection.
    if (cause !== "unmounted") unmountDevice(device, { lazy: true, force: true });
    if (!notices.waitUntilTold(TOLD_MS)) log.error("The kernel is still being told");
  }
  closeFd(fd);
  // Nobody answers there any more: it must not stay in the tree. What was unmounted is not there,
  // and its device number may be another file system's by now.
  const errno = cause === "unmounted" ? 0 : unmountDevice(device, { lazy: true });
  if (errno !== 0) log.error("Dead mount is left", { mountPoint: config.mountPoint, errno });
  objects.close();
  closeOverlay(filesystem, overlay, log);
  tell({ kind: "unmounted", cause });
}

/** What cannot be closed in order is put in order at the next start. */
function closeOverlay(
  filesystem: MergedFilesystem,
  overlay: Overlay,
  log: ReturnType<typeof logger>,
): void {
  try {
    filesystem.close();
    overlay.close();
  } catch (error) {
    log.warn("Overlay not closed in order", { error: messageOf(error) });
  }
}

function filesystemOf(
  config: MountConfig,
  objects: PortObjects,
  overlay: Overlay,
  loop: Pick<
    MergedFilesystemOptions,
    "invalidateListing" | "invalidateAttributes" | "wakeSoon"
  >,
): MergedFilesystem {
  return new MergedFilesystem({
    objects,
    overlay,
    ...loop,
    xattrs: config.xattrs,
    rootTreeId: config.rootTreeId,
    timeSeconds: config.baseTimeSeconds,
    uid: config.uid,
    gid: config.gid,
    syntheticDirName: syntheticDirName(config.repoId),
    gitfile: bytesOf(byteStringOfText(`gitdir: ${config.userGitDir}\n`)),
    statfs: () => {
      const stats = statFileSystem(config.stateRoot);
      return { ...stats, nameMaxBytes: NAME_MAX_BYTES };
    },
  });
}

/** What commands are for. */
interface Parts {
  readonly session: Session;
  readonly objects: PortObjects;
  readonly rebases: Rebases;
  readonly switches: Switches;
  readonly notices: NoticeState;
}

/** Takes every command that has come. */
function drain(port: NodeMessagePort, parts: Parts): void {
  const { session, objects, rebases, switches, notices } = parts;
  for (;;) {
    const received = receiveMessageOnPort(port);
    if (received === undefined) return;
    const command = received.message as MountCommand;
    if (command.kind === "stop") {
      notices.abandon();
      session.finish("stopped");
    } else if (command.kind === "progress") session.postponeDeadlines();
    else if (command.kind === "rebase") {
      objects.expectPacks();
      rebases.start(command.treeId);
    } else if (command.kind === "switch") {
      objects.expectPacks();
      rebases.cancel("a switch has come");
      switches.run(command);
    } else {
      for (const key of objects.accept(command)) session.wake(key);
      if (command.kind === "spool") session.postponeDeadlines();
    }
  }
}
