"""What can be exported: a trained run or an ensemble of runs.

Each has its graph, its card, and what it said in training beside what a bundle says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from musicgenre import audio
from musicgenre._version import __version__
from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.ensemble import EnsembleBundle, join, load_ensemble
from musicgenre.bundle.load import Bundle, load_bundle
from musicgenre.data.learnt import LearntFrom
from musicgenre.errors import DataError, RunError, UsageError, needing
from musicgenre.evaluation.calibration import RunCalibration, calibrate, calibrate_tags
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.evaluation.members import aligned
from musicgenre.evaluation.protocols import FITTED, learnt_tracks
from musicgenre.features.base import TrackSound, cut
from musicgenre.features.registry import PLUGIN_PACKAGE, representation_from_settings
from musicgenre.models.pooling import mixture_from_settings, pool_scores, pool_tag_scores
from musicgenre.models.support import Support
from musicgenre.runs.folder import Run, open_run

if TYPE_CHECKING:
    from torch import nn

    from musicgenre.exporting.network_graph import WithEmbedding
    from musicgenre.features.base import Representation

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Sound = list[Float32]
"""Segments of one track for each model that hears it, shape (n, segment_samples)."""

_N_SEGMENTS_PER_TRACK = 4
_NOISE_LEVEL = 0.1  # standard deviation: about -20 dB below full scale
_NOT_STATED = "not stated: ask whoever trained it"

_LEAKY = "LEAKY: the run was tested on tracks that it learnt from, so that no score of it says anything of new tracks"

_LARGEST_CHANGE = 1e-4
"""Largest difference in probability between what an ensemble wrote down and what its members say now."""


class Exportable(Protocol):
    """What an export needs to know of a run, or of an ensemble of runs."""

    @property
    def card(self) -> BundleCard:
        """The card of the bundle."""
        ...

    @property
    def reads(self) -> tuple[str, ...]:
        """Output by which each model can tell what is unlike its training music: see `bundle.card.READABLE`."""
        ...

    def with_support(self, supports: Sequence[Support | None], note: str) -> BundleCard:
        """Put the statistics of each model's training music on the card, and a sentence about them."""
        ...

    def graph(self) -> bytes:
        """Write it as one ONNX model."""
        ...

    def segments_of(self, path: Path) -> Sound:
        """Cut the first segments out of a track, once for each model."""
        ...

    def noise(self, n_rows: int, seed: int) -> Sound:
        """Make segments of noise for each model."""
        ...

    def difference(self, trial: Path, sounds: Sequence[Sound]) -> float:
        """Largest difference in probability between a bundle and the models as training computed them."""
        ...

    def answer(self, waveform: Float32, sample_rate_hz: int) -> dict[str, float]:
        """Probability of every label for a track, (n_samples,), as the run itself would have scored it."""
        ...


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
    telling : WithEmbedding or None
        The same with the embedding as a second output, where a classifier has one.
    card : BundleCard
        Its card.
    """

    run: Run
    representation: Representation
    network: nn.Module
    telling: WithEmbedding | None
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
        with needing("exporting a run", "train"):  # the light install has no torch
            from musicgenre.exporting.network_graph import with_embedding
            from musicgenre.training.trained import load_trained

        trained = load_trained(run.folder)
        if trained.representation.get("source") == "file":
            raise UsageError(
                f"{run.folder} was trained on picture files, which cannot be drawn from sound",
                valid="runs whose representation is computed from sound",
                next_step="Train it on sound, then export: --set representation.options.source=waveform",
            )

        representation = representation_from_settings(trained.representation)
        card = _card_of_run(run, representation, licence=licence, citation=citation)
        telling = None if run.is_tagging else with_embedding(trained.normalise, trained.network)
        return cls(run, representation, trained.whole(), telling, card)

    def graph(self) -> bytes:
        """Write it as an ONNX model."""
        from musicgenre.exporting.network_graph import write_graph

        return write_graph(self.telling or self.network, self.representation)

    @property
    def reads(self) -> tuple[str, ...]:
        """The embedding, where the network has one."""
        return ("embedding" if self.telling else "logits",)

    def with_support(self, supports: Sequence[Support | None], note: str) -> BundleCard:
        """Put the statistics of the training music on the card, and a sentence about them."""
        card = replace(self.card, notes=f"{self.card.notes} {note}.")
        return _with_support(card, self.reads[0], supports[0])

    def segments_of(self, path: Path) -> Sound:
        """Cut the first segments out of a track."""
        rate_hz = self.representation.sample_rate_hz
        waveform = audio.load(path, rate_hz).waveform
        _, segments = cut(waveform, rate_hz, self.card.segment_samples / rate_hz, self.card.hop_samples / rate_hz)
        return [np.array(segments[:_N_SEGMENTS_PER_TRACK], dtype=np.float32)]

    def noise(self, n_rows: int, seed: int) -> Sound:
        """Make segments of noise."""
        return [noise(n_rows, self.card.segment_samples, seed=seed)]

    def said(self, rows: Float32) -> Float64:
        """Probabilities of segments as training computed them, (n, segment_samples) to (n, n_labels)."""
        from musicgenre.exporting.network_graph import probabilities

        features = np.stack([self.representation.compute(row) for row in rows])
        return probabilities(self.network, features, self.card.activation)

    def difference(self, trial: Path, sounds: Sequence[Sound]) -> float:
        """Largest difference in probability between a bundle and the model as training computed it."""
        rows = np.concatenate([rows for (rows,) in sounds])
        says = _uncalibrated(load_bundle(trial, threads=1), rows)
        return float(np.abs(says - self.said(rows)).max())

    def answer(self, waveform: Float32, sample_rate_hz: int) -> dict[str, float]:
        """Prepare a track as training did, and score it as the run did."""
        from musicgenre.exporting.network_graph import probabilities

        representation = self.representation
        track = TrackSound(lambda rate_hz: audio.from_array(waveform, sample_rate_hz, rate_hz))
        sound = track.at(representation.sample_rate_hz)
        hop_s = self.run.info.get("hop_s")
        starts_s, segments = cut(sound, representation.sample_rate_hz, representation.segment_s, hop_s)
        if representation.reads == "track":
            features = representation.compute_track(
                track, [float(start) for start in starts_s], representation.segment_s
            )
        else:
            features = [representation.compute(segment) for segment in segments]

        scores = probabilities(self.network, np.stack(features), self.card.activation)
        pool = pool_tag_scores if self.run.is_tagging else pool_scores
        return dict(zip(self.card.labels, pool(scores, self.card.scoring).tolist(), strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class EnsembleModel:
    """One ensemble, ready for export.

    Parameters
    ----------
    members : tuple of RunModel
        Its runs.
    card : BundleCard
        Its card, those of the members inside.
    """

    members: tuple[RunModel, ...]
    card: BundleCard

    @classmethod
    def of_run(cls, run: Run, *, licence: str = "", citation: str = "") -> EnsembleModel:
        """Open the members of an ensemble.

        Raises
        ------
        RunError
            A member is gone, was trained anew, or is an ensemble itself.
        """
        runs = []
        for number, described in enumerate(run.info["ensemble"]["members"], start=1):
            folder = Path(os.path.normpath(run.folder / described["folder"]))
            if not (folder / "run.json").is_file():
                raise RunError(
                    f"{folder}, run {number} of the ensemble {run.folder}, is not there",
                    valid="The runs of an ensemble where they were when it was made",
                    next_step="Put it back, or make the ensemble again",
                )
            member = open_run(folder)
            if "ensemble" in member.info:
                raise RunError(
                    f"{folder}, a member of {run.folder}, is an ensemble itself",
                    valid="An ensemble of runs that training left behind",
                    next_step="Make one ensemble of all those runs, and export that",
                )
            runs.append(member)
        _check_unchanged(run, runs)

        members = tuple(RunModel.of_run(member, licence=licence, citation=citation) for member in runs)
        return cls(members, _card_of_ensemble(run, members, licence=licence, citation=citation))

    def graph(self) -> bytes:
        """Write the members as one ONNX model."""
        return join([member.graph() for member in self.members])

    @property
    def reads(self) -> tuple[str, ...]:
        """The embedding of each member that has one."""
        return tuple(reads for member in self.members for reads in member.reads)

    def with_support(self, supports: Sequence[Support | None], note: str) -> BundleCard:
        """Put the statistics of the training music on the cards of the members, and a sentence about them."""
        members = []
        for card, reads, support in zip(self.card.member_cards, self.reads, supports, strict=True):
            members.append(_with_support(card, reads, support).as_values())
        return replace(self.card, members=tuple(members), notes=f"{self.card.notes} {note}.")

    def segments_of(self, path: Path) -> Sound:
        """Cut the first segments out of a track, once for each member."""
        return [rows for member in self.members for rows in member.segments_of(path)]

    def noise(self, n_rows: int, seed: int) -> Sound:
        """Make segments of noise for each member."""
        return [rows for member in self.members for rows in member.noise(n_rows, seed)]

    def difference(self, trial: Path, sounds: Sequence[Sound]) -> float:
        """Largest difference in probability between a bundle and the models as training computed them.

        Both the members' segments and the ensemble's answer to all of them together are compared.
        """
        # Temperatures are fitted after training, so both sides are compared without.
        loaded = load_ensemble(trial, threads=1)
        bundle = EnsembleBundle(replace(loaded.card, temperature=1.0), loaded.members)

        largest = 0.0
        for sound in sounds:
            says, said = [], []
            for loaded_member, member, rows in zip(bundle.members, self.members, sound, strict=True):
                says.append(_uncalibrated(loaded_member, rows))
                said.append(member.said(rows))
            pairs = [*zip(says, said, strict=True), (self._mixed(bundle, says), self._mixed(bundle, said))]
            largest = max(largest, *(float(np.abs(one - other).max()) for one, other in pairs))
        return largest

    def answer(self, waveform: Float32, sample_rate_hz: int) -> dict[str, float]:
        """Mix what the runs say of a track, without calibration."""
        columns = []
        for member in self.members:
            said = member.answer(waveform, sample_rate_hz)
            columns.append([said[label] for label in self.card.labels])
        mixed = replace(self.card, temperature=1.0).mix(np.array(columns)[:, None])
        return dict(zip(self.card.labels, mixed[0].tolist(), strict=True))

    def _mixed(self, bundle: EnsembleBundle, segments: Sequence[Float64]) -> Float64:
        """Let the members answer together for one track, (n_segments, n_labels) each to (1, n_labels)."""
        scores = []
        for member, own in zip(self.members, segments, strict=True):
            scores.append(pool_scores(own, member.card.scoring)[None])
        return bundle.probabilities(np.stack(scores))


def _with_support(card: BundleCard, reads: str, support: Support | None) -> BundleCard:
    """Put the statistics of what it reads on the card of one model, if there are any."""
    return card if support is None else replace(card, support={"reads": reads, **support.as_values()})


def noise(*shape: int, seed: int) -> Float32:
    """Make noise of this shape, about 20 dB below full scale."""
    return np.random.default_rng(seed).normal(0.0, _NOISE_LEVEL, shape).astype(np.float32)


def _uncalibrated(bundle: Bundle, rows: Float32) -> Float64:
    """Probabilities that a bundle gives segments before calibration."""
    if bundle.hears_tracks:
        # Each segment is a track of its own here, as it is for the representation that it is held against.
        logits = []
        for row in rows:
            track = TrackSound.of_waveform(row, bundle.card.sample_rate_hz)
            logits.append(bundle.run_track(track, [0.0], None)["logits"])
        found = np.concatenate(logits)
    else:
        found = bundle.run(rows)["logits"]

    return replace(bundle.card, temperature=1.0, tag_scales=(), tag_biases=()).probabilities(found)


def _card_of_run(run: Run, representation: Representation, *, licence: str, citation: str) -> BundleCard:
    """Write the card of one run, with calibration and scores where it has them."""
    from musicgenre.exporting.network_graph import segment_length

    # The validation part calibrates; the notes say how, or why it could not.
    calibration: dict[str, Any]
    if run.is_tagging:
        tags = calibrate_tags(run)
        calibration = {"thresholds": tags.thresholds, "tag_scales": tags.scales, "tag_biases": tags.biases}
        notes = [tags.note]
    else:
        found = calibrate(run)
        calibration = {"temperature": found.temperature, "unsure_threshold": found.unsure_threshold}
        notes = [found.note]
    scores = _scores_of(run)
    if any(score["leaky"] for score in scores):
        notes.insert(0, _LEAKY)

    # What a front end outside the graph needs where the bundle is used.
    settings = representation.settings()
    extra = ""
    if not representation.graph_front_end:
        extra = representation.extra
        notes.append(
            f"The graph reads the representation {representation.name!r}, which Python computes where the bundle is "
            "used"
        )
        package = type(representation).__module__.partition(".")[0]
        if package != "musicgenre":
            settings = {**settings, PLUGIN_PACKAGE: package}
            notes.append(f"A plugin, the Python package {package}, brings it, and must be installed there")
        if weights := representation.weight_cards:
            names = ", ".join(weight["name"] if isinstance(weight, Mapping) else weight for weight in weights)
            notes.append(f"It hears through published weights ({names}), which must be at hand where it is used")
        if representation.reads == "track":
            notes.append("Each segment meets what all that is heard of the track says")
    is_whole = representation.segment_s is None
    if is_whole:
        notes.append("It hears whole tracks, as it was trained")

    segment_samples = segment_length(representation)
    hop_s = run.info.get("hop_s")
    hop_samples: float = segment_samples
    if hop_s is not None:
        # Most are whole numbers, which earlier versions read too.
        hop_samples = hop_s * representation.sample_rate_hz
        hop_samples = int(hop_samples) if float(hop_samples).is_integer() else hop_samples
    return BundleCard(
        name=run.recipe,
        kind="classifier",
        labels=run.labels,
        sample_rate_hz=representation.sample_rate_hz,
        segment_samples=segment_samples,
        hop_samples=hop_samples,
        scoring=run.pooling,
        task="multi_label" if run.is_tagging else "single_label",
        activation=run.info.get("activation", "softmax"),
        **calibration,
        licence=licence or _NOT_STATED,
        citation=citation,
        origin=f"trained by musicgenre {__version__}, recipe {run.recipe} ({', '.join(run.systems)}), seed {run.seed}",
        front_end=settings,
        hears="whole" if is_whole else "segments",
        scores=scores,
        weights=tuple(run.info.get("weights", ())),
        notes=f"{'. '.join(notes)}.",
        extra=extra,
        learnt_from=_learnt_from([run]),
    )


def _card_of_ensemble(run: Run, members: Sequence[RunModel], *, licence: str, citation: str) -> BundleCard:
    """Write the card of an ensemble; its members' own calibration and scores say nothing of it."""
    nothing: dict[str, Any] = {"temperature": 1.0, "unsure_threshold": 0.0, "scores": (), "learnt_from": {}}
    cards = [replace(member.card, **nothing) for member in members]
    made_of, extras, weights = [], [], {}
    for card, member in zip(cards, members, strict=True):
        made_of.append(f"{card.name} (seed {member.run.seed})")
        weights.update({weight["name"]: weight for weight in card.weights})
        if card.extra and card.extra not in extras:
            extras.append(card.extra)

    made = run.info["ensemble"]
    if made["how"] in FITTED:
        note = "Confidence is not calibrated: the validation part fitted how the runs are mixed"
        calibration = RunCalibration(note=note)
    else:
        calibration = calibrate(run)
    settings = ("coefficients", "intercepts", "floor") if "coefficients" in made else ("weights",)

    slowest = max(cards, key=lambda card: card.hop_samples / card.sample_rate_hz)  # gives the timeline
    return BundleCard(
        name=run.recipe,
        kind="ensemble",
        labels=run.labels,
        sample_rate_hz=slowest.sample_rate_hz,
        segment_samples=slowest.segment_samples,
        hop_samples=slowest.hop_samples,
        temperature=calibration.temperature,
        unsure_threshold=calibration.unsure_threshold,
        licence=licence or _NOT_STATED,
        citation=citation,
        origin=f"ensemble ({made['how']}) by musicgenre {__version__} of {', '.join(made_of)}",
        scores=_scores_of(run),
        weights=tuple(weights.values()),
        members=tuple(card.as_values() for card in cards),
        mixture={name: made[name] for name in settings if name in made},
        notes=f"{calibration.note}.",
        extra=", ".join(extras),
        learnt_from=_learnt_from([member.run for member in members]),
    )


