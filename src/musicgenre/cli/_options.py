"""Plumbing shared by commands: ``--set key=value`` and tracks that failed."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from musicgenre.errors import UsageError

if TYPE_CHECKING:
    from musicgenre.features.prepare import Skipped

_LISTED = 50


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` pairs; numbers, lists, true, false and null become such, others stay text."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip().isidentifier():
            raise UsageError(f"--set {pair!r} is not a setting", valid="--set key=value, for example --set n_mels=64")
        settings[key.strip()] = _value(text.strip())
    return settings


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "null": None}  # none is a word that options take
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def report_skipped(title: str, skipped: Sequence[Skipped]) -> None:
    """List tracks with their reasons on standard error."""
    if not skipped:
        return
    typer.echo(f"{title} ({len(skipped)}):", err=True)
    for skip in skipped[:_LISTED]:
        where = "" if str(skip.path) in skip.reason else f"{Path(skip.path)}: "  # reasons mostly name the file already
        typer.echo(f"  {skip.track_id}: {where}{skip.reason}", err=True)
    if len(skipped) > _LISTED:
        typer.echo(f"  and {len(skipped) - _LISTED} more", err=True)
