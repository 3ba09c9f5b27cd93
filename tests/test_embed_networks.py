"""`musicgenre embed` with VGGish and transformers: as the representations hear, kept apart by weights and settings."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from musicgenre.embedding.embed import Embedder, embed_tracks
from musicgenre.embedding.file import read_embeddings
from musicgenre.embedding.similar import SimilarityIndex, similar
from musicgenre.errors import BundleError, MusicgenreError, UsageError
from musicgenre.features.base import TrackSound
from musicgenre.features.published.vggish.network import VGGish, network_of
from musicgenre.features.registry import create_representation
from musicgenre.listening import hearing
from musicgenre.models.cards import list_cards
from musicgenre.models.registry import list_models
from tests.cli import run
from tests.fresh import run_python
from tests.narrow import narrow_vggish
from tests.published_vggish import write_network, write_pca
from tests.tiny_transformers import FAMILIES, make_model
from tests.toy import save_toy_ears

RATE_HZ = 16_000
FLOAT16 = {"rtol": 1e-3, "atol": 1e-3}


@pytest.fixture(scope="module")
def narrow() -> Iterator[None]:
    """Let VGGish have few channels."""
    with pytest.MonkeyPatch.context() as patch:
        narrow_vggish(patch)
        network_of.cache_clear()
        yield
    network_of.cache_clear()


@pytest.fixture(scope="module")
def models(narrow: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tiny transformer of every family, and files like the published ones of VGGish, of few channels."""
    folder = tmp_path_factory.mktemp("models")
    made = {family: make_model(folder, family) for family in FAMILIES}
    with torch.device("meta"):
        layers = {name: tuple(value.shape) for name, value in VGGish().state_dict().items()}
    shapes = {name.removesuffix(".weight"): shape for name, shape in layers.items() if name.endswith(".weight")}
    values = write_network(folder / "network.pth", shapes)
    last = torch.randn(128, 4096, generator=torch.Generator().manual_seed(1))
    values["embeddings.4.weight"] = 1e-9 * last  # what comes out fits float16
    torch.save(values, folder / "network.pth")
    write_pca(folder / "pca.npz")
    return made | {"vggish": folder / "network.pth", "pca": folder / "pca.npz"}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Three tracks of 1, 5 and 9 seconds."""
    rng = np.random.default_rng(5)
    (tmp_path / "library").mkdir()
    for index, seconds in enumerate((1, 5, 9)):
        soundfile.write(
            tmp_path / "library" / f"{index}.wav", rng.uniform(-0.3, 0.3, seconds * RATE_HZ) / (index + 1), RATE_HZ
        )
    return tmp_path / "library"


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network and an empty cache."""

    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))


def tracks_in(folder: Path) -> list[str]:
    return sorted(map(str, folder.glob("*.wav")))


def options_of(models: dict[str, Path], family: str) -> tuple[str, dict[str, Any]]:
    if family.startswith("vggish"):
        quantised = {"output": "quantised", "pca": str(models["pca"])} if family == "vggish-quantised" else {}
        return "vggish", {"weights": str(models["vggish"]), **quantised}
    return "transformer", {"model": str(models[family]), "segment_s": 2.0}


