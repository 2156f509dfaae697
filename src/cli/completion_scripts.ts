/**
 * Completion for three shells, from the definitions. Names of repositories are asked for when they
 * are needed: `afs list-repos` starts no daemon. A shell expands the words that it is given, so names
 * of other characters than letters, digits and some signs are left out.
 */

import type {
  FlagDefinition,
  ProgramDefinition,
  ValueKind,
  VerbDefinition,
} from "./definitions.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

export function completionScript(shell: Shell, program: ProgramDefinition): string {
  return SCRIPTS[shell](program);
}

const SCRIPTS: Record<Shell, (program: ProgramDefinition) => string> = { bash, zsh, fish };

const REPOS = `list-repos 2>/dev/null | sed -n 's/^repo=\\([[:alnum:]._+@,-]*\\) .*/\\1/p'`;

function bash({ name, flags, verbs }: ProgramDefinition): string {
  const names = verbs.map((verb) => verb.name).join(" ");
  return `# bash completion for ${name}
#   source <(${name} completion bash)

_${name}() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} verb= i
  local words= flags= dirs= repos=
  # --flag=value comes as three words.
  if [[ $cur == = ]]; then
    cur=
  elif [[ $prev == = ]]; then
    prev=\${COMP_WORDS[COMP_CWORD-2]}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ \${COMP_WORDS[i]} != -* ]]; then
      verb=\${COMP_WORDS[i]}
      break
    fi
  done
  case $verb in
    '')
      words='${names}'
      flags='${flagNames(flags)}'
      ;;
${verbs.map(bashVerb).join("\n")}
  esac
  if [[ -n $repos ]]; then
    words=$("$1" ${REPOS})
  fi
  if [[ $cur == -* && -n $flags ]]; then
    words=$flags
    dirs=
  fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  if [[ -n $dirs ]]; then
    local IFS=$'\\n'
    COMPREPLY+=($(compgen -d -- "$cur"))
    compopt -o filenames 2>/dev/null
  fi
}
complete -F _${name} ${name}
`;
}

function bashVerb({ name, flags, arguments: args }: VerbDefinition): string {
  const values = flags.filter(({ value }) => value !== null).map((flag) =>
    `        ${flag.names.join(" | ")}) ${bashValue(flag.value as ValueKind)} ;;\n`
  );
  const positional = args.map(({ value }) => bashValue(value)).filter((each) => each !== ":");
  return `    ${name})
      case $prev in
${values.join("")}        *)
          flags='${flagNames(flags)}'
          ${positional.length === 0 ? ":" : [...new Set(positional)].join("; ")}
          ;;
      esac
      ;;`;
}

function bashValue(value: ValueKind): string {
  switch (value.kind) {
    case "choices":
      return `words='${value.choices.join(" ")}'`;
    case "dir":
      return "dirs=1";
    case "repo":
      return "repos=1";
    case "text":
      return ":";
  }
}

function flagNames(flags: readonly FlagDefinition[]): string {
  return flags.flatMap(({ names }) => names.filter((name) => name.startsWith("--"))).join(" ");
}

function zsh({ name, flags, verbs }: ProgramDefinition): string {
  return `#compdef ${name}
# zsh completion for ${name}: a file _${name} in a folder of $fpath

_${name}_repos() {
  local -a names
  names=(\${(f)"$(${name} ${REPOS})"})
  compadd -a names
}

_${name}() {
  local curcontext=$curcontext state line
  _arguments -C \\
${flags.flatMap(zshFlag).map((spec) => `    ${spec} \\\n`).join("")}    '1:verb:->verb' \\
    '*::argument:->arguments'
  case $state in
    verb)
      local -a verbs
      verbs=(
${verbs.map((verb) => `        ${quoted(`${verb.name}:${verb.description}`)}\n`).join("")}      )
      _describe verb verbs
      ;;
    arguments)
      case $words[1] in
${verbs.map(zshVerb).join("")}      esac
      ;;
  esac
}

if [[ $funcstack[1] == _${name} ]]; then
  _${name} "$@"
else
  compdef _${name} ${name}
fi
`;
}

function zshVerb({ name, flags, arguments: args }: VerbDefinition): string {
  const specs = [
    ...flags.flatMap(zshFlag),
    ...args.map(({ name, isRequired, value }, i) =>
      quoted(`${i + 1}${isRequired ? ":" : "::"}${name}:${zshValue(value)}`)
    ),
  ];
  return `        ${name})
          _arguments ${specs.join(" \\\n            ")}
          ;;
`;
}

function zshFlag({ names, value, description }: FlagDefinition): string[] {
  const text = description.replaceAll(/[[\]:\\]/g, "\\$&");
  return names.map((name) => {
    const takes = value === null ? "" : `:${value.placeholder}:${zshValue(value)}`;
    const excluded = names.length > 1 ? `(${names.join(" ")})` : "";
    const joined = value !== null && name.startsWith("--") ? `${name}=` : name;
    return quoted(`${excluded}${joined}[${text}]${takes}`);
  });
}

function zshValue(value: ValueKind): string {
  switch (value.kind) {
    case "choices":
      return `(${value.choices.join(" ")})`;
    case "dir":
      return "_directories";
    case "repo":
      return "_afs_repos";
    case "text":
      return " ";
  }
}

function fish({ name, flags, verbs }: ProgramDefinition): string {
  const lines = [
    `# fish completion for ${name}: ~/.config/fish/completions/${name}.fish`,
    "",
    `function __${name}_repos`,
    `    ${name} ${REPOS}`,
    "end",
    "",
    `complete -c ${name} -f`,
    ...flags.map((flag) => fishFlag(name, "__fish_use_subcommand", flag)),
  ];
  for (const verb of verbs) {
    const seen = `__fish_seen_subcommand_from ${verb.name}`;
    lines.push(
      "",
      `complete -c ${name} -n __fish_use_subcommand -a ${verb.name} -d ${
        fishQuoted(verb.description)
      }`,
      ...verb.flags.map((flag) => fishFlag(name, seen, flag)),
    );
    for (const { value } of verb.arguments) {
      if (value.kind === "text") continue;
      lines.push(`complete -c ${name} -n '${seen}' ${fishValue(name, value)}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

function fishFlag(
  program: string,
  condition: string,
  { names, value, description }: FlagDefinition,
): string {
  const flags = names.map((name) =>
    name.startsWith("--") ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`
  );
  const takes = value === null ? "" : ` -x ${fishValue(program, value)}`;
  const text = fishQuoted(description);
  return `complete -c ${program} -n '${condition}' ${flags.join(" ")}${takes.trimEnd()} -d ${text}`;
}

function fishValue(program: string, value: ValueKind): string {
  switch (value.kind) {
    case "choices":
      return `-a '${value.choices.join(" ")}'`;
    case "dir":
      return "-a '(__fish_complete_directories)'";
    case "repo":
      return `-a '(__${program}_repos)'`;
    case "text":
      return "";
  }
}

/** For a shell of Bourne's kind. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function fishQuoted(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
