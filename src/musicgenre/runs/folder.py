"""The run folder: everything that one training leaves behind and that repeats it."""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre import __version__
from musicgenre._files import parsed_json, write_text_atomic
from musicgenre.data.store import PartView
from musicgenre.errors import RunError, UsageError

FORMAT_VERSION = 1
METRICS = (
    "epoch",
    "train_loss",
    "validation_loss",
    "train_accuracy",
    "validation_accuracy",
    "validation_roc_auc",
    "validation_pr_auc",
    "seconds",
    "waiting_share",
)
_PACKAGES = ("torch", "lightning", "numpy", "scipy", "scikit-learn", "librosa", "audiomentations", "soundfile", "soxr")


class RunFolder:
    """Names and writers of a run's files.

    Parameters
    ----------
    folder : Path
        Where it lies.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.description = folder / "run.json"
        self.recipe = folder / "recipe.yaml"
        self.manifest = folder / "manifest.csv"
        self.normalisation = folder / "normalisation.json"
        self.weights = folder / "model.safetensors"
        self.logs = folder / "logs"
        self.metrics = self.logs / "metrics.csv"
        self.resume_state = folder / "resume.ckpt"

    def predictions(self, part: str) -> Path:
        """Path of the predictions of a part."""
        return self.folder / f"predictions_{part}.csv"

    @property
    def status(self) -> str | None:
        """``running``, ``finished``, ``failed``, ``interrupted``; ``None`` where there is no run."""
        return str(read_description(self.folder)["status"]) if self.description.is_file() else None

    def begin(self, facts: Mapping[str, Any], recipe_yaml: str, normalisation: Mapping[str, Any]) -> None:
        """Write what is known before the first epoch."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)
        write_text_atomic(self.recipe, recipe_yaml)
        write_text_atomic(self.normalisation, _json(normalisation))
        self._describe({**facts, "status": "running", "started": _now(), "finished": None})

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Mark the run as whole."""
        self._describe({**read_description(self.folder), **facts, "status": "finished", "finished": _now()})
        self.resume_state.unlink(missing_ok=True)  # last: who is stopped in between does not train all over again

    def stop(self, status: str, reason: str) -> None:
        """Mark the run as failed or interrupted."""
        if self.description.is_file():
            known = read_description(self.folder)
            self._describe({**known, "status": status, "reason": reason, "finished": _now()})

    def write_metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write the learning curves, one row an epoch; what was not measured stays empty."""
        lines = [[_number(row.get(name)) for name in METRICS] for row in rows]
        write_text_atomic(self.metrics, csv_text([list(METRICS), *lines]))

    def read_metrics(self, name: str) -> list[float]:
        """Read one column of the learning curves."""
        with self.metrics.open(encoding="utf-8", newline="") as stream:
            return [float(row[name]) for row in csv.DictReader(stream)]

    def write_predictions(self, part: str, rows: PartView, scores: NDArray[np.floating[Any]]) -> None:
        """Write probabilities (n_rows, n_labels), one line a segment, with what is true of it."""
        head, truths = _truths(rows)
        table = [["track_id", "start_s", *head, *(f"score_{name}" for name in rows.label_names)]]
        for track_id, start_s, truth, row in zip(rows.track_ids, rows.starts_s, truths, scores, strict=True):
            table.append([str(track_id), f"{start_s:.6g}", *truth, *(f"{score:.8g}" for score in row)])
        write_text_atomic(self.predictions(part), csv_text(table))

    def _describe(self, facts: Mapping[str, Any]) -> None:
        write_text_atomic(self.description, _json({"format_version": FORMAT_VERSION, **facts}))


def _truths(rows: PartView) -> tuple[list[str], list[list[str]]]:
    """Columns that hold what is true, and their cells row by row: a label; tags and unknown ones; or degrees."""
    names = rows.label_names
    if rows.tags is None:
        return ["label"], [[names[label]] for label in rows.labels]
    targets = rows.targets()
    if rows.tags.soft:
        return (
            [f"target_{name}" for name in names],
            [["" if np.isnan(value) else f"{value:.6g}" for value in row] for row in targets],
        )
    cells = [(row == 1.0, np.isnan(row)) for row in targets]
    return ["labels", "unknown"], [[_joined(names, present), _joined(names, unknown)] for present, unknown in cells]


def _joined(names: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    return ";".join(name for name, wanted in zip(names, chosen, strict=True) if wanted)


def read_description(folder: Path) -> dict[str, Any]:
    """Read ``run.json``.

    Raises
    ------
    RunError
        If it is missing, damaged or from a newer version.
    """
    path = folder / "run.json"
    try:
        content = parsed_json(path.read_text(encoding="utf-8"))
        written = int(content["format_version"])
    except FileNotFoundError as error:
        raise RunError(f"{folder} is no run folder: it has no run.json", next_step="Train into it first") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error})", next_step="Train this run again") from error
    if written > FORMAT_VERSION:
        raise RunError(
            f"{path} has format version {written}, written by a newer musicgenre",
            valid=f"up to {FORMAT_VERSION}",
            next_step="Update with: pip install --upgrade musicgenre",
        )
    return dict(content)


def write_group(folder: Path, children: Sequence[str], facts: Mapping[str, Any]) -> None:
    """Write ``group.json``, which lists the runs of several seeds and folds."""
    content = {"format_version": FORMAT_VERSION, **facts, "children": list(children)}
    write_text_atomic(folder / "group.json", _json(content))


def write_study(folder: Path, variants: Sequence[str], recipe: str) -> None:
    """Write ``study.json``, which lists runs of different recipes that belong together."""
    content = {"format_version": FORMAT_VERSION, "recipe": recipe, "children": list(variants)}
    write_text_atomic(folder / "study.json", _json(content))


def free_folder(wanted: Path) -> Path:
    """Return ``wanted``, or the first of ``wanted-2``, ``wanted-3`` ... that does not exist."""
    candidate, number = wanted, 1
    while candidate.exists():
        number += 1
        candidate = wanted.with_name(f"{wanted.name}-{number}")
    return candidate


def check_output(folder: Path, resume: bool | None) -> None:
    """Refuse to write over anything that is not to be resumed; ``None`` where nothing can be."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", next_step="Give another --output")
    if not resume and folder.is_dir() and any(folder.iterdir()):
        raise UsageError(
            f"the folder {folder} is not empty",
            next_step="Give another --output"
            if resume is None
            else "Go on with what is in it by --resume, or give another --output",
        )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    found = {"musicgenre": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def csv_text(rows: Sequence[Sequence[str]]) -> str:
    """Rows as CSV with plain newlines."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
