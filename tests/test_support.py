"""An answer needs support: what is unlike the training music is `unsure`, and says why."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicgenre import Answer, Classifier
from musicgenre.cli._table import Table
from musicgenre.errors import BundleError, UsageError
from musicgenre.models.at_large import MusicAtLarge
from musicgenre.models.head import GenreHead
from musicgenre.models.support import (
    FEWEST_RIGHT,
    MOST_AXES,
    RIGHT_ANSWERS_LOST,
    Support,
    at_least_ratio,
    at_limit,
    fit_support,
)
from musicgenre.teaching.support import TOO_FEW, support_of, taught_support
from tests.cli import run
from tests.test_head import small_head

RATE_HZ = 16_000
WIDTH = 30
N_DIRECTIONS = 4


def tracks(rng: np.random.Generator, count: int, directions: np.ndarray) -> list[np.ndarray]:
    """Embeddings (6, WIDTH) that spread along a few directions, with little beside them."""
    return [
        5 + 3 * rng.normal(size=(6, len(directions))) @ directions + 0.05 * rng.normal(size=(6, WIDTH))
        for _ in range(count)
    ]


def directions_of(rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(WIDTH, N_DIRECTIONS)))[0].T


def small_support(**changes: object) -> Support:
    parts = {"centre": np.zeros(3), "scale": np.ones(3), "axes": np.eye(3)[:1], "limit": 1.0, "least_tags": 0.5}
    return Support(**{**parts, **changes})


def test_what_lies_along_the_training_music_is_near_and_what_leaves_it_is_far(rng: np.random.Generator) -> None:
    directions = directions_of(rng)
    support = fit_support(tracks(rng, 2 * N_DIRECTIONS, directions))
    assert support.axes.shape == (N_DIRECTIONS, WIDTH)
    near = support.distance(tracks(rng, 1, 4 * directions)[0])
    far = support.distance(5 + rng.normal(size=(6, WIDTH)))
    assert near < 1
    assert far > 3


def test_the_number_of_axes_grows_with_the_tracks_to_a_limit(rng: np.random.Generator) -> None:
    few = fit_support([rng.normal(size=(2, 200)) for _ in range(10)])
    many = fit_support([rng.normal(size=(2, 200)) for _ in range(150)])
    assert (len(few.axes), len(many.axes)) == (5, MOST_AXES)


def test_the_distance_does_not_depend_on_how_many_segments_were_heard(rng: np.random.Generator) -> None:
    support = fit_support(tracks(rng, 20, directions_of(rng)))
    segment = rng.normal(size=(1, WIDTH))
    assert support.distance(np.tile(segment, (7, 1))) == pytest.approx(support.distance(segment))


def test_an_output_that_never_changes_is_no_division_by_zero(rng: np.random.Generator) -> None:
    segments = [np.column_stack([rng.normal(size=(3, 4)), np.full(3, 2.0)]) for _ in range(10)]
    assert np.isfinite(fit_support(segments).distance(np.zeros((2, 5))))


def test_reasons_tell_strange_music_from_no_music_and_heed_the_ceiling_of_the_answer() -> None:
    support = small_support(ceilings={"electronic": (0.1, 0.9)})
    far, near = np.array([[0.0, 3.0, 0.0]]), np.array([[9.0, 0.5, 0.0]])
    assert support.problem(near, {"electronic": 0.05, "rock": 0.9}, 0) is None
    assert support.problem(far, {"electronic": 0.05, "rock": 0.9}, 0) == "unlike the training music"
    assert support.problem(far, {"electronic": 0.05, "rock": 0.1}, 0) == "not music"
    assert support.problem(near, {"electronic": 0.5, "rock": 0.1}, 0) == "unlike the training music"
    assert support.problem(near, {"electronic": 0.5, "rock": 0.1}, 1) is None


def test_the_limit_loses_few_right_answers(rng: np.random.Generator) -> None:
    directions = directions_of(rng)
    segments = tracks(rng, 200, directions)
    folds = [np.arange(200) % 5, np.arange(200)[::-1] % 4]
    right = [np.full(200, True), np.full(200, True)]
    support = support_of(segments, [np.arange(3)] * 200, folds, right)
    assert support is not None
    beyond = [support.distance(part) > support.limit for part in tracks(rng, 500, directions)]
    assert np.mean(beyond) < 3 * RIGHT_ANSWERS_LOST


def test_a_handful_of_right_answers_sets_no_limit(rng: np.random.Generator) -> None:
    segments = tracks(rng, 40, directions_of(rng))
    right = np.arange(40) < FEWEST_RIGHT
    folds, heard = [np.arange(40) % 5], [np.arange(6)] * 40
    assert support_of(segments, heard, folds, [right]) is not None
    right[0] = False
    assert support_of(segments, heard, folds, [right]) is None


def test_a_head_keeps_its_support_in_its_file(rng: np.random.Generator) -> None:
    embedding = tracks(rng, 1, directions_of(rng))[0]
    support = at_limit(fit_support(tracks(rng, 30, directions_of(rng))), 1.23456)
    head = small_head(support=dataclasses.replace(support, ceilings={"House": (0.25, 0.5)}))
    again = GenreHead.from_json(head.to_json())
    assert json.loads(head.to_json())["format_version"] == 4
    assert again.support is not None
    assert again.support.limit == 1.235
    assert again.support.ceilings == {"House": (0.25, 0.5)}
    assert again.support.distance(embedding) == pytest.approx(support.distance(embedding), rel=2e-3)
    assert GenreHead.from_json(again.to_json()).to_json() == again.to_json()


def test_only_what_asks_for_more_needs_a_newer_reader() -> None:
    assert json.loads(small_head(support=small_support()).to_json())["format_version"] == 3
    assert json.loads(small_head(support=small_support(least_change=0.5)).to_json())["format_version"] == 4
    without_limit = small_head(support=small_support(limit=np.inf))
    assert json.loads(without_limit.to_json())["format_version"] == 4
    again = GenreHead.from_json(without_limit.to_json()).support
    assert again is not None and again.limit == np.inf and not again.is_far(np.full((3, 3), 1e6))


def test_what_stands_still_is_no_music(rng: np.random.Generator) -> None:
    training = tracks(rng, 40, directions_of(rng))
    support = at_limit(fit_support(training), 1e6)
    assert not any(support.is_steady(part) for part in training)
    still = np.repeat(training[0][:1], 6, axis=0) + 0.001 * rng.normal(size=(6, WIDTH))
    assert support.problem(still, {"rock": 0.9}, 0) == "not music"
    assert support.problem(still[:2], {"rock": 0.9}, 0) is None, "two segments say nothing of change"


def test_a_ratio_tells_music_of_other_genres_and_travels_with_the_head(rng: np.random.Generator) -> None:
    """Genres in two corners of where music lies: what lies elsewhere is likelier among music at large."""
    at_large = MusicAtLarge(np.eye(3), np.zeros(3))
    labels = np.repeat([0, 1], 20)
    centres = np.array([[6.0, 0.0, 0.0], [0.0, 6.0, 0.0]])
    ratio = at_large.ratio(centres[labels] + rng.normal(size=(40, 3)), labels, 2)
    support = at_least_ratio(small_support(limit=1e6), ratio, 0.0)
    head = GenreHead.from_json(small_head(support=support).to_json())
    assert head.support is not None
    for place, problem in (((6, 0, 0), None), ((0, 6, 0), None), ((0, 0, 6), "unlike the training music")):
        assert head.support.problem(np.tile(place, (3, 1)), {"rock": 0.9}, 0) == problem
    wider = np.hstack([np.tile((0, 6, 0), (3, 1)), np.full((3, 5), 99.0)])
    assert head.support.problem(wider, {"rock": 0.9}, 0) is None, "of wider embeddings the first values count"


def test_a_head_on_musicnn_knows_what_music_is_from_the_default_head(rng: np.random.Generator) -> None:
    known = GenreHead.load_default().support
    assert known is not None
    labels = np.repeat([0, 1], 20)
    places = np.where(labels[:, np.newaxis] == 0, 1.0, -1.0) * known.axes[0]
    segments = [known.centre + known.scale * (place + 0.3 * rng.normal(size=(6, 200))) for place in 20 * places]
    folds, heard = [np.arange(40) % 5], [np.arange(6)] * 40
    support, told = taught_support(segments, heard, labels, folds, [np.full(40, True)], known=known)
    assert support.limit >= known.limit and not support.ceilings and support.ratio is not None
    assert "limit of the ratio" in told
    lost = [support.log_ratio(part) < support.least_ratio for part in segments]
    assert np.mean(lost) <= 2 * RIGHT_ANSWERS_LOST

    support, told = taught_support(segments, heard, labels, folds, [np.arange(40) < 9], known=known)
    assert support.ratio is None and support.limit == known.limit
    assert (
        told.startswith(TOO_FEW)
        and "(9, where 10 are needed)" in told
        and "only what is no music, or unlike all that the default model knows" in told
    )
    support, told = taught_support(segments, heard, labels, folds, [np.arange(40) < 9], known=None)
    assert support.limit == np.inf and support.least_change > 0 and "only what stands still" in told


@pytest.mark.parametrize(
    "change",
    [
        {"ratio": {"weights": [[1.0]], "bias": [0.0, 0.0], "least": 0.0}},
        {"ratio": {"weights": [[1.0, 1.0]] * 3, "bias": [0.0], "least": 0.0}},
        {"ratio": {"bias": [0.0, 0.0]}},
        {"least_change": "much"},
        {"centre": [0.0]},
        {"axes": [[1.0]]},
        {"scale": [1.0, 0.0, 1.0]},
        {"limit": None},
        {"limit": float("inf")},
        {"ceilings": {"House": [0.1]}},
        {"ceilings": [1]},
        {"axes": "none"},
    ],
)
def test_a_damaged_support_is_refused(change: dict[str, object]) -> None:
    values = {**small_support().as_values(), **change}
    with pytest.raises(BundleError, match="damaged support"):
        Support.from_values(values, "this head", n_labels=2)


def test_a_head_that_asks_for_tags_its_network_lacks_is_refused(default_bundle_cache: Path, tmp_path: Path) -> None:
    head = GenreHead.load_default()
    support = at_limit(fit_support([np.random.default_rng(0).normal(size=(4, 200)) for _ in range(20)]), 9.0)
    changed = dataclasses.replace(
        head, support=dataclasses.replace(support, ceilings={"no such tag": (1.0,) * len(head.labels)})
    )
    changed.save(tmp_path / "head.json")
    with pytest.raises(BundleError, match="no such tag"):
        Classifier(str(tmp_path / "head.json"))


@pytest.fixture(scope="module")
def default(default_bundle_cache: Path) -> Classifier:
    return Classifier()


def heard(classifier: Classifier, samples: np.ndarray) -> Answer:
    return classifier.classify((0.2 * samples / np.abs(samples).max()).astype(np.float32), sample_rate_hz=RATE_HZ)


@pytest.mark.parametrize("shape", ["saw", "triangle", "trapezium", "noise below 2 kHz"])
def test_steady_sounds_of_any_shape_are_no_music(default: Classifier, shape: str, rng: np.random.Generator) -> None:
    saw = 2 * ((220 * np.arange(20 * RATE_HZ) / RATE_HZ) % 1) - 1
    triangle = np.abs(saw) - 0.5
    spectrum = np.fft.rfft(rng.normal(size=20 * RATE_HZ))
    spectrum[np.fft.rfftfreq(20 * RATE_HZ, 1 / RATE_HZ) > 2_000] = 0
    sounds = {
        "saw": saw,
        "triangle": triangle,
        "trapezium": np.clip(4 * triangle, -1, 1),
        "noise below 2 kHz": np.fft.irfft(spectrum),
    }
    answer = heard(default, sounds[shape])
    assert (answer.genre, answer.reason) == ("unsure", "not music")


@pytest.mark.parametrize("pitch_hz", [220, 440, 1_000])
def test_a_tone_is_no_music(default: Classifier, pitch_hz: int) -> None:
    answer = heard(default, np.sin(2 * np.pi * pitch_hz * np.arange(20 * RATE_HZ) / RATE_HZ))
    assert (answer.genre, answer.reason) == ("unsure", "not music")


def test_noise_is_unsure(default: Classifier, rng: np.random.Generator) -> None:
    assert heard(default, rng.normal(size=20 * RATE_HZ)).genre == "unsure"


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_speech_is_unsure(default: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    words = "The train to the coast leaves from platform four at a quarter past nine. " * 4
    subprocess.run(["espeak-ng", "-w", str(path), words], check=True, capture_output=True)
    answer = default.classify(path)
    assert answer.genre == "unsure"
    assert answer.reason in ("not music", "unlike the training music")
    assert default.classify(path).candidates  # what it would have been can still be looked up


def test_silence_is_too_quiet(default: Classifier) -> None:
    answer = default.classify(np.zeros(10 * RATE_HZ, np.float32), sample_rate_hz=RATE_HZ)
    assert (answer.genre, answer.reason) == ("unsure", "too quiet")


def test_less_than_one_segment_is_too_short(default: Classifier) -> None:
    examples = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.flac"))
    samples, rate_hz = soundfile.read(examples[0], dtype="float32")
    one_second = default.classify(samples[5 * rate_hz : 6 * rate_hz], sample_rate_hz=rate_hz)
    assert (one_second.genre, one_second.reason) == ("unsure", "too short")
    assert default.classify(samples[5 * rate_hz : 9 * rate_hz], sample_rate_hz=rate_hz).reason != "too short"


def test_without_rejection_the_most_probable_genre_is_named(default: Classifier) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(10 * RATE_HZ) / RATE_HZ)
    plain, usual = Classifier(reject="none"), heard(default, tone)
    answer = heard(plain, tone)
    assert (answer.genre, answer.reason) == (next(iter(usual.scores)), None)
    assert answer.scores == usual.scores
    assert all(section.genre != "unsure" for section in answer.sections)
    assert plain.classify(np.zeros(RATE_HZ, np.float32), sample_rate_hz=RATE_HZ).is_sure
    assert plain.model_sha256 != default.model_sha256


def test_an_unknown_way_to_reject_is_refused() -> None:
    with pytest.raises(UsageError, match="model or none"):
        Classifier(reject="all")  # type: ignore[arg-type]


def test_the_command_says_the_reason_and_can_be_asked_not_to_reject(
    default_bundle_cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, 0.2 * np.sin(2 * np.pi * 440 * np.arange(10 * RATE_HZ) / RATE_HZ), RATE_HZ)
    said = run("classify", str(path), "--format", "json")
    assert json.loads(said.stdout)["reason"] == "not music"
    table = run("classify", str(path), "--format", "table").stdout
    assert b"not music" in table
    assert b"perhaps" not in table
    plain = json.loads(run("classify", str(path), "--format", "json", "--reject", "none").stdout)
    assert (plain["genre"], plain["reason"]) == ("classical", None)


def answered(**changes: object) -> Answer:
    parts = {
        "path": "song.mp3",
        "duration_s": 30.0,
        "heard_s": 18.0,
        "genre": "blues",
        "confidence": 0.7,
        "scores": {"blues": 0.7, "jazz": 0.3},
        "tags": {"folk": 0.4, "blues": 0.2},
        "style": "folk",
    }
    return Answer(**{**parts, **changes})  # type: ignore[arg-type]


def shown(answer: Answer, capsys: pytest.CaptureFixture[str]) -> str:
    Table(["song.mp3"], ("blues", "jazz"), top=1, timeline=None).print(answer)
    return capsys.readouterr().out


def test_the_table_names_a_style_beside_a_sure_genre_that_it_says_more_than(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "sounds like folk" in shown(answered(), capsys)
    named = {"Hip-Hop": 0.5, "folk": 0.4}
    assert "sounds like" not in shown(answered(genre="hiphop", tags=named), capsys)
    assert "sounds like" not in shown(answered(style=None), capsys)


def test_the_table_says_why_an_answer_is_unsure(capsys: pytest.CaptureFixture[str]) -> None:
    unlike = shown(answered(genre="unsure", reason="unlike the training music"), capsys)
    assert "unlike the training music; perhaps blues 70%; sounds like folk; [folk]" in unlike
    no_music = shown(answered(genre="unsure", reason="not music"), capsys)
    assert "not music; [folk]" in no_music
    low = shown(answered(genre="unsure", reason="low confidence"), capsys)
    assert "low confidence" not in low
    assert "perhaps blues 70%" in low
