"""The store: features of a whole manifest on disk, one memory-mapped file a part, and an index of their rows.

A store is a folder that `musicgenre.features.prepare` makes. `store.json` says what it holds and names the other
files: one `.npy` a part (a value of the manifest's split, or a fold) and the index, a CSV with one line a row. The
files of a store are never changed, only replaced under new names, so that a reader keeps what it opened.

All of it has checksums: `store.json` one of its own content, the index one in its name, and the parts one for every
row (`musicgenre.data.rows`), which is compared when the row is read first. Stores of earlier versions have none.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import replacing, write_text_atomic
from musicgenre._json import json_sha256, parsed_json, read_versioned_json
from musicgenre._outputs import UNFINISHED, refuse_foreign_folder
from musicgenre._text import is_plain_name, short_repr
from musicgenre.data._csv import format_rows
from musicgenre.data.manifest import Track
from musicgenre.data.rows import (
    FeatureRows,
    Features,
    Normalisation,
    blocks_of,
    is_whole,
    measure_normalisation,
    write_npy,
)
from musicgenre.data.splits.segment_leaky import segment_leaky_parts
from musicgenre.data.targets import TagRows, Targets
from musicgenre.errors import DataError

FORMAT_VERSION = 1
STORE_FILE = "store.json"
_LARGEST_ROW = 2**40  # numbers along an axis
INDEX_COLUMNS = (
    "part",
    "row",
    "track_id",
    "source_id",
    "segment",
    "start_s",
    "label",
    "labels",
    "split",
    "fold",
    "augmented",
)

# Files of a killed process, as patterns; `remove_stale` takes them.
TEMPORARY = (
    *(f".{STORE_FILE}.*.tmp", f".{UNFINISHED}.*.tmp"),
    *(".index-????????????????.csv.*.tmp", ".*-????????????????.npy.*.tmp"),
)
_INDEX = re.compile(r"index-[0-9a-f]{16}\.csv")
_OURS = re.compile(r"index-[0-9a-f]{16}\.csv|(([a-z]+-)?fold-\d+|[a-z]+)-[0-9a-f]{16}\.npy")
_TRUTH = {"true": True, "false": False}
_AGAIN = "Prepare again into the same folder: what is in the cache is not computed anew"

Strings = NDArray[np.str_]


@dataclass(frozen=True)
class PartView:
    """Some rows of a store, in a fixed order; every array has one entry a row.

    Parameters
    ----------
    features : FeatureRows
        The features, still on disk, shape (n_rows, *shape).
    labels : ndarray of int64
        Index of the label in `label_names`; -1 for a row of a manifest of tags.
    track_ids, source_ids : ndarray of str
        The track, and the original it comes from (itself, unless it is augmented).
    starts_s : ndarray of float64
        Where the segment begins in its track.
    augmented : ndarray of bool
        Whether offline augmentation made the row's track.
    label_names : tuple of str
        All labels of the store, sorted.
    label_sets : ndarray of str
        All labels of each row, joined by `;`.
    tags : TagRows, optional
        Targets of tagging; `label_names` are the tags then.
    """

    features: FeatureRows
    labels: NDArray[np.int64]
    track_ids: Strings
    source_ids: Strings
    starts_s: NDArray[np.float64]
    augmented: NDArray[np.bool_]
    label_names: tuple[str, ...]
    label_sets: Strings
    tags: TagRows | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> PartView:
        """Choose rows, by index or by mask, without reading features."""
        return PartView(
            self.features.take(rows),
            self.labels[rows],
            self.track_ids[rows],
            self.source_ids[rows],
            self.starts_s[rows],
            self.augmented[rows],
            self.label_names,
            self.label_sets[rows],
            None if self.tags is None else self.tags.take(rows),
        )

    def with_tags(self, targets: Targets) -> PartView:
        """Return the same rows with the targets of tagging, found by their tracks."""
        return dataclasses.replace(self, label_names=targets.tags, tags=targets.of_rows(self.track_ids))

    def truth(self, rows: slice | NDArray[np.int64]) -> NDArray[np.int64] | NDArray[np.float32]:
        """Return what some rows are learnt from.

        Class numbers, shape (n,); with `tags` their values, shape (n, n_tags): from 0 to 1, NaN where unknown.
        """
        if self.tags is not None:
            return self.tags[rows]
        return self.labels[rows]

    def targets(self) -> NDArray[np.float32]:
        """Return the targets of all rows, shape (n_rows, n_labels).

        Those of `tags` where there are any; else 1 for every label of a row and 0 for the others.
        """
        if self.tags is not None:
            return self.tags[:]

        column = {name: index for index, name in enumerate(self.label_names)}
        targets = np.zeros((len(self), len(column)), np.float32)
        for row, names in enumerate(self.label_sets):
            targets[row, [column[name] for name in names.split(";") if name]] = 1.0
        return targets


class Store:
    """An opened store. Nothing but the index is read until features are asked for.

    Parameters
    ----------
    folder : Path
        Its folder.

    Attributes
    ----------
    representation : dict
        Settings of the representation; `representation_from_settings` makes it again.
    segment_s, hop_s : float or None
        Segment length, and the way from one start to the next; `None`: whole tracks.
    shape : tuple of int
        Shape of one row of features.
    row_axis : int or None
        Axis of one row that is normalised entry by entry.
    blocks : tuple of Block
        What a joined row consists of, each normalised by itself; empty for all others.
    labels : tuple of str
        All labels, sorted: row `labels` count along it.
    normalisation : Normalisation or None
        Of the training part; `None` when the manifest has none (folds: see `normalisation_of`).
    skipped : list of dict
        `track_id` and `reason` of every track that could not be prepared.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            description = read_versioned_json(
                folder / STORE_FILE,
                FORMAT_VERSION,
                kind="store",
                error=DataError,
                remedy="Prepare again into the same folder",
            )
        except FileNotFoundError as error:
            raise DataError(
                f"{folder} holds no store",
                valid=f"A store has a {STORE_FILE}",
                next_step="Make one: musicgenre prepare",
            ) from error

        if description.get("sha256", sha256_of_rest := _sha256_of_rest(description)) != sha256_of_rest:
            raise DataError(f"{folder / STORE_FILE} is damaged: it was changed", next_step=_AGAIN)

        self.representation: dict[str, Any] = description["representation"]
        self.segment_s: float | None = description["segment_s"]
        self.hop_s: float | None = description["hop_s"]
        self.shape: tuple[int, ...] = tuple(description["shape"])
        if not all(type(size) is int and 0 < size <= _LARGEST_ROW for size in self.shape):
            raise ValueError(f"its shape is {short_repr(self.shape)}")
        self.dtype: np.dtype[Any] = np.dtype(description["dtype"])
        self.row_axis: int | None = description["row_axis"]
        self.blocks = blocks_of(description)
        self.labels: tuple[str, ...] = tuple(description["labels"])
        self.skipped: list[dict[str, str]] = description["skipped"]
        self.normalisation: Normalisation | None = None
        if description["normalisation"] is not None:
            self.normalisation = Normalisation.from_dict(description["normalisation"])

        self._files = {name: folder / _file_name(part["file"]) for name, part in description["parts"].items()}
        self._has_checksums = "sha256" in description
        self._check_files(description)
        self._read_index(folder / _file_name(description["index"]))

    @property
    def parts(self) -> tuple[str, ...]:
        """Split values that occur: `train`, `validation`, `test`, or nothing."""
        return tuple(name for name in ("train", "validation", "test") if (self._split == name).any())

    @property
    def folds(self) -> tuple[int, ...]:
        """Folds that occur, sorted."""
        return tuple(int(fold) for fold in np.unique(self._fold) if fold >= 0)

    def part(self, name: str) -> PartView:
        """Take the rows of one split value, or of `all` (those without a split too).

        `validation` and `test` never hold augmented rows.
        """
        if name == "all":
            return self.everything
        if name not in self.parts:
            raise DataError(
                f"the store {self.folder} has no part {name!r}",
                valid=f"Parts: {', '.join((*self.parts, 'all'))}",
                next_step="Split the manifest (musicgenre data split) and prepare again",
            )

        chosen = self._split == name
        if name != "train":  # augmented rows are never scored
            chosen &= ~self.everything.augmented
        return self.everything.take(np.flatnonzero(chosen))

    def fold(self, fold: int, *, validation: int | None = None) -> dict[str, PartView]:
        """Take the parts of one round of cross-validation; the features are shared, not copied.

        Parameters
        ----------
        fold : int
            The fold that tests.
        validation : int, optional
            The fold that chooses the checkpoint; without it there is no validation part.

        Returns
        -------
        dict
            `train`, `test` and perhaps `validation`. Augmented rows are in `train` only.
        """
        for wanted in (fold, validation):
            if wanted is not None and wanted not in self.folds:
                raise DataError(
                    f"the store {self.folder} has no fold {wanted}",
                    valid=f"Folds: {', '.join(map(str, self.folds)) or 'none'}",
                    next_step="Split the manifest with --protocol kfold and prepare again",
                )

        # augmented rows are never scored: they are no tracks of their own
        original, used = ~self.everything.augmented, self._fold >= 0
        masks = {"train": used & (self._fold != fold), "test": (self._fold == fold) & original}
        if validation is not None:
            masks["train"] &= self._fold != validation
            masks["validation"] = (self._fold == validation) & original
        return {name: self.everything.take(np.flatnonzero(mask)) for name, mask in masks.items()}

    def segment_leaky(self, seed: int, *, test_size: float = 0.3) -> dict[str, PartView]:
        """Split segments at random, `train` and `test`, as some reports did: a known mistake, kept to show it."""
        whole = self.everything
        # by name and time, so that the manifest's order does not decide which segment goes where
        order = np.lexsort((whole.starts_s, whole.track_ids))
        order = order[~whole.augmented[order]]
        parts = np.array(segment_leaky_parts(len(order), seed, test_size=test_size))
        return {name: whole.take(order[parts == name]) for name in ("train", "test")}

    def of_tracks(self, track_ids: Collection[str]) -> PartView:
        """Take the rows of some tracks, in the store's order."""
        return self.everything.take(np.flatnonzero(np.isin(self.everything.track_ids, list(track_ids))))

    def normalisation_of(self, part: PartView) -> Normalisation:
        """Measure the normalisation of some rows: those a model is trained on."""
        return measure_normalisation(part.features, self.row_axis, self.blocks)

    def rows_of_file(self, part: str) -> FeatureRows:
        """Take all rows of a part file, in the file's order."""
        features = self.everything.features
        file_of, row_of = features.places
        here = np.flatnonzero(file_of == list(self._files).index(part))
        return features.take(here[np.argsort(row_of[here])])

    @property
    def _remedy(self) -> str:
        """What to do about a damaged row; empty in a store without checksums."""
        if not self._has_checksums:
            return ""
        command = f"musicgenre prepare MANIFEST --representation {self.representation['name']} --output {self.folder}"
        return f"Repair it by the command that made it, such as: {command}"

    def _check_files(self, description: dict[str, Any]) -> None:
        """Refuse a store that lost a file, or a piece of one."""
        for name, part in description["parts"].items():
            path = self._files[name]
            if not path.is_file() or path.stat().st_size != part["bytes"]:
                raise DataError(f"the store's file {path} is missing or cut short", next_step=_AGAIN)

    def _read_index(self, path: Path) -> None:
        """Read what the store knows of its rows, a column at a time."""
        try:
            text = path.read_bytes().decode("utf-8")
        except OSError as error:
            raise DataError(f"the store's index {path} cannot be read ({error})", next_step="Prepare again") from error
        if _INDEX.fullmatch(path.name) and path.name != _index_name(text):
            raise DataError(f"the store's index {path} is damaged: its name is its checksum", next_step=_AGAIN)
        lines = list(csv.DictReader(io.StringIO(text, newline="")))

        def column(name: str) -> list[str]:
            return [line[name] for line in lines]

        number_of_file = {name: number for number, name in enumerate(self._files)}
        file_of = np.array([number_of_file[name] for name in column("part")], np.int64)
        row_of = np.array(column("row"), np.int64)
        features = FeatureRows(list(self._files.values()), self.shape, self.dtype, file_of, row_of, self._remedy)

        self._split = np.array(column("split"), np.str_)
        self._fold = np.array([fold or -1 for fold in column("fold")], np.int64)
        number_of_label = {"": -1}  # a row of a manifest of tags
        number_of_label |= {label: number for number, label in enumerate(self.labels)}
        self.everything = PartView(
            features,
            np.array([number_of_label[label] for label in column("label")], np.int64),
            np.array(column("track_id"), np.str_),
            np.array(column("source_id"), np.str_),
            np.array(column("start_s"), np.float64),
            np.array([_TRUTH[flag] for flag in column("augmented")], np.bool_),
            self.labels,
            np.array(column("labels"), np.str_),
        )


