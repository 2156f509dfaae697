/** Text of git configuration files that are ours to write: no git process is needed for them. */

import { Bug } from "../failure.ts";

/** [section, subsection or null, key, value], in the order they are written. */
export type ConfigEntry = readonly [string, string | null, string, string];

/** A configuration file. Throws Bug for what cannot be in one. */
export function configText(entries: readonly ConfigEntry[]): string {
  let text = "";
  let open = "";
  for (const [section, subsection, key, value] of entries) {
    const header = subsection === null ? `[${section}]` : `[${section} ${quoted(subsection)}]`;
    if (header !== open) text += `${header}\n`;
    open = header;
    text += `\t${key} = ${quoted(value)}\n`;
  }
  return text;
}

/** The values of a key in a text that configText made, whatever their section, in their order. */
export function configValues(text: string, key: string): string[] {
  const lines = text.matchAll(new RegExp(`^\\t${key} = "(.*)"$`, "gm"));
  return [...lines].map(([, value = ""]) => value.replaceAll(/\\(.)/g, "$1"));
}

/** In double quotes a backslash and a quote are escaped, and blanks, `#` and `;` are plain. */
function quoted(text: string): string {
  if (/[\n\0]/.test(text)) throw new Bug("a configuration value with a newline");
  return `"${text.replaceAll(/[\\"]/g, "\\$&")}"`;
}
