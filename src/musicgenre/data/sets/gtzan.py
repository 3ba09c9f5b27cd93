"""GTZAN: 1,000 tracks of 30 s in ten genres (Tzanetakis and Cook 2002), with its published splits and known faults."""

from __future__ import annotations

from functools import lru_cache

from musicgenre.data.index import index_folder
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

# The published parts: numbers of tracks by label, "0-2,5" for 0, 1, 2 and 5. The first list leaves out repeated,
# mislabelled and distorted tracks (Kereliuk, Sturm and Larsen 2015).
FAULT_FILTERED: dict[str, dict[str, str]] = {
    "train": {
        "blues": "29-49,73-97",
        "classical": "30-33,43-48,50-67,80-99",
        "country": "19-26,28-29,65-99",
        "disco": "5,15-20,22-37,39-45,47,49,53-54,56-57,59,61,70,73-74,89",
        "hiphop": "2-25,28-29,31-38,41-42,55-61,77-80",
        "jazz": "0-1,11-24,41,47-72",
        "metal": "2-3,5,21,24,35,46-57,59-66,69,71-72,79-80,84,86,89-99",
        "pop": "2-9,11-12,16-20,23-29,31-36,38-42,44,46,49-50,80,97-99",
        "reggae": "0-2,4,6,9,11-12,14-32,42-45,49-51,54-60,63,69",
        "rock": "0-9,16-26,57-70,91-99",
    },
    "validation": {
        "blues": "0-11,50-60",
        "classical": "0-10,68-76",
        "country": "0-7,9-18,27,41-42,45,49",
        "disco": "0,2-4,6-14,46,48,52,67-68,72,75,90,95",
        "hiphop": "81-98",
        "jazz": "2-10,25-32",
        "metal": "0-1,6-11,16-20,36-37,68,76-77,81-82",
        "pop": "10,53,55,58-62,81,83-86",
        "reggae": "61-62,70,72,74,76-78,85,92-99",
        "rock": "38,49-56,71-85",
    },
    "test": {
        "blues": "12-28,61-72,98-99",
        "classical": "11-29,34-41,49,77-79",
        "country": "30-40,43-44,46-48,50-51,53-64",
        "disco": "1,21,58,62-66,69,76-88,91-94,96-97,99",
        "hiphop": "0,26-27,30,40,43-45,51-54,62-75,99",
        "jazz": "73-99",
        "metal": "12-15,22-23,25-33,38-39,67,70,73-75,78,83,85,87-88",
        "pop": "0-1,13-14,43,63-66,69-79,82,88-96",
        "reggae": "34-40,46-48,52-53,64-68,71,79,82-84,87-90",
        "rock": "10-15,27-37,39-48,86-90",
    },
}

