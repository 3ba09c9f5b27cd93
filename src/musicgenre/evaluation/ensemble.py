"""Ensembles: several finished runs that answer together, as a run like any other.

The members' segments score together first, so that models which cut tracks differently can meet: an ensemble has one
row a track. Weights and stacking are fitted to the members' validation tracks, fold by fold and seed by seed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre._files import naming, write_text_atomic
from musicgenre.data.manifest import Manifest, Track, write_manifest
from musicgenre.errors import UsageError
from musicgenre.evaluation._members import (
    FITTED,
    HOWS,
    How,
    aligned,
    check_members,
    check_unseen,
    fitted_stacking,
    mixture_weights,
    open_members,
)
from musicgenre.models.pooling import Mixture, Weighted
from musicgenre.runs.predictions import Predictions, write_predictions
from musicgenre.runs.runs import RUN_FORMAT_VERSION, Run

SYSTEMS = ("A8",)
FEW_TRACKS = 50
"""Fewer validation tracks than these are worth a warning where something is fitted to them."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """What :func:`ensemble` made.

    Parameters
    ----------
    folder : Path
        The run, or the group of runs.
    members : tuple of str
        Recipes of the members, in order.
    weights : tuple of tuple of float
        One entry a run: the weights of its members; empty for stacking.
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
            own = [run[number] for run in self.weights]
            spread = f" ({min(own):.2f} to {max(own):.2f} over {len(own)} runs)" if len(own) > 1 else ""
            lines.append(f"  {member}" + (f": weight {np.mean(own):.2f}{spread}" if own else ""))
        return "\n".join(lines)


def ensemble(
    folders: Sequence[str | Path], output: str | Path, *, how: How = "mean", name: str = "", command: str = ""
) -> Ensemble:
    """Let finished runs answer together and leave a run folder (or a group) as training does.

    Parameters
    ----------
    folders : sequence of str or Path
        Two runs or more, or groups of seeds and folds; all with the same labels, protocol and test tracks.
    output : str or Path
        A new or empty folder.
    how : {"mean", "weighted", "stacking"}
        Mean of the probabilities; weights fitted on the validation tracks; or a logistic regression fitted there.
    name : str, optional
        Stands where a recipe's name stands; ``ensemble-HOW`` by default.
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
    from musicgenre.runs.folder import check_output, write_group

    if how not in HOWS:
        raise UsageError(f"runs cannot answer together by {how!r}", valid=f"one of {', '.join(HOWS)}")
    groups = open_members([Path(folder) for folder in folders])
    output = Path(output)
    check_output(output, resume=None)
    title = name or f"ensemble-{how}"
    if not title.isprintable() or title.startswith(".") or {"/", "\\"} & set(title):
        raise UsageError(
            f"--name {name!r} cannot be a name",
            valid="printable characters, no slashes and no dot in front: run folder and exported file are called so",
        )
    mixed = [_mixed(members, how) for members in zip(*groups, strict=True)]
    root = Path(folders[0])
    children = [run.folder.relative_to(root).as_posix() for run in groups[0]]
    with _whole_or_none(output) as made:
        for one, child in zip(mixed, children, strict=True):
            _write(one, made / child, title, how, command)
        if len(mixed) > 1:
            write_group(made, children, {"recipe": title})
    recipes = tuple(group[0].recipe for group in groups)
    return Ensemble(output, recipes, tuple(one.weights for one in mixed if one.weights), _warnings(mixed, how))


@contextmanager
def _whole_or_none(output: Path) -> Iterator[Path]:
    """Yield a folder beside ``output`` that takes its place at the end; what is relative to one fits both."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with (
        naming(output),
        tempfile.TemporaryDirectory(
            prefix=f".{output.name}.", suffix=".tmp", dir=output.parent, ignore_cleanup_errors=True
        ) as temporary,
    ):
        made = Path(temporary)
        yield made
        made.chmod(output.parent.stat().st_mode & 0o777)
        try:
            if output.is_dir():
                output.rmdir()
            made.rename(output)
        except OSError as error:
            raise UsageError(
                f"the folder {output} cannot be written ({error.strerror})",
                valid="A folder that is new or empty, and stays so meanwhile",
                next_step="Give another --output",
            ) from error


