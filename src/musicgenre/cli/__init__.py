"""The command line: thin commands over the public API, one file per group.

These files import only typer and the standard library at their top, so that `musicgenre --help` is quick; the
work is imported inside the commands.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
import typer.core

from musicgenre import _debug
from musicgenre._files import place_advice
from musicgenre._running import begin_anew, end_all
from musicgenre._telling import telling
from musicgenre._text import printable
from musicgenre.cli import (
    augment,
    bundles,
    cache,
    classify,
    compare,
    data,
    doctor,
    embed,
    ensemble,
    evaluate,
    export,
    leak_report,
    library,
    models,
    pipeline,
    prepare,
    recipes,
    search,
    serve,
    shard,
    show,
    similar,
    teach,
    train,
)
from musicgenre.cli._terminal import INTERRUPTED, say, say_interrupted
from musicgenre.errors import MusicgenreError, UsageError

# As --help shows them: what a listener needs, then how a model comes about, in the order of the work.
_PANELS: dict[str, dict[str, Callable[..., Any] | typer.Typer]] = {
    "Hear music": {
        "classify": classify.classify,
        "embed": embed.embed,
        "similar": similar.similar,
        "teach": teach.teach,
        "bundles": bundles.app,
        "serve": serve.serve,
    },
    "Write into your library": {
        "library": library.app,
    },
    "Train a model": {
        "data": data.app,
        "recipes": recipes.recipes,
        "train": train.train,
        "search": search.search,
        "evaluate": evaluate.evaluate,
        "compare": compare.compare,
        "ensemble": ensemble.ensemble,
        "export": export.export,
        "pipeline": pipeline.pipeline,
        "leak-report": leak_report.leak_report,
    },
    "Single steps, and what there is": {
        "augment": augment.augment,
        "prepare": prepare.prepare,
        "shard": shard.shard,
        "show": show.show,
        "models": models.models,
        "cache": cache.app,
        "doctor": doctor.doctor,
    },
}

# Commands that read their words in a way of their own.
_CLASSES: dict[str, type[typer.core.TyperCommand]] = {"classify": classify.ClassifyCommand}


class _Root(typer.core.TyperGroup):
    """Lists the commands as `_PANELS` has them (typer would put groups last), and finds `--debug` behind them too."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for commands in _PANELS.values() for name in commands]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        if "--debug" in args[:end]:
            words = [word for word in args[:end] if word != "--debug"]
            args = ["--debug", *words, *args[end:]]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="musicgenre",
    cls=_Root,
    help="Hear a track, name its genre; train such a listener on your own music.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from musicgenre import __version__

        typer.echo(f"musicgenre {__version__}")
        raise typer.Exit


def _debug_if(wanted: bool) -> None:
    if wanted:
        _debug.show_native()


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            callback=_debug_if,
            is_eager=True,
            help="Show what native libraries write, and where in the code a fault of ours is; also behind a command.",
        ),
    ] = False,
) -> None:
    """Hear a track, name its genre; train such a listener on your own music."""
    from musicgenre.config import config_path, read_config

    # The file spells options as people do; typer wants the parameter's name (`--format` is `output_format` inside).
    parameters: dict[str, dict[str, str]] = {}
    for command, what in getattr(context.command, "commands", {}).items():
        parameters[command] = {}
        for parameter in what.params:
            for option in parameter.opts:
                if option.startswith("--"):
                    parameters[command][option.removeprefix("--")] = parameter.name

    try:
        defaults = read_config(config_path(), parameters)
    except UsageError as error:
        if context.invoked_subcommand != "doctor":  # which is there to tell what is wrong
            raise
        context.obj = error
        return

    context.default_map = {}
    for command, options in defaults.items():
        names = {option.replace("-", "_"): name for option, name in parameters[command].items()}
        context.default_map[command] = {names[option]: value for option, value in options.items()}


for _panel, _commands in _PANELS.items():
    for _name, _what in _commands.items():
        if isinstance(_what, typer.Typer):
            app.add_typer(_what, name=_name, rich_help_panel=_panel)
        else:
            app.command(_name, cls=_CLASSES.get(_name), rich_help_panel=_panel)(_what)


def main() -> None:
    """Run the command line; errors of ours become one line on standard error and exit code 2, Ctrl-C 130."""
    # A process that was started without standard streams gets empty ones, and none fails at a character.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 (open to the end)
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    warnings.showwarning = _show_warning
    _debug.silence_native()

    presses = _note_interrupts()
    try:
        with telling(say):
            app()
    except MusicgenreError as error:
        typer.echo(f"error: {printable(str(error))}", err=True)
        sys.exit(2)
    except SystemExit as error:
        if isinstance(getattr(error.__context__, "__cause__", None), KeyboardInterrupt):  # typer says nothing of it
            say_interrupted("interrupted")
        raise
    except BrokenPipeError:  # the reader of a pipe went away: not our fault, nothing to say
        _drop_output()
        sys.exit(1)
    except (Exception, KeyboardInterrupt) as error:
        if presses or isinstance(error, KeyboardInterrupt):  # a package in C may turn Ctrl-C into an error of its own
            say_interrupted("interrupted")
            sys.exit(INTERRUPTED)
        if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
            raise MemoryError("no thread could be started") from error  # where memory or processes are limited
        if not isinstance(error, OSError):
            if _debug.is_wanted():
                raise
            told = f"{type(error).__name__}: {printable(str(error))}" if str(error) else type(error).__name__
            typer.echo(
                f"internal error: {told}. This is a fault of musicgenre, not of yours. Add --debug to see where it "
                "is, and report it with what that prints.",
                err=True,
            )
            sys.exit(1)

        # A disk that is full, a folder that may not be entered: no fault of the program, so the system's own words do.
        where = "" if error.filename is None else f"{printable(str(error.filename))}: "
        advice = place_advice(error)
        if advice:
            advice = f". {advice}, then run the same command again"
        typer.echo(f"error: {where}{error.strerror or error}{advice}", err=True)
        _drop_output()
        sys.exit(2)
    finally:
        begin_anew()
        # What is left is Python's own end, where Ctrl-C would leave a traceback of some package.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _note_interrupts() -> list[int]:
    """Let Ctrl-C be noted as well as raised, unless it is to be ignored (`nohup`, a job in the background)."""
    presses: list[int] = []

    def note(number: int, frame: FrameType | None) -> NoReturn:
        presses.append(number)
        end_all()  # threads that compute, which this error does not reach
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, note)
    return presses


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as a line of its own, without the place in the code."""
    typer.echo(f"warning: {printable(str(message))}", err=True)


def _drop_output() -> None:
    """Let what standard output cannot take vanish, so that Python does not fail once more when it ends."""
    _debug.lead_nowhere(sys.stdout.fileno())
