/**
 * The verbs and flags as `--help` has them, read from commander's own objects: completion and the
 * manual page are made of these, and cannot say anything else.
 *
 * What a value is follows from its placeholder: `<repo>` is the name of a registered repository,
 * `<dir>` a directory, `<url>` what may be a path; choices speak for themselves.
 */

import type { Argument, Command, Option } from "commander";

export type ValueKind =
  | { readonly kind: "choices"; readonly choices: readonly string[] }
  | { readonly kind: "repo" | "dir" | "text" };

export interface FlagDefinition {
  /** `-n`, `--lines`: as they are typed, short first. */
  readonly names: readonly string[];
  /** `-n, --lines <lines>` */
  readonly text: string;
  /** Null: it takes none. */
  readonly value: (ValueKind & { readonly placeholder: string }) | null;
  readonly description: string;
}

export interface ArgumentDefinition {
  /** `<url>`, `[dir]` */
  readonly text: string;
  readonly name: string;
  readonly isRequired: boolean;
  readonly value: ValueKind;
  readonly description: string;
}

export interface VerbDefinition {
  readonly name: string;
  readonly description: string;
  readonly arguments: readonly ArgumentDefinition[];
  readonly flags: readonly FlagDefinition[];
}

export interface ProgramDefinition {
  readonly name: string;
  readonly description: string;
  readonly flags: readonly FlagDefinition[];
  readonly verbs: readonly VerbDefinition[];
}

export function definitionOf(program: Command): ProgramDefinition {
  const verbs = program.createHelp().visibleCommands(program).map(verbOf);
  return {
    name: program.name(),
    description: program.description(),
    flags: flagsOf(program),
    verbs,
  };
}

function verbOf(command: Command): VerbDefinition {
  return {
    name: command.name(),
    description: command.description(),
    arguments: command.registeredArguments.map(argumentOf),
    flags: flagsOf(command),
  };
}

function flagsOf(command: Command): FlagDefinition[] {
  return command.createHelp().visibleOptions(command).map(flagOf);
}

function flagOf({ short, long, flags, required, optional, argChoices, description }: Option) {
  const placeholder = /[<[](.*)[>\]]$/.exec(flags)?.[1] ?? "";
  return {
    names: [short, long].filter((name) => name !== undefined && name !== null),
    text: flags,
    value: required || optional ? { ...valueOf(placeholder, argChoices), placeholder } : null,
    description,
  };
}

function argumentOf(argument: Argument): ArgumentDefinition {
  const name = argument.name();
  return {
    text: argument.required ? `<${name}>` : `[${name}]`,
    name,
    isRequired: argument.required,
    value: valueOf(name, argument.argChoices),
    description: argument.description,
  };
}

function valueOf(placeholder: string, choices: readonly string[] | undefined): ValueKind {
  if (choices !== undefined) return { kind: "choices", choices };
  // A remote may be a directory on this machine.
  if (placeholder === "dir" || placeholder === "url") return { kind: "dir" };
  return { kind: placeholder === "repo" ? "repo" : "text" };
}