@dataclass(frozen=True, slots=True)
class _Mixed:
    """The answers of one ensemble: one seed, one fold."""

    members: tuple[Run, ...]
    test: Predictions
    validation: Predictions
    mixture: Mixture

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of the members; empty for stacking."""
        return tuple(self.mixture.settings().get("weights", ()))


def _mixed(members: tuple[Run, ...], how: How) -> _Mixed:
    manifests = check_members(members)
    test, validation = aligned(members, "test"), aligned(members, "validation")
    check_unseen(test, "test", members, manifests)
    if how in FITTED:
        check_unseen(validation, "validation", members, manifests)
    mixture = _mixture(validation, how)
    return _Mixed(members, _answering(mixture, test), _answering(mixture, validation), mixture)


def _mixture(validation: Sequence[Predictions], how: How) -> Mixture:
    heard, truth = np.stack([part.scores for part in validation]), validation[0].truth
    if how == "stacking":
        return fitted_stacking(heard, truth, validation[0].labels)
    equal = np.full(len(validation), 1.0 / len(validation))
    return Weighted(mixture_weights(heard, truth) if how == "weighted" else equal)


def _answering(mixture: Mixture, part: Sequence[Predictions]) -> Predictions:
    return dataclasses.replace(part[0], scores=mixture(np.stack([member.scores for member in part])))


def _warnings(mixed: Sequence[_Mixed], how: How) -> tuple[str, ...]:
    fewest = min(len(one.validation) for one in mixed)
    if how not in FITTED or fewest >= FEW_TRACKS:
        return ()
    return (f"{fewest} validation tracks are few to fit {how} on: compare it with --how mean",)


def _write(mixed: _Mixed, folder: Path, name: str, how: How, command: str) -> None:
    """Write one run folder; ``run.json`` comes last, so that a run is whole or none."""
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(mixed.test, folder / "predictions_test.csv")
    write_predictions(mixed.validation, folder / "predictions_validation.csv")
    write_manifest(_all_tracks(mixed.members), folder / "manifest.csv")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    facts = {
        "format_version": RUN_FORMAT_VERSION,
        "recipe": name,
        "systems": list(SYSTEMS),
        **_shared_facts(mixed.members),
        "ensemble": {
            "how": how,
            "members": [_described(run, folder) for run in mixed.members],
            **mixed.mixture.settings(),
        },
        "command": command,
        "status": "finished",
        "started": now,
        "finished": now,
    }
    write_text_atomic(folder / "run.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def _shared_facts(members: Sequence[Run]) -> dict[str, Any]:
    """What ``run.json`` says of the members together."""
    from musicgenre.runs.folder import versions

    first = members[0]
    counts = [run.parameter_count for run in members]
    known = [count for count in counts if count is not None]
    skipped = {skip["track_id"]: skip for run in members for skip in run.info.get("skipped", ())}
    return {
        "labels": list(first.labels),
        "seed": first.seed,
        "fold": first.fold,
        "protocol": first.protocol,
        "scoring": "mean",
        "parameters": sum(known) if len(known) == len(counts) else None,
        "skipped": list(skipped.values()),
        "versions": versions(),
    }


def _described(run: Run, folder: Path) -> dict[str, Any]:
    try:
        place = os.path.relpath(run.folder, folder)
    except ValueError:  # another drive of a Windows machine
        place = os.path.abspath(run.folder)  # noqa: PTH100 - resolve() would follow links
    return {"folder": Path(place).as_posix(), "recipe": run.recipe, "seed": run.seed, "fold": run.fold}


def _all_tracks(members: Sequence[Run]) -> Manifest:
    """Tracks of all members; what one of them was trained on counts as trained on."""
    rank = ("", "test", "validation", "train")
    found: dict[str, Track] = {}
    for run in members:
        manifest = run.manifest()
        for track in manifest.tracks if manifest is not None else ():
            before = found.get(track.track_id)
            if before is None or rank.index(track.split) > rank.index(before.split):
                found[track.track_id] = track
    return Manifest(None, tuple(found.values()))
