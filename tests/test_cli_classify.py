"""`musicgenre classify` as a person runs it: what it hears, prints, stores and resumes."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from musicgenre.audio import _mpeg
from musicgenre.bundle import BundleCard
from musicgenre.cli import app
from tests.cli import COMMAND, HOLDING, classify_json, json_lines, run, run_process
from tests.limits import GUARD_S, wait_until
from tests.sounds import music, write
from tests.toy import RATE_HZ, save_toy


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy(tmp_path_factory.mktemp("model") / "toy.onnx")


def noise(path: Path, gain: float, duration_s: float = 3.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(path.name.encode()))  # every name its own content
    samples = rng.uniform(-gain, gain, int(duration_s * RATE_HZ))
    soundfile.write(path, samples, RATE_HZ)
    return path


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    noise(folder / "a loud.wav", 0.8)
    noise(folder / "deep" / "quiet.flac", 0.01)
    noise(folder / "deep" / "skip me" / "other.wav", 0.8)
    (folder / "cover.jpg").write_bytes(b"not a sound")
    return folder


def test_files_folders_globs_and_stdin_name_the_same_tracks(toy: Path, library: Path) -> None:
    code, records, _ = classify_json(toy, library)
    assert code == 0
    assert {name: r["genre"] for name, r in records.items()} == {
        "a loud.wav": "loud",
        "quiet.flac": "quiet",
        "other.wav": "loud",
    }
    assert all(r["error"] is None and r["duration_s"] == 3.0 for r in records.values())
    _, by_glob, _ = classify_json(toy, f"{library}/**/*.flac")
    assert list(by_glob) == ["quiet.flac"]
    listed = "\n".join(map(str, [library / "a loud.wav", library / "deep"])).encode()
    _, by_stdin, _ = classify_json(toy, "-", stdin=listed)
    assert by_stdin.keys() == records.keys()
    _, excluded, _ = classify_json(toy, library, "--exclude", "skip*")
    assert excluded.keys() == {"a loud.wav", "quiet.flac"}


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".m4a"])
@pytest.mark.parametrize("coverage", ["2", "full"])
def test_a_bundle_and_a_sound_are_opened_once(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, coverage: str
) -> None:
    track = write(tmp_path / f"track{suffix}", music(5.0))
    opened: list[str] = []

    def counting(owner: object, name: str, kind: str) -> None:
        real = getattr(owner, name)

        def count(source: object, *arguments: object, **options: object) -> object:
            opened.append(Path(os.fsdecode(source)).suffix if kind == "file" else kind)
            return real(source, *arguments, **options)

        monkeypatch.setattr(owner, name, count)

    counting(Path, "read_bytes", "file")
    counting(soundfile, "SoundFile", "sound")
    counting(av, "open", "sound")
    counting(_mpeg, "find_frames", "sound")
    done = CliRunner().invoke(app, ["classify", str(track), "--model", str(toy), "--coverage", coverage])
    assert done.exit_code == 0, done.output
    assert sorted(opened) == [".onnx", "sound"]


def test_one_bad_file_is_one_line_and_exit_code_one(toy: Path, library: Path) -> None:
    broken = library / "broken.wav"
    broken.write_bytes(b"RIFF")
    code, records, errors = classify_json(toy, library)
    assert code == 1
    assert records["broken.wav"]["error"] and records["broken.wav"]["genre"] is None
    assert records["a loud.wav"]["genre"] == "loud"
    assert errors.count("broken.wav") == 1 and "3 classified, 1 failed" in errors


def test_table_and_csv_agree_with_json(toy: Path, library: Path) -> None:
    table = run("classify", library, "--model", toy, "--format", "table")
    assert table.returncode == 0
    lines = table.stdout.decode().splitlines()
    assert len(lines) == 3 and any("a loud.wav" in line and " loud " in line for line in lines)
    rows = list(
        csv.DictReader(io.StringIO(run("classify", library, "--model", toy, "--format", "csv").stdout.decode()))
    )
    assert {Path(row["path"]).name: row["genre"] for row in rows}["quiet.flac"] == "quiet"


def test_timeline_follows_the_track(toy: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    samples = np.concatenate([rng.uniform(-0.8, 0.8, 3 * RATE_HZ), rng.uniform(-0.01, 0.01, 2 * RATE_HZ)])
    soundfile.write(tmp_path / "both.wav", samples, RATE_HZ)
    _, records, _ = classify_json(toy, tmp_path / "both.wav", "--timeline", "--coverage", "full")
    timeline = records["both.wav"]["timeline"]
    assert [segment["genre"] for segment in timeline] == ["loud"] * 3 + ["quiet"] * 2
    assert [segment["start_s"] for segment in timeline] == [0, 1, 2, 3, 4]
    drawn = run("classify", tmp_path / "both.wav", "--model", toy, "--timeline", "--coverage", "full").stdout.decode()
    assert drawn.index("0:00 loud") < drawn.index("0:03 quiet")


def test_coverage_hears_only_that_much(toy: Path, tmp_path: Path) -> None:
    path = noise(tmp_path / "long.wav", 0.5, duration_s=60)
    _, records, _ = classify_json(toy, path, "--coverage", "5")
    assert records["long.wav"]["heard_s"] == 5 and records["long.wav"]["duration_s"] == 60
    _, records, _ = classify_json(toy, path, "--coverage", "full")
    assert records["long.wav"]["heard_s"] == 60


def test_unsure_names_candidates(tmp_path: Path) -> None:
    model = save_toy(tmp_path / "strict.onnx", unsure_threshold=0.9)
    path = noise(tmp_path / "middling.wav", 0.2)
    _, records, _ = classify_json(model, path)
    record = records["middling.wav"]
    assert record["genre"] == "unsure" and set(record["candidates"]) == {"loud", "quiet"}
    assert "perhaps" in run("classify", path, "--model", model, "--format", "table").stdout.decode()


def test_output_file_resumes_without_hearing_again(toy: Path, library: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    first = run("classify", library / "deep", "--model", toy, "--output", out)
    assert first.returncode == 0 and first.stdout == b""
    before = out.read_text()
    again = run("classify", library, "--model", toy, "--output", out)
    assert again.returncode == 2 and b"--resume" in again.stderr and out.read_text() == before
    resumed = run("classify", library, "--model", toy, "--output", out, "--resume")
    assert resumed.returncode == 0 and b"1 classified, 2 done before" in resumed.stderr
    assert out.read_text().startswith(before)
    assert len([json.loads(line) for line in out.read_text().splitlines()]) == 3


@pytest.mark.skipif(os.name == "nt", reason="signals differ on Windows")
def test_rows_of_files_that_are_gone_are_left_out_when_resumed(toy: Path, library: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "music", tmp_path / "out.csv"
    shutil.copytree(library, folder)
    words = ("classify", folder, "--model", toy, "--output", out, "--resume")
    assert run(*words).returncode == 0
    n_lines = len(out.read_text().splitlines())
    first = min(path for path in folder.rglob("*") if path.is_file())
    away = first.rename(tmp_path / first.name)
    done = run(*words)
    assert (
        done.returncode == 0
        and f"left out 1 row of files that are gone; {out}.gone keeps them".encode() in done.stderr
    )
    assert len(out.read_text().splitlines()) == n_lines - 1
    away.rename(first)
    done = run(*words)
    assert b"0 classified, 3 done before" in done.stderr and len(out.read_text().splitlines()) == n_lines


def test_ctrl_c_leaves_a_valid_file_that_resumes(toy: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "many", tmp_path / "results.jsonl"
    for index in range(30):
        noise(folder / f"{index:03d}.wav", 0.5)
    command = [*HOLDING, "classify", folder, "--model", toy, "--output", out, "--coverage", "full"]
    # A runner in the background may ignore Ctrl-C, and its children inherit that.
    listen = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=listen)  # noqa: PLW1509
    wait_until(lambda: out.exists() and out.stat().st_size)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=GUARD_S)
    assert process.returncode == 130 and b"Traceback" not in errors and b"--resume" in errors
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert 0 < len(records) < 30
    done = run("classify", folder, "--model", toy, "--output", out, "--coverage", "full", "--resume", "-q")
    assert done.returncode == 0
    assert len({json.loads(line)["path"] for line in out.read_text().splitlines()}) == 30


def test_a_pipe_that_closes_early_is_no_error(toy: Path, library: Path) -> None:
    command = f"'{COMMAND}' classify '{library}' --model '{toy}' --format json | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert b"Traceback" not in done.stderr and json.loads(done.stdout)["genre"]


def test_labels_cannot_write_to_the_terminal(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as unchecked:
        unchecked.setattr(BundleCard, "__post_init__", lambda _: None)
        model = save_toy(tmp_path / "odd.onnx", labels=("loud\n\x1b[31m", "quiet\r"))
    done = run("classify", library / "a loud.wav", "--model", model, "--timeline")
    assert done.returncode == 2 and done.stdout == b"" and b"\x1b" not in done.stderr
    assert b"loud\\n\\x1b[31m" in done.stderr and b"names that differ" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX shells")
def test_a_full_disk_leaves_whole_lines_that_resume(toy: Path, library: Path, tmp_path: Path) -> None:
    for index in range(6):
        noise(library / f"{index}.wav", 0.5)
    out = tmp_path / "results.jsonl"
    command = f"ulimit -f 2; '{COMMAND}' classify '{library}' --model '{toy}' --output '{out}'"  # blocks of 1 KiB
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert done.returncode == 2 and b"Traceback" not in done.stderr and b"--resume" in done.stderr
    written = len([json.loads(line) for line in out.read_text().splitlines()])
    assert 0 < written < 9
    done = run("classify", library, "--model", toy, "--output", out, "--resume")
    assert done.returncode == 0 and f"{9 - written} classified, {written} done before".encode() in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_standard_output_that_takes_nothing_is_one_message(toy: Path, library: Path) -> None:
    command = f"'{COMMAND}' classify '{library}' --model '{toy}' > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert (
        done.returncode == 2
        and done.stderr.startswith(b"error: No space left on device. Free some space")
        and done.stderr.count(b"\n") == 1
    )


@pytest.mark.skipif(os.name != "posix", reason="POSIX shells")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_error(toy: Path, library: Path, closed: str) -> None:
    command = f"'{COMMAND}' classify '{library}' --model '{toy}' --format csv {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    assert (b"quiet.flac,quiet" in done.stdout) is (">&-" not in closed.replace("2>&-", ""))


def test_an_output_that_cannot_spell_a_name_escapes_it(toy: Path, tmp_path: Path) -> None:
    noise(tmp_path / "Ж é.wav", 0.8)
    env = {"PYTHONIOENCODING": "cp437", "PYTHONUTF8": "0"}
    done = run_process("classify", tmp_path, "--model", toy, "--format", "json", env=env)
    assert done.returncode == 0 and json.loads(done.stdout.decode("ascii"))["path"].endswith("Ж é.wav")
    done = run_process("classify", tmp_path, "--model", toy, "--timeline", env=env)
    assert done.returncode == 0 and b"\\u0416 \x82.wav" in done.stdout and b"####" in done.stdout


def test_results_in_a_file_leave_the_screen_empty_and_the_tracks_alone(toy: Path, library: Path) -> None:
    track = library / "a loud.wav"
    content = track.read_bytes()
    done = run("classify", track, "--model", toy, "--output", library / "results.csv")
    assert done.returncode == 0 and done.stdout == b""
    done = run("classify", library, "--model", toy, "--output", track, "--overwrite")
    assert done.returncode == 2 and b"one of the tracks" in done.stderr
    done = run("classify", library / "deep" / "quiet.flac", "--model", toy, "--plot", track)
    assert done.returncode == 2 and b".png" in done.stderr
    assert track.read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--coverage", "half"), "full"),
        (("--resume",), "--output"),
        (("--model", "no-such-model"), "no-such-model"),
        (("--model", "none.onnx"), "none.onnx"),
        (("--format", "xml"), "xml"),
        (("--jobs", "0"), "jobs"),
        (("--format", "table", "--output", "x"), "table"),
        (("--output", "."), "--output"),
        (("--output", "x.m3u"), "A name that ends in .csv for CSV, in .jsonl, .ndjson or .json for JSON lines"),
        (("--output", "x.txt"), "add --format json or csv"),
        (("--output", "-"), "standard output"),
    ],
)
def test_misuse_is_exit_code_two_and_one_clear_message(
    toy: Path, library: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    model = () if "--model" in arguments else ("--model", toy)
    done = run("classify", library / "a loud.wav", *model, *arguments, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr.decode() and done.stdout == b""


def test_a_name_of_any_kind_holds_the_format_that_was_asked_for(toy: Path, library: Path, tmp_path: Path) -> None:
    track = library / "a loud.wav"
    assert run("classify", track, "--model", toy, "--output", tmp_path / "r.txt", "--format", "csv").returncode == 0
    assert (tmp_path / "r.txt").read_text().startswith("path,genre,")
    assert run("classify", track, "--model", toy, "--output", tmp_path / "r.ndjson").returncode == 0
    assert json.loads((tmp_path / "r.ndjson").read_text())["genre"]


def test_config_file_sets_defaults(toy: Path, library: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'[classify]\nmodel = "{toy}"\nformat = "json"\ncoverage = "full"\n')
    done = run("classify", library / "a loud.wav", env={"MUSICGENRE_CONFIG": str(tmp_path)})
    assert json_lines(done)[0]["model"] == "toy"
    (tmp_path / "config.toml").write_text("[classify]\nmodell = 3\n")
    done = run("classify", library / "a loud.wav", env={"MUSICGENRE_CONFIG": str(tmp_path)})
    assert done.returncode == 2 and b"Did you mean 'model'" in done.stderr


def test_plot_draws_a_picture(toy: Path, library: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture, out = tmp_path / "answer.png", tmp_path / "results.jsonl"
    track = noise(library / "$x$ $frac$.wav", 0.5)  # no formula
    done = run("classify", track, "--model", toy, "--plot", picture, "--output", out)
    assert done.returncode == 0 and picture.read_bytes().startswith(b"\x89PNG")
    assert json.loads(out.read_text())["genre"]


def test_completion_is_offered() -> None:
    done = run_process("--show-completion", "bash", env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"})
    assert done.returncode == 0 and b"complete" in done.stdout
