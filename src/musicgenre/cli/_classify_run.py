"""Carry out `musicgenre classify`: hear the tracks, print and store results, report what failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from musicgenre.audio import printable
from musicgenre.cli import _render
from musicgenre.listening.answer import Answer
from musicgenre.listening.batch import Failure, Result, classify_many
from musicgenre.listening.classifier import Classifier
from musicgenre.listening.gather import Gathered
from musicgenre.listening.results import Format, ResultFile, csv_header, format_line

_INTERRUPTED = 130  # what shells report for a process that Ctrl-C ended


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
    """Classify all tracks; return the exit code (0 all fine, 1 some failed, 130 interrupted)."""
    tally = _Tally()
    with ExitStack() as stack:
        try:
            results_file = _open_output(stack, settings, classifier)
            paths = list(wanted.paths)
            if results_file is not None:
                paths = [path for path in paths if results_file.done(path) is None]
                tally.reused = len(wanted.paths) - len(paths)
            screen = _Screen(settings, tags=classifier.names_tags) if results_file is None else None
            advance = stack.enter_context(_render.progress(len(paths), quiet=settings.quiet))
            for result in _results(wanted.failures, paths, classifier, settings.jobs):
                tally.count(result)
                if results_file is not None:
                    results_file.add(_record(result, settings, tags=classifier.names_tags))
                if screen is not None:
                    screen.show(result)
                _plot(result, settings.plot)
                advance()
        except KeyboardInterrupt:
            hint = "" if settings.output is None else f": {settings.output} is valid so far; go on with --resume"
            typer.echo(f"interrupted{hint}", err=True)
            return _INTERRUPTED
    tally.summarise(quiet=settings.quiet)
    return 1 if tally.failures else 0


def _open_output(stack: ExitStack, settings: Settings, classifier: Classifier) -> ResultFile | None:
    if settings.output is None:
        return None
    return stack.enter_context(
        ResultFile(
            settings.output,
            "csv" if settings.kind == "csv" else "json",
            {"model": classifier.model, "coverage": settings.coverage, "model_sha256": classifier.model_sha256},
            resume=settings.resume,
            overwrite=settings.overwrite,
            tags=classifier.names_tags,
        )
    )


def _results(failures: tuple[Failure, ...], paths: list[str], classifier: Classifier, jobs: int) -> Iterator[Result]:
    yield from failures
    yield from classify_many(paths, classifier.classify, jobs=jobs)


class _Screen:
    """Prints results on standard output in the format asked for."""

    def __init__(self, settings: Settings, *, tags: bool) -> None:
        self._settings = settings
        self._tags = tags
        if settings.kind == "csv":
            typer.echo(csv_header(resumable=False, tags=tags), nl=False)

    def show(self, result: Result) -> None:
        settings = self._settings
        if settings.kind == "table":
            _render.table_row(result, top=settings.top, timeline=settings.timeline)
        else:
            kind: Format = "csv" if settings.kind == "csv" else "json"
            record = _record(result, settings, tags=self._tags)
            typer.echo(format_line(record, kind, only_ascii=not _render.is_unicode()), nl=False)


def _plot(result: Result, path: Path | None) -> None:
    if path is not None and isinstance(result, Answer):
        from musicgenre.listening.plot import plot_answer

        plot_answer(result, path)
        typer.echo(f"drew {path}", err=True)


def _record(result: Result, settings: Settings, *, tags: bool) -> dict[str, Any]:
    if isinstance(result, Answer):
        return result.as_dict(top=settings.top, timeline=settings.timeline)
    return {**result.as_dict(), "chosen": []} if tags else result.as_dict()


class _Tally:
    """Counts what happened and says it at the end, on standard error."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self.classified = 0
        self.reused = 0

    def count(self, result: Result) -> None:
        if isinstance(result, Failure):
            self.failures.append(result)
        else:
            self.classified += 1

    def summarise(self, *, quiet: bool) -> None:
        for failure in self.failures:
            typer.echo(f"failed: {printable(failure.error)}", err=True)
        if quiet or (self.classified + self.reused <= 1 and not self.failures):
            return
        parts = [f"{self.classified} classified"]
        if self.reused:
            parts.append(f"{self.reused} done before")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        typer.echo(", ".join(parts), err=True)
