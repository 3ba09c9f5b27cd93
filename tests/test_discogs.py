"""Discogs-EffNet and Essentia's heads, from a server or a file to answers, on networks of their form.

The published weights were never here: these have random ones.
"""

from __future__ import annotations

import csv
import io
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import soundfile
from scripts.essentia_arrays import SOUNDS
from typer.testing import CliRunner

from musicgenre import Classifier
from musicgenre.audio import load
from musicgenre.bundle import essentia
from musicgenre.bundle.container import read_sealed
from musicgenre.bundle.load import load_bundle
from musicgenre.bundle.store import bundle_path, get_on_terms
from musicgenre.cli import app
from musicgenre.data.manifest import read_manifest
from musicgenre.embedding.embed import Embedder
from musicgenre.errors import BundleError, UsageError
from musicgenre.exporting.export import export_run
from musicgenre.features.mel.reference import melspectrogram
from musicgenre.features.published.essentia.files import kept_path, parse_metadata
from musicgenre.features.published.essentia.network import effnet_ports, front_graph, head_ports
from musicgenre.features.published.essentia.published import LEAD_SAMPLES, SPEC, TAIL_SAMPLES
from musicgenre.features.published.musicnn.weights import random_variables
from musicgenre.features.registry import create_representation
from musicgenre.listening.framing import Framing
from musicgenre.models.head import load_head
from musicgenre.training.recipes import load_recipe
from musicgenre.training.train import train
from tests import musicnn_reference
from tests.cli import json_lines, run
from tests.labelled_music import make_collection
from tests.published_effnet import (
    GENRES,
    METADATA,
    MODEL,
    effnet_model,
    head_model,
    metadata,
    publish_effnet,
    styles,
    write_effnet,
    write_head,
)
from tests.small_shards import served
from tests.toy import save_toy

pytestmark = pytest.mark.usefixtures("checked_on_short_tracks")

RATE_HZ = 16_000
ESSENTIA = Path(__file__).parent / "data" / "essentia.npz"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MUSICGENRE_CONFIG", str(tmp_path / "config"))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a network of the published form, which counts as published."""
    return publish_effnet(monkeypatch, tmp_path / "published")


@pytest.fixture
def effnet(model: Path) -> Path:
    """The bundle of that network."""
    return get_on_terms("discogs-effnet", accept_licence=True, source=model)


@pytest.fixture
def track(tmp_path: Path) -> Path:
    """Five seconds, the first half noise and the second a low tone."""
    random = np.random.default_rng(4)
    time_s = np.arange(5 * RATE_HZ) / RATE_HZ
    tone = 0.5 * np.sin(2 * np.pi * 150.0 * time_s)
    sound = np.where(time_s < 2.5, 0.3 * random.standard_normal(len(time_s)), tone)
    soundfile.write(tmp_path / "a track.wav", sound, RATE_HZ)
    return tmp_path / "a track.wav"


# The front end and the framing, held to arrays that Essentia made (scripts/essentia_arrays.py).


@pytest.mark.parametrize("name", SOUNDS)
def test_the_front_end_agrees_with_essentia(name: str) -> None:
    expected = np.load(ESSENTIA)[name]  # (frames, 96)
    padded = np.pad(SOUNDS[name](), (LEAD_SAMPLES, TAIL_SAMPLES))
    frames = melspectrogram(padded, replace(SPEC, center=False)).T
    assert frames.shape == expected.shape
    np.testing.assert_allclose(frames, expected, atol=1e-3)
    assert np.abs(frames - expected).mean() < 1e-5

    # What MusiCNN's own front end differs by is the window.
    periodic = melspectrogram(padded, replace(SPEC, center=False, window="periodic")).T
    assert 0.02 < np.abs(periodic - expected).max() < 0.1


def test_the_graph_of_the_front_end_makes_essentias_patch() -> None:
    session = onnxruntime.InferenceSession(front_graph(), providers=["CPUExecutionProvider"])
    row = np.pad(SOUNDS["sweep"](), (LEAD_SAMPLES, TAIL_SAMPLES)).astype(np.float32)[None]
    (patches,) = session.run(["patches"], {"waveform": row})
    np.testing.assert_allclose(patches, np.load(ESSENTIA)["sweep"][None], atol=1e-3)


