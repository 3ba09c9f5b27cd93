"""The folder of a search: what is searched (`search.json`), Optuna's storage of all trials, their runs, the winner."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from musicgenre._files import write_text_atomic
from musicgenre._json import pretty_json, read_versioned_json
from musicgenre._version import __version__
from musicgenre.data.manifest import Manifest
from musicgenre.errors import RunError, UsageError, needing
from musicgenre.runs.folder import SEARCH_FILE, timestamp

if TYPE_CHECKING:
    import optuna

Objective = Literal["validation.accuracy", "validation.loss", "cv.accuracy"]
"""What is searched for: of tracks of the validation part, or of folds within training and validation part."""

OBJECTIVES = get_args(Objective)

FORMAT_VERSION = 1

_STORAGE = "study.sqlite"
_ANEW = "Search anew, with another --output"


@dataclass(frozen=True, slots=True)
class SearchFacts:
    """What two calls of a search must have in common to be one.

    Attributes
    ----------
    recipe : str
        Name.
    recipe_yaml : str
        All of it.
    space : mapping of str to str
        Values by key, as the command line takes them.
    objective, sampler, pruner : str
        As the command line takes them.
    folds, seed : int
        Of `cv.accuracy`, and of the draws.
    tracks_sha256 : str
        Of the tracks and their parts.
    version : str
        Of musicgenre.
    """

    recipe: str
    recipe_yaml: str
    space: Mapping[str, str]
    objective: str
    sampler: str
    pruner: str
    folds: int
    seed: int
    tracks_sha256: str
    version: str = __version__


class StudyFolder:
    """Names of a search's files, and what is read and written there.

    Parameters
    ----------
    folder : Path
        Where it lies.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.description = folder / SEARCH_FILE
        self.storage = folder / _STORAGE
        self.manifest = folder / "manifest.csv"
        """What trials see: no track of the test part."""
        self.whole_manifest = folder / "manifest-with-test.csv"
        self.report = folder / "report.html"

    def trial(self, number: int) -> Path:
        """Folder of a trial's run."""
        return self.folder / "trials" / f"{number:04d}"

    def winner(self, number: int) -> Path:
        """Folder of the runs of a winner, which are scored on the test part."""
        return self.folder / f"winner-{number:04d}"

    def winner_recipe(self, recipe: str) -> Path:
        """The recipe file that the search ends with."""
        return self.folder / f"{recipe}-searched.yaml"

    def begin(self, facts: SearchFacts) -> None:
        """Describe what is searched."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write({**asdict(facts), "started": timestamp()})

    def add(self, more: Mapping[str, Any]) -> None:
        """Add to the description."""
        self._write({**self.read(), **more})

    def _write(self, content: Mapping[str, Any]) -> None:
        write_text_atomic(self.description, pretty_json({"format_version": FORMAT_VERSION, **content}, indent=1))

    def read(self) -> dict[str, Any]:
        """Read the description.

        Raises
        ------
        RunError
            It is missing, damaged or from a newer version.
        """
        if not self.description.is_file():
            raise RunError(f"{self.folder} holds no search: it has no {SEARCH_FILE}", next_step=_ANEW)
        content = read_versioned_json(
            self.description, FORMAT_VERSION, kind="search", error=RunError, remedy="Search anew"
        )
        if missing := [name for name in SearchFacts.__slots__ if name not in content]:
            raise RunError(f"{self.description} is damaged: it lacks {', '.join(missing)}", next_step=_ANEW)
        return content

    def check_same(self, facts: SearchFacts) -> None:
        """Refuse to go on with a search of something else.

        Raises
        ------
        UsageError
            The recipe, the space, the tracks, the version or another thing differs: the first is named.
        """
        before, now = self.read(), asdict(facts)
        for name in SearchFacts.__slots__:
            if before[name] == now[name]:
                continue
            what = name.replace("_", " ")
            told = f"it was {before[name]}, and is {now[name]}" if name not in _LONG else "it differs"
            raise UsageError(
                f"{self.folder} holds a search with another {what}: {told}",
                valid="the same recipe, settings, space, data and version",
                next_step=f"Give what was given then, or: {_ANEW}",
            )

    def open(self, *, sampler: Any = None, pruner: Any = None, create: bool = False) -> optuna.Study:
        """Open Optuna's study; the driver of a search alone writes into it.

        Raises
        ------
        RunError
            The storage is damaged, or of another version of Optuna.
        MissingExtraError
            Optuna is not installed.
        """
        with needing("searching", "search"):
            import optuna
        import sqlalchemy.exc

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if not create and not self.storage.is_file():
            raise RunError(f"{self.folder} has lost its {_STORAGE}", next_step=_ANEW)
        try:
            if self.storage.is_file():
                _check_whole(self.storage)
            # the path goes around the address, in which some letters of it would mean something
            engine = {"creator": lambda: sqlite3.connect(self.storage, check_same_thread=False)}
            storage = optuna.storages.RDBStorage(f"sqlite:///{_STORAGE}", engine_kwargs=engine)
            if not create:
                return optuna.load_study(study_name="search", storage=storage, sampler=sampler, pruner=pruner)
            direction = "minimize" if self.read()["objective"] == "validation.loss" else "maximize"
            return optuna.create_study(
                study_name="search",
                storage=storage,
                sampler=sampler,
                pruner=pruner,
                direction=direction,
                load_if_exists=True,
            )
        except (sqlite3.Error, sqlalchemy.exc.SQLAlchemyError, KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise RunError(f"{self.storage} cannot be used ({reason})", next_step=_ANEW) from error


_LONG = ("recipe_yaml", "tracks_sha256")


def is_higher_better(objective: Objective) -> bool:
    """Whether more of the objective is better."""
    return objective != "validation.loss"


def is_search(folder: Path) -> bool:
    """Whether the folder holds a search."""
    return (folder / SEARCH_FILE).is_file()


def winner_of(folder: Path) -> Path:
    """The folder of the winner's runs.

    Raises
    ------
    RunError
        The folder holds no search, or one whose winner was not trained.
    """
    files = StudyFolder(folder)
    winner = files.read().get("winner", {})
    if "test" not in winner:
        why = "its winner was not trained (--seeds 0)" if winner else "it has not ended"
        raise RunError(
            f"the search in {folder} has no runs of a winner: {why}",
            valid="a search that has trained its winner",
            next_step="'musicgenre evaluate' tells of its trials"
            if winner
            else "Go on with it by 'musicgenre search --resume'",
        )
    return files.winner(int(winner["trial"]))


def tracks_sha256(manifest: Manifest) -> str:
    """What tells tracks and parts from others: names, files, labels, parts, groups."""
    digest = hashlib.sha256()
    for track in manifest.tracks:
        row = (track.track_id, str(track.path), "|".join(track.labels), track.split, str(track.fold), track.group)
        digest.update("\x1f".join(row).encode("utf-8", "surrogateescape") + b"\x1e")
    return digest.hexdigest()


def _check_whole(path: Path) -> None:
    """Raise `sqlite3.DatabaseError` where the file is damaged."""
    database = sqlite3.connect(path)
    try:
        [found] = database.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(f"it is damaged: {found}")
    finally:
        database.close()