def open_store(folder: Path | str) -> Store:
    """Open a store.

    Raises
    ------
    DataError
        If the folder holds no store, a damaged one, or one of a newer musicgenre.
    """
    try:
        return Store(Path(folder))
    except (KeyError, ValueError, IndexError, TypeError, AttributeError, csv.Error) as error:
        raise DataError(
            f"the store {folder} is damaged: its index does not fit its {STORE_FILE} ({error})",
            next_step=_AGAIN,
        ) from error


def _file_name(name: str) -> str:
    """The name of a file of the store itself; raises ValueError for what leads elsewhere, or is none."""
    if not is_plain_name(name) or name.startswith(".") or Path(name).name != name or "\\" in name:
        raise ValueError(f"it names the file {short_repr(name)}")
    return name


def is_store(folder: Path) -> bool:
    """Whether the folder holds a store."""
    return (folder / STORE_FILE).is_file()


def check_store_folder(folder: Path, option: str = "--output") -> None:
    """Refuse a folder that holds anything but a store; `option` is what the command line calls it.

    Raises
    ------
    UsageError
        If it does.
    """
    refuse_foreign_folder(folder, _was_written_by_us, command="'musicgenre prepare'", option=option)


@dataclass(frozen=True)
class ReadyTrack:
    """A track whose rows can be had under `key`; `starts_s` (n,) says how many there are.

    `only` is the number of the one row that is wanted of them all, if just one is.
    """

    track: Track
    key: str
    starts_s: NDArray[np.float64]
    only: int | None = None

    @property
    def name(self) -> str:
        """What decides its rows, as text."""
        return self.key if self.only is None else f"{self.key}:{self.only}"


