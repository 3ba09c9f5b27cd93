"""Headers lie about how long a sound is: memory, time and answers follow what is in the file, and the limits."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicgenre import Classifier, audio
from musicgenre.errors import AudioError, UsageError
from musicgenre.features.base import TrackSound
from musicgenre.listening import hearing, track_hearing
from musicgenre.listening.doubts import LOW_RATE_HZ, SHORT_S, doubts
from musicgenre.listening.framing import Coverage, Framing
from musicgenre.listening.hearing import UNTOLD_S, Ear, Hearer, Outputs
from musicgenre.listening.track_hearing import TrackEar
from tests.attack.lies import (
    DURATION_TAGS,
    LIES,
    RATE_HZ,
    liars,
    make_liar,
    tag_duration,
    write_long_silence,
    write_true,
)
from tests.cli import classify_json, run
from tests.sounds import music, write
from tests.toy import save_toy, save_toy_ears

FRAMING = Framing(RATE_HZ, RATE_HZ, RATE_HZ)  # a segment every second
HOLDS_S = 12.0
# Nothing that is written as if it were longer or shorter than it is may be told longer than by its padding.
PADDING_S = 0.5


def run_rows(rows: np.ndarray) -> Outputs:
    return {"x": rows[:, :1]}


def run_track(track: TrackSound, starts_s: list[float], segment_s: float | None) -> Outputs:
    track.at(RATE_HZ)
    return {"x": np.zeros((len(starts_s), 1), np.float32)}


def ears(coverage: Coverage) -> list[Hearer]:
    return [Ear(FRAMING, coverage, run_rows), TrackEar(FRAMING, coverage, run_track)]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy(tmp_path_factory.mktemp("model") / "toy.onnx")


@pytest.fixture
def loaded_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Lengths of everything that is decoded into memory at once."""
    lengths: list[float] = []
    pieces = audio.Decoder.pieces

    def watched(self: audio.Decoder, rate_hz: int, spans: list[tuple[int, int | None]]) -> list[np.ndarray]:
        found = pieces(self, rate_hz, spans)
        lengths.append(sum(map(len, found)) / rate_hz)
        return found

    monkeypatch.setattr(audio.Decoder, "pieces", watched)
    return lengths


@pytest.mark.parametrize("kind", LIES)
@pytest.mark.parametrize("tells_s", [0.0, 1.0, 60.0, 1e15])
def test_whatever_a_header_says_the_sound_decides(tmp_path: Path, kind: str, tells_s: float) -> None:
    path = make_liar(tmp_path, kind, holds_s=4.0, tells_s=tells_s)
    for ear in ears(Coverage(2.0)):
        try:
            heard = ear.hear(path)
        except AudioError as error:  # where the number decides whether it can be read at all
            assert path.name in str(error)
        else:
            assert heard.duration_s <= 4.0 + PADDING_S and len(heard.indices) <= 2


@pytest.mark.parametrize("seed", [1, 2])
def test_drawn_lies_end_as_an_answer_or_an_error_of_ours(tmp_path: Path, toy: Path, seed: int) -> None:
    paths = list(liars(tmp_path, seed, holds_s=2.0))
    _, records, _ = classify_json(toy, *paths)
    assert len(records) == len(LIES)
    assert all(r["error"] or r["duration_s"] <= 2.0 + PADDING_S for r in records.values())
    assert sum(r["error"] is None for r in records.values()) > len(LIES) / 2


@pytest.mark.parametrize("kind", ["aiff", "au", "caf", "wav", "rf64", "w64"])
def test_sound_behind_what_the_header_tells_is_heard(tmp_path: Path, kind: str) -> None:
    path = make_liar(tmp_path, kind, holds_s=4.0, tells_s=1.0)
    whole = write_true(tmp_path / f"whole{path.suffix}", music(4.0, RATE_HZ, 1))
    assert audio.probe(path).duration_s == pytest.approx(4.0)
    np.testing.assert_array_equal(audio.load(path, RATE_HZ).waveform, audio.load(whole, RATE_HZ).waveform)
    [there] = audio.load_spans(path, RATE_HZ, [(50_000, 10_000)]).waveforms
    np.testing.assert_array_equal(there, audio.load(whole, RATE_HZ).waveform[50_000:60_000])


@pytest.mark.parametrize("kind", ["aiff", "au", "caf"])
@pytest.mark.parametrize("behind", [b"TAG" + bytes(125), bytes(4095), b"NAME\0\0\x13\x88" + bytes(5_000), b"same"])
def test_what_is_no_sound_behind_a_sound_is_not_heard(tmp_path: Path, kind: str, behind: bytes) -> None:
    """A tag, padding, a chunk (in an AU file nothing can stand behind the sound), another file."""
    path = make_liar(tmp_path, kind, holds_s=1.0, tells_s=1.0)
    content = path.read_bytes()
    if kind == "au" and behind.startswith(b"NAME"):
        pytest.skip("AU has no chunks")
    path.write_bytes(content + (content if behind == b"same" else behind))
    assert audio.probe(path).duration_s == pytest.approx(1.0)


