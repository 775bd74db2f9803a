"""From a command line to the function of its verb: global flags, the verb, its own flags, the exit code."""

from __future__ import annotations

import importlib
import inspect
import signal
import sys
import typing
from collections.abc import Callable
from typing import Final

from wherry.cli import arguments
from wherry.cli.connection import DaemonError
from wherry.cli.session import USAGE, Session, UsageError
from wherry.cli.verbs import ALIASES, NOT_HERE, VERBS, Verb
from wherry.errors import ConfigurationError, WherryError
from wherry.words import nearest

CONFIGURATION: Final = 2


def dispatch(words: list[str]) -> int:
    """Run one command line; answers the exit code."""
    session = Session()
    try:
        rest = _global_flags(words, session)
        if not rest or rest[0] in ("-h", "--help", "help"):
            return _help(rest)
        name, verb, rest = _find(rest)
        if name != "daemon":
            # `wherry logs x | head` ends as every filter does; sockets are written with MSG_NOSIGNAL.
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        return _run(name, verb, rest, session)
    except UsageError as error:
        return _fail(f"{error}\nSee `wherry --help`.", USAGE)
    except ConfigurationError as error:
        return _fail(str(error), CONFIGURATION)
    except (WherryError, DaemonError) as error:
        return _fail(str(error), 1)
    except OSError as error:
        why = error.strerror or str(error)
        return _fail(f"{error.filename}: {why}" if error.filename else why, 1)
    except Exception as error:
        if session.debug or "daemon" in words:
            raise
        return _fail(f"this should not happen: {type(error).__name__}: {error}; `wherry -D …` shows where", 1)


def _fail(message: str, code: int) -> int:
    print(f"wherry: {message}", file=sys.stderr)
    return code


def _global_flags(words: list[str], session: Session) -> list[str]:
    rest = list(words)
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


def _run(name: str, verb: Verb, words: list[str], session: Session) -> int:
    module = importlib.import_module(f"wherry.cli.{verb.module}")
    function: Callable[..., int | None] = getattr(module, verb.function)
    flags = words[: words.index("--")] if "--" in words else words
    if "--help" in (flags[:1] if verb.program else flags):
        return _help_of(name, verb, function)
    try:
        given = arguments.read(name, function, words, program=verb.program)
    except UsageError as error:
        return _fail(f"{error}\nSee `wherry {name} --help`.", CONFIGURATION if name == "daemon" else USAGE)
    return int(function(session=session, **given) or 0)


def _help_of(name: str, verb: Verb, function: Callable[..., int | None]) -> int:
    """typer writes it, from the same declarations; the session is not for users."""
    import typer
    import typer.main

    def shown(**_: object) -> None: ...

    signature = inspect.signature(function)
    visible = [each for each in signature.parameters.values() if each.name != "session"]
    hints = typing.get_type_hints(function, include_extras=True)
    shown.__signature__ = signature.replace(parameters=visible)  # type: ignore[attr-defined]
    shown.__annotations__ = {each.name: hints[each.name] for each in visible}
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name, help=f"{verb.help}.", context_settings={"help_option_names": ["--help"]})(shown)
    typer.main.get_command(app).main(args=["--help"], prog_name=f"wherry {name}", standalone_mode=False)
    return 0


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
