"""`musicgenre cache`: what the cache folder holds, and how to make room."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from musicgenre.errors import UsageError

KINDS = {
    "features": "what models read, of tracks that were prepared; computed again when it is wanted",
    "stores": "features put together for trainings; made again from `features`",
    "augmented": "augmented copies of training tracks; made again",
    "shards": "shards from other places; fetched again",
    "heard": "what `teach` heard; taught models are elsewhere; heard again",
    "heard.sqlite": "what `library` heard; plans and the journal are elsewhere; heard again",
    "bundles": "published models; fetched again by `bundles get`, so cleared only where it is named",
    "weights": "published weights; fetched again, so cleared only where it is named",
    "models": "networks of model hubs; fetched again, so cleared only where it is named",
    "checksums": "published lists of checksums; fetched again, so cleared only where it is named",
}
"""What lies in the cache folder, by the name of its folder or file. Nothing else in it is touched."""

FETCHED = ("bundles", "weights", "models", "checksums")
"""Kinds that come from elsewhere: without a network they do not come again."""

_DAY_S = 86_400.0
_BESIDE_A_DATABASE = ("", "-wal", "-shm")

app = typer.Typer(help="Show what the cache holds, and clear it.", no_args_is_help=False, invoke_without_command=True)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in the cache that goes as a whole.

    Attributes
    ----------
    paths : tuple of Path
        Its files and folders; one mostly.
    n_bytes, n_files : int
        What it holds.
    changed : float
        When the newest of its files was written, in seconds since 1970.
    """

    paths: tuple[Path, ...]
    n_bytes: int
    n_files: int
    changed: float


@app.callback()
def show(context: typer.Context) -> None:
    """Show the folder, and the size of every kind of thing in it."""
    if context.invoked_subcommand is not None:
        return
    from musicgenre._files import cache_folder
    from musicgenre._text import printable

    typer.echo(f"{printable(cache_folder())} (MUSICGENRE_CACHE names another)")
    width = max(map(len, KINDS))
    total = 0
    for kind, words in KINDS.items():
        entries = list(entries_of(kind))
        n_bytes = sum(entry.n_bytes for entry in entries)
        total += n_bytes
        n_files = sum(entry.n_files for entry in entries)
        files = "file " if n_files == 1 else "files"
        typer.echo(f"  {kind:<{width}}  {n_bytes / 1e6:10.1f} MB  {n_files:8,d} {files}  {words}")
    typer.echo(f"  {'all':<{width}}  {total / 1e6:10.1f} MB")


@app.command()
def clear(
    kinds: Annotated[
        list[str] | None, typer.Argument(help="Kinds to clear; all that is made again here by default.")
    ] = None,
    older_than: Annotated[
        float, typer.Option("--older-than", min=0.0, help="Only what was written more than so many days ago.")
    ] = 0.0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Clear what is made again when it is wanted; what is fetched from elsewhere only where you name it.

    Taught models, plans and the journal of your library do not lie in the cache. What another process uses stays.
    """
    from musicgenre._text import did_you_mean, printable

    for kind in kinds or ():
        if kind not in KINDS:
            raise UsageError(
                f"there is no {printable(kind)!r} in the cache",
                valid=", ".join(KINDS),
                next_step=f"{did_you_mean(kind, KINDS)}'musicgenre cache' shows them",
            )

    chosen = kinds or [kind for kind in KINDS if kind not in FETCHED]
    latest = time.time() - older_than * _DAY_S
    found = [entry for kind in chosen for entry in entries_of(kind) if entry.changed <= latest]
    if not found:
        typer.echo("there is nothing to clear")
        return

    said = f"{sum(entry.n_bytes for entry in found) / 1e6:.1f} MB of {', '.join(chosen)}"
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{said} would go, and nobody can be asked here", next_step="Add --yes if you mean it")
        if not typer.confirm(f"Clear {said}?", default=False, err=True):
            raise typer.Exit(1)
    in_use = [entry for entry in found if not _remove(entry)]
    gone = sum(entry.n_bytes for entry in found) - sum(entry.n_bytes for entry in in_use)
    typer.echo(f"cleared {gone / 1e6:.1f} MB")
    for entry in in_use:
        typer.echo(f"left in use, or not to be removed: {printable(entry.paths[0])}", err=True)
    if in_use:
        raise typer.Exit(1)


def entries_of(kind: str) -> Iterator[Entry]:
    """List the things of one kind: what lies in its folder, or its file with what SQLite keeps beside it."""
    from musicgenre._files import cache_folder

    place = cache_folder() / kind
    if place.is_symlink():  # what somebody put elsewhere is theirs
        return
    if place.is_dir():
        for path in sorted(place.iterdir()):
            yield _entry((path,))
    elif place.is_file():
        yield _entry(tuple(path for end in _BESIDE_A_DATABASE if (path := Path(f"{place}{end}")).is_file()))


def _entry(paths: tuple[Path, ...]) -> Entry:
    files = []
    for path in paths:
        inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
        files += [one for one in inside if one.is_symlink() or one.is_file()]
    sizes, times = [], [0.0]
    for file in files:
        with suppress(OSError):  # another process may have removed it
            status = file.lstat()
            sizes.append(status.st_size)
            times.append(status.st_mtime)
    return Entry(paths, sum(sizes), len(files), max(times))


def _remove(entry: Entry) -> bool:
    """Remove an entry that no other process holds; whether it is gone."""
    from musicgenre._locks import file_lock, folder_lock
    from musicgenre.errors import DataError

    try:
        with ExitStack() as held:
            for path in entry.paths:
                held.enter_context(file_lock(path, "clearing"))
                if path.is_dir() and not path.is_symlink():
                    held.enter_context(folder_lock(path, "clearing"))
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
    except (DataError, OSError):
        return False
    return True
