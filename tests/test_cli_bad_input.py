"""Bad input, each kind in a process of its own: exit code, message, no traceback, and the good files' results."""

from __future__ import annotations

import functools
import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.cli import classify_json, run
from tests.fresh import run_python
from tests.limits import GUARD_S
from tests.sounds import FORMATS, music, write
from tests.toy import save_toy

POSIX = os.name == "posix"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy(tmp_path_factory.mktemp("model") / "toy.onnx")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write(tmp_path / "good.wav", music(2.0), 44_100)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """Five seconds of music in a format, encoded once."""
    folder = tmp_path_factory.mktemp("whole")
    return functools.cache(lambda suffix: write(folder / f"whole{suffix}", music(5.0)).read_bytes())


def wav_bytes(samples: np.ndarray, rate_hz: int, *, bits: int, is_float: bool = False) -> bytes:
    """Write a WAV by hand, with any rate and NaNs if wanted."""
    kinds = {8: "u1", 16: "<i2", 32: "<f4" if is_float else "<i4", 64: "<f8"}
    data = samples.astype(kinds[bits]).tobytes()
    channels = samples.shape[1]
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", 3 if is_float else 1, channels, rate_hz, (rate_hz * block) & 0xFFFFFFFF, block, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def floats(values: list[float] | np.ndarray, rate_hz: int = 8_000) -> bytes:
    return wav_bytes(np.asarray(values, dtype=np.float64)[:, None], rate_hz, bits=32, is_float=True)


def check_one(toy: Path, good: Path, bad: Path | bytes) -> tuple[int, dict[str, Any], str]:
    """Classify the bad file between two mentions of good ones; the good one must be answered."""
    code, records, errors = classify_json(toy, good, bad)
    assert records["good.wav"]["genre"] in ("loud", "quiet") and records["good.wav"]["error"] is None
    others = [record for name, record in records.items() if name != "good.wav"]
    assert len(others) == 1, records
    return code, others[0], errors


CONTENT: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "not audio": (b"This is a shopping list: milk, eggs, bread.\n" * 50, "not"),
    "random bytes": (np.random.default_rng(3).bytes(5000), "not"),
    "header alone": (b"RIFF\x24\x00\x00\x00WAVE", ""),
    "zero samples": (floats([]), "no samples"),
    "all NaN": (floats([np.nan] * 9000), "NaN"),
}


@pytest.mark.parametrize("case", CONTENT)
def test_files_that_cannot_be_heard(toy: Path, good: Path, tmp_path: Path, case: str) -> None:
    content, message = CONTENT[case]
    bad = tmp_path / "bad.wav"
    bad.write_bytes(content)
    code, record, errors = check_one(toy, good, bad)
    assert code == 1 and record["genre"] is None
    assert message.lower() in record["error"].lower() and "bad.wav" in record["error"]
    assert "bad.wav" in errors and "1 failed" in errors


def test_missing_file(toy: Path, good: Path, tmp_path: Path) -> None:
    code, record, _ = check_one(toy, good, tmp_path / "missing.wav")
    assert code == 1 and "missing.wav" in record["error"] and "exist" in record["error"]


