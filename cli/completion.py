"""`netbridge completion SHELL`: a few lines for the shell, which ask this program at each TAB (`complete`).

So the three shells offer the same, and what only a program knows: the targets of running bridges. What the
shell knows better (files, the words of a COMMAND) is left to it: an answer of one line `:files` or `:command N` says
so, N being the place of the COMMAND's first word.
"""

from __future__ import annotations

import re
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from .text import clean

if TYPE_CHECKING:
    from .commands import Argument, Command

TARGETS = ("sandbox", "ssh://", "docker://", "k8s://", "devpod://", "exec:")
"""How a TARGET can begin; codespaces are not asked for, since that takes seconds."""
_RUNNING = {("status",), ("down",), ("capture",)}
"""Commands whose TARGET is a running one."""
_ANY_TARGET = {("up",), ("doctor",), ("service", "install"), ("ssh-config", "install")}
_TAKES_UP = {("service", "install")}
"""Commands that take the options of `up`."""

_BASH = r"""# bash completion of netbridge; in ~/.bashrc: eval "$(netbridge completion bash)"
_netbridge() {
    local line IFS=$'\n'
    COMPREPLY=()
    while read -r line; do
        case $line in
            :files) compopt -o default; COMPREPLY=(); return ;;
            :command\ *) _command_offset "${line#:command }" 2>/dev/null || compopt -o default; return ;;
            *) COMPREPLY+=("${line%%$'\t'*}") ;;
        esac
    done < <("$1" complete bash "$COMP_WORDBREAKS" -- "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    # a blank behind what can go on (ssh://, --mtu=) would be wrong
    case ${COMPREPLY[0]} in *[:/=]) compopt -o nospace ;; esac
}
complete -F _netbridge netbridge
"""
_ZSH = r"""#compdef netbridge
# zsh completion of netbridge; in ~/.zshrc behind compinit: eval "$(netbridge completion zsh)"
_netbridge() {
    local line
    local -a found open
    for line in ${(f)"$($words[1] complete zsh -- "${(@Q)words[2,CURRENT]}" "" 2>/dev/null)"}; do
        case $line in
            :files) _files; return ;;
            :command\ *) (( CURRENT -= ${line#:command } )); shift ${line#:command } words; _normal; return ;;
            *[:/=]$'\t'*) open+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
            *) found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
        esac
    done
    _describe netbridge found -- open -S ''
}
compdef _netbridge netbridge
"""
_FISH = r"""# fish completion of netbridge; in ~/.config/fish/completions/netbridge.fish
function __netbridge_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l found ($words[1] complete fish -- $words[2..-1] "$current" "" 2>/dev/null)
    switch "$found[1]"
        case ':files'
            __fish_complete_path "$current"
        case ':command *'
            __fish_complete_subcommand --fcs-skip=(string replace ':command ' '' -- $found[1])
        case '*'
            printf '%s\n' $found
    end
end
complete -c netbridge -f -a '(__netbridge_complete)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print what completes netbridge's command line in a shell.

    bash: eval "$(netbridge completion bash)" in ~/.bashrc. zsh: the same in ~/.zshrc, behind compinit. fish: netbridge
    completion fish > ~/.config/fish/completions/netbridge.fish.

    Parameters
    ----------
    shell
        bash, zsh or fish.
    """
    print(SCRIPTS[shell], end="")
    return 0


def complete(
    shell: Literal["bash", "zsh", "fish"], breaks: str = "", /, *,
    command: Annotated[tuple[str, ...], Parameter(parse=False)] = (),
) -> int:
    """Print what the last word of a command line can become, for the lines above.

    Parameters
    ----------
    shell
        The shell that asks.
    breaks
        bash's $COMP_WORDBREAKS.
    """
    if shell == "bash":
        words, quote = _split(command[0] if command else "")
        words = words[1:]
    else:  # an empty last word is easily lost on the way, so they say one more
        words, quote = list(command[:-1]) or [""], None
    found = candidates(words)
    # bash takes `ssh://x` for several words and wants only what completes the last of them
    cut = max((words[-1].rfind(letter) for letter in breaks if letter in ":="), default=-1) + 1 if words else 0
    for word, about in found:
        written = word[cut:] if quote is None or word.startswith(":") else _written(word[cut:], quote)
        print(written, clean(about), sep="\t" if about else "")
    return 0


