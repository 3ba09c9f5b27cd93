"""Carry out `musicgenre classify`: hear the tracks, print and store results, report what failed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from musicgenre.cli import _render
from musicgenre.inference.answer import Answer
from musicgenre.inference.batch import Failure, Result, classify_many
from musicgenre.inference.classifier import Classifier
from musicgenre.inference.gather import Gathered
from musicgenre.inference.output import ResultFile, csv_header, format_line


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of one call."""

    kind: str
    top: int
    timeline: bool
    coverage: str
    output: Path | None
    resume: bool
    overwrite: bool
    plot: Path | None
    quiet: bool
    jobs: int


def run(wanted: Gathered, classifier: Classifier, settings: Settings) -> int:
    """Classify all tracks; return the exit code (0 all fine, 1 some failed)."""
    failures: list[Failure] = []
    reused = 0
    with ExitStack() as stack:
        results_file = _open_output(stack, settings, classifier.model)
        paths = list(wanted.paths)
        if results_file is not None:
            fresh = [path for path in paths if results_file.done(path) is None]
            reused, paths = len(paths) - len(fresh), fresh
        show = _Screen(settings)
        progress = stack.enter_context(_render.progress(len(paths), quiet=settings.quiet))
        for result in _results(wanted.failures, paths, classifier, settings.jobs):
            if isinstance(result, Failure):
                failures.append(result)
            if results_file is not None:
                results_file.add(_record(result, settings))
            else:
                show.result(result)
            progress()
    _summary(failures, len(paths) + len(wanted.failures), reused, settings)
    return 1 if failures else 0


def _open_output(stack: ExitStack, settings: Settings, model: str) -> ResultFile | None:
    if settings.output is None:
        return None
    return stack.enter_context(
        ResultFile(
            settings.output,
            "csv" if settings.kind == "csv" else "json",
            {"model": model, "coverage": settings.coverage},
            resume=settings.resume,
            overwrite=settings.overwrite,
        )
    )


def _results(failures: tuple[Failure, ...], paths: list[str], classifier: Classifier, jobs: int) -> Iterator[Result]:
    yield from failures
    yield from classify_many(paths, classifier.classify, jobs=jobs)


class _Screen:
    """Prints results on standard output in the format asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        if settings.kind == "csv":
            typer.echo(csv_header(resumable=False), nl=False)

    def result(self, result: Result) -> None:
        settings = self._settings
        if settings.kind == "table":
            _render.table_row(result, top=settings.top, timeline=settings.timeline)
        else:
            kind = "csv" if settings.kind == "csv" else "json"
            typer.echo(format_line(_record(result, settings), kind), nl=False)
        if settings.plot is not None and isinstance(result, Answer):
            from musicgenre.inference.plot import plot_answer

            plot_answer(result, settings.plot)
            typer.echo(f"drew {settings.plot}", err=True)


def _record(result: Result, settings: Settings) -> dict[str, Any]:
    if isinstance(result, Answer):
        return result.as_dict(top=settings.top, timeline=settings.timeline)
    return result.as_dict()


def _summary(failures: list[Failure], n_tracks: int, reused: int, settings: Settings) -> None:
    for failure in failures:
        typer.echo(f"failed: {_render.printable(failure.error)}", err=True)
    if settings.quiet or (n_tracks + reused <= 1 and not failures):
        return
    parts = [f"{n_tracks - len(failures)} classified"]
    if reused:
        parts.append(f"{reused} done before")
    if failures:
        parts.append(f"{len(failures)} failed")
    with suppress(BrokenPipeError):
        typer.echo(", ".join(parts), err=True, file=sys.stderr)