def write_store(
    folder: Path,
    description: Mapping[str, Any],
    tracks: Sequence[ReadyTrack],
    rows_of: Callable[[ReadyTrack], Features],
) -> None:
    """Write a store from rows at hand.

    Parameters
    ----------
    folder : Path
        The store's folder, which the caller has locked.
    description : Mapping
        `store.json` without `parts`, `index` and `normalisation`.
    tracks : sequence of ReadyTrack
        In the manifest's order.
    rows_of : callable
        Gives a track's rows, shape (n, *shape).
    """
    by_part: dict[str, list[ReadyTrack]] = {}
    for ready in tracks:
        # a part is named by its split value, its fold, or both
        pieces = []
        if ready.track.split:
            pieces.append(ready.track.split)
        if ready.track.fold is not None:
            pieces.append(f"fold-{ready.track.fold}")
        by_part.setdefault("-".join(pieces) or "all", []).append(ready)
    by_part = dict(sorted(by_part.items()))

    files = {name: f"{name}-{_digest([ready.name for ready in members])}.npy" for name, members in by_part.items()}
    index = format_rows(_index_rows(by_part))
    index_file = _index_name(index)

    shape, dtype = tuple(description["shape"]), np.dtype(description["dtype"])
    parts: dict[str, dict[str, Any]] = {}
    with _listed(folder, {index_file, *files.values()}):
        for name, members in by_part.items():
            path = folder / files[name]
            n_rows = sum(len(ready.starts_s) for ready in members)
            # its name is made of what it holds, so one that is there is the same, unless something befell it
            if not path.is_file() or not is_whole(path, n_rows, shape, dtype):
                with replacing(path) as temporary, temporary.open("wb") as stream:
                    write_npy(stream, map(rows_of, members), (n_rows, *shape), dtype)
            parts[name] = {"file": path.name, "rows": n_rows, "bytes": path.stat().st_size}

        write_text_atomic(folder / index_file, index)

        # the description names all other files, so it is written last: until then a reader has the former state
        whole = {
            "format_version": FORMAT_VERSION,
            **description,
            "parts": parts,
            "index": index_file,
            "normalisation": _training_normalisation(folder, parts, description),
        }
        whole["sha256"] = _sha256_of_rest(whole)
        write_text_atomic(folder / STORE_FILE, json.dumps(whole, indent=1) + "\n")


