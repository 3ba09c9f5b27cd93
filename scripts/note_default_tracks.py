"""Note which tracks the default head was fitted on, as hashes, for what scores it on other tracks to leave them out.

Run: python scripts/note_default_tracks.py [DATA]     DATA: the folder with the research data
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from _gtzan_heard import DEFAULT_DATA
from musicgenre._files import write_text_atomic
from musicgenre._json import pretty_json
from musicgenre.data.learnt import LearntFrom

ROOT = Path(__file__).resolve().parents[1]
NOTE = ROOT / "src" / "musicgenre" / "models" / "heads" / "default-learnt-from.json"


def main() -> None:
    """Write the note: the tracks with published tags, and those of gtzan-mini."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_DATA
    names = {path.stem for path in (data / "gtzan-mini" / "genres").glob("*/*.wav")}
    for part in ("train", "test"):
        with np.load(data / "gtzan-musicnn-tags" / f"{part}_filtered.npz") as arrays:
            names |= {Path(str(name)).stem for name in np.unique(arrays["IDS"])}

    md5_of = _columns(data / "gtzan-tables" / "gtzan_md5.csv")
    artist_of = _columns(data / "gtzan-tables" / "artists.csv")
    known = sorted(names)
    learnt = LearntFrom.of_names(
        known, [md5_of.get(name, "") for name in known], [artist_of.get(name, "") for name in known]
    )
    write_text_atomic(NOTE, pretty_json(learnt.as_values(), indent=0))
    print(f"wrote {NOTE.relative_to(ROOT)}: {len(learnt.tracks)} tracks, {len(learnt.groups)} artists")


def _columns(path: Path) -> dict[str, str]:
    """The second column of a table by the stem in its first."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    return {Path(row[0]).stem if row[0].endswith(".wav") else row[0]: row[1] for row in rows}


if __name__ == "__main__":
    main()
