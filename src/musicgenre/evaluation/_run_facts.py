"""Plumbing of run folders: what each key of ``run.json`` may hold, so that nothing fails on it later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from musicgenre.errors import RunError

_REQUIRED = ("recipe", "labels", "seed", "protocol", "status")


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and bool(value)


def _names_a_file(value: object) -> bool:
    """Tell whether an exported file may be called so: it must not lead out of the run folder."""
    return isinstance(value, str) and _is_name(value) and not value.startswith(".") and not {"/", "\\"} & set(value)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_name, value))


def _are_labels(value: object) -> bool:
    return isinstance(value, list) and _are_names(value) and len(set(value)) == len(value) > 0


def _are_skips(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(skip, dict) and isinstance(skip.get("track_id"), str) for skip in value
    )


def _is_ensemble(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("how"), str):
        return False
    members, weights = value.get("members"), value.get("weights", [])
    return (
        isinstance(members, list)
        and bool(members)
        and all(isinstance(member, dict) and _is_name(member.get("folder")) for member in members)
        and isinstance(weights, list)
        and all(type(weight) in (int, float) for weight in weights)
    )


def _or_none(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or check(value)


_CHECKS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "recipe": (_names_a_file, "a name without slashes and without a dot in front"),
    "labels": (_are_labels, "a list of different names"),
    "seed": (_is_count, "a whole number from 0 on"),
    "protocol": (_is_name, "a name"),
    "status": (_is_name, "a word"),
    "fold": (_or_none(_is_count), "a whole number from 0 on, or null"),
    "systems": (_or_none(_are_names), "a list of row codes"),
    "parameters": (_or_none(_is_count), "a whole number from 0 on, or null"),
    "task": (lambda value: value in ("single_label", "multi_label"), "single_label or multi_label"),
    "skipped": (_are_skips, "a list of tracks with their track_id"),
    "ensemble": (_or_none(_is_ensemble), "how, members with their folders, and numbers for weights"),
}


def check_facts(path: Path, info: Mapping[str, Any]) -> None:
    """Check the content of ``run.json``.

    Raises
    ------
    RunError
        A key is missing, or holds something else than it should; the message names it.
    """
    if missing := [name for name in _REQUIRED if name not in info]:
        raise RunError(f"{path} is damaged: it lacks {', '.join(missing)}", next_step="Train this run again")
    for name, (is_valid, valid) in _CHECKS.items():
        if name in info and not is_valid(info[name]):
            raise RunError(
                f"{path} is damaged: it says {name}={_shown(info[name])}",
                valid=valid,
                next_step="Train this run again",
            )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