def is_training_part(name: str) -> bool:
    """Whether the rows of a part file are for training: the split says so, in whichever fold."""
    return name == "train" or name.startswith("train-")


def _was_written_by_us(folder: Path) -> bool:
    """Whether a folder that is not empty holds a store, be it damaged, and no other program's `store.json`."""
    try:
        description = parsed_json((folder / STORE_FILE).read_text(encoding="utf-8"))
    except OSError:
        return False
    except ValueError:  # damaged: its files are still called as only a store calls them
        return any(_OURS.fullmatch(path.name) for path in folder.iterdir())
    return isinstance(description, dict) and "format_version" in description


@contextmanager
def _listed(folder: Path, files: set[str]) -> Iterator[None]:
    """List the names that a block writes, so that they are known as ours however it ends.

    Once it ended well, what is listed and the store names no more is removed; nothing else ever is.
    """
    listing = folder / UNFINISHED
    ours = files | _named_files(folder)
    with suppress(OSError, ValueError):  # no kill before
        ours |= {name for name in listing.read_text(encoding="utf-8").splitlines() if _OURS.fullmatch(name)}
    listing.touch()  # first of all: from here on the folder is ours, whatever a kill leaves in it
    write_text_atomic(listing, "".join(f"{name}\n" for name in sorted(ours)))

    is_whole = False
    try:
        yield
        is_whole = True
    finally:
        others = ours - _named_files(folder)
        for name in others if is_whole else ():
            with suppress(OSError):  # a reader still maps it (Windows): it stays on the list for next time
                (folder / name).unlink(missing_ok=True)
        if not any((folder / name).exists() for name in others):
            listing.unlink()


