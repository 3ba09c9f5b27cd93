"""Watch folders: a file that came and stopped growing is heard once, and gets a line at the end of a plan.

What the system tells (through watchdog) only says where to look. Whoever misses something, for the folder was made a
moment ago, lies on a network share, or nobody watched, finds it in the next walk through all of it.
"""

from __future__ import annotations

import math
import os
import queue
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from musicgenre._known_files import FileState
from musicgenre._text import printable
from musicgenre.audio import find_audio_files, is_in_walk
from musicgenre.errors import LibraryError, needing
from musicgenre.filetags.splice import is_open_for_writing
from musicgenre.library.journal import Journal
from musicgenre.library.make_plan import PlanOptions, make_plan
from musicgenre.library.memory import HeardMemory
from musicgenre.library.plan import PlanRow, append_rows, mend_last_line, read_plan
from musicgenre.library.write import Left, Wanted, WriteOptions, Written, locked, settle_open, write_files
from musicgenre.listening.classifier import Classifier

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent

_TICK_S = 1.0
_WALK_EVERY_S = 600.0
_FILES_AT_A_TIME = 32  # then what was heard stands in the plan
# Of all that watchdog tells; that somebody reads a file, as we do, is no news.
_NEWS = ("created", "modified", "moved", "closed")


class Arrivals:
    """Files that came, and may still be written to: one is ready once its size and time stood still and nobody writes.

    Parameters
    ----------
    settle_s : float
        For how long.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._pending: dict[str, tuple[FileState, float]] = {}  # and since when it is in that state

    def note(self, path: str, now_s: float) -> None:
        """Take note of a file that is new, or that somebody wrote to; one that is gone is forgotten."""
        try:
            state = FileState.of(path)
        except OSError:
            self._pending.pop(path, None)
            return
        known = self._pending.get(path)
        if known is None or known[0] != state:
            self._pending[path] = state, now_s

    def ready(self, now_s: float) -> list[str]:
        """Give out the files that stopped growing, by name; an empty one never has."""
        for path in list(self._pending):
            self.note(path, now_s)
        stopped = []
        for path, (state, since_s) in self._pending.items():
            if state.size_bytes and now_s - since_s >= self._settle_s and not _is_written_to(path):
                stopped.append(path)
        for path in stopped:
            del self._pending[path]
        return sorted(stopped)


def _is_written_to(path: str) -> bool:
    try:
        return is_open_for_writing(Path(path))
    except OSError:  # whoever hears it says why
        return False


class PlanThatGrows:
    """A plan that files are added to, each once, and written into where that is wanted.

    Parameters
    ----------
    plan_file : Path
        The plan; made with the first row where it is missing.
    classifier, memory, journal, options, settings, jobs
        As `make_plan` takes them.
    writes : bool
        Whether what is proposed is written at once.

    Raises
    ------
    LibraryError
        The file is no plan.
    """

    def __init__(
        self,
        plan_file: Path,
        classifier: Classifier,
        memory: HeardMemory,
        journal: Journal,
        options: PlanOptions,
        *,
        settings: str,
        jobs: int = 1,
        writes: bool = False,
    ) -> None:
        self._file = plan_file
        self._classifier, self._memory, self._journal = classifier, memory, journal
        self._options, self._settings, self._jobs = options, settings, jobs
        self._writes = writes
        self._run_id: int | None = None  # all that one watch writes is one run, and can be taken back at once
        self._sounds: dict[str, str] = {}  # by path; empty of what could not be heard
        self._notes: dict[str, str] = {}
        self._states: dict[str, FileState] = {}  # of files dealt with since this began

        if plan_file.exists():
            mend_last_line(plan_file)
            for row in read_plan(plan_file):
                self._sounds[row.path], self._notes[row.path] = row.sound_sha256, row.note

    def knows(self, path: str) -> bool:
        """Tell, without reading it, whether a file was dealt with since this began and is as it was then."""
        try:
            return path in self._states and self._states[path] == FileState.of(path)
        except OSError:  # it is gone: there is nothing to deal with
            return True

    def take_in(self, paths: Sequence[str]) -> Iterator[PlanRow]:
        """Hear files that are not in the plan yet, write into them where that is wanted, and add their rows.

        A kill between the two leaves a file written and in the journal, but not in the plan: the next watch finds the
        genre there and adds a row that says so.
        """
        for start in range(0, len(paths), _FILES_AT_A_TIME):
            some = [path for path in paths[start : start + _FILES_AT_A_TIME] if self._is_new(path)]
            rows = []
            for row in make_plan(
                some,
                self._classifier,
                self._memory,
                self._journal,
                self._options,
                settings=self._settings,
                jobs=self._jobs,
            ):
                # What failed before fails again at every start; once in the plan is enough.
                if row.why != "failed" or self._notes.get(row.path) != row.note:
                    rows.append(row)
            if self._writes:
                rows = self._written(rows)

            if rows:
                append_rows(rows, self._file)
            for row in rows:
                self._sounds[row.path], self._notes[row.path] = row.sound_sha256, row.note
            for path in some:
                self._remember_state(path)
            yield from rows

    def _is_new(self, path: str) -> bool:
        """Tell whether a file holds a sound that the plan has not under its name."""
        if self.knows(path):
            return False
        if not self._sounds.get(path):
            return True
        try:
            is_new = self._memory.look(path).sound_sha256 != self._sounds[path]
        except OSError:
            return False
        if not is_new:
            self._remember_state(path)
        return is_new

    def _written(self, rows: Sequence[PlanRow]) -> list[PlanRow]:
        """Write what rows propose; those that stand in their files say so from then on."""
        wanted = []
        for row in rows:
            if row.write and row.set:
                model, checksum = ("", "") if row.why == "corrected" else (row.model, row.model_sha256)
                wanted.append(Wanted(row.path, row.set, row.sound_sha256, row.tags_sha256, model, checksum))
        if not wanted:
            return list(rows)

        outcomes: dict[str, Written | Left] = {}
        with locked(self._journal, wait_s=math.inf):
            settle_open(self._journal)
            if self._run_id is None:
                self._run_id = self._journal.begin("apply")
            for outcome in write_files(self._journal, self._run_id, wanted, WriteOptions()):
                outcomes[outcome.path] = outcome

        told = []
        for row in rows:
            outcome_or_none = outcomes.get(row.path)
            if isinstance(outcome_or_none, Written):
                tags = self._memory.look(row.path).tags_sha256
                told.append(replace(row, write=False, why="written", tags_sha256=tags))
            elif isinstance(outcome_or_none, Left) and outcome_or_none.is_failure:
                told.append(replace(row, note="; ".join(filter(None, [row.note, outcome_or_none.reason]))))
            else:
                told.append(row)
        return told

    def _remember_state(self, path: str) -> None:
        try:
            self._states[path] = FileState.of(path)
        except OSError:
            self._states.pop(path, None)


def watch(
    folders: Sequence[Path],
    plan: PlanThatGrows,
    *,
    exclude: Sequence[str] = (),
    settle_s: float = 10.0,
    polls: bool = False,
) -> Iterator[PlanRow]:
    """Take in what lies in folders and is not in the plan, and then what comes, until somebody ends it.

    Parameters
    ----------
    folders : sequence of Path
        With all below them.
    plan : PlanThatGrows
        Where rows are added.
    exclude : sequence of str
        As `find_audio_files` takes it.
    settle_s : float
        Seconds for which size and time of a file must stand still before it is heard.
    polls : bool
        Look for changes ourselves, where the system tells nothing of them: on network shares.

    Yields
    ------
    PlanRow
        Each when it stands in the plan.

    Raises
    ------
    LibraryError
        A folder is gone, or the system cannot watch so much.
    MissingExtraError
        Without watchdog.
    """
    roots = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100  links stay links
    arrivals = Arrivals(settle_s)
    with _news_of(roots, exclude, polls=polls) as news:
        walk_at_s = 0.0
        while True:
            now_s = time.monotonic()
            if now_s >= walk_at_s:
                for path in all_below(roots, exclude):
                    if not plan.knows(path):
                        arrivals.note(path, now_s)
                walk_at_s = now_s + _WALK_EVERY_S

            for path in _within_a_tick(news):
                arrivals.note(path, time.monotonic())
            yield from plan.take_in(arrivals.ready(time.monotonic()))


def take_in_once(
    folders: Sequence[Path], plan: PlanThatGrows, *, exclude: Sequence[str] = (), settle_s: float = 10.0
) -> Iterator[PlanRow]:
    """Take in what lies in folders now, but for files that grow while `settle_s` seconds pass; as for `watch`."""
    arrivals = Arrivals(settle_s)
    began_s = time.monotonic()
    for path in all_below(folders, exclude):
        arrivals.note(path, began_s)
    time.sleep(settle_s)
    yield from plan.take_in(arrivals.ready(time.monotonic()))


def all_below(folders: Sequence[Path], exclude: Sequence[str] = ()) -> list[str]:
    """List the sound files in folders, by absolute paths.

    Raises
    ------
    LibraryError
        One of the folders is not there.
    """
    roots = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100
    for root in roots:
        if not root.is_dir():
            raise LibraryError(
                f"the folder {printable(root)} is not there", next_step="Was its disk taken out? Start again with it"
            )
    return [str(path) for path in find_audio_files(roots, exclude)]


@contextmanager
def _news_of(roots: Sequence[Path], exclude: Sequence[str], *, polls: bool) -> Iterator[queue.SimpleQueue[str]]:
    """Let the system tell of files below folders; yields a queue of their paths."""
    with needing("library watch", "watch"):
        from watchdog.events import FileSystemEventHandler
        from watchdog.observers import Observer
        from watchdog.observers.polling import PollingObserver

    news: queue.SimpleQueue[str] = queue.SimpleQueue()

    class Handler(FileSystemEventHandler):
        """Called by watchdog's thread."""

        def on_any_event(self, event: FileSystemEvent) -> None:
            if event.event_type not in _NEWS:
                return
            place = os.fsdecode(event.dest_path if event.event_type == "moved" else event.src_path)
            # Of a folder that was moved here, nobody tells what is in it.
            found: Iterable[str] = [place]
            if event.is_directory:
                found = () if event.event_type == "modified" else map(str, find_audio_files(place))
            for path in found:
                if any(is_in_walk(PurePath(path), root, exclude) for root in roots):
                    news.put(path)

    observer = PollingObserver() if polls else Observer()
    try:
        for root in roots:
            observer.schedule(Handler(), str(root), recursive=True)
        observer.start()
    except OSError as error:  # a limit of the system for folders watched, or a folder that is gone
        raise LibraryError(
            f"the system cannot watch {printable(roots[0])} ({error.strerror or error})",
            next_step="Add --poll to look for changes without its help",
        ) from error
    try:
        yield news
    finally:
        observer.stop()
        observer.join()


def _within_a_tick(news: queue.SimpleQueue[str]) -> set[str]:
    """Wait for news for a moment, and take all there is."""
    paths: set[str] = set()
    end_s = time.monotonic() + _TICK_S
    while (left_s := end_s - time.monotonic()) > 0:
        try:
            paths.add(news.get(timeout=left_s))
        except queue.Empty:
            break
    return paths
