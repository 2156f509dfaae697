/**
 * A git:// server for tests: `git upload-pack` behind a listener of our own, which passes on as much
 * of what it says as a test wants. (`git daemon` itself can be neither slowed nor silenced.)
 */

import { concat, GIT_ENV, killGroup, sleep } from "./run.ts";

/** What can be changed while it runs. */
export interface GitDaemonSettings {
  /** Connections are taken, and nothing is ever said. */
  silent: boolean;
  /** So many bytes of each connection are passed on, then nothing more; null: all. */
  stallAfterBytes: number | null;
  /** Awaited before each piece that is passed on. */
  beforePiece: () => Promise<void> | void;
  /** Bytes of a piece, at most. */
  pieceBytes: number;
}

export interface GitDaemon extends AsyncDisposable {
  /** `git://127.0.0.1:PORT/NAME`, which is the bare repository `root/NAME`. */
  url(name: string): string;
  set(settings: Partial<GitDaemonSettings>): void;
}

export function startGitDaemon(root: string): GitDaemon {
  return new Daemon(root);
}

class Daemon implements GitDaemon {
  readonly #root: string;
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #settings: GitDaemonSettings = {
    silent: false,
    stallAfterBytes: null,
    beforePiece: () => {},
    pieceBytes: 64 * 1024,
  };
  readonly #open = new Set<Deno.TcpConn>();
  readonly #tasks = new Set<Promise<void>>();
  readonly #accepting: Promise<void>;

  constructor(root: string) {
    this.#root = root;
    this.#accepting = this.#accept();
  }

  url(name: string): string {
    return `git://127.0.0.1:${this.#listener.addr.port}/${name}`;
  }

  set(settings: Partial<GitDaemonSettings>): void {
    Object.assign(this.#settings, settings);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of this.#open) close(connection);
    this.#open.clear();
    await this.#accepting;
    await Promise.all(this.#tasks);
  }

  async #accept(): Promise<void> {
    try {
      for await (const connection of this.#listener) {
        this.#open.add(connection);
        const task = this.#serve(connection).catch(() => {
          // The client is gone.
        }).finally(() => {
          close(connection);
          this.#open.delete(connection);
          this.#tasks.delete(task);
        });
        this.#tasks.add(task);
      }
    } catch {
      // Closed.
    }
  }

  async #serve(connection: Deno.TcpConn): Promise<void> {
    const request = await readRequest(connection);
    if (this.#settings.silent) {
      // Until the client goes.
      while (await connection.read(new Uint8Array(4096)) !== null);
      return;
    }
    const child = new Deno.Command("git", {
      args: ["upload-pack", `${this.#root}${request.path}`],
      env: { ...GIT_ENV, GIT_PROTOCOL: request.protocol },
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
      detached: true,
    }).spawn();
    const asked = connection.readable.pipeTo(child.stdin).catch(() => {}).finally(() => {
      this.#open.delete(connection);
    });
    try {
      await this.#passOn(child.stdout, connection);
    } finally {
      close(connection);
      killGroup(child.pid);
      await child.status;
      await asked;
    }
  }

  async #passOn(said: ReadableStream<Uint8Array>, connection: Deno.TcpConn): Promise<void> {
    let sent = 0;
    for await (const chunk of said) {
      for (let at = 0; at < chunk.length;) {
        await this.#settings.beforePiece();
        const limit = this.#settings.stallAfterBytes ?? Infinity;
        while (sent >= limit) {
          if (!this.#open.has(connection)) return;
          await sleep(5);
        }
        const piece = chunk.subarray(at, at + Math.min(this.#settings.pieceBytes, limit - sent));
        for (let rest = piece; rest.length > 0;) {
          rest = rest.subarray(await connection.write(rest));
        }
        at += piece.length;
        sent += piece.length;
      }
    }
  }
}

/** `git-upload-pack /NAME\0host=...\0\0version=2\0` in one pkt-line (git: connect.c). */
async function readRequest(connection: Deno.TcpConn): Promise<{ path: string; protocol: string }> {
  let bytes: Uint8Array = new Uint8Array();
  let length = 4;
  while (bytes.length < length) {
    const buffer = new Uint8Array(length - bytes.length);
    const count = await connection.read(buffer);
    if (count === null) throw new Error("the client has gone");
    bytes = concat([bytes, buffer.subarray(0, count)]);
    if (bytes.length === 4) length = parseInt(new TextDecoder().decode(bytes), 16);
  }
  const [command = "", , , protocol = ""] = new TextDecoder().decode(bytes.subarray(4)).split("\0");
  return { path: command.split(" ")[1] ?? "", protocol };
}

function close(connection: Deno.TcpConn): void {
  try {
    connection.close();
  } catch {
    // Closed already.
  }
}