def test_no_more_is_loaded_than_was_promised(tmp_path: Path, loaded_s: list[float]) -> None:
    path = make_liar(tmp_path, "mp4-samples", holds_s=HOLDS_S, tells_s=1.0)
    assert audio.probe(path).duration_s == pytest.approx(1.0, abs=0.1)
    for ear in ears(Coverage(3.0)):
        loaded_s.clear()
        heard = ear.hear(path)
        assert heard.indices == [1, 5, 9], "evenly over all that is there"
        # Where no jump lands, a model that knows the whole track hears from its beginning, an hour at most.
        assert max(loaded_s) <= (3.1 if isinstance(ear, Ear) else track_hearing.LONGEST_S)
    loaded_s.clear()
    assert len(Ear(FRAMING, Coverage(None), run_rows).hear(path).indices) == 11
    assert max(loaded_s) <= 1.1 + UNTOLD_S
    loaded_s.clear()
    heard = TrackEar(FRAMING, Coverage(None), run_track).hear(path)
    assert len(heard.indices) == 11 and heard.duration_s > 11.0
    assert loaded_s[0] <= 1.1 + UNTOLD_S, "at first; then it is measured"


@pytest.mark.parametrize("kind", ["matroska", "ogg-vorbis", "ogg-opus"])
def test_what_is_heard_is_spread_over_all_that_is_there(tmp_path: Path, kind: str) -> None:
    path = make_liar(tmp_path, kind, holds_s=HOLDS_S, tells_s=6.0)
    for ear in ears(Coverage(3.0)):
        heard = ear.hear(path)
        assert heard.duration_s == pytest.approx(HOLDS_S, abs=PADDING_S)
        assert max(heard.indices) > 8


