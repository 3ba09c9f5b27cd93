"""The augmentations by name: waveform chains and spectrogram augmentations, each registered where it is written."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from musicgenre.errors import UsageError

if TYPE_CHECKING:
    from musicgenre.augment.spectrogram import SpectrogramAugmentation
    from musicgenre.augment.waveform import Chain

_CHAINS: dict[str, Chain] = {}
_SPECTROGRAM: dict[str, Callable[..., SpectrogramAugmentation]] = {}

Maker = TypeVar("Maker", bound="Callable[..., SpectrogramAugmentation]")


def register_chain(chain: Chain) -> Chain:
    """Add a waveform chain under its own name (in lower case); a name that is taken is an error."""
    if chain.name in _CHAINS or chain.name != chain.name.lower():
        raise UsageError(f"the chain name {chain.name!r} is taken, or not in lower case", valid="A new name")
    _CHAINS[chain.name] = chain
    return chain


def register_spectrogram(name: str) -> Callable[[Maker], Maker]:
    """Register the decorated class as the spectrogram augmentation ``name``."""

    def add(maker: Maker) -> Maker:
        if name in _SPECTROGRAM:
            raise UsageError(f"the augmentation name {name!r} is taken twice", valid="Names are unique")
        _SPECTROGRAM[name] = maker
        return maker

    return add


def list_chains() -> list[str]:
    """Names that :func:`get_chain` knows, sorted."""
    _import_all()
    return sorted(_CHAINS)


def get_chain(name: str) -> Chain:
    """Find a waveform chain; upper and lower case are the same.

    Raises
    ------
    UsageError
        If there is none of that name; the nearest one is named.
    """
    names = list_chains()
    if name.lower() not in names:
        raise _unknown("augmentation chain", name, names)
    return _CHAINS[name.lower()]


def list_spectrogram_augmentations() -> list[str]:
    """Names that :func:`create_spectrogram_augmentation` knows, sorted."""
    _import_all()
    return sorted(_SPECTROGRAM)


def create_spectrogram_augmentation(name: str, **options: Any) -> SpectrogramAugmentation:
    """Make the spectrogram augmentation ``name`` with its ``options``."""
    names = list_spectrogram_augmentations()
    if name not in names:
        raise _unknown("spectrogram augmentation", name, names)
    return _SPECTROGRAM[name](**options)


def _import_all() -> None:
    """Import the files that register augmentations."""
    for name in ("waveform", "spectrogram"):
        importlib.import_module(f"musicgenre.augment.{name}")


def _unknown(what: str, given: str, valid: list[str]) -> UsageError:
    near = difflib.get_close_matches(given.lower(), valid, n=1)
    return UsageError(
        f"there is no {what} named {given!r}",
        valid=f"Valid: {', '.join(valid)}",
        next_step=f"Nearest: {near[0]!r}" if near else "",
    )
