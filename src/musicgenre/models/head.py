"""The genre head: turns MusiCNN's outputs for the heard segments of a track into calibrated genre probabilities.

A head is one JSON file of some kilobytes: a linear classifier, its calibration and its card. One comes with this
package; those taught on this machine lie in a folder of their own, by name. NumPy only.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicgenre import _numbers
from musicgenre._files import config_folder, write_text_atomic
from musicgenre._json import check_version, parsed_json
from musicgenre._numbers import softmax
from musicgenre._text import LONGEST_NAME, did_you_mean, is_plain_name, printable
from musicgenre.audio import Level
from musicgenre.errors import BundleError, UsageError
from musicgenre.features.published.essentia.published import EFFNET
from musicgenre.features.published.musicnn.published import PUBLISHED
from musicgenre.models.discriminant import Linear
from musicgenre.models.support import Support

FORMAT = "musicgenre-head"
FORMAT_VERSION = 4  # the first with a support that asks for change or a ratio: a reader must know that
_VERSION_WITHOUT_RATIO = 3  # the first with a support: a reader that knows none would answer where it must not
_VERSION_WITHOUT_SUPPORT = 2  # the first with a level: a reader that knows none would answer for another sound
_VERSION_WITHOUT_LEVEL = 1
DEFAULT_HEAD = "default"

Inputs = Literal["tags", "embedding"]
"""What a head reads: mean log-odds of the tags, or the mean penultimate embedding."""

Float64 = NDArray[np.float64]

_SMALLEST_PROBABILITY = 1e-4  # log-odds beyond this are mostly rounding and mood
_MOST_BYTES = 100_000_000
_DIGITS = 7  # of each number in the file
_MODEL_FILES = "the path of a bundle (.onnx) or head (.json)"
_REMEDY = "Teach it again, or reinstall musicgenre"

# What every file system takes as a name, and the names that Windows keeps for itself.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GenreHead:
    """A linear classifier over what MusiCNN heard, calibrated, with its card.

    Parameters
    ----------
    name : str
        `default` or the name given when it was taught.
    bundle_name : str
        The embedding bundle whose outputs it reads: its name in the cache, its path, or `both` (MusiCNNs).
    inputs : {"tags", "embedding"}
        Mean log-odds of the tag probabilities over the segments, or mean embedding.
    labels : tuple of str
        The k genres.
    linear : Linear
        Weights of shape (width, k) and bias of shape (k,).
    temperature, segment_temperature : float
        Temperature for very many segments and for one; for n segments
        `temperature + (segment_temperature - temperature) / n`.
    unsure_threshold : float
        Below this confidence the answer is "unsure".
    style_tags : tuple of str
        Tags that say something useful about the style where the head is unsure.
    tag_threshold : float
        From this mean probability on, a style tag is worth saying.
    card : dict
        Data, protocol, measured scores, licences, citations, notes; JSON values only.
    level : Level, optional
        What every track is brought to before it is heard; without one tracks are heard as they are.
    support : Support, optional
        What the training music looks like, for answers to be refused elsewhere; without one confidence alone decides.
    """

    name: str
    bundle_name: str
    inputs: Inputs
    labels: tuple[str, ...]
    linear: Linear
    temperature: float
    segment_temperature: float
    unsure_threshold: float
    style_tags: tuple[str, ...] = ()
    tag_threshold: float = 1.0
    card: dict[str, Any] = field(default_factory=dict)
    level: Level | None = None
    support: Support | None = None

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        width, k = 0, 0
        if self.linear.weights.ndim == 2:
            width, k = self.linear.weights.shape

        numbers = (self.temperature, self.segment_temperature, self.unsure_threshold, self.tag_threshold)
        are_finite = all(np.isfinite(part).all() for part in (self.linear.weights, self.linear.bias, numbers))
        are_names = all(map(is_plain_name, (self.name, *self.labels, *self.style_tags)))
        if not are_names:
            raise BundleError(
                f"the head {self.name[:LONGEST_NAME]!r} has a name, a label or a tag that cannot be shown",
                valid=f"printable names of up to {LONGEST_NAME} characters",
                next_step=_REMEDY,
            )
        fits = (
            k >= 2 and width >= 1 and self.linear.bias.shape == (k,) and len(self.labels) == len(set(self.labels)) == k
        )
        if not fits or not are_finite or min(numbers[:2]) <= 0 or self.inputs not in get_args(Inputs):
            raise BundleError(
                f"the parts of head {self.name!r} do not fit together",
                valid=f"weights (width, {len(self.labels)}), bias ({len(self.labels)},), finite numbers",
            )

    @property
    def ears_sha256(self) -> str:
        """Checksum of the published network it was taught on, where that is a file of its own; else empty."""
        return str(self.card.get("ears_sha256", ""))

    @property
    def bundle_sha256(self) -> str:
        """Checksum of the bundle it was taught on, where that is a file outside the cache; else empty."""
        return str(self.card.get("bundle_sha256", ""))

    @classmethod
    def load_default(cls) -> GenreHead:
        """Load the head of the ten GTZAN genres that comes with this package."""
        file = resources.files("musicgenre.models").joinpath("heads", "default.json")
        return cls.from_json(file.read_text(encoding="utf-8"), where="the default head")

    @classmethod
    def load(cls, path: Path) -> GenreHead:
        """Read a head from a file.

        Raises
        ------
        BundleError
            When the file is missing, damaged, changed by hand, or from a newer version.
        """
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise BundleError(f"{path} is too large for a head", valid=f"up to {_MOST_BYTES // 10**6} MB")
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(
                f"{path} cannot be read as a head ({error})", next_step="Teach it again, or name another file"
            ) from error
        return cls.from_json(text, where=str(path))

    def save(self, path: Path) -> None:
        """Write the head to a JSON file, atomically."""
        write_text_atomic(path, self.to_json())

    def features(self, tags: ArrayLike, embedding: ArrayLike | None = None) -> Float64:
        """Pool the segments of a track into the vector that the head reads.

        Parameters
        ----------
        tags : array_like, shape (n_segments, n_tags)
            Tag probabilities.
        embedding : array_like, shape (n_segments, embedding_width), optional
            Penultimate embedding; needed by heads with `inputs="embedding"`.

        Returns
        -------
        ndarray, shape (width,)
        """
        return np.asarray(self._segments(tags, embedding).mean(axis=0))

    def score(self, tags: ArrayLike, embedding: ArrayLike | None = None) -> Float64:
        """Calibrated probabilities of the genres for a whole track; arguments as for `features`."""
        segments = self._segments(tags, embedding)
        logits = self.linear.logits(segments.mean(axis=0))
        return softmax(logits / self.temperature_for(len(segments)))

    def timeline(self, tags: ArrayLike, embedding: ArrayLike | None = None) -> Float64:
        """Probabilities of the genres for every segment alone, shape (n_segments, k).

        Three seconds say less than a track: these are flatter and less often right than `score`.
        """
        return softmax(self.linear.logits(self._segments(tags, embedding)) / self.segment_temperature)

    def temperature_for(self, n_segments: int) -> float:
        """Temperature of an answer heard from so many segments: the fewer, the less sure."""
        return self.temperature + (self.segment_temperature - self.temperature) / n_segments

    def to_json(self) -> str:
        """Write the head as JSON with a checksum of its content."""
        content: dict[str, Any] = {
            "format": FORMAT,
            "format_version": self._format_version(),
            "name": self.name,
            "bundle": self.bundle_name,
            "inputs": self.inputs,
            "labels": list(self.labels),
            "temperature": self.temperature,
            "segment_temperature": self.segment_temperature,
            "unsure_threshold": self.unsure_threshold,
            "style_tags": list(self.style_tags),
            "tag_threshold": self.tag_threshold,
            "card": self.card,
            "bias": _round(self.linear.bias),
            "weights": [_round(row) for row in self.linear.weights],
        }
        if self.level:
            content["level"] = self.level.as_values()
        if self.support:
            content["support"] = self.support.as_values()
        content["sha256"] = _checksum(content)

        lines = [f"  {json.dumps(key)}: {_value_text(key, value)}" for key, value in content.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str, *, where: str = "this head") -> GenreHead:
        """Read a head from JSON.

        Parameters
        ----------
        text : str
            What `to_json` wrote.
        where : str
            What to call it in an error.

        Raises
        ------
        BundleError
            When it is no head, from a newer version, or its content does not match its checksum.
        """
        # whether it is one of ours, one that we can read, and as it was written
        try:
            content = parsed_json(text, storable=True)
        except ValueError as error:
            raise _damaged(where, f"not JSON: {error}") from error

        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise BundleError(
                f"{where} is not a genre head",
                valid="a JSON file written by musicgenre teach",
                next_step="Name another file",
            )
        check_version(content, FORMAT_VERSION, where, kind="head", error=BundleError, remedy=_REMEDY)
        if content.get("sha256") != _checksum(content):
            raise _damaged(where, "its content does not match its checksum")

        try:
            return cls(
                name=str(content["name"]),
                bundle_name=str(content["bundle"]),
                inputs=content["inputs"],
                labels=tuple(map(str, content["labels"])),
                linear=Linear(np.array(content["weights"], np.float64), np.array(content["bias"], np.float64)),
                temperature=float(content["temperature"]),
                segment_temperature=float(content["segment_temperature"]),
                unsure_threshold=float(content["unsure_threshold"]),
                style_tags=tuple(map(str, content["style_tags"])),
                tag_threshold=float(content["tag_threshold"]),
                card=dict(content["card"]),
                level=Level.from_values(content["level"], where) if "level" in content else None,
                support=(
                    Support.from_values(content["support"], where, n_labels=len(content["labels"]))
                    if "support" in content
                    else None
                ),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _damaged(where, f"{type(error).__name__}: {error}") from error

    def _format_version(self) -> int:
        """The oldest version that says all that is in this head."""
        if self.support:
            return FORMAT_VERSION if self.support.asks_more else _VERSION_WITHOUT_RATIO
        return _VERSION_WITHOUT_SUPPORT if self.level else _VERSION_WITHOUT_LEVEL

    def _segments(self, tags: ArrayLike, embedding: ArrayLike | None) -> Float64:
        """What the head reads of each segment, shape (n_segments, width)."""
        chosen = tags if self.inputs == "tags" else embedding
        values = np.asarray([] if chosen is None else chosen, dtype=np.float64)

        width = len(self.linear.weights)
        if values.ndim != 2 or not len(values) or values.shape[1] != width:
            raise BundleError(
                f"head {self.name!r} was given {self.inputs} of shape {values.shape}",
                valid=f"(segments, {width}) with at least one segment, as {self.bundle_name} gives",
            )
        return log_odds(values) if self.inputs == "tags" else values


def load_head(name_or_path: str | Path) -> GenreHead:
    """Load the default head, a taught head by its name, or a head file by its path.

    Raises
    ------
    BundleError
        When there is none, or it is damaged or from a newer version.
    """
    text = str(name_or_path)
    if text == DEFAULT_HEAD:
        return GenreHead.load_default()

    path = Path(text)
    if path.is_dir() and text not in list_taught():
        raise BundleError(
            f"the model {printable(text)} is a folder",
            valid=_MODEL_FILES,
            next_step=f"A run becomes such a file by: musicgenre export {shlex.quote(printable(text))}",
        )
    if path.suffix == ".json" or len(path.parts) > 1:  # no name of a taught head looks like this
        return GenreHead.load(path)

    if text not in list_taught():
        known = (DEFAULT_HEAD, *list_taught(), *PUBLISHED, EFFNET)
        raise BundleError(
            f"there is no model {text!r}",
            valid=f"{', '.join(known)}, or {_MODEL_FILES}",
            next_step=f"{did_you_mean(text, known)}For one of your own: musicgenre teach FOLDER --name NAME",
        )
    return GenreHead.load(taught_path(text))


def list_taught() -> tuple[str, ...]:
    """Names of the heads taught on this machine, sorted; none where their folder may not be read."""
    try:
        stems = [path.stem for path in heads_folder().glob("*.json")]
    except PermissionError:  # what does without them is not to fail for it
        return ()
    return tuple(sorted(stem for stem in stems if _NAME.fullmatch(stem)))


def taught_path(name: str) -> Path:
    """Where the taught head of this name is, or would be.

    Raises
    ------
    UsageError
        When the name cannot be a file name on every system, or is that of the default head.
    """
    stem = name.split(".", maxsplit=1)[0].lower()
    if not _NAME.fullmatch(name) or name.endswith((".", ".json", ".onnx")) or stem in _RESERVED:
        raise UsageError(
            f"{name!r} cannot be the name of a taught model",
            valid="letters, digits, '-', '_' and '.', at most 64, the first a letter or digit, no .json at the end",
        )
    if name == DEFAULT_HEAD:
        raise UsageError(
            f"{name!r} is the name of the model that comes with musicgenre", next_step="Choose another name"
        )
    return heads_folder() / f"{name}.json"


def heard_path(path: Path) -> Path:
    """Where that is kept which was heard for the taught head at `path`, so that tracks can be added to it."""
    return path.with_suffix(".heard.npz")


def heads_folder() -> Path:
    """Folder of the heads taught on this machine."""
    return config_folder() / "heads"


def log_odds(probabilities: ArrayLike) -> Float64:
    """Log-odds of tag probabilities, which are kept within 0.0001..0.9999."""
    return _numbers.log_odds(probabilities, smallest=_SMALLEST_PROBABILITY)


def _round(values: Float64) -> list[float]:
    """Leave out digits that no answer depends on, for a file that people can compare."""
    return [float(f"{value:.{_DIGITS}g}") for value in values]


def _value_text(key: str, value: Any) -> str:
    """One line a row of weights and an indented card, so that the file can be read and compared by people."""
    if key == "weights":
        return "[\n    " + ",\n    ".join(json.dumps(row) for row in value) + "\n  ]"
    if key == "support":
        parts = [f"{json.dumps(name)}: {json.dumps(part)}" for name, part in value.items()]
        return "{\n    " + ",\n    ".join(parts) + "\n  }"
    if key == "card":
        return json.dumps(value, ensure_ascii=False, indent=2).replace("\n", "\n  ")
    return json.dumps(value, ensure_ascii=False)


def _checksum(content: dict[str, Any]) -> str:
    """SHA-256 of all but the checksum itself, whatever the order and the layout."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    canonical = json.dumps(rest, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def _damaged(where: str, reason: str) -> BundleError:
    return BundleError(f"{where} is damaged ({reason})", next_step=_REMEDY)
