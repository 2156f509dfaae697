/** Takes in what cat-file reads of a blob: a small one into memory, a big one into a file. */

import { CollectingSink, type ObjectInfo, type ObjectSink } from "../git/cat_file.ts";
import type { Oid } from "../git/oid.ts";
import { SPOOL_BYTES, type SpoolDirectory } from "./spool.ts";

export class ContentSink implements ObjectSink {
  readonly #collect = new CollectingSink();
  #spool: ObjectSink | null = null;

  constructor(
    readonly oid: Oid,
    readonly mountId: number,
    readonly spools: SpoolDirectory,
  ) {}

  get collected(): Uint8Array<ArrayBuffer> {
    return this.#collect.bytes;
  }

  /** The mounts that wait for the file this was writing. */
  abandon(): number[] {
    return this.#spool === null ? [] : this.spools.abandon(this.oid, this.#spool);
  }

  start(info: ObjectInfo): void {
    if (info.sizeBytes > SPOOL_BYTES) {
      this.#spool = this.spools.create(this.oid, info.sizeBytes, this.mountId);
    } else this.#collect.start(info);
  }

  chunk(bytes: Uint8Array): void | Promise<void> {
    return this.#spool === null ? this.#collect.chunk(bytes) : this.#spool.chunk(bytes);
  }
}
