"""Trials of a search on the nodes of a cluster, through Ray Tune.

Tune asks for trials, places them, brings their scores and begins anew what was lost with its process. The search, in
the process that was called, draws them, judges them and alone writes into the study.
"""

from __future__ import annotations

import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from musicgenre._locks import folder_lock
from musicgenre._parallel import one_thread_each
from musicgenre.cluster.connect import Cluster, enter_folder
from musicgenre.data.manifest import read_manifest
from musicgenre.errors import RunError, UsageError
from musicgenre.search.trial import Judge, TrialJob, TrialResult, TrialSource, run_trial
from musicgenre.training.fit import Hardware
from musicgenre.training.material import find_weights_first
from musicgenre.training.recipe_names import Report
from musicgenre.training.recipes import Recipe

MOST_LOSSES = 3
"""How often a trial may lose its process before it counts as failed."""

_LEFT_BEHIND_S = 60.0  # how long a process of a command that was killed may still hold a trial's folder
_TRACKS_ASKED = 100  # for which each node is asked; a folder that it does not see shows in a few
_TUNE_SETTINGS = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours to handle
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no files for other programs
    "RAY_AIR_NEW_OUTPUT": "0",  # its tables would go to standard output
}
_TUNE = ".tune"  # what Tune itself keeps while it runs; nothing is read from it


