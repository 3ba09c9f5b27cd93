"""Write a manifest with MusiCNN's tags beside the 57 columns, for the training list of GTZAN's fault-filtered split.

Run: python scripts/tags_and_table.py SOURCE --output gtzan-tags.csv

SOURCE is the folder with the research data: ``gtzan-musicnn-tags/train_filtered.npz`` (tag probabilities by the
published MSD_musicnn, one row a window of 3 s), ``gtzan-tables/features_30_sec.csv`` and ``gtzan-tables/artists.csv``.
A track's tags are the mean over its windows, in the columns ``tag_rock`` and so on; its group is its artist. Recipes
on ``musicnn`` tags, the ``table``, or both joined read such a manifest as it is, without any sound.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicgenre.data.index import index_table, read_artists
from musicgenre.data.manifest import Manifest, write_manifest
from musicgenre.errors import DataError
from musicgenre.features.representations.musicnn import MusiCnn

MODEL = "msd-musicnn"
COLUMNS = MusiCnn(model=MODEL, output="tags").columns


def read_tags(path: Path) -> dict[str, NDArray[np.float64]]:
    """Mean tag probabilities, shape (50,), by track id."""
    with np.load(path, allow_pickle=False) as content:
        windows, names = content["X"].astype(np.float64), content["IDS"]
    if windows.shape != (len(names), len(COLUMNS)):
        raise DataError(f"{path} holds tags of shape {windows.shape}", valid=f"({len(names)}, {len(COLUMNS)})")
    return {Path(str(name)).stem: windows[names == name].mean(axis=0) for name in np.unique(names)}


def joined(table: Manifest, tags: Mapping[str, NDArray[np.float64]]) -> Manifest:
    """Keep the tracks that have tags, and add these as columns."""
    known = {track.track_id for track in table.tracks}
    if missing := sorted(set(tags) - known):
        raise DataError(f"the table has no track {missing[0]} ({len(missing)} are missing)")
    return table.with_tracks(
        track.with_columns(**{name: f"{value:.7g}" for name, value in zip(COLUMNS, tags[track.track_id], strict=True)})
        for track in table.tracks
        if track.track_id in tags
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with the research data")
    parser.add_argument("--output", type=Path, required=True, help="the manifest")
    chosen = parser.parse_args(arguments)
    tables = chosen.source / "gtzan-tables"
    artists = read_artists(tables / "artists.csv")
    table = index_table(tables / "features_30_sec.csv", artists=artists).manifest
    made = joined(table, read_tags(chosen.source / "gtzan-musicnn-tags" / "train_filtered.npz"))
    write_manifest(made, chosen.output)
    print(f"{chosen.output}: {len(made)} tracks, {len(made.extra_columns)} further columns")
    return 0


if __name__ == "__main__":
    sys.exit(main())
