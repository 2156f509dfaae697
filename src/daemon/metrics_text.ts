/** Prometheus' text format 0.0.4: names, help, types and samples as lines. */

export interface Family {
  readonly type: "counter" | "gauge";
  readonly help: string;
}

type Labels = Readonly<Record<string, string>>;

/** The samples of some families, added up where labels are the same. */
export class Samples<Name extends string> {
  readonly #families = new Map<Name, Map<string, { readonly labels: Labels; value: number }>>();

  add(name: Name, labels: Labels, value: number): void {
    const family = this.#families.get(name) ?? new Map();
    this.#families.set(name, family);
    const key = JSON.stringify(labels);
    const sample = family.get(key);
    if (sample === undefined) family.set(key, { labels, value });
    else sample.value += value;
  }

  addAll(other: Samples<Name>): void {
    for (const [name, family] of other.#families) {
      for (const { labels, value } of family.values()) this.add(name, labels, value);
    }
  }

  /** Forgets all samples with this label. */
  forget(label: string, value: string): void {
    for (const family of this.#families.values()) {
      for (const [key, { labels }] of family) if (labels[label] === value) family.delete(key);
    }
  }

  of(name: Name): Iterable<{ readonly labels: Labels; readonly value: number }> {
    return this.#families.get(name)?.values() ?? [];
  }
}

/** Every family in the order of the table, with its samples if it has any. */
export function metricsText<Name extends string>(
  families: Readonly<Record<Name, Family>>,
  samples: Samples<Name>,
): string {
  let text = "";
  for (const [name, { type, help }] of Object.entries(families) as [Name, Family][]) {
    text += `# HELP ${name} ${escaped(help)}\n# TYPE ${name} ${type}\n`;
    for (const { labels, value } of samples.of(name)) {
      text += `${name}${labelText(labels)} ${value}\n`;
    }
  }
  return text;
}

function labelText(labels: Labels): string {
  const parts = Object.entries(labels).map(([name, value]) =>
    `${name}="${escaped(value).replaceAll('"', '\\"')}"`
  );
  return parts.length === 0 ? "" : `{${parts.join(",")}}`;
}

function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}
