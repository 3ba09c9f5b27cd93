"""The registry of protocols: what each does, what its numbers may be compared with, and how it is recorded."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args, get_type_hints

from musicgenre._registry import Registry
from musicgenre.data.manifest import Manifest, require_classes
from musicgenre.errors import DataError, UsageError

OptionValue = int | float | bool | str | None

_Splitter = Callable[..., Manifest]
_NOTHING_KNOWN = "nothing is known about artists on both sides"
_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Protocol:
    """One way to split tracks.

    Parameters
    ----------
    name : str
        Its name on the command line and in every result.
    summary : str
        What it does, in one line.
    comparable : str
        Which numbers its results may be compared with.
    splitter : callable
        `splitter(manifest, seed=..., **options)`.
    caveat : str, optional
        What to know about every number under it, without the full stop; reports print it.
    leaky : bool, optional
        Whether its scores are inflated by design.
    """

    name: str
    summary: str
    comparable: str
    splitter: _Splitter
    caveat: str = _NOTHING_KNOWN
    leaky: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options it takes."""
        names = inspect.signature(self.splitter).parameters
        return tuple(name for name in names if name not in ("manifest", "seed"))

    def check_option(self, name: str, value: OptionValue) -> None:
        """Raise `UsageError` unless the protocol takes this option with a value of this type."""
        flag = f"--{name.replace('_', '-')}"
        if name not in self.options:
            valid = ", ".join(f"--{option.replace('_', '-')}" for option in self.options) or "none"
            raise UsageError(f"the protocol {self.name} takes no {flag}", valid=f"Its options: {valid}")

        hint = get_type_hints(self.splitter).get(name, OptionValue)
        types = tuple(kind for kind in get_args(hint) or (hint,) if kind in _TYPE_NAMES)
        # In Python true and false are whole numbers, and whole numbers are not floats: a person means neither.
        fits = type(value) in types or (type(value) is int and float in types)
        if types and not fits:
            expected = " or ".join(_TYPE_NAMES[kind] for kind in types)
            raise UsageError(f"the protocol {self.name} cannot take {name}={value!r}", valid=expected)


@dataclass(frozen=True)
class SplitRecord:
    """What a manifest says of its own split: protocol, seed and the options that were given."""

    protocol: str
    seed: int
    options: str


_PROTOCOLS: Registry[Protocol] = Registry("protocol", "protocols", "musicgenre.data.splits", asks=True)


def register(
    name: str, *, summary: str, comparable: str, caveat: str = _NOTHING_KNOWN, leaky: bool = False
) -> Callable[[_Splitter], _Splitter]:
    """Add a protocol to the registry; a name that is taken is an error.

    Parameters
    ----------
    name : str
        Its name.
    summary, comparable, caveat, leaky
        See `Protocol`.

    Returns
    -------
    callable
        A decorator for the function that splits.
    """

    def add(splitter: _Splitter) -> _Splitter:
        _PROTOCOLS.add(name, Protocol(name, summary, comparable, splitter, caveat, leaky))
        return splitter

    return add


def list_protocols() -> tuple[Protocol, ...]:
    """All protocols, by name."""
    return _PROTOCOLS.entries()


def get_protocol(name: str) -> Protocol:
    """Find a protocol by its name; `UsageError` names the nearest one where there is none."""
    return _PROTOCOLS.get(name)


def split(manifest: Manifest, protocol: str, *, seed: int = 0, **options: OptionValue) -> Manifest:
    """Split the tracks of a manifest; the result depends on the track ids and the seed, never on the rows' order.

    Augmented rows join the training part of their original; those of an original in another part are not used.

    Parameters
    ----------
    manifest : Manifest
        The tracks. An earlier split is replaced.
    protocol : str
        Name of the protocol.
    seed : int, optional
        Same seed, same split, on every machine.
    **options
        Options of the protocol; None means its default.

    Returns
    -------
    Manifest
        The same rows in the same order, with split, fold and the record of the protocol.
    """
    chosen = get_protocol(protocol)
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        chosen.check_option(name, value)
    if seed < 0:
        raise UsageError(f"the seed {seed} is negative", valid="A whole number from 0 on")

    originals = [track for track in manifest.tracks if not track.augmented]
    if not originals:
        raise DataError("the manifest has no original track, only augmented ones")
    require_classes(manifest.with_tracks(originals))
    done = chosen.splitter(manifest.with_tracks(originals), seed=seed, **given)

    # Augmented rows go back to where they stood, each beside its original and in the training part only.
    tracks_by_id = {track.track_id: track for track in done.tracks}
    rows = []
    for track in manifest.tracks:
        source = tracks_by_id.get(track.source_id)
        if source is None:
            raise DataError(
                f"the augmented row {track.track_id} was made from {track.source_id!r}, which is not in the manifest",
                next_step="Split the manifest of the originals and augment afterwards",
            )
        if track.augmented:
            part = "train" if source.split == "train" else ""
            rows.append(dataclasses.replace(track, split=part, fold=source.fold))
        else:
            rows.append(source)

    # The record makes every result that comes of the manifest say how it was split.
    record = {
        "protocol": protocol,
        "protocol_seed": str(seed),
        "protocol_options": ";".join(f"{name}={value}" for name, value in sorted(given.items())),
    }
    return manifest.with_tracks(track.with_columns(**record) for track in rows)


def protocol_of(manifest: Manifest) -> SplitRecord | None:
    """Read from a manifest how it was split; None when no protocol of ours did it."""
    records = set()
    for track in manifest.tracks:
        columns = track.columns
        if columns.get("protocol"):
            seed, options = columns.get("protocol_seed", "0"), columns.get("protocol_options", "")
            records.add((columns["protocol"], seed, options))
    if len(records) > 1:
        raise DataError(
            f"the manifest was split under {len(records)} different protocols or seeds",
            valid="One protocol, seed and set of options for all rows",
            next_step="Split it again with: musicgenre data split",
        )
    if not records:
        return None

    name, seed, options = records.pop()
    if not (seed.isascii() and seed.isdigit()):
        raise DataError(f"the column protocol_seed holds {seed!r}", valid="A whole number from 0 on")
    return SplitRecord(name, int(seed), options)
