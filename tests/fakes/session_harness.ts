/** A session between a fake device and any file system. */

import { FuseCounters } from "../../src/fuse/counters.ts";
import { type Filesystem, Parked } from "../../src/fuse/filesystem.ts";
import { Session, type SessionEnd } from "../../src/fuse/session.ts";
import { FakeDevice } from "./fake_device.ts";
import { DONE, FakeFilesystem, parking } from "./fake_filesystem.ts";
import { initRequest } from "./wire_bytes.ts";

export interface LogLine {
  readonly message: string;
  readonly fields: Record<string, unknown>;
}

/** unique of the INIT that a harness sends by itself. */
export const INIT_UNIQUE = 0xfff0;

export class SessionHarness {
  readonly device = new FakeDevice();
  readonly log: LogLine[] = [];
  /** `7.<minor>` as told to onReady. */
  readonly ready: string[] = [];
  /** device.readCount at each drain. */
  readonly drains: number[] = [];
  readonly session: Session;
  readonly counters = new FuseCounters();
  /** The time, in milliseconds. */
  clock = 0;
  /** A notifier waits for the kernel. */
  isAwaited = false;
  /** Commands: called by drain. */
  onDrain: () => void = () => {};

  constructor(filesystem: Filesystem, options: { init?: boolean } = {}) {
    this.session = new Session({
      device: this.device,
      filesystem,
      log: { warn: (message, fields) => this.log.push({ message, fields }) },
      drain: () => {
        this.drains.push(this.device.readCount);
        this.onDrain();
      },
      isAwaited: () => this.isAwaited,
      onReady: (protocol) => this.ready.push(protocol),
      counters: this.counters,
      now: () => this.clock,
    });
    if (options.init !== false) this.device.push(initRequest(INIT_UNIQUE, 45));
  }

  run(): SessionEnd {
    return this.session.run();
  }

  /** Replies but that to the INIT of the harness. */
  get replies(): Uint8Array[] {
    return this.device.replies.filter((reply) => reply[8] !== 0xf0 || reply[9] !== 0xff);
  }
}

/** Sends messages to a running session and ends it; the harness with what came of it. */
export function converse(
  filesystem: Filesystem,
  ...messages: (Uint8Array | number)[]
): SessionHarness {
  const harness = new SessionHarness(filesystem);
  harness.device.push(...messages);
  harness.run();
  return harness;
}

/** A session of which every request parks, with the key `k`, until `answerNow`. */
export function parked() {
  const filesystem = new FakeFilesystem({ ...parking("k"), hasXattrs: true });
  const harness = new SessionHarness(filesystem);
  const answerNow = () => Object.assign(filesystem.script, DONE);
  return { filesystem, harness, answerNow, device: harness.device, session: harness.session };
}

export function park(key: string): never {
  throw new Parked(key);
}