def test_tracks_are_cut_where_essentia_cuts_them(effnet: Path) -> None:
    arrays = np.load(ESSENTIA)
    framing = Framing.of(load_bundle(effnet).card)
    assert [framing.n_segments(int(length)) for length in arrays["lengths"]] == arrays["n_patches"].tolist()

    # From a stream of blocks as from one array.
    for length, n_patches in zip(arrays["lengths"], arrays["n_patches"], strict=True):
        blocks = [np.ones(1000, np.float32)] * (length // 1000) + [np.ones(length % 1000, np.float32)]
        assert len(list(framing.rows(blocks))) == n_patches


# Getting it.


def test_it_is_fetched_checked_and_kept_as_it_is(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site" / "feature-extractors" / "discogs-effnet"
    folder.mkdir(parents=True)
    for file in (model, model.with_suffix(".json")):
        (folder / file.name).write_bytes(file.read_bytes())
    with served(tmp_path / "site") as address:
        monkeypatch.setattr("musicgenre.features.published.essentia.published.ADDRESS", address)
        done = run("bundles", "get", "discogs-effnet", "--accept-licence")
    assert done.returncode == 0, done.stderr.decode()
    assert b"both checksums are the published ones" in done.stderr

    for file in (model, model.with_suffix(".json")):
        assert kept_path(file.name).read_bytes() == file.read_bytes()
    content, card = read_sealed(bundle_path("discogs-effnet"))
    assert len(content) < 600_000  # the front end, and nothing of the network
    assert card.stages[0]["sha256"] == sha256(model.read_bytes()).hexdigest()
    assert card.tags == tuple(styles())
    assert "CC BY-NC-SA 4.0" in card.licence and "CC BY-NC-ND 4.0" in card.licence
    assert "not calibrated" in card.notes and "both checksums as published" in card.origin

    again = run("bundles", "get", "discogs-effnet")
    assert again.returncode == 0 and b"already there" in again.stderr
    assert b"discogs-effnet\tfine" in run("bundles", "verify").stdout


def test_nobody_agreed(model: Path) -> None:
    done = run("bundles", "get", "discogs-effnet", "--from", model)
    assert done.returncode == 2
    said = done.stderr.decode()
    assert "CC BY-NC-SA 4.0" in said and "musicgenre bundles get discogs-effnet --accept-licence" in said
    assert not bundle_path("discogs-effnet").exists() and not kept_path(MODEL).exists()
    with pytest.raises(UsageError, match="nobody agreed to the terms"):
        get_on_terms("discogs-effnet", source=model)


def test_of_two_who_get_it_one_fetches(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = essentia.make_bundle("discogs-effnet", source=model)
    n_inside: list[int] = []

    def slow(*_: object, **__: object) -> Any:
        n_inside.append(1)
        time.sleep(0.3)  # long enough for the other to come, were it not kept waiting
        return whole

    monkeypatch.setattr(essentia, "make_bundle", slow)
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: get_on_terms("discogs-effnet", accept_licence=True), range(2)))
    assert paths == [bundle_path("discogs-effnet")] * 2 and len(n_inside) == 1


@pytest.mark.parametrize(("said", "is_got"), [("y", True), ("n", False)])
def test_a_person_is_asked(said: str, is_got: bool, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr("musicgenre.cli.bundles.sys", SimpleNamespace(stdin=terminal, stderr=terminal))
    done = CliRunner().invoke(app, ["bundles", "get", "discogs-effnet", "--from", str(model)], input=f"{said}\n")
    assert "CC BY-NC-SA 4.0" in done.output and "Do you agree to these terms? [y/N]" in done.output
    assert bundle_path("discogs-effnet").is_file() == is_got
    assert (done.exit_code == 0) == is_got


def test_a_server_that_has_it_not(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path) as address:
        monkeypatch.setattr("musicgenre.features.published.essentia.published.ADDRESS", address)
        done = run("bundles", "get", "discogs-effnet", "--accept-licence")
    assert done.returncode != 0
    assert f"could not be fetched (HTTP Error 404: File not found). Fetch {MODEL}" in done.stderr.decode()


def test_without_it_models_say_how_to_get_it(track: Path) -> None:
    for command in (["classify", track], ["embed", track, "--output", "x.npz"]):
        done = run(*command, "--model", "discogs-effnet")
        assert b"discogs-effnet is not on this machine" in done.stderr
        assert b"musicgenre bundles get discogs-effnet shows its terms" in done.stderr
    with pytest.raises(BundleError, match="musicgenre bundles get discogs-effnet"):
        create_representation("discogs-effnet").make_ready()


def test_another_checksum(tmp_path: Path) -> None:
    other = write_effnet(tmp_path / "other")
    with pytest.raises(BundleError, match=f"{MODEL} is not the published file: its sha256 is .*--unverified"):
        get_on_terms("discogs-effnet", accept_licence=True, source=other)
    assert not kept_path(MODEL).exists()

    done = run("bundles", "get", "--from", other, "--accept-licence", "--unverified")
    assert done.returncode == 0, done.stderr.decode()
    card = load_bundle(bundle_path("discogs-effnet")).card
    assert f"UNVERIFIED: {MODEL} has another sha256 than the published file" in card.origin
    assert f"UNVERIFIED: {METADATA}" in card.origin

    shown = run("models", "discogs-effnet").stdout.decode()
    own = sha256(kept_path(MODEL).read_bytes()).hexdigest()
    assert f"unverified: the file at hand is not the published one: its sha256 is {own}" in shown
    removed = run("bundles", "remove", "discogs-effnet").stdout.decode().split()
    assert str(kept_path(MODEL)) in removed and str(kept_path(METADATA)) in removed


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch": 64}, "takes 64 patches at a time, no more and no fewer: a '-bs64' export"),
        ({"patch": (187, 96)}, r"takes serving_default_melspectrogram \(batch, 187, 96\)"),
        ({"patch": (96, 128)}, r"\(batch, 96, 128\)"),
        ({"widths": (400, 512)}, "gives PartitionedCall:0 400 wide, PartitionedCall:1 512 wide"),
        ({"widths": (519, 1280)}, "gives PartitionedCall:0 519 wide"),
        ({"logits": True}, "numbers in PartitionedCall:0 that are no probabilities"),
    ],
)
def test_other_forms_are_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BundleError, match=said):
        effnet_ports(effnet_model(**options), "a file")


