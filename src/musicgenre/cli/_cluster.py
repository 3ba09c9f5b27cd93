"""Commands with `--ray`: what becomes of their options, tracks heard into partitions, trials and trainings run."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from musicgenre._parallel import usable_cores
from musicgenre._text import printable
from musicgenre.cli._terminal import INTERRUPTED, counting, say, say_interrupted
from musicgenre.errors import UsageError

if TYPE_CHECKING:
    from musicgenre.cluster.connect import Cluster
    from musicgenre.cluster.hearing import Hearing
    from musicgenre.search.trial import TrialRunner
    from musicgenre.training.fit import Hardware, Launch

_OF_FILES = (".csv", ".json", ".jsonl", ".ndjson", ".npz", ".parquet", ".tsv", ".txt")


@dataclass(frozen=True, slots=True)
class Partitioned:
    """The options of an output of partitions: folder or prefix, `--resume` and `--overwrite`."""

    output: Path | None
    resume: bool
    overwrite: bool


def refuse_with_ray(given: Mapping[str, object]) -> None:
    """Refuse options that say nothing where tracks are heard on a cluster.

    Parameters
    ----------
    given : mapping
        What was given, by option; empty where it was not.
    """
    for option, value in given.items():
        if value:
            raise UsageError(
                f"{option} has no meaning with --ray",
                valid="Results go into Parquet files; each worker computes on one thread",
                next_step=f"Leave {option} out",
            )


def hear_with_ray(
    words: Sequence[str],
    where: Partitioned,
    make: Callable[[], Hearing],
    *,
    address: str | None,
    exclude: Sequence[str] | None,
    jobs: int | None,
    quiet: bool,
) -> NoReturn:
    """Hear tracks on a cluster, tell what became of them, and end the command with its exit code.

    Parameters
    ----------
    words : sequence of str
        What the command line named.
    where : Partitioned
        Where the results go.
    make : callable
        Loads the model of this machine and says what is done with each track.
    address, exclude, jobs, quiet
        The options of those names.
    """
    from musicgenre.cli._table import counted_genres
    from musicgenre.cluster.hearing import hear_on_cluster
    from musicgenre.cluster.storage import as_address, gather_tracks

    output = where.output
    if output is None:
        raise UsageError("--ray needs --output", next_step="Add --output FOLDER, or s3://BUCKET/PREFIX")
    if output == Path("-"):
        raise UsageError("--output - names no place", next_step="Give it the name of a folder, or s3://BUCKET/PREFIX")
    place = as_address(output)
    if output.suffix.lower() in _OF_FILES and not output.is_dir():
        raise UsageError(
            f"--output {printable(place)} names a file",
            valid="With --ray, a folder or prefix of Parquet files",
            next_step="Choose another --output",
        )
    if where.resume and where.overwrite:
        raise UsageError("--resume and --overwrite contradict each other", next_step="Give one of them")

    gathered = gather_tracks(words, exclude or [], stdin=sys.stdin.buffer)
    hearing = make()
    if (card := getattr(hearing, "model_card", {})) and not quiet:
        say(f"{card['name']}: licence {card['licence'].partition(' (')[0]}. {card['notes']}")

    genres: Counter[str] = Counter()

    def note(row: Mapping[str, Any]) -> None:
        if row["error"] is None:
            genres[str(row.get("genre") or "")] += 1
        for warning in row["warnings"] if hearing.command == "embed" and row["error"] is None else ():
            say(f"note: {row['path']}: {printable(warning)}")

    try:
        with counting("listening", quiet=quiet) as progress, attached(address, at_least(jobs)) as cluster:
            report = hear_on_cluster(
                cluster,
                hearing,
                gathered.paths,
                place,
                n_actors=jobs,
                resume=where.resume,
                overwrite=where.overwrite,
                progress=progress,
                on_row=note,
            )
    except KeyboardInterrupt:
        say_interrupted(f"interrupted: what is in {printable(place)} is whole; go on with --resume")
        raise typer.Exit(INTERRUPTED) from None

    failures = (*gathered.failures, *report.failures)
    for failure in failures:
        say(f"failed: {printable(failure.error)}")
    if not quiet:
        parts = [f"{report.heard} {'embedded' if hearing.command == 'embed' else 'classified'}"]
        if report.reused:
            parts.append(f"{report.reused} done before")
        if failures:
            parts.append(f"{len(failures)} failed")
        named = counted_genres(genres)  # of what was heard now
        say(f"{', '.join(parts)}; in {printable(place)}" + (f"\n{named}" if named else ""))
    raise typer.Exit(1 if failures else 0)


@contextmanager
def attached(address: str | None, n_cpus: int) -> Iterator[Cluster]:
    """Attach to a cluster in the block, or start one of this machine with so many cores.

    Ray writes what it has to say, such as the deaths of processes, on standard output, which holds the result alone:
    here it goes to standard error.
    """
    from musicgenre.cluster.connect import connected

    with redirect_stdout(sys.stderr), connected(address, n_cpus=n_cpus) as cluster:
        yield cluster


def at_least(jobs: int | None) -> int:
    """Cores of a cluster of this machine: all, or more where so many jobs were asked for, as without `--ray`."""
    return max(jobs or 1, usable_cores())


@contextmanager
def running_trials(ray: bool, address: str | None, hardware: Hardware, jobs: int) -> Iterator[TrialRunner]:
    """Give what runs the trials of a search: this machine, or with `--ray` a cluster."""
    from musicgenre.search.trial import run_trials_here

    if not ray:
        yield run_trials_here
        return

    with attached(address, jobs) as cluster:
        from musicgenre.cluster.trials import RayTrials

        trials = RayTrials(cluster, say)
        trials.check_nodes(hardware, jobs)
        yield trials


def processes_together(jobs: int | None, devices: int) -> int:
    """Say how many processes of a cluster share a training.

    Raises
    ------
    UsageError
        `--jobs` is missing, or `--devices` stands beside it.
    """
    if jobs is None or devices > 1:
        raise UsageError(
            "with --ray, --jobs says how many processes train together",
            valid="--ray --jobs 2, without --devices; there is no default, for the number is part of the training",
        )
    return jobs


@contextmanager
def training_together(ray: bool, address: str | None, hardware: Hardware) -> Iterator[Launch]:
    """Give what trains a network: this machine, or with `--ray` one process for each device on a cluster."""
    from musicgenre.training.fit import train_here

    if not ray:
        yield train_here
        return

    with attached(address, hardware.devices * (hardware.threads or 1)) as cluster:
        from musicgenre.cluster.training import RayTraining

        training = RayTraining(cluster)
        training.check_nodes(hardware)
        yield training
