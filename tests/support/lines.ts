/** A child that is asked and answers in lines of JSON. */

/** The lines of a stream, as they come. */
export async function* linesOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>) {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n");
    rest = parts.pop() ?? "";
    yield* parts;
  }
  if (rest !== "") yield rest;
}

export interface LineChildOptions {
  readonly env: Record<string, string>;
  /** Where its standard error goes. */
  readonly logPath: string;
}

export class LineChild {
  readonly pid: number;
  readonly #ended: Promise<Deno.CommandStatus>;
  readonly #input: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #lines: AsyncGenerator<string>;
  readonly #logPath: string;

  /** Runs a script of Deno with all permissions. */
  constructor(script: string, args: readonly string[], { env, logPath }: LineChildOptions) {
    this.#logPath = logPath;
    const deno = [Deno.execPath(), "run", "-A", "--no-check", "--quiet", script, ...args];
    const child = new Deno.Command("sh", {
      args: ["-c", 'exec 2>>"$0" "$@"', logPath, ...deno],
      env,
      cwd: "/",
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.pid = child.pid;
    this.#ended = child.status;
    this.#input = child.stdin.getWriter();
    this.#lines = linesOf(child.stdout);
  }

  /** The next line that it prints. Throws when it has ended. */
  async next(): Promise<unknown> {
    const { value, done } = await this.#lines.next();
    if (done !== true) return JSON.parse(value);
    const log = await Deno.readTextFile(this.#logPath).catch(() => "");
    throw new Error(`The child has ended: ${log.slice(-4000)}`);
  }

  async send(value: unknown): Promise<void> {
    await this.#input.write(new TextEncoder().encode(`${JSON.stringify(value)}\n`));
  }

  async ask(value: unknown): Promise<unknown> {
    await this.send(value);
    return await this.next();
  }

  /** Ends its input and reads what it has still to say; its exit code, 128 + n for a signal. */
  async finish(): Promise<number> {
    await this.#input.close().catch(() => {});
    while ((await this.#lines.next()).done !== true);
    return (await this.#ended).code;
  }
}
