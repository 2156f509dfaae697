/**
 * Fresh checkouts on a machine that has little: for bootstrap_test.ts.
 */

import { crc32 } from "node:zlib";
import { listFiles } from "../scripts/tidy.ts";

export const ROOT = new URL("..", import.meta.url).pathname.replace(/\/$/, "");

/** Somebody who is neither root nor anybody here. */
export const NOBODY = 65534;

/** What a machine has besides `sh` and `git`. flock is left out here and there on purpose. */
const BASE = [
  ..."sh git cat chmod cut dirname env find flock gzip head ln ls mkdir mv rm sed sha256sum".split(
    " ",
  ),
  ..."tar timeout touch uname".split(" "),
];

export function pathOf(program: string): string | undefined {
  for (const dir of (Deno.env.get("PATH") ?? "").split(":")) {
    const path = `${dir}/${program}`;
    try {
      const { isFile, mode } = Deno.statSync(path);
      if (isFile && ((mode ?? 0) & 0o111) !== 0) return path;
    } catch {
      // Not in this one.
    }
  }
  return undefined;
}

export interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly seconds: number;
}

export interface RunOptions {
  /** Programs on PATH besides the base. */
  readonly tools?: readonly string[];
  /** Programs of the base that are missing. */
  readonly without?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly uid?: number;
  readonly isHomeUnset?: boolean;
  readonly isOffline?: boolean;
}

/** A machine with a checkout on it. Everything it should not write to is below `outside`. */
export class Machine {
  readonly #dir = Deno.makeTempDirSync({ prefix: "afs-bootstrap-" });
  readonly checkout = `${this.#dir}/check out`;
  readonly outside = `${this.#dir}/outside`;

