"""The search itself: draws recipes from a space, lets trials train and score them, and tests the best one once.

This process alone writes into Optuna's storage. Trials see a manifest without the test part; it is read when the
winner is trained, after the last trial.
"""

from __future__ import annotations

import math
import random
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from musicgenre._files import write_text_atomic
from musicgenre._locks import folder_lock
from musicgenre._parallel import usable_cores
from musicgenre._text import how_many, shortened
from musicgenre.data.manifest import Manifest, read_manifest, write_manifest
from musicgenre.data.splits import split
from musicgenre.errors import RunError, UsageError, needing
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.evaluation.report import LabelReport
from musicgenre.evaluation.study import write_reports
from musicgenre.runs.folder import output_folder
from musicgenre.search.options import Pruner, SearchOptions, check_search, tracks_to_search
from musicgenre.search.space import Parameter, Space, check_space, recipe_of
from musicgenre.search.study import SearchFacts, StudyFolder, is_higher_better, is_search, tracks_sha256
from musicgenre.search.trial import Judge, TrialJob, TrialResult, TrialRunner, accuracy_of, run_trials_here
from musicgenre.training.fit import Hardware
from musicgenre.training.material import (
    Progress,
    find_weights_first,
    gather_material,
    representation_of,
)
from musicgenre.training.recipe_names import Report
from musicgenre.training.recipes import Recipe
from musicgenre.training.train import train

if TYPE_CHECKING:
    import optuna

_DOING = "searching"
_MOST_GRID = 100_000
_SEEDS_APART = 1_000_003  # trials of one search never share a draw's seed


def search(
    recipe: Recipe,
    data: Path | str,
    space: Space,
    options: SearchOptions,
    *,
    output: Path | None = None,
    resume: bool = False,
    hardware: Hardware | None = None,
    report: Report = lambda text: None,
    progress: Progress = lambda what, done, total: None,
    run_trials: TrialRunner = run_trials_here,
) -> Path:
    """Search a space around a recipe; train the winner and score it once on the test part.

    Parameters
    ----------
    recipe : Recipe
        What does not vary.
    data : Path or str
        The manifest.
    space : mapping of str to Parameter
        What varies.
    options : SearchOptions
        How.
    output : Path, optional
        The study's folder; `runs/RECIPE-search` by default, with a number behind it where that exists.
    resume : bool
        Go on with the study in `output`.
    hardware : Hardware, optional
        One CPU by default.
    report : callable
        Takes a line for the person who waits.
    progress : callable
        Told how far it is.
    run_trials : callable
        What runs the trials, such as `musicgenre.cluster.trials.RayTrials`; by default this machine.

    Returns
    -------
    Path
        The study's folder.

    Raises
    ------
    UsageError, RecipeError
        Options, space and recipe do not go together, or the folder holds another search.
    DataError
        The manifest cannot be split as asked, or another search is at work in the folder.
    RunError
        Every trial failed, or the storage is damaged.
    """
    with needing("searching", "search"):
        import optuna  # noqa: F401  said before anything is computed
    hardware = hardware or Hardware()
    check_search(recipe, data, options, output=output, resume=resume)

    # the tracks are split once: all trials see the same parts, and none sees the test part
    whole = tracks_to_search(recipe, data, options, report=report)
    seen = _without_test(whole, recipe, options)
    find_weights_first(recipe)
    shape = representation_of(recipe, seen).shape()
    check_space(recipe, space, input_shape=shape, objective=options.objective)
    facts = SearchFacts(
        recipe=recipe.name,
        recipe_yaml=recipe.as_yaml(),
        space={key: parameter.as_text() for key, parameter in space.items()},
        objective=options.objective,
        sampler=options.sampler,
        pruner=options.pruner,
        folds=options.folds if options.objective == "cv.accuracy" else 0,
        seed=options.seed,
        tracks_sha256=tracks_sha256(whole),
    )

    wanted = Path("runs") / f"{recipe.name}-search"
    with output_folder(output, wanted) as folder, folder_lock(folder, _DOING):
        files = StudyFolder(folder)
        if is_search(folder):
            files.check_same(facts)
        else:
            files.begin(facts)
            write_manifest(seen, files.manifest)
            write_manifest(whole, files.whole_manifest)
        try:
            driver = _Driver(recipe, space, options, files, hardware, report, progress)
            driver.prepare()
            driver.run_trials(run_trials)
            driver.crown()
        except KeyboardInterrupt:
            report(f"{folder} is unfinished. Go on with the same command and: --output {folder} --resume")
            raise
    return folder


