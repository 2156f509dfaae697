/** Which objects of a pack have arrived, and where: as PackIndex, but it grows, in memory. */

import { hexOf, type ObjectFormat, type Oid, OID_BYTES } from "./oid.ts";

export class GrowingIndex {
  readonly #oidBytes: number;
  readonly #offsets = new Map<Oid, number>();

  constructor(format: ObjectFormat) {
    this.#oidBytes = OID_BYTES[format];
  }

  /** `oids`: raw, one after the other. */
  add(oids: Uint8Array, offsets: Float64Array): void {
    for (const [i, offset] of offsets.entries()) {
      this.#offsets.set(hexOf(oids, i * this.#oidBytes, this.#oidBytes), offset);
    }
  }

  /** Undefined: it has not arrived. `oid`: raw bytes. */
  offsetOf(oid: Uint8Array): number | undefined {
    return this.#offsets.get(hexOf(oid));
  }

  close(): void {
    this.#offsets.clear();
  }
}
