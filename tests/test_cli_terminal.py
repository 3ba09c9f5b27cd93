"""What a person sees: rows and bar on one terminal, at any width, with and without colours, and in a pipe."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.cli import HOLDING, json_lines, run
from tests.toy import RATE_HZ, save_toy

if os.name == "posix":
    from tests.terminal import run_in_terminal, run_process_in_terminal

on_a_terminal = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals of POSIX")

LABELS = ("loud and rather noisy", "quiet")
ALBUM = "Some Artist/An Album (1984)"
NAMES = [f"{number:02d} A song with a title that goes on for quite a while, part {number}.wav" for number in range(8)]
WIDTHS = [60, 80, 120, 200]
BAR = "━"


def tone(path: Path, *gains: float, segments: int = 3) -> Path:
    """Write noise, so many seconds of each loudness."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(5)
    parts = [random.uniform(-gain, gain, segments * RATE_HZ) for gain in gains]
    soundfile.write(path, np.concatenate(parts), RATE_HZ)
    return path


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy(tmp_path_factory.mktemp("model") / "toy.onnx", labels=LABELS, unsure_threshold=0.7)


@pytest.fixture
def music(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number, name in enumerate(NAMES):
        tone(tmp_path / "music" / ALBUM / name, [0.8, 0.01, 0.2][number % 3])
    tone(tmp_path / "music" / "Björk" / "音楽.wav", 0.8)
    (tmp_path / "music" / "Björk" / "broken.wav").write_bytes(b"RIFF")
    monkeypatch.chdir(tmp_path)
    return Path("music")


@on_a_terminal
@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}], ids=["colours", "no colours"])
@pytest.mark.parametrize("width", WIDTHS)
def test_rows_and_bar_never_share_a_line(toy: Path, music: Path, width: int, env: dict[str, str]) -> None:
    seen = run_in_terminal("classify", music, "--model", toy, width=width, env=env)
    assert seen.returncode == 1
    for lines in seen.moments:
        for line in lines:
            if BAR in line or "listening" in line:
                assert re.fullmatch(r"listening [ ━╸╺]+ \d+/10.*", line), line
    assert any(BAR in line for lines in seen.moments for line in lines)

    # The screen holds nothing but headings, rows of one line, and the end.
    rows = seen.lines[: seen.lines.index("") + 1 + 1 + len(NAMES)]
    assert rows[0] == "music/Björk" and rows[3:5] == ["", f"music/{ALBUM}"] and len(rows) == 5 + len(NAMES)
    assert rows[1].startswith("  broken.wav") and "failed" in rows[1]
    for name, row in zip(NAMES, rows[5:], strict=True):
        assert row.startswith(f"  {name[:8]}") and f"{name[-5:]} " in row
        assert len(row) < width
    columns = {re.search(r"  (loud and rather noisy|quiet|unsure) ", row).start() for row in rows[5:]}
    assert len(columns) == 1
    assert not any(BAR in line for line in seen.lines)

    assert (b"\x1b[32m" in seen.written) is (not env)
    told = " ".join(line.strip() for line in seen.lines[len(rows) :])
    assert "9 classified, 1 failed" in told
    assert "loud and rather noisy 4, quiet 3, unsure 2" in told


@on_a_terminal
@pytest.mark.parametrize("width", [60, 80])
def test_ctrl_c_leaves_whole_rows_and_one_line(toy: Path, tmp_path: Path, width: int) -> None:
    for number in range(30):
        tone(tmp_path / "many" / f"{number:03d}.wav", 0.8)

    def some_rows(lines: list[str]) -> bool:
        return len(lines) > 5 and any(BAR in line for line in lines)

    seen = run_process_in_terminal(
        *("classify", tmp_path / "many", "--model", toy, "--coverage", "full"),
        width=width,
        press_ctrl_c=some_rows,
        command=HOLDING,
    )
    assert seen.returncode == 130
    *rows, last = seen.lines[1:]
    assert re.fullmatch(r"interrupted after \d+ of 30 tracks", last), seen.lines
    for row in rows:
        assert re.fullmatch(r"(\^C)?  \d{3}\.wav  loud and rather noisy  100%", row), seen.lines


