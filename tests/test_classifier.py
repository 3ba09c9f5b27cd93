"""The Classifier: every kind of source gives the same answer, nothing passes silently, threads may share it."""

from __future__ import annotations

import dataclasses
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

import musicgenre
from musicgenre import Answer, AudioError, BundleError, Classifier, audio, errors
from musicgenre.bundle import load_bundle
from musicgenre.errors import UsageError
from musicgenre.listening.listeners import HeadListener
from musicgenre.models.head import GenreHead
from tests.fresh import run_python
from tests.toy import RATE_HZ, save_toy


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy(tmp_path_factory.mktemp("model") / "toy.onnx")


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "track.wav"
    rng = np.random.default_rng(4)
    envelope = np.repeat([0.5, 0.02, 0.3, 0.01, 0.6], RATE_HZ)
    soundfile.write(path, envelope * rng.uniform(-1, 1, 5 * RATE_HZ), RATE_HZ, subtype="FLOAT")
    return path


def same(first: Answer, second: Answer) -> bool:
    return first.genre == second.genre and np.allclose(
        list(first.scores.values()), list(second.scores.values()), atol=1e-5
    )


def test_paths_file_objects_and_arrays_agree(toy: Path, track: Path) -> None:
    classifier = Classifier(str(toy), coverage="full")
    expected = classifier.classify(track)
    assert [segment.genre for segment in expected.timeline] == ["loud", "quiet", "loud", "quiet", "loud"]
    assert sum(expected.scores.values()) == pytest.approx(1.0)
    assert next(iter(expected.scores)) == expected.genre
    assert same(classifier.classify(str(track)), expected)
    assert same(classifier.classify(io.BytesIO(track.read_bytes())), expected)
    with track.open("rb") as stream:
        assert same(classifier.classify(stream), expected)
    waveform, rate_hz = soundfile.read(track, dtype="float32")
    assert same(classifier.classify(waveform, sample_rate_hz=rate_hz), expected)
    stereo = np.stack([waveform, waveform], axis=1)
    assert same(classifier.classify(stereo, sample_rate_hz=rate_hz), expected)


def test_an_array_needs_its_rate_and_a_file_refuses_one(toy: Path, track: Path) -> None:
    classifier = Classifier(str(toy))
    with pytest.raises(AudioError, match="sample_rate_hz"):
        classifier.classify(np.zeros(8000, dtype=np.float32))
    with pytest.raises(AudioError, match="carry their own rate"):
        classifier.classify(track, sample_rate_hz=8000)
    with pytest.raises(AudioError, match="given for a list"):
        classifier.classify([0.0] * 8000, sample_rate_hz=8000)  # type: ignore[arg-type]


