"""Get a data set: download (checksummed, resumed after a break) or take a copy at hand, and unpack it."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import urllib.error
from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import IO

from musicgenre._files import replacing, room_advice, writing_to
from musicgenre._locks import file_lock
from musicgenre._transfer import Response, TooMuchError, opened, receive
from musicgenre.data.archives import is_archive, unpack
from musicgenre.data.sets.registry import Archive, DataSet
from musicgenre.errors import DataError, needing

_PARTIAL_CONTENT = 206
_RANGE_NOT_SATISFIABLE = 416
_ROOM = 2  # one file may have so many times the size of the whole set, which is known roughly
_ARCHIVE_SUFFIXES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".zip", ".tar")

Progress = Callable[[str, int, int], None]  # (what, bytes done, bytes in all or 0)


def fetch_data_set(
    data_set: DataSet, folder: Path, *, source: Path | None = None, progress: Progress | None = None
) -> Path:
    """Download and unpack a data set, or take a copy at hand.

    Parameters
    ----------
    data_set : DataSet
        Which one.
    folder : Path
        Where its files go. What an earlier call brought is not fetched again.
    source : Path, optional
        A copy at hand: an archive, a folder with the archives in it, or a folder that is unpacked already (used
        where it is, nothing is copied).
    progress : callable, optional
        Told (what, bytes done, bytes in all).

    Returns
    -------
    Path
        The folder that the set's index reads.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - links in the path stay as they are
    if source is None:
        if not data_set.archives:
            raise DataError(
                f"{data_set.name} is not downloaded by this command (origin: {data_set.origin})",
                next_step=f"With a copy of your own: musicgenre data get {data_set.name} --from FOLDER",
            )
        # A server that sends without end must not fill the disk.
        most = _ROOM * data_set.size_bytes
        archives = [download(one, folder / "downloads", most=most, progress=progress) for one in data_set.archives]
        for file in data_set.files:
            download(file, folder, most=most, progress=progress)
    else:
        archives = _archives_in(data_set, source)
        if not archives:
            return source

        # What a set has beside its archives is copied; what is needed and absent, its index names.
        beside = source if source.is_dir() else source.parent
        for file in data_set.files:
            found, target = beside / file.filename, folder / file.filename
            if found.is_file() and not target.exists():
                folder.mkdir(parents=True, exist_ok=True)
                with replacing(target) as temporary:
                    shutil.copyfile(found, temporary)

    unpacked = partial(progress, "unpack") if progress else None
    if data_set.joined:
        _unpack_once(archives, folder / _stem(data_set.joined), unpacked)
        return folder

    targets = [folder / _stem(archive.name) for archive in archives]
    for archive, target in zip(archives, targets, strict=True):
        _unpack_once([archive], target, unpacked)
    return folder if len(targets) > 1 else targets[0]


def _unpack_once(archives: list[Path], target: Path, progress: Callable[[int, int], None] | None) -> None:
    """Unpack an archive, or the pieces of one, unless that was done; another process that does it is waited for."""
    if target.exists():
        return
    with file_lock(target, "unpacking of the same archive", wait_s=math.inf):
        if not target.exists():
            unpack(archives, target, progress=progress)


def download(archive: Archive, folder: Path, *, most: int | None = None, progress: Progress | None = None) -> Path:
    """Download one file through pooch: checked against its checksum, resumed where an earlier try broke off.

    Parameters
    ----------
    archive : Archive
        The file, its addresses and checksum.
    folder : Path
        Where it goes.
    most : int, optional
        Bytes that it cannot have more of.
    progress : callable, optional
        Told (file name, bytes done, bytes in all).

    Returns
    -------
    Path
        The complete file.
    """
    with writing_to(folder), file_lock(folder / archive.filename, "download of the same file", wait_s=math.inf):
        return _retrieve(archive, folder, most, progress)


