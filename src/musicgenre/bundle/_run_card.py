"""The card of an exported run: what it hears, how its confidence was calibrated, how good it was measured to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from musicgenre import __version__
from musicgenre.bundle._run_calibration import calibrate
from musicgenre.bundle._tag_calibration import calibrate_tags
from musicgenre.bundle.card import BundleCard
from musicgenre.evaluation._estimate import Estimate
from musicgenre.evaluation.run_reports import report_on
from musicgenre.evaluation.runs import Run
from musicgenre.features._row_jobs import reads_of

if TYPE_CHECKING:
    from musicgenre.features.base import Representation

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
