"""GTZAN: 1,000 tracks of 30 s in ten genres (Tzanetakis and Cook 2002), with its published splits and known faults."""

from __future__ import annotations

from functools import lru_cache

from musicgenre.data.index import index_folder
from musicgenre.data.sets._gtzan_splits import FAULT_FILTERED, STRATIFIED_500
from musicgenre.data.sets.registry import Archive, DataSet, register
from musicgenre.errors import UsageError

LABELS = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")

# Byte-identical pairs, one of them across genres (Sturm 2013 lists them as exact repetitions).
_IDENTICAL = (
    *(("disco.00098", "disco.00099"), ("hiphop.00039", "hiphop.00045"), ("hiphop.00076", "hiphop.00078")),
    *(("metal.00034", "metal.00094"), ("metal.00040", "metal.00061"), ("metal.00041", "metal.00062")),
    *(("metal.00042", "metal.00063"), ("metal.00043", "metal.00064"), ("metal.00044", "metal.00065")),
    *(("metal.00045", "metal.00066"), ("metal.00058", "rock.00016"), ("pop.00054", "pop.00060")),
    *(("pop.00067", "pop.00071"), ("reggae.00081", "reggae.00082")),
)
_FIRST_OF_PAIR = {track_id: pair[0] for pair in _IDENTICAL for track_id in pair}
_SPLITS = {"fault-filtered": FAULT_FILTERED, "stratified-500": STRATIFIED_500}

CITATION = (
    "G. Tzanetakis and P. Cook, Musical genre classification of audio signals, IEEE Transactions on Speech and Audio "
    "Processing 10(5), 2002"
)
LICENCE = "none stated; the recordings are copyrighted and circulate for research only"
FAULTS = {"jazz.00054": "corrupt in most copies"}
CHECKSUMS = Archive(
    filename="gtzan_genre_index_1.0.json",
    urls=("https://zenodo.org/records/14004436/files/gtzan_genre_index_1.0.json",),
    checksum="md5:533ca055850f22acf2feb283d9957fe3",
    checksum_origin="mirdata",
)


def all_track_ids() -> tuple[str, ...]:
    """Ids of all 1,000 tracks."""
    return tuple(f"{label}.{number:05d}" for label in LABELS for number in range(100))


def known_duplicate(track_id: str, label: str) -> str:
    """First of the identical tracks that a track of GTZAN belongs to; empty when it has no copy or is not GTZAN's.

    Parameters
    ----------
    track_id : str
        Such as ``metal.00058``.
    label : str
        Its label: GTZAN's ids begin with it.

    Returns
    -------
    str
        A track id, or nothing.
    """
    return _FIRST_OF_PAIR.get(track_id, "") if track_id.startswith(f"{label}.") else ""


@lru_cache
def published_split(name: str) -> dict[str, str]:
    """Part of every track of a published split.

    Parameters
    ----------
    name : str
        ``fault-filtered`` or ``stratified-500``.

    Returns
    -------
    dict of str to str
        Track id to ``train``, ``validation`` or ``test``.
    """
    if name not in _SPLITS:
        raise UsageError(f"GTZAN has no published split {name!r}", valid=", ".join(_SPLITS))
    return {
        f"{label}.{number:05d}": part
        for part, labels in _SPLITS[name].items()
        for label, ranges in labels.items()
        for number in _numbers(ranges)
    }


def _numbers(ranges: str) -> list[int]:
    """Numbers of a text like ``0-2,5``."""
    ends = [piece.split("-") for piece in ranges.split(",")]
    return [number for piece in ends for number in range(int(piece[0]), int(piece[-1]) + 1)]


GTZAN = register(
    DataSet(
        name="gtzan",
        title="GTZAN genre collection",
        licence=LICENCE,
        citation=CITATION,
        origin="Marsyas project; its own addresses are gone, the one below is what mirdata names",
        size_bytes=1_200_000_000,
        n_tracks=1000,
        labels=LABELS,
        archives=(
            Archive(
                filename="gtzan-genres.tar.gz",
                urls=(
                    "https://www.dropbox.com/scl/fi/8pgz2qr23w2gjj8krudn8/gtanzgenres.tar.gz?rlkey=plhy147pfgz1o2rwcifyk592i&dl=1",
                ),
                checksum="md5:5c27114dad84e9284c52b2827633f692",
                checksum_origin="mirdata",
            ),
        ),
        index=index_folder,
        track_ids=all_track_ids,
        checksums=CHECKSUMS,
        faults=FAULTS,
        notes="14 pairs are byte-identical, and artists repeat: see docs/data.md before comparing numbers.",
    )
)
