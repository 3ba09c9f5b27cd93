"""Every recipe of the package, taken through the whole chain with reduced inputs, from WAV files on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from musicgenre import Classifier
from musicgenre.data.manifest import read_manifest, write_manifest
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.exporting import export
from musicgenre.exporting.export import export_run
from musicgenre.features.published.vggish.network import network_of
from musicgenre.runs.folder import open_run, read_description
from musicgenre.training.recipe_names import list_recipes
from musicgenre.training.recipes import load_recipe
from musicgenre.training.train import train
from musicgenre.training.trained import load_trained
from tests.labelled_music import LABELS, TAGS, make_collection, make_tagged
from tests.narrow import NARROW
from tests.tiny_transformers import make_model

SEGMENT_S = 2.0
"""Length of a segment, where a recipe has any, and of every track."""
_SMALL_MEL = f"{{name: melspectrogram, preset: %s, segment_s: {SEGMENT_S}, n_mels: 32}}"
_EMBEDDING = "{name: musicnn, weights: none, whole_track: true}"
SMALLER = {
    "melspectrogram": [f"representation.options.segment_s={SEGMENT_S}", "representation.options.n_mels=32"],
    "picture": [f"representation.options.segment_s={SEGMENT_S}", "representation.options.size=64"],
    "table": [f"representation.options.segment_s={SEGMENT_S}"],
    "joined": [],
    "mfcc": [f"representation.options.segment_s={SEGMENT_S}"],
    "musicnn": ["representation.options.weights=none", f"representation.options.segment_s={SEGMENT_S}"],
    "discogs-effnet": ["representation.options.weights=none", f"representation.options.segment_s={SEGMENT_S}"],
    "vggish": [],
    "waveform": [f"representation.options.segment_s={SEGMENT_S}"],
    "transformer": [f"representation.options.segment_s={SEGMENT_S}"],
}
# fresh weights, no download; narrow layers in place of those behind the convolutions that make a VGG large
_FRESH = ["model.options.weights=none"]
# two examples in place of the thirty of a bundle's row for whole tracks
_VGGISH = ["representation.options.weights=none", "representation.options.n_examples=2"]
PRETRAINED = {
    "mel-resnet34-segments-augmented": [*_FRESH, "model.options.size=32"],
    "mel-imagenet-depth-study": [*_FRESH, "model.options.size=32", "model.options.hidden=[16]"],
    "picture-vgg19": [*_FRESH, "model.options.hidden=[32, 16]"],
    "picture-resnext101": _FRESH,
    "vggish-tagger": _FRESH,
    "vggish-tagger-autopool": _FRESH,
    "vggish-tagger-stream": _FRESH,
    "vggish-tagger-stream-whole": [*_FRESH, "training.stream.epoch_examples=30"],
    "vggish-tagger-third-block": _FRESH,
    "picture-squeezenet": _FRESH,
    "musicnn-finetune": [*_FRESH, "model.options.width=0.05", "representation.options.n_mels=96"],
    "table-models-30s-both-parts": [
        "study.variants.random-forest={model.name: random-forest, model.options.n_trees: 10}"
    ],
    "vggish-logistic-regression": _VGGISH,
    "vggish-svm": _VGGISH,
}
TINY = {
    "wav2vec2-base": "wav2vec2",
    "distilhubert": "distilhubert",
    "hubert-base-ls960": "hubert",
    "wavlm-base-plus": "wavlm",
    "MERT-v1-95M": "mert",
    "ast-finetuned-audioset-10-10-0.4593": "ast",
    "clap-htsat-unfused": "clap",
}
_B9 = [f"representation.options.parts=[{_SMALL_MEL % 'b1'}, {_EMBEDDING}]", "model.options.bands=32"]
JOINED = {
    "fusion-cnn-table": [
        "representation.options.parts=[{name: melspectrogram, preset: a5, sample_rate_hz: 22050, hop_length: 2205, "
        f"segment_s: {SEGMENT_S}}}, {{name: table}}]"
    ],
    "fusion-cnn-table-msd": [
        f"representation.options.parts=[{_SMALL_MEL % 'a5'}, {{name: table}}, {_EMBEDDING}]",
        "model.options.bands=32",
    ],
    "musicnn-tags-table": [
        "representation.options.parts=[{name: musicnn, output: tags, weights: none}, {name: table}]"
    ],
    "fusion-cnn1d-msd": _B9,
    "fusion-cnn2d-msd": _B9,
    "fusion-cnn1d-rhythm": [
        f"representation.options.parts=[{_SMALL_MEL % 'b1'}, {{name: columns, names: [beat_rate_bpm, beat_strength], "
        "whole_track: true}]",
        "model.options.bands=32",
        "model.options.n_embedding=2",
    ],
    "fusion-resnet34": [*_B9, *_FRESH, "model.options.net_options={size: 32}"],
}
LARGE = {
    "mel-resnet34-segments-augmented", "mel-imagenet-depth-study", "picture-vgg19", "picture-resnext101",
    *(name for name in list_recipes() if name.startswith("fusion-resnet34")),
}  # fmt: skip
# other weights, or another block or model, alone tell these from their neighbours
TWINS = {name for name in list_recipes() if name.startswith("musicnn-mtt")}
TWINS |= {
    "wav2vec2-finetune-softmax-in-loss", "wavlm-linear-probe", "vggish-tagger", "vggish-tagger-third-block",
    "vggish-tagger-scratch", "vggish-tagger-stream", "vggish-tagger-stream-whole", "vggish-svm", "table-mlp-3s",
    "table-models-30s-both-parts", "musicnn-mlp-eight-genres-sgd", "musicnn-mlp-eight-genres-no-batch-norm",
}  # fmt: skip
RECIPES = [pytest.param(name, marks=pytest.mark.slow) if name in LARGE | TWINS else name for name in list_recipes()]
# what they read is that of musicnn-tags-table-logistic-regression
AT_TWO_LENGTHS = {"musicnn-tags-table-random-forest", "musicnn-tags-table-svm"}
FEW_STEPS = [
    "data.labels=[]",
    "training.epochs=1",
    "training.batch_size=4",
    "protocol.options={test_size: 0.34, validation_size: 0.17}",
]

pytestmark = pytest.mark.usefixtures("checked_on_short_tracks")


@pytest.fixture(scope="module", autouse=True)
def few_channels() -> Iterator[None]:
    """Let networks of a published size have few channels."""
    with pytest.MonkeyPatch.context() as patch:
        for narrow in NARROW.values():
            narrow(patch)
        network_of.cache_clear()
        yield
    network_of.cache_clear()


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of eighteen tracks."""
    return make_collection(tmp_path_factory.mktemp("music"), duration_s=SEGMENT_S)


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features are prepared once for all recipes; tiny models lie where the published ones would be kept."""
    folder = tmp_path_factory.mktemp("cache")
    for published, family in TINY.items():
        make_model(folder / "models", family).rename(folder / "models" / published)
    return folder


def reduced(name: str) -> list[str]:
    """Overrides that make a recipe small, everything else as it is."""
    recipe = load_recipe(name)
    wanted = [*FEW_STEPS, *SMALLER[recipe.representation.name], *PRETRAINED.get(name, [])]
    wanted += [setting for stem, settings in JOINED.items() if name.startswith(stem) for setting in settings]
    if recipe.protocol.name == "segment-leaky":
        wanted = [setting for setting in wanted if not setting.startswith("protocol.")]
    if recipe.protocol.name in ("artist", "song"):  # the collection names neither
        wanted.append("protocol.name=track")
    if recipe.model.name == "random-forest" and not recipe.variants():  # whose models take other options
        wanted.append("model.options.n_trees=10")
    return wanted


def manifest_for(name: str, collection: Path) -> Path:
    """The collection, or one with tags, or with soft targets, as the recipe's task wants it."""
    recipe = load_recipe(name)
    if not recipe.is_tagging:
        return collection
    path = collection.parent / f"{recipe.data.targets}.csv"
    if not path.is_file():
        tagged = read_manifest(make_tagged(collection.parent, duration_s=SEGMENT_S))
        if recipe.data.targets == "columns":
            soft = [
                {f"target:{tag}": "0.8" if tag in track.labels else "0.1" for tag in TAGS} for track in tagged.tracks
            ]
            pairs = zip(tagged.tracks, soft, strict=True)
            tagged = tagged.with_tracks(track.with_columns(**columns) for track, columns in pairs)
        write_manifest(tagged, path)
    return path


