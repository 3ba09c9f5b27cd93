"""What a search is asked to do, checked before what searches and trains is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from musicgenre.data.manifest import Manifest
from musicgenre.data.shard_places import looks_like_shards
from musicgenre.errors import DataError, UsageError
from musicgenre.runs.folder import check_output
from musicgenre.search.study import OBJECTIVES, Objective, is_search
from musicgenre.training.recipe_names import Report
from musicgenre.training.tracks import LEAKY, split_tracks

if TYPE_CHECKING:
    from musicgenre.training.recipes import Recipe

Sampler = Literal["tpe", "random", "grid"]
"""How values are drawn: where good ones were, at random, or every combination."""

Pruner = Literal["asha", "median", "none"]
"""What ends trials early: asynchronous successive halving, the median of the others, or nothing."""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How is searched.

    Attributes
    ----------
    objective : {"validation.accuracy", "validation.loss", "cv.accuracy"}
        What for.
    trials : int
        Of the whole study, those of earlier calls counted.
    time_s : float or None
        No trial begins later than this many seconds after the call.
    jobs : int
        Trials at a time, each in a process with one thread; 1: one after another, here.
    sampler, pruner
        See `Sampler` and `Pruner`.
    folds : int
        Of `cv.accuracy`.
    seed : int
        Of the draws.
    seeds : int
        Trainings of the winner, scored on the test part; 0: the test part is left alone.
    """

    objective: Objective = "validation.accuracy"
    trials: int = 50
    time_s: float | None = None
    jobs: int = 1
    sampler: Sampler = "tpe"
    pruner: Pruner = "asha"
    folds: int = 5
    seed: int = 0
    seeds: int = 3


def check_search(
    recipe: Recipe, data: Path | str, options: SearchOptions, *, output: Path | None, resume: bool
) -> None:
    """Refuse what cannot be searched whatever is in the data, and a folder that is taken.

    Parameters
    ----------
    recipe, data, options, output, resume
        As `musicgenre.search.search.search` takes them.

    Raises
    ------
    UsageError
        Options and recipe do not go together, there is nothing to resume, or the folder holds something else.
    """
    if recipe.variants():
        raise UsageError(
            f"{recipe.name} is a study of several recipes", next_step="Search around one: the recipe of a variant"
        )
    if looks_like_shards(data):
        raise UsageError("shards cannot be searched on", next_step="Give the manifest")
    if recipe.protocol.name == LEAKY:
        raise UsageError(
            f"under the protocol {LEAKY} the test part chooses the checkpoint: a search would choose by it too",
            next_step="--set protocol.name=track, or artist where artists are known",
        )
    if options.objective not in OBJECTIVES:
        raise UsageError(f"there is no objective {options.objective!r}", valid=", ".join(OBJECTIVES))
    if recipe.is_tagging and options.objective != "validation.loss":
        raise UsageError(f"tags have no accuracy, and {recipe.name} names tags", valid="--objective validation.loss")
    if options.objective == "cv.accuracy" and options.folds < 2:
        raise UsageError(f"{options.folds} folds", valid="2 or more")
    if options.time_s is not None and not options.time_s > 0:
        raise UsageError(f"{options.time_s:g} s leave no time", valid="Seconds above 0")
    if resume and output is None:
        raise UsageError("there is nothing to resume", next_step="Name the study's folder with --output")
    if output is not None and not (resume and is_search(output)):
        check_output(output, False if is_search(output) else None)


def tracks_to_search(
    recipe: Recipe, data: Path | str, options: SearchOptions, *, report: Report | None = None
) -> Manifest:
    """Split the tracks of a manifest as the recipe says; no sound is read.

    Parameters
    ----------
    recipe, data, options
        As `musicgenre.search.search.search` takes them.
    report : callable, optional
        Takes a line where a validation part is taken from the training part.

    Raises
    ------
    DataError
        The manifest does not fit the recipe, cannot be split as asked, or has no test part for the winner.
    """
    whole = split_tracks(recipe, Path(data), has_test=False, report=report)
    if options.seeds and not whole.part("test").tracks:
        raise DataError(
            "the manifest has no test part, on which the winner is scored",
            next_step="Split it (musicgenre data split), or give --seeds 0 to search alone",
        )
    return whole
