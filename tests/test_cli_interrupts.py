"""Ctrl-C at any moment: one line on standard error, exit code 130, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.limits import GUARD_S

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")

PRESS = (
    "import os, signal, sys, time; press = lambda: (os.kill(os.getpid(), signal.SIGINT), time.sleep(5))\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # what runs behind a shell's & inherits none
)


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRESS + program], capture_output=True, text=True, check=False, timeout=GUARD_S
    )


def test_inside_a_command(tmp_path: Path) -> None:
    done = run(
        f"sys.argv = ['musicgenre', 'data', 'index', {os.fspath(tmp_path)!r}, '-o', 'no.csv'];"
        "import musicgenre.cli, musicgenre.data.index;"
        "musicgenre.data.index.index_folder = lambda *_, **__: press();"
        "musicgenre.cli.main()"
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_a_package_that_turns_it_into_an_error_of_its_own() -> None:
    """As compiled modules do when they are stopped while they load."""
    done = run(
        "import musicgenre.cli\n"
        "def stopped():\n"
        "    try: press()\n"
        "    except KeyboardInterrupt: pass\n"
        "    raise ImportError('initialization failed')\n"
        "musicgenre.cli.app = stopped\n"
        "musicgenre.cli.main()"
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_an_error_without_ctrl_c_stays_one() -> None:
    done = run(
        "import musicgenre.cli\n"
        "def broken(): raise ImportError('broken')\n"
        "musicgenre.cli.app = broken\n"
        "musicgenre.cli.main()"
    )
    assert done.returncode == 1 and "ImportError: broken" in done.stderr


def test_while_python_ends() -> None:
    done = run(
        "import atexit; atexit.register(press);"
        "sys.argv = ['musicgenre', '--version']; import musicgenre.cli; musicgenre.cli.main()"
    )
    assert done.stdout.startswith("musicgenre ") and done.stderr == ""


def test_while_the_program_loads() -> None:
    done = run(
        "class Slow:\n"
        "    def find_spec(self, name, *_): return press() if name == 'musicgenre.cli' else None\n"
        "sys.meta_path.insert(0, Slow())\n"
        "from musicgenre.__main__ import main\n"
        "main()"
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_ctrl_c_that_is_to_be_ignored_stays_so() -> None:
    done = run(
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "import musicgenre.cli\n"
        "musicgenre.cli.app = lambda: (os.kill(os.getpid(), signal.SIGINT), print('went on'))\n"
        "musicgenre.cli.main()"
    )
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "musicgenre", "--version"], capture_output=True, text=True, check=False, timeout=GUARD_S
    )
    assert done.returncode == 0 and done.stdout.startswith("musicgenre ")
