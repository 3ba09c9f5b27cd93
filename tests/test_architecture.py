"""Nothing imports upward, nothing heavy is imported early, and no file or function outgrows its reader."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "musicgenre"
ROOMS = (
    (
        *(
            "errors",
            "_debug",
            "_files",
            "_json",
            "_known_files",
            "_numbers",
            "_parallel",
            "_registry",
            "_text",
            "_version",
        ),
        *(
            "_privacy",
            "_install",
            "_onnxruntime",
            "_locks",
            "_npz",
            "_telling",
            "_running",
            "_onnx",
            "_outputs",
            "_protobuf",
            "_yaml",
            "_transfer",
            "_weight_files",
            "config",
        ),
    ),
    ("audio", "filetags"),
    ("data",),
    ("features",),
    ("augment",),
    ("models",),
    ("runs",),
    ("training",),
    ("evaluation",),
    ("bundle",),
    ("listening",),
    ("exporting", "embedding", "teaching", "search"),
    ("judging",),
    ("library",),
    ("server",),
    ("pipeline",),
    ("cluster",),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))
REPRESENTATIONS = sorted(path.stem for path in (PACKAGE / "features" / "representations").glob("[a-z]*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(tree: ast.AST) -> set[str]:
    rooms = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("musicgenre"):
            parts = (node.module or "").split(".")
            rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            rooms |= {a.name.split(".")[1] for a in node.names if a.name.startswith("musicgenre.")}
    return rooms & LEVEL.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_imports_upward(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        pytest.skip("the package's own __init__ loads lazily from everywhere")
    assert room in LEVEL, f"{room} is not a room of the house: add it to docs/architecture.md and here"
    upward = {other for other in imported_rooms(tree_of(path)) if LEVEL[other] > LEVEL[room]}
    assert not upward, f"{path.name} imports from below: {upward}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_or_function_outgrows_its_reader(path: Path) -> None:
    """A lamp, not a wall: most are far smaller, and none is split or packed to stay below these."""
    text = path.read_text("utf-8")
    assert text.count("\n") <= 700, "more than one subject lives in this file"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ""
            length = (node.end_lineno or node.lineno) - node.lineno - docstring.count("\n")
            assert length <= 100, f"{node.name} tells more than one story in {length} lines"


@pytest.mark.parametrize("module", ["musicgenre", "musicgenre.cli"])
def test_nothing_heavy_is_imported_early(module: str) -> None:
    heavy = ("numpy", "onnxruntime", "onnx", "av", "soundfile", "soxr", "torch", "scipy", "pydantic")
    code = f"import sys, {module}; print([n for n in {heavy!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_light_install_needs_no_training_package() -> None:
    """Everything behind classify and teach works with torch, scipy and the like hidden."""
    hidden = ("torch", "scipy", "sklearn", "librosa", "numba", "matplotlib", "pydantic", "yaml", "lightning")
    modules = [
        "musicgenre.listening.classifier",
        "musicgenre.listening.batch",
        "musicgenre.listening.results",
        "musicgenre.teaching.teach",
        "musicgenre.embedding.similar",
        "musicgenre.cli.doctor",
        "musicgenre.training.recipe_names",
        "musicgenre.training.request",
        "musicgenre.bundle.store",
        "musicgenre.data.manifest",
        "musicgenre.models.cards.musicnn",
        *(f"musicgenre.features.representations.{name}" for name in REPRESENTATIONS),
        "musicgenre.cli",
    ]
    code = f"import sys; sys.modules.update(dict.fromkeys({hidden!r}))\n" + "\n".join(f"import {m}" for m in modules)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_one_file_alone_imports_lightning() -> None:
    """So that nothing loads it before that file, which keeps away what it would load for nothing."""
    importers = []
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            if any(name.split(".")[0] in ("lightning", "torchmetrics") for name in names):
                importers.append(path.name)
    assert set(importers) == {"_lightning.py"}