class _Driver:
    """One call of a search: the only one that writes into the storage."""

    def __init__(
        self,
        recipe: Recipe,
        space: Space,
        options: SearchOptions,
        files: StudyFolder,
        hardware: Hardware,
        report: Report,
        progress: Progress,
    ) -> None:
        self.recipe = recipe
        self.space = space
        self.options = options
        self.files = files
        self.hardware = hardware
        self.report = report
        self.progress = progress
        self.study = files.open(pruner=_pruner_of(options.pruner), create=True)
        self.started_s = time.monotonic()
        self.n_ended = 0  # in this call

        grid = math.prod(len(parameter.grid()) for parameter in space.values())
        if options.sampler == "grid" and grid > _MOST_GRID:
            raise UsageError(f"the grid has {grid} points", valid=f"{_MOST_GRID} at most", next_step="Search by tpe")
        self.n_trials = min(options.trials, grid) if options.sampler == "grid" else options.trials
        self.unfinished: deque[optuna.Trial] = deque(self._left_by_a_kill())
        self.running: dict[int, optuna.Trial] = {}  # by number

    def prepare(self) -> None:
        """Compute the features of the recipe as it stands, on all cores, before trials ask for them one by one."""
        gather_material(
            self.recipe,
            read_manifest(self.files.manifest),
            folds=self.options.folds if self.options.objective == "cv.accuracy" else 0,
            jobs=usable_cores(),
            has_test=False,
            report=self.report,
            progress=self.progress,
        )

    def run_trials(self, run: TrialRunner) -> None:
        """Run trials until there are enough of them, or time is up."""
        self._show()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="optuna")  # a trial that goes on reports its first steps again
            run(self, self.options.jobs)

    def next_job(self) -> TrialJob | None:
        """Begin the next trial; None where no more shall begin."""
        trial = self._next()
        if trial is None:
            return None
        self.running[trial.number] = trial
        return TrialJob(
            number=trial.number,
            recipe=recipe_of(self.recipe, self._values(trial)),
            manifest=self.files.manifest,
            folder=self.files.trial(trial.number),
            objective=self.options.objective,
            folds=self.options.folds,
            hardware=self.hardware,
        )

    def judge(self, number: int) -> Judge:
        """Let the pruner judge a running trial."""
        trial = self.running[number]

        def judge(step: int, value: float) -> bool:
            trial.report(value, step)
            return not trial.should_prune()

        return judge

    def _next(self) -> optuna.Trial | None:
        """The next trial: one that was interrupted, else a new one; None where no more shall begin."""
        import optuna

        if self.unfinished:
            return self.unfinished.popleft()
        while True:
            trials = self.study.get_trials(deepcopy=False)
            elapsed_s = time.monotonic() - self.started_s
            if len(trials) >= self.n_trials or (self.options.time_s is not None and elapsed_s >= self.options.time_s):
                return None

            # A sampler of its own seed for every trial: a search that was interrupted draws what it would have drawn.
            self.study.sampler = self._sampler(len(trials))
            trial = self.study.ask()
            self._values(trial)
            same = [
                one for one in trials if one.state == optuna.trial.TrialState.COMPLETE and one.params == trial.params
            ]
            if not same:
                return trial
            # the same recipe gives the same run: it is not trained twice
            trial.set_user_attr("same_as", same[0].number)
            self.study.tell(trial, same[0].value)
            self._told(trial.number, TrialResult("finished", same[0].value))

    def _left_by_a_kill(self) -> Iterator[optuna.Trial]:
        """Trials that were running when an earlier call ended."""
        import optuna

        for frozen in self.study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
            self.study.sampler = self._sampler(frozen.number)
            trial = optuna.Trial(self.study, frozen._trial_id)
            self._values(trial)  # what was not drawn before the kill
            yield trial

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        import optuna

        seed = self.options.seed * _SEEDS_APART + number
        if self.options.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if self.options.sampler == "grid":
            point = self._grid_point(number)
            sampler = optuna.samplers.RandomSampler(seed=seed)
            # Optuna's own grid sampler wants to stop a loop that is Optuna's
            sampler.sample_independent = lambda study, trial, name, distribution: point[name]
            return sampler
        return optuna.samplers.TPESampler(seed=seed)

    def _grid_point(self, number: int) -> dict[str, Any]:
        """Combination of a trial: all of them in an order that the seed decides."""
        grids = {key: _labels_of_grid(parameter) for key, parameter in self.space.items()}
        order = list(range(math.prod(map(len, grids.values()))))
        random.Random(self.options.seed).shuffle(order)

        place, point = order[number], {}
        for key, labels in grids.items():
            place, digit = divmod(place, len(labels))
            point[key] = labels[digit]
        return point

    def _values(self, trial: optuna.Trial) -> dict[str, Any]:
        """Draw a value for every key; those that were drawn before stay."""
        return {key: _draw(trial, key, parameter) for key, parameter in self.space.items()}

    def end(self, number: int, result: TrialResult) -> None:
        """Write down how a trial ended, and tell the person."""
        import optuna

        trial = self.running.pop(number)

        states = {
            "finished": optuna.trial.TrialState.COMPLETE,
            "pruned": optuna.trial.TrialState.PRUNED,
            "failed": optuna.trial.TrialState.FAIL,
        }
        if result.value is not None and not math.isfinite(result.value):
            result = TrialResult("failed", reason=f"its score is {result.value}")
        if result.reason:
            trial.set_user_attr("reason", result.reason)
        self.study.tell(trial, result.value, state=states[result.state])
        self.n_ended += 1
        self._told(trial.number, result)

    def _told(self, number: int, result: TrialResult) -> None:
        """Tell one trial's end, the best so far, and how long the others will take."""
        if result.value is not None:
            words = f"trial {number}: {result.value:.4f}"
        elif result.state == "pruned":
            words = f"trial {number} was ended early"
        else:
            words = f"trial {number} failed: {result.reason.rstrip('.')}"
        best = self._best()
        if best is not None:
            words += f"; best so far {best.value:.4f} (trial {best.number})"
        self.report(words + self._left())
        self._show()

    def _left(self) -> str:
        """Trials that are left, and how long they will take if they take as long as those of this call."""
        n_left = self.n_trials - len(self._ended())
        if n_left <= 0:
            return ""
        text = f"; {n_left} left"
        if self.n_ended:
            elapsed_s = time.monotonic() - self.started_s
            left_s = elapsed_s / self.n_ended * n_left
            if self.options.time_s is not None:
                left_s = min(left_s, self.options.time_s - elapsed_s)
            text += f", some {_duration(left_s)}"
        return text

    def _show(self) -> None:
        self.progress(_DOING, len(self._ended()), self.n_trials)

    def _ended(self) -> list[optuna.trial.FrozenTrial]:
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.is_finished()]

    def _best(self) -> optuna.trial.FrozenTrial | None:
        """The best trial that was finished; of equal ones the first."""
        import optuna

        done = self.study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
        sign = 1 if is_higher_better(self.options.objective) else -1
        return max(done, key=lambda trial: (sign * (trial.value or 0.0), -trial.number), default=None)

    def crown(self) -> None:
        """Write the best trial's recipe; train it anew and score it on the test part, if that is asked for.

        Raises
        ------
        RunError
            No trial was finished.
        """
        best = self._best()
        ended = self._ended()
        if best is None:
            reasons = [str(trial.user_attrs.get("reason", "it was stopped")) for trial in ended]
            raise RunError(
                f"none of {how_many(len(ended), 'trial')} was finished"
                + (f": {shortened(reasons, 1)}" if reasons else ""),
                next_step="Give more --trials or --time-s, or a space around settings that train",
            )
        values = {key: _value_of(parameter, best.params[key]) for key, parameter in self.space.items()}
        recipe = recipe_of(self.recipe, values)
        assert best.value is not None
        text = (
            f"# Found by 'musicgenre search {self.recipe.name}': trial {best.number} of {len(ended)}, "
            f"{self.options.objective} {best.value:.4g}.\n"
            f"# That number chose it, and flatters. Train it with: musicgenre train THIS_FILE --data MANIFEST\n"
        )
        write_text_atomic(self.files.winner_recipe(self.recipe.name), text + recipe.as_yaml())
        winner: dict[str, Any] = {
            "trial": best.number,
            "n_trials": len(ended),
            "values": values,
            "best": best.value,
        }
        if self.options.seeds:
            winner |= self._test(recipe, best.number)
        self.files.add({"winner": winner})

    def _test(self, recipe: Recipe, number: int) -> dict[str, Any]:
        """Train the winner with several seeds, and look at the test part."""
        folder = self.files.winner(number)
        tested = self.files.read().get("tested", [])
        if number not in tested:
            # noted before it is looked at, so that nobody looks twice unknowingly
            self.files.add({"tested": [*tested, number]})
        train(
            recipe,
            read_manifest(self.files.whole_manifest),
            output=folder,
            seeds=self.options.seeds,
            resume=folder.is_dir(),
            keep_state=False,  # more epochs would not be what was searched and told
            hardware=self.hardware,
            jobs=usable_cores(),
            report=self.report,
            progress=self.progress,
        )
        write_reports(folder)
        report = evaluate(folder)
        found: dict[str, Any] = {"seeds": self.options.seeds, "test": report.short, "setting": report.setting}
        if isinstance(report, LabelReport):
            validation = accuracy_of(folder, "validation")
            found |= {"test_accuracy": report.accuracy.value, "validation_accuracy": validation}
        return found