def test_outputs_are_found_by_their_widths() -> None:
    ports = effnet_ports(effnet_model(names=("embeddings", "activations")), "a file")
    assert ports.outputs == {"tags": "embeddings", "embedding": "activations"}


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"no model", head_model(1280, 3)):
        with pytest.raises(BundleError, match="a file"):
            effnet_ports(content, "a file")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no", "is not JSON"),
        (b"[]", "names no classes"),
        (b'{"classes": []}', "names no classes"),
        (b'{"classes": ["a", 3]}', "has the class 3"),
        (b'{"classes": ["a\\nb"]}', "has the class"),
        (b'{"classes": ["a", "a"]}', "has the class 'a' twice"),
    ],
)
def test_metadata_that_is_none(content: bytes, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        parse_metadata(content, "a file")


def test_labels_of_another_number(model: Path, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_bytes(metadata(styles()[:-1]))
    with pytest.raises(BundleError, match=r"names 399 classes, and the model gives 400"):
        get_on_terms(
            "discogs-effnet", accept_licence=True, source=model, labels=tmp_path / "other.json", unverified=True
        )


def test_a_network_that_changed_after_it_was_got_is_refused(effnet: Path, track: Path) -> None:
    kept_path(MODEL).write_bytes(effnet_model(7))
    with pytest.raises(BundleError, match=r"is not the file that .* was made for"):
        Classifier("discogs-effnet")
    assert b"is not the file that" in run("bundles", "verify").stdout
    kept_path(MODEL).unlink()
    with pytest.raises(BundleError, match=r"needs the published file .*bundles get"):
        Classifier("discogs-effnet")


def test_removing_it_removes_the_published_files(effnet: Path) -> None:
    done = run("bundles", "remove", "discogs-effnet")
    assert done.returncode == 0
    assert not effnet.exists() and not kept_path(MODEL).exists() and not kept_path(METADATA).exists()


# What it answers.


def test_a_genre_is_as_probable_as_its_likeliest_style(effnet: Path, track: Path) -> None:
    answer = Classifier("discogs-effnet", coverage="full").classify(track)
    rows = _rows(track)
    outputs = load_bundle(effnet).run(rows)
    means = dict(zip(styles(), outputs["tags"].mean(axis=0, dtype=np.float64), strict=True))

    assert len(answer.timeline) == len(rows) == 4
    assert answer.tags == pytest.approx(means)
    for genre, score in answer.scores.items():
        assert score == pytest.approx(max(p for style, p in means.items() if style.startswith(f"{genre}---")))
    assert set(answer.scores) == set(GENRES)
    best = max(means, key=lambda style: means[style])
    assert answer.genre == best.partition("---")[0] and answer.style == best
    assert answer.confidence == pytest.approx(means[best])
    assert answer.unsure_threshold == 0.3 and answer.sections
    assert "CC BY-NC-SA" in answer.model_card["licence"] and "not calibrated" in answer.model_card["notes"]


def test_the_default_model_says_nothing_of_terms(effnet: Path) -> None:
    toy = save_toy(effnet.parent / "toy.onnx")
    answer = Classifier(str(toy)).classify(np.zeros(8_000, np.float32), sample_rate_hz=8_000)
    assert answer.model_card == {} and "model_card" not in answer.as_dict()


def test_labels_survive_every_format(effnet: Path, track: Path) -> None:
    whole = Classifier("discogs-effnet", coverage="full").classify(track)
    every = ["classify", track, "--model", "discogs-effnet", "--coverage", "full", "--top", "400"]
    (record,) = json_lines(run(*every, "--format", "json", "--timeline"))
    assert list(record["tags"]) == list(whole.tags) and list(record["scores"]) == list(whole.scores)
    assert record["model_card"]["licence"].startswith("CC BY-NC-SA 4.0")
    assert record["style"] == whole.style

    text = run(*every, "--format", "csv").stdout.decode()
    (row,) = csv.DictReader(io.StringIO(text))
    named = [cell.rpartition(" ")[0] for cell in row["tags"].split("; ")]
    assert named == list(whole.tags) and row["genre"] == whole.genre
    assert any("," in name and "/" in name and "&" in name for name in named)

    lines = run(*every, "--format", "tsv").stdout.decode().splitlines()
    tsv = dict(zip(lines[0].split("\t"), lines[1].split("\t"), strict=True))
    assert tsv["tags"] == row["tags"]

    shown = run(*every, "--format", "table").stdout.decode()
    in_brackets = shown.partition("[")[2].rpartition("]")[0].split("; ")
    for name in named:
        genre, _, style = name.partition("---")
        assert (style if genre == whole.genre else f"{style} ({genre})") in in_brackets


def test_genres_with_separators_go_through_options_and_tables(tmp_path: Path) -> None:
    rows = ["path,label"]
    for number, genre in enumerate(GENRES):
        soundfile.write(tmp_path / f"{number}.wav", np.full(800, number / 20), 8_000)
        rows.append(f'{number}.wav,"{genre}"')
    (tmp_path / "table.csv").write_text("\n".join(rows))

    wanted = {genre for genre in GENRES if set(genre) & set(",/&")}
    options = [word for genre in wanted for word in ("--labels", genre)]
    done = run("data", "index", tmp_path / "table.csv", *options, "--output", tmp_path / "out.csv")
    assert done.returncode == 0, done.stderr.decode()
    assert {track.label for track in read_manifest(tmp_path / "out.csv").tracks} == wanted


def test_below_the_threshold_it_is_unsure_and_names_no_style(
    track: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_effnet(monkeypatch, tmp_path / "published", bias=-4.0)
    get_on_terms("discogs-effnet", accept_licence=True, source=tmp_path / "published")
    answer = Classifier("discogs-effnet").classify(track)
    assert (answer.genre, answer.style, answer.is_sure) == ("unsure", None, False)
    assert 0.02 < answer.confidence < 0.3 and len(answer.candidates) > 1


def test_a_short_sound_is_repeated(effnet: Path) -> None:
    answer = Classifier("discogs-effnet").classify(np.ones(8_000, np.float32), sample_rate_hz=RATE_HZ)
    assert len(answer.timeline) == 1
    assert any("repeated to the 2.0" in warning for warning in answer.warnings)


def test_embed_and_similar(effnet: Path, track: Path, tmp_path: Path) -> None:
    vector = Embedder("discogs-effnet", coverage="full").embed(track).vector
    expected = load_bundle(effnet).run(_rows(track))["embedding"].mean(axis=0)
    np.testing.assert_allclose(vector, expected, rtol=2e-3, atol=2e-3)
    assert Embedder("discogs-effnet", what="tags").embed(track).vector.shape == (400,)

    collection = make_collection(tmp_path / "music", tracks_a_label=2).parent
    done = run("embed", collection, "--model", "discogs-effnet", "--output", tmp_path / "music.npz")
    assert done.returncode == 0, done.stderr.decode()
    found = run("similar", collection / "jazz" / "jazz.00000.wav", "--index", tmp_path / "music.npz")
    assert found.returncode == 0 and b"jazz.00001.wav" in found.stdout.splitlines()[0], found.stdout


def test_teach_holds_the_head_and_the_checksum(effnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musicgenre.teaching.teach._MANY_TRACKS", 0)  # one round of trials: the head is what counts
    collection = make_collection(tmp_path / "music", tracks_a_label=4).parent
    done = run("teach", collection, "--name", "mine", "--model", "discogs-effnet")
    assert done.returncode == 0, done.stderr.decode()

    head = load_head("mine")
    assert (head.bundle_name, head.inputs, head.style_tags) == ("discogs-effnet", "embedding", ())
    assert head.ears_sha256 == sha256(kept_path(MODEL).read_bytes()).hexdigest()
    assert head.linear.weights.shape == (1280, 3)
    assert "CC BY-NC-SA" in head.card["licences"]["discogs-effnet weights"]

    answer = Classifier("mine").classify(collection / "metal" / "metal.00000.wav")
    assert max(answer.scores, key=lambda genre: answer.scores[genre]) == "metal"
    assert "CC BY-NC-SA" in answer.model_card["licence"]

    get_on_terms(
        "discogs-effnet", accept_licence=True, source=write_effnet(tmp_path / "other", seed=5), unverified=True
    )
    with pytest.raises(BundleError, match="mine was taught on another discogs-effnet"):
        Classifier("mine")


def test_a_name_that_is_nobodys_is_refused_before_its_terms_are_shown() -> None:
    done = run("bundles", "get", "nosuch")
    assert done.returncode == 2 and b"no published model is called 'nosuch'" in done.stderr
    assert b"Licence" not in done.stderr


def test_teach_needs_an_embedding(effnet: Path, tmp_path: Path) -> None:
    _get_head("tags-discogs-effnet-1", head_model(1280, 3), metadata(["a", "b", "c"]), tmp_path)
    collection = make_collection(tmp_path / "music", tracks_a_label=2).parent
    done = run("teach", collection, "--name", "mine", "--model", "tags-discogs-effnet-1")
    assert done.returncode != 0 and b"gives no embedding to teach on: it is a classifier" in done.stderr


# As a representation.


def test_the_representation_hears_what_the_bundle_hears(effnet: Path, track: Path) -> None:
    outputs = load_bundle(effnet).run(_rows(track))
    waveform = load(track, RATE_HZ).waveform
    for output in ("embedding", "tags"):
        heard = create_representation("discogs-effnet", output=output).compute(waveform)
        np.testing.assert_allclose(heard, outputs[output].mean(axis=0), rtol=1e-4, atol=1e-5)

    stored = create_representation("discogs-effnet").settings()
    assert stored["weights_sha256"] == sha256(kept_path(MODEL).read_bytes()).hexdigest()
    with pytest.raises(BundleError, match="made with another discogs-effnet"):
        create_representation("discogs-effnet", weights_sha256="0" * 64).make_ready()


def test_a_run_on_it_exports_the_head_and_the_checksum(effnet: Path, tmp_path: Path) -> None:
    manifest = make_collection(tmp_path / "music")
    options = ["protocol.name=track", "protocol.options={test_size: 0.34, validation_size: 0.17}"]
    recipe = load_recipe("discogs-effnet-logistic-regression", [*options, "representation.options.segment_s=3.0"])
    folder = train(recipe, manifest, output=tmp_path / "runs")
    exported = export_run(folder, tmp_path / "mine.onnx")

    content, card = read_sealed(tmp_path / "mine.onnx")
    assert len(content) < 100_000 < len(kept_path(MODEL).read_bytes())
    assert card.front_end["weights_sha256"] == sha256(kept_path(MODEL).read_bytes()).hexdigest()
    assert "CC BY-NC-SA" in card.terms and "discogs-effnet" in card.notes
    answer = Classifier(str(exported.path)).classify(tmp_path / "music" / "jazz" / "jazz.00000.wav")
    assert answer.genre == "jazz" and "CC BY-NC-SA" in answer.model_card["licence"]


# Heads.


def test_a_head_of_many_tags(effnet: Path, track: Path, tmp_path: Path) -> None:
    classes = [f"genre {number}" for number in range(87)]
    name = "mtg_jamendo_genre-discogs-effnet-1"
    said = metadata(classes, predictions="model/Sigmoid", embedding_model="discogs-effnet-bs64-1")
    path = _get_head(name, head_model(1280, 87), said, tmp_path)

    card = load_bundle(path).card
    assert (card.task, card.activation, card.labels) == ("multi_label", "none", tuple(classes))
    assert "no published checksum" in card.origin and len(card.stages) == 2

    (record,) = json_lines(run("classify", track, "--model", name, "--coverage", "full", "--format", "json"))
    embedding = load_bundle(effnet).run(_rows(track))["embedding"]
    expected = _run_head(tmp_path / f"{name}.onnx", embedding).mean(axis=0)
    best = int(expected.argmax())
    assert next(iter(record["tags"])) == classes[best] and record["genre"] is None
    assert record["tags"][classes[best]] == pytest.approx(float(expected[best]), abs=1e-4)
    assert record["model_card"]["licence"].startswith("CC BY-NC-SA")


def test_a_head_that_names_one_class(effnet: Path, track: Path, tmp_path: Path) -> None:
    model = write_head(tmp_path, "mine", head_model(1280, 3, activation="Softmax", batch=1), b"")
    (tmp_path / "labels.json").write_bytes(metadata(["a", "b, c / d", "e & f"], predictions="model/Softmax"))
    options = ("--from", model, "--labels", tmp_path / "labels.json", "--accept-licence")
    done = run("bundles", "get", "my-head", *options)
    assert done.returncode == 0, done.stderr.decode()

    answer = Classifier("my-head").classify(track)
    assert sum(answer.scores.values()) == pytest.approx(1.0)
    assert set(answer.scores) == {"a", "b, c / d", "e & f"} and answer.unsure_threshold == 0.5
    assert "not calibrated" in answer.model_card["notes"]
    assert answer.model_card["licence"].startswith("not stated: ask whoever made it. Essentia's own")
    assert answer.model_card["origin"].startswith("not stated: mine.onnx, a file on this machine")


def test_a_head_on_musicnn(track: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"msd-musicnn": random_variables("musicnn")}
    monkeypatch.setattr("musicgenre.features.published.musicnn.weights.read_variables", lambda *_, **__: variables)
    name = "genre_dortmund-msd-musicnn-1"
    said = metadata(["alternative", "blues"], predictions="model/Softmax", embedding_model="msd-musicnn-1")
    path = _get_head(name, head_model(200, 2, activation="Softmax"), said, tmp_path)
    assert len(load_bundle(path).card.stages) == 1
    answer = Classifier(name, coverage="full").classify(track)

    # Essentia's frames, patches of 187 every 93, MusiCNN's dense layer without its ReLU, the head.
    padded = np.pad(load(track, RATE_HZ).waveform, (LEAD_SAMPLES, TAIL_SAMPLES))
    frames = melspectrogram(padded, replace(SPEC, center=False)).T
    patches = [frames[start : start + 187] for start in range(0, len(frames) - 186, 93)]
    read = variables["msd-musicnn"].__getitem__
    dense = np.stack([musicnn_reference.outputs(patch, read)["dense"] for patch in patches]).astype(np.float32)
    expected = _run_head(tmp_path / f"{name}.onnx", dense, "model/Softmax:0").mean(axis=0)
    assert len(answer.timeline) == len(patches) == 2
    assert [answer.scores["alternative"], answer.scores["blues"]] == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_head_is_fetched_by_its_name(
    effnet: Path, track: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "classification-heads" / "fma_small"
    folder.mkdir(parents=True)
    labels = metadata([f"genre {number}" for number in range(8)], predictions="model/Sigmoid")
    write_head(folder, "fma_small-discogs-effnet-1", head_model(1280, 8), labels)
    with served(tmp_path) as address:
        monkeypatch.setattr("musicgenre.features.published.essentia.published.ADDRESS", address)
        done = run("bundles", "get", "fma_small-discogs-effnet-1", "--accept-licence")
    assert done.returncode == 0, done.stderr.decode()
    assert Classifier("fma_small-discogs-effnet-1").names_tags

    # Its ears stay as long as it needs them.
    run("bundles", "remove", "discogs-effnet")
    assert kept_path(MODEL).exists() and not bundle_path("discogs-effnet").exists()
    run("bundles", "remove", "fma_small-discogs-effnet-1")
    assert not any(kept_path(MODEL).parent.iterdir())


def test_a_head_needs_its_ears(tmp_path: Path) -> None:
    labels = metadata(["a", "b"], predictions="model/Sigmoid")
    with pytest.raises(BundleError, match="First: musicgenre bundles get discogs-effnet"):
        _get_head("x-discogs-effnet-1", head_model(1280, 2), labels, tmp_path)


@pytest.mark.parametrize(
    ("model", "classes", "said"),
    [
        (effnet_model(), 2, r"is no head: it takes serving_default_melspectrogram \(batch, 128, 96\)"),
        (head_model(1280, 3), 2, "gives model/Sigmoid:0 3 wide"),
        (head_model(1280, 2, activation="Tanh"), 2, "that are no probabilities"),
        (head_model(1280, 2, batch=64), 2, "takes 64 rows at a time"),
    ],
)
def test_other_forms_of_heads(model: bytes, classes: int, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        head_ports(model, classes, "model/Tanh" if b"Tanh" in model else "model/Sigmoid", "a file")


@pytest.mark.parametrize(
    ("width", "ears", "said"),
    [
        (128, "", "128 numbers, which nothing here gives"),
        (1280, "discogs_track_embeddings-effnet-bs64-1", "1280 numbers of discogs_track"),
    ],
)
def test_heads_on_other_ears(effnet: Path, width: int, ears: str, said: str, tmp_path: Path) -> None:
    labels = metadata(["a", "b"], predictions="model/Sigmoid", embedding_model=ears)
    with pytest.raises(BundleError, match=said):
        _get_head("mine", head_model(width, 2), labels, tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such-model", "--accept-licence"], "no published model is called 'no-such-model'"),
        (["default", "--accept-licence"], "the name of the model that comes with musicgenre"),
        (["msd-musicnn", "--unverified"], "--labels and --unverified go with discogs-effnet"),
        (["a", "b", "--from", "x.onnx"], "cannot be 2 models"),
        (["discogs-effnet", "--from", "missing.onnx", "--accept-licence"], "missing.onnx does not exist"),
    ],
)
def test_misuse(words: list[str], said: str) -> None:
    done = run("bundles", "get", *words)
    assert done.returncode != 0 and said in done.stderr.decode()


def _get_head(name: str, model: bytes, labels: bytes, folder: Path) -> Path:
    return get_on_terms(name, accept_licence=True, source=write_head(folder, name, model, labels))


def _run_head(file: Path, embedding: np.ndarray, output: str = "model/Sigmoid:0") -> np.ndarray:
    """What a head says of embeddings on its own."""
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], {"model/Placeholder": embedding})[0])


def _rows(path: Path) -> np.ndarray:
    """Rows of the whole track, cut as Essentia cuts them."""
    padded = np.pad(load(path, RATE_HZ).waveform, (256, 511))
    return np.lib.stride_tricks.sliding_window_view(padded, 127 * 256 + 512)[:: 62 * 256]
