"""The wide vocabulary: a tree over the tags of both networks, the rule that names by it, and what comes out of it."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scripts import _reject_beds as beds

from musicgenre import Answer, Classifier
from musicgenre.bundle.container import save_bundle
from musicgenre.bundle.musicnn import convert
from musicgenre.cli._table import Table
from musicgenre.errors import BundleError, UsageError
from musicgenre.features.published.musicnn.published import published
from musicgenre.library.genre_map import read_map
from musicgenre.listening.batch import Failure
from musicgenre.listening.hearing import Heard
from musicgenre.listening.results import format_line, header_line, record_of
from musicgenre.listening.wide import WideListener
from musicgenre.models.head import GenreHead
from musicgenre.models.wide import (
    CANDIDATES_SHARE,
    NETWORKS,
    NamedGenre,
    Vocabulary,
    WideGenre,
    genre_names,
    load_wide,
    vocabulary_from,
)
from tests.cli import run
from tests.published_weights import random_variables

MSD, MTT = NETWORKS


def tags_of(msd: Mapping[str, float] | None = None, mtt: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Tags of both networks: those given, and next to nothing of all others."""
    return {
        MSD: dict.fromkeys(published(MSD).tags, 0.001) | dict(msd or {}),
        MTT: dict.fromkeys(published(MTT).tags, 0.001) | dict(mtt or {}),
    }


def scores_of(**given: float) -> dict[str, float]:
    """Probabilities of the ten; what is left is shared evenly."""
    others = [label for label in GenreHead.load_default().labels if label not in given]
    rest = (1 - sum(given.values())) / len(others)
    return given | dict.fromkeys(others, rest)


def limit_of(name: str, network: str, tag: str) -> float:
    [genre] = [genre for genre in load_wide().genres if genre.name == name]
    limit = genre.tags[network][tag]
    assert limit is not None
    return limit


class TestTheTree:
    @pytest.mark.parametrize("network", NETWORKS)
    def test_every_tag_names_a_genre_or_is_said_to_name_none(self, network: str) -> None:
        wide = load_wide()
        named = [tag for genre in wide.genres for tag in genre.tags.get(network, {})]
        assert sorted((*named, *wide.not_genres[network])) == sorted(published(network).tags)

    def test_it_holds_the_ten_and_only_they_are_calibrated(self) -> None:
        assert sorted(load_wide().ten) == sorted(GenreHead.load_default().labels)

    def test_families_stand_before_their_children(self) -> None:
        wide = load_wide()
        assert wide.names == tuple(name for family, below in wide.tree.items() for name in (family, *below))
        assert wide.tree["rnb"] == ("disco", "funk", "soul")
        assert wide.tree["jazz"] == ()

    def test_only_tags_that_were_held_against_the_truth_may_have_no_threshold(self) -> None:
        for genre in load_wide().genres:
            limits = [limit for thresholds in genre.tags.values() for limit in thresholds.values()]
            assert all(limit is None or 0 < limit < 1 for limit in limits)
            assert genre.calibrated or None not in limits

    @pytest.mark.parametrize("genres", [[("house", "electronic")], [("rock", "rock"), ("rock", "rock")]])
    def test_a_tree_that_is_none_is_refused(self, genres: list[tuple[str, str]]) -> None:
        entries = [{"name": name, "family": family, "calibrated": False, "tags": {}} for name, family in genres]
        with pytest.raises(BundleError, match="stands twice or before its family"):
            vocabulary_from({"genres": entries, "beats": 2.0, "not_genres": {}})