def _without_test(whole: Manifest, recipe: Recipe, options: SearchOptions) -> Manifest:
    """The tracks that trials see: training and validation part, in folds where they are scored by them."""
    seen = whole.with_tracks(track for track in whole.tracks if track.split in ("train", "validation"))
    if options.objective != "cv.accuracy":
        return seen
    originals = seen.with_tracks(replace(track, split="", fold=None) for track in seen.tracks if not track.augmented)
    name = "artist-kfold" if any(track.group for track in originals.tracks) else "kfold"
    return split(originals, name, seed=recipe.protocol.seed, folds=options.folds)


def _pruner_of(name: Pruner) -> Any:
    import optuna

    makers: dict[Pruner, Callable[[], optuna.pruners.BasePruner]] = {
        "asha": optuna.pruners.SuccessiveHalvingPruner,
        "median": optuna.pruners.MedianPruner,
        "none": optuna.pruners.NopPruner,
    }
    if name not in makers:
        raise UsageError(f"there is no pruner {name!r}", valid=", ".join(get_args(Pruner)))
    return makers[name]()


def _draw(trial: optuna.Trial, key: str, parameter: Parameter) -> Any:
    """Let Optuna draw a value of a parameter."""
    if parameter.kind == "choice":
        return _value_of(parameter, trial.suggest_categorical(key, parameter.labels()))
    low, high = parameter.probes()
    if parameter.kind == "int":
        return trial.suggest_int(key, low, high, step=parameter.step)
    if parameter.kind == "logint":
        return trial.suggest_int(key, low, high, log=True)
    return trial.suggest_float(key, low, high, log=parameter.kind == "log")


def _value_of(parameter: Parameter, drawn: Any) -> Any:
    """The value that stands in a recipe for what Optuna keeps."""
    if parameter.kind != "choice":
        return drawn
    labels = parameter.labels()
    same = [number for number, label in enumerate(labels) if label == drawn and type(label) is type(drawn)]
    return parameter.choices[same[0]]


def _labels_of_grid(parameter: Parameter) -> Sequence[Any]:
    return parameter.labels() if parameter.kind == "choice" else parameter.grid()


def _duration(seconds: float) -> str:
    """Seconds, minutes or hours, as one would say it."""
    seconds = max(seconds, 0.0)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
