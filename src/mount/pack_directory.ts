/** A store's packs by descriptors of the kernel. */

import type { PackFolder } from "../git/pack_reader.ts";
import type { RandomFile } from "../git/pack_index.ts";
import { closeFd, O, openFd, preadFull } from "../sys/mod.ts";

export class PackDirectory implements PackFolder {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  names(): string[] {
    return Array.from(Deno.readDirSync(this.#path), ({ name }) => name);
  }

  /** Throws FsError. */
  open(name: string): RandomFile {
    const path = `${this.#path}/${name}`;
    const { size } = Deno.statSync(path);
    const fd = openFd(path, O.RDONLY);
    return {
      sizeBytes: size,
      readAt: (offset, into) => preadFull(fd, into, offset),
      close: () => closeFd(fd),
    };
  }
}
