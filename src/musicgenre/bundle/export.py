"""Export a run to a bundle, and check the bundle against the model as it was trained before it is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from musicgenre._files import room_advice
from musicgenre.bundle._container import save_bundle
from musicgenre.bundle._ensemble_model import EnsembleModel
from musicgenre.bundle._run_model import RunModel, Sound
from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.load import read_card
from musicgenre.errors import AudioError, BundleError, UsageError
from musicgenre.runs.runs import Run, open_run

if TYPE_CHECKING:
    pass

TOLERANCE = 1e-3
"""Largest difference in probability that an exported bundle may show against the training-time model."""

_N_CHECKED_TRACKS = 5
_N_NOISE_ROWS = 8
_NOISE_SEED = 20_002


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export made and how it was checked.

    Parameters
    ----------
    path : Path
        The bundle.
    card : BundleCard
        Its card.
    checked_on : tuple of str
        Names of the tracks that the bundle and the training-time model both heard; empty: noise was used.
    n_segments : int
        Segments compared.
    largest_difference : float
        Largest difference in probability.
    """

    path: Path
    card: BundleCard
    checked_on: tuple[str, ...]
    n_segments: int
    largest_difference: float

    def to_text(self) -> str:
        """Plain text for the terminal."""
        heard = f"{len(self.checked_on)} tracks" if self.checked_on else "noise (no track of the manifest is at hand)"
        size_mb = self.path.stat().st_size / 1e6
        lines = [
            f"{self.path} ({size_mb:.1f} MB): {', '.join(self.card.labels)}",
            f"  checked on {heard}, {self.n_segments} segments: probabilities within {self.largest_difference:.1e} "
            "of the training-time model",
        ]
        lines += [f"  {_score_line(score)}" for score in self.card.scores]
        lines += [
            f"  made with the weights {card['name']} ({card['origin']}): {_first_sentence(card['licence'])}"
            for card in self.card.weights
        ]
        if self.card.extra:
            lines.append(f"  needs musicgenre[{self.card.extra}] where it is used: its front end is not in the graph")
        lines.append(f"  try it: musicgenre classify song.mp3 --model {self.path}")
        return "\n".join(lines)


def export_run(
    folder: str | Path,
    output: str | Path | None = None,
    *,
    check: Sequence[str | Path] | None = None,
    licence: str = "",
    citation: str = "",
    tolerance: float = TOLERANCE,
) -> Exported:
    """Export one run to a bundle: front end, normalisation and network in one ONNX file, with its card.

    An ensemble becomes one bundle too: its members side by side, and on the card how they answer together.

    Parameters
    ----------
    folder : str or Path
        A run folder: one seed and one fold.
    output : str or Path, optional
        The bundle; by default ``RECIPE.onnx`` in the run folder.
    check : sequence of str or Path, optional
        Tracks on which the bundle is held against the training-time model; by default test tracks of the run's own
        manifest, and noise where none of those is at hand.
    licence, citation : str
        Written on the card.
    tolerance : float
        Largest difference in probability that is let pass.

    Returns
    -------
    Exported

    Raises
    ------
    RunError
        No run folder, a group of runs, or a damaged one; an ensemble whose members are gone, changed or ensembles.
    BundleError
        The bundle does not agree with the training-time model: nothing is written.
    """
    run = _open_single(Path(folder))
    path = run.folder / f"{run.recipe}.onnx" if output is None else Path(output)
    if path.suffix != ".onnx":
        raise UsageError(f"{path.name} cannot be the name of a bundle", valid="a name that ends in .onnx")
    model = _model_of(run, licence=licence, citation=citation)
    sounds, checked_on = _sounds(run, model, check)
    graph = model.graph()
    with tempfile.TemporaryDirectory() as temporary:
        trial = Path(temporary) / "trial.onnx"
        save_bundle(trial, graph, model.card)
        difference = model.difference(trial, sounds)
    if not difference <= tolerance:
        raise BundleError(
            f"the exported bundle differs from the training-time model by {difference:.2g} in probability",
            valid=f"at most {tolerance:g}",
            next_step="Nothing was written; please report this with the run's recipe.yaml",
        )
    try:
        save_bundle(path, graph, model.card)
    except OSError as error:
        raise BundleError(
            f"{path} cannot be written ({error.strerror})", next_step=room_advice(error) or "Give another --output"
        ) from error
    n_segments = sum(len(rows) for sound in sounds for rows in sound)
    return Exported(path, read_card(path), checked_on, n_segments, difference)


class _Model(Protocol):
    """What can be exported: a run, or an ensemble of runs."""

    @property
    def card(self) -> BundleCard: ...

    def graph(self) -> bytes: ...

    def segments_of(self, path: Path) -> Sound: ...

    def noise(self, n_rows: int, seed: int) -> Sound: ...

    def difference(self, trial: Path, sounds: Sequence[Sound]) -> float: ...


def _first_sentence(text: str) -> str:
    """What a licence is called; its whole text is on the card."""
    return text.partition(". ")[0].rstrip(".")


def _open_single(folder: Path) -> Run:
    if (folder / "group.json").is_file():
        children = sorted(path.parent.relative_to(folder).as_posix() for path in folder.rglob("run.json"))
        raise UsageError(
            f"{folder} holds {len(children)} runs, and a bundle holds one",
            valid=f"one of {', '.join(children[:5])}{', ...' if len(children) > 5 else ''}",
            next_step=f"For example: musicgenre export {folder / children[0]}" if children else "",
        )
    return open_run(folder)


def _model_of(run: Run, *, licence: str, citation: str) -> _Model:
    made = EnsembleModel if "ensemble" in run.info else RunModel
    return made.of_run(run, licence=licence, citation=citation)


def _score_line(score: Any) -> str:
    leak = " (LEAKY)" if score["leaky"] else ""
    return (
        f"{score['metric']} {score['value']:.3f} ({score['interval']}: {score['low']:.3f} to {score['high']:.3f}), "
        f"protocol {score['protocol']}{leak}, {score['n_tracks']} tracks, seed {score['seed']}"
    )


def _sounds(run: Run, model: _Model, check: Sequence[str | Path] | None) -> tuple[list[Sound], tuple[str, ...]]:
    """Segments of real tracks, an entry a track, and the tracks' names; noise and no names without any."""
    sounds: list[Sound] = []
    names: list[str] = []
    for path in _tracks_at_hand(run) if check is None else [Path(path) for path in check]:
        try:
            sounds.append(model.segments_of(path))
        except AudioError:
            if check is not None:
                raise
            continue
        names.append(path.name)
        if check is None and len(names) == _N_CHECKED_TRACKS:
            break
    return sounds or [model.noise(_N_NOISE_ROWS, _NOISE_SEED)], tuple(names)


def _tracks_at_hand(run: Run) -> list[Path]:
    """Sound files of the run's manifest that exist, those of the test part first."""
    from musicgenre.audio import AUDIO_SUFFIXES

    manifest = run.manifest()
    if manifest is None:
        return []
    tracks = [
        track for track in manifest.tracks if not track.augmented and track.path.suffix.lower() in AUDIO_SUFFIXES
    ]
    tracks.sort(key=lambda track: track.split != "test")
    return [track.path for track in tracks if track.path.is_file()]


"""Segments of one track for each model that hears it, shape (n, segment_samples)."""
