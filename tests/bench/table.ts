/** Medians, spread, verdicts, and the table. */

import {
  type Aim,
  type Figure,
  FIGURE_IDS,
  type FigureId,
  FIGURES,
  type Recorder,
  type Unit,
} from "./figures.ts";

export type Verdict = "met" | "MISSED" | "not measured" | "";

export interface Row {
  readonly id: FigureId;
  readonly title: string;
  readonly unit: Unit;
  readonly afs: number[];
  readonly plain: number[];
  readonly ratio: number | null;
  readonly aim: Aim | null;
  readonly verdict: Verdict;
  readonly requests: number[];
  readonly wants: number[];
  /** For each operation. */
  readonly roundTrips: number[];
  readonly processorUs: number[];
  readonly maxRoundTrips: number | null;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const high = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? NaN) + high) / 2;
}

/** One row for each figure that has samples, or that should have some. */
export function rowsOf(recorder: Recorder, skipped: ReadonlySet<FigureId>): Row[] {
  return FIGURE_IDS.filter((id) => !skipped.has(id)).map((id) => rowOf(recorder, id));
}

function rowOf(recorder: Recorder, id: FigureId): Row {
  const figure: Figure = FIGURES[id];
  const { afs, plain, traffic, costs } = recorder.samples(id);
  const roundTrips = costs.map((cost) => cost.roundTrips);
  const ratio = afs.length > 0 && plain.length > 0 ? median(afs) / median(plain) : null;
  return {
    id,
    title: figure.title,
    unit: figure.unit,
    afs,
    plain,
    ratio,
    aim: figure.aim ?? null,
    verdict: verdictOf(figure, afs, ratio, roundTrips),
    requests: traffic.map((one) => one.requests),
    wants: traffic.map((one) => one.wants),
    roundTrips,
    processorUs: costs.map((cost) => cost.processorUs),
    maxRoundTrips: figure.roundTrips ?? null,
  };
}

function verdictOf(
  { aim, roundTrips }: Figure,
  afs: readonly number[],
  ratio: number | null,
  counted: readonly number[],
): Verdict {
  if (afs.length === 0) return "not measured";
  const verdicts: boolean[] = [];
  if (aim !== undefined) {
    const value = aim.of === "ratio" ? ratio : aim.of === "max" ? Math.max(...afs) : median(afs);
    if (value === null) return "not measured";
    verdicts.push(value <= aim.atMost);
  }
  if (roundTrips !== undefined) {
    if (counted.length === 0) return "not measured";
    verdicts.push(tenths(median(counted)) <= roundTrips);
  }
  if (verdicts.length === 0) return "";
  return verdicts.every((met) => met) ? "met" : "MISSED";
}

/** The first of a thousand operations may need one more. */
const tenths = (value: number) => Math.round(value * 10) / 10;

/**
 * Markdown. Values are medians, with the smallest and the largest sample behind them. A column
 * without any value is left out.
 */
export function render(rows: readonly Row[]): string {
  const header = [
    "figure",
    "afs",
    "plain git / local disk",
    "ratio",
    "aim",
    "verdict",
    "requests",
    "wants",
    "round trips",
    "each of them",
    "processor of afs",
  ];
  const all = rows.map((row) => [
    row.title,
    spread(row.afs, row.unit),
    spread(row.plain, row.unit),
    row.ratio === null ? "" : row.ratio.toFixed(2),
    aimsText(row),
    row.verdict,
    spread(row.requests, "count"),
    spread(row.wants, "count"),
    spread(row.roundTrips.map(tenths), "count"),
    perRoundTrip(row),
    spread(row.processorUs, "us"),
  ]);
  const used = header.map((_, i) => all.some((line) => line[i] !== ""));
  const titles = header.filter((_, i) => used[i]);
  const cells = all.map((line) => line.filter((_, i) => used[i]));
  const widths = titles.map((title, i) =>
    Math.max(title.length, ...cells.map((line) => line[i]?.length ?? 0))
  );
  const line = (texts: readonly string[]) =>
    `| ${texts.map((text, i) => text.padEnd(widths[i] ?? 0)).join(" | ")} |`;
  const rule = line(widths.map((width) => "-".repeat(width)));
  return [line(titles), rule, ...cells.map(line)].join("\n");
}

function perRoundTrip({ unit, afs, roundTrips }: Row): string {
  const each = median(roundTrips);
  return unit === "us" && each >= 0.1 ? `${(median(afs) / each).toFixed(0)} µs` : "";
}

function aimsText({ aim, unit, maxRoundTrips }: Row): string {
  const parts = aim === null ? [] : [aimText(aim, unit)];
  if (maxRoundTrips !== null) parts.push(`${maxRoundTrips} round trips`);
  return parts.join(", ");
}

function aimText(aim: Aim, unit: Unit): string {
  if (aim.of === "ratio") return `≤ ${aim.atMost}`;
  return `≤ ${aim.atMost}${suffix(unit)}${aim.of === "max" ? ", each" : ""}`;
}

const suffix = (unit: Unit) => unit === "count" ? "" : unit === "us" ? " µs" : ` ${unit}`;

function spread(values: readonly number[], unit: Unit): string {
  if (values.length === 0) return "";
  const text = `${number(median(values), unit)}${suffix(unit)}`;
  const [low, high] = [number(Math.min(...values), unit), number(Math.max(...values), unit)];
  return low === high ? text : `${text} (${low}–${high})`;
}

function number(value: number, unit: Unit): string {
  if (unit === "us") return value.toFixed(value < 20 ? 2 : 0);
  if (unit === "count") return Number.isInteger(value) ? String(value) : value.toFixed(1);
  if (unit === "ms" && value < 10) return value.toFixed(1);
  return value.toFixed(0);
}
