"""The card that travels inside a bundle: what the model hears, what it says, whose work it is, how good it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, get_args

from musicgenre._json import check_version, parsed_json
from musicgenre._numbers import sigmoid, softmax
from musicgenre._text import LONGEST_NAME, is_plain_name, short_repr
from musicgenre.audio import Level
from musicgenre.bundle.stages import Stage
from musicgenre.errors import BundleError, DataError
from musicgenre.features.base import MOST_VALUES, SHORTEST_HOP_S
from musicgenre.models.pooling import Mixture, Pooling, mixture_from_settings
from musicgenre.models.support import Support

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT_VERSION = 4
_PLAIN_VERSION = 1
# Fields that came later: the version from which a reader knows them, and what says nothing. One that does not know
# them would answer for another sound, or not at all; a card without them is written as before, to the byte.
_LATER: dict[str, tuple[int, Any]] = {
    "level": (2, {}),
    "hears": (3, "segments"),
    "stages": (3, ()),
    "tail_samples": (3, None),
    "support": (4, {}),
    "learnt_from": (_PLAIN_VERSION, {}),  # a reader that does not know it answers the same
}

# An ensemble that one without it would mix otherwise.
_FLOOR_VERSION = 4

NON_COMMERCIAL = "CC BY-NC"
"""What the name of a licence holds that forbids commercial use."""

Kind = Literal["embedding", "classifier", "ensemble"]
Activation = Literal["softmax", "sigmoid", "none"]
Task = Literal["single_label", "multi_label"]
Hears = Literal["segments", "whole"]

READABLE = ("embedding", "logits")
"""Outputs of a classifier by which it may tell that a sound is unlike its training music."""

_CHOICES: dict[str, Any] = {"kind": Kind, "activation": Activation, "scoring": Pooling, "task": Task, "hears": Hears}
_MOST_SAMPLES = MOST_VALUES
_MOST_MEMBERS = 100
_LARGEST = 1e6
_SHOWN_CHARACTERS = 80
_REMEDY = "Get or export it anew"

_Check = tuple[Callable[[Any], bool], str]
"""Whether a value can be meant, and what is valid, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleCard:
    """Everything a caller must know about a bundle.

    Attributes
    ----------
    name : str
        Name of the model.
    kind : {"embedding", "classifier", "ensemble"}
        `embedding`: outputs `tags` (rows, n_tags) probabilities and `embedding` (rows, width).
        `classifier`: output `logits` (rows, n_labels).
        `ensemble`: the inputs and outputs of classifier `n` under the prefix `n/`, see `members`.
    labels : tuple of str
        Names of the scores; for an embedding bundle the same as `tags`.
    sample_rate_hz : int
        Rate of the waveform the bundle hears.
    segment_samples, hop_samples, lead_samples : int
        Segment `k` covers `segment_samples` from the sample `k * hop_samples` on (rounded, where that is no whole
        number) of the waveform with `lead_samples` zeros in front and as many zeros behind as needed. Of an ensemble:
        those of the member whose segments its timeline shows.
    tail_samples : int or None
        Zeros behind the waveform, where they are not as many as in front.
    tags : tuple of str
        Names of the tags of an embedding bundle, else empty.
    activation : {"softmax", "sigmoid", "none"}
        What turns `logits / temperature` into probabilities; `none`: they are probabilities already.
    temperature, unsure_threshold : float
        Calibration of a classifier: below the threshold the answer is "unsure".
    scoring : {"mean", "max", "vote"}
        How the segments of a track score together, see `musicgenre.models.pooling`.
    task : {"single_label", "multi_label"}
        Whether a classifier names one label or any number of tags.
    thresholds : tuple of float
        Of a tagger, one a label: the probability of a track from which on a tag is named. Empty:
        none are known.
    tag_scales, tag_biases : tuple of float
        Calibration of a tagger, one a label: probabilities are `sigmoid(scale * logits + bias)`. Empty: none.
    licence, citation, origin : str
        Whose work the weights are, and where they came from.
    front_end : mapping
        The values of the `musicgenre.features.mel.specification.MelSpec` inside, or empty.
    scores : tuple of mapping
        Measured scores: protocol, metric, value, interval.
    weights : tuple of mapping
        Cards of the published weights it was trained from: whose work they are, and on which terms.
    members : tuple of mapping
        Cards of the classifiers of an ensemble, in order.
    mixture : mapping
        How they answer together: settings of a `musicgenre.models.pooling`.
    stages : tuple of mapping
        Published networks, each a file of its own and unaltered, that what the graph gives goes through, in order:
        settings of `musicgenre.bundle.stages.Stage`.
    level : mapping
        What every track is brought to before it is heard, the values of a `musicgenre.audio.Level`, where training
        did the same. Empty: tracks are heard as they are.
    support : mapping
        What the music looks like that a classifier was trained on, so that it says "unsure" of what is unlike it: the
        values of a `musicgenre.models.support.Support`, and as `reads` the output that it looks at, `embedding` (then
        the graph gives that beside `logits`, shape (rows, width)) or `logits`. Empty: it goes by confidence alone.
    hears : {"segments", "whole"}
        Whether a row of the graph is always a segment, or, as training had it, all of a track, however long; then
        `segment_samples` and `hop_samples` cut tracks of which only a part is heard.
    notes : str
        What else a user should know.
    extra : str
        Optional install (`features`) that the bundle's front end needs, or empty.
    learnt_from : mapping
        Short hashes of the tracks it was trained on: a `musicgenre.data.learnt.LearntFrom`. Empty: nobody noted them.
    source_sha256 : mapping of str to str
        Checksums of the files the weights came from.
    sha256 : str
        Checksum of the bundle itself (model and card); set when it is written.
    format_version : int
        Version of the bundle format.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    sample_rate_hz: int
    segment_samples: int
    hop_samples: float
    lead_samples: int = 0
    tail_samples: int | None = None
    tags: tuple[str, ...] = ()
    activation: Activation = "softmax"
    temperature: float = 1.0
    unsure_threshold: float = 0.0
    scoring: Pooling = "mean"
    task: Task = "single_label"
    thresholds: tuple[float, ...] = ()
    tag_scales: tuple[float, ...] = ()
    tag_biases: tuple[float, ...] = ()
    licence: str = ""
    citation: str = ""
    origin: str = ""
    front_end: Mapping[str, Any] = field(default_factory=dict)
    scores: tuple[Mapping[str, Any], ...] = ()
    weights: tuple[Mapping[str, Any], ...] = ()
    members: tuple[Mapping[str, Any], ...] = ()
    mixture: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[Mapping[str, Any], ...] = ()
    level: Mapping[str, Any] = field(default_factory=dict)
    support: Mapping[str, Any] = field(default_factory=dict)
    hears: Hears = "segments"
    notes: str = ""
    extra: str = ""
    learnt_from: Mapping[str, Any] = field(default_factory=dict)
    source_sha256: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""
    format_version: int = _PLAIN_VERSION

    def __post_init__(self) -> None:
        """Check what everything else relies on; a `BundleError` names the field, its value and what is valid."""
        for name, choice in _CHOICES.items():
            values = get_args(choice)
            self._require(name, (values.__contains__, ", ".join(values)))
        for name, check in _CHECKS.items():
            self._require(name, check)

        # These depend on fields that were looked at above.
        shortest = ceil(SHORTEST_HOP_S * self.sample_rate_hz)
        kind = _number if isinstance(self.hop_samples, float) and not self.hop_samples.is_integer() else _whole_number
        self._require("hop_samples", kind(shortest, _MOST_SAMPLES))
        self._require("lead_samples", _whole_number(0, (self.segment_samples - 1) // 2))
        if self.tail_samples is not None:
            self._require("tail_samples", _whole_number(0, self.segment_samples - 1 - self.lead_samples))
        n_labels = len(self.labels)
        for name in ("thresholds", "tag_scales", "tag_biases"):
            self._require(name, (lambda values: len(values) in (0, n_labels), "none, or a number a label"))
        if self.kind == "embedding" and self.tags != self.labels:
            raise BundleError(
                f"the card of {self.name!r} has other labels than tags", valid="The same, for an embedding"
            )
        if len(self.tag_scales) != len(self.tag_biases):
            raise BundleError(
                f"the card of {self.name!r} has {len(self.tag_scales)} tag_scales and {len(self.tag_biases)} "
                "tag_biases",
                valid="As many of one as of the other",
            )

        if not isinstance(self.mixture, Mapping):
            raise BundleError(
                f"the card of {self.name!r} has a damaged mixture ({short_repr(self.mixture)})", valid="A mapping"
            )

        self.hearing_level  # noqa: B018 - refuses a level that is none
        self.published_stages  # noqa: B018 - and stages that are none
        self.known_music  # noqa: B018 - and what cannot be the statistics of an output
        if self.kind == "ensemble":
            self._check_ensemble()
        elif self.members or self.mixture:
            raise BundleError(f"the card of {self.name!r} has members or a mixture", valid="An ensemble has")

    def _require(self, name: str, check: _Check) -> None:
        """Refuse a field that says what no model can mean."""
        value = getattr(self, name)
        holds, valid = check
        if holds(value):
            return

        raise BundleError(f"the card of {_in_short(self.name)} says {name}={_in_short(value)}", valid=valid)

    def _check_ensemble(self) -> None:
        """Refuse members that cannot answer together."""
        # An ensemble among the members is refused before its card is made: they could nest without end.
        for member in self.members:
            if isinstance(member, Mapping) and member.get("kind") == "ensemble":
                raise BundleError(f"the card of {self.name!r} has an ensemble among its members", valid="classifiers")

        if len(self.members) > _MOST_MEMBERS:
            raise BundleError(f"the card has {len(self.members):,} members", valid=f"{_MOST_MEMBERS} at most")
        cards = self.member_cards
        if len(cards) < 2:
            raise BundleError(f"the card of {self.name!r} has {len(cards)} members", valid="two or more")
        for card in cards:
            said = (card.kind, card.task, card.activation)
            alike = said == ("classifier", "single_label", "softmax") and set(card.labels) == set(self.labels)
            if not alike or card.stages:
                raise BundleError(
                    f"the member {card.name!r} of {self.name!r} is a {card.kind} of {', '.join(card.labels)} "
                    f"({card.task}, {card.activation})",
                    valid=f"classifiers of {', '.join(self.labels)} (single_label, softmax)",
                )

        if self.task != "single_label":
            raise BundleError(f"the card of {self.name!r} says task={self.task}", valid="single_label, of an ensemble")
        self.mix  # noqa: B018 - refuses a mixture that does not fit

    @property
    def names_tags(self) -> bool:
        """Whether the model names any number of tags: a tagger, exported or published."""
        return self.kind == "embedding" or self.task == "multi_label"

    @property
    def hearing_level(self) -> Level | None:
        """What every track is brought to before it is heard, if anything."""
        return Level.from_values(self.level, f"the card of {self.name!r}") if self.level else None

    @property
    def published_stages(self) -> tuple[Stage, ...]:
        """The published networks behind the graph."""
        return tuple(Stage.from_values(values, f"the card of {self.name!r}") for values in self.stages)

    @property
    def known_music(self) -> Support | None:
        """What the music looks like that a classifier was trained on, where the card says so."""
        if not self.support:
            return None

        where = f"the card of {self.name!r}"
        reads = self.support.get("reads")
        if (self.kind, self.task) != ("classifier", "single_label") or reads not in READABLE:
            raise BundleError(
                f"{where} has a support that reads {_in_short(reads)}, for a {self.kind} ({self.task})",
                valid=f"{' or '.join(READABLE)}, of a classifier (single_label)",
            )
        support = Support.from_values(self.support, where, n_labels=len(self.labels))
        if support.ceilings or (reads == "logits" and support.centre.size != len(self.labels)):
            raise BundleError(
                f"{where} has a support for {support.centre.size} values and {len(support.ceilings)} tags",
                valid="as many values as the output has that it reads, and no tags: a classifier gives none",
            )
        return support

    @property
    def terms(self) -> str:
        """The licence that forbids commercial use of the model, its own or that of weights in it; mostly empty."""
        licences = [self.licence, *(str(weights.get("licence", "")) for weights in self.weights)]
        for licence in licences:
            if NON_COMMERCIAL in licence:
                return licence
        return ""

    @property
    def is_calibrated(self) -> bool:
        """Whether its probabilities were fitted to mean what they say; published taggers are as they are."""
        return (
            self.kind == "embedding" or self.temperature != 1.0 or self.unsure_threshold > 0 or bool(self.tag_scales)
        )

    @property
    def caveats(self) -> tuple[str, ...]:
        """What must be said with every answer of the model, each one clause; mostly nothing."""
        found = []
        if any(score.get("leaky") for score in self.scores):
            found.append("LEAKY MODEL: it was tested on tracks that it learnt from, so that no score of it counts")
        if not self.is_calibrated:
            found.append("the model's confidence is not calibrated: it may be right far less often than it says")
        return tuple(found)

    @property
    def member_cards(self) -> tuple[BundleCard, ...]:
        """Cards of the classifiers of an ensemble."""
        return tuple(_card_from(member, f"a member of {self.name!r}") for member in self.members)

    @property
    def mix(self) -> Mixture:
        """How the members of an ensemble answer together."""
        try:
            return mixture_from_settings(self.mixture, len(self.members), len(self.labels))
        except (DataError, AttributeError, TypeError) as error:
            raise BundleError(f"the card of {self.name!r} has a damaged mixture ({error})") from error

    def probabilities(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Turn the logits of a classifier into calibrated probabilities, shape (rows, n_labels)."""
        import numpy as np

        values = logits.astype(np.float64) / self.temperature
        if self.tag_scales:
            values = values * np.array(self.tag_scales) + np.array(self.tag_biases)
        match self.activation:
            case "sigmoid":
                return sigmoid(values)
            case "softmax":
                return softmax(values)
            case "none":
                return np.asarray(values)

    def as_values(self) -> dict[str, Any]:
        """Give the card as plain values, as they stand on the card of an ensemble."""
        values = asdict(self)
        versions = [_PLAIN_VERSION, *(member.get("format_version", _PLAIN_VERSION) for member in self.members)]
        for name, (version, nothing) in _LATER.items():
            if values[name] == nothing:
                del values[name]
            else:
                versions.append(version)
        if "floor" in self.mixture:
            versions.append(_FLOOR_VERSION)
        values["format_version"] = max(versions)
        return values

    def to_json(self) -> str:
        """Write the card as one line of JSON, keys sorted."""
        return json.dumps(self.as_values(), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str) -> BundleCard:
        """Read a card.

        Parameters
        ----------
        text : str
            The JSON.
        where : str
            The bundle's file, for messages.

        Raises
        ------
        BundleError
            When the format is newer than this version of musicgenre knows, or the card is damaged.
        """
        try:
            values = parsed_json(text, storable=True)
        except ValueError as error:
            raise BundleError(f"{where}: the card is not JSON ({error})", next_step=_REMEDY) from error
        return _card_from(values, where)


