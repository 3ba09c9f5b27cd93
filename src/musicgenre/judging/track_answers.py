"""What a model said of every other track, as a CSV: a row a track and model, and a row for each that was not heard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import write_text_atomic
from musicgenre.data.manifest import Track
from musicgenre.evaluation.evaluate import TagAnswers
from musicgenre.runs.predictions import Predictions, csv_text

COLUMNS = ("track_id", "path", "model", "label", "answer", "confidence", "right", "unsure", "reason")
"""In front of a column `score_LABEL` a label; of tags, `label` and `answer` hold all of them, with `;` between."""


def write_track_answers(
    path: Path,
    tracks: Sequence[Track],
    models: Sequence[Predictions | TagAnswers],
    unsure: Sequence[frozenset[str]],
    failures: Mapping[str, str],
) -> None:
    """Write what was said of every track, in the order of the tracks.

    Parameters
    ----------
    path : Path
        The CSV; what is there is replaced.
    tracks : sequence of Track
        All that were to be heard.
    models : sequence of Predictions or of TagAnswers
        Answers to tracks, one entry a model.
    unsure : sequence of frozenset of str
        Of each model the tracks that it would rather not name.
    failures : mapping of str to str
        Tracks that could not be heard, and why.
    """
    rows: dict[str, list[list[str]]] = {track.track_id: [] for track in tracks}
    labels: tuple[str, ...] = ()
    for number, (model, would_not_name) in enumerate(zip(models, unsure, strict=True)):
        said = model.tracks if isinstance(model, TagAnswers) else model
        labels = said.labels
        for row, track_id in enumerate(said.track_ids):
            if isinstance(model, TagAnswers):
                is_true, is_said = model.presence[row] == 1.0, model.named[row]
                cells = [_joined(labels, is_true), _joined(labels, is_said), "", "", ""]
            else:
                true, answer = labels[int(model.truth[row])], labels[int(model.predicted[row])]
                cells = [true, answer, f"{model.scores[row].max():.6g}", _yes_or_no(true == answer)]
                cells.append(_yes_or_no(track_id in would_not_name))
            scores = [f"{score:.6g}" for score in said.scores[row]]
            rows[track_id].append([str(number), *cells, "", *scores])

    table = [[*COLUMNS, *(f"score_{label}" for label in labels)]]
    nothing = [""] * (len(table[0]) - len(COLUMNS))
    for track in tracks:
        if track.track_id in failures:
            label = track.label or ";".join(track.labels)
            rows[track.track_id].append(["", label, "", "", "", "", failures[track.track_id], *nothing])
        table += [[track.track_id, str(track.path), *cells] for cells in rows[track.track_id]]
    write_text_atomic(path, csv_text(table))


def _joined(labels: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    return ";".join(label for label, is_chosen in zip(labels, chosen, strict=True) if is_chosen)


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"
