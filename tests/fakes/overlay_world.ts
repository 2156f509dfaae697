/** A file system on a fake base and a real overlay in a temporary folder. */

import { Overlay } from "../../src/overlay/overlay.ts";
import type { BaseId } from "../../src/git/base_id.ts";
import { syntheticDirName } from "../../src/monitor_names.ts";
import type { HostPath } from "../../src/path.ts";
import { MergedFilesystem } from "../../src/vfs/merged_filesystem.ts";
import type { ChangedName } from "../../src/vfs/settling.ts";
import { FakeObjects } from "./fake_objects.ts";

export const WORLD_TIME_SECONDS = 1_700_000_000;
export const WORLD_UID = 1000;
export const WORLD_GID = 1001;
/** Of the first tokens of the file monitor. */
export const WORLD_ID = "0123456789abcdef";
export const WORLD_SYNTHETIC_DIR = syntheticDirName(WORLD_ID);

export interface WorldOptions {
  readonly objects: FakeObjects;
  readonly rootTreeOid: BaseId;
  readonly xattrs?: boolean;
  /** Of an overlay that lives on; default: a new one, removed at the end. */
  readonly dir?: string;
  /** Default: always the same. */
  readonly bootId?: string;
  /** Stands between the file system and its overlay. */
  readonly wrap?: (overlay: Overlay) => Overlay;
}

export class OverlayWorld implements Disposable {
  readonly objects: FakeObjects;
  readonly overlay: Overlay;
  readonly filesystem: MergedFilesystem;
  readonly dir: string;
  /** Keys that were to be woken soon. */
  readonly woken: string[] = [];
  /** Node ids whose attributes the kernel was told to forget. */
  readonly stale: number[] = [];
  /** What the kernel was asked to finish, by times it was asked. */
  readonly settling: (readonly ChangedName[])[] = [];
  /** Whether it can be asked. */
  canSettle = true;
  readonly #removeDir: boolean;
  #open = true;

  constructor(options: WorldOptions) {
    this.objects = options.objects;
    this.#removeDir = options.dir === undefined;
    this.dir = options.dir ?? Deno.makeTempDirSync({ prefix: "afs-overlay-" });
    this.overlay = new Overlay(this.dir as HostPath, {
      warn: () => {},
      firstId: WORLD_ID,
      bootId: options.bootId ?? "boot",
    });
    this.filesystem = new MergedFilesystem({
      umask: 0o022,
      objects: options.objects,
      overlay: options.wrap?.(this.overlay) ?? this.overlay,
      xattrs: options.xattrs ?? false,
      invalidateListing: () => {},
      invalidateAttributes: (nodeid) => this.stale.push(nodeid),
      settle: (names) => this.canSettle && this.settling.push(names) > 0,
      wakeSoon: (key) => this.woken.push(key),
      rootTreeId: options.rootTreeOid,
      timeSeconds: WORLD_TIME_SECONDS,
      uid: WORLD_UID,
      gid: WORLD_GID,
      syntheticDirName: WORLD_SYNTHETIC_DIR,
      gitfile: new TextEncoder().encode("gitdir: /x\n"),
      statfs: () => ({
        blocks: 1,
        freeBlocks: 2,
        availableBlocks: 3,
        files: 4,
        freeFiles: 5,
        blockSizeBytes: 6,
        nameMaxBytes: 255,
        fragmentSizeBytes: 7,
      }),
    });
  }

  /** As a kill does: nothing is put in order. Only descriptors are given back. */
  kill(): void {
    this.#open = false;
    this.overlay.abandon();
  }

  [Symbol.dispose](): void {
    if (this.#open) {
      this.filesystem.close();
      this.overlay.close();
    }
    if (this.#removeDir) Deno.removeSync(this.dir, { recursive: true });
  }
}
