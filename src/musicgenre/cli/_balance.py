"""Plumbing of the data commands: a table of how many tracks each label has in each part or fold."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from musicgenre.data.manifest import Manifest, Track


def echo_balance(manifest: Manifest) -> None:
    """Print how many tracks each label has in each part or fold that has any, and what labels a part has none of.

    Parameters
    ----------
    manifest : Manifest
        The tracks.
    """
    folds = sorted({track.fold for track in manifest.tracks if track.fold is not None})
    by_fold = bool(folds) and not any(track.split for track in manifest.tracks)

    def place(track: Track) -> str:
        return ("" if track.fold is None else str(track.fold)) if by_fold else track.split

    counts = Counter((label, place(track)) for track in manifest.tracks for label in track.labels)
    totals = Counter(place(track) for track in manifest.tracks)
    possible = [*map(str, folds)] if by_fold else ["train", "validation", "test"]
    parts = [part for part in [*possible, ""] if totals[part]]
    names = [(f"fold {part}" if by_fold else part) if part else "no part" for part in parts]
    untagged = Counter(place(track) for track in manifest.tracks if not track.labels)
    rows = [(label, [counts[label, part] for part in parts]) for label in manifest.labels]
    if untagged:
        rows.append(("(untagged)", [untagged[part] for part in parts]))
    rows.append(("all", [totals[part] for part in parts]))
    width = max(5, *(len(label) for label, _ in rows))
    typer.echo(" ".join([" " * width, *(f"{name:>10}" for name in names)]))
    for label, cells in rows:
        typer.echo(" ".join([f"{label:<{width}}", *(f"{cell:>10}" for cell in cells)]))
    for part, name in zip(parts, names, strict=True):
        if part and (never := [label for label in manifest.labels if not counts[label, part]]):
            found = "1 label has" if len(never) == 1 else f"{len(never)} labels have"
            typer.echo(f"WARNING: {found} no track in {name}: {', '.join(never)}", err=True)
