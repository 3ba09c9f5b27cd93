from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicgenre.errors import BundleError
from musicgenre.models.discriminant import Linear
from musicgenre.models.head import FORMAT_VERSION, GenreHead, load_head, log_odds


def small_head(**changes: object) -> GenreHead:
    parts = {
        "name": "small",
        "bundle_name": "msd-musicnn",
        "inputs": "tags",
        "labels": ("bläs", "rock"),
        "linear": Linear(np.array([[1.0, -1.0], [0.5, 0.123456789], [0.0, 0.0]]), np.array([0.1, -0.2])),
        "temperature": 0.5,
        "segment_temperature": 1.0,
        "unsure_threshold": 0.6,
        "style_tags": ("soul",),
        "tag_threshold": 0.2,
        "card": {"notes": ["for tests"]},
    }
    return GenreHead(**{**parts, **changes})


def tampered(**changes: object) -> str:
    """A head whose content was changed, with a checksum that fits the change."""
    from musicgenre.models.head import _checksum

    content = {**json.loads(small_head().to_json()), **changes}
    return json.dumps({**content, "sha256": _checksum(content)})


@pytest.mark.parametrize("n_segments", [1, 2, 4, 10, 80])
def test_scores_are_probabilities_and_soften_with_fewer_segments(n_segments: int) -> None:
    head, tags = small_head(), np.tile([0.4, 0.1, 0.2], (n_segments, 1))
    scores = head.score(tags)
    assert scores.shape == (2,)
    assert scores.sum() == pytest.approx(1.0)
    assert head.score(np.tile(tags, (2, 1))).max() > scores.max()


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=6))
def test_any_probabilities_give_finite_scores(tags: list[list[float]]) -> None:
    head = small_head()
    timeline = head.timeline(tags)
    assert timeline.shape == (len(tags), 2)
    np.testing.assert_allclose(timeline.sum(axis=1), 1.0)
    assert np.isfinite(head.score(tags)).all()


def test_the_order_of_segments_does_not_matter(rng: np.random.Generator) -> None:
    head, tags = small_head(), rng.uniform(size=(7, 3))
    np.testing.assert_allclose(head.score(tags), head.score(tags[::-1]))


def test_one_segment_scores_as_in_the_timeline() -> None:
    head, tags = small_head(), np.array([[0.3, 0.6, 0.9]])
    np.testing.assert_allclose(head.score(tags), head.timeline(tags)[0])


def test_an_embedding_head_reads_the_embedding() -> None:
    head = small_head(inputs="embedding")
    embedding = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    np.testing.assert_allclose(head.features(np.zeros((2, 3)), embedding), [2.0, 2.0, 2.0])
    with pytest.raises(BundleError, match="was given embedding"):
        head.score(np.zeros((2, 3)))


@pytest.mark.parametrize("tags", [np.zeros((0, 3)), np.zeros((2, 4)), np.zeros(3)])
def test_tags_of_another_shape_are_refused(tags: np.ndarray) -> None:
    with pytest.raises(BundleError, match=r"\(segments, 3\)"):
        small_head().score(tags)


def test_log_odds_are_bounded() -> None:
    assert log_odds([0.5]).item() == 0.0
    assert np.abs(log_odds([0.0, 1.0])).max() == pytest.approx(9.21, abs=0.01)


def test_json_round_trip(tmp_path: Path) -> None:
    head = small_head()
    head.save(tmp_path / "head.json")
    again = GenreHead.load(tmp_path / "head.json")
    for part in dataclasses.fields(GenreHead):
        if part.name != "linear":
            assert getattr(again, part.name) == getattr(head, part.name)
    np.testing.assert_allclose(again.linear.weights, head.linear.weights, rtol=1e-6)
    assert again.to_json() == GenreHead.from_json(again.to_json()).to_json()


def test_a_changed_number_is_noticed() -> None:
    text = small_head().to_json().replace('"unsure_threshold": 0.6', '"unsure_threshold": 0.1')
    with pytest.raises(BundleError, match="does not match its checksum"):
        GenreHead.from_json(text)


