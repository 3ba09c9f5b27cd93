"""Export a run to a bundle, and check the bundle against the model as it was trained before it is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from musicgenre import __version__
from musicgenre.bundle._container import save_bundle
from musicgenre.bundle._run_calibration import calibrate
from musicgenre.bundle._tag_calibration import calibrate_tags
from musicgenre.bundle.card import Activation, BundleCard
from musicgenre.bundle.load import Bundle, load_bundle
from musicgenre.errors import AudioError, BundleError, MissingExtraError, UsageError
from musicgenre.evaluation._estimate import Estimate
from musicgenre.evaluation.ensemble import refuse_export
from musicgenre.evaluation.run_reports import report_on
from musicgenre.evaluation.runs import Run, open_run
from musicgenre.features._row_jobs import reads_of
from musicgenre.features.registry import representation_from_settings
from musicgenre.features.track_sound import TrackSound

if TYPE_CHECKING:
    from torch import nn

    from musicgenre.features.base import Representation

TOLERANCE = 1e-3
"""Largest difference in probability that an exported bundle may show against the training-time model."""

_PYTHON_NOTE = "The graph reads the representation {!r}, which Python computes where the bundle is used"
_N_CHECKED_TRACKS = 5
_N_SEGMENTS_A_TRACK = 4
_N_NOISE_ROWS = 8
_NOISE_SEED = 20_002

Float32 = NDArray[np.float32]


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
        No run folder, a group of runs, or a damaged one.
    BundleError
        The bundle does not agree with the training-time model: nothing is written.
    """
    run = _open_single(Path(folder))
    refuse_export(run)
    path = run.folder / f"{run.recipe}.onnx" if output is None else Path(output)
    if path.suffix != ".onnx":
        raise UsageError(f"{path.name} cannot be the name of a bundle", valid="a name that ends in .onnx")
    representation, network = _restored(run)
    from musicgenre.bundle._network_graph import write_graph

    card = _card(run, representation, licence=licence, citation=citation)
    rows, checked_on = _rows_to_check(run, representation, card, check)
    with tempfile.TemporaryDirectory() as temporary:
        trial = Path(temporary) / "trial.onnx"
        model = write_graph(network, representation)
        save_bundle(trial, model, card)
        difference = _largest_difference(trial, network, representation, rows, card.activation)
    if not difference <= tolerance:
        raise BundleError(
            f"the exported bundle differs from the training-time model by {difference:.2g} in probability",
            valid=f"at most {tolerance:g}",
            next_step="Nothing was written; please report this with the run's recipe.yaml",
        )
    try:
        save_bundle(path, model, card)
    except OSError as error:
        raise BundleError(f"{path} cannot be written ({error.strerror})", next_step="Give another --output") from error
    return Exported(path, load_bundle(path).card, checked_on, len(rows), difference)


def _first_sentence(text: str) -> str:
    """What a licence is called; its whole text is on the card."""
    return text.partition(". ")[0].rstrip(".")


def _open_single(folder: Path) -> Run:
    if (folder / "group.json").is_file():
        children = sorted(path.parent.relative_to(folder).as_posix() for path in folder.rglob("run.json"))
        if children:
            refuse_export(open_run(folder / children[0]))
        raise UsageError(
            f"{folder} holds {len(children)} runs, and a bundle holds one",
            valid=f"one of {', '.join(children[:5])}{', ...' if len(children) > 5 else ''}",
            next_step=f"For example: musicgenre export {folder / children[0]}" if children else "",
        )
    return open_run(folder)


def _restored(run: Run) -> tuple[Representation, nn.Module]:
    """Make the front end again and load the network with its normalisation."""
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
    return representation_from_settings(trained.representation), trained.whole()


def _card(run: Run, representation: Representation, *, licence: str, citation: str) -> BundleCard:
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
        task="multi_label" if run.is_tagging else "single_label",
        activation=run.info.get("activation", "softmax"),
        **said.values,
        licence=licence or "not stated: ask whoever trained it",
        citation=citation,
        origin=f"trained by musicgenre {__version__}, recipe {run.recipe} ({', '.join(run.systems)}), seed {run.seed}",
        front_end=settings,
        scores=_scores(run),
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


def _scores(run: Run) -> tuple[dict[str, Any], ...]:
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


def _score_line(score: Any) -> str:
    leak = " (LEAKY)" if score["leaky"] else ""
    return (
        f"{score['metric']} {score['value']:.3f} ({score['interval']}: {score['low']:.3f} to {score['high']:.3f}), "
        f"protocol {score['protocol']}{leak}, {score['n_tracks']} tracks, seed {score['seed']}"
    )


def _rows_to_check(
    run: Run, representation: Representation, card: BundleCard, check: Sequence[str | Path] | None
) -> tuple[Float32, tuple[str, ...]]:
    """Segments of real tracks, shape (n, segment_samples), and the tracks' names; noise and no names without any."""
    rows: list[Float32] = []
    names: list[str] = []
    for path in _tracks_at_hand(run) if check is None else [Path(path) for path in check]:
        try:
            rows.append(_segments_of(path, representation, card))
        except AudioError:
            if check is not None:
                raise
            continue
        names.append(path.name)
        if check is None and len(names) == _N_CHECKED_TRACKS:
            break
    if not rows:
        random = np.random.default_rng(_NOISE_SEED)
        rows.append(random.normal(0.0, 0.1, (_N_NOISE_ROWS, card.segment_samples)).astype(np.float32))
    return np.concatenate(rows), tuple(names)


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


def _segments_of(path: Path, representation: Representation, card: BundleCard) -> Float32:
    from musicgenre import audio
    from musicgenre.features.segments import cut

    rate_hz = representation.sample_rate_hz
    sound = audio.load(path, rate_hz)
    _, segments = cut(sound.waveform, rate_hz, card.segment_samples / rate_hz, card.hop_samples / rate_hz)
    return np.array(segments[:_N_SEGMENTS_A_TRACK], dtype=np.float32)


def _largest_difference(
    trial: Path, network: nn.Module, representation: Representation, rows: Float32, activation: Activation
) -> float:
    """Largest difference in probability between the bundle and the model as training computed it."""
    from musicgenre.bundle._network_graph import probabilities

    features = np.stack([representation.compute(row) for row in rows])
    expected = probabilities(network, features, activation)
    bundle = load_bundle(trial, threads=1)
    plain = replace(bundle.card, temperature=1.0, tag_scales=(), tag_biases=())  # as it was before calibration
    return float(np.abs(plain.probabilities(_logits(bundle, rows)) - expected).max())


def _logits(bundle: Bundle, rows: Float32) -> Float32:
    """What a bundle says of segments, each of them a track of its own where it wants whole tracks."""
    if not bundle.hears_tracks:
        return bundle.run(rows)["logits"]
    rate_hz = bundle.card.sample_rate_hz
    tracks = [TrackSound.of_waveform(row, rate_hz) for row in rows]
    return np.concatenate([bundle.run_track(track, [0.0], None)["logits"] for track in tracks])
