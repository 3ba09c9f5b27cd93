"""The kinds of input, by name."""

from __future__ import annotations

import importlib
from pathlib import Path

from tests.attack.base import Target

KINDS = {
    "sounds": "tests.attack.sounds:containers",
    "lies": "tests.attack.sounds:liars",
    "tags": "tests.attack.tags:tags",
    "bundles": "tests.attack.models:bundles",
    "heads": "tests.attack.models:heads",
    "indexes": "tests.attack.models:indexes",
    "stores": "tests.attack.stores:stores",
    "archives": "tests.attack.stores:archives",
    "manifests": "tests.attack.texts:manifests",
    "recipes": "tests.attack.texts:recipes",
    "maps": "tests.attack.texts:maps",
    "plans": "tests.attack.texts:plans",
    "results": "tests.attack.texts:results",
    "runs": "tests.attack.texts:runs",
    "transformers": "tests.attack.networks:transformers",
}
"""Kind of input: what makes its targets."""

DECODED = ("sounds", "lies")
"""Kinds that packages in C decode, which may crash: where many tracks are heard, in a process of its own each."""


def targets_of(kind: str, folder: Path) -> list[Target]:
    """Make the targets of a kind, or of `module:function`; what they need beside them is written into the folder."""
    module, function = KINDS.get(kind, kind).split(":")
    made: list[Target] = getattr(importlib.import_module(module), function)(folder)
    return made
