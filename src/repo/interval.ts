/** How often a remote is asked, as people write it: `30s`, `5m`, `1h`, `never`. */

const UNITS = [["h", 3600], ["m", 60], ["s", 1]] as const;
const MAX_SECONDS = 7 * 24 * 3600;

/** Seconds, or null for `never`; undefined: it is no interval, or above a week. */
export function parseInterval(text: string): number | null | undefined {
  if (text === "never") return null;
  const [, digits, letter] = /^(\d{1,6})([hms])$/.exec(text) ?? [];
  const unit = UNITS.find(([name]) => name === letter)?.[1];
  const seconds = unit === undefined ? 0 : Number(digits) * unit;
  return seconds >= 1 && seconds <= MAX_SECONDS ? seconds : undefined;
}

/** In the largest unit in which it is a whole number. */
export function intervalText(seconds: number | null): string {
  if (seconds === null) return "never";
  const [name, unit] = UNITS.find(([, unit]) => seconds % unit === 0) ?? ["s", 1];
  return `${seconds / unit}${name}`;
}
