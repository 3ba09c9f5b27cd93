"""`musicgenre train`: from a manifest to a run folder, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from musicgenre.cli._cluster import processes_together, training_together
from musicgenre.cli._options import RayAddressOption, RayOption, check_ray_options


def train(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A name of 'musicgenre recipes', or a YAML file.")],
    data: Annotated[str, typer.Option("--data", help="The manifest, a CSV (see: musicgenre data index), or shards.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key of the recipe, section.key=value; repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="Trainings with different seeds.")] = 1,
    folds: Annotated[
        int, typer.Option("--folds", min=0, max=1000, help="Folds of a cross-validation; 0: one split.")
    ] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", help="The run folder; default runs/RECIPE, with a number if it exists.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with --output: interrupted runs go on, finished ones are kept, or go on to "
            "--set training.epochs=N where that is more than they have.",
        ),
    ] = False,
    keep_state: Annotated[
        bool,
        typer.Option(
            "--keep-state/--no-keep-state",
            help="Keep what a finished run needs to get more epochs; some three times the size of its weights.",
        ),
    ] = True,
    accelerator: Annotated[str, typer.Option("--accelerator", help="cpu, gpu, mps or auto.")] = "cpu",
    devices: Annotated[int, typer.Option("--devices", min=1, max=64, help="How many of them train together.")] = 1,
    precision: Annotated[str, typer.Option("--precision", help="32-true, bf16-mixed, 16-mixed ...")] = "32-true",
    store: Annotated[
        Path | None, typer.Option("--store", help="Folder of the features; default in the cache folder.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, max=256, help="Processes that prepare; with --ray also those that train."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=256, help="Default: the cores that are free.")
    ] = None,
    ray: RayOption = False,
    ray_address: RayAddressOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")] = False,
) -> None:
    """Train a recipe; split, augmentation and features are made on the way. The last line is the run folder.

    Exit code: 0 all fine, 1 some tracks were skipped, 2 misuse.
    """
    from musicgenre._parallel import usable_cores
    from musicgenre.audio import decoding_apart
    from musicgenre.cli._options import report_line, report_warnings  # standard output holds the result alone
    from musicgenre.cli._terminal import watching_training
    from musicgenre.errors import needing
    from musicgenre.training.request import check_request, check_tracks

    check_ray_options(ray, ray_address)
    if ray:
        devices, threads = processes_together(jobs, devices), threads or 1
    checked = check_request(
        recipe,
        settings or [],
        data=data,
        seeds=seeds,
        folds=folds,
        output=output,
        resume=resume,
        store=store,
        report=report_line,
    )
    tracks = check_tracks(checked, data, folds=folds)
    with needing("training", "train"):
        from musicgenre.training.fit import Hardware
        from musicgenre.training.train import train as train_recipe

    report_warnings()
    hardware = Hardware(accelerator, devices, precision, threads)
    with (
        decoding_apart(),
        watching_training(quiet=quiet) as (advance, note),
        training_together(ray, ray_address, hardware) as launch,
    ):
        folder = train_recipe(
            checked,
            tracks,
            output=output,
            overrides=settings or [],
            seeds=seeds,
            folds=folds,
            resume=resume,
            keep_state=keep_state,
            hardware=hardware,
            store=store,
            jobs=jobs or usable_cores(),
            report=report_line,
            progress=advance,
            scores=note,
            launch=launch,
        )

    skipped = _tell_results(folder, context)
    typer.echo(folder)
    raise typer.Exit(1 if skipped else 0)


def _tell_results(folder: Path, context: typer.Context) -> dict[str, str]:
    """Write the reports of what was trained, and tell their headlines, skipped tracks and how to get more epochs."""
    from musicgenre.cli._options import report_line
    from musicgenre.evaluation.study import write_reports
    from musicgenre.runs.folder import read_description

    for scores in write_reports(folder):
        report_line(f"{scores.recipe}: {scores.short} ({scores.setting})")
        for warning in scores.warnings:
            report_line(f"! {warning}.")

    # of all runs of a group or study: several of them skip the same track, which is named once
    skipped: dict[str, str] = {}
    for description in sorted(folder.rglob("run.json")):
        for skip in read_description(description.parent)["skipped"]:
            skipped[skip["track_id"]] = skip["reason"]
    for track_id, reason in skipped.items():
        report_line(f"failed: {track_id} was skipped: {reason}")
    if context.params["keep_state"]:
        _tell_more_epochs(folder, context)
    return skipped


def _tell_more_epochs(folder: Path, context: typer.Context) -> None:
    """Tell the command that gives more epochs to runs that were still getting better when theirs were over."""
    from musicgenre.cli._options import command_again, report_line
    from musicgenre.runs.folder import read_description

    n_epochs = 0
    is_rising = False
    for description in folder.rglob("run.json"):
        facts = read_description(description.parent)
        n_epochs = max(n_epochs, facts["epochs"])
        is_rising |= facts["epochs"] == facts["best_epoch"] + 1 > 1
    if not is_rising:
        return

    changed = [
        setting
        for setting in context.params["settings"] or []
        if setting.partition("=")[0].strip() != "training.epochs"
    ]
    added = ["--output", str(folder), "--resume"]
    for setting in [*changed, f"training.epochs={2 * n_epochs}"]:
        added += ["--set", setting]
    again = command_again(context, without=("settings", "output", "resume"), added=added)
    report_line(f"twice as many epochs, from the last on: {again}")