class TestTheRule:
    def chosen(self, scores: Mapping[str, float], tags: Mapping[str, Any], **how: bool) -> tuple[str, list[str]]:
        leading, genres = load_wide().choose(scores, tags, **{"is_sure": True, **how})
        return leading, [genre.name for genre in genres]

    def test_a_sure_answer_leads_and_keeps_its_probability(self) -> None:
        leading, [only] = load_wide().choose(scores_of(blues=0.9), tags_of(), is_sure=True)
        assert (leading, only) == ("blues", NamedGenre("blues", "blues", 0.9, calibrated=True))

    def test_a_child_of_a_family_brings_it_along(self) -> None:
        leading, genres = load_wide().choose(scores_of(disco=0.8), tags_of(), is_sure=True)
        assert leading == "disco"
        assert genres == (
            NamedGenre("rnb", "rnb", 0.8, calibrated=True),
            NamedGenre("disco", "rnb", 0.8, calibrated=True),
        )

    def test_a_tag_above_its_threshold_stands_behind_a_sure_answer(self) -> None:
        limit = limit_of("folk", MSD, "folk")
        assert self.chosen(scores_of(blues=0.7), tags_of({"folk": limit})) == ("blues", ["blues", "folk"])
        assert self.chosen(scores_of(blues=0.7), tags_of({"folk": 0.99 * limit})) == ("blues", ["blues"])

    def test_far_above_it_the_tag_goes_first(self) -> None:
        strong = load_wide().beats * limit_of("folk", MSD, "folk")
        assert self.chosen(scores_of(blues=0.7), tags_of({"folk": strong})) == ("folk", ["folk", "blues"])
        _leading, genres = load_wide().choose(scores_of(blues=0.7), tags_of({"folk": strong}), is_sure=True)
        assert [(genre.name, genre.calibrated) for genre in genres] == [("folk", False), ("blues", True)]
        assert genres[0].score == pytest.approx(strong)

    def test_of_its_own_families_the_head_knows_more(self) -> None:
        assert self.chosen(scores_of(metal=0.8), tags_of({"punk": 0.9})) == ("metal", ["metal", "rock", "punk"])
        assert self.chosen(scores_of(disco=0.8), tags_of({"soul": 0.9})) == ("disco", ["rnb", "disco", "soul"])

    def test_an_unsure_head_leaves_it_to_the_tags(self) -> None:
        unsure = scores_of(reggae=0.4)
        assert self.chosen(unsure, tags_of({"House": 0.5}), is_sure=False) == ("house", ["electronic", "house"])
        assert self.chosen(unsure, tags_of(), is_sure=False) == ("", [])
        assert self.chosen(unsure, tags_of({"punk": 0.9}), is_sure=False) == ("", []), "of the ten's own families"

    def test_a_tag_decides_among_what_an_unsure_head_holds_for_possible(self) -> None:
        limit = limit_of("country", MSD, "country")
        close = scores_of(blues=0.5, country=CANDIDATES_SHARE * 0.5)
        far = scores_of(blues=0.5, country=CANDIDATES_SHARE * 0.49)
        tags = tags_of({"country": limit})
        assert self.chosen(close, tags, is_sure=False) == ("country", ["country"])
        assert self.chosen(far, tags, is_sure=False) == ("", [])
        assert self.chosen(close, tags, is_sure=False, is_known=False) == ("", [])
        [named] = load_wide().choose(close, tags, is_sure=False)[1]
        assert (named.score, named.calibrated) == (close["country"], True)

    def test_music_unlike_the_ten_may_be_named_by_its_tags(self) -> None:
        tags = tags_of({"electronic": 0.5}, {"electronic": 0.5, "techno": 0.6})
        leading, named = self.chosen(scores_of(classical=0.98), tags, is_sure=False, is_known=False)
        assert (leading, named) == ("electronic", ["electronic", "techno"])

    def test_networks_that_know_a_genre_speak_together(self) -> None:
        limit, other = limit_of("electronic", MSD, "electronic"), limit_of("electronic", MTT, "electronic")
        unsure = scores_of(reggae=0.4)
        alone = tags_of({"electronic": 1.5 * limit})
        assert self.chosen(unsure, alone, is_sure=False) == ("", [])
        both = tags_of({"electronic": 1.5 * limit}, {"electronic": 0.5 * other})
        assert self.chosen(unsure, both, is_sure=False) == ("electronic", ["electronic"])

    def test_a_tag_that_never_held_against_the_truth_says_nothing(self) -> None:
        [rock] = [genre for genre in load_wide().genres if genre.name == "rock"]
        assert rock.heard(tags_of({"rock": 0.99}, {"rock": 0.99})) == (0.0, 0.0)


GENRES = [
    {"name": "electronic", "family": "electronic", "score": 0.4, "calibrated": False},
    {"name": "house", "family": "electronic", "score": 0.4, "calibrated": False},
    {"name": "pop", "family": "pop", "score": 0.8, "calibrated": True},
]


@pytest.mark.parametrize(
    ("leading", "most", "names"),
    [
        ("house", None, ("electronic", "house", "pop")),
        ("house", 1, ("house",)),
        ("house", 2, ("electronic", "house")),
        ("pop", 1, ("pop",)),
        ("pop", 2, ("electronic", "pop")),
        ("dropped by a map", 2, ("electronic", "house")),
    ],
)
def test_names_come_family_first_and_the_leading_one_stays_longest(
    leading: str, most: int | None, names: tuple[str, ...]
) -> None:
    assert genre_names(GENRES, leading, most) == names


def wide_answer(leading: str = "house", **changes: Any) -> Answer:
    genres = tuple(NamedGenre(**genre) for genre in GENRES) if leading != "unsure" else ()
    values = {"confidence": 0.4, "scores": {"pop": 0.8, "rock": 0.2}, "tags": {"House": 0.4}, "genres": genres}
    return Answer("music/a.wav", 30.0, 18.0, leading, **(values | changes))


