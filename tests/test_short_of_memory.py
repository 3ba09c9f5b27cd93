"""Where memory is short, the command ends in one line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from musicgenre import __main__, cli
from tests.limits import GUARD_S


@pytest.mark.parametrize(("words", "code"), [(["classify", "song.wav"], 2), (["--version"], 0)])
@pytest.mark.skipif(os.name == "nt", reason="Windows has no limits of that kind")
def test_a_process_that_may_have_little_says_so_in_one_line(words: list[str], code: int) -> None:
    text = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (150_000_000, 150_000_000)); "
        f"sys.argv[1:] = {words!r}; from musicgenre.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=GUARD_S, check=False)
    assert done.returncode == code
    if code:
        assert done.stdout == "" and done.stderr == (
            "error: there is not enough memory: this process may have 150 MB. Valid: 230 MB or more "
            "(measured on two cores; more cores take more). "
            "Raise the limit, for example: ulimit -v unlimited.\n"
        )
    else:
        assert done.stdout.startswith("musicgenre ") and done.stderr == ""


@pytest.mark.parametrize(
    ("error", "room", "message"),
    [
        (MemoryError(), None, "there is not enough memory. Close other programs"),
        (MemoryError("Unable to allocate 9 GiB\nfor"), None, "not enough memory (Unable to allocate 9 GiB). Close"),
        (MemoryError(), 10**9, "this process may have 1000 MB. Raise the limit"),
        (ImportError("std::bad_alloc"), 10**9, "this process may have 1000 MB (std::bad_alloc)"),
        (SystemError("error return without exception set"), 10**9, "this process may have 1000 MB (error return"),
    ],
)
def test_what_ends_for_want_of_memory_ends_in_one_line(
    error: Exception,
    room: int | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run() -> None:
        raise error

    monkeypatch.setattr(cli, "main", run)
    monkeypatch.setattr(__main__, "_address_space_bytes", lambda: room)
    with pytest.raises(SystemExit) as caught:
        __main__.main()
    said = capsys.readouterr().err
    assert caught.value.code == 2 and message in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "room"), [(ImportError("x"), None), (ModuleNotFoundError("No module named x"), 10**9)]
)
def test_other_errors_stay_what_they_are(error: Exception, room: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> None:
        raise error

    monkeypatch.setattr(cli, "main", run)
    monkeypatch.setattr(__main__, "_address_space_bytes", lambda: room)
    with pytest.raises(type(error)):
        __main__.main()
