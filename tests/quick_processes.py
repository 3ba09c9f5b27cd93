"""Processes that start anew without loading Python, NumPy, decoders and pytest for each: copies of one that has them.

Nothing else differs from how they start in use: what such a process works on is pickled, its folder and its variables
are those of this process at that moment, and no thread, lock or open file of ours is in it.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import context
from typing import Any
from unittest.mock import patch

START_ANEW = multiprocessing.get_context
"""`multiprocessing.get_context` as it is, for tests of the start itself."""

# What decoding workers import, and what every command does; loading it starts no threads.
_LOADED = ["pytest", "numpy", "av", "soundfile", "soxr", "typer", "rich.console", "musicgenre.audio.workers"]


@contextmanager
def quick_processes() -> Iterator[None]:
    """Let what asks for processes by the method `spawn` get such copies in the block, where the system has them."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        yield
        return
    quick = copies_of(_LOADED)

    def get_context(method: str | None = None) -> Any:
        return quick if method == "spawn" else START_ANEW(method)

    with patch.object(multiprocessing, "get_context", get_context):
        yield


def copies_of(packages: Sequence[str], **variables: str) -> Any:
    """Give a context whose processes are copies of one that loaded packages, with these variables beside ours."""
    from multiprocessing import forkserver, popen_forkserver

    server = forkserver.ForkServer()  # of our own: `tests.fresh` has the one that all share
    server.set_forkserver_preload(list(packages))
    with patch.dict(os.environ, variables):
        server.ensure_running()

    class Popen(popen_forkserver.Popen):
        def _launch(self, process_obj: Any) -> None:
            with patch.object(forkserver, "connect_to_new_process", server.connect_to_new_process):
                super()._launch(process_obj)

    def process(*arguments: Any, **options: Any) -> _Process:
        made = _Process(*arguments, **options)
        made._Popen = Popen  # type: ignore[method-assign,assignment]
        return made

    copies: Any = context.ForkServerContext()
    copies.Process = process
    return copies


class _Process(context.ForkServerProcess):
    """A process that has the variables of the one that started it."""

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_Popen"}

    def start(self) -> None:
        self._variables = dict(os.environ)
        super().start()

    def run(self) -> None:
        os.environ.clear()
        os.environ.update(self._variables)
        super().run()
