"""A trained run as export sees it: its graph, its card, and what it said in training beside what a bundle says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from musicgenre import __version__
from musicgenre.bundle.card import BundleCard
from musicgenre.evaluation.bundle_calibration import calibrate
from musicgenre.evaluation.metrics import Estimate
from musicgenre.evaluation.run_reports import report_on
from musicgenre.evaluation.tag_calibration import calibrate_tags
from musicgenre.runs.runs import Run

if TYPE_CHECKING:
    from musicgenre.features.base import Representation
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from musicgenre.bundle.load import Bundle, load_bundle
from musicgenre.errors import MissingExtraError, UsageError
from musicgenre.features.base import TrackSound
from musicgenre.features.registry import representation_from_settings

if TYPE_CHECKING:
    from torch import nn

    from musicgenre.features.base import Representation


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
            from musicgenre.training.trained import load_trained
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
        extra="" if inside else representation.extra,
    )


def _python_notes(representation: Representation) -> list[str]:
    """What a front end outside the graph needs where the bundle is used."""
    notes = [_PYTHON_NOTE.format(representation.name)]
    if weights := representation.weight_cards:
        names = ", ".join(weight["name"] if isinstance(weight, Mapping) else weight for weight in weights)
        notes.append(f"It hears through published weights ({names}), which must be at hand where it is used")
    if representation.reads == "track":
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