def test_a_newer_format_says_what_to_do() -> None:
    with pytest.raises(BundleError, match="Update it"):
        GenreHead.from_json(tampered(format_version=FORMAT_VERSION + 1))


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", '{"format": "something else"}', "[" * 100_000),
        '{"format": "musicgenre-head", "format_version": 1, "labels": ["\\ud800"]}',
        '{"format": "musicgenre-head", "format_version": %s}' % ("1" * 5000),
    ],
)
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(BundleError):
        GenreHead.from_json(text, where="x.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["a", "b", "c"]},
        {"labels": ["a", "a"]},
        {"weights": [[1.0, 2.0], [3.0]]},
        {"weights": [[1.0], [2.0]]},
        {"weights": "many"},
        {"bias": [0.0]},
        {"bias": [0.0, None]},
        {"temperature": 0.0},
        {"temperature": "warm"},
        {"segment_temperature": -1.0},
        {"unsure_threshold": float("nan")},
        {"inputs": "pictures"},
        {"card": 3},
        {"format_version": 0},
        {"format_version": "1"},
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BundleError):
        GenreHead.from_json(tampered(**changes), where="x.json")


def test_a_missing_part_and_a_missing_file_are_named(tmp_path: Path) -> None:
    content = json.loads(small_head().to_json())
    del content["bias"]
    from musicgenre.models.head import _checksum

    content["sha256"] = _checksum(content)
    with pytest.raises(BundleError, match="bias"):
        GenreHead.from_json(json.dumps(content))
    with pytest.raises(BundleError, match=r"none\.json"):
        GenreHead.load(tmp_path / "none.json")


def test_the_default_head_is_whole_and_tells_where_it_comes_from() -> None:
    head = GenreHead.load_default()
    assert len(head.labels) == 10
    assert head.linear.weights.shape == (50, 10)
    assert head.bundle_name == "msd-musicnn"
    assert 0.5 < head.unsure_threshold < 0.8
    assert "House" in head.style_tags
    assert not set(head.style_tags) & {"blues", "country", "Hip-Hop", "jazz", "metal", "pop", "rock"}
    assert {"data", "protocol", "scores", "licences", "citations", "notes"} <= head.card.keys()
    assert "overlap GTZAN" in " ".join(head.card["notes"])


def test_the_default_head_knows_the_tags_of_its_bundle() -> None:
    from musicgenre.features.published.musicnn.published import published

    head = GenreHead.load_default()
    tags = published(head.bundle_name).tags
    assert set(head.style_tags) <= set(tags)
    for tag, genre in (("jazz", "jazz"), ("Hip-Hop", "hiphop"), ("country", "country"), ("blues", "blues")):
        row = head.linear.weights[tags.index(tag)]
        assert head.labels[int(row.argmax())] == genre, f"the tag {tag} speaks most for another genre"


@pytest.mark.real_data
def test_the_default_head_names_the_tracks_it_learned_from(shared_data: Path) -> None:
    """Not a score (it has seen them): the file in the package is the one that the script fitted."""
    with np.load(shared_data / "gtzan-musicnn-tags" / "train_filtered.npz") as arrays:
        tags, genre, names = arrays["X"], arrays["Y"], arrays["IDS"]
    head = GenreHead.load_default()
    _, starts = np.unique(names, return_index=True)
    right = [head.score(tags[names == names[start]][::3]).argmax() == genre[start] for start in starts]
    assert np.mean(right) > 0.85


def test_a_name_nearly_right_is_asked_about(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(BundleError, match=r"run is a folder\..* becomes such a file by: musicgenre export .*run"):
        load_head(tmp_path / "run")
    with pytest.raises(BundleError, match=r"there is no model 'defualt'.* Did you mean 'default'"):
        load_head("defualt")
    with pytest.raises(BundleError, match="Did you mean 'discogs-effnet'"):
        load_head("discogs-efnet")