def test_folder_without_sound(toy: Path, good: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    code, record, _ = check_one(toy, good, tmp_path / "nothing")
    assert code == 1 and "no audio files" in record["error"]


@pytest.mark.skipif(not POSIX or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(toy: Path, good: Path, tmp_path: Path) -> None:
    bad = write(tmp_path / "secret.wav", music(1.0))
    bad.chmod(0)
    code, record, _ = check_one(toy, good, bad)
    assert code == 1 and "permission" in record["error"].lower()


@pytest.mark.skipif(not POSIX or os.geteuid() != 0, reason="not root: the plain test covers this")
def test_no_permission_as_root_gives_up_its_rights(toy: Path, good: Path, tmp_path: Path) -> None:
    """Root may read everything, so here the process becomes another user once the model is loaded."""
    bad = write(tmp_path / "secret.wav", music(1.0))
    bad.chmod(0)
    code = (
        "import os, sys\n"
        "from musicgenre import AudioError, Classifier\n"
        "classifier = Classifier(sys.argv[1])\n"
        "classifier.classify(sys.argv[2])\n"
        "os.seteuid(65534)\n"
        "try:\n    classifier.classify(sys.argv[3])\n"
        "except AudioError as error:\n    print(error)\n"
    )
    done = run_python(code, toy, good, bad)
    assert done.returncode == 0 and "permission" in done.stdout.lower() and "secret.wav" in done.stdout, done.stderr


@pytest.mark.skipif(not POSIX, reason="no FIFOs on Windows")
def test_a_pipe_on_disk_does_not_block(toy: Path, good: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    code, record, _ = check_one(toy, good, tmp_path / "pipe.wav")
    assert code == 1 and record["error"]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg", ".m4a"])
def test_truncated_files_use_what_decodes_and_say_so(toy: Path, good: Path, tmp_path: Path, suffix: str) -> None:
    whole = write(tmp_path / f"whole{suffix}", music(10.0))
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    code, record, _ = check_one(toy, good, cut)
    if record["error"] is None:
        assert code == 0 and record["genre"] in ("loud", "quiet") and record["duration_s"] < 10
    else:  # an M4A keeps its index at its end: nothing decodes without it
        assert suffix == ".m4a" and code == 1 and "cut.m4a" in record["error"]


def test_shorter_than_a_segment(toy: Path, good: Path, tmp_path: Path) -> None:
    short = write(tmp_path / "short.wav", music(0.2))
    code, record, _ = check_one(toy, good, short)
    assert code == 0 and record["genre"] and any("only 0.20 s" in warning for warning in record["warnings"])


def test_silence_is_answered_with_a_warning(toy: Path, good: Path, tmp_path: Path) -> None:
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(24_000), 8_000)
    code, record, _ = check_one(toy, good, silent)
    assert code == 0 and any("silen" in warning for warning in record["warnings"])


def test_a_few_nan_and_infinite_samples_are_replaced_with_a_warning(toy: Path, good: Path, tmp_path: Path) -> None:
    samples = 0.3 * np.sin(np.arange(24_000) / 5)
    samples[100:110] = np.nan
    samples[5000] = np.inf
    bad = tmp_path / "holes.wav"
    bad.write_bytes(floats(samples))
    code, record, _ = check_one(toy, good, bad)
    assert code == 0 and np.isfinite(record["confidence"])
    assert any("NaN" in warning or "finite" in warning for warning in record["warnings"])


@pytest.mark.parametrize("rate_hz", [1, 100, 768_000])
def test_absurd_rates(toy: Path, good: Path, tmp_path: Path, rate_hz: int) -> None:
    path = tmp_path / "rate.wav"
    path.write_bytes(floats(0.3 * np.sin(np.arange(max(3 * rate_hz, 50)) / 7), rate_hz))
    code, record, _ = check_one(toy, good, path)
    assert (code == 0 and record["genre"]) or (code == 1 and f"{rate_hz}" in record["error"])


@pytest.mark.parametrize("channels", [1, 2, 6, 32])
@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_channels_and_depths(toy: Path, tmp_path: Path, channels: int, bits: int) -> None:
    wave = 0.5 * np.sin(np.arange(16_000) / 3)[:, None] * np.ones(channels)
    scaled = {8: 128 + 127 * wave, 16: 32767 * wave, 32: wave, 64: wave}[bits]
    path = tmp_path / "depth.wav"
    path.write_bytes(wav_bytes(scaled, 8_000, bits=bits, is_float=bits >= 32))
    code, records, _ = classify_json(toy, path)
    assert code == 0 and records["depth.wav"]["genre"] == "loud" and records["depth.wav"]["duration_s"] == 2.0


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_common_format_is_heard(toy: Path, tmp_path: Path, suffix: str) -> None:
    rate_hz = 48_000
    path = write(tmp_path / f"song{suffix}", music(4.0, rate_hz), rate_hz)
    code, records, errors = classify_json(toy, path)
    assert code == 0, errors
    assert records[path.name]["duration_s"] == pytest.approx(4.0, abs=0.15)


@pytest.mark.skipif(sys.platform != "linux", reason="such names exist on Linux only")
def test_names_that_are_not_utf8(toy: Path, good: Path) -> None:
    name = os.fsencode(good.parent) + b"/caf\xe9.wav"
    Path(os.fsdecode(name)).write_bytes(good.read_bytes())
    code, records, _ = classify_json(toy, good.parent)
    assert code == 0 and set(records) == {"good.wav", "caf\\xe9.wav"}
    assert run("classify", good.parent, "--model", toy).returncode == 0
    Path(os.fsdecode(name)).write_bytes(b"junk")
    done = run("classify", name, "--model", toy)
    assert done.returncode == 1 and b"caf\\xe9.wav" in done.stderr


@pytest.mark.skipif(not POSIX, reason="links need rights on Windows")
def test_symbolic_link_loops_end(toy: Path, good: Path) -> None:
    folder = good.parent
    (folder / "again").symlink_to(folder, target_is_directory=True)
    (folder / "self.wav").symlink_to(folder / "self.wav")
    done = run("classify", folder, "--model", toy, "--format", "json")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(Path(record["path"]).name for record in records) == ["good.wav", "self.wav"]
    errors = {Path(record["path"]).name: record["error"] for record in records}
    assert errors["good.wav"] is None and "self.wav" in errors["self.wav"]
    assert done.returncode == 1


def test_a_file_that_changes_while_it_is_read(toy: Path, good: Path, tmp_path: Path) -> None:
    """Grow a file while it is being heard, again and again: an answer or a clear failure, never a crash."""
    import threading

    path = write(tmp_path / "growing.wav", music(30.0))
    content, stop = path.read_bytes(), threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            path.write_bytes(content[: len(content) // 2])
            path.write_bytes(content)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        code, record, _ = check_one(toy, good, path)
    finally:
        stop.set()
        thread.join(GUARD_S)
    if record["error"] is None:
        assert code == 0 and record["genre"]
    else:
        assert code == 1 and "growing.wav" in record["error"]


FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "flipped bytes": lambda content: bytes(b ^ 0x5A if i % 97 == 0 else b for i, b in enumerate(content)),
    "doubled": lambda content: content + content,
    "hole": lambda content: content[:2000] + bytes(4000) + content[6000:],
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".ogg", ".m4a"])
def test_damaged_files_never_crash(
    toy: Path, good: Path, tmp_path: Path, whole: Callable[[str], bytes], fault: str, suffix: str
) -> None:
    bad = tmp_path / f"damaged{suffix}"
    bad.write_bytes(FAULTS[fault](whole(suffix)))
    code, record, _ = check_one(toy, good, bad)
    assert code == (0 if record["error"] is None else 1)
    assert record["genre"] or "damaged" in record["error"]
