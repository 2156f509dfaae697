/** Packs in one or several folders, named by their paths. */

import type { PackFolder } from "./pack_reader.ts";
import type { RandomFile } from "./pack_index.ts";

export class PackDirectory implements PackFolder {
  readonly #paths: readonly string[];

  constructor(...paths: string[]) {
    this.#paths = paths;
  }

  /** Of those that can be read. */
  names(): string[] {
    return this.#paths.flatMap((path) => {
      try {
        return Array.from(Deno.readDirSync(path), ({ name }) => `${path}/${name}`);
      } catch {
        return [];
      }
    });
  }

  open(path: string): RandomFile {
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
