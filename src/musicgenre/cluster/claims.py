"""One command at a time writes into a prefix of an object store, which knows no locks.

Each puts an object there that says who it is, and puts it anew every half minute; who finds the object of another
gives way. By the store's own clock, one that was not put anew for some minutes is of a command that was killed. A
command of this machine is known at once, living or dead, by a lock of this machine.
"""

from __future__ import annotations

import os
import platform
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from hashlib import sha256

from musicgenre._files import cache_folder, write_text_atomic, writing_to
from musicgenre._locks import folder_lock
from musicgenre._parallel import beside
from musicgenre._text import printable
from musicgenre.cluster.storage import Place
from musicgenre.errors import DataError, MusicgenreError

_CLAIM = re.compile(r"\.writing-[0-9a-f]{32}")  # readers of Parquet pass names with a dot over
_AGAIN_EVERY_S = 30.0
_DEAD_AFTER_S = 300.0
_LAST = "last"  # file of this machine that names the claim which a command of its own made last
_N_DIGITS = 16
_LONGEST_HOLDER = 200  # characters


@contextmanager
def claimed(place: Place, doing: str) -> Iterator[Callable[[], None]]:
    """Claim a prefix of a store for the block.

    Parameters
    ----------
    place : Place
        The prefix.
    doing : str
        Who wants it, for the message to the other.

    Yields
    ------
    callable
        To be called before anything is written: raises a DataError where the claim was lost meanwhile, as by a
        machine that slept.

    Raises
    ------
    DataError
        Another command writes there.
    """
    here = cache_folder() / "claims" / sha256(place.address.encode()).hexdigest()[:_N_DIGITS]
    with ExitStack() as stack:
        with writing_to(here):
            stack.enter_context(folder_lock(here, doing, known_as=printable(place.address)))

        # what a command of this machine left is of a dead one, for this one has the lock
        last = here / _LAST
        dead = last.read_text("utf-8") if last.is_file() else ""
        mine = f".writing-{uuid.uuid4().hex}"
        with writing_to(here):
            write_text_atomic(last, mine)

        since = time.strftime("%Y-%m-%d %H:%M:%S")
        who = f"{doing} (process {os.getpid()} on {platform.node() or 'another machine'} since {since})"
        place.write(mine, who.encode())
        try:
            _give_way(place, mine, dead)
            with beside(partial(_put_anew, place, mine, who), "claim"):
                yield lambda: _check_still(place, mine)
        finally:
            if _is_removed(place, mine):
                last.unlink(missing_ok=True)


def _give_way(place: Place, mine: str, dead: str) -> None:
    """Refuse a prefix in which another command is alive; delete what dead ones left, of which one may be known.

    Both have written before they look, so of two that begin together one at least sees the other, or both do.
    """
    times_s = place.times_s()
    now_s = times_s.get(mine, max(times_s.values(), default=0.0))  # by the clock of the store
    for name, time_s in times_s.items():
        if name == mine or not _CLAIM.fullmatch(name):
            continue
        age_s = now_s - time_s
        if name == dead or age_s >= _DEAD_AFTER_S:
            _is_removed(place, name)
            continue
        try:
            holder = place.read(name)[:_LONGEST_HOLDER].decode("utf-8", "replace")
        except FileNotFoundError:  # it has ended
            continue
        raise DataError(
            f"another {printable(holder)} is writing into {printable(place.address)}",
            valid=f"One command at a time; one that was killed counts as ended {_DEAD_AFTER_S / 60:.0f} minutes later",
            next_step=f"Wait until it is done, or for {_DEAD_AFTER_S - age_s:.0f} s more if it was killed; or give "
            "another --output",
        )


def _put_anew(place: Place, mine: str, who: str, has_ended: threading.Event) -> None:
    """Put the claim anew, again and again, until the command has ended."""
    while not has_ended.wait(_AGAIN_EVERY_S):
        try:
            if place.has(mine):  # else another command has taken it for dead
                place.write(mine, who.encode())
        except MusicgenreError:  # the next partition, which goes the same way, tells what is wrong
            return


def _check_still(place: Place, mine: str) -> None:
    """Refuse to write where another command has taken this one for dead."""
    if not place.has(mine):
        raise DataError(
            f"another command has begun to write into {printable(place.address)}: this one was silent for too long",
            valid="What it wrote is whole",
            next_step="Wait until the other is done, then go on with --resume",
        )


def _is_removed(place: Place, name: str) -> bool:
    """Delete a claim; where that is not allowed, or not answered, it counts as dead some minutes later."""
    try:
        place.remove(name, waits_s=())
    except MusicgenreError:
        return False
    return True
