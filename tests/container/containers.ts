/** Containers of an image in buildah's storage, run by runc or crun as Docker would run them. */

import { run } from "../support/run.ts";

/** What Docker gives a container by itself; SYS_ADMIN is what `--cap-add` adds. */
const CAPABILITIES = [
  "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID",
  "SETPCAP SETUID SYS_CHROOT",
].flatMap((line) => line.split(" "));

const FUSE = { type: "c", major: 10, minor: 229 } as const;

export interface Bind {
  readonly source: string;
  readonly destination: string;
  readonly options?: readonly string[];
}

export interface ContainerOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly binds?: readonly Bind[];
  /** Instead of the image's. */
  readonly entrypoint?: readonly string[];
  /** On a terminal, at which `type` is typed; then all output is one. */
  readonly terminal?: boolean;
  /** Neither SYS_ADMIN nor /dev/fuse. */
  readonly plain?: boolean;
}

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Container {
  readonly id: string;
  readonly ended: Promise<Ended>;
  /** What it has printed until now. */
  output(): string;
  type(text: string): Promise<void>;
  kill(signal: string): Promise<void>;
}

/** As the image's configuration has it. */
interface Image {
  readonly Env: readonly string[];
  readonly Entrypoint: readonly string[];
}

export class Containers {
  readonly #work: string;
  readonly #runtime: string;
  readonly #image: Image;
  #count = 0;
  readonly #running = new Map<string, Promise<unknown>>();

  private constructor(work: string, runtime: string, image: Image) {
    this.#work = work;
    this.#runtime = runtime;
    this.#image = image;
  }

  static async open(work: string): Promise<Containers> {
    const found = await run("sh", ["-c", "command -v runc || command -v crun"]);
    const inspected = await buildah(work, "inspect", "--type", "image", "localhost/afs");
    return new Containers(work, found.stdout.trim(), JSON.parse(inspected).OCIv1.config);
  }

  get runtime(): string {
    return this.#runtime;
  }

  /** Starts one; it has a root of its own, the network of this machine, and nothing else of it. */
  async start(options: ContainerOptions = {}): Promise<Container> {
    const id = `afs-${Deno.pid}-${++this.#count}`;
    const working = (await buildah(this.#work, "from", "localhost/afs")).trim();
    const root = (await buildah(this.#work, "mount", working)).trim();
    const bundle = `${this.#work}/${id}`;
    await Deno.mkdir(bundle);
    await Deno.writeTextFile(`${bundle}/config.json`, JSON.stringify(this.#spec(root, options)));
    const command = [
      this.#runtime,
      "--root",
      `${this.#work}/runtime`,
      "run",
      "--bundle",
      bundle,
      id,
    ];
    const isTerminal = options.terminal === true;
    const child = new Deno.Command(isTerminal ? "script" : this.#runtime, {
      args: isTerminal
        ? ["--quiet", "--return", "--flush", "--command", command.join(" "), "/dev/null"]
        : command.slice(1),
      stdin: isTerminal ? "piped" : "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const texts = { stdout: "", stderr: "" };
    const read = async (stream: ReadableStream<Uint8Array>, name: keyof typeof texts) => {
      for await (const text of stream.pipeThrough(new TextDecoderStream() as never)) {
        texts[name] += text;
      }
    };
    const reading = Promise.all([read(child.stdout, "stdout"), read(child.stderr, "stderr")]);
    const ended = Promise.all([child.status, reading]).then(([{ code }]) => ({ code, ...texts }));
    this.#running.set(id, ended);
    ended.then(() => this.#running.delete(id));
    const typing = isTerminal ? child.stdin.getWriter() : null;
    ended.then(() => typing?.close().catch(() => {}));
    return {
      id,
      ended,
      type: async (text) => await typing?.write(new TextEncoder().encode(text)),
      output: () => texts.stdout + texts.stderr,
      kill: async (signal) => {
        await run(this.#runtime, ["--root", `${this.#work}/runtime`, "kill", id, signal]);
      },
    };
  }

  /** Those that a check has left. */
  async endAll(): Promise<void> {
    for (const [id, ended] of this.#running) {
      const kill = ["--root", `${this.#work}/runtime`, "kill", id, "KILL"];
      await run(this.#runtime, kill, { okCodes: "any" });
      await ended;
    }
  }

  async run(options: ContainerOptions = {}): Promise<Ended> {
    return await (await this.start(options)).ended;
  }

  /** https://github.com/opencontainers/runtime-spec, config.md. */
  #spec(root: string, options: ContainerOptions): unknown {
    const { args = [], env = {}, binds = [], entrypoint = this.#image.Entrypoint } = options;
    const names = options.plain === true ? CAPABILITIES : [...CAPABILITIES, "SYS_ADMIN"];
    const capabilities = names.map((name) => `CAP_${name}`);
    const standard = [
      ["/proc", "proc", "proc"],
      ["/dev", "tmpfs", "tmpfs", "nosuid", "mode=755"],
      ["/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666"],
      ["/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777"],
      ["/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"],
    ].map(([destination, type, source, ...options]) => ({ destination, type, source, options }));
    const isShared = binds.some(({ options = [] }) => options.includes("rshared"));
    return {
      ociVersion: "1.0.2",
      process: {
        terminal: options.terminal === true,
        user: { uid: 0, gid: 0 },
        cwd: "/",
        args: [...entrypoint, ...args],
        env: [
          ...this.#image.Env,
          ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
        ],
        capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
        noNewPrivileges: true,
      },
      root: { path: root },
      hostname: "container",
      mounts: [
        ...standard,
        ...binds.map(({ source, destination, options = [] }) => ({
          destination,
          type: "bind",
          source,
          options: ["rbind", ...options],
        })),
      ],
      linux: {
        namespaces: ["pid", "ipc", "uts", "mount"].map((type) => ({ type })),
        devices: options.plain === true ? [] : [{ path: "/dev/fuse", ...FUSE, fileMode: 0o666 }],
        resources: {
          devices: [
            { allow: false, access: "rwm" },
            ...options.plain === true ? [] : [{ allow: true, access: "rwm", ...FUSE }],
          ],
        },
        // As Docker does when a bind is shared: else nothing comes back through it.
        ...(isShared ? { rootfsPropagation: "shared" } : {}),
      },
    };
  }
}

async function buildah(work: string, ...args: string[]): Promise<string> {
  const storage = ["--root", `${work}/storage`, "--runroot", `${work}/run`];
  return (await run("buildah", [...storage, ...args], { timeoutMs: 300_000 })).stdout;
}