  static async create(): Promise<Machine> {
    const machine = new Machine();
    Deno.chmodSync(machine.#dir, 0o755);
    for (const path of await listFiles(ROOT)) {
      const to = `${machine.checkout}/${path}`;
      Deno.mkdirSync(to.slice(0, to.lastIndexOf("/")), { recursive: true });
      try {
        Deno.copyFileSync(`${ROOT}/${path}`, to);
      } catch (error) {
        // Deleted but still in the index.
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
    for (const name of ["home", "tmp"]) {
      Deno.mkdirSync(`${machine.outside}/${name}`, { recursive: true });
    }
    return machine;
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.#dir, { recursive: true });
  }

  /** Gives it the denort of this checkout, to spare a download. */
  seedDenort(): void {
    const names = [...Deno.readDirSync(`${ROOT}/.tools`)].map((entry) => entry.name);
    Deno.mkdirSync(`${this.checkout}/.tools`, { recursive: true });
    for (const name of names.filter((each) => each.startsWith("denort-"))) {
      Deno.copyFileSync(`${ROOT}/.tools/${name}`, `${this.checkout}/.tools/${name}`);
    }
    const downloads = `.tools/deno_dir/dl`;
    if (!exists(`${ROOT}/${downloads}`)) return;
    Deno.mkdirSync(`${this.checkout}/.tools/deno_dir`);
    new Deno.Command("cp", {
      args: ["-R", `${ROOT}/${downloads}`, `${this.checkout}/${downloads}`],
    }).outputSync();
  }

  write(path: string, text: string): void {
    Deno.writeTextFileSync(`${this.checkout}/${path}`, text);
  }

  /** Puts this program in the place of ours. */
  replaceProgram(main: string): void {
    Deno.removeSync(`${this.checkout}/src`, { recursive: true });
    Deno.mkdirSync(`${this.checkout}/src`);
    this.write("main.ts", main);
  }

  chown(uid: number): void {
    new Deno.Command("chown", { args: ["-R", `${uid}:${uid}`, this.#dir] }).outputSync();
  }

  /** Whatever was written outside of the checkout. */
  strays(): string[] {
    return ["home", "tmp"].flatMap((name) =>
      [...Deno.readDirSync(`${this.outside}/${name}`)].map((entry) => `${name}/${entry.name}`)
    );
  }

  /** Runs `sh <args>` at the top of the checkout. */
  async sh(args: readonly string[], options: RunOptions = {}): Promise<Result> {
    const { uid } = options;
    let command = ["sh", ...args];
    if (options.isOffline && canUnshare()) command = ["unshare", "-n", ...command];
    const started = performance.now();
    const output = await new Deno.Command(pathOf(command[0]!)!, {
      args: command.slice(1),
      cwd: this.checkout,
      clearEnv: true,
      env: this.#env(options),
      ...(uid === undefined ? {} : { uid, gid: uid }),
    }).output();
    return {
      code: output.code,
      stdout: new TextDecoder().decode(output.stdout),
      stderr: new TextDecoder().decode(output.stderr),
      seconds: (performance.now() - started) / 1000,
    };
  }

  #env(options: RunOptions): Record<string, string> {
    // How to reach the network is the machine's business: proxies, certificates, mirrors.
    const kept = Object.entries(Deno.env.toObject()).filter(([name]) =>
      /proxy|cert|_ca_|^ssl_|^pip_|^npm_config_/i.test(name) && !/cache/i.test(name)
    );
    const env: Record<string, string> = Object.fromEntries(kept);
    env.PATH = this.#path(options);
    env.TMPDIR = `${this.outside}/tmp`;
    if (!options.isHomeUnset) env.HOME = `${this.outside}/home`;
    if (options.isOffline) {
      for (const name of ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"]) {
        env[name] = "http://127.0.0.1:9";
      }
    }
    return { ...env, ...options.env };
  }

  /** A folder with these programs and no others. They themselves see everything. */
  #path({ tools = [], without = [] }: RunOptions): string {
    const names = [...BASE, ...tools].filter((name) => !without.includes(name));
    const dir = `${this.#dir}/bin-${names.length}-${tools.join("-")}-without-${without.join("-")}`;
    if (exists(dir)) return dir;
    Deno.mkdirSync(dir);
    for (const name of names) {
      const path = pathOf(name);
      if (path === undefined) continue;
      if (tools.includes(name)) {
        const full = Deno.env.get("PATH") ?? "";
        // `python3 -m pip` is a way of its own.
        const guard = name === "python3" ? '[ "$2" != pip ] || exit 1\n' : "";
        const script = `#!/bin/sh\n${guard}PATH='${full}' exec '${path}' "$@"\n`;
        Deno.writeTextFileSync(`${dir}/${name}`, script, { mode: 0o755 });
      } else {
        Deno.symlinkSync(path, `${dir}/${name}`);
      }
    }
    return dir;
  }
}

export function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

function canUnshare(): boolean {
  if (Deno.uid() !== 0 || pathOf("unshare") === undefined) return false;
  return new Deno.Command("unshare", { args: ["-n", "true"], stderr: "null" }).outputSync().success;
}

/** A zip file with one file in it, stored as it is. */
export function zipOf(name: string, bytes: Uint8Array): Uint8Array[] {
  const encodedName = new TextEncoder().encode(name);
  // What the local header and the directory's entry have in common.
  const common = new DataView(new ArrayBuffer(26));
  common.setUint16(0, 20, true);
  common.setUint16(8, 0x21, true);
  common.setUint16(10, 0x21, true);
  common.setUint32(10, crc32(bytes), true);
  common.setUint32(14, bytes.length, true);
  common.setUint32(18, bytes.length, true);
  common.setUint16(22, encodedName.length, true);
  const fields = new Uint8Array(common.buffer);

  const header = new Uint8Array([0x50, 0x4b, 3, 4, ...fields, ...encodedName]);
  const entry = new Uint8Array([
    ...[0x50, 0x4b, 1, 2, 20, 3],
    ...fields,
    ...new Uint8Array(6),
    // Unix mode 0755 of a regular file, in the upper half.
    ...[0, 0, 0xed, 0x81],
    ...new Uint8Array(4),
    ...encodedName,
  ]);
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, 0x504b0506);
  end.setUint16(8, 1, true);
  end.setUint16(10, 1, true);
  end.setUint32(12, entry.length, true);
  end.setUint32(16, header.length + bytes.length, true);
  return [header, bytes, entry, new Uint8Array(end.buffer)];
}
