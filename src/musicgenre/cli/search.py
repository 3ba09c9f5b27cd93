"""`musicgenre search`: which settings of a recipe are best on the validation part, and how good these are on test."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musicgenre.cli._cluster import running_trials
from musicgenre.cli._options import RayAddressOption, RayOption, check_ray_options

if TYPE_CHECKING:
    from musicgenre.search.space import Parameter


class SamplerName(StrEnum):
    """How values are drawn."""

    tpe = "tpe"
    random = "random"
    grid = "grid"


class PrunerName(StrEnum):
    """What ends trials early."""

    asha = "asha"
    median = "median"
    none = "none"


class ObjectiveName(StrEnum):
    """What is searched for."""

    validation_accuracy = "validation.accuracy"
    validation_loss = "validation.loss"
    cv_accuracy = "cv.accuracy"


def search(
    recipe: Annotated[str, typer.Argument(help="A name of 'musicgenre recipes', or a YAML file.")],
    data: Annotated[str, typer.Option("--data", help="The manifest, a CSV (see: musicgenre data index).")],
    spaces: Annotated[
        list[str] | None,
        typer.Option(
            "--space", help="key=16,32,64 or key=log:1e-5:1e-2, or a YAML file of such; repeatable. Default: built in."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key of the recipe for all trials; repeatable.")
    ] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, max=100_000, help="Trials of the whole study.")] = 50,
    time_s: Annotated[float | None, typer.Option("--time-s", help="Begin no trial after this many seconds.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=256, help="Trials at a time, one thread each.")] = 1,
    objective: Annotated[
        ObjectiveName | None, typer.Option("--objective", help="Default: validation.accuracy; of tags, the loss.")
    ] = None,
    folds: Annotated[int, typer.Option("--folds", min=2, max=1000, help="Folds of --objective cv.accuracy.")] = 5,
    sampler: Annotated[SamplerName, typer.Option("--sampler", help="How values are drawn.")] = SamplerName.tpe,
    pruner: Annotated[PrunerName, typer.Option("--pruner", help="What ends trials early.")] = PrunerName.asha,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**20, help="Seed of the draws.")] = 0,
    seeds: Annotated[
        int, typer.Option("--seeds", min=0, max=1000, help="Trainings of the winner, scored on test; 0: none.")
    ] = 3,
    output: Annotated[
        Path | None, typer.Option("--output", help="The study's folder; default runs/RECIPE-search.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study in --output.")] = False,
    accelerator: Annotated[str, typer.Option("--accelerator", help="cpu, gpu, mps or auto.")] = "cpu",
    precision: Annotated[str, typer.Option("--precision", help="32-true, bf16-mixed, 16-mixed ...")] = "32-true",
    ray: RayOption = False,
    ray_address: RayAddressOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")] = False,
) -> None:
    """Search settings of a recipe by training many; the test part is read once, by the winner.

    The last line is the winner's recipe, a file that `train` takes. Exit code: 0 all fine, 2 misuse.
    """
    from musicgenre.audio import decoding_apart
    from musicgenre.cli._options import report_line, report_warnings  # standard output holds the result alone
    from musicgenre.cli._terminal import counting_several
    from musicgenre.errors import needing, require
    from musicgenre.search.options import SearchOptions, check_search, tracks_to_search
    from musicgenre.training.request import check_request

    check_ray_options(ray, ray_address)
    fresh = None if resume else output  # a study that is gone on with is looked at later
    checked = check_request(recipe, settings or [], data=data, output=fresh, report=report_line)
    if objective is None:
        objective = ObjectiveName.validation_loss if checked.is_tagging else ObjectiveName.validation_accuracy
    options = SearchOptions(
        objective=objective.value,
        trials=trials,
        time_s=time_s,
        jobs=jobs,
        sampler=sampler.value,
        pruner=pruner.value,
        folds=folds,
        seed=seed,
        seeds=seeds,
    )
    check_search(checked, data, options, output=output, resume=resume)
    tracks_to_search(checked, data, options)
    space: Mapping[str, Parameter] | None = None
    if spaces:
        from musicgenre.search.space import check_keys, read_space

        space = read_space(spaces, checked)
        check_keys(checked, space)
    require("searching", "search", "optuna", "plotly")

    # all that is known without them was told: what trains and searches takes seconds to load
    with needing("searching", "search"):
        from musicgenre.search.default_space import default_space
        from musicgenre.search.search import search as search_space
        from musicgenre.training.fit import Hardware

    if space is None:
        space = default_space(checked)
        report_line("searched: " + "  ".join(f"{key}={values.as_text()}" for key, values in space.items()))

    report_warnings()
    hardware = Hardware(accelerator, 1, precision)
    trials_run = running_trials(ray, ray_address, hardware, jobs)
    with decoding_apart(), counting_several(quiet=quiet) as advance, trials_run as run_trials:
        folder = search_space(
            checked,
            data,
            space,
            options,
            output=output,
            resume=resume,
            hardware=hardware,
            report=report_line,
            progress=advance,
            run_trials=run_trials,
        )
    _tell_found(folder, checked.name)


def _tell_found(folder: Path, recipe: str) -> None:
    """Write the page of a search, and tell what it found; the winner's recipe comes last."""
    from musicgenre._files import write_text_atomic
    from musicgenre.cli._options import report_line
    from musicgenre.search.report import render_search, report_search
    from musicgenre.search.study import StudyFolder

    files = StudyFolder(folder)
    write_text_atomic(files.report, render_search(folder))
    for line in report_search(folder).verdict():
        report_line(line)
    report_line(f"the page of the search: {files.report}")
    typer.echo(files.winner_recipe(recipe))
