"""Predictions: one row per segment, with its track, start, truth and scores; and segments pooled by track.

Labels and tags share one CSV format: `track_id, start_s`, what is true, and a column `score_<label>` a label. What is
true stands in one of three ways:

- `label`: the one label of the row;
- `labels, unknown`: the tags that are present, and those whose value is not known, joined by `;`;
- `target_<tag>, ...`: degrees from 0 to 1, as the answers of another model; empty where unknown.

Scores are probabilities.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import write_text_atomic
from musicgenre._text import shortened
from musicgenre.errors import RunError, UsageError
from musicgenre.models.pooling import POOLINGS, TAG_POOLINGS, Pooling, pool_scores, pool_tag_scores

Float64 = NDArray[np.float64]

_FIRST = ("track_id", "start_s")
_LABEL = ("label",)
_TAGS = ("labels", "unknown")
_TARGET, _SCORE = "target_", "score_"

_TOLERANCE = 1e-3
"""What probabilities of float32 or float16 may lack to 1, or pass it by."""

_N_SHOWN = 6
"""So many columns, or scores, are named in a message."""


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """What predictions of labels and of tags share."""

    labels: tuple[str, ...]
    track_ids: tuple[str, ...]
    starts_s: Float64
    truth: NDArray[Any]
    scores: Float64

    def __len__(self) -> int:
        return len(self.track_ids)

    @property
    def n_tracks(self) -> int:
        """Number of different tracks."""
        return len(set(self.track_ids))

    def _check(self, truth_shape: tuple[int, ...], truths: str) -> None:
        """Check that shapes agree and that no score is NaN."""
        n, k = len(self.track_ids), len(self.labels)
        if self.scores.shape != (n, k) or self.truth.shape != truth_shape or self.starts_s.shape != (n,):
            raise RunError(
                f"{n} track ids, {self.truth.shape} {truths} and {self.scores.shape} scores do not fit together",
                valid=f"n rows and {k} scores in each",
            )
        if not np.isfinite(self.scores).all():
            raise RunError(
                "predictions hold scores that are not finite",
                next_step="The training diverged: lower its learning rate and train again",
            )

    def _by_track(self, pool: Callable[[Float64], Float64], torn: str) -> Self:
        """One row per track, its segments' scores, (n_segments, k), pooled; `torn` is two truths of one track."""
        rows: dict[str, list[int]] = {}  # dicts keep the order in which tracks first appear
        for row, track_id in enumerate(self.track_ids):
            rows.setdefault(track_id, []).append(row)

        for track_id, members in rows.items():
            truth = self.truth[members]
            if not np.array_equal(truth, np.broadcast_to(truth[0], truth.shape), equal_nan=True):
                raise RunError(f"track {track_id!r} has {torn} in these predictions")

        # what is true of the first segment is true of all, and a track has no start
        first = np.array([members[0] for members in rows.values()], dtype=np.intp)
        together = [pool(self.scores[members]) for members in rows.values()]
        return replace(
            self,
            track_ids=tuple(rows),
            starts_s=np.zeros(len(rows)),
            truth=self.truth[first],
            scores=np.array(together, dtype=np.float64).reshape(-1, len(self.labels)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Predictions(_Rows):
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

    def __post_init__(self) -> None:
        """Check that shapes agree and that no score is NaN."""
        self._check((len(self.track_ids),), "labels")

    @property
    def predicted(self) -> NDArray[np.intp]:
        """Index of the best label of each row, shape (n,)."""
        return np.asarray(np.argmax(self.scores, axis=1), dtype=np.intp)

    def by_track(self, pooling: Pooling = "mean") -> Self:
        """Let the segments of each track score together; one row per track, in order of first appearance.

        Parameters
        ----------
        pooling : {"mean", "max", "vote"}
            Mean of the probabilities; their maximum, scaled to a sum of 1; or the share of segments that voted for
            the label (equal votes are decided by the mean).

        Raises
        ------
        UsageError
            There is no such pooling.
        RunError
            A track has two different labels.
        """
        if pooling not in POOLINGS:
            raise UsageError(f"segments cannot score together by {pooling!r}", valid=f"one of {', '.join(POOLINGS)}")
        return self._by_track(lambda scores: pool_scores(scores, pooling), "two different labels")


@dataclass(frozen=True, slots=True, eq=False)
class TagPredictions(_Rows):
    """What a model said about the tags of segments.

    Parameters
    ----------
    labels : tuple of str
        The k tags, in the order of the score columns.
    track_ids : tuple of str
        The track of each of the n rows.
    starts_s : ndarray of float, shape (n,)
        Where each segment starts in its track, in seconds.
    truth : ndarray of float, shape (n, k)
        From 0 to 1; NaN where unknown.
    scores : ndarray of float, shape (n, k)
        Probabilities.
    soft : bool
        Whether `truth` holds degrees, as the answers of another model.
    """

    soft: bool = False

    def __post_init__(self) -> None:
        """Check that shapes agree and that no score is NaN."""
        self._check((len(self.track_ids), len(self.labels)), "targets")

    def by_track(self, pooling: Pooling = "mean") -> Self:
        """Let the segments of each track score together; one row per track, in order of first appearance.

        Parameters
        ----------
        pooling : {"mean", "max"}
            Mean or maximum of every tag's probability.

        Raises
        ------
        UsageError
            There is no such pooling of tags.
        RunError
            A track has different tags in two rows.
        """
        if pooling not in TAG_POOLINGS:
            raise UsageError(
                f"segments cannot score tags together by {pooling!r}", valid=f"one of {', '.join(TAG_POOLINGS)}"
            )
        return self._by_track(lambda scores: pool_tag_scores(scores, pooling), "different tags")

    def presence(self) -> Float64:
        """What is present, as 1 or 0, and NaN where unknown; shape (n, k).

        Of soft targets the `n_top_tags` highest of a row count as present.
        """
        if not self.soft:
            return self.truth

        ranked = np.argsort(-np.nan_to_num(self.truth, nan=-1.0), axis=1, kind="stable")  # what is unknown comes last
        top = np.zeros_like(self.truth)
        np.put_along_axis(top, ranked[:, : n_top_tags(len(self.labels))], 1.0, axis=1)
        return np.where(np.isnan(self.truth), np.nan, top)


def n_top_tags(n_tags: int) -> int:
    """How many of a teacher's tags of one track count as present, where soft targets are held against a yes or no.

    Five, and never more than a quarter of the tags (yet one at least).
    """
    return min(5, max(1, n_tags // 4))


_Kind = TypeVar("_Kind", Predictions, TagPredictions)


def concatenate(parts: Sequence[_Kind]) -> _Kind:
    """Join predictions of the same labels or tags, as from the folds of one k-fold run.

    Raises
    ------
    RunError
        There are none, or they are of different labels or tags.
    """
    if not parts:
        raise RunError("there are no predictions to join")

    first = parts[0]
    what = "tags" if isinstance(first, TagPredictions) else "labels"
    for part in parts[1:]:
        # degrees and yes-or-no cannot stand in one column of truth
        if part.labels != first.labels or getattr(part, "soft", None) != getattr(first, "soft", None):
            raise RunError(
                f"predictions of different {what}: {', '.join(first.labels)} against {', '.join(part.labels)}"
            )

    return replace(
        first,
        track_ids=tuple(track_id for part in parts for track_id in part.track_ids),
        starts_s=np.concatenate([part.starts_s for part in parts]),
        truth=np.concatenate([part.truth for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
    )


def write_predictions(predictions: Predictions | TagPredictions, path: Path) -> None:
    """Write predictions as CSV, atomically."""
    labels = predictions.labels
    is_tagging = isinstance(predictions, TagPredictions)
    is_soft = isinstance(predictions, TagPredictions) and predictions.soft
    truth_columns = _truth_columns(labels, is_tagging=is_tagging, is_soft=is_soft)
    table = [[*_FIRST, *truth_columns, *(_SCORE + label for label in labels)]]

    for row, track_id in enumerate(predictions.track_ids):
        truth = predictions.truth[row]
        if not is_tagging:
            cells = [labels[int(truth)]]
        elif is_soft:
            cells = ["" if np.isnan(degree) else f"{degree:.6g}" for degree in truth]
        else:
            cells = [_joined(labels, truth == 1.0), _joined(labels, np.isnan(truth))]

        # more digits than a float32 has
        scores = [f"{score:.8g}" for score in predictions.scores[row]]
        table.append([track_id, f"{predictions.starts_s[row]:.6g}", *cells, *scores])
    write_text_atomic(path, csv_text(table))


def read_predictions(path: Path) -> Predictions:
    """Read predictions of labels from CSV.

    Raises
    ------
    RunError
        The file is missing, holds tags, or is damaged in a row and column that the message names.
    """
    table = _read_table(path, tagging=False)

    index = {label: position for position, label in enumerate(table.labels)}
    truth = []
    for number, (label,) in enumerate(table.truths, start=2):
        if label not in index:
            raise RunError(f"{path}, row {number}: unknown label {label!r}", valid=f"one of {', '.join(table.labels)}")
        truth.append(index[label])

    predictions = Predictions(
        table.labels, table.track_ids, table.starts_s, np.array(truth, dtype=np.intp), table.scores
    )
    wrong_sum = np.asarray(np.abs(predictions.scores.sum(axis=1) - 1.0) > _TOLERANCE)
    _check_probabilities(predictions, wrong_sum, "from 0 to 1, with sum 1", path)
    return predictions


def read_tag_predictions(path: Path) -> TagPredictions:
    """Read predictions of tags from CSV.

    Raises
    ------
    RunError
        The file is missing, holds a single label a row, or is damaged in a row that the message names.
    """
    table = _read_table(path, tagging=True)
    tags = table.labels
    column_of = {tag: column for column, tag in enumerate(tags)}

    truth = np.zeros((len(table.truths), len(tags)))
    for row, cells in enumerate(table.truths):
        number = row + 2
        if table.soft:
            truth[row] = [_number(cell, path, number) if cell else np.nan for cell in cells]
            continue

        for cell, value in zip(cells, (1.0, np.nan), strict=True):  # the tags that are there, and the unknown ones
            for tag in filter(None, cell.split(";")):
                if tag not in column_of:
                    raise RunError(f"{path}, row {number}: unknown tag {tag!r}", valid=f"one of {', '.join(tags)}")
                truth[row, column_of[tag]] = value

    predictions = TagPredictions(tags, table.track_ids, table.starts_s, truth, table.scores, table.soft)
    over_1 = np.asarray((predictions.scores > 1.0 + _TOLERANCE).any(axis=1))
    _check_probabilities(predictions, over_1, "from 0 to 1", path)
    return predictions


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Rows as CSV with plain newlines."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


class _Table(NamedTuple):
    """A file of predictions before it is known what its cells of truth mean."""

    labels: tuple[str, ...]
    soft: bool
    track_ids: tuple[str, ...]
    starts_s: Float64  # (n,)
    truths: list[list[str]]
    scores: Float64  # (n, k)


def _read_table(path: Path, *, tagging: bool) -> _Table:
    """Read a file of predictions whose columns are those of labels, or of tags."""
    if not path.is_file():
        raise RunError(f"there are no predictions at {path}", next_step="Let the training finish, then evaluate")
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            header, *rows = list(csv.reader(stream)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path} is damaged ({error})", next_step="Train this run again") from error

    score_columns = [name for name in header if name.startswith(_SCORE)]
    labels = tuple(name.removeprefix(_SCORE) for name in score_columns)
    soft = tagging and tuple(header[2:4]) != _TAGS
    truth_columns = _truth_columns(labels, is_tagging=tagging, is_soft=soft)
    # the same label twice would leave open which of its columns counts
    if header != [*_FIRST, *truth_columns, *score_columns] or not 0 < len(labels) == len(set(labels)):
        valid = "track_id, start_s, label, and one column score_<label> a label"
        if tagging:
            valid = "track_id, start_s, labels and unknown (or a column target_<tag> a tag), and score_<tag> a tag"
        raise RunError(f"{path} has the columns {shortened(header, _N_SHOWN) or '(none)'}", valid=valid)

    starts_s, scores = [], []
    for number, row in enumerate(rows, start=2):  # as a spreadsheet counts them
        if len(row) != len(header):
            raise RunError(f"{path}, row {number} has {len(row)} cells", valid=f"{len(header)} cells")
        starts_s.append(_number(row[1], path, number))
        scores.append([_number(cell, path, number) for cell in row[-len(labels) :]])

    return _Table(
        labels=labels,
        soft=soft,
        track_ids=tuple(row[0] for row in rows),
        starts_s=np.array(starts_s, dtype=np.float64),
        truths=[row[len(_FIRST) : -len(labels)] for row in rows],
        scores=np.array(scores, dtype=np.float64).reshape(len(rows), len(labels)),
    )


def _truth_columns(labels: Sequence[str], *, is_tagging: bool, is_soft: bool) -> list[str]:
    """Names of the columns that say what is true."""
    if is_soft:
        return [_TARGET + tag for tag in labels]
    return list(_TAGS if is_tagging else _LABEL)


def _check_probabilities(
    predictions: Predictions | TagPredictions, wrong: NDArray[np.bool_], valid: str, path: Path
) -> None:
    """Refuse rows that are wrong, shape (n,), or hold a score below 0; the message names the first."""
    wrong = wrong | (predictions.scores < 0).any(axis=1)
    if not wrong.any():
        return

    row = int(np.flatnonzero(wrong)[0])
    # what lies outside stands first, so that a long list of tags cannot hide it
    scores = sorted(predictions.scores[row], key=lambda score: 0.0 <= score <= 1.0)
    shown = shortened([f"{score:.4g}" for score in scores], _N_SHOWN)
    raise RunError(
        f"{path}, row {row + 2}: the scores {shown} are no probabilities",
        valid=valid,
        next_step="Train this run again",
    )


def _number(cell: str, path: Path, number: int) -> float:
    """The number in a cell of row `number`."""
    try:
        return float(cell)
    except ValueError as error:
        raise RunError(f"{path}, row {number}: a cell is not a number ({error})") from error


def _joined(tags: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    return ";".join(tag for tag, wanted in zip(tags, chosen, strict=True) if wanted)
