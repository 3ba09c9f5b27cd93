from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from musicgenre.cli import app
from musicgenre.errors import DataError, UsageError
from musicgenre.evaluation.calibration import Answered
from musicgenre.models.head import GenreHead
from musicgenre.teaching.lessons import HeardLesson, Lesson
from musicgenre.teaching.score import rounded_threshold
from musicgenre.teaching.teach import check_labels, fit_head, teach, without_copies
from musicgenre.teaching.trial import join_groups, near_pairs
from tests.cli import run

WIDTH = 20
HOP_S = 3.0


def heard(
    rng: np.random.Generator, sizes: dict[str, int], *, spread: float = 0.3, groups: int = 0
) -> list[HeardLesson]:
    """Tracks of clustered embeddings: the labels' centres are three apart, the tracks spread by ``spread``."""
    items = []
    for number, (label, size) in enumerate(sizes.items()):
        for track in range(size):
            centre = 3 * np.eye(WIDTH)[number] + spread * rng.normal(size=WIDTH)
            embedding = (centre + 0.1 * rng.normal(size=(6, WIDTH))).astype(np.float32)
            group = f"{label} artist {track % groups}" if groups else ""
            items.append(
                HeardLesson(Lesson(Path(f"{label}{track}.wav"), label, group), f"{label}{track}", embedding, ())
            )
    return items


def fitted(items: list[HeardLesson]) -> tuple[GenreHead, object, str]:
    head, score, warnings = fit_head("mine", items, GenreHead.load_default(), hop_s=HOP_S)
    return head, score, "\n".join(warnings)