def _named_files(folder: Path) -> set[str]:
    """Names of the parts and the index in `store.json`; none where there is no store, or a damaged one."""
    names: list[Any] = []
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        description = parsed_json((folder / STORE_FILE).read_text(encoding="utf-8"))
        names = [description["index"], *(part["file"] for part in description["parts"].values())]

    # whatever it says, nothing outside the folder is ours
    return {name for name in names if isinstance(name, str) and _OURS.fullmatch(name)}


def _index_rows(parts: Mapping[str, Sequence[ReadyTrack]]) -> list[list[str]]:
    """Header and lines of the index, as `INDEX_COLUMNS`."""
    lines = [list(INDEX_COLUMNS)]
    for name, members in parts.items():
        row = 0
        for ready in members:
            track = ready.track
            labels = ";".join(track.labels)
            fold = "" if track.fold is None else str(track.fold)
            about = [track.label, labels, track.split, fold, "true" if track.augmented else "false"]
            for segment, start_s in enumerate(ready.starts_s):
                place = [name, str(row), track.track_id, track.source_id, str(segment), repr(float(start_s))]
                lines.append([*place, *about])
                row += 1
    return lines


def _training_normalisation(
    folder: Path, parts: Mapping[str, Mapping[str, Any]], description: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Measure the training part, augmented rows included: that is what the model will see."""
    training = [part for name, part in parts.items() if is_training_part(name)]
    if not training:
        return None

    counts = [part["rows"] for part in training]
    rows = FeatureRows(
        [folder / part["file"] for part in training],
        tuple(description["shape"]),
        np.dtype(description["dtype"]),
        np.repeat(np.arange(len(counts)), counts),
        np.concatenate([np.arange(count) for count in counts]),
    )
    return measure_normalisation(rows, description["row_axis"], blocks_of(description)).as_dict()


def _index_name(text: str) -> str:
    """Name an index by its content."""
    return f"index-{_digest([text])}.csv"


def _sha256_of_rest(description: Mapping[str, Any]) -> str:
    """Checksum of all of a description but the checksum itself."""
    return json_sha256({key: value for key, value in description.items() if key != "sha256"})


def _digest(texts: Sequence[str]) -> str:
    """Name content by its hash."""
    return hashlib.sha256("\n".join(texts).encode("utf-8")).hexdigest()[:16]
