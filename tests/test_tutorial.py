"""The tutorial runs as it is written: its blocks, one after the other, on a small folder of tones."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

from tests.cli import run
from tests.fresh import run_python
from tests.labelled_music import LABELS, make_collection

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run_block(language: str, block: str, folder: Path) -> str:
    """Run one block as a reader would, in the folder; a command that fails, fails the test."""
    if language == "python":
        done = run_python(block, cwd=folder)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        return done.stdout
    said = ""
    for line in block.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "musicgenre", line
        told = run(*arguments, cwd=folder, env={"MUSICGENRE_CACHE": str(folder / "cache")})
        assert told.returncode == 0, f"{line}\n{told.stdout.decode()}\n{told.stderr.decode()}"
        said += told.stdout.decode()
    return said


def test_every_block_of_the_tutorial_runs_in_order(tmp_path: Path) -> None:
    make_collection(tmp_path / "genres", duration_s=6.0)
    (tmp_path / "genres" / "music.csv").unlink()
    shutil.copy(tmp_path / "genres" / "metal" / "metal.00000.wav", tmp_path / "song.wav")
    said = [run_block(language, block, tmp_path) for language, block in BLOCKS]
    assert len(said) >= 8
    assert "macro" in "".join(said)
    assert re.search(r"song\.wav\s+(metal|unsure)", said[-2]), said[-2]
    assert any(label in said[-1] for label in LABELS)
    for name in ("song.png", "changed.wav", "mfcc-cnn.html", "mine.onnx", "runs/mfcc-cnn/model.safetensors"):
        assert (tmp_path / name).stat().st_size > 0