@pytest.fixture
def one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round of trials, for what does not rest on how good the head is."""
    monkeypatch.setattr("musicgenre.teaching.teach._MANY_TRACKS", 0)


def test_separate_genres_are_learned_and_scored(rng: np.random.Generator) -> None:
    head, score, warnings = fitted(heard(rng, {"ska": 15, "dub": 15, "ragga": 15}))
    assert head.labels == ("dub", "ragga", "ska")
    assert score.accuracy == 1.0
    assert score.n_tested == 45
    assert score.interval[0] > 0.9
    assert score.answered.accuracy >= 0.9
    assert score.majority == pytest.approx(1 / 3)
    assert warnings == ""
    fresh = heard(rng, {"ska": 3})
    assert all(head.labels[int(head.score(np.zeros((6, 50)), item.embedding).argmax())] == "ska" for item in fresh)
    assert GenreHead.from_json(head.to_json()).card["scores"][0]["accuracy"] == 1.0


def test_a_few_tracks_that_are_all_right_do_not_silence_the_model() -> None:
    all_right = Answered(threshold=0.99987, n_answered=15, n_right=15, n_tracks=15)
    assert rounded_threshold(all_right) == 0.9, "no answer needs more confidence than the share that must be right"
    assert rounded_threshold(Answered(0.4562, 15, 14, 15)) == 0.457
    assert rounded_threshold(Answered(0.99987, 12, 12, 15)) == 1.0, "the others were wrong too often"
    assert rounded_threshold(Answered(1.01, 0, 0, 15)) > 1


def test_noise_scores_as_chance_and_says_so(rng: np.random.Generator) -> None:
    items = heard(rng, {"a": 20, "b": 20}, spread=1.0)
    shuffled = [
        HeardLesson(Lesson(item.lesson.path, "ab"[int(rng.integers(2))]), item.content, item.embedding, ())
        for item in items
    ]
    _, score, warnings = fitted(shuffled)
    assert score.accuracy < 0.75
    assert "not clearly above" in warnings


def test_groups_are_kept_apart(rng: np.random.Generator) -> None:
    """Tracks that are recognised by their artist only score well without groups and badly with them."""
    items = []
    for artist in range(10):
        centre = 3 * rng.normal(size=WIDTH)
        for track in range(4):
            embedding = (centre + 0.6 * rng.normal(size=(6, WIDTH))).astype(np.float32)
            lesson = Lesson(Path(f"{artist}-{track}.wav"), "ab"[artist % 2], f"artist {artist}")
            items.append(HeardLesson(lesson, f"{artist}-{track}", embedding, ()))
    alone = [HeardLesson(Lesson(i.lesson.path, i.lesson.label), i.content, i.embedding, ()) for i in items]
    assert fitted(alone)[1].accuracy > fitted(items)[1].accuracy + 0.15


@pytest.mark.usefixtures("one_round")
def test_small_classes_are_pointed_out(rng: np.random.Generator) -> None:
    head, score, warnings = fitted(heard(rng, {"many": 14, "few": 7, "fewer": 3, "single": 1}))
    assert head.labels == ("few", "fewer", "many", "single")
    assert "few: 7 tracks are few" in warnings
    assert "fewer: 3 tracks are far too few" in warnings
    assert "single: 1 track is far too few" in warnings
    assert "single: could not be tested" in warnings
    assert score.n_tested == 24
    assert head.card["scores"][0]["recall"]["single"] is None


@pytest.mark.usefixtures("one_round")
def test_a_label_of_one_artist_cannot_be_tested(rng: np.random.Generator) -> None:
    items = heard(rng, {"a": 12, "b": 12}, groups=4)
    solo = [
        HeardLesson(Lesson(i.lesson.path, "solo", "one"), i.content + "s", i.embedding + 2, ()) for i in items[:10]
    ]
    _, score, warnings = fitted([*items, *solo])
    assert score.n_tested == 24
    assert "solo: could not be tested" in warnings


@pytest.mark.usefixtures("one_round")
def test_nothing_to_test_with_is_an_error(rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="no track can be spared"):
        fitted(heard(rng, {"a": 1, "b": 1}))
    with pytest.raises(DataError, match="two genres"):
        fitted(heard(rng, {"a": 5}))


@pytest.mark.usefixtures("one_round")
def test_near_copies_are_found_named_and_tested_together(rng: np.random.Generator) -> None:
    items = heard(rng, {"a": 10, "b": 10})
    copy = HeardLesson(Lesson(Path("copy.mp3"), "b"), "other bytes", items[0].embedding * 1.01, ())
    features = np.stack([item.embedding.mean(axis=0) for item in (*items, copy)])
    assert near_pairs(features) == [(0, 20)]
    _, _, warnings = fitted([*items, copy])
    assert "under different genres: a0.wav (a) and copy.mp3 (b)" in warnings


def test_groups_join_along_pairs() -> None:
    groups = join_groups(["x", "", "x", "", "y"], [(1, 3), (3, 4)])
    assert groups[0] == groups[2]
    assert groups[1] == groups[3] == groups[4]
    assert len(set(groups.tolist())) == 2


def test_the_same_bytes_count_once_and_never_for_two_genres(rng: np.random.Generator) -> None:
    a, b, c, d = heard(rng, {"a": 2, "b": 2})
    same = HeardLesson(Lesson(Path("again.wav"), "a"), a.content, a.embedding, ())
    clash = HeardLesson(Lesson(Path("clash.wav"), "a"), c.content, c.embedding, ())
    kept, warnings = without_copies([a, b, c, d, same, clash])
    assert [item.lesson.path.name for item in kept] == ["a0.wav", "a1.wav", "b1.wav"]
    assert "2 times, counted once: a0.wav (a), again.wav (a)" in warnings[0]
    assert "different genres, left out: b0.wav (b), clash.wav (a)" in warnings[1]


def test_a_head_is_not_replaced_by_accident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGENRE_CONFIG", str(tmp_path))
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(UsageError, match="--overwrite"):
        teach(tmp_path, "mine", output=tmp_path / "mine.json")
    with pytest.raises(UsageError, match=r"ends in \.json"):
        teach(tmp_path, "mine", output=tmp_path / "mine.onnx")


def test_too_few_genres_left_say_why(rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match=r"2 tracks of 1 genre could be heard.*first of all: b0.wav is empty"):
        check_labels(heard(rng, {"a": 2}), ["b0.wav is empty", "b1.wav is empty"])
    with pytest.raises(DataError, match=r"0 tracks of 0 genres"):
        check_labels([])


@pytest.mark.parametrize("case", ["missing", "empty", "one genre", "bad name"])
def test_misuse_through_the_command(case: str, tmp_path: Path) -> None:
    folder = tmp_path / "music"
    if case != "missing":
        folder.mkdir()
    if case == "one genre":
        (folder / "ska").mkdir()
        (folder / "ska" / "a.wav").touch()
    name = "../mine" if case == "bad name" else "mine"
    done = run("teach", folder, "--name", name, env={"MUSICGENRE_CONFIG": str(tmp_path / "config")})
    expected = {
        "missing": b"does not exist",
        "empty": b"holds no tracks",
        "one genre": b"only the genre 'ska'",
        "bad name": b"cannot be the name",
    }
    assert done.returncode == 2
    assert expected[case] in done.stderr
    assert not (tmp_path / "config").exists()


@pytest.mark.default_model
def test_teach_then_classify_with_the_taught_model(
    default_bundle_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From files to a model of one's own: noise against tones, a broken file left out."""
    monkeypatch.setattr("musicgenre.teaching.teach._MANY_TRACKS", 0)  # one round of trials: what is shown is the way
    cache = tmp_path / "cache"
    shutil.copytree(default_bundle_cache / "bundles", cache / "bundles")
    rng, time_s = np.random.default_rng(5), np.arange(16_000 * 4) / 16_000
    for number in range(6):
        tone = 0.4 * np.sin(2 * np.pi * (200 + 90 * number) * time_s) + 0.01 * rng.normal(size=len(time_s))
        for label, samples in (("tones", tone), ("noise", (0.05 + 0.05 * number) * rng.normal(size=len(time_s)))):
            path = tmp_path / "music" / label / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.clip(samples, -1, 1), 16_000)
    (tmp_path / "music" / "noise" / "broken.mp3").write_bytes(b"no sound")
    env = {"MUSICGENRE_CONFIG": str(tmp_path / "config"), "MUSICGENRE_CACHE": str(cache)}
    done = run("teach", tmp_path / "music", "--name", "mine", env=env)
    report = done.stdout.decode()
    assert done.returncode == 1, done.stderr.decode()
    assert b"broken.mp3" in done.stderr
    assert "accuracy" in report
    assert "--model mine" in report
    head = GenreHead.load(tmp_path / "config" / "heads" / "mine.json")
    assert head.labels == ("noise", "tones")
    answer = run("classify", tmp_path / "music" / "tones" / "0.wav", "--model", "mine", "--format", "json", env=env)
    assert answer.returncode == 0, answer.stderr.decode()
    assert b'"tones"' in answer.stdout
    assert run("teach", tmp_path / "music", "--name", "mine", env=env).returncode == 2, "it exists"
    assert run("teach", tmp_path / "music", "--name", "mine", "--overwrite", "-q", env=env).stdout == b""


