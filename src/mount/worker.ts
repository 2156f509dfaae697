/**
 * Entry of a mount worker: one synchronous loop that owns one mount. It never returns to the event
 * loop, so no promise here ever settles: what is not at hand is asked of main through the port, and
 * main wakes the loop through the eventfd.
 */

import { receiveMessageOnPort } from "node:worker_threads";
import type { MessagePort as NodeMessagePort } from "node:worker_threads";
import { FsError } from "../errno.ts";
import { messageOf } from "../failure.ts";
import { FuseCounters } from "../fuse/counters.ts";
import type { StatFs } from "../fuse/filesystem.ts";
import { joinMessages } from "../fuse/notify.ts";
import { type Device, Session, type SessionEnd } from "../fuse/session.ts";
import { PackDirectory } from "../git/pack_directory.ts";
import { PackReader } from "../git/pack_reader.ts";
import { UserObjects } from "../git/user_objects.ts";
import { logger, setLogLevel, setupLog } from "../log.ts";
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
import { Gate, GATE_KEY } from "../vfs/gate.ts";
import { MergedFilesystem, type MergedFilesystemOptions } from "../vfs/merged_filesystem.ts";
import { SETTLE_KEY } from "../vfs/settling.ts";
import { ConvertedFiles } from "./converted.ts";
import type { MountCommand, MountConfig, MountEvent, MountTree, StartMount } from "./messages.ts";
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
  setupLog({ level: data.logLevel });
  serve(data);
};

function fuseDevice(fd: number, eventFd: number): Device {
  return {
    read: (into) => readFd(fd, into),
    write: (reply) => writeFd(fd, reply),
    wait: (timeoutMs) => pollTwo(fd, eventFd, timeoutMs),
  };
}

/** A repository's tree, and all that serves it. */
interface Served {
  readonly base: BaseStore;
  readonly overlay: Overlay;
  readonly objects: PortObjects;
  readonly filesystem: MergedFilesystem;
}

/** What a tree is served with. */
interface Loop {
  readonly log: ReturnType<typeof logger>;
  readonly tell: (event: MountEvent) => void;
  readonly options: Pick<
    MergedFilesystemOptions,
    "invalidateListing" | "invalidateAttributes" | "settle" | "wakeSoon"
  >;
}

/** Opens all that reads. Throws what is wrong with it; nothing is open then. */
function openTree(config: MountConfig, tree: MountTree, { log, tell, options }: Loop): Served {
  const base = new BaseStore(config.basePath as HostPath);
  let overlay: Overlay | null = null;
  try {
    overlay = new Overlay(config.overlayDir as HostPath, {
      warn: (message, fields) => log.warn(message, fields),
      firstId: config.repoId,
      bootId: bootId(),
    });
    const packs = new PackReader(new PackDirectory(...config.packDirs), tree.objectFormat);
    const converted = new ConvertedFiles(
      config.convertedDir as HostPath,
      config.contextsPath as HostPath,
    );
    const user = new UserObjects({
      gitDir: config.isGitDirElsewhere ? null : config.userGitDir,
      uid: config.uid,
      objectFormat: tree.objectFormat,
    });
    const objects = new PortObjects(base, packs, tree.objectFormat, converted, user, tell);
    const filesystem = filesystemOf(config, tree, objects, overlay, options);
    return { base, overlay, objects, filesystem };
  } catch (error) {
    base.close();
    overlay?.close();
    throw error;
  }
}