def _learnt_from(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Hashes of the tracks that trained the runs, or chose their weights, for the card."""
    learnt = []
    for run in runs:
        manifest = run.manifest()
        if manifest is None:
            return {}
        learnt.append(LearntFrom.of(learnt_tracks(manifest, run.protocol)))
    return LearntFrom.together(learnt).as_values()


def _check_unchanged(ensemble: Run, runs: Sequence[Run]) -> None:
    """Refuse members that do not say what the ensemble was made of, or a mixture that was not kept."""
    made, test = ensemble.info["ensemble"], ensemble.predictions("test")
    if not {"weights", "coefficients"} & made.keys() or made.get("weights") == []:
        raise RunError(
            f"{ensemble.folder} does not say how its runs answer together", next_step="Make the ensemble again"
        )

    # The members' stored answers, mixed as the bundle will mix them, must give what the ensemble wrote down.
    members: Float64 = np.stack([part.scores for part in aligned(runs, "test")])
    try:
        mixed = mixture_from_settings(made, len(runs), len(ensemble.labels))(members)
    except DataError as error:
        raise RunError(
            f"{ensemble.folder / 'run.json'} is damaged ({error.problem})", next_step="Make the ensemble again"
        ) from error

    if mixed.shape != test.scores.shape or np.abs(mixed - test.scores).max() > _LARGEST_CHANGE:
        raise RunError(
            f"the runs of {ensemble.folder} do not answer as they did when it was made",
            valid="Runs that were not trained anew since",
            next_step="Make the ensemble again",
        )


def _scores_of(run: Run) -> tuple[dict[str, Any], ...]:
    """What the run scored on its own test part; nothing where it had none."""
    if not (run.folder / "predictions_test.csv").is_file():
        return ()

    report = evaluate(run.folder)
    scores = []
    for name, found in report.measures():
        scores.append(
            {
                "metric": name,
                "value": found.value,  # whole: rounded twice it would not be what the reports say
                "low": found.low,
                "high": found.high,
                "interval": f"95 %, {found.method}",
                "n_tracks": report.n_tracks,
                "protocol": report.protocol,
                "leaky": report.leaky,
                "seed": run.seed,
                "fold": run.fold,
            }
        )
    return tuple(scores)
