/** The manual page, in the macros of man(7), from the definitions. */

import type { FlagDefinition, ProgramDefinition, VerbDefinition } from "./definitions.ts";
import { ENVIRONMENT, EXIT_STATUS } from "./help_text.ts";

const FILES: readonly (readonly [string, string])[] = [
  ["<state root>/control.sock", "where the daemon is asked"],
  ["<state root>/daemon.log", "log of a daemon in the background; daemon.log.1 is older"],
];

export function manualPage(program: ProgramDefinition, version: string): string {
  const { name, description, flags, verbs } = program;
  const lower = description.charAt(0).toLowerCase() + description.slice(1).replace(/\.$/, "");
  return [
    `.TH ${name.toUpperCase()} 1 "" "${name} ${escaped(version)}" "User Commands"`,
    ".SH NAME",
    `${name} \\- ${escaped(lower)}`,
    ".SH SYNOPSIS",
    `.B ${name}`,
    ".I command",
    "[\\fIoptions\\fR]",
    ".SH DESCRIPTION",
    text(description),
    ".SH OPTIONS",
    ...flags.flatMap(flagLines),
    ".SH COMMANDS",
    ...verbs.flatMap((verb) => verbLines(name, verb)),
    ".SH EXIT STATUS",
    ...EXIT_STATUS.flatMap(([code, meaning]) => item(`\\fB${code}\\fR`, meaning)),
    ".SH ENVIRONMENT",
    ...ENVIRONMENT.flatMap(([name, meaning]) => item(`\\fB${escaped(name)}\\fR`, meaning)),
    ".SH FILES",
    ...FILES.flatMap(([path, meaning]) => item(`\\fI${escaped(path)}\\fR`, meaning)),
    "",
  ].join("\n");
}

function verbLines(
  program: string,
  { name, description, arguments: args, flags }: VerbDefinition,
): string[] {
  const synopsis = [program, name, ...args.map((arg) => arg.text)].join(" ");
  return [
    `.SS "${escaped(flags.length === 0 ? synopsis : `${synopsis} [options]`)}"`,
    text(description),
    ...args.flatMap((arg) => item(`\\fI${escaped(arg.text)}\\fR`, arg.description)),
    ...flags.flatMap(flagLines),
  ];
}

function flagLines({ names, value, description }: FlagDefinition): string[] {
  const typed = names.map((name) => `\\fB${escaped(name)}\\fR`).join(", ");
  const takes = value === null ? "" : ` \\fI${escaped(`<${value.placeholder}>`)}\\fR`;
  return item(`${typed}${takes}`, descriptionOf(description, value));
}

function descriptionOf(description: string, value: FlagDefinition["value"]): string {
  if (value?.kind !== "choices") return description;
  return `${description} (${value.choices.join(", ")})`;
}

function item(term: string, meaning: string): string[] {
  return [".TP", term, text(meaning)];
}

/** A paragraph: its first character must not make a macro of it. */
function text(plain: string): string {
  return escaped(plain).replace(/^[.']/, "\\&$&");
}

function escaped(plain: string): string {
  return plain.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll('"', "\\(dq");
}
