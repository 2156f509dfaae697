/**
 * What is printed and how. Data goes to standard output, messages to standard error. No colours.
 */

import type { Progress, RepoStatus, RepoSummary } from "../control/api.ts";
import { API_VERSION } from "../control/api.ts";
import { redact } from "../redact.ts";
import { variable } from "./environment.ts";

const utf8 = new TextEncoder();

/** Whoever reads may have gone away (`| head`): that is no error of ours. Returns false then. */
function write(stream: { writeSync(bytes: Uint8Array): number }, text: string): boolean {
  const bytes = utf8.encode(text);
  try {
    for (let done = 0; done < bytes.length;) done += stream.writeSync(bytes.subarray(done));
    return true;
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
    return false;
  }
}

/** Data, on standard output. */
export function print(text: string): void {
  write(Deno.stdout, `${text}\n`);
}

/** As print; false: nobody reads it any more. */
export function tryPrint(text: string): boolean {
  return write(Deno.stdout, `${text}\n`);
}

/** Data for programs: one line of JSON. */
export function printJson(data: Readonly<Record<string, unknown>>): void {
  print(JSON.stringify({ version: API_VERSION, ...data }));
}

/** A message, on standard error. */
export function say(text: string): void {
  write(Deno.stderr, `afs: ${redact(text)}\n`);
}

/** A message in another program's words. */
export function sayPlain(text: string): void {
  write(Deno.stderr, `${redact(text)}\n`);
}

export type FieldValue = string | number | boolean | null;

/** `a=1 b=two c="with blank"`; null is `unknown`. */
export function fieldLine(fields: Readonly<Record<string, FieldValue>>): string {
  return Object.entries(fields).map(([name, value]) => `${name}=${fieldText(value)}`).join(" ");
}

/** Plain where whoever splits at blanks gets it right; else a JSON string without control. */
function fieldText(value: FieldValue): string {
  if (value === null) return "unknown";
  const text = String(value);
  // Controls, C1 controls and separators would forge lines or hide text on a terminal.
  if (/^[^\s"'\\=\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+$/u.test(text)) return text;
  return JSON.stringify(text).replaceAll(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** The line that `status` prints for a repository. */
export function statusLine(status: RepoStatus): string {
  return fieldLine({
    repo: status.repo,
    state: status.state,
    head: status.head,
    ref: status.baseCommit === null ? null : refText(status.ref),
    source_ref: status.sourceRef,
    required_commit: status.requiredCommit ?? "none",
    acquisition: status.acquisition,
    base_commit: status.baseCommit ?? "none",
    ahead: status.ahead,
    behind: status.behind,
    diverged: status.diverged,
    last_fetch: status.lastFetch ?? "never",
    result: status.result,
    prepare_error: status.prepareError ?? "none",
    hydrated_blobs: status.hydratedBlobs,
    hydrated_bytes: status.hydratedBytes,
    overlay_dirty: status.overlayDirty,
    history: status.history,
    remote_refresh: status.remoteRefresh,
  });
}

/** The line that `list-repos` prints for a repository. */
export function summaryLine(summary: RepoSummary): string {
  return fieldLine({
    repo: summary.repo,
    state: summary.state,
    mount: summary.mountPoint,
    remote: summary.remote,
    branch: summary.branch ?? "default",
  });
}

/** `main` for a branch, `detached` for none, a full ref otherwise. */
export function refText(ref: string | null): string {
  return ref === null ? "detached" : ref.replace(/^refs\/heads\//, "");
}

export interface ProgressView {
  show(progress: Omit<Progress, "kind">): void;
  /** Leaves a clean line. */
  end(): void;
}

/** Standard output is a terminal whose lines can be rewritten. */
export function isScreen(): boolean {
  return Deno.stdout.isTerminal() && variable("TERM") !== "dumb";
}

/** On such a terminal: this text alone. Returns false when nobody is there any more. */
export function redraw(text: string): boolean {
  return write(Deno.stdout, `\x1b[H\x1b[2J${text}\n`);
}

/** Phases: one line that is rewritten on a terminal, a line per phase otherwise. */
export function progressView(): ProgressView {
  const terminal = Deno.stderr.isTerminal() && variable("TERM") !== "dumb";
  return terminal ? new TerminalProgress() : plainProgress(say);
}

/** Shows nothing before so much time has passed, and then what is going on. */
export function delayed(view: ProgressView, delayMs: number): ProgressView {
  if (delayMs === 0) return view;
  let last: Omit<Progress, "kind"> | null = null;
  let isShown = false;
  const timer = setTimeout(() => {
    isShown = true;
    if (last !== null) view.show(last);
  }, delayMs);
  return {
    show(progress) {
      last = progress;
      if (isShown) view.show(progress);
    },
    end() {
      clearTimeout(timer);
      view.end();
    },
  };
}

/** A line when the phase changes; percentages would be a line each. */
export function plainProgress(say: (text: string) => void): ProgressView {
  let last = "";
  return {
    show({ phase }) {
      if (phase !== last) say(phase);
      last = phase;
    },
    end() {},
  };
}

const REDRAW_MS = 100;

class TerminalProgress implements ProgressView {
  readonly #startedAt = performance.now();
  readonly #timer = setInterval(() => this.#draw(), REDRAW_MS);
  #text = "";

  show({ phase, percent }: Omit<Progress, "kind">): void {
    this.#text = percent === null ? phase : `${phase} ${percent}%`;
    this.#draw();
  }

  end(): void {
    clearInterval(this.#timer);
    if (this.#text !== "") write(Deno.stderr, "\r\x1b[K");
  }

  #draw(): void {
    if (this.#text === "") return;
    const seconds = ((performance.now() - this.#startedAt) / 1000).toFixed(1);
    write(Deno.stderr, `\r\x1b[K${redact(this.#text)} (${seconds} s)`);
  }
}
