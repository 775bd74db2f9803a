"""From a command line to the function of its verb: global flags, the verb, its own flags by typer, the exit code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from wherry.cli.connection import Client, DaemonError
from wherry.cli.verbs import ALIASES, NOT_HERE, VERBS, Verb
from wherry.errors import ConfigurationError, WherryError
from wherry.words import nearest

USAGE: Final = 125  # as docker: the command line itself is wrong
CONFIGURATION: Final = 2


@dataclass(slots=True)
class Session:
    """What every verb has: the daemon that was named. `hosts` is all that -H said, which only `daemon` may repeat."""

    hosts: list[str] = field(default_factory=list)
    debug: bool = False

    @property
    def client(self) -> Client:
        return Client(self.hosts[-1] if self.hosts else "")


class UsageError(Exception):
    """The command line is wrong."""


def dispatch(arguments: list[str]) -> int:
    """Run one command line; answers the exit code."""
    session = Session()
    try:
        rest = _global_flags(arguments, session)
        if not rest or rest[0] in ("-h", "--help", "help"):
            return _help(rest)
        name, verb, rest = _find(rest)
        return _run(name, verb, rest, session)
    except UsageError as error:
        return _fail(f"{error}\nSee `wherry --help`.", USAGE)
    except ConfigurationError as error:
        return _fail(str(error), CONFIGURATION)
    except (WherryError, DaemonError) as error:
        return _fail(str(error), 1)
    except OSError as error:
        return _fail(
            f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error), 1
        )


def _fail(message: str, code: int) -> int:
    print(f"wherry: {message}", file=sys.stderr)
    return code


def _global_flags(arguments: list[str], session: Session) -> list[str]:
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] not in ("-h", "--help"):
        flag, equals, value = rest.pop(0).partition("=")
        if flag.startswith("-H") and len(flag) > 2:
            flag, equals, value = "-H", "=", flag[2:] + equals + value
        if flag in ("-H", "--host"):
            if not equals and not rest:
                raise UsageError(f"flag needs an argument: {flag}")
            session.hosts.append(value if equals else rest.pop(0))
        elif flag in ("-D", "--debug"):
            session.debug = True
        elif flag in ("-v", "--version"):
            rest = ["version"]
        else:
            raise UsageError(f"unknown flag: {flag}")
    return rest


def _find(words: list[str]) -> tuple[str, Verb, list[str]]:
    for length in (2, 1):
        name = " ".join(words[:length])
        name = ALIASES.get(name, name)
        if len(words) >= length and name in VERBS:
            return name, VERBS[name], words[length:]
    word = words[0]
    below = sorted(
        name.removeprefix(f"{word} ") for name in [*VERBS, *ALIASES] if name.startswith(f"{word} ")
    )
    if below:
        raise UsageError(f"wherry {word} needs one of: {', '.join(below)}")
    if word in NOT_HERE:
        raise UsageError(f'wherry has no "{word}": {NOT_HERE[word]}')
    known = nearest(word, {name.partition(" ")[0] for name in VERBS})
    raise UsageError(f'"{word}" is not a wherry command{known if "mean" in known else ""}')


def _run(name: str, verb: Verb, arguments: list[str], session: Session) -> int:
    import typer
    import typer.main

    function: Callable[..., int | None] = getattr(
        importlib.import_module(f"wherry.cli.{verb.module}"), verb.function
    )
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(
        name,
        help=f"{verb.help}.",
        context_settings={"allow_interspersed_args": not verb.program, "help_option_names": ["--help"]},
    )(function)
    command: Any = typer.main.get_command(app)
    usage: type[Exception] = typer.BadParameter.__mro__[1]  # UsageError; it has no public name of its own
    try:
        code = command.main(
            args=_plain_booleans(arguments, command.params, stop=verb.program),
            prog_name=f"wherry {name}",
            standalone_mode=False,
            obj=session,
        )
    except usage as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        print(f"wherry {name}: {message}\nSee `wherry {name} --help`.", file=sys.stderr)
        return USAGE if name != "daemon" else CONFIGURATION
    except typer.Abort:
        return 130
    return int(code or 0)


def _plain_booleans(arguments: list[str], parameters: list[Any], *, stop: bool) -> list[str]:
    """`--rm=true` and `--sig-proxy=false`, which docker's users write, as `--rm` and `--no-sig-proxy`."""
    takes_value = {name for each in parameters if not getattr(each, "is_flag", False) for name in each.opts}
    booleans = {name: each for each in parameters if getattr(each, "is_flag", False) for name in each.opts}
    found: list[str] = []
    rest = iter(arguments)
    for word in rest:
        name, equals, value = word.partition("=")
        if word == "--" or (stop and not (word.startswith("-") and len(word) > 1)):
            return [*found, word, *rest]
        if equals and name in booleans and value.lower() in ("true", "false", "1", "0", "t", "f"):
            wanted = value.lower() in ("true", "1", "t")
            opposite = booleans[name].secondary_opts
            if wanted or opposite:
                found.append(name if wanted else opposite[0])
            continue
        found.append(word)
        last = word if word.startswith("--") else "-" + word[-1]
        clustered = not word.startswith("--") and all("-" + letter in booleans for letter in word[1:-1])
        if (
            word.startswith("-")
            and last in takes_value
            and not equals
            and (word.startswith("--") or clustered)
        ):
            found += [value for value in [next(rest, None)] if value is not None]
    return found


def _help(words: list[str]) -> int:
    if len(words) > 1 and words[0] == "help":
        return dispatch([*words[1:], "--help"])
    print("Usage: wherry [-H HOST] COMMAND …\n\nRun containers; every moving part is a driver.\n\nCommands:")
    for name, verb in VERBS.items():
        print(f"  {name:<20} {verb.help}")
    print(
        "\nGlobal flags:\n"
        "  -H, --host HOST      The daemon: unix:///path or tcp://host:port; else WHERRY_HOST, DOCKER_HOST,\n"
        "                       unix:///run/wherry.sock\n"
        "  -v, --version        Show the version\n"
        "\n`wherry COMMAND --help` tells more. What docker has and wherry has not: docs/not-here.md"
    )
    return 0
