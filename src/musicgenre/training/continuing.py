"""More epochs for a finished run: it goes on beside itself, and what comes of it takes its place when all is done.

A finished run keeps the state that it ended with (`resume.ckpt`). A continuation trains in a run folder of its own
within the run, `continuation/`: until that has ended, the finished run stays whole and is what all commands read.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre._files import replacing
from musicgenre._json import parsed_json
from musicgenre._text import how_many, printable, shortened
from musicgenre.data.manifest import Manifest, read_manifest
from musicgenre.data.rows import Normalisation
from musicgenre.data.targets import TARGET_PREFIX
from musicgenre.errors import RunError, UsageError
from musicgenre.models.registry import model_entry
from musicgenre.runs.folder import (
    CONTINUATION,
    RUN_FILE,
    SEARCH_FILE,
    RunFolder,
    continuations_of,
    open_run,
    read_description,
    timestamp,
)
from musicgenre.training.recipe_names import Report
from musicgenre.training.recipes import Recipe

_MAY_CHANGE = ("training.epochs", "training.patience")
"""Settings that tell when a training ends and nothing else: no learning rate, and no draw, depends on them."""

_SAME = 1e-6
"""Of a deviation: mean and deviation of the same features differ by less on any machine."""

_SHOWN = 3  # names of runs in a message

_GONE_ON_WITH = "of a finished run training.epochs and training.patience may change, and nothing else"


@dataclass(frozen=True)
class Continuation:
    """A finished run that gets more epochs.

    Attributes
    ----------
    run : RunFolder
        The finished one.
    changes : mapping of str to (Any, Any)
        Settings that change, by their dotted names: before, and now.
    from_epoch, epochs : int
        How many epochs it has, and how many it shall have, these included.
    """

    run: RunFolder
    changes: Mapping[str, tuple[Any, Any]]
    from_epoch: int
    epochs: int

    @property
    def folder(self) -> RunFolder:
        """Where it trains."""
        return RunFolder(self.run.folder / CONTINUATION)

    @property
    def resume_state(self) -> Path:
        """What it goes on from: its own last state where it was interrupted, else the one that the run ended with."""
        own = self.folder.resume_state
        return own if own.is_file() else self.run.resume_state

    def begin(self) -> None:
        """Lay the best weights so far beside it: they stay the best where no later epoch is better."""
        folder = self.folder
        if folder.description.is_file():
            return
        folder.folder.mkdir(exist_ok=True)
        with replacing(folder.weights) as temporary:
            shutil.copyfile(self.run.weights, temporary)

    def described(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """What `run.json` says of it: the run as it was begun, and all its continuations.

        Parameters
        ----------
        facts : mapping
            What it would say of a training that begins now.
        """
        before, started = read_description(self.run.folder), timestamp()
        if self.folder.description.is_file():  # it was interrupted
            for begun in continuations_of(self.folder.folder, read_description(self.folder.folder))[-1:]:
                started = begun["started"]
        entry = {
            "from_epoch": self.from_epoch,
            "to_epoch": self.epochs,
            "started": started,
            "settings": {name: list(values) for name, values in self.changes.items()},
            "versions": facts["versions"],
            "hardware": facts["hardware"],
        }
        kept: dict[str, Any] = {name: before[name] for name in ("versions", "hardware") if name in before}
        return {**facts, **kept, "continued": [*before.get("continued", ()), entry]}

    def found(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """What `run.json` says when it has ended.

        Parameters
        ----------
        found : mapping
            What the training found: `epochs` and so on, all epochs of the run counted.
        """
        continued = continuations_of(self.folder.folder, read_description(self.folder.folder))
        continued[-1] |= {"to_epoch": found["epochs"], "finished": timestamp()}
        return {**found, "continued": continued, "started": read_description(self.run.folder)["started"]}


def continuation_of(run: RunFolder, recipe: Recipe, report: Report) -> Continuation | None:
    """Say how a finished run goes on with a recipe.

    Parameters
    ----------
    run : RunFolder
        The finished one.
    recipe : Recipe
        What is asked for now.
    report : callable
        Takes a line where there is nothing to do, and yet something to say.

    Returns
    -------
    Continuation or None
        None where the run is what the recipe asks for.

    Raises
    ------
    RunError
        Other settings changed than those that may, or the run has kept no state to go on from.
    UsageError
        It has more epochs already, another continuation of it is unfinished, its model has no epochs, or it is part of
        a search.
    """
    path, goes_on = run.folder, RunFolder(run.folder / CONTINUATION)
    changes = check_changes(run, recipe, _MAY_CHANGE)
    if not changes:
        if goes_on.description.is_file():
            report(
                f"{path} was to be continued, which is unfinished: {_options_of(goes_on)} goes on with that; "
                f"to give it up, delete {goes_on.folder}"
            )
        return None

    if goes_on.description.is_file() and not recipe.trains_like(goes_on.recipe.read_text(encoding="utf-8")):
        raise UsageError(
            f"another continuation of {path} is unfinished",
            next_step=f"Go on with it by {_options_of(goes_on)}, or delete {goes_on.folder} to give it up",
        )

    searches = [place for place in path.resolve().parents if (place / SEARCH_FILE).is_file()]
    if searches:
        raise UsageError(
            f"{path} belongs to the search in {searches[0]}, which tells what its runs scored as they are",
            next_step=f"Train the recipe that it found anew with training.epochs={recipe.training.epochs}, "
            "into another --output",
        )
    if not model_entry(recipe.model.name).has_epochs:
        raise UsageError(
            f"the model of {path} is fitted in one go and has no epochs", next_step="Leave training.epochs out"
        )
    if not run.weights.is_file():
        raise RunError(f"{path} is damaged: it has no {run.weights.name}", next_step="Train this run again")
    epochs, best = _epochs_of(path)
    wanted, patience = recipe.training.epochs, recipe.training.patience
    if wanted < epochs:
        raise UsageError(
            f"{path} has {how_many(epochs, 'epoch')} already, more than training.epochs={wanted}",
            valid=f"more than {epochs}",
        )
    if wanted == epochs:
        report(f"{path} has all its {how_many(epochs, 'epoch')}; --set training.epochs= with more of them goes on")
        return None
    if patience is not None and epochs - best >= patience:
        report(
            f"{path} ended at epoch {epochs} by training.patience={patience} (best: {best}), and would with "
            f"training.epochs={wanted} too; --set training.patience={epochs - best + patience} waits longer"
        )
        return None

    going_on = Continuation(run, changes, epochs, wanted)
    if not going_on.resume_state.is_file():
        raise RunError(
            f"{path} has kept no state to go on from ({run.resume_state.name})",
            valid="a run that was trained with this version, without --no-keep-state",
            next_step=f"Train anew with the same command, another --output and without --resume: "
            f"that gives all {wanted} epochs, and the run stays as it is",
        )
    return going_on


def check_group(folder: Path, children: Collection[str]) -> None:
    """Refuse to go on in a folder whose runs are not among those that are asked for.

    Parameters
    ----------
    folder : Path
        Of one run, or of the runs of several seeds and folds.
    children : collection of str
        The runs that are asked for, by their folders within; an empty word is the folder itself.

    Raises
    ------
    RunError
        It holds another run, which would be left behind, and neither continued nor told of.
    """
    others = []
    for description in sorted(folder.rglob(RUN_FILE)):
        within = description.parent.relative_to(folder)
        child = "" if within == Path() else within.as_posix()
        if child not in children and CONTINUATION not in within.parts:
            others.append(child or "a single run")
    if others:
        raise RunError(
            f"{folder} holds {printable(shortened(others, _SHOWN))}, with which this command would not go on",
            valid="the numbers of --seeds and --folds that it was begun with, or more seeds",
            next_step="Resume it with those, or give another --output",
        )


def check_changes(run: RunFolder, recipe: Recipe, may_change: tuple[str, ...] = ()) -> dict[str, tuple[Any, Any]]:
    """Refuse to go on with a run that was begun with something else.

    Parameters
    ----------
    run : RunFolder
        The run.
    recipe : Recipe
        What is asked for now.
    may_change : tuple of str
        Dotted names of settings that may differ.

    Returns
    -------
    dict of str to (Any, Any)
        Those that do: before, and now.

    Raises
    ------
    RunError
        Another setting differs; it is named.
    """
    if "ensemble" in read_description(run.folder):
        raise RunError(
            f"{run.folder} is an ensemble of runs and was not trained itself",
            next_step="Go on with its members, then make it anew: musicgenre ensemble",
        )
    changes = None
    if run.recipe.is_file():
        changes = recipe.changes_since(run.recipe.read_text(encoding="utf-8"))
    if changes is None:
        raise RunError(
            f"{run.folder} was begun with another recipe or other settings: {run.recipe.name} is missing or damaged",
            next_step="Train anew, with another --output",
        )

    for name, (before, now) in changes.items():
        if name in may_change:
            continue
        next_step = "Resume it with the same, or give another --output"
        if name in _MAY_CHANGE:
            next_step = f"Resume it with {name}={before}: once it is finished it can be given more epochs"
        raise RunError(
            f"{run.folder} was begun with another recipe or other settings: {name} was {before!r}, and is {now!r}",
            valid=_GONE_ON_WITH if may_change else "",
            next_step=next_step,
        )
    return changes


def check_tracks(run: RunFolder, manifest: Manifest) -> None:
    """Refuse to go on with a run that was begun with other tracks, another split, other labels or other files.

    Parameters
    ----------
    run : RunFolder
        The run.
    manifest : Manifest
        The tracks of today.

    Raises
    ------
    RunError
        They differ; what differs is named.
    """
    if not run.manifest.is_file():  # stopped before it was written: nothing was trained yet
        return
    next_step = f"Resume it with the same manifest ({run.manifest} is what it was), or give another --output"
    begun = {track.track_id: track for track in read_manifest(run.manifest).tracks}
    if {(one.track_id, one.split) for one in begun.values()} != {(one.track_id, one.split) for one in manifest.tracks}:
        raise RunError(f"{run.folder} was begun with other tracks or another split", next_step=next_step)

    for track in manifest.tracks:
        before, what = begun[track.track_id], ""
        if before.labels != track.labels:
            what = f"{track.track_id} had the label {';'.join(before.labels)}, and has {';'.join(track.labels)}"
        for column in track.columns:
            decides = column == "md5" or column.startswith(TARGET_PREFIX)
            if decides and before.columns.get(column, track.columns[column]) != track.columns[column]:
                what = f"the {column} of {track.track_id} is another"
        if what:
            raise RunError(f"{run.folder} was begun with other data: {printable(what)}", next_step=next_step)


def check_features(run: RunFolder, normalisation: Normalisation | None, precision: str) -> None:
    """Refuse to go on from a state that was trained on other features, or with other numbers.

    Parameters
    ----------
    run : RunFolder
        The run.
    normalisation : Normalisation or None
        Mean and deviation of today's training part, None where it has none; other features have other ones.
    precision : str
        That of today, as Lightning names it.

    Raises
    ------
    RunError
        They differ.
    """
    hardware = read_description(run.folder).get("hardware")
    before = hardware.get("precision", precision) if isinstance(hardware, dict) else precision
    if before != precision:
        raise RunError(
            f"{run.folder} was begun with --precision {before}, and is to go on with {precision}",
            next_step=f"Give --precision {before}, or another --output",
        )
    if normalisation is None or not run.normalisation.is_file():
        return

    try:
        noted = Normalisation.from_dict(parsed_json(run.normalisation.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{run.normalisation} is damaged ({error})", next_step="Train anew, with another --output"
        ) from error
    same = noted.mean.shape == normalisation.mean.shape
    if same:
        apart = np.maximum(np.abs(noted.mean - normalisation.mean), np.abs(noted.std - normalisation.std))
        same = bool((apart <= _SAME * noted.std).all())
    if not same:
        raise RunError(
            f"{run.folder} was begun with other features: mean and deviation of its training part "
            f"({run.normalisation.name}) are not those of today",
            valid="the same files, whose features are computed by the same version",
            next_step="Train anew, with another --output",
        )


def take_place(run: RunFolder) -> None:
    """Let a continuation take the place of the run if it has ended: all of it, or what a kill left to do."""
    done = RunFolder(run.folder / CONTINUATION)
    if done.status != "finished":
        return

    # from here on until the end nobody takes the run for whole: its files are of two trainings
    facts = read_description(done.folder)
    del facts["format_version"]
    run.describe({**facts, "status": "running"})
    for path in sorted(done.folder.rglob("*")):
        place = run.folder / path.relative_to(done.folder)
        if path.is_file() and path.name != RUN_FILE:
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
    run.describe(facts)
    shutil.rmtree(done.folder)


def _epochs_of(path: Path) -> tuple[int, int]:
    """How many epochs a finished run has, and its best one, counted from 1."""
    info = open_run(path).info
    epochs, best = info.get("epochs"), info.get("best_epoch")
    if epochs is None or best is None:
        raise RunError(f"{path / RUN_FILE} is damaged: it does not tell its epochs", next_step="Train this run again")
    return epochs, best + 1


def _options_of(folder: RunFolder) -> str:
    """The options that ask for a continuation that was begun."""
    begun = continuations_of(folder.folder, read_description(folder.folder))
    changed = begun[-1]["settings"].items() if begun else ()
    return " ".join(f"--set {name}={'null' if now is None else now}" for name, (_, now) in changed)