class TestHowItIsTold:
    def test_in_python_and_json(self) -> None:
        answer = wide_answer()
        assert answer.genre_names() == ("electronic", "house", "pop")
        assert answer.as_dict()["genres"] == GENRES
        assert not answer.is_calibrated and wide_answer("pop").is_calibrated
        assert wide_answer("unsure", reason="low confidence").genre_names() == ()

    def test_without_it_an_answer_has_one_genre_and_no_such_key(self) -> None:
        plain = wide_answer("pop", genres=None)
        assert "genres" not in plain.as_dict()
        assert (plain.genre_names(), plain.genre_names(0), plain.is_calibrated) == (("pop",), (), True)

    def test_in_csv_what_is_not_calibrated_says_so(self) -> None:
        [columns, cells] = csv.reader(
            io.StringIO(
                header_line("csv", resumable=False, wide=True)
                + format_line(record_of(wide_answer(), top=3, timeline=False, names_tags=False), "csv")
            )
        )
        row = dict(zip(columns, cells, strict=True))
        assert row["genre"] == "house"
        assert row["genres"] == "electronic 0.4 uncalibrated; electronic > house 0.4 uncalibrated; pop 0.8"

    def test_a_failure_has_the_same_keys(self) -> None:
        how: dict[str, Any] = {"top": 3, "timeline": False, "names_tags": False, "names_wide": True}
        assert record_of(Failure("a.wav", "no"), **how).keys() == record_of(wide_answer(), **how).keys()

    def test_the_table_has_no_percentage_for_a_tag(self, capsys: pytest.CaptureFixture[str]) -> None:
        for answer in (wide_answer(), wide_answer("pop", confidence=0.8)):
            Table(["music/a.wav"], load_wide().names, top=1, timeline=None).print(answer)
        first, second = capsys.readouterr().out.splitlines()
        assert first.split() == ["music/a.wav", "house", "tag", "electronic", ">", "house,", "pop", "80%;", "[House]"]
        assert second.split() == ["music/a.wav", "pop", "80%", "electronic", ">", "house;", "[House]"]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with both networks, of random weights, and a track beside it."""
    cache = tmp_path_factory.mktemp("wide") / "cache"
    variables = random_variables("musicnn", np.random.default_rng(2), 0.0)
    for name, values in variables.items():
        if name.endswith("moving_variance"):  # of next to nothing, which would make every value huge
            variables[name] = np.maximum(values, 0.5)
    for network in NETWORKS:
        save_bundle(cache / "bundles" / f"{network}.onnx", *convert(published(network), variables.__getitem__))
    rng = np.random.default_rng(7)
    soundfile.write(cache.parent / "a.wav", 0.1 * rng.standard_normal(4 * 16_000), 16_000)
    return cache


class TestTheClassifier:
    @pytest.fixture(autouse=True)
    def own_networks(self, networks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MUSICGENRE_CACHE", str(networks))

    def test_both_networks_are_heard_and_the_scores_of_the_ten_stay(self, networks: Path) -> None:
        track = networks.parent / "a.wav"
        ten, wide = Classifier(reject="none"), Classifier(genres="wide", reject="none")
        before, answer = ten.classify(track), wide.classify(track)
        assert answer.genres and answer.scores == before.scores and answer.tags == before.tags
        assert before.genre in answer.genre_names()
        assert set(answer.genre_names()) <= set(wide.labels) == set(wide.vocabulary) == set(load_wide().names)
        assert wide.names_wide and not ten.names_wide
        assert wide.model == ten.model and wide.model_sha256 != ten.model_sha256

    def test_the_command_tells_it(self, networks: Path) -> None:
        track = networks.parent / "a.wav"
        words = ("classify", str(track), "--genres", "wide", "--reject", "none", "--format")
        record = json.loads(run(*words, "json").stdout)
        assert record["genres"][0].keys() == {"name", "family", "score", "calibrated"}
        assert record["genre"] in [genre["name"] for genre in record["genres"]]
        assert run(*words, "csv").stdout.decode().startswith("path,genre,genres,confidence,")
        assert record["genre"] in run(*words, "table").stdout.decode()

    def test_results_of_the_ten_are_heard_again(self, networks: Path, tmp_path: Path) -> None:
        words = ("classify", str(networks.parent / "a.wav"), "--output", str(tmp_path / "answers.jsonl"))
        assert run(*words).returncode == 0
        assert run(*words, "--resume", "--genres", "wide").returncode == 0
        first, second = map(json.loads, (tmp_path / "answers.jsonl").read_text().splitlines())
        assert "genres" not in first and "genres" in second

    def test_a_csv_of_it_goes_on(self, networks: Path, tmp_path: Path) -> None:
        track, moved = networks.parent / "a.wav", tmp_path / "moved.wav"
        words = ("--output", str(tmp_path / "answers.csv"), "--genres", "wide", "--reject", "none")
        assert run("classify", str(track), *words).returncode == 0
        shutil.copy(track, moved)
        assert run("classify", str(moved), *words, "--resume").returncode == 0
        first, second = csv.DictReader(io.StringIO((tmp_path / "answers.csv").read_text()))
        assert first["genres"] == second["genres"] != ""

    def test_a_map_to_begin_with_lists_its_names(self, tmp_path: Path) -> None:
        output = tmp_path / "genres.toml"
        assert run("library", "map", "init", "--genres", "wide", "--output", str(output)).returncode == 0
        assert '"progressive rock" = "progressive rock"' in output.read_text()

    def test_its_map_says_that_the_plan_needs_it_too(self, tmp_path: Path) -> None:
        output = tmp_path / "genres.toml"
        said = run("library", "map", "init", "--genres", "wide", "--output", str(output)).stdout.decode()
        assert f"use it with: musicgenre library plan MUSIC --genres wide --map {output}" in said
        with pytest.raises(UsageError, match="plan with --genres wide, too"):
            read_map(output, scores_of().keys())

    def test_where_hardly_a_tag_is_heard_none_speaks(self) -> None:
        """As of a voice that stays near music: its few tags are chance."""
        listener = Classifier(genres="wide")._listener
        assert isinstance(listener, WideListener)
        tags = np.full((3, 50), 0.001, np.float32)
        tags[:, published(MSD).tags.index("folk")] = 0.9
        known = listener._ten.support
        assert known is not None
        near = known.centre + known.scale * (np.array([[9.0], [-9.0], [0.0]]) * known.axes[0])
        outputs = {"tags": tags, "embedding": near.astype(np.float32), "second_tags": np.full((3, 50), 0.001)}
        hears_little = Heard(outputs, [0, 1, 2], 30.0, (), source_rate_hz=16_000)
        assert not known.is_strange(near) and known.least_tags > tags.sum(axis=1).mean()
        answer = listener.answer(None, hears_little)
        assert (answer.genre, answer.genres) == ("unsure", ())
        assert listener.answer(None, hears_little, reject=False).is_sure

    def test_other_models_have_no_such_vocabulary(self) -> None:
        with pytest.raises(UsageError, match="stands on the default model"):
            Classifier("mtt-musicnn", genres="wide")
        with pytest.raises(UsageError, match="are not known"):
            Classifier(genres="all")  # type: ignore[arg-type]

    def test_it_needs_the_second_network(
        self, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "bundles").mkdir()
        shutil.copy(networks / "bundles" / f"{MSD}.onnx", tmp_path / "bundles")
        monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path))
        with pytest.raises(BundleError, match="musicgenre bundles get"):
            Classifier(genres="wide")

    def test_a_network_without_its_tags_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        zydeco = WideGenre("zydeco", "zydeco", calibrated=False, tags={MTT: {"zydeco": 0.2}})
        monkeypatch.setattr("musicgenre.listening.wide.load_wide", lambda: Vocabulary((zydeco,), 2.0, {}))
        with pytest.raises(BundleError, match="mtt-musicnn lacks the tags zydeco"):
            Classifier(genres="wide")


@pytest.mark.slow
@pytest.mark.usefixtures("default_bundle_cache")
class TestTheTestBeds:
    """Real data: the published weights."""

    def answers(self, sounds: list[beds.BedSound]) -> dict[str, Answer]:
        wide = Classifier(genres="wide")
        return {sound.name: wide.classify(sound.source, sample_rate_hz=beds.RATE_HZ) for sound in sounds}

    def test_tones_noise_and_silence_are_still_unsure(self) -> None:
        answers = self.answers(list(beds.synthetic()))
        assert [name for name, answer in answers.items() if answer.is_sure] == []
        assert {answer.reason for answer in answers.values()} == {
            "not music",
            "unlike the training music",
            "too quiet",
        }

    def test_speech_is_still_unsure(self) -> None:
        sounds = list(beds.speech())
        if not sounds:
            pytest.skip("espeak-ng is not installed")
        sure = [name for name, answer in self.answers(sounds).items() if answer.is_sure]
        assert len(sure) <= 0.05 * len(sounds), sure

    def test_the_ten_genres_keep_their_answers(self, shared_data: Path) -> None:
        tracks = sorted((shared_data / "gtzan-mini" / "genres").glob("*/*.wav"))[::3]
        ten, wide = Classifier(), Classifier(genres="wide")
        others = []
        for track in tracks:
            before, answer = ten.classify(track), wide.classify(track)
            if before.is_sure:
                assert before.genre in answer.genre_names()
                others += [track.stem] if answer.genre != before.genre else []
        assert len(others) <= 0.05 * len(tracks), others
