"""The plugin `musicgenre` for beets: genres that are heard, for tracks of a beets library.

`plugins: musicgenre` in beets' configuration switches it on. What is heard, proposed and decided is what
`musicgenre library plan` does; beets alone knows what a track is called and writes into its file.
"""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import confuse
from beets import plugins, ui

from musicgenre.errors import MusicgenreError

if TYPE_CHECKING:
    from beets.importer import ImportSession, ImportTask
    from beets.library import Album, Item, Library

    from musicgenre.filetags.music_file import FileTags
    from musicgenre.library.journal import Journal
    from musicgenre.library.make_plan import PlanOptions
    from musicgenre.library.memory import HeardMemory
    from musicgenre.library.plan import PlanRow
    from musicgenre.listening.classifier import Classifier

_DEFAULTS = {
    "auto": True,
    "policy": "keep",
    "model": "default",
    "coverage": None,
    "min_confidence": 0.0,
    "max_genres": 1,
    "genres": "ten",
    "style": False,
    "by": "track",
    "map": None,
    "jobs": None,
}
_MOST_GENRES = 20
_MOST_JOBS = 256
_SINGLES = 16  # tracks without an album that are heard before the first of them is stored


@dataclass(frozen=True, slots=True)
class _Hearing:
    """What is opened once for an import or a command."""

    classifier: Classifier
    memory: HeardMemory
    journal: Journal
    options: PlanOptions
    coverage: str
    min_confidence: float
    jobs: int


