/** The packs of a store in its folder. */

import type { PackFolder } from "./pack_reader.ts";
import type { RandomFile } from "./pack_index.ts";

export class PackDirectory implements PackFolder {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  names(): string[] {
    return Array.from(Deno.readDirSync(this.#path), ({ name }) => name);
  }

  open(name: string): RandomFile {
    return this.openPath(`${this.#path}/${name}`);
  }

  openPath(path: string): RandomFile {
    const file = Deno.openSync(path);
    return {
      sizeBytes: file.statSync().size,
      readAt: (offset, into) => readAt(file, offset, into),
      close: () => file.close(),
    };
  }
}

function readAt(file: Deno.FsFile, offset: number, into: Uint8Array): number {
  file.seekSync(offset, Deno.SeekMode.Start);
  let done = 0;
  while (done < into.length) {
    const count = file.readSync(done === 0 ? into : into.subarray(done));
    if (count === null) break;
    done += count;
  }
  return done;
}
