"""Plumbing shared by commands: `--set key=value`, `--max-duration-s`, reports, tracks that failed, and playlists."""

from __future__ import annotations

import ast
import os
import shlex
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from musicgenre._json import is_plain
from musicgenre._text import printable, short_repr
from musicgenre.errors import UsageError, require

if TYPE_CHECKING:
    from musicgenre._outputs import Input
    from musicgenre.features.prepare import Skipped

_LISTED_AT_MOST = 50

_Format = TypeVar("_Format", bound=StrEnum)

MaxDuration = Annotated[
    float | None,
    typer.Option("--max-duration-s", help="Seconds of the longest track that is heard; by default 86400, a day."),
]
"""The option of every command that hears tracks with a model."""


class GenreChoice(StrEnum):
    """Which genres the default model names."""

    ten = "ten"
    wide = "wide"


GenresOption = Annotated[
    GenreChoice, typer.Option("--genres", help="'wide': families and genres beyond the ten, by tags, uncalibrated.")
]
"""The option of commands that name genres."""


TracksArgument = Annotated[
    list[str], typer.Argument(help="Files, folders (searched recursively), globs, or - for a list on stdin.")
]
"""What is heard."""

CoverageOption = Annotated[
    str | None, typer.Option("--coverage", help="Seconds of each track to hear, evenly spread, or 'full'.")
]
ExcludeOption = Annotated[
    list[str] | None, typer.Option("--exclude", help="Leave out files or folders that match this glob.")
]
TracksAtATime = Annotated[int | None, typer.Option("--jobs", min=1, max=256, help="Tracks at a time.")]
ThreadsATrack = Annotated[int | None, typer.Option("--threads", min=1, max=256, help="Threads a track.")]
MaxModel = Annotated[int, typer.Option("--max-model-mb", min=1, help="Most MB of a bundle in memory.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with --output; done tracks are skipped.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no summary.")]

RayOption = Annotated[bool, typer.Option("--ray", help="Work on a Ray cluster, or on this machine by Ray.")]
"""The option of commands that can work on more than one machine."""

RayAddressOption = Annotated[
    str | None, typer.Option("--ray-address", help="The cluster of --ray, HOST:PORT; default $RAY_ADDRESS, else here.")
]
"""Where the cluster is, for `--ray`."""


def check_ray_options(ray: bool, address: str | None) -> None:
    """Refuse the address of a cluster that is not asked for, and Ray where it is not installed.

    Raises
    ------
    UsageError
        `--ray-address` stands without `--ray`.
    MissingExtraError
        Ray is not installed.
    """
    if address is not None and not ray:
        raise UsageError("--ray-address says where the cluster of --ray is", next_step="Add --ray, or leave it out")
    if ray:
        require("working with Ray", "cluster", "ray")


def format_of(
    chosen: _Format | None, output: Path | None, by_suffix: Mapping[str, _Format], on_screen: _Format
) -> _Format:
    """Choose a report's format: what was asked for, else what the suffix of the output says.

    Raises
    ------
    UsageError
        The suffix says nothing.
    """
    if chosen is not None:
        return chosen
    if output is None:
        return on_screen
    if output.suffix.lower() not in by_suffix:
        raise UsageError(
            f"cannot tell the format of {output.name!r}",
            valid=f"a name that ends in {', '.join(by_suffix)}",
            next_step="Or give --format",
        )
    return by_suffix[output.suffix.lower()]


def write_or_print(text: str, output: Path | None, *, overwrite: bool) -> None:
    """Write a report to a file and say so, or print it."""
    from musicgenre._files import write_text_atomic, writing_result

    if output is None:
        typer.echo(text, nl=False)
        return
    with writing_result(output, "Give another --output"):
        write_text_atomic(output, text, overwrite=overwrite)
    typer.echo(f"wrote {output}")


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Read `key=value` pairs; numbers, lists, true, false and null become such, others stay text."""
    words = {"true": True, "false": False, "null": None}  # not "none", which is a word that options take
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not equals or not key.isidentifier():
            raise UsageError(f"--set {pair!r} is not a setting", valid="--set key=value, for example --set n_mels=64")

        if text.lower() in words:
            settings[key] = words[text.lower()]
            continue
        try:
            value = ast.literal_eval(text)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # brackets without end are text too
            settings[key] = text
            continue
        if not is_plain(value):
            raise UsageError(
                f"--set {key} has the value {short_repr(text)}",
                valid="text, a number up to 2^64, true, false, null, or a list or mapping of those",
            )
        settings[key] = value
    return settings


def command_again(context: typer.Context, *, without: Collection[str] = (), added: Sequence[str] = ()) -> str:
    """Write the command that is running as a person types it, by the options that were given.

    Parameters
    ----------
    context : typer.Context
        Of the command.
    without : collection of str
        Names of parameters that are left out.
    added : sequence of str
        Words behind it.
    """
    words = ["musicgenre", context.info_name or ""]
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name in without or source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[name]
        values = value if isinstance(value, list) else [value]
        if parameter.param_type_name == "argument":
            words += map(str, values)
        elif isinstance(value, bool):
            words.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            for one in values:
                words += [parameter.opts[0], str(one)]
    return shlex.join([*words, *added])


def inputs_of(words: Sequence[str], tracks: Iterable[str], model: str) -> list[Input]:
    """List what a command that hears tracks reads: the tracks, the list on standard input, and the model's file."""
    inputs: list[Input] = [*words, *tracks]
    if "-" in words:
        inputs.append(0)
    if Path(model).suffix:  # else it is a name
        inputs.append(model)
    return inputs


def report_line(text: str) -> None:
    """Tell a line on standard error; what cannot be printed in it, of a track's name for one, is escaped."""
    typer.echo(printable(text), err=True)


def report_warnings() -> None:
    """Tell warnings from now on as lines like any other, without the place in the code."""
    warnings.showwarning = lambda message, *_, **__: report_line(f"warning: {message}")


def report_skipped(title: str, skipped: Sequence[Skipped]) -> None:
    """List tracks with their reasons on standard error."""
    if not skipped:
        return

    typer.echo(f"{title} ({len(skipped)}):", err=True)
    for skip in skipped[:_LISTED_AT_MOST]:
        where = "" if str(skip.path) in skip.reason else f"{Path(skip.path)}: "  # reasons mostly name the file already
        report_line(f"  {skip.track_id}: {where}{skip.reason}")
    if len(skipped) > _LISTED_AT_MOST:
        typer.echo(f"  and {len(skipped) - _LISTED_AT_MOST} more", err=True)


def print_playlist(paths: Sequence[str]) -> None:
    """Print an extended M3U in UTF-8: whole paths, so that it plays wherever it is saved."""
    typer.echo("#EXTM3U")
    for path in paths:
        if "\n" in path or "\r" in path:
            typer.echo(f"note: left out, since no playlist can hold its name: {printable(path)}", err=True)
        else:
            typer.echo(os.fsencode(Path(path).absolute()))  # the bytes of the name, by which players find the file