STRATIFIED_500: dict[str, dict[str, str]] = {
    "train": {
        "blues": (
            "0-3,6,11,14,17-19,21,26-27,29-30,33-34,36-39,41,44,46-48,50,55-57,60,63,65,67,69-70,72,"
            "74-76,79,81,85,87-89,91,94,97,99"
        ),
        "classical": (
            "0-4,11-12,14,17,20,23,25-26,28,31-32,38,40,44,47-51,57-60,62,64-65,67,70,72-73,76,78-85,91,93,95-97,99"
        ),
        "country": "3,6-8,10,12-14,16-19,28-29,32,34-40,44-45,48-49,54,56,59,61-63,66-70,73-74,79-81,85-86,89,93-97",
        "disco": (
            "6-7,9-11,13,16-20,23-24,26-27,30-31,34-37,41-42,44-45,47-48,52,54,56-57,60,63-67,69,75,78,"
            "81,83-84,88-91,96-97,99"
        ),
        "hiphop": (
            "0,2,6,11-13,18,20-22,26-27,30-33,35,38,40-41,44-46,49-50,52-54,56-60,63-64,68,72-74,77-79,"
            "84,86,88-90,92,98-99"
        ),
        "jazz": (
            "2,4-7,10,12-15,23-24,26-28,30,32,34,38,40-41,43,50,52,54-55,57-62,64,68,70,72,74-75,77,79-80,86,89-96"
        ),
        "metal": (
            "0,3-4,6,10-11,13-14,16-17,19,22-28,36-38,41,45,47,49,52,56,59-61,65,70-72,74-77,79,81-82,"
            "85-86,88-91,93,97,99"
        ),
        "pop": (
            "2-4,9,11-13,15,17,20,22,24,26-27,32-33,35,41-43,45,48,50-51,53-56,61-65,67,71-72,74-77,79,"
            "81-83,86-87,92-93,95,98"
        ),
        "reggae": (
            "4-5,9-14,16-18,23,27-28,30-31,36-37,40-44,49,51-56,59-60,62,64-66,71,73,75-77,82,84,87-89,91-92,95,98"
        ),
        "rock": (
            "3-6,8,14-15,17,23-27,34-35,37,40-41,44-45,48,52,54-55,58-59,62-63,65-67,69,71,75,77-78,"
            "80-81,83-86,88,90-91,93-95,97,99"
        ),
    },
    "validation": {
        "blues": "4,7-9,16,22,32,35,42,45,51,54,58,61,66,68,71,73,78,80,82,86,90,93,96",
        "classical": "5-8,10,13,15,18,22,27,30,33,39,46,54,63,68,71,74,77,86,89-90,94,98",
        "country": "0-1,4-5,9,15,20,25-27,30,42-43,46,55,58,60,71,83-84,87-88,90,92,98",
        "disco": "3,15,22,25,28-29,32,39-40,43,46,50-51,53,59,62,70,72-74,85,87,92-93,95",
        "hiphop": "3,5,7,10,16,19,36-37,39,43,47-48,51,55,66-67,69,71,76,80-83,93,97",
        "jazz": "0-1,8,11,17,19,21-22,25,29,36,42,44,46-47,49,51,56,63,65,81-83,97-98",
        "metal": "7-9,12,15,29,31-34,39,43-44,53,55,63-64,67-68,73,83,87,94-96",
        "pop": "1,7,10,14,16,18-19,23,25,28-29,37,47,57-60,73,78,80,85,89-90,94,99",
        "reggae": "0-1,7-8,19,24-26,29,32,34,38-39,45,47,61,63,67,70,72,80,85-86,90,93",
        "rock": "7,12-13,16,18-19,21-22,28-30,36,38,43,46,49,53,56,61,68,76,87,89,92,96",
    },
    "test": {
        "blues": "5,10,12-13,15,20,23-25,28,31,40,43,49,52-53,59,62,64,77,83-84,92,95,98",
        "classical": "9,16,19,21,24,29,34-37,41-43,45,52-53,55-56,61,66,69,75,87-88,92",
        "country": "2,11,21-24,31,33,41,47,50-53,57,64-65,72,75-78,82,91,99",
        "disco": "0-2,4-5,8,12,14,21,33,38,49,55,58,61,68,71,76-77,79-80,82,86,94,98",
        "hiphop": "1,4,8-9,14-15,17,23-25,28-29,34,42,61-62,65,70,75,85,87,91,94-96",
        "jazz": "3,9,16,18,20,31,33,35,37,39,45,48,53,66-67,69,71,73,76,78,84-85,87-88,99",
        "metal": "1-2,5,18,20-21,30,35,40,42,46,48,50-51,54,57-58,62,66,69,78,80,84,92,98",
        "pop": "0,5-6,8,21,30-31,34,36,38-40,44,46,49,52,66,68-70,84,88,91,96-97",
        "reggae": "2-3,6,15,20-22,33,35,46,48,50,57-58,68-69,74,78-79,81,83,94,96-97,99",
        "rock": "0-2,9-11,20,31-33,39,42,47,50-51,57,60,64,70,72-74,79,82,98",
    },
}

_SPLITS = {"fault-filtered": FAULT_FILTERED, "stratified-500": STRATIFIED_500}


def all_track_ids() -> tuple[str, ...]:
    """Ids of all 1,000 tracks."""
    return tuple(f"{label}.{number:05d}" for label in LABELS for number in range(100))


def known_duplicate(track_id: str, label: str) -> str:
    """First of the identical tracks that a track of GTZAN belongs to; empty when it has no copy or is not GTZAN's.

    Parameters
    ----------
    track_id : str
        Such as `metal.00058`.
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
        `fault-filtered` or `stratified-500`.

    Returns
    -------
    dict of str to str
        Track id to `train`, `validation` or `test`.
    """
    if name not in _SPLITS:
        raise UsageError(f"GTZAN has no published split {name!r}", valid=", ".join(_SPLITS))

    parts: dict[str, str] = {}
    for part, labels in _SPLITS[name].items():
        for label, ranges in labels.items():
            for text in ranges.split(","):
                first, _, last = text.partition("-")
                for number in range(int(first), int(last or first) + 1):
                    parts[f"{label}.{number:05d}"] = part

    return parts


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