def _split(line: str) -> tuple[list[str], str]:
    """The words of an unfinished line, the last of them empty behind a blank, and the quote that is open."""
    for ending in ("", "'", '"'):
        try:
            return shlex.split(line + ending) + ([""] if line[-1:].isspace() and not ending else []), ending
        except ValueError:
            continue
    return [""], ""


def _written(word: str, quote: str) -> str:
    """A word as bash must read it, which puts it on the line as it is: a TARGET may hold blanks, `;` and `$(`."""
    if quote == "'":
        return word.replace("'", "'\\''")
    return re.sub(r'([\\"$`])' if quote else r"([^\w@%+=:,./-])", r"\\\1", word, flags=re.ASCII)


def candidates(words: list[str]) -> list[tuple[str, str]]:
    """What the last of these words (without the program's name) can become, each with a text about it."""
    from .commands import commands

    if not words:
        return []
    if "--" in words[:-1]:
        return [(f":command {words.index('--') + 2}", "")]
    *before, current = words
    command = commands()
    placed: list[str] = []
    expects: Argument | None = None
    options = _options(command)
    for word in before:
        if expects is not None:
            expects = None
        elif word.startswith("-"):
            expects = options.get(word)
            if expects is not None and not expects.value:
                expects = None
        elif below := next((it for it in command.commands if it.path[-1] == word), None):
            command, options, placed = below, _options(below), []
        else:
            placed.append(word)
    if expects is not None:
        return _values(expects, current)
    if current.startswith("-"):
        name, equals, value = current.partition("=")
        if equals and name in options:
            return [(f"{name}={word}", about) for word, about in _values(options[name], value) if word != ":files"]
        found = {name: it.help for name, it in options.items() if name.startswith("--")}
        return _beginning(current, {**found, "--help": "Show what there is."})
    if command.commands:
        return _beginning(current, {it.path[-1]: it.summary for it in command.commands})
    places = [it for it in command.arguments if not it.is_option]
    place = places[min(len(placed), len(places) - 1)] if places else None
    if place is None or (len(placed) >= len(places) and not place.repeated):
        return []
    if command.path in _RUNNING:
        return _beginning(current, _running())
    if command.path in _ANY_TARGET:
        return _beginning(current, dict.fromkeys(TARGETS, ""))
    return _values(place, current)


def _options(command: Command) -> dict[str, Argument]:
    from .commands import commands

    found = [*command.arguments]
    if command.path in _TAKES_UP:
        found += next(it for it in commands().commands if it.path == ("up",)).arguments
    return {name: it for it in found if it.is_option for name in it.names}


def _values(argument: Argument, current: str) -> list[tuple[str, str]]:
    if argument.is_file:
        return [(":files", "")]
    if argument.names[0] == "--target":
        return _beginning(current, _running())
    return _beginning(current, dict.fromkeys(argument.choices, ""))


def _beginning(current: str, words: dict[str, str]) -> list[tuple[str, str]]:
    return [(word, about) for word, about in words.items() if word.startswith(current)]


def _running() -> dict[str, str]:
    """The targets of running bridges; whatever goes wrong, none."""
    from netbridge.bridge import control, runtime

    found: dict[str, str] = {}
    try:
        for folder in runtime.folders():
            with folder:
                for bridge in control.statuses(folder, flows=0):
                    if "target" in bridge and str(bridge["target"]).isprintable():
                        found[str(bridge["target"])] = f"bridge {bridge['number']}, {bridge['state']}"
    except Exception as error:
        print(error, file=sys.stderr)  # the shell's lines hide it
    return found