@pytest.mark.parametrize("family", [*FAMILIES, "vggish", "vggish-quantised"])
def test_a_track_is_what_the_representation_says_of_the_whole(
    models: dict[str, Path], library: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    name, options = options_of(models, family)
    embedder, representation = Embedder(name, options=options, threads=2), create_representation(name, **options)
    assert embedder.settings.coverage == "full"
    for path in tracks_in(library):
        heard = embedder.embed(path)
        np.testing.assert_allclose(heard.vector, TrackSound.of_file(path).whole(representation), **FLOAT16)
        assert ("zero-padded" in " ".join(heard.warnings)) == (path.endswith("0.wav") and name == "transformer")
        with monkeypatch.context() as long:  # tracks of hours are streamed
            long.setattr(hearing, "_LOAD_AT_MOST_S", 0.0)
            np.testing.assert_array_equal(embedder.embed(path).vector, heard.vector)


def test_layers_pools_and_coverage_choose_what_is_kept(models: dict[str, Path], library: Path) -> None:
    name, options = options_of(models, "wav2vec2")
    path = tracks_in(library)[2]
    for chosen in ({"layers": 1}, {"pool": "mean", "scale": "peak"}):
        expected = TrackSound.of_file(path).whole(create_representation(name, **options, **chosen))
        np.testing.assert_allclose(Embedder(name, options=options | chosen).embed(path).vector, expected, **FLOAT16)
    whole = create_representation(name, **options)
    waveform = soundfile.read(path, dtype="float32")[0]
    segments = [whole.compute(waveform[start : start + 2 * RATE_HZ]) for start in range(0, 8 * RATE_HZ, 2 * RATE_HZ)]
    most = Embedder(name, options=options, pool="max").embed(path).vector
    np.testing.assert_allclose(most, np.max(segments, axis=0), **FLOAT16)
    some = Embedder(name, options=options, coverage=4).embed(path).vector  # two segments, evenly spread
    np.testing.assert_allclose(some, np.mean([segments[1], segments[3]], axis=0), **FLOAT16)


def test_examples_of_vggish_can_be_heard_in_segments(models: dict[str, Path], library: Path) -> None:
    options = {"weights": str(models["vggish"]), "n_examples": 2}
    path = tracks_in(library)[1]
    expected = TrackSound.of_file(path).whole(create_representation("vggish", **options))
    np.testing.assert_allclose(Embedder("vggish", options=options).embed(path).vector, expected, **FLOAT16)


def test_the_command_goes_on_and_names_bad_tracks(models: dict[str, Path], library: Path) -> None:
    out = library / "out.npz"
    (library / "broken.wav").write_bytes(b"RIFF")
    model = ("--model", "transformer", "--set", f"model={models['hubert']}", "--set", "layers=1", "--jobs", "2")
    done = run("embed", library, "--output", out, *model, "--format", "json")
    assert done.returncode == 1 and done.stderr.count(b"broken.wav") == 1
    summary = json.loads(done.stdout)
    assert (summary["model"], summary["embedded"], summary["options"]["layers"]) == ("transformer", 3, 1)
    assert summary["location"] == {"model": str(models["hubert"])}
    (library / "broken.wav").unlink()
    again = run("embed", library, "--output", out, *model, "--resume")
    assert again.returncode == 0 and b"0 embedded, 3 done before" in again.stderr
    with np.load(out) as arrays:
        card = json.loads(bytes(arrays["card"]))
    assert card["model_sha256"] == create_representation("transformer", model=models["hubert"]).weights_sha256
    assert card["options"]["config_sha256"] and "model" not in card["options"]
    for line in run("similar", "1.wav", "--index", out).stdout.decode().splitlines():
        assert ".wav" in line


def test_models_and_settings_are_not_mixed(models: dict[str, Path], library: Path, tmp_path: Path) -> None:
    out, paths = library / "out.npz", tracks_in(library)
    name, options = options_of(models, "wavlm")
    embed_tracks(paths, Embedder(name, options=options), out)
    other = make_model(tmp_path, "wavlm", seed=4)
    for embedder, told in (
        (Embedder(name, options=options | {"layers": 1}), "--set layers last, not 1"),
        (Embedder(name, options=options | {"model": str(other)}), "--set model .*, not .*; model sha256"),
        (Embedder(name, options=options, pool="max"), "pool mean, not max"),
        (Embedder("vggish", options={"weights": "none"}), "model transformer, not vggish"),
        (Embedder(str(save_toy_ears(tmp_path / "ears.onnx"))), "model transformer, not toy-ears"),
    ):
        with pytest.raises(UsageError, match=told):
            embed_tracks(paths, embedder, out, resume=True)
    moved = shutil.copytree(models["wavlm"], tmp_path / "elsewhere")
    report = embed_tracks(paths, Embedder(name, options=options | {"model": str(moved)}), out, resume=True)
    assert (report.embedded, report.reused) == (0, 3), "the same weights, wherever they lie"
    (library / "2.wav").unlink()
    soundfile.write(library / "new.wav", np.full(RATE_HZ, 0.1), RATE_HZ)
    embed_tracks(tracks_in(library), Embedder(name, options=options | {"model": str(moved)}), out, resume=True)
    assert read_embeddings(out).settings.location == {"model": str(moved)}


def test_weights_named_by_a_relative_path_are_found_from_other_folders(
    models: dict[str, Path], library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for family, option in (("hubert", "model"), ("vggish", "weights")):
        name, options = options_of(models, family)
        monkeypatch.chdir(models[family].parent)
        out = tmp_path / f"{family}.npz"
        embed_tracks(tracks_in(library), Embedder(name, options=options | {option: models[family].name}), out)
        monkeypatch.chdir(tmp_path)
        assert read_embeddings(out).settings.location[option] == str(models[family])
        soundfile.write("new.wav", np.full(RATE_HZ, 0.1), RATE_HZ)
        assert len(similar("new.wav", SimilarityIndex.open(out))) == 3
    random = Embedder("vggish", options={"weights": "none"})
    assert random.settings.location["weights"] == "none", "a word, also beside a file of that name"


@pytest.mark.parametrize("family", ["mert", "vggish"])
def test_new_tracks_are_heard_as_the_index_was(
    models: dict[str, Path], library: Path, tmp_path: Path, family: str
) -> None:
    name, options = options_of(models, family)
    place = "weights" if name == "vggish" else "model"
    first, later = tmp_path / "first.pth", tmp_path / "later.pth"
    (shutil.copy if models[family].is_file() else shutil.copytree)(models[family], first)
    out = library / "out.npz"
    embed_tracks(tracks_in(library), Embedder(name, options=options | {place: str(first)}), out)
    index = SimilarityIndex.open(out)
    sound, _ = soundfile.read(tracks_in(library)[1])
    soundfile.write(tmp_path / "new.wav", 0.9 * sound, RATE_HZ)
    found = similar(tmp_path / "new.wav", index, top=3)
    assert len(found) == 3 and found[0].cosine > 0.99
    first.rename(later)
    with pytest.raises(BundleError, match=f"cannot be loaded.*--set {place}=PATH"):
        similar(tmp_path / "new.wav", index)
    assert similar(tmp_path / "new.wav", index, top=3, options={place: str(later)}) == found
    with pytest.raises(UsageError, match=f"another model: model {name}, not msd-musicnn"):
        similar(tmp_path / "new.wav", index, model="msd-musicnn")
    asked = run("similar", tmp_path / "new.wav", "--index", out, "--set", f"{place}={later}", "--top", "1")
    assert asked.returncode == 0 and Path(found[0].path).name in asked.stdout.decode()


def test_an_index_refuses_other_settings_and_weights(models: dict[str, Path], library: Path, tmp_path: Path) -> None:
    name, options = options_of(models, "distilhubert")
    embed_tracks(tracks_in(library), Embedder(name, options=options), library / "out.npz")
    index = SimilarityIndex.open(library / "out.npz")
    with pytest.raises(UsageError, match="--set layers last, not 1"):
        similar(tracks_in(library)[0], index, options={"layers": 1})
    other = make_model(tmp_path, "distilhubert", seed=4)
    with pytest.raises(BundleError, match="not those that were used before"):
        similar(tracks_in(library)[0], index, options={"model": str(other)})


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("transformer", {}, "needs the option model"),
        ("transformer", {"model": "no/such"}, "could not be fetched"),
        ("transformer", {"model": "AST", "layers": "all"}, "shape .*--set layers=last"),
        ("transformer", {"model": "AST", "pool": "none"}, "shape .*--set pool=model or pool=mean"),
        ("transformer", {"model": "AST", "layer": 3}, "Nearest: 'layers'"),
        ("transformer", {"model": "AST", "segment_s": "long"}, "segment_s='long'"),
        ("vggish", {"weights": "none", "output": "examples", "n_examples": 1}, "--set output=embedding"),
        ("vggish", {"weights": "none", "pool": "none", "n_examples": 2}, "--set pool=mean"),
        ("vggish", {"weights": 3}, "no file 3"),
        ("vggish", {}, r"Fetch https://.*\(prepare, embed: --set weights=FILE\)"),
        ("EARS", {"layers": 3}, "is a bundle, which takes no options: layers"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_what_cannot_be_is_refused(
    models: dict[str, Path], tmp_path: Path, model: str, options: dict[str, Any], words: str
) -> None:
    given = {key: str(models["ast"]) if value == "AST" else value for key, value in options.items()}
    model = str(save_toy_ears(tmp_path / "ears.onnx")) if model == "EARS" else model
    with pytest.raises(MusicgenreError, match=words):
        Embedder(model, options=given)


def test_tags_are_for_bundles(models: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match=r"transformer gives no tags.*msd-musicnn"):
        Embedder("transformer", options={"model": str(models["ast"])}, what="tags")


@pytest.mark.usefixtures("offline")
def test_every_model_that_is_listed_embeds_or_says_the_next_step() -> None:
    """What ``musicgenre models`` lists: the tests above let every family of embeddings be heard."""
    model_of = {name: name for name in list_models()} | {card.name: card.model for card in list_cards()}
    reads = {card.model: card.reads for card in list_cards()}
    bundles = {"msd-musicnn", "mtt-musicnn", "msd-vgg", "mtt-vgg", "discogs-effnet"}
    for name, model in model_of.items():
        with pytest.raises(MusicgenreError) as refused:  # nothing is in the cache
            Embedder(name)
        told = refused.value.next_step
        if name in bundles:
            assert "musicgenre bundles get" in told
        elif name in ("transformer", "vggish"):
            assert "docs/features.md" in told or "--set weights=FILE" in told
        elif model in ("musicnn", "musicnn-vgg"):
            assert set(told.split()) & bundles
        elif model in ("transformer", "vggish"):
            assert f"--model {model}" in told and (model == "vggish" or f"--set model={name}" in told)
        elif model in reads:
            assert reads[model].startswith("pictures") and "docs/imagenet.md" in told
        else:
            assert "musicgenre bundles list" in told


def test_folders_and_hub_names_lead_to_transformer(models: dict[str, Path]) -> None:
    for name in (str(models["ast"]), "someone/some-model"):
        with pytest.raises(BundleError, match="--model transformer --set model="):
            Embedder(name)
    with pytest.raises(BundleError, match="nearest name is vggish"):
        Embedder("vgish")


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [("vggish --set weights=none", "train"), ("transformer --set model=MODEL", "pretrained"), ("EARS", "")],
)
def test_the_light_install_names_the_extra(
    models: dict[str, Path], library: Path, tmp_path: Path, arguments: str, extra: str
) -> None:
    ears = save_toy_ears(tmp_path / "ears.onnx")
    words = arguments.replace("MODEL", str(models["ast"])).replace("EARS", str(ears)).split()
    command = ["musicgenre", "embed", str(library), "--output", str(tmp_path / "out.npz"), "--model", *words]
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'transformers', 'scipy', 'sklearn', 'numba')))\n"
        f"sys.argv = {command!r}\n"
        "from musicgenre.cli import main\n"
        "main()"
    )
    done = run_python(code)
    if extra:
        assert done.returncode == 2 and f"pip install -c constraints.txt 'musicgenre[{extra}]'" in done.stderr
    else:
        assert done.returncode == 0 and len(read_embeddings(tmp_path / "out.npz")) == 3


def test_a_folder_named_from_here_is_found_from_anywhere(
    models: dict[str, Path], library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models["hubert"].parent)
    embedder = Embedder("transformer", options={"model": models["hubert"].name})
    embed_tracks([library / "0.wav"], embedder, tmp_path / "made.npz")
    assert read_embeddings(tmp_path / "made.npz").settings.location == {"model": str(models["hubert"])}
