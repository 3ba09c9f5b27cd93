"""Build the wheel, install it alone in a clean environment, and hold it to what the README promises.

Run: python scripts/check_wheel.py

Checked: the light install has no torch and no scipy, its size by `du -sm` with pip counted, that importing musicgenre
and `musicgenre --help` load nothing heavy, and that the installed command classifies the examples (where the default
model is in the cache). Times are printed, never asserted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST_MB = 360
ABSENT = ("torch", "scipy", "sklearn", "librosa", "numba", "matplotlib", "yaml")
HEAVY = ("numpy", "onnxruntime", "onnx", "av", "soundfile", "soxr", "rich.table")


def run(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command, stopping with its output if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done


def build(folder: Path) -> Path:
    """Build the wheel and look into it."""
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT)
    wheel = next(folder.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in ("musicgenre/py.typed", "musicgenre/listening/classifier.py", "beetsplug/musicgenre.py"):
        if wanted not in names:
            sys.exit(f"{wanted} is not in the wheel")
    if "beetsplug/__init__.py" in names:
        sys.exit("the wheel would hide beets' own plugins")
    if any(name.startswith("tests/") for name in names):
        sys.exit("the wheel carries the tests")
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """Install the wheel in a new virtual environment; return its folder of programs."""
    run(sys.executable, "-m", "venv", folder)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = (programs / "python", "-m", "pip", "--disable-pip-version-check", "install", "-q")
    run(*pip, "-c", ROOT / "constraints.txt", wheel)
    return programs


def check_size(folder: Path) -> None:
    """Hold the environment to its size."""
    megabytes = int(run("du", "-sm", folder).stdout.split()[0])
    print(f"light install: {megabytes} MB (at most {LARGEST_MB})")
    if megabytes > LARGEST_MB:
        sys.exit("the light install has grown too large")


def check_imports(programs: Path) -> None:
    """Nothing forbidden is installed; nothing heavy is loaded early."""
    python = programs / "python"
    absent = f"import importlib.util as u; print([n for n in {ABSENT!r} if u.find_spec(n)])"
    loaded = f"import sys, musicgenre.cli; print([n for n in {HEAVY!r} if n in sys.modules])"
    for code, fault in ((absent, "installed but not needed"), (loaded, "loaded by the command line at start")):
        found = run(python, "-c", code).stdout.strip()
        if found != "[]":
            sys.exit(f"{fault}: {found}")
    for what, command in (
        ("import musicgenre", (python, "-c", "import musicgenre")),
        ("musicgenre --help", (programs / "musicgenre", "--help")),
    ):
        start = time.perf_counter()
        run(*command)
        print(f"{what}: {time.perf_counter() - start:.2f} s")


def check_classify(programs: Path) -> None:
    """Classify the examples with the installed command, when the default model is in the cache."""
    state = run(
        programs / "python",
        "-c",
        "from musicgenre.bundle.store import *; print(bundle_path(DEFAULT_BUNDLE).is_file())",
    )
    if state.stdout.strip() != "True":
        print("classify: not checked, the default model is not in the cache (musicgenre bundles get)")
        return
    lines = run(programs / "musicgenre", "classify", ROOT / "examples", "--format", "csv").stdout.splitlines()
    if len(lines) != 1 + len(list((ROOT / "examples").glob("*.flac"))):
        sys.exit(f"classify printed {len(lines)} lines")
    print(f"classify: {len(lines) - 1} examples answered")


def main() -> None:
    """Run every check."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build(folder)
        programs = install(wheel, folder / "environment")
        check_size(folder / "environment")
        check_imports(programs)
        check_classify(programs)


if __name__ == "__main__":
    main()
