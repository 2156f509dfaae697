/** Compares what a suite says of the mount with what it says of a local directory. */

import { KNOWN, type Known } from "./known.ts";
import type { Case, Outcome, PlaceName } from "./suite.ts";

export interface Finding {
  readonly suite: string;
  /** A suite that broke has no cases, and says why. */
  readonly results: ReadonlyMap<PlaceName, readonly Case[] | Error>;
}

export interface Difference {
  readonly suite: string;
  readonly name: string;
  readonly place: PlaceName;
  readonly local: Outcome | "missing";
  readonly here: Outcome | "missing";
  readonly detail: string;
  /** Why it is as it must be; null: a defect. */
  readonly known: string | null;
}

/**
 * Every case that does not pass in a mount, and does locally. A case that is not there does not
 * pass, except in a place where the suite runs only some.
 */
export function differencesOf(findings: readonly Finding[]): Difference[] {
  return findings.flatMap(({ suite, results }) => {
    const local = byName(results.get("local"));
    return [...results].flatMap(([place, cases]) => {
      if (place === "local") return [];
      const here = byName(cases);
      const names = place === "mount" ? local.keys() : here.keys();
      return [...names].flatMap((name): Difference[] => {
        const [expected, found] = [local.get(name), here.get(name)];
        if (expected?.outcome !== "passed" || found?.outcome === "passed") return [];
        return [{
          suite,
          name,
          place,
          local: expected.outcome,
          here: found?.outcome ?? "missing",
          detail: found?.detail ?? "",
          known: found?.outcome === "failed" ? null : whyKnown(suite, name, place),
        }];
      });
    });
  });
}

function byName(cases: readonly Case[] | Error | undefined): Map<string, Case> {
  if (cases === undefined || cases instanceof Error) return new Map();
  return new Map(cases.map((one) => [one.name, one]));
}

function whyKnown(suite: string, name: string, place: PlaceName): string | null {
  const isIt = (known: Known) =>
    known.suite === suite && known.name === name && known.places.includes(place);
  return KNOWN.find(isIt)?.why ?? null;
}

/** Whether the mount does all that the local directory does, and every suite ran and does some. */
export function isGood(findings: readonly Finding[]): boolean {
  const broken = findings.some(({ results }) =>
    [...results.values()].some((cases) => cases instanceof Error) ||
    ![...byName(results.get("local")).values()].some(({ outcome }) => outcome === "passed")
  );
  return !broken && differencesOf(findings).every(({ known }) => known !== null);
}

/** Markdown: counts of each suite in each place, then the names of what differs. */
export function render(findings: readonly Finding[], places: readonly PlaceName[]): string {
  const header = ["suite", "cases", ...places.map((place) => `${place}: passed/failed/skipped`)];
  const rows = findings.map(({ suite, results }) => {
    const local = results.get("local");
    const count = local === undefined || local instanceof Error ? "" : String(local.length);
    return [suite, count, ...places.map((place) => counts(results.get(place)))];
  });
  const differences = differencesOf(findings).map((one) => {
    const what = `${one.suite} ${one.name}, ${one.place}: ${one.here}`;
    return one.known === null ? `- DEFECT ${what}: ${one.detail}` : `- ${what} (${one.known})`;
  });
  // What fails everywhere says nothing about the mount; the reader should know it all the same.
  const everywhere = findings.flatMap(({ suite, results }) =>
    [...byName(results.get("local")).values()]
      .filter(({ outcome }) => outcome === "failed")
      .map(({ name, detail }) => `- ${suite} ${name}, local: failed: ${detail}`)
  );
  return [table([header, ...rows]), "", ...differences, ...everywhere].join("\n").trimEnd();
}

function counts(cases: readonly Case[] | Error | undefined): string {
  if (cases instanceof Error) return `broken: ${cases.message}`;
  if (cases === undefined || cases.length === 0) return "";
  const count = (outcome: Outcome) => cases.filter((one) => one.outcome === outcome).length;
  return `${count("passed")} / ${count("failed")} / ${count("skipped")}`;
}

/** A markdown table, the first row being its head. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(" | ")} |`;
  const [head = [], ...body] = rows.map(line);
  return [head, line(widths.map((width) => "-".repeat(width))), ...body].join("\n");
}
