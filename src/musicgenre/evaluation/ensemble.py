"""Ensembles: several finished runs that answer together, as a run like any other.

The members' segments score together first, so that models which cut tracks differently can meet: an ensemble has one
row a track. Weights and stacking are fitted to the members' validation tracks, fold by fold and seed by seed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre._files import naming, replacing_folder
from musicgenre._locks import file_lock
from musicgenre.data.manifest import Manifest, Track, write_manifest
from musicgenre.errors import UsageError
from musicgenre.evaluation.members import (
    MIXTURES,
    MixtureKind,
    aligned,
    check_members,
    check_unseen,
    fitted_mixture,
    open_members,
)
from musicgenre.evaluation.protocols import FITTED
from musicgenre.models.pooling import Mixture
from musicgenre.runs.folder import Run, RunFolder, check_output, timestamp, versions, write_group
from musicgenre.runs.predictions import Predictions, write_predictions

SYSTEMS = ("A8",)
"""Row code of ensembles."""

FEW_TRACKS = 50
"""Fewer validation tracks than these are worth a warning where something is fitted to them."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """What `ensemble` made.

    Parameters
    ----------
    folder : Path
        The run, or the group of runs.
    members : tuple of str
        Recipes of the members, in order.
    weights : tuple of tuple of float
        One entry per run: the weights of its members; empty for stacking.
    warnings : tuple of str
        What a reader must know.
    """

    folder: Path
    members: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    warnings: tuple[str, ...]

    def to_text(self) -> str:
        """Plain text: the weights of each member, and their spread over seeds and folds."""
        lines = []
        for number, member in enumerate(self.members):
            line = f"  {member}"
            own = [run[number] for run in self.weights]
            if own:
                line += f": weight {np.mean(own):.2f}"
            if len(own) > 1:
                line += f" ({min(own):.2f} to {max(own):.2f} over {len(own)} runs)"
            lines.append(line)
        return "\n".join(lines)


def ensemble(
    folders: Sequence[str | Path],
    output: str | Path,
    *,
    mixture: MixtureKind = "mean",
    name: str = "",
    command: str = "",
) -> Ensemble:
    """Let finished runs answer together and leave a run folder (or a group) as training does.

    Parameters
    ----------
    folders : sequence of str or Path
        Two runs or more, or groups of seeds and folds; all with the same labels, protocol and test tracks.
    output : str or Path
        A new or empty folder.
    mixture : {"mean", "weighted", "stacking"}
        Mean of the probabilities; weights fitted on the validation tracks; or a logistic regression fitted there.
    name : str, optional
        Stands where a recipe's name stands; `ensemble-MIXTURE` by default.
    command : str, optional
        What made it, for the record.

    Returns
    -------
    Ensemble

    Raises
    ------
    RunError
        The runs do not belong together, or one was trained on what another is tested on.
    UsageError
        Fewer than two runs, the same one twice, or an output folder that is not empty.
    """
    if mixture not in MIXTURES:
        raise UsageError(f"runs cannot answer together by {mixture!r}", valid=f"one of {', '.join(MIXTURES)}")
    groups = open_members([Path(folder) for folder in folders])
    output = Path(output)
    check_output(output, resume=None)
    title = name or f"ensemble-{mixture}"
    if not title.isprintable() or title.startswith(".") or {"/", "\\"} & set(title):
        raise UsageError(
            f"--name {name!r} cannot be a name",
            valid="printable characters, no slashes and no dot in front: run folder and exported file are called so",
        )

    # Everything is checked and fitted before the first file is written.
    answers = [_mix(members, mixture) for members in zip(*groups, strict=True)]
    root = Path(folders[0])
    children = [run.folder.relative_to(root).as_posix() for run in groups[0]]
    with file_lock(output, "'musicgenre ensemble'"), _whole_or_none(output) as temporary:
        check_output(output, resume=None)  # again: another ensemble may have been written meanwhile
        for one, child in zip(answers, children, strict=True):
            _write(one, temporary / child, title, mixture, command, _worse_than_alone(answers, mixture))
        if len(answers) > 1:
            write_group(temporary, children, {"recipe": title})

    warnings = []
    fewest = min(len(one.validation) for one in answers)
    if mixture in FITTED and fewest < FEW_TRACKS:
        warnings.append(f"{fewest} validation tracks are few to fit {mixture} on: compare it with --how mean")
    if worse := _worse_than_alone(answers, mixture):
        warnings.insert(0, worse)
    weights = [one.mixture.settings().get("weights") for one in answers]
    return Ensemble(
        folder=output,
        members=tuple(group[0].recipe for group in groups),
        weights=tuple(tuple(own) for own in weights if own),
        warnings=tuple(warnings),
    )


@contextmanager
def _whole_or_none(output: Path) -> Iterator[Path]:
    """Yield a folder beside `output` that takes its place at the end; what is relative to one fits both."""
    try:
        with naming(output), replacing_folder(output) as temporary:
            yield temporary
    except OSError as error:
        if str(error.filename2) != str(output):  # anything else than that it cannot take its place
            raise
        raise UsageError(
            f"the folder {output} cannot be written ({error.strerror})",
            valid="A folder that is new or empty, and stays so meanwhile",
            next_step="Give another --output",
        ) from error


@dataclass(frozen=True, slots=True)
class _Answers:
    """The answers of one ensemble: one seed, one fold.

    `n_right` counts the validation tracks that it names rightly without being fitted to them, `n_right_alone` those of
    each member.
    """

    members: tuple[Run, ...]
    test: Predictions
    validation: Predictions
    mixture: Mixture
    n_right: int
    n_right_alone: tuple[int, ...]


def _mix(members: tuple[Run, ...], kind: MixtureKind) -> _Answers:
    manifests = check_members(members)
    test, validation = aligned(members, "test"), aligned(members, "validation")
    check_unseen(test, "test", members, manifests)
    if kind in FITTED:
        check_unseen(validation, "validation", members, manifests)

    heard, truth = np.stack([part.scores for part in validation]), validation[0].truth
    group_of = {track.track_id: track.group for track in manifests[0].tracks}
    groups = [group_of.get(track_id) or f"track {track_id}" for track_id in validation[0].track_ids]
    mixture, unseen = fitted_mixture(kind, heard, truth, validation[0].labels, groups)

    # Fitted weights flatter the validation part: exporting asks which mixture it was before it calibrates.
    tested = np.stack([part.scores for part in test])
    return _Answers(
        members,
        replace(test[0], scores=mixture(tested)),
        replace(validation[0], scores=mixture(heard)),
        mixture,
        int((unseen.argmax(axis=1) == truth).sum()),
        tuple((heard.argmax(axis=2) == truth).sum(axis=1).tolist()),
    )


def _worse_than_alone(answers: Sequence[_Answers], kind: MixtureKind) -> str:
    """Say that a member alone names more validation tracks rightly than all together, over seeds and folds; or ""."""
    n_tracks = sum(len(one.validation) for one in answers)
    n_right = sum(one.n_right for one in answers)
    alone = np.sum([one.n_right_alone for one in answers], axis=0)
    best = int(alone.argmax())
    if n_right >= alone[best]:
        return ""
    how = "that it was not fitted to " if kind in FITTED else ""
    return (
        f"WORSE THAN A MEMBER: of {n_tracks} validation tracks {how}{kind} names {n_right} rightly "
        f"({n_right / n_tracks:.3f}), and {answers[0].members[best].recipe} alone {alone[best]} "
        f"({alone[best] / n_tracks:.3f}): use that run, or another --how"
    )


def _write(answers: _Answers, folder: Path, name: str, kind: MixtureKind, command: str, warning: str) -> None:
    """Write one run folder; `run.json` comes last, so that a run is whole or none."""
    folder.mkdir(parents=True, exist_ok=True)
    files = RunFolder(folder)
    write_predictions(answers.test, files.predictions("test"))
    write_predictions(answers.validation, files.predictions("validation"))
    write_manifest(_all_tracks(answers.members), files.manifest)

    first = answers.members[0]
    counts = [run.parameter_count for run in answers.members]
    known = [count for count in counts if count is not None]  # classical models have no such number
    skipped = {}
    for run in answers.members:
        for skip in run.info.get("skipped", ()):
            skipped[skip["track_id"]] = skip
    now = timestamp()
    files.describe(
        {
            "recipe": name,
            "systems": list(SYSTEMS),
            "labels": list(first.labels),
            "seed": first.seed,
            "fold": first.fold,
            "protocol": first.protocol,
            "scoring": "mean",
            "parameters": sum(known) if len(known) == len(counts) else None,
            "skipped": list(skipped.values()),
            "versions": versions(),
            "ensemble": {
                "how": kind,
                "members": [_described(run, folder) for run in answers.members],
                **answers.mixture.settings(),
                "warning": warning,
            },
            "command": command,
            "status": "finished",
            "started": now,
            "finished": now,
        }
    )


def _described(run: Run, folder: Path) -> dict[str, Any]:
    try:
        place = os.path.relpath(run.folder, folder)
    except ValueError:  # another drive of a Windows machine
        place = os.path.abspath(run.folder)  # noqa: PTH100 - resolve() would follow links
    return {"folder": Path(place).as_posix(), "recipe": run.recipe, "seed": run.seed, "fold": run.fold}


def _all_tracks(members: Sequence[Run]) -> Manifest:
    """Tracks of all members; what one of them was trained on counts as trained on."""
    rank = ("", "test", "validation", "train")
    tracks: dict[str, Track] = {}
    for run in members:
        manifest = run.manifest()
        if manifest is None:
            continue
        for track in manifest.tracks:
            before = tracks.get(track.track_id)
            if before is None or rank.index(track.split) > rank.index(before.split):
                tracks[track.track_id] = track
    return Manifest(None, tuple(tracks.values()))