@pytest.mark.default_model
def test_a_head_is_fitted_at_the_level_that_it_stores(
    default_bundle_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same tracks, each turned up or down in its own way, teach the same head; one of silence is left out."""
    monkeypatch.setattr("musicgenre.teaching.teach._MANY_TRACKS", 0)  # one round of trials: the fit is what counts
    cache = tmp_path / "cache"
    shutil.copytree(default_bundle_cache / "bundles", cache / "bundles")
    monkeypatch.setenv("MUSICGENRE_CACHE", str(cache))
    monkeypatch.setenv("MUSICGENRE_CONFIG", str(tmp_path / "config"))
    rng, time_s = np.random.default_rng(7), np.arange(16_000 * 4) / 16_000
    gains_db = rng.uniform(-25, 10, 12)
    for number in range(6):
        tone = 0.3 * np.sin(2 * np.pi * (200 + 90 * number) * time_s) + 0.01 * rng.normal(size=len(time_s))
        noise = 0.1 * rng.normal(size=len(time_s))
        for label, samples, gain_db in (("tones", tone, gains_db[number]), ("noise", noise, gains_db[6 + number])):
            for folder, factor in (("plain", 1.0), ("turned", 10 ** (gain_db / 20))):
                path = tmp_path / folder / label / f"{number}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, samples * factor, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "turned" / "noise" / "silent.wav", np.zeros(16_000 * 4), 16_000)

    plain, turned = (teach(tmp_path / folder, folder) for folder in ("plain", "turned"))
    assert plain.head.level == turned.head.level == GenreHead.load_default().level is not None
    assert GenreHead.load(turned.path).level == turned.head.level
    np.testing.assert_allclose(turned.head.linear.weights, plain.head.linear.weights, rtol=1e-2, atol=1e-4)
    assert [reason for _, reason in turned.failures if "too quiet to learn from" in reason]
    assert turned.counts == plain.counts

    at_20 = teach(tmp_path / "plain", "at20", level=-20)
    as_they_are = [teach(tmp_path / folder, f"{folder}-off", level="off").head for folder in ("plain", "turned")]
    assert at_20.head.level is not None and at_20.head.level.target_db == -20
    assert [head.level for head in as_they_are] == [None, None]
    assert not np.allclose(as_they_are[0].linear.weights, as_they_are[1].linear.weights, rtol=1e-2, atol=1e-4)


@pytest.mark.default_model
@pytest.mark.real_data
@pytest.mark.slow
def test_a_hundred_real_tracks(default_bundle_cache: Path, shared_data: Path, tmp_path: Path) -> None:
    taught = teach(shared_data / "gtzan-mini" / "genres", "mini", output=tmp_path / "mini.json", jobs=2)
    assert taught.failures == ()
    assert sum(taught.counts.values()) == 100
    assert taught.score.accuracy > 0.85
    assert taught.score.answered.accuracy >= 0.9


@pytest.mark.usefixtures("one_round")
def test_a_head_in_a_place_of_its_own_is_named_by_that_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from musicgenre.cli.teach import _print_report
    from musicgenre.models.head import taught_path
    from musicgenre.teaching.teach import Taught

    monkeypatch.setenv("MUSICGENRE_CONFIG", str(tmp_path / "config"))
    head, score, _ = fitted(heard(rng, {"blues": 12, "jazz": 12}))
    taught = Taught(
        head=head, path=tmp_path / "my heads" / "mine.json", counts={"blues": 12, "jazz": 12}, score=score,
        warnings=(), failures=(), seconds=1.0,
    )  # fmt: skip
    _print_report(taught)
    assert f"--model '{taught.path}'" in capsys.readouterr().out
    _print_report(dataclasses.replace(taught, path=taught_path("mine")))
    assert "--model mine" in capsys.readouterr().out


@pytest.mark.usefixtures("one_round")
@pytest.mark.parametrize("is_quiet", [False, True])
def test_a_model_that_is_unsure_of_everything_is_told_loudly_and_not_offered_for_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rng: np.random.Generator, is_quiet: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from musicgenre.teaching import teach as teaching

    head, score, _ = fitted(heard(rng, {"blues": 12, "jazz": 12}))
    none_sure = dataclasses.replace(score, answered=Answered(1.01, 0, 0, 24))
    taught = teaching.Taught(
        head=head, path=tmp_path / "mine.json", counts={"blues": 12, "jazz": 12}, score=none_sure, warnings=(),
        failures=(), seconds=1.0,
    )  # fmt: skip
    monkeypatch.setattr(teaching, "teach", lambda *_, **__: taught)
    done = CliRunner().invoke(app, ["teach", str(tmp_path), "--name", "mine", *(["--quiet"] * is_quiet)])
    assert done.exit_code == 0, "it is saved all the same"
    assert "NOT OF USE YET" in done.stderr and "teach MORE --name mine --update" in done.stderr
    assert f"--model {taught.path} --reject none" in done.stderr and "use it:" not in done.output
    assert ("saved" in done.stdout) is not is_quiet