def _retrieve(archive: Archive, folder: Path, most: int | None, progress: Progress | None) -> Path:
    """Download a file that this process holds, from the first of its addresses that has it."""
    with needing(f"downloading {archive.filename}", "train"):
        import pooch

    pooch.get_logger().setLevel("WARNING")
    problems = []
    for url in archive.urls:
        fetcher = _Resuming(folder / f"{archive.filename}.part", archive, most, progress)
        try:
            return Path(pooch.retrieve(url, archive.checksum, fname=archive.filename, path=folder, downloader=fetcher))
        except ValueError:  # pooch found another checksum
            problems.append(f"{url}: its checksum is another one than published; the file was thrown away")
        except urllib.error.HTTPError as error:
            problems.append(f"{url}: HTTP {error.code} {error.reason}")
        except (OSError, HTTPException) as error:
            if isinstance(error, OSError) and (advice := room_advice(error)):  # no other address would help
                raise DataError(
                    f"{folder} takes no more of {archive.filename} ({error.strerror})",
                    next_step=f"{advice}, then run the same command again: a broken download resumes",
                ) from error
            reason = f"no connection ({error.reason})" if isinstance(error, urllib.error.URLError) else error
            problems.append(f"{url}: {reason}")

    raise DataError(
        f"{archive.filename} could not be downloaded ({'; '.join(problems)})",
        next_step="With a copy of your own: musicgenre data get NAME --from FILE_OR_FOLDER; a broken download resumes",
    )


def checksum_problem(path: Path, archive: Archive) -> str:
    """Compare a file with the published checksum of an archive.

    Parameters
    ----------
    path : Path
        A copy at hand.
    archive : Archive
        What it should be.

    Returns
    -------
    str
        What differs; empty when nothing does or no checksum is known.
    """
    if archive.checksum is None:
        return ""

    algorithm, _, expected = archive.checksum.partition(":")
    found = digest_of(path, algorithm)
    return "" if found == expected else f"{path} has {algorithm} {found}, published is {expected}"


def digest_of(path: Path, algorithm: str) -> str:
    """Hex digest of a file's content, by `md5`, `sha1` or another algorithm of hashlib."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


class _Resuming:
    """A downloader for pooch that keeps what arrived in a `.part` file and goes on from there."""

    def __init__(self, part: Path, archive: Archive, most: int | None, progress: Progress | None) -> None:
        self.part = part
        self.most = most
        self.name = archive.filename
        self.resumable = archive.checksum is not None  # else two halves of different files could go unnoticed
        self.progress = progress

    def __call__(self, url: str, output_file: str | IO[bytes], _pooch: object) -> None:
        """Fetch `url` into the part file, then hand it over as `output_file`."""
        self.part.parent.mkdir(parents=True, exist_ok=True)
        have = self.part.stat().st_size if self.resumable and self.part.exists() else 0
        try:
            with opened(url, {"Range": f"bytes={have}-"} if have else None) as response:
                self._receive(response, have)
        except urllib.error.HTTPError as error:
            if error.code != _RANGE_NOT_SATISFIABLE or not have:
                raise
            error.close()  # nothing was left to fetch: the checksum tells whether it is whole

        if isinstance(output_file, (str, os.PathLike)):
            self.part.replace(output_file)
            return
        with self.part.open("rb") as source:
            shutil.copyfileobj(source, output_file)
        self.part.unlink()

    def _receive(self, response: Response, have: int) -> None:
        """Write what arrives behind the bytes that are there, where the server goes on from them."""
        resumed = response.status == _PARTIAL_CONTENT
        told = partial(self.progress, self.name) if self.progress else lambda done, total: None
        try:
            with self.part.open("ab" if resumed else "wb") as sink:
                receive(response, sink, done=have if resumed else 0, most=self.most, progress=told)
        except TooMuchError:
            self.part.unlink()
            raise


def _archives_in(data_set: DataSet, source: Path) -> list[Path]:
    """Find the archives of a copy at hand, checked; none for a folder that is unpacked."""
    if not source.exists():
        raise DataError(f"there is no {source}", valid="An archive, or a folder with the archives or their files")
    if data_set.joined:
        whole = source / data_set.joined if source.is_dir() else source
        if whole.is_file():
            return [whole]  # somebody has joined the pieces already

    if source.is_dir():
        archives = [source / archive.filename for archive in data_set.archives]
        present = [path for path in archives if path.is_file()]
        if present and len(present) < len(archives):
            missing = ", ".join(path.name for path in archives if path not in present)
            raise DataError(
                f"{source} holds {present[0].name} but not {missing}", next_step="Put all of them into one folder"
            )
        return present

    if not is_archive(source):
        raise DataError(f"{source} is no zip or tar archive", valid="An archive, or a folder")
    if len(data_set.archives) > 1:
        names = " and ".join(archive.filename for archive in data_set.archives)
        raise DataError(f"{data_set.name} has {len(data_set.archives)} archives", valid=f"A folder with {names}")
    return [source]


def _stem(name: str) -> str:
    """The name of an archive without its suffix; the folder that it is unpacked into."""
    for suffix in _ARCHIVE_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]

    return f"{name}-unpacked"
