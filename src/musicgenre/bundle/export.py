"""Export a run to a bundle, and check the bundle against the model as it was trained before it is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from musicgenre import __version__
from musicgenre._files import room_advice
from musicgenre.bundle._container import save_bundle
from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.ensemble import EnsembleModel
from musicgenre.bundle.load import Bundle, load_bundle, read_card
from musicgenre.errors import AudioError, BundleError, MissingExtraError, UsageError
from musicgenre.evaluation.bundle_calibration import calibrate
from musicgenre.evaluation.metrics import Estimate
from musicgenre.evaluation.run_reports import report_on
from musicgenre.evaluation.tag_calibration import calibrate_tags
from musicgenre.features.base import TrackSound
from musicgenre.features.jobs import reads_of
from musicgenre.features.registry import representation_from_settings
from musicgenre.runs.runs import Run, open_run

if TYPE_CHECKING:
    from torch import nn

    from musicgenre.features.base import Representation

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


NOT_STATED = "not stated: ask whoever trained it"
_PYTHON_NOTE = "The graph reads the representation {!r}, which Python computes where the bundle is used"


def card_of_run(run: Run, representation: Representation, *, licence: str, citation: str) -> BundleCard:
    """Write the card of one run, with calibration and scores where it has them.

    Parameters
    ----------
    run : Run
        The run.
    representation : Representation
        Its front end.
    licence, citation : str
        As given by whoever exports it.

    Returns
    -------
    BundleCard
    """
    from musicgenre.bundle._network_graph import has_graph_front_end, segment_length

    settings = representation.settings()
    n_samples = segment_length(representation)
    hop_s = run.info.get("hop_s")
    inside = has_graph_front_end(settings)
    said = _calibrated(run)
    return BundleCard(
        name=run.recipe,
        kind="classifier",
        labels=run.labels,
        sample_rate_hz=representation.sample_rate_hz,
        segment_samples=n_samples,
        hop_samples=n_samples if hop_s is None else max(1, round(hop_s * representation.sample_rate_hz)),
        scoring=run.scoring,
        task="multi_label" if run.is_tagging else "single_label",
        activation=run.info.get("activation", "softmax"),
        **said.values,
        licence=licence or NOT_STATED,
        citation=citation,
        origin=f"trained by musicgenre {__version__}, recipe {run.recipe} ({', '.join(run.systems)}), seed {run.seed}",
        front_end=settings,
        scores=scores_of(run),
        weights=tuple(run.info.get("weights", ())),
        notes=". ".join([said.note, *([] if inside else _python_notes(representation))]) + ".",
        extra="" if inside else getattr(representation, "extra", "features"),
    )


def _python_notes(representation: Representation) -> list[str]:
    """What a front end outside the graph needs where the bundle is used."""
    notes = [_PYTHON_NOTE.format(representation.name)]
    if weights := getattr(representation, "weight_cards", ()):
        names = ", ".join(weight["name"] if isinstance(weight, Mapping) else weight for weight in weights)
        notes.append(f"It hears through published weights ({names}), which must be at hand where it is used")
    if reads_of(representation) == "track":
        notes.append("Each segment meets what all that is heard of the track says")
    return notes


@dataclass(frozen=True, slots=True)
class _Calibrated:
    """Fields of the card that the validation part decides, and how it did."""

    values: dict[str, Any]
    note: str


def _calibrated(run: Run) -> _Calibrated:
    if run.is_tagging:
        tags = calibrate_tags(run)
        fields = {"thresholds": tags.thresholds, "tag_scales": tags.scales, "tag_biases": tags.biases}
        return _Calibrated(fields, tags.note)
    found = calibrate(run)
    return _Calibrated({"temperature": found.temperature, "unsure_threshold": found.unsure_threshold}, found.note)


def scores_of(run: Run) -> tuple[dict[str, Any], ...]:
    """What the run scored on its own test part; nothing where it had none."""
    if not (run.folder / "predictions_test.csv").is_file():
        return ()
    report = report_on(run.folder)
    where = {
        "n_tracks": report.n_tracks,
        "protocol": report.protocol,
        "leaky": report.leaky,
        "seed": run.seed,
        "fold": run.fold,
    }
    return tuple({"metric": name, **_interval(found), **where} for name, found in report.measures())


def _interval(found: Estimate) -> dict[str, Any]:
    return {
        "value": round(found.value, 4),
        "low": round(found.low, 4),
        "high": round(found.high, 4),
        "interval": f"95 %, {found.method}",
    }


_N_SEGMENTS_A_TRACK = 4

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Sound = list[Float32]
"""Segments of one track for each model that hears it, shape (n, segment_samples)."""


@dataclass(frozen=True, slots=True, eq=False)
class RunModel:
    """One run, ready for export.

    Parameters
    ----------
    run : Run
        The run.
    representation : Representation
        Its front end.
    network : nn.Module
        Normalisation and network, in evaluation mode.
    card : BundleCard
        Its card.
    """

    run: Run
    representation: Representation
    network: nn.Module
    card: BundleCard

    @classmethod
    def of_run(cls, run: Run, *, licence: str = "", citation: str = "") -> RunModel:
        """Make the front end again and load the network with its normalisation.

        Raises
        ------
        MissingExtraError
            There is no torch.
        UsageError
            It was trained on picture files.
        """
        try:
            from musicgenre.training.checkpoint import load_trained
        except ModuleNotFoundError as error:  # the light install has no torch
            raise MissingExtraError("exporting a run", "train") from error
        trained = load_trained(run.folder)
        if trained.representation.get("source") == "file":
            raise UsageError(
                f"{run.folder} was trained on picture files, which cannot be drawn from sound",
                valid="runs whose representation is computed from sound",
                next_step="Train it on sound, then export: --set representation.options.source=waveform",
            )
        representation = representation_from_settings(trained.representation)
        card = card_of_run(run, representation, licence=licence, citation=citation)
        return cls(run, representation, trained.whole(), card)

    def graph(self) -> bytes:
        """Write it as an ONNX model."""
        from musicgenre.bundle._network_graph import write_graph

        return write_graph(self.network, self.representation)

    def segments_of(self, path: Path) -> Sound:
        """Cut the first segments out of a track."""
        from musicgenre import audio
        from musicgenre.features.base import cut

        rate_hz = self.representation.sample_rate_hz
        sound = audio.load(path, rate_hz)
        length_s, hop_s = self.card.segment_samples / rate_hz, self.card.hop_samples / rate_hz
        _, segments = cut(sound.waveform, rate_hz, length_s, hop_s)
        return [np.array(segments[:_N_SEGMENTS_A_TRACK], dtype=np.float32)]

    def noise(self, n_rows: int, seed: int) -> Sound:
        """Make segments of noise."""
        random = np.random.default_rng(seed)
        return [random.normal(0.0, 0.1, (n_rows, self.card.segment_samples)).astype(np.float32)]

    def said(self, rows: Float32) -> Float64:
        """Probabilities of segments as training computed them, (n, segment_samples) to (n, n_labels)."""
        from musicgenre.bundle._network_graph import probabilities

        features = np.stack([self.representation.compute(row) for row in rows])
        return probabilities(self.network, features, self.card.activation)

    def difference(self, trial: Path, sounds: Sequence[Sound]) -> float:
        """Largest difference in probability between a bundle and the model as training computed it."""
        bundle, rows = load_bundle(trial, threads=1), np.concatenate([rows for (rows,) in sounds])
        return float(np.abs(uncalibrated(bundle, rows) - self.said(rows)).max())


def uncalibrated(bundle: Bundle, rows: Float32) -> Float64:
    """Probabilities that a bundle gives segments before calibration."""
    plain = replace(bundle.card, temperature=1.0, tag_scales=(), tag_biases=())
    return plain.probabilities(_logits(bundle, rows))


def _logits(bundle: Bundle, rows: Float32) -> Float32:
    """What a bundle says of segments, each of them a track of its own where it wants whole tracks."""
    if not bundle.hears_tracks:
        return bundle.run(rows)["logits"]
    rate_hz = bundle.card.sample_rate_hz
    tracks = [TrackSound.of_waveform(row, rate_hz) for row in rows]
    return np.concatenate([bundle.run_track(track, [0.0], None)["logits"] for track in tracks])
