"""The tutorial runs as it is written: its blocks, one after the other, on a small folder of tones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.labelled_music import LABELS, make_collection

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run_block(language: str, block: str, folder: Path) -> str:
    """Run one block as a reader would; a command that fails, fails the test."""
    shell = [shutil.which("bash") or "bash", "-ec"]
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    environment = {**os.environ, "PATH": path, "MUSICGENRE_CACHE": str(folder / "cache"), "NO_COLOR": "1"}
    command = [sys.executable, "-c"] if language == "python" else shell
    done = subprocess.run(
        [*command, block], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.skipif(shutil.which("bash") is None or os.name == "nt", reason="the blocks are written for bash")
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
