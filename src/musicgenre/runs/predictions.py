"""Predictions: one row a segment, with its track, start, true label and scores; and segments scored together.

The CSV has the columns ``track_id, start_s, label, score_<label>, ...``; scores are probabilities.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import write_text_atomic
from musicgenre.errors import RunError, UsageError
from musicgenre.models.pooling import POOLINGS, Pooling, pool_scores

_FIRST_COLUMNS = ("track_id", "start_s", "label")
_PREFIX = "score_"
_SUM_TOLERANCE = 1e-3
"""What probabilities of float32 or float16 may lack to 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a model said about segments whose labels are known.

    Parameters
    ----------
    labels : tuple of str
        The k labels, in the order of the score columns.
    track_ids : tuple of str
        The track of each of the n rows.
    starts_s : ndarray of float, shape (n,)
        Where each segment starts in its track, in seconds.
    truth : ndarray of int, shape (n,)
        Index of the true label.
    scores : ndarray of float, shape (n, k)
        Probabilities.
    """

    labels: tuple[str, ...]
    track_ids: tuple[str, ...]
    starts_s: NDArray[np.float64]
    truth: NDArray[np.intp]
    scores: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Check that shapes agree and that no score is NaN."""
        n = len(self.track_ids)
        if self.scores.shape != (n, len(self.labels)) or self.truth.shape != (n,) or self.starts_s.shape != (n,):
            raise RunError(
                f"{n} track ids, {self.truth.shape} labels and {self.scores.shape} scores do not fit together",
                valid=f"n rows and {len(self.labels)} scores in each",
            )
        if not np.isfinite(self.scores).all():
            raise RunError(
                "predictions hold scores that are not finite",
                next_step="The training diverged: lower its learning rate and train again",
            )

    def __len__(self) -> int:
        return len(self.track_ids)

    @property
    def predicted(self) -> NDArray[np.intp]:
        """Index of the best label of each row, shape (n,)."""
        return np.asarray(np.argmax(self.scores, axis=1), dtype=np.intp)

    @property
    def n_tracks(self) -> int:
        """Number of different tracks."""
        return len(set(self.track_ids))

    def by_track(self, how: Pooling = "mean") -> Predictions:
        """Let the segments of each track score together; one row a track, in order of first appearance.

        Parameters
        ----------
        how : {"mean", "max", "vote"}
            Mean of the probabilities; their maximum, scaled to a sum of 1; or the share of segments that voted for
            the label (equal votes are decided by the mean).
        """
        if how not in POOLINGS:
            raise UsageError(f"segments cannot score together by {how!r}", valid=f"one of {', '.join(POOLINGS)}")
        first: dict[str, int] = {}
        rows: dict[str, list[int]] = {}
        for row, track_id in enumerate(self.track_ids):
            first.setdefault(track_id, row)
            rows.setdefault(track_id, []).append(row)
        self._check_one_label_a_track(rows)
        chosen = np.array(list(first.values()), dtype=np.intp)
        together = [pool_scores(self.scores[members], how) for members in rows.values()]
        return Predictions(
            labels=self.labels,
            track_ids=tuple(first),
            starts_s=np.zeros(len(first)),
            truth=self.truth[chosen],
            scores=np.stack(together) if together else np.zeros((0, len(self.labels))),
        )

    def _check_one_label_a_track(self, rows: dict[str, list[int]]) -> None:
        for track_id, members in rows.items():
            if (self.truth[members] != self.truth[members[0]]).any():
                raise RunError(f"track {track_id!r} has two different labels in these predictions")


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """Join predictions over the same labels, as from the folds of one k-fold run."""
    if not parts:
        raise RunError("there are no predictions to join")
    labels = parts[0].labels
    for part in parts[1:]:
        if part.labels != labels:
            raise RunError(f"predictions over different labels: {', '.join(labels)} against {', '.join(part.labels)}")
    return Predictions(
        labels=labels,
        track_ids=tuple(track_id for part in parts for track_id in part.track_ids),
        starts_s=np.concatenate([part.starts_s for part in parts]),
        truth=np.concatenate([part.truth for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
    )


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write predictions as CSV, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_FIRST_COLUMNS, *(_PREFIX + label for label in predictions.labels)])
    for row, track_id in enumerate(predictions.track_ids):
        label = predictions.labels[int(predictions.truth[row])]
        scores = (f"{score:.8g}" for score in predictions.scores[row])
        writer.writerow([track_id, f"{predictions.starts_s[row]:.6g}", label, *scores])
    write_text_atomic(path, text.getvalue())


def read_predictions(path: Path) -> Predictions:
    """Read predictions from CSV.

    Raises
    ------
    RunError
        The file is missing, or damaged in a row and column that the message names.
    """
    if not path.is_file():
        raise RunError(f"there are no predictions at {path}", next_step="Let the training finish, then evaluate")
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path} is damaged ({error})", next_step="Train this run again") from error
    labels = _labels_of(rows[0] if rows else [], path)
    return _parse(rows[1:], labels, path)


def _labels_of(header: list[str], path: Path) -> tuple[str, ...]:
    names = header[len(_FIRST_COLUMNS) :]
    if (
        tuple(header[: len(_FIRST_COLUMNS)]) != _FIRST_COLUMNS
        or not names
        or not all(name.startswith(_PREFIX) for name in names)
        or len(set(names)) != len(names)
    ):
        raise RunError(
            f"{path} has the columns {', '.join(header) or '(none)'}",
            valid="track_id, start_s, label, and one column score_<label> a label",
        )
    return tuple(name.removeprefix(_PREFIX) for name in names)


def _parse(rows: list[list[str]], labels: tuple[str, ...], path: Path) -> Predictions:
    index = {label: position for position, label in enumerate(labels)}
    truth, starts_s, scores = [], [], []
    for number, row in _numbered(rows, len(_FIRST_COLUMNS) + len(labels), path):
        if row[2] not in index:
            raise RunError(f"{path}, row {number}: unknown label {row[2]!r}", valid=f"one of {', '.join(labels)}")
        truth.append(index[row[2]])
        try:
            starts_s.append(float(row[1]))
            scores.append([float(cell) for cell in row[3:]])
        except ValueError as error:
            raise RunError(f"{path}, row {number}: a cell is not a number ({error})") from error
    read = Predictions(
        labels=labels,
        track_ids=tuple(row[0] for row in rows),
        starts_s=np.array(starts_s, dtype=np.float64),
        truth=np.array(truth, dtype=np.intp),
        scores=np.array(scores, dtype=np.float64).reshape(len(rows), len(labels)),
    )
    _check_probabilities(read.scores, path)
    return read


def _check_probabilities(scores: NDArray[np.float64], path: Path) -> None:
    wrong = (scores < 0).any(axis=1) | (np.abs(scores.sum(axis=1) - 1.0) > _SUM_TOLERANCE)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        shown = ", ".join(f"{score:.4g}" for score in scores[row])
        raise RunError(
            f"{path}, row {row + 2}: the scores {shown} are no probabilities",
            valid="from 0 to 1, with sum 1",
            next_step="Train this run again",
        )


def _numbered(rows: list[list[str]], width: int, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Give rows with their numbers as a spreadsheet shows them."""
    for number, row in enumerate(rows, start=2):
        if len(row) != width:
            raise RunError(f"{path}, row {number} has {len(row)} cells", valid=f"{width} cells")
        yield number, row
