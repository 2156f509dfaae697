/**
 * A unix datagram socket that tests read, by libc: Deno has none. What was sent waits in its queue
 * (a dozen, or net.unix.max_dgram_qlen), so nothing has to be read at once.
 */

const libc = Deno.dlopen("libc.so.6", {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  close: { parameters: ["i32"], result: "i32" },
}).symbols;

const AF_UNIX = 1;
const SOCK_DGRAM_NONBLOCK_CLOEXEC = 2 | 0o4000 | 0o2000000;

export class DatagramReceiver implements Disposable {
  readonly #fd: number;

  /** `address` as in NOTIFY_SOCKET: a path, or `@` and an abstract name. */
  constructor(address: string) {
    this.#fd = libc.socket(AF_UNIX, SOCK_DGRAM_NONBLOCK_CLOEXEC, 0);
    if (this.#fd < 0) throw new Error("Cannot make a datagram socket");
    const path = new TextEncoder().encode(address);
    const sockaddr = new Uint8Array(2 + path.length);
    sockaddr[0] = AF_UNIX;
    sockaddr.set(path, 2);
    if (address.startsWith("@")) sockaddr[2] = 0;
    if (libc.bind(this.#fd, sockaddr, sockaddr.length) !== 0) {
      this[Symbol.dispose]();
      throw new Error(`Cannot bind a datagram socket to ${address}`);
    }
  }

  /** What has come since the last time, in order. */
  received(): string[] {
    const into = new Uint8Array(65536);
    const messages: string[] = [];
    for (;;) {
      const count = Number(libc.recv(this.#fd, into, BigInt(into.length), 0));
      if (count < 0) return messages;
      messages.push(new TextDecoder().decode(into.subarray(0, count)));
    }
  }

  [Symbol.dispose](): void {
    libc.close(this.#fd);
  }
}