class RayTrials:
    """Runs the trials of a search on a cluster: see `musicgenre.search.trial.run_trials_here`.

    Parameters
    ----------
    cluster : Cluster
        All its nodes see the study's folder, the tracks and the features under the same paths.
    report : callable
        Told of trials that lost their process.
    """

    def __init__(self, cluster: Cluster, report: Report) -> None:
        self._cluster = cluster
        self._report = report

    def __call__(self, source: TrialSource, jobs: int) -> None:
        """Run trials, `jobs` at a time; each takes a core, or a GPU where it is trained on one.

        Raises
        ------
        UsageError
            A node does not see all tracks, or there is no room for so many trials.
        DataError
            A node does not see the study, or may not write there.
        BundleError
            A node has no weights that the recipe begins with.
        RunError
            The cluster was lost.
        """
        first = source.next_job()
        if first is None:
            return
        self.check_nodes(first.hardware, jobs)
        manifest = first.manifest.absolute()
        self._check_files(first.recipe, manifest)

        os.environ |= _TUNE_SETTINGS
        folder = manifest.parent / _TUNE
        try:
            tune.run(
                _Trial,
                name=_TUNE,
                storage_path=str(manifest.parent),
                search_alg=_Draws(source, first, str(Path.cwd())),
                scheduler=_Judges(source),
                callbacks=[_Ends(source, self._report)],
                num_samples=-1,  # until there are no more
                max_concurrent_trials=jobs,
                resources_per_trial={"cpu": 1, "gpu": int(first.hardware.wants_gpu)},
                max_failures=MOST_LOSSES,
                raise_on_failed_trial=False,
                reuse_actors=True,  # so that not every trial loads its packages
                verbose=0,
            )
        except (ray.exceptions.RayError, tune.TuneError) as error:
            raise RunError(
                f"the search lost its cluster ({' '.join(str(error).split())[:300]})",
                next_step="Start the cluster again, and go on with --resume",
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def check_nodes(self, hardware: Hardware, jobs: int) -> None:
        """Refuse, before anything is prepared, what the cluster has no room for, and nodes with other packages."""
        self._cluster.check_room(jobs, "GPU" if hardware.wants_gpu else "CPU")
        self._cluster.check_packages("torch", "lightning", "scikit-learn")

    def _check_files(self, recipe: Recipe, manifest: Path) -> None:
        """Refuse a node on which every trial would fail, or hear less than the others."""
        self._cluster.check_shared(
            manifest.parent, next_step="Give an --output in a folder that all nodes share under the same path"
        )
        seen = partial(_tracks_seen, manifest)
        here = seen()
        for node, there in self._cluster.ask_nodes(seen).items():
            if there != here:
                raise UsageError(
                    f"the node {node.name} sees {there} tracks of the manifest, and this machine {here}",
                    valid="The same tracks under the same paths on every node",
                    next_step="Keep them in a folder that all nodes share",
                )
        self._cluster.ask_nodes(partial(_find_weights, recipe))


class _Draws(Searcher):  # type: ignore[misc]
    """Gives Tune the search's trials."""

    def __init__(self, source: TrialSource, first: TrialJob, called_from: str) -> None:
        super().__init__()
        self._source = source
        self._first: TrialJob | None = first
        self._called_from = called_from

    def suggest(self, trial_id: str) -> Any:
        """The next trial, which Tune is to know by `trial_id`."""
        job, self._first = self._first or self._source.next_job(), None
        if job is None:
            return Searcher.FINISHED
        job = replace(job, manifest=job.manifest.absolute(), folder=job.folder.absolute())
        return {"job": job, "called_from": self._called_from}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: `_Ends` knows the reason too."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study keeps what there is to keep."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""


class _Judges(FIFOScheduler):  # type: ignore[misc]
    """Lets the search judge a trial after every step."""

    def __init__(self, source: TrialSource) -> None:
        super().__init__()
        self._source = source

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Say whether a trial shall go on."""
        judge = self._source.judge(trial.config["job"].number)
        return str(TrialScheduler.CONTINUE if judge(result["step"], result["value"]) else TrialScheduler.STOP)


class _Ends(tune.Callback):  # type: ignore[misc]
    """Gives the results back, and tells of processes that were lost."""

    def __init__(self, source: TrialSource, report: Report) -> None:
        self._source = source
        self._report = report

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial came to its end, or was stopped by the judge: then its last word is a step's."""
        last = trial.last_result
        result = TrialResult("pruned")
        if "state" in last:
            result = TrialResult(last["state"], last["value"], last["reason"])
        self._source.end(trial.config["job"].number, result)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial lost its process, and will go on in another one."""
        self._report(f"trial {trial.config['job'].number} lost its process or its node, and is run again")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial is given up."""
        reason = str(trial.get_error() or "no reason is known").strip().splitlines()[-1]
        lost = f"its process died {MOST_LOSSES + 1} times, at last of: {reason}"
        self._source.end(trial.config["job"].number, TrialResult("failed", reason=lost))


class _Trial(tune.Trainable):  # type: ignore[misc]
    """A process of a node, which runs one trial after another; one step lasts until the judge is asked again.

    The trial runs in a thread of its own, for Tune calls and a training cannot pause.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take a trial."""
        enter_folder(config["called_from"])
        self._job: TrialJob = config["job"]
        self._thread = ThreadPoolExecutor(1)
        self._end: Future[TrialResult] | None = None
        self._said: SimpleQueue[tuple[int, float] | Future[TrialResult]] = SimpleQueue()
        self._verdicts: SimpleQueue[bool] = SimpleQueue()

    def step(self) -> dict[str, Any]:
        """Go on until there is something to say."""
        if self._end is None:
            self._end = self._thread.submit(_run, self._job, self._judge)
            self._end.add_done_callback(self._said.put)
        else:
            self._verdicts.put(True)  # Tune would not call otherwise

        said = self._said.get()
        if isinstance(said, Future):
            return {"done": True, **asdict(said.result())}
        step, value = said
        return {"step": step, "value": value}

    def cleanup(self) -> None:
        """End a trial that the judge has stopped: it writes so into its run."""
        self._verdicts.put(False)
        self._thread.shutdown()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another trial."""
        self.cleanup()
        self.setup(new_config)
        return True

    def _judge(self, step: int, value: float) -> bool:
        self._said.put((step, value))
        return self._verdicts.get()


def _run(job: TrialJob, judge: Judge) -> TrialResult:
    """Run a trial; a process that a killed command left in its folder ends soon, and is waited for."""
    with one_thread_each():
        if job.folder.is_dir():
            with folder_lock(job.folder, "training", wait_s=_LEFT_BEHIND_S):
                pass
        return run_trial(job, judge)


def _tracks_seen(manifest: Path) -> str:
    """Count the tracks of a manifest that are there where it is called, of 100 at most: `36 of 36`."""
    tracks = read_manifest(manifest).tracks
    asked = tracks[:: -(-len(tracks) // _TRACKS_ASKED)]
    return f"{sum(track.path.is_file() for track in asked)} of {len(asked)}"


def _find_weights(recipe: Recipe) -> str:
    """Find the weights that the recipe begins with where it is called, or fetch them."""
    find_weights_first(recipe)
    return "found"
