"""One trial: a recipe trained into a run folder and scored, here or in a worker; Optuna is not known here."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from musicgenre._parallel import die_with_parent, one_thread_each
from musicgenre.data.manifest import read_manifest
from musicgenre.errors import MusicgenreError, RunError
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.evaluation.report import LabelReport
from musicgenre.runs.folder import RunFolder, open_run
from musicgenre.search.study import Objective, is_higher_better
from musicgenre.training.fit import Hardware
from musicgenre.training.recipes import Recipe
from musicgenre.training.train import train

Judge = Callable[[int, float], bool]
"""Takes (step, value so far); says whether the trial shall go on."""


@dataclass(frozen=True, slots=True)
class TrialJob:
    """What a trial does.

    Attributes
    ----------
    number : int
        Of the trial, from 0 on.
    recipe : Recipe
        With the values of this trial.
    manifest : Path
        Tracks without any of the test part: with a split, or with folds.
    folder : Path
        Of the run.
    objective : {"validation.accuracy", "validation.loss", "cv.accuracy"}
        What it is scored by.
    folds : int
        Folds of `cv.accuracy`.
    hardware : Hardware
        Where it is trained.
    """

    number: int
    recipe: Recipe
    manifest: Path
    folder: Path
    objective: Objective
    folds: int
    hardware: Hardware


@dataclass(frozen=True, slots=True)
class TrialResult:
    """How a trial ended.

    Attributes
    ----------
    state : {"finished", "pruned", "failed"}
        `pruned`: the judge stopped it.
    value : float or None
        Of the objective.
    reason : str
        Why it failed.
    """

    state: Literal["finished", "pruned", "failed"]
    value: float | None = None
    reason: str = ""


class TrialSource(Protocol):
    """What trials come from and go back to: the search, which alone knows Optuna."""

    def next_job(self) -> TrialJob | None:
        """Begin a trial; None where no more shall begin."""
        ...

    def judge(self, number: int) -> Judge:
        """Who says whether the trial of this number, which runs, shall go on."""
        ...

    def end(self, number: int, result: TrialResult) -> None:
        """Take the result of the trial of this number."""
        ...


TrialRunner = Callable[[TrialSource, int], None]
"""Runs the trials of a source, so many at a time, until it has no more."""


class _Stopped(Exception):  # noqa: N818  no error: the judge has seen enough
    """Raised out of a training that shall not go on."""


def run_trial(job: TrialJob, judge: Judge) -> TrialResult:
    """Train and score a trial; one that was interrupted goes on where it was.

    Parameters
    ----------
    job : TrialJob
        What it does.
    judge : callable
        Asked after every epoch of a network (by the validation part's segments), or after every fold.

    Returns
    -------
    TrialResult
        A training that fails is one; what concerns every trial is raised.
    """
    by_folds = job.objective == "cv.accuracy"
    scores: list[float] = []

    def fold_ended(folder: Path) -> None:
        if not by_folds:
            return
        scores.append(accuracy_of(folder, "test"))
        if len(scores) < job.folds and not judge(len(scores), float(np.mean(scores))):
            raise _Stopped

    def epoch_ended(doing: str, done: int, total: int) -> None:
        if by_folds or not doing.startswith("training "):
            return
        column = job.objective.replace(".", "_")
        values = RunFolder(job.folder).read_metrics(column)
        best = max(values) if is_higher_better(job.objective) else min(values)
        if done < total and not judge(done, best):
            raise _Stopped

    try:
        train(
            job.recipe,
            read_manifest(job.manifest),
            output=job.folder,
            folds=job.folds if by_folds else 0,
            resume=job.folder.is_dir(),
            keep_state=False,  # the winner is trained anew
            hardware=job.hardware,
            has_test=by_folds,
            progress=epoch_ended,
            on_run=fold_ended,
        )
        return TrialResult("finished", _value_of(job))
    except _Stopped:
        for path in sorted(job.folder.rglob("run.json")):
            if RunFolder(path.parent).status == "running":
                RunFolder(path.parent).stop("pruned", "other trials are better at this point")
        return TrialResult("pruned")
    except MusicgenreError as error:
        return TrialResult("failed", reason=str(error))


def accuracy_of(folder: Path, part: str) -> float:
    """Share of tracks named rightly, of a run or a group; the unit is the track.

    Raises
    ------
    RunError
        The run names tags.
    """
    report = evaluate(folder, part=part)
    if not isinstance(report, LabelReport):
        raise RunError(f"{folder} names tags, which have no accuracy", next_step="Search for validation.loss")
    return report.accuracy.value


def _value_of(job: TrialJob) -> float:
    """The objective, of a finished trial."""
    if job.objective == "cv.accuracy":
        return accuracy_of(job.folder, "test")
    if job.objective == "validation.accuracy":
        return accuracy_of(job.folder, "validation")
    run = open_run(job.folder)
    return RunFolder(job.folder).read_metrics("validation_loss")[int(run.info["best_epoch"])]


def run_trials_here(source: TrialSource, jobs: int) -> None:
    """Run trials on this machine: one after another in this process, or several in processes of their own.

    Parameters
    ----------
    source : TrialSource
        Where they come from.
    jobs : int
        Trials at a time.
    """
    if jobs == 1:
        while (job := source.next_job()) is not None:
            source.end(job.number, run_trial(job, source.judge(job.number)))
        return

    idle: list[_TrialWorker] = []
    busy: dict[_TrialWorker, int] = {}
    try:
        while True:
            while len(busy) < jobs and (job := source.next_job()) is not None:
                worker = idle.pop() if idle else _TrialWorker()
                worker.begin(job)
                busy[worker] = job.number
            if not busy:
                return

            ready = wait([worker.connection for worker in busy])
            for worker in [one for one in busy if one.connection in ready]:
                result = worker.answer(source.judge(busy[worker]))
                if result is None:
                    continue
                source.end(busy.pop(worker), result)
                if worker.is_alive:
                    idle.append(worker)
    finally:
        for worker in (*idle, *busy):
            worker.end()


class _TrialWorker:
    """A process that runs one trial after another, and asks here whether to go on.

    Computes on one thread. Ends with this process, however that ends.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # torch's threads do not bear being copied
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=False)
        with one_thread_each():
            self._process.start()
        theirs.close()

    def begin(self, job: TrialJob) -> None:
        """Hand a trial over."""
        self.connection.send(job)

    def answer(self, judge: Judge) -> TrialResult | None:
        """Take what has come over the connection: a question is answered (None), a result given back."""
        try:
            kind, value = self.connection.recv()
            if kind == "ended":
                assert isinstance(value, TrialResult)
                return value
            self.connection.send(judge(*value))
        except (EOFError, ConnectionError):
            self._process.join()
            return TrialResult("failed", reason=f"its process died (exit code {self._process.exitcode})")
        return None

    @property
    def is_alive(self) -> bool:
        """Whether it can take another trial."""
        return self._process.is_alive()

    def end(self) -> None:
        """End the process at once: a trial that it is at can be gone on with."""
        self.connection.close()
        self._process.kill()
        self._process.join()


def _serve(connection: Connection) -> None:
    """Run the trials that come over the line. It runs in a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, who ends us
    threading.Thread(target=die_with_parent, daemon=True).start()

    def judge(step: int, value: float) -> bool:
        connection.send(("step", (step, value)))
        answer: Any = connection.recv()
        return bool(answer)

    with suppress(EOFError, ConnectionError):  # the parent is done, or gone
        while True:
            job = connection.recv()
            connection.send(("ended", run_trial(job, judge)))