def runs_in(folder: Path) -> list[Path]:
    """The run itself, or the runs of its variants."""
    return sorted(path.parent for path in folder.rglob("run.json"))


@pytest.mark.filterwarnings("ignore:segment-leaky")
@pytest.mark.parametrize("name", RECIPES)
def test_recipe_from_wav_to_answer(
    name: str, collection: Path, shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(shared_cache))
    if name in AT_TWO_LENGTHS:
        monkeypatch.setattr(export, "_WHOLE_TRACKS_S", ())
    data = manifest_for(name, collection)
    output = train(name, data, output=tmp_path / "run", overrides=reduced(name))
    runs = runs_in(output)
    assert len(runs) == max(1, len(load_recipe(name).variants()))
    for run in runs:
        assert read_description(run)["status"] == "finished"
        assert load_trained(run).labels == (TAGS if load_recipe(name).is_tagging else LABELS)
        assert len(read_manifest(run / "manifest.csv")) >= 18
        check_use_of(run, data.parent / ("tagged/track07.wav" if data != collection else "jazz/jazz.00000.wav"))


def check_use_of(run: Path, track: Path) -> None:
    """Evaluate a run, export it, and hear a track with the bundle."""
    if open_run(run).is_tagging:
        check_use_of_tagger(run, track)
        return
    report = evaluate(run)
    assert report.n_tracks >= 5
    assert 0.0 <= report.accuracy.low <= report.accuracy.value <= report.accuracy.high <= 1.0
    assert report.leaky == (report.protocol == "segment-leaky")
    exported = export_run(run)
    assert exported.checked_on and exported.largest_difference <= 1e-3
    answer = Classifier(str(exported.path), threads=1).classify(track)
    assert set(answer.scores) == set(LABELS) and sum(answer.scores.values()) == pytest.approx(1.0)


def check_use_of_tagger(run: Path, track: Path) -> None:
    """Evaluate a tagger, export it, and hear a track with the bundle."""
    report = evaluate(run)
    assert report.n_tracks >= 5
    assert 0.0 <= report.roc_auc.low <= report.roc_auc.high <= 1.0
    exported = export_run(run)
    assert exported.checked_on and exported.largest_difference <= 1e-3
    answer = Classifier(str(exported.path), threads=1).classify(track)
    assert set(answer.tags) == set(TAGS) and answer.names_tags and not answer.genre
    assert set(answer.chosen) <= set(TAGS) and all(0.0 <= score <= 1.0 for score in answer.tags.values())
