"""Hear or embed many tracks on a cluster: each actor loads the model once and decodes with the code of one machine.

What an actor makes of a track is the row that a result file of one machine would hold; `columns.py` has its types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from musicgenre._known_files import FileState
from musicgenre._telling import tell, telling
from musicgenre._text import printable
from musicgenre.audio import decoding_apart
from musicgenre.cluster.actors import in_actors
from musicgenre.cluster.columns import AnswerColumns, EmbeddingColumns
from musicgenre.cluster.connect import Cluster
from musicgenre.cluster.partitions import Columns, Row, opened_partitions
from musicgenre.cluster.storage import as_local
from musicgenre.embedding.embed import Embedder, embed_file
from musicgenre.embedding.file import EmbeddingSettings
from musicgenre.errors import AudioError, UsageError
from musicgenre.listening.batch import Failure, hear_many
from musicgenre.listening.classifier import Classifier
from musicgenre.listening.results import key_of_sound, record_of, storable

Told = tuple[Row, list[str]]
"""What became of a track, and what a person is told on the way."""


class Hearing(Protocol):
    """What is done with every track; it is sent to the actors, which call it once."""

    command: str
    """Who writes the partitions."""

    @property
    def columns(self) -> Columns:
        """How rows are written."""

    @property
    def made_with(self) -> Mapping[str, Any]:
        """Settings that decide the rows, with the name and the checksum of the model."""

    def spelled(self, path: str) -> str:
        """Spell a path as rows do."""

    def model_sha256(self) -> str:
        """Checksum of the model where it is called: on a node, or here."""

    def failed_row(self, path: str, error: str) -> Row:
        """Make the row of a track that could not be heard."""

    def __call__(self) -> Callable[[list[str]], list[Told]]:
        """Load the model; give the function that hears some tracks."""


@dataclass(frozen=True, slots=True)
class BulkReport:
    """What became of the tracks.

    Attributes
    ----------
    heard, reused : int
        Tracks heard now, and tracks that the partitions held already.
    failures : tuple of Failure
        Tracks that could not be heard, and why.
    """

    heard: int
    reused: int
    failures: tuple[Failure, ...]


class Answers:
    """Tracks are classified.

    Parameters
    ----------
    options : mapping
        What `Classifier` takes, without `threads`: each actor computes on one.
    top : int
        Tags kept of a track.
    timeline : bool
        Whether rows hold the heard segments.
    """

    command = "classify"

    def __init__(self, options: Mapping[str, Any], *, top: int = 3, timeline: bool = False) -> None:
        self._options = dict(options)
        self._kept: dict[str, Any] = {"top": top, "timeline": timeline}
        classifier = self._load()
        self.model_card = dict(classifier.model_card)
        self._kept |= {"names_tags": classifier.names_tags, "names_wide": classifier.names_wide}
        self._settings = {
            "coverage": str(options.get("coverage") or "default"),
            "model_sha256": classifier.model_sha256,
        }
        decisive = {name: value for name, value in self._options.items() if name != "max_model_mb"}
        self.made_with = {**decisive, **self._kept, **self._settings, "model": classifier.model}

    @property
    def columns(self) -> Columns:
        """How rows are written."""
        return AnswerColumns(
            names_tags=self._kept["names_tags"],
            names_wide=self._kept["names_wide"],
            has_card=bool(self.model_card),
            timeline=self._kept["timeline"],
        )

    def spelled(self, path: str) -> str:
        """Spell a path as rows do."""
        return str(storable(path))

    def model_sha256(self) -> str:
        """Checksum of the model where it is called."""
        return self._load().model_sha256

    def failed_row(self, path: str, error: str) -> Row:
        """Make the row of a track that could not be heard."""
        row = record_of(Failure(path, error), **self._kept)
        return {**storable(row), **_state_of(None), "sha256": "", **self._settings}

    def __call__(self) -> Callable[[list[str]], list[Told]]:
        """Load the model; give the function that hears some tracks."""
        apart = _decoding_for_life()
        classifier = self._load()
        _check_model(self.made_with, classifier.model_sha256)

        def row_of(path: str) -> Row:
            with as_local(path) as track:
                (result,) = hear_many([track.path], classifier.classify)
                row = record_of(result, **self._kept)
                key = key_of_sound(Path(track.path)) if row["error"] is None else ""
                row |= {**_state_of(track.state), "sha256": key, **self._settings}
            return dict(storable(_named(row, track.path, path)))

        return partial(_hear_each, apart, row_of, self.failed_row)

    def _load(self) -> Classifier:
        return Classifier(**self._options, threads=1)


class Vectors:
    """Tracks are embedded.

    Parameters
    ----------
    options : mapping
        What `Embedder` takes, without `threads`.

    Attributes
    ----------
    settings : EmbeddingSettings
        What the vectors are made with.
    """

    command = "embed"

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        self.settings: EmbeddingSettings = self._load().settings
        self.made_with = {name: value for name, value in self.settings.as_dict().items() if name != "location"}

    @property
    def columns(self) -> Columns:
        """How rows are written."""
        return EmbeddingColumns(self.settings)

    def spelled(self, path: str) -> str:
        """Spell a path as rows do."""
        return printable(path)

    def model_sha256(self) -> str:
        """Checksum of the model where it is called."""
        return self._load().settings.model_sha256

    def failed_row(self, path: str, error: str) -> Row:
        """Make the row of a track that could not be heard."""
        return {"path": printable(path), "error": printable(error), **_state_of(None)}

    def __call__(self) -> Callable[[list[str]], list[Told]]:
        """Load the model; give the function that embeds some tracks."""
        apart = _decoding_for_life()
        embedder = self._load()
        _check_model(self.made_with, embedder.settings.model_sha256)

        def row_of(path: str) -> Row:
            with as_local(path) as local:
                (result,) = hear_many([local.path], partial(embed_file, embedder))
                row: Row = {"error": None, "warnings": [], **_state_of(local.state)}
                if isinstance(result, Failure):
                    row["error"] = printable(result.error)
                else:
                    track, warnings = result
                    row |= {"warnings": list(warnings), "track": replace(track, path=path)}
                    if local.state is not None:  # of an object, whose copy has a time of its own
                        row["track"] = replace(row["track"], state=local.state)
            return {**_named(row, local.path, path), "path": printable(path)}

        return partial(_hear_each, apart, row_of, self.failed_row)

    def _load(self) -> Embedder:
        return Embedder(**self._options, threads=1)


def hear_on_cluster(
    cluster: Cluster,
    hearing: Hearing,
    paths: Sequence[str],
    output: str,
    *,
    n_actors: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> BulkReport:
    """Hear tracks on a cluster into partitions.

    Parameters
    ----------
    cluster : Cluster
        Where to work.
    hearing : Hearing
        What is done with every track: `Answers` or `Vectors`.
    paths : sequence of str
        The tracks, as all nodes reach them: paths of a shared folder, or addresses of a store.
    output : str
        Folder or prefix of the partitions.
    n_actors : int, optional
        Tracks at a time; by default one a core of the cluster.
    resume, overwrite : bool
        Go on with partitions that are there, or replace them.
    progress : callable
        Told (tracks done, tracks in all).
    on_row : callable
        Given every row as it comes in.

    Raises
    ------
    MusicgenreError
        When a node has no model or another one, or the output cannot be used.
    """
    model, expected = hearing.made_with["model"], hearing.made_with["model_sha256"]
    cluster.check_nodes(hearing.model_sha256, expected, f"the model {model}")

    spelled = {hearing.spelled(path): path for path in paths}
    failures: list[Failure] = []
    n_heard = 0
    with opened_partitions(
        output,
        hearing.columns,
        hearing.made_with,
        spelled,
        command=hearing.command,
        resume=resume,
        overwrite=overwrite,
    ) as partitions:
        missing = [path for name, path in spelled.items() if name not in partitions.done]
        n_reused = len(spelled) - len(missing)
        progress(n_reused, len(spelled))

        told: set[str] = set()
        streaming = in_actors(cluster, hearing, missing, n_actors=n_actors)
        with closing(streaming) as results:
            for n_done, (index, result) in enumerate(results, 1):
                if result is None:
                    deadly = f"{printable(missing[index])} makes its worker die, and each one after it. Leave it out."
                    row = hearing.failed_row(missing[index], deadly)
                else:
                    row, lines = result
                    for line in lines:
                        if line not in told:
                            told.add(line)
                            tell(line)

                partitions.add(row)
                on_row(row)
                if row["error"] is None:
                    n_heard += 1
                else:
                    failures.append(Failure(row["path"], row["error"]))
                progress(n_reused + n_done, len(spelled))
    return BulkReport(n_heard, n_reused, tuple(failures))


def _hear_each(
    _apart: ExitStack, row_of: Callable[[str], Row], failed_row: Callable[[str, str], Row], paths: list[str]
) -> list[Told]:
    """Hear tracks one by one; one that a store does not give is a row that failed."""
    heard = []
    for path in paths:
        lines: list[str] = []
        with telling(lines.append):
            try:
                row = row_of(path)
            except AudioError as error:
                row = failed_row(path, str(error))
        heard.append((row, lines))
    return heard


def _decoding_for_life() -> ExitStack:
    """Let this process decode in another one, for as long as what is returned is kept."""
    life = ExitStack()
    life.enter_context(decoding_apart())
    return life


def _check_model(made_with: Mapping[str, Any], found_sha256: str) -> None:
    """Refuse the model of a node that came later, if it is another one."""
    if found_sha256 != made_with["model_sha256"]:
        raise UsageError(
            f"there is another version of the model {made_with['model']}: {found_sha256[:12]}",
            valid=f"{made_with['model_sha256'][:12]}, by its checksum, on every node",
            next_step="Copy it there from the machine that began",
        )


def _state_of(state: FileState | None) -> Row:
    """Size and time of a file as a row holds them; zeros for what is none."""
    state = state or FileState(0, 0)
    return {"size_bytes": state.size_bytes, "modified_ns": state.modified_ns}


def _named(row: Row, local: str, path: str) -> Row:
    """Name the track in its row, also in warnings and errors, as it was named and not as its copy is."""
    row = {**row, "path": path}
    if local != path:
        shown = printable(path)
        row["warnings"] = [text.replace(printable(local), shown) for text in row["warnings"]]
        if row["error"] is not None:
            row["error"] = row["error"].replace(printable(local), shown)
    return row
