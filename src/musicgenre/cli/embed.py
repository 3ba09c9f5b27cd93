"""`musicgenre embed`: one vector per track, many tracks in one file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musicgenre.cli._cluster import Partitioned, hear_with_ray, refuse_with_ray
from musicgenre.cli._options import (
    CoverageOption,
    ExcludeOption,
    MaxDuration,
    MaxModel,
    QuietOption,
    RayAddressOption,
    RayOption,
    ResumeOption,
    ThreadsATrack,
    TracksArgument,
    TracksAtATime,
    check_ray_options,
    inputs_of,
    parse_settings,
)

if TYPE_CHECKING:
    from musicgenre.cluster.hearing import Vectors
    from musicgenre.embedding.embed import EmbedReport
    from musicgenre.listening.batch import Failure


class SummaryFormat(StrEnum):
    """How the summary is printed."""

    table = "table"
    json = "json"


class What(StrEnum):
    """Outputs of the network."""

    embedding = "embedding"
    tags = "tags"


class Pool(StrEnum):
    """Ways from segments to one vector."""

    mean = "mean"
    max = "max"
    mean_max = "mean-max"


def embed(
    paths: TracksArgument,
    output: Annotated[
        Path,
        typer.Option("--output", help="A file to write: NAME.npz (.parquet with pyarrow); with --ray a folder."),
    ],
    model: Annotated[
        str, typer.Option("--model", help="'default', 'both' MusiCNNs, an embedding bundle, vggish or transformer.")
    ] = "default",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of vggish or transformer, key=value; repeatable.")
    ] = None,
    what: Annotated[What, typer.Option("--what", help="The network's output to take.")] = What.embedding,
    pool: Annotated[Pool, typer.Option("--pool", help="How heard segments become one vector.")] = Pool.mean,
    coverage: CoverageOption = None,
    level: Annotated[
        str | None,
        typer.Option("--level", help="Bring tracks to this RMS in dBFS, or 'off'. Default: as the model says."),
    ] = None,
    max_duration_s: MaxDuration = None,
    resume: ResumeOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --output if it exists.")] = False,
    exclude: ExcludeOption = None,
    jobs: TracksAtATime = None,
    threads: ThreadsATrack = None,
    max_model_mb: MaxModel = 4_000,
    output_format: Annotated[
        SummaryFormat, typer.Option("--format", help="How the summary is printed.")
    ] = SummaryFormat.table,
    ray: RayOption = False,
    ray_address: RayAddressOption = None,
    quiet: QuietOption = False,
) -> None:
    """Write one vector per track, for `similar` and models of your own.

    Exit code: 0 all fine, 1 some tracks failed.
    """
    from musicgenre._outputs import RESUME_OR_REPLACE, refuse_overwriting
    from musicgenre._text import printable
    from musicgenre.audio import decoding_apart
    from musicgenre.cli._terminal import INTERRUPTED, counting, say_interrupted
    from musicgenre.embedding.embed import Embedder, embed_tracks
    from musicgenre.embedding.file import check_output
    from musicgenre.listening.batch import plan_threads
    from musicgenre.listening.paths import gather_paths

    options: dict[str, Any] = {
        "model": model,
        "options": parse_settings(settings or []),
        "what": what.value,
        "pool": pool.value,
    }
    options |= {"coverage": coverage, "level": level, "max_duration_s": max_duration_s, "max_model_mb": max_model_mb}
    check_ray_options(ray, ray_address)
    if ray:
        refuse_with_ray({"--format json": output_format is SummaryFormat.json, "--threads": threads})
        where = Partitioned(output, resume, overwrite)
        make = partial(_vectors, options)
        hear_with_ray(paths, where, make, address=ray_address, exclude=exclude, jobs=jobs, quiet=quiet)

    # A name that cannot be written is refused before thousands of tracks are looked for.
    check_output(output)
    wanted = gather_paths(paths, exclude or [], stdin=sys.stdin.buffer)
    refuse_overwriting(
        output,
        overwrite=resume or overwrite,
        inputs=inputs_of(paths, wanted.paths, model),
        next_step=RESUME_OR_REPLACE,
    )
    n_jobs, n_threads = plan_threads(jobs, threads, len(wanted.paths))

    try:
        # What no decoder survives costs one line, also where it ended the run that is to go on.
        n_tracks = None if resume else len(wanted.paths)
        with decoding_apart(n_tracks), counting("listening", quiet=quiet) as progress:
            embedder = Embedder(**options, threads=n_threads)
            report = embed_tracks(
                wanted.paths, embedder, output, jobs=n_jobs, resume=resume, overwrite=overwrite, progress=progress
            )
    except KeyboardInterrupt:
        hint = f": {output} is valid so far; go on with --resume" if output.exists() else ""
        say_interrupted(f"interrupted{hint}")
        raise typer.Exit(INTERRUPTED) from None

    failures = (*wanted.failures, *report.failures)
    _tell_outcome(report, failures, quiet=quiet)
    if output_format is SummaryFormat.json:
        import json

        summary = {
            "output": printable(output),
            **embedder.settings.as_dict(),
            "embedded": report.embedded,
            "reused": report.reused,
            "failed": [{"path": printable(failed.path), "error": printable(failed.error)} for failed in failures],
            "warnings": [{"path": printable(path), "warning": printable(text)} for path, text in report.warnings],
        }
        typer.echo(json.dumps(summary))
    raise typer.Exit(1 if failures else 0)


def _vectors(options: Mapping[str, Any]) -> Vectors:
    """Load the model to embed on a cluster with."""
    from musicgenre.cluster.hearing import Vectors

    return Vectors(options)


def _tell_outcome(report: EmbedReport, failures: Sequence[Failure], *, quiet: bool) -> None:
    """Tell a person what became of the tracks, on standard error, so that the summary can be piped."""
    from musicgenre._text import printable

    for path, warning in report.warnings:
        typer.echo(f"note: {printable(path)}: {printable(warning)}", err=True)
    for failure in failures:
        typer.echo(f"failed: {printable(failure.error)}", err=True)
    if quiet:
        return

    parts = [f"{report.embedded} embedded"]
    if report.reused:
        parts.append(f"{report.reused} done before")
    if failures:
        parts.append(f"{len(failures)} failed")
    typer.echo(", ".join(parts), err=True)