def _card_from(values: Any, where: str) -> BundleCard:
    """Make a card of plain values; names that this version does not know are left out."""
    check_version(values, FORMAT_VERSION, where, kind="bundle", error=BundleError, remedy=_REMEDY)

    known: dict[str, Any] = {}
    for entry in fields(BundleCard):
        if entry.name in values:
            value = values[entry.name]
            known[entry.name] = tuple(value) if isinstance(value, list) else value
    try:
        return BundleCard(**known)
    except TypeError as error:  # a field is missing
        raise BundleError(f"{where}: the card is damaged ({error})", next_step=_REMEDY) from error


def _is_number(value: object, least: float = -_LARGEST, most: float = _LARGEST) -> bool:
    """Tell a number from what only looks like one to Python: True, NaN, infinity, ten thousand digits."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _in_short(value: object) -> str:
    """Show a value that may be anything in a message."""
    try:
        shown = repr(value)
    except ValueError:  # a number of more digits than Python writes
        return "a number of thousands of digits"
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[: _SHOWN_CHARACTERS - 3]}..."


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_list_of(values: object, holds: Callable[[Any], bool]) -> bool:
    return isinstance(values, tuple) and all(holds(value) for value in values)


def _are_names(values: Any) -> bool:
    """Tell names that differ and can be shown on a line from anything else."""
    can_be_shown = _is_list_of(values, is_plain_name)
    return can_be_shown and len(set(values)) == len(values)


def _whole_number(least: int, most: int) -> _Check:
    return (
        lambda value: isinstance(value, int) and _is_number(value, least, most),
        f"a whole number from {least} to {most}",
    )


def _number(least: float, most: float = _LARGEST) -> _Check:
    return (lambda value: _is_number(value, least, most), f"a number from {least:g} to {most:g}")


def _numbers(least: float = -_LARGEST) -> _Check:
    return (
        lambda values: _is_list_of(values, lambda value: _is_number(value, least)),
        f"numbers from {least:g} to {_LARGEST:g}",
    )


_TEXT: _Check = (_is_text, "text")
_MAPPING: _Check = (_is_mapping, "names with values")
_MAPPINGS: _Check = (lambda values: _is_list_of(values, _is_mapping), "a list of names with values")
_CHECKS: dict[str, _Check] = {
    "name": (is_plain_name, f"a printable name of up to {LONGEST_NAME} characters"),
    "labels": (lambda value: bool(value) and _are_names(value), "printable names that differ, one at least"),
    "tags": (_are_names, "printable names that differ"),
    "sample_rate_hz": _whole_number(1_000, 768_000),  # what audio is decoded to
    "segment_samples": _whole_number(1, _MOST_SAMPLES),
    "temperature": _number(1e-6),
    "unsure_threshold": _number(0),
    "thresholds": _numbers(),
    "tag_scales": _numbers(1e-9),
    "tag_biases": _numbers(),
    **dict.fromkeys(("licence", "citation", "origin", "notes", "extra", "sha256"), _TEXT),
    **dict.fromkeys(("front_end", "learnt_from", "level", "source_sha256", "support"), _MAPPING),
    **dict.fromkeys(("scores", "stages", "weights"), _MAPPINGS),
}