@pytest.mark.parametrize("tells_s", [0.0, 1e15])
def test_an_unknown_or_absurd_length_obeys_the_coverage(
    tmp_path: Path, tells_s: float, loaded_s: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_liar(tmp_path, "matroska", holds_s=HOLDS_S, tells_s=tells_s)
    assert audio.open_source(path).info.duration_s is None
    monkeypatch.setattr(hearing, "_LOAD_AT_MOST_S", 5.0)
    for ear in ears(Coverage(3.0)):
        loaded_s.clear()
        heard = ear.hear(path)
        assert heard.indices == [2, 6, 10], "the middle of each third"
        assert max(loaded_s) <= 5.1
    assert len(Ear(FRAMING, Coverage(None), run_rows).hear(path).indices) == 12


def test_a_file_that_is_longer_than_it_says_says_so(tmp_path: Path) -> None:
    path = make_liar(tmp_path, "ogg-vorbis", holds_s=HOLDS_S, tells_s=1.0)
    for coverage in (Coverage(3.0), Coverage(None)):
        heard = Ear(FRAMING, coverage, run_rows).hear(path)
        assert "its header is wrong: 12.0 s are in it, not 1.0 s" in heard.warnings


@pytest.mark.parametrize("kind", ["wav-gsm", "w64-gsm", "aiff-gsm", "au-g721"])
def test_kinds_in_which_libsndfile_cannot_jump_are_not_damaged(tmp_path: Path, kind: str) -> None:
    path = write_true(tmp_path / f"true{LIES[kind].suffix}", music(4.0, rate_hz=RATE_HZ, channels=1))
    whole = audio.load(path, RATE_HZ).waveform
    pieces = audio.load_spans(path, RATE_HZ, [(40_000, 8_000), (16_000, 8_000)])
    assert pieces.warnings == ()
    assert np.array_equal(pieces.waveforms[0], whole[40_000:48_000])
    assert np.array_equal(pieces.waveforms[1], whole[16_000:24_000])


def test_a_file_ends_at_what_its_bytes_can_hold(tmp_path: Path) -> None:
    path = make_liar(tmp_path, "w64-gsm", holds_s=1.0, tells_s=-3.4e7)
    assert soundfile.info(path).duration > 1e6, "libsndfile would give zeros for months"
    assert path.stat().st_size < 4_000
    assert audio.load(path, RATE_HZ).duration_s == pytest.approx(1.0, abs=PADDING_S)


@pytest.mark.parametrize("text", DURATION_TAGS)
def test_odd_tags_are_no_length(tmp_path: Path, text: str) -> None:
    path = tag_duration(tmp_path / "tagged.mkv", text)
    for ear in ears(Coverage(2.0)):
        heard = ear.hear(path)
        assert heard.duration_s == pytest.approx(4.0) and len(heard.indices) == 2


@pytest.mark.parametrize("name", ["long.wav", "long.flac", "long.mp3", "long.opus", "long.m4a", "long.mkv"])
def test_what_is_too_long_is_refused_at_once(tmp_path: Path, name: str, loaded_s: list[float]) -> None:
    path = write_true(tmp_path / name, music(4.0, rate_hz=RATE_HZ, channels=1))
    for ear in ears(Coverage(1.0, max_duration_s=3.0)):
        with pytest.raises(AudioError, match=rf"{name} is .*long.*Up to 3 s.*--max-duration-s"):
            ear.hear(path)
    assert not loaded_s
    for limit_s in (4.2, math.inf):
        assert len(Ear(FRAMING, Coverage(1.0, limit_s), run_rows).hear(path).indices) == 1


def test_decoding_ends_at_the_limit_where_no_header_tells(tmp_path: Path) -> None:
    path = make_liar(tmp_path, "matroska", holds_s=HOLDS_S, tells_s=0.0)
    for ear in ears(Coverage(1.0, max_duration_s=3.0)):
        with pytest.raises(AudioError, match=r"is more than 3\.00 s long"):
            ear.hear(path)
    with audio.decoding_apart(), pytest.raises(AudioError, match=r"is more than 3\.00 s long"):
        audio.measure(audio.open_source(path, max_duration_s=3.0))
    assert audio.measure(path)[0] == pytest.approx(HOLDS_S, abs=PADDING_S)


@pytest.mark.parametrize("kind", ["ogg-vorbis", "matroska", "flac", "w64-gsm"])
def test_who_only_claims_to_be_too_long_is_heard(tmp_path: Path, kind: str) -> None:
    path = make_liar(tmp_path, kind, holds_s=4.0, tells_s=100_000.0)
    for ear in ears(Coverage(2.0)):
        heard = ear.hear(path)
        assert heard.duration_s == pytest.approx(4.0, abs=PADDING_S) and len(heard.indices) == 2


def test_mp3_frames_are_counted_no_further_than_the_limit(tmp_path: Path) -> None:
    path = write_long_silence(tmp_path / "long.mp3", 600.0)
    with pytest.raises(AudioError, match=r"is more than 60\.00 s long"):
        audio.open_source(path, max_duration_s=60.0)
    assert audio.probe(path).duration_s == pytest.approx(600.0, abs=PADDING_S)


def test_the_command_makes_a_long_track_a_failed_row(toy: Path, tmp_path: Path) -> None:
    short = write(tmp_path / "short.wav", music(3.5, rate_hz=8_000, channels=1), 8_000)
    long = write(tmp_path / "long.flac", music(6.0, rate_hz=8_000, channels=1), 8_000)
    code, records, stderr = classify_json(toy, short, long, "--max-duration-s", "5")
    assert code == 1 and records["short.wav"]["error"] is None
    assert "is 6.00 s long" in records["long.flac"]["error"] and "--max-duration-s" in stderr
    code, records, _ = classify_json(toy, short, long, "--max-duration-s", "inf")
    assert code == 0 and records["long.flac"]["duration_s"] == 6.0


@pytest.mark.parametrize("value", ["0", "-1", "nan"])
def test_a_limit_that_leaves_nothing_is_misuse(toy: Path, tmp_path: Path, value: str) -> None:
    done = run("classify", tmp_path / "any.wav", "--model", toy, "--max-duration-s", value)
    assert done.returncode == 2 and b"longest track" in done.stderr
    with pytest.raises(UsageError):
        Classifier(str(toy), max_duration_s=float(value))


def test_embed_and_similar_have_the_limit_too(tmp_path: Path) -> None:
    ears_file = save_toy_ears(tmp_path / "ears.onnx")
    short = write(tmp_path / "short.wav", music(3.5, rate_hz=8_000, channels=1), 8_000)
    long = write(tmp_path / "long.flac", music(6.0, rate_hz=8_000, channels=1), 8_000)
    index = tmp_path / "index.npz"
    done = run("embed", short, long, "--model", ears_file, "--output", index, "--max-duration-s", "5")
    assert done.returncode == 1 and b"long.flac is 6.00 s long" in done.stderr
    done = run("similar", long, "--index", index, "--model", ears_file, "--max-duration-s", "5")
    assert done.returncode == 2 and b"is 6.00 s long" in done.stderr
    assert run("similar", long, "--index", index, "--model", ears_file).returncode == 0


@pytest.mark.usefixtures("default_bundle_cache")
def test_teach_has_the_limit_too(tmp_path: Path) -> None:
    for label in ("ska", "dub"):
        (tmp_path / "mine" / label).mkdir(parents=True)
        for number in range(2):
            samples = music(4.0, rate_hz=RATE_HZ, channels=1, seed=len(list(tmp_path.rglob("*.wav"))))
            write(tmp_path / "mine" / label / f"{number}.wav", samples, RATE_HZ)
    done = run(
        *("teach", tmp_path / "mine", "--name", "mine", "--output", tmp_path / "mine.json"),
        *("--max-duration-s", "3.5"),
    )
    assert done.returncode == 2 and b"is 4.00 s long" in done.stderr


def test_doubts_are_about_short_tracks_and_low_rates() -> None:
    assert doubts(SHORT_S, LOW_RATE_HZ, 44_100) == ()
    assert doubts(60.0, 8_000, 8_000) == (), "a model that hears no more than is there misses nothing"
    (about_length,) = doubts(0.01, 44_100, LOW_RATE_HZ)
    assert "0.01 s" in about_length and "3 s" in about_length
    (about_rate,) = doubts(60.0, 8_000, LOW_RATE_HZ)
    assert "8000 Hz" in about_rate and "16000 Hz" in about_rate


def test_an_answer_from_little_says_so_everywhere(toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "click.wav"
    soundfile.write(path, np.random.default_rng(3).uniform(-0.5, 0.5, 80), 8_000)
    answer = Classifier(str(toy)).classify(path)
    (doubt,) = doubts(answer.duration_s, 8_000, 8_000)
    assert doubt in answer.warnings
    for kind in ("table", "csv", "tsv", "json"):
        done = run("classify", path, "--model", toy, "--format", kind)
        assert b"too short to judge" in done.stdout, kind
    output = tmp_path / "results.csv"
    run("classify", path, "--model", toy, "--output", output)
    (row,) = csv.DictReader(io.StringIO(output.read_text("utf-8")))
    assert doubt in row["warnings"]


def test_a_low_rate_is_told_of_files_and_arrays(tmp_path: Path) -> None:
    samples = music(4.0, rate_hz=8_000, channels=1)
    path = write(tmp_path / "low.wav", samples, 8_000)
    for ear in ears(Coverage(2.0)):
        assert ear.hear(path).source_rate_hz == 8_000
        assert any("low sample rate: 8000 Hz" in warning for warning in ear.hear(path).warnings)
        assert ear.hear(path).warnings == ear.hear(samples, sample_rate_hz=8_000).warnings


MEASURE = """
import json, resource, sys
import numpy as np
from musicgenre.listening.framing import Coverage, Framing
from musicgenre.listening.hearing import Ear
from musicgenre.listening.track_hearing import TrackEar

framing = Framing(16000, 16000, 16000)
ear = Ear(framing, Coverage(18.0), lambda rows: {"x": rows[:, :1]})
if sys.argv[2] == "track":
    run = lambda track, starts_s, segment_s: {"x": track.at(16000)[: len(starts_s), None]}
    ear = TrackEar(framing, Coverage(18.0), run)
heard = ear.hear(sys.argv[1])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([heard.duration_s, len(heard.indices), peak * (1 if sys.platform == "darwin" else 1024)]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="resource")
@pytest.mark.parametrize("ear", ["segments", "track"])
@pytest.mark.parametrize("suffix", [".ogg", ".opus", ".mka", ".aac", ".mp3"])
def test_five_hours_that_say_five_seconds_take_no_memory(tmp_path: Path, suffix: str, ear: str) -> None:
    path = write_long_silence(tmp_path / f"silence{suffix}", 18_000.0)
    kind = {".ogg": "ogg-vorbis", ".opus": "ogg-opus", ".mka": "matroska", ".mp3": "mp3-xing", ".aac": None}[suffix]
    if kind is not None:
        path.write_bytes(LIES[kind].tell(path.read_bytes(), 5.0))
    done = subprocess.run([sys.executable, "-c", MEASURE, path, ear], capture_output=True, check=True)
    duration_s, n_heard, peak_bytes = json.loads(done.stdout)
    assert duration_s == pytest.approx(18_000.0, abs=2.0) and n_heard == 18
    # The peak is at least that of this process, from which the other one was made.
    assert peak_bytes < 18_000 * RATE_HZ * 4 / 2, "half of what the samples alone would take"


@pytest.mark.slow
def test_more_than_a_day_is_refused_wherever_nothing_else_is_said(tmp_path: Path) -> None:
    path = write_long_silence(tmp_path / "days.mp3", 90_000.0)
    assert audio.probe(path).duration_s == pytest.approx(90_000.0, abs=1.0)
    for read in (audio.load, audio.stream):
        with pytest.raises(AudioError, match=r"is more than 24\.00 hours long.*Up to 86400 s"):
            read(path, RATE_HZ)
    (piece,) = audio.load_spans(audio.open_source(path, max_duration_s=math.inf), RATE_HZ, [(0, 10)]).waveforms
    assert len(piece) == 10