/** Mounts, answers until the mount is gone, and says so. */
function serve({ config, tree, eventFd, port, counters, ...shared }: StartMount): void {
  const tell = (event: MountEvent) => port.postMessage(event);
  const log = logger("mount").with({ repo: config.repoName });
  const soon: string[] = [];
  const loop: Loop = {
    log,
    tell,
    options: {
      invalidateListing: (nodeid) => session.invalidateListing(nodeid),
      invalidateAttributes: (nodeid) => session.invalidateAttributes(nodeid),
      settle: (names) => {
        let own: number;
        try {
          own = duplicateFd(mount.fd);
        } catch (error) {
          log.warn("The kernel cannot be asked", { error: messageOf(error) });
          return false;
        }
        const messages = names.map(({ parentNodeid, name }) => session.barrier(parentNodeid, name));
        notices.begin();
        tell({ kind: "settle", fd: own, messages: joinMessages(messages).buffer });
        return true;
      },
      wakeSoon: (key) => {
        soon.push(key);
        // The loop would sleep.
        signalEventFd(eventFd);
      },
    },
  };
  const notices = new NoticeState(shared.notices);
  const gate = gateOf(config);
  let opened: Served | null = null;
  let mount: FuseMount;
  try {
    // First all that reads: a damaged database must not leave a mount that nobody answers.
    if (tree !== null) opened = openTree(config, tree, loop);
    mount = mountFuse(config);
  } catch (error) {
    opened?.base.close();
    opened?.overlay.close();
    const errno = error instanceof FsError ? error.errno : 0;
    tell({ kind: "mount-failed", errno, cause: messageOf(error) });
    return;
  }
  const { fd, device } = mount;
  const partsOf = (served: Served): Parts => {
    const { filesystem, overlay } = served;
    return {
      ...served,
      rebases: new Rebases(filesystem, overlay, tell),
      switches: new Switches({
        filesystem,
        overlay,
        notices,
        duplicateDevice: () => duplicateFd(fd),
        closeFd,
        tell,
      }),
    };
  };
  let parts = opened === null ? null : partsOf(opened);
  const publish = (tree: MountTree) => {
    try {
      parts ??= partsOf(openTree(config, tree, loop));
    } catch (error) {
      tell({ kind: "published", error: messageOf(error) });
      return;
    }
    session.serve(parts.filesystem);
    tell({ kind: "published", error: null });
    session.wake(GATE_KEY);
  };
  const session: Session = new Session({
    device: fuseDevice(fd, eventFd),
    filesystem: parts?.filesystem ?? gate,
    log: { warn: (message, fields) => log.warn(message, fields) },
    drain: () => {
      clearEventFd(eventFd);
      for (const key of soon.splice(0)) session.wake(key);
      for (;;) {
        const received = receiveMessageOnPort(port as unknown as NodeMessagePort);
        if (received === undefined) break;
        const command = received.message as MountCommand;
        if (command.kind === "publish") publish(command.tree);
        else if (command.kind === "gate") {
          gate.state = command.state;
          session.wake(GATE_KEY);
        } else if (command.kind === "log-level") setLogLevel(command.level);
        else if (command.kind === "ping") {
          const monitorQueries = parts?.filesystem.monitorQueries ?? 0;
          tell({ kind: "pong", id: command.id, waiting: session.parkedCount, monitorQueries });
        } else take(command, { session, notices, parts });
      }
      if (parts?.rebases.turn() === true) signalEventFd(eventFd);
      parts?.objects.tellSizes();
    },
    onExpired: (key) => parts?.objects.forgetAsked(key),
    isAwaited: () => notices.isTelling,
    counters: new FuseCounters(counters),
    onReady: (protocol) => tell({ kind: "mounted", protocol, ...mount }),
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
  const left = cause === "unmounted" ? null : unmountDevice(device, { lazy: true });
  if (left !== null) {
    log.error("Dead mount is left", { mountPoint: config.mountPoint, error: left.message });
  }
  if (parts !== null) closeTree(parts, log);
  tell({ kind: "unmounted", cause });
}

function gateOf({ uid, gid, umask, xattrs, stateRoot }: MountConfig): Gate {
  return new Gate({
    uid,
    gid,
    umask,
    hasXattrs: xattrs,
    timeSeconds: Math.floor(Date.now() / 1000),
    statfs: () => statfsOf(stateRoot),
  });
}

function statfsOf(stateRoot: string): StatFs {
  return { ...statFileSystem(stateRoot), nameMaxBytes: NAME_MAX_BYTES };
}

/** What cannot be closed in order is put in order at the next start. */
function closeTree(
  { objects, filesystem, overlay }: Served,
  log: ReturnType<typeof logger>,
): void {
  objects.close();
  try {
    filesystem.close();
    overlay.close();
  } catch (error) {
    log.warn("Overlay not closed in order", { error: messageOf(error) });
  }
}

function filesystemOf(
  config: MountConfig,
  tree: MountTree,
  objects: PortObjects,
  overlay: Overlay,
  loop: Loop["options"],
): MergedFilesystem {
  return new MergedFilesystem({
    objects,
    overlay,
    ...loop,
    xattrs: config.xattrs,
    umask: config.umask,
    rootTreeId: tree.rootTreeId,
    timeSeconds: tree.baseTimeSeconds,
    uid: config.uid,
    gid: config.gid,
    syntheticDirName: syntheticDirName(config.repoId),
    gitfile: bytesOf(byteStringOfText(`gitdir: ${config.userGitDir}\n`)),
    statfs: () => statfsOf(config.stateRoot),
  });
}

/** What commands for a tree are for. */
interface Parts extends Served {
  readonly rebases: Rebases;
  readonly switches: Switches;
}

/** A command that is not the gate's; `parts` is null while there is only that. */
function take(
  command: Exclude<MountCommand, { readonly kind: "publish" | "gate" | "log-level" | "ping" }>,
  { session, notices, parts }: {
    readonly session: Session;
    readonly notices: NoticeState;
    readonly parts: Parts | null;
  },
): void {
  if (command.kind === "stop") {
    notices.abandon();
    session.finish("stopped");
  } else if (command.kind === "progress") session.postponeDeadlines();
  else if (parts === null) return;
  else if (command.kind === "settled") {
    parts.filesystem.settled(command.isThrough);
    session.wake(SETTLE_KEY);
  } else if (command.kind === "rebase") {
    parts.objects.expectPacks();
    parts.rebases.start(command.treeId);
  } else if (command.kind === "switch") {
    parts.objects.expectPacks();
    parts.rebases.cancel("a switch has come");
    parts.switches.run(command);
  } else {
    for (const key of parts.objects.accept(command)) session.wake(key);
    if (command.kind === "spool") session.postponeDeadlines();
  }
}
