"""Predictions of tags: one row a segment, with its track, start, what is true of every tag, and scores.

The CSV has the columns ``track_id, start_s, labels, unknown, score_<tag>, ...``: the tags that are present and those
whose value is not known, joined by ``;``. Where the targets were soft, ``target_<tag>`` columns stand in place of
``labels`` and ``unknown``; empty cells are unknown. Scores are probabilities.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import write_text_atomic
from musicgenre.errors import RunError, UsageError
from musicgenre.models.pooling import TAG_POOLINGS, Pooling, pool_tag_scores

_FIRST = ("track_id", "start_s")
_HARD = ("labels", "unknown")
_SOFT, _SCORE = "target_", "score_"

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TagPredictions:
    """What a model said about the tags of segments.

    Parameters
    ----------
    tags : tuple of str
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
        Whether ``truth`` holds degrees, as the answers of another model.
    """

    tags: tuple[str, ...]
    track_ids: tuple[str, ...]
    starts_s: Float64
    truth: Float64
    scores: Float64
    soft: bool = False

    def __post_init__(self) -> None:
        """Check that shapes agree and that no score is NaN."""
        n, k = len(self.track_ids), len(self.tags)
        if self.scores.shape != (n, k) or self.truth.shape != (n, k) or self.starts_s.shape != (n,):
            raise RunError(
                f"{n} track ids, {self.truth.shape} targets and {self.scores.shape} scores do not fit together",
                valid=f"n rows and {k} scores in each",
            )
        if not np.isfinite(self.scores).all():
            raise RunError(
                "predictions hold scores that are not finite",
                next_step="The training diverged: lower its learning rate and train again",
            )

    def __len__(self) -> int:
        return len(self.track_ids)

    @property
    def n_tracks(self) -> int:
        """Number of different tracks."""
        return len(set(self.track_ids))

    def by_track(self, how: Pooling = "mean") -> TagPredictions:
        """Let the segments of each track score together; one row a track, in order of first appearance.

        Parameters
        ----------
        how : {"mean", "max"}
            Mean or maximum of every tag's probability.
        """
        if how not in TAG_POOLINGS:
            raise UsageError(
                f"segments cannot score tags together by {how!r}", valid=f"one of {', '.join(TAG_POOLINGS)}"
            )
        rows: dict[str, list[int]] = {}
        for row, track_id in enumerate(self.track_ids):
            rows.setdefault(track_id, []).append(row)
        for track_id, members in rows.items():
            if not np.array_equal(self.truth[members], self.truth[members[:1] * len(members)], equal_nan=True):
                raise RunError(f"track {track_id!r} has different tags in these predictions")
        pooled = [pool_tag_scores(self.scores[members], how) for members in rows.values()]
        return replace(
            self,
            track_ids=tuple(rows),
            starts_s=np.zeros(len(rows)),
            truth=self.truth[[members[0] for members in rows.values()]].reshape(-1, len(self.tags)),
            scores=np.array(pooled, dtype=np.float64).reshape(-1, len(self.tags)),
        )

    def presence(self) -> Float64:
        """What is present, as 1 or 0, and NaN where unknown; shape (n, k).

        Of soft targets the :func:`n_top_tags` highest of a row count as present.
        """
        if not self.soft:
            return self.truth
        ranked = np.argsort(-np.nan_to_num(self.truth, nan=-1.0), axis=1, kind="stable")
        top = np.zeros_like(self.truth)
        np.put_along_axis(top, ranked[:, : n_top_tags(len(self.tags))], 1.0, axis=1)
        return np.where(np.isnan(self.truth), np.nan, top)


def n_top_tags(n_tags: int) -> int:
    """How many of a teacher's tags of one track count as present, where soft targets are held against a yes or no.

    Five, and never more than a quarter of the tags (yet one at least).
    """
    return min(5, max(1, n_tags // 4))


def concatenate_tags(parts: Sequence[TagPredictions]) -> TagPredictions:
    """Join predictions of the same tags, as from the folds of one k-fold run."""
    if not parts:
        raise RunError("there are no predictions to join")
    first = parts[0]
    for part in parts[1:]:
        if part.tags != first.tags or part.soft != first.soft:
            raise RunError(f"predictions of different tags: {', '.join(first.tags)} against {', '.join(part.tags)}")
    return replace(
        first,
        track_ids=tuple(track_id for part in parts for track_id in part.track_ids),
        starts_s=np.concatenate([part.starts_s for part in parts]),
        truth=np.concatenate([part.truth for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
    )


def write_tag_predictions(predictions: TagPredictions, path: Path) -> None:
    """Write predictions as CSV, atomically."""
    tags = predictions.tags
    head = [*(_SOFT + tag for tag in tags)] if predictions.soft else [*_HARD]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_FIRST, *head, *(_SCORE + tag for tag in tags)])
    rows = zip(predictions.track_ids, predictions.starts_s, predictions.truth, predictions.scores, strict=True)
    for track_id, start_s, truth, scores in rows:
        if predictions.soft:
            cells = ["" if np.isnan(value) else f"{value:.6g}" for value in truth]
        else:
            cells = [_joined(tags, truth == 1.0), _joined(tags, np.isnan(truth))]
        writer.writerow([track_id, f"{start_s:.6g}", *cells, *(f"{score:.8g}" for score in scores)])
    write_text_atomic(path, text.getvalue())


def read_tag_predictions(path: Path) -> TagPredictions:
    """Read predictions from CSV.

    Raises
    ------
    RunError
        The file is missing, holds a single label a row, or is damaged in a row that the message names.
    """
    if not path.is_file():
        raise RunError(f"there are no predictions at {path}", next_step="Let the training finish, then evaluate")
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            header, *rows = list(csv.reader(stream)) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path} is damaged ({error})", next_step="Train this run again") from error
    tags = tuple(name.removeprefix(_SCORE) for name in header if name.startswith(_SCORE))
    soft = tuple(header) == (*_FIRST, *(_SOFT + tag for tag in tags), *(_SCORE + tag for tag in tags))
    if not tags or not (soft or tuple(header) == (*_FIRST, *_HARD, *(_SCORE + tag for tag in tags))):
        raise RunError(
            f"{path} has the columns {', '.join(header[:6]) or '(none)'} ...",
            valid="track_id, start_s, labels and unknown (or a column target_<tag> a tag), and score_<tag> a tag",
        )
    parsed = [_parsed(row, number, header, tags, soft, path) for number, row in enumerate(rows, start=2)]
    shape = (len(rows), len(tags))
    return TagPredictions(
        tags=tags,
        track_ids=tuple(row[0] for row in rows),
        starts_s=np.array([start_s for start_s, _, _ in parsed], dtype=np.float64),
        truth=np.array([truth for _, truth, _ in parsed], dtype=np.float64).reshape(shape),
        scores=np.array([scores for _, _, scores in parsed], dtype=np.float64).reshape(shape),
        soft=soft,
    )


def _parsed(
    row: list[str], number: int, header: list[str], tags: tuple[str, ...], soft: bool, path: Path
) -> tuple[float, list[float], list[float]]:
    """One row as (start, truth, scores)."""
    if len(row) != len(header):
        raise RunError(f"{path}, row {number} has {len(row)} cells", valid=f"{len(header)} cells")
    try:
        scores = [float(cell) for cell in row[-len(tags) :]]
        if soft:
            truth = [float(cell) if cell else np.nan for cell in row[len(_FIRST) : -len(tags)]]
            return float(row[1]), truth, scores
        present, unknown = (set(cell.split(";")) - {""} for cell in row[2:4])
        if strange := sorted((present | unknown) - set(tags)):
            raise RunError(f"{path}, row {number}: unknown tag {strange[0]!r}", valid=f"one of {', '.join(tags)}")
        return float(row[1]), [np.nan if tag in unknown else float(tag in present) for tag in tags], scores
    except ValueError as error:
        raise RunError(f"{path}, row {number}: a cell is not a number ({error})") from error


def _joined(tags: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    return ";".join(tag for tag, wanted in zip(tags, chosen, strict=True) if wanted)