def test_a_file_that_claims_thousands_of_years_is_heard_as_far_as_it_goes(
    toy: Path, track: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_source = audio.open_source

    def claiming(source: audio.Source, **limits: float) -> audio.Decoder:
        opened = open_source(source, **limits)
        opened.info = dataclasses.replace(opened.info, duration_s=3e12)
        return opened

    monkeypatch.setattr(audio, "open_source", claiming)
    for coverage in ("full", 1e300, 3.0):
        answer = Classifier(str(toy), coverage=coverage).classify(track)
        assert answer.duration_s == pytest.approx(5.0) and answer.heard_s <= 5.0


@pytest.mark.filterwarnings("error")
def test_samples_beyond_all_measure_give_no_answer_that_is_no_number(toy: Path) -> None:
    samples = np.where(np.arange(3 * RATE_HZ) % 2, 3e38, -3e38).astype(np.float32)
    with pytest.raises(AudioError, match=r"no answer that is a number.*export the model anew"):
        Classifier(str(toy)).classify(samples, sample_rate_hz=RATE_HZ)
    with pytest.raises(AudioError, match="only NaN or infinite"):
        Classifier(str(toy)).classify(samples.astype(np.float64) * 1e200, sample_rate_hz=RATE_HZ)


def test_spans_hear_what_full_coverage_hears_there(toy: Path, track: Path) -> None:
    full = Classifier(str(toy), coverage="full").classify(track)
    part = Classifier(str(toy), coverage=2).classify(track)
    assert part.heard_s == 2 and part.duration_s == full.duration_s == 5
    by_start = {segment.start_s: segment for segment in full.timeline}
    for segment in part.timeline:
        assert segment.confidence == pytest.approx(by_start[segment.start_s].confidence, abs=1e-4)


def test_long_files_are_streamed_with_the_same_answer(toy: Path, track: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = Classifier(str(toy), coverage="full")
    loaded = classifier.classify(track)
    monkeypatch.setattr("musicgenre.listening.hearing._LOAD_AT_MOST_S", 1.0)
    streamed = classifier.classify(track)
    assert same(streamed, loaded) and streamed.duration_s == pytest.approx(5.0)
    assert [s.genre for s in streamed.timeline] == [s.genre for s in loaded.timeline]


def test_threads_share_one_classifier(toy: Path, track: Path) -> None:
    classifier = Classifier(str(toy), coverage="full", threads=1)
    expected = classifier.classify(track)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(classifier.classify, [track] * 40))
    assert all(same(answer, expected) for answer in answers)


def test_short_sound_says_so(toy: Path) -> None:
    answer = Classifier(str(toy)).classify(np.full(100, 0.5, dtype=np.float32), sample_rate_hz=RATE_HZ)
    assert answer.duration_s == pytest.approx(0.0125) and "zero-padded" in answer.warnings[0]
    assert answer.heard_s == answer.duration_s


@pytest.mark.parametrize("coverage", [0, -1, "some"])
def test_bad_coverage(toy: Path, coverage: float | str) -> None:
    with pytest.raises(UsageError):
        Classifier(str(toy), coverage=coverage)


def test_unknown_models_are_named(tmp_path: Path) -> None:
    for model in ("no-such-model", str(tmp_path / "none.onnx"), str(tmp_path / "none.json")):
        with pytest.raises(BundleError, match="no"):
            Classifier(model)


def test_answers_are_plain_and_frozen(toy: Path, track: Path) -> None:
    answer = Classifier(str(toy)).classify(track)
    record = answer.as_dict(top=0, timeline=True)
    assert (
        record["genre"] == answer.genre and record["error"] is None and len(record["timeline"]) == len(answer.timeline)
    )
    with pytest.raises(AttributeError):
        answer.genre = "polka"  # type: ignore[misc]


def test_public_names_are_reachable() -> None:
    for name in musicgenre.__all__:
        assert getattr(musicgenre, name) is not None
    assert set(musicgenre.__all__) <= set(dir(musicgenre))
    family = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert family <= set(musicgenre.__all__), "whoever catches an error need not know where it lives"
    with pytest.raises(AttributeError):
        musicgenre.nothing_of_the_kind  # noqa: B018


@pytest.mark.default_model
def test_a_published_tagger_by_name_and_by_path_says_the_same(default_bundle_cache: Path, track: Path) -> None:
    by_path = Classifier(str(default_bundle_cache / "bundles" / "msd-musicnn.onnx"))
    by_name = Classifier("msd-musicnn")
    assert by_name.names_tags and by_name.labels == () and by_name.model == "msd-musicnn"
    answer = by_name.classify(track)
    assert answer.tags == by_path.classify(track).tags and len(answer.tags) == 50
    assert (answer.genre, answer.scores, answer.chosen, answer.is_sure) == ("", {}, (), False)
    assert all(len(segment.tags) == 50 and not segment.genre for segment in answer.timeline)


def test_a_head_needs_an_embedding_bundle(toy: Path) -> None:
    with pytest.raises(BundleError, match="cannot stand on toy"):
        HeadListener(load_bundle(toy), GenreHead.load_default())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_classifier_that_was_used_works_in_a_forked_process(toy: Path, track: Path) -> None:
    code = (
        "import os, sys\n"
        "from musicgenre import Classifier\n"
        "classifier = Classifier(sys.argv[1], coverage='full', threads=2)\n"
        "expected = classifier.classify(sys.argv[2]).scores\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if classifier.classify(sys.argv[2]).scores == expected else 3)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = run_python(code, toy, track)
    assert done.returncode == 0, done.stderr


def test_what_must_be_known_of_a_model_stands_beside_every_answer(tmp_path: Path) -> None:
    samples = np.full(4 * RATE_HZ, 0.5, np.float32)
    fitted = Classifier(str(save_toy(tmp_path / "fitted.onnx", unsure_threshold=0.3)))
    assert fitted.classify(samples, sample_rate_hz=RATE_HZ).warnings == ()

    leaky = ({"metric": "track-level accuracy", "value": 0.99, "leaky": True},)
    bare = Classifier(str(save_toy(tmp_path / "bare.onnx", scores=leaky)))
    first, second = bare.classify(samples, sample_rate_hz=RATE_HZ).warnings
    assert first.startswith("LEAKY MODEL") and "not calibrated" in second
    assert bare.classify(samples, sample_rate_hz=RATE_HZ).as_dict()["warnings"] == [first, second]

    tagger = Classifier(str(save_toy(tmp_path / "tagger.onnx", thresholds=(0.5, 0.5), scores=leaky)))
    assert tagger.classify(samples, sample_rate_hz=RATE_HZ).warnings == (first, second)
