"""The registry of protocols: what each does, what its numbers may be compared with, and how it is recorded."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from musicgenre.data.manifest import Manifest, require_classes
from musicgenre.errors import DataError, UsageError

_Splitter = Callable[..., Manifest]
_PROTOCOLS: dict[str, Protocol] = {}
OptionValue = int | float | bool | str | None


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
        ``splitter(manifest, seed=..., **options)``.
    leaky : bool, optional
        Whether its scores are inflated by design.
    """

    name: str
    summary: str
    comparable: str
    splitter: _Splitter
    leaky: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options it takes."""
        names = inspect.signature(self.splitter).parameters
        return tuple(name for name in names if name not in ("manifest", "seed"))


@dataclass(frozen=True)
class SplitRecord:
    """What a manifest says of its own split: protocol, seed and the options that were given."""

    protocol: str
    seed: int
    options: str


def register(name: str, *, summary: str, comparable: str, leaky: bool = False) -> Callable[[_Splitter], _Splitter]:
    """Add a protocol to the registry; a name that is taken is an error.

    Parameters
    ----------
    name : str
        Its name.
    summary, comparable, leaky
        See `Protocol`.

    Returns
    -------
    callable
        A decorator for the function that splits.
    """

    def add(splitter: _Splitter) -> _Splitter:
        if name in _PROTOCOLS:
            raise UsageError(f"two protocols are called {name!r}", valid="Each name once")
        _PROTOCOLS[name] = Protocol(name, summary, comparable, splitter, leaky)
        return splitter

    return add


def list_protocols() -> tuple[Protocol, ...]:
    """All protocols, by name."""
    _load_all()
    return tuple(_PROTOCOLS[name] for name in sorted(_PROTOCOLS))


def get_protocol(name: str) -> Protocol:
    """Find a protocol by its name."""
    _load_all()
    if name not in _PROTOCOLS:
        near = difflib.get_close_matches(name, _PROTOCOLS, n=1)
        guess = f"Did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"there is no protocol {name!r}", valid=f"{guess}Protocols: {', '.join(sorted(_PROTOCOLS))}")
    return _PROTOCOLS[name]


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
    if unknown := [name for name in given if name not in chosen.options]:
        valid = ", ".join(f"--{name.replace('_', '-')}" for name in chosen.options) or "none"
        raise UsageError(
            f"the protocol {protocol} takes no --{unknown[0].replace('_', '-')}", valid=f"Its options: {valid}"
        )
    if seed < 0:
        raise UsageError(f"the seed {seed} is negative", valid="A whole number from 0 on")
    originals = [track for track in manifest.tracks if not track.augmented]
    if not originals:
        raise DataError("the manifest has no original track, only augmented ones")
    require_classes(manifest.with_tracks(originals))
    done = chosen.splitter(manifest.with_tracks(originals), seed=seed, **given)
    record = {
        "protocol": protocol,
        "protocol_seed": str(seed),
        "protocol_options": ";".join(f"{name}={value}" for name, value in sorted(given.items())),
    }
    return manifest.with_tracks(track.with_columns(**record) for track in _with_augmented(manifest, done).tracks)


def protocol_of(manifest: Manifest) -> SplitRecord | None:
    """Read from a manifest how it was split; None when no protocol of ours did it."""
    records = {
        (columns["protocol"], columns.get("protocol_seed", "0"), columns.get("protocol_options", ""))
        for columns in (track.columns for track in manifest.tracks)
        if columns.get("protocol")
    }
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


def _with_augmented(manifest: Manifest, done: Manifest) -> Manifest:
    """Put the augmented rows back, each beside its original and in the training part only."""
    by_id = {track.track_id: track for track in done.tracks}
    rows = []
    for track in manifest.tracks:
        source = by_id.get(track.source_id)
        if source is None:
            raise DataError(
                f"the augmented row {track.track_id} was made from {track.source_id!r}, which is not in the manifest",
                next_step="Split the manifest of the originals and augment afterwards",
            )
        part = "train" if source.split == "train" else ""
        rows.append(
            dataclasses.replace(track, split=part, fold=source.fold) if track.augmented else by_id[track.track_id]
        )
    return manifest.with_tracks(rows)


def _load_all() -> None:
    package = importlib.import_module("musicgenre.data.splits")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_") and module.name != "registry":
            importlib.import_module(f"{package.__name__}.{module.name}")
