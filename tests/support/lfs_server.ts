/**
 * A Git LFS server for tests, on 127.0.0.1: the batch API with basic transfers, objects in memory,
 * no locks. `url` is what `lfs.url` is to be.
 */

import { createHash } from "node:crypto";

export interface LfsServerSettings {
  /** Every request must carry it as basic auth (401 otherwise); null = none. */
  login: { readonly user: string; readonly password: string } | null;
  /** Objects asked for are not answered; those that wait go on when it becomes false. */
  hang: boolean;
}

interface BatchRequest {
  readonly operation: "download" | "upload";
  readonly objects: readonly { readonly oid: string; readonly size: number }[];
}

const LFS_JSON = "application/vnd.git-lfs+json";

export class LfsServer implements AsyncDisposable {
  readonly url: string;
  /** By oid; a test may take some away. */
  readonly objects = new Map<string, Uint8Array<ArrayBuffer>>();
  /** `GET oid`, `PUT oid`, `batch download N`, as they came. */
  readonly requests: string[] = [];
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  #settings: LfsServerSettings = { login: null, hang: false };
  #changed = Promise.withResolvers<void>();

  constructor() {
    this.#server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      (request) => this.#answer(request),
    );
    this.url = `http://127.0.0.1:${this.#server.addr.port}/lfs`;
  }

  set(settings: Partial<LfsServerSettings>): void {
    this.#settings = { ...this.#settings, ...settings };
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  async close(): Promise<void> {
    this.set({ hang: false });
    await this.#server.shutdown();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #answer(request: Request): Promise<Response> {
    if (!this.#isAllowed(request)) {
      return json({ message: "a login is needed" }, 401, {
        "Lfs-Authenticate": 'Basic realm="lfs"',
      });
    }
    const path = new URL(request.url).pathname;
    const oid = /^\/lfs\/o\/([0-9a-f]{64})$/.exec(path)?.[1];
    if (request.method === "POST" && path === "/lfs/objects/batch") {
      return this.#batch(await request.json());
    }
    if (oid !== undefined && request.method === "GET") return await this.#download(oid);
    if (oid !== undefined && request.method === "PUT") {
      return this.#upload(oid, new Uint8Array(await request.arrayBuffer()));
    }
    return json({ message: "not here" }, 404);
  }

  #isAllowed(request: Request): boolean {
    const { login } = this.#settings;
    if (login === null) return true;
    const expected = `Basic ${btoa(`${login.user}:${login.password}`)}`;
    return request.headers.get("authorization") === expected;
  }

  #batch({ operation, objects }: BatchRequest): Response {
    this.requests.push(`batch ${operation} ${objects.length}`);
    return json({
      transfer: "basic",
      objects: objects.map(({ oid, size }) => {
        const isHere = this.objects.has(oid);
        // Links carry no login of their own: the client sends its own again.
        const href = `${this.url}/o/${oid}`;
        if (operation === "upload") {
          return isHere ? { oid, size } : { oid, size, actions: { upload: { href } } };
        }
        return isHere
          ? { oid, size, actions: { download: { href } } }
          : { oid, size, error: { code: 404, message: "Object does not exist" } };
      }),
    });
  }

  async #download(oid: string): Promise<Response> {
    this.requests.push(`GET ${oid}`);
    while (this.#settings.hang) await this.#changed.promise;
    const bytes = this.objects.get(oid);
    return bytes === undefined ? json({ message: "not here" }, 404) : new Response(bytes);
  }

  #upload(oid: string, bytes: Uint8Array<ArrayBuffer>): Response {
    this.requests.push(`PUT ${oid}`);
    if (oidOf(bytes) !== oid) return json({ message: "another object" }, 422);
    this.objects.set(oid, bytes);
    return new Response(null, { status: 200 });
  }
}

/** Of an LFS object. */
export function oidOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function json(value: unknown, status = 200, headers: Record<string, string> = {}): Response {
  const body = JSON.stringify(value);
  return new Response(body, { status, headers: { "Content-Type": LFS_JSON, ...headers } });
}
