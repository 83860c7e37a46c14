"""`shipper completion` - a script that completes commands and options in bash, zsh or fish."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

from . import OK

SHELLS = ("bash", "zsh", "fish")

_BASH = """\
_shipper() {{
    local words
    case "$COMP_CWORD ${{COMP_WORDS[1]}}" in
        "1 "*) words={commands} ;;
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _shipper shipper
"""

_ZSH = """\
#compdef shipper
_shipper() {{
    local -a words
    case "$CURRENT ${{words_of_line[2]}}" in
        "2 "*) words=({commands}) ;;
{cases}
    esac
    if [[ ${{#words}} -gt 0 && ( $CURRENT -eq 2 || $PREFIX == -* || $CURRENT -eq 3 ) ]]; then
        _describe shipper words && return
    fi
    _files
}}
"""


class Entry(NamedTuple):
    """A command, what it is for, and what may follow it: options and actions, each with its help."""

    name: str
    text: str
    words: list[tuple[str, str]]


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "completion",
        help="print a script that completes commands in your shell",
        description="Prints a script that completes commands and options in a shell.",
        examples="""
            source <(shipper completion bash)                                   in ~/.bashrc
            shipper completion zsh > "${fpath[1]}/_shipper"                     once
            shipper completion fish > ~/.config/fish/completions/shipper.fish   once
        """,
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from . import make_parser

    entries = list(_entries(make_parser()))
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[given.shell](entries), end="")
    return OK


def _entries(parser: argparse.ArgumentParser) -> Iterator[Entry]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {each.dest: each.help or "" for each in action._choices_actions}
            for name, each in action.choices.items():
                yield Entry(name, _first(helps.get(name, "")), list(_words(each)))


def _words(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for entry in _entries(parser):
                yield entry.name, entry.text
        elif not action.option_strings and action.choices:
            yield from ((str(choice), "") for choice in action.choices)
        for option in action.option_strings:
            if option.startswith("--"):
                yield option, _first((action.help or "").replace("%(default)s", str(action.default)))


def _first(text: str) -> str:
    """The help up to the first ``;``, ``,`` or `` (``, without characters that are special in a shell."""
    short = text.partition(";")[0].partition(" (")[0].partition(",")[0]
    return "".join(character for character in short if character.isalnum() or character in " -_=.")


def _bash(entries: list[Entry]) -> str:
    cases = (f'        *" {each.name}") words={shlex.quote(" ".join(w for w, _ in each.words))} ;;' for each in entries)
    return _BASH.format(commands=shlex.quote(" ".join(each.name for each in entries)), cases="\n".join(cases))


def _zsh(entries: list[Entry]) -> str:
    def described(words: list[tuple[str, str]]) -> str:
        return " ".join(shlex.quote(f"{word}:{text}" if text else word) for word, text in words)

    cases = (f'        *" {each.name}") words=({described(each.words)}) ;;' for each in entries)
    commands = described([(each.name, each.text) for each in entries])
    script = _ZSH.format(commands=commands, cases="\n".join(cases))
    # In zsh, `words` is the command line, so the script's own variable is renamed to `offered`.
    return script.replace("words", "offered").replace("offered_of_line", "words") + '_shipper "$@"\n'


def _fish(entries: list[Entry]) -> str:
    lines = ["complete -c shipper -n __fish_use_subcommand -f"]
    for entry in entries:
        lines.append(f"complete -c shipper -n __fish_use_subcommand -a {entry.name} -d {shlex.quote(entry.text)}")
        condition = f"-n '__fish_seen_subcommand_from {entry.name}'"
        for word, text in entry.words:
            what = f"-l {word[2:]}" if word.startswith("--") else f"-a {word}"
            lines.append(f"complete -c shipper {condition} {what} -d {shlex.quote(text)}")
    return "\n".join([*lines, ""])
