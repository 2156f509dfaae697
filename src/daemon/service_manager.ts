/**
 * What the service manager that started this daemon is told, by sd_notify(3).
 *
 *     state      event                              message
 *     starting   all that was wanted is mounted,    READY=1
 *                or has failed
 *     ready      SIGTERM and the like               STOPPING=1
 *     any        what is mounted has changed        STATUS=<how many are>
 *     any        half of WATCHDOG_USEC is over      WATCHDOG=1
 *
 * Invariants
 *  1. No process that we start knows the socket: it could say that we are ready, or that we live.
 *  2. WATCHDOG=1 is sent by the main thread's own loop, so a loop that hangs sends none.
 */

import { errnoName } from "../errno.ts";
import { logger } from "../log.ts";
import { sendDatagram } from "../sys/mod.ts";

/** What is read, and removed from the environment before anything is started. */
export const MANAGER_VARIABLES = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] as const;

export class ServiceManager {
  readonly #address: string | null;
  readonly #watchdogMs: number | null;
  readonly #log = logger("daemon");
  #status = "";
  #timer: number | undefined;

  /** `address` null: nobody is told. `watchdogMs` null: nobody waits for a sign of life. */
  constructor(address: string | null, watchdogMs: number | null) {
    this.#address = address;
    this.#watchdogMs = address === null ? null : watchdogMs;
  }

  /** As the environment says, from which it is removed. */
  static take(pid: number = Deno.pid): ServiceManager {
    const [address, usec, watched] = MANAGER_VARIABLES.map((name) => {
      const value = Deno.env.get(name) ?? "";
      Deno.env.delete(name);
      return value;
    }) as [string, string, string];
    const watchdogMs = /^[1-9]\d*$/.test(usec) && (watched === "" || watched === `${pid}`)
      ? Number(usec) / 1000
      : null;
    return new ServiceManager(address === "" ? null : address, watchdogMs);
  }

  /** From now on signs of life, if they are wanted. */
  watch(): void {
    if (this.#watchdogMs === null) return;
    this.#timer = setInterval(() => this.#send("WATCHDOG=1"), this.#watchdogMs / 2);
  }

  ready(): void {
    this.#send("READY=1");
  }

  stopping(): void {
    this.#send("STOPPING=1");
  }

  /** One line about what is mounted; the same one is not told twice. */
  status(states: readonly string[]): void {
    const count = (state: string) => states.filter((other) => other === state).length;
    const others = ["preparing", "failed"].filter((state) => count(state) > 0);
    const parts = ["mounted", ...others].map((state) => `${count(state)} ${state}`);
    const line = `STATUS=${parts.join(", ")}`;
    if (line === this.#status) return;
    this.#status = line;
    this.#send(line);
  }

  /** Nothing is told by itself any more. */
  end(): void {
    clearInterval(this.#timer);
  }

  #send(message: string): void {
    if (this.#address === null) return;
    const errno = sendDatagram(this.#address, message);
    if (errno === 0) return;
    this.#log.warn("Cannot tell the service manager", { message, errno: errnoName(errno) });
  }
}