class MusicgenrePlugin(plugins.BeetsPlugin):  # type: ignore[misc]
    """Names the genres of tracks by their sound, on import and by `beet musicgenre`."""

    def __init__(self) -> None:
        super().__init__()
        self.config.add(_DEFAULTS)
        self._stack = ExitStack()
        self._hearing: _Hearing | None = None
        if self.config["auto"]:
            self.import_stages = [self.imported]
            self.register_listener("import_begin", self.open)
        self.register_listener("cli_exit", self._stack.close)

    def commands(self) -> list[Any]:
        """Give beets the command `beet musicgenre`."""
        command = ui.Subcommand("musicgenre", help="hear tracks and name their genres")
        command.parser.add_option(
            "-p", "--pretend", action="store_true", help="show what would change, and change nothing"
        )
        command.parser.add_option("--policy", help="for genres that are there: keep, merge or replace")
        command.func = self.command
        return [command]

    def command(self, lib: Library, options: Any, query: list[str]) -> None:
        """Name the genres of the tracks that a query finds, album after album.

        Parameters
        ----------
        lib : Library
            beets' library.
        options : Values
            `pretend` and `policy`, as given.
        query : list of str
            What to look for; empty: everything.
        """
        self.config.set_args({"policy": options.policy})
        self.open()
        writes = ui.should_write()
        counts: Counter[str] = Counter()
        for items in _batches(lib.items(query)):
            changed = []
            for item, row in self._named(items):
                counts["changed" if row.write else row.why] += 1
                if row.why == "failed":
                    self._log.warning("{}", row.note)
                if row.write:
                    changed.append(item)
                    ui.show_model_changes(item, fields=["genres"])

            album = items[0].get_album() if changed else None
            if album is not None and self._name_album(album, items):
                ui.show_model_changes(album, fields=["genres"])
            if options.pretend:
                continue
            for item in changed:
                item.try_sync(write=writes, move=False)
            if album is not None:
                album.store(inherit=False)
        ui.print_(", ".join(f"{n} {what}" for what, n in counts.most_common()) or "no track found")

    def imported(self, session: ImportSession, task: ImportTask) -> None:
        """Name the genres of what is being imported; beets writes them where it writes tags.

        Parameters
        ----------
        session : ImportSession
            The import.
        task : ImportTask
            An album, or one track.
        """
        items = task.imported_items()
        try:
            changed = []
            for item, row in self._named(items):
                if row.why == "failed":
                    self._log.warning("{}", row.note)
                if row.write:
                    changed.append(item)
                    self._log.info("{}: {}", item, ", ".join(item.genres))
        except MusicgenreError as error:  # an import goes on without genres
            self._log.warning("{}", error)
            return

        for item in changed:
            item.store()
        if task.is_album and changed and self._name_album(task.album, items):
            task.album.store(inherit=False)

    def open(self) -> None:
        """Read the options, load the model: what cannot be used is told before anything is done.

        Raises
        ------
        UserError, ConfigError
            An option or the map is wrong, or the model is not here.
        """
        if self._hearing is not None:
            return
        try:
            self._hearing = self._opened()
        except MusicgenreError as error:
            raise ui.UserError(f"musicgenre: {error}") from error

    def _opened(self) -> _Hearing:
        # What is heavy is loaded here, so that beets' other commands stay quick.
        from musicgenre.audio import decoding_apart
        from musicgenre.library.genre_map import GenreMap, read_map
        from musicgenre.library.journal import Journal
        from musicgenre.library.make_plan import PlanOptions
        from musicgenre.library.memory import HeardMemory
        from musicgenre.library.plan import POLICIES
        from musicgenre.listening.batch import plan_threads
        from musicgenre.listening.classifier import Classifier

        policy = self.config["policy"].as_choice(POLICIES)
        by_album = self.config["by"].as_choice(("track", "album")) == "album"
        max_genres = int(self._number("max_genres", int, 1, _MOST_GENRES))
        min_confidence = self._number("min_confidence", float, 0, 1)
        style = self.config["style"].get(bool)
        if style and max_genres < 2:
            raise confuse.ConfigValueError("musicgenre.style adds a second genre: set max_genres to 2 or more")
        genres = self.config["genres"].as_choice(("ten", "wide"))
        if style and genres == "wide":
            raise confuse.ConfigValueError("musicgenre.genres: wide names what style would add: leave style out")
        jobs = None if self.config["jobs"].get() is None else int(self._number("jobs", int, 1, _MOST_JOBS))
        given = self.config["coverage"].get()
        coverage = None if given is None else str(given)
        map_file = None if self.config["map"].get() is None else Path(self.config["map"].as_filename())

        n_jobs, n_threads = plan_threads(jobs, None, _SINGLES)
        model = os.path.expanduser(self.config["model"].as_str())  # noqa: PTH111  a name stays as it is
        classifier = Classifier(model, coverage=coverage, threads=n_threads, genres=genres)
        genre_map = GenreMap() if map_file is None else read_map(map_file, classifier.vocabulary)
        options = PlanOptions(policy, max_genres, style, by_album=by_album, genre_map=genre_map)

        # A file at which a decoder crashes costs one line, also in an import of single tracks.
        self._stack.enter_context(decoding_apart())
        memory = self._stack.enter_context(HeardMemory())
        journal = self._stack.enter_context(Journal())
        return _Hearing(classifier, memory, journal, options, coverage or "default", min_confidence, n_jobs)

    def _number(self, key: str, kind: type, least: float, most: float) -> float:
        """Read a number of the configuration and hold it to its range."""
        value = float(self.config[key].get(confuse.Number() if kind is float else int))
        if not math.isfinite(value) or not least <= value <= most:
            raise confuse.ConfigValueError(f"musicgenre.{key}: {value:g} is not from {least:g} to {most:g}")
        return value

    def _named(self, items: Sequence[Item]) -> Iterator[tuple[Item, PlanRow]]:
        """Hear tracks; give each its genres (nothing is stored yet), and say why it has them or keeps its own."""
        from musicgenre.filetags.base import GENRE
        from musicgenre.library.make_plan import make_plan
        from musicgenre.library.plan import selected

        hearing = self._hearing
        assert hearing is not None
        by_path = {os.fsdecode(item.path): item for item in items}

        def as_beets_knows(path: str, tags: FileTags) -> FileTags:
            item = by_path[path]
            return replace(
                tags,
                genres=tuple(item.genres),
                artist=item.artist,
                album_artist=item.albumartist,
                album=item.album,
                container=tags.container or item.format,  # beets may write what `musicgenre library` cannot
            )

        rows = make_plan(
            list(by_path),
            hearing.classifier,
            hearing.memory,
            hearing.journal,
            hearing.options,
            settings=hearing.coverage,
            jobs=hearing.jobs,
            as_known=as_beets_knows,
        )
        for row in rows:
            item = by_path[row.path]
            if row.write and not any(selected([row], min_confidence=hearing.min_confidence)):
                row = replace(row, write=False, why="unsure")  # noqa: PLW2901
            if row.write:
                item.genres = list(row.set[GENRE])
            yield item, row

    def _name_album(self, album: Album, items: Sequence[Item]) -> bool:
        """Give an album the genres that most of its tracks have, by the same policy; say whether that changes it."""
        from musicgenre.filetags.base import GENRE
        from musicgenre.library.plan import PlanRow, decide

        assert self._hearing is not None
        options = self._hearing.options
        as_named = {item.id: item for item in items}
        genres: Counter[str] = Counter()
        for item in album.items():
            genres.update(as_named.get(item.id, item).genres)

        common = tuple(name for name, _ in genres.most_common(options.max_genres))
        row = decide(
            PlanRow(os.fsdecode(album.path), write=False, now=tuple(album.genres), proposed=common, why="album"),
            policy=options.policy,
            ours={},
            update_own=False,
            max_genres=options.max_genres,
            extra={},
        )
        if row.write:
            album.genres = list(row.set[GENRE])
        return row.write


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Tracks of an album together, others a few at a time: what is named is stored before the next ones are heard."""
    albums: defaultdict[int | None, list[Item]] = defaultdict(list)
    for item in items:
        albums[item.album_id].append(item)

    singles = albums.pop(None, [])
    yield from albums.values()
    for start in range(0, len(singles), _SINGLES):
        yield singles[start : start + _SINGLES]