@on_a_terminal
def test_rows_stay_on_standard_output_while_the_bar_is_drawn(toy: Path, music: Path, tmp_path: Path) -> None:
    with (tmp_path / "rows.tsv").open("wb") as file:
        seen = run_in_terminal("classify", music, "--model", toy, width=80, stdout=file)
    lines = (tmp_path / "rows.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0].split("\t")[:3] == ["path", "genre", "confidence"] and len(lines) == 11
    assert [line.split("\t")[0] for line in lines[3:]] == [f"music/{ALBUM}/{name}" for name in NAMES]
    assert any(BAR in line for lines in seen.moments for line in lines)
    assert not any(".wav" in line for line in seen.moments[0])
    assert not any(BAR in line for line in seen.lines) and "9 classified, 1 failed" in seen.lines[-2]


@on_a_terminal
def test_a_single_track_is_one_line_without_a_bar(toy: Path, music: Path) -> None:
    seen = run_in_terminal("classify", music / "Björk" / "音楽.wav", "--model", toy, width=80)
    assert seen.lines == [seen.lines[0]] and seen.lines[0].endswith("loud and rather noisy  100%")


@on_a_terminal
def test_a_terminal_without_cursor_gets_rows_alone(toy: Path, music: Path) -> None:
    seen = run_in_terminal("classify", music, "--model", toy, width=80, env={"TERM": "dumb"})
    assert b"\x1b" not in seen.written and BAR.encode() not in seen.written
    assert seen.lines[0] == "music/Björk"


def test_in_a_pipe_paths_are_whole_and_tab_separated(toy: Path, music: Path) -> None:
    done = run("classify", music, "--model", toy, env={"COLUMNS": "40"})
    header, *rows = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert header == run("classify", music, "--model", toy, "--format", "csv").stdout.decode().splitlines()[0].split(
        ","
    )
    assert [row[:2] for row in rows[:3]] == [
        ["music/Björk/broken.wav", ""],
        ["music/Björk/音楽.wav", LABELS[0]],
        [f"music/{ALBUM}/{NAMES[0]}", LABELS[0]],
    ]
    assert rows[0][-1].startswith("music/Björk/broken.wav") and len({len(row) for row in rows}) == 1

    table = run("classify", music, "--model", toy, "--format", "table", env={"COLUMNS": "40"}).stdout.decode()
    assert all(f"music/{ALBUM}/{name}  " in table for name in NAMES)


def test_a_tab_in_a_name_makes_no_column(toy: Path, tmp_path: Path) -> None:
    track = tone(tmp_path / "a\tb.wav", 0.8)
    done = run("classify", track, "--model", toy, "--format", "tsv")
    assert done.stdout.decode().splitlines()[1].split("\t")[:2] == [str(track).replace("\t", "\\t"), LABELS[0]]
    refused = run("classify", track, "--model", toy, "--format", "tsv", "--output", tmp_path / "x")
    assert refused.returncode == 2 and b"json or csv" in refused.stderr


def test_the_summary_counts_genres_unsure_failed_and_warnings(toy: Path, music: Path, tmp_path: Path) -> None:
    whole = (music / "Björk" / "音楽.wav").read_bytes()
    (music / "torn.wav").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "results.jsonl"
    told = run("classify", music, "--model", toy, "--output", out).stderr.decode().splitlines()
    assert told[-2:] == ["10 classified, 1 failed, 1 with a warning", "loud and rather noisy 5, quiet 3, unsure 2"]
    told = run("classify", music, "--model", toy, "--output", out, "--resume").stderr.decode().splitlines()
    assert told[-2:] == ["0 classified, 10 done before, 1 failed", "loud and rather noisy 5, quiet 3, unsure 2"]


def test_a_timeline_is_sections_or_full(toy: Path, tmp_path: Path) -> None:
    # Two long parts, with a moment of something else every ten seconds, then a part of which nobody can be sure.
    flicker = [*[0.8] * 7, 0.01] * 6 + [*[0.01] * 7, 0.8] * 6 + [0.19, 0.21] * 20
    track = tone(tmp_path / "mix.wav", *flicker, segments=3)

    def lines(*words: str | Path) -> list[str]:
        done = run("classify", *words, "--model", toy, "--coverage", "full")
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().splitlines()[1:]

    sections = lines("--timeline", track)
    assert [line.split()[:2] for line in sections] == [["0:00", "loud"], ["2:21", "quiet"], ["4:45", "unsure"]]
    assert "░" in sections[2] and "perhaps" in sections[2] and "█" in sections[0]
    assert len(lines(track, "--timeline", "full")) == len(lines(track, "--timeline=full")) > 20
    refused = run("classify", track, "--timeline=ful", "--model", toy)
    assert refused.returncode == 2 and b"full" in refused.stderr and refused.stdout == b""


@pytest.mark.parametrize(("value", "n_lines"), [("true", 2), ("false", 1), ('"full"', 3)])
def test_the_config_file_sets_the_timeline(toy: Path, tmp_path: Path, value: str, n_lines: int) -> None:
    tone(tmp_path / "a.wav", *[0.8] * 30, 0.01, segments=1)
    (tmp_path / "config.toml").write_text(f'[classify]\ntimeline = {value}\nformat = "table"\ncoverage = "full"\n')
    done = run("classify", tmp_path / "a.wav", "--model", toy, env={"MUSICGENRE_CONFIG": str(tmp_path)})
    assert len(done.stdout.decode().splitlines()) == n_lines


def test_a_missing_extra_is_told_before_anything_is_heard(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = run("classify", tone(tmp_path / "a.wav", 0.8), "--model", toy, "--plot", tmp_path / "a.png")
    assert done.returncode == 2 and done.stdout == b"" and b"[plot]" in done.stderr


def test_a_picture_shows_the_whole_of_a_long_track(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = pytest.importorskip("matplotlib.figure")
    drawn: list[tuple[float, ...]] = []
    save = figure.Figure.savefig

    def note_and_save(self: Any, *words: Any, **options: Any) -> None:
        spectrogram, timeline, _ = self.axes
        drawn.append((spectrogram.get_xlim()[1], timeline.get_xlim()[1], spectrogram.images[0].get_extent()[1]))
        save(self, *words, **options)

    monkeypatch.setattr(figure.Figure, "savefig", note_and_save)
    track = tone(tmp_path / "long.wav", *[0.8, 0.01] * 7, segments=100)
    run("classify", track, "--model", toy, "--plot", tmp_path / "long.png")
    assert drawn == [(1400, 1400, 1400)]


def test_json_has_the_segments_as_before_and_the_sections_beside_them(toy: Path, tmp_path: Path) -> None:
    track = tone(tmp_path / "a.wav", 0.8, 0.01)
    (record,) = json_lines(run("classify", track, "--model", toy, "--format", "json", "--timeline", "full"))
    assert [set(segment) for segment in record["timeline"]] == [{"start_s", "end_s", "genre", "confidence"}] * 6
    assert [(part["start_s"], part["end_s"], part["genre"]) for part in record["sections"]] == [
        (0, 3, LABELS[0]),
        (3, 6, "quiet"),
    ]
    (record,) = json_lines(run("classify", track, "--model", toy, "--format", "json"))
    assert "timeline" not in record and "sections" not in record
