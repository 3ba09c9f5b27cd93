"""Models are found in a folder, our cache, the hub's cache or the hub; nothing of theirs is ever run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from musicgenre._files import sha256_of
from musicgenre.errors import BundleError
from musicgenre.features.published.transformers.hub import find_model
from musicgenre.features.registry import create_representation
from tests.tiny_transformers import make_model

NAME = "someone/tiny-hubert"


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, and no network."""
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in a folder."""
    return make_model(tmp_path_factory.mktemp("published"), "distilhubert")


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    """The same, to be spoilt."""
    return Path(shutil.copytree(published, tmp_path / "copy"))


def change(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text("utf-8")) | values
    path.write_text(json.dumps(content), encoding="utf-8")


def test_a_folder_is_taken_as_it_is(published: Path) -> None:
    found = find_model(str(published))
    assert found.folder == published and found.config["model_type"] == "hubert"
    assert found.processor["sampling_rate"] == 16_000
    assert found.sha256 == sha256_of(published / "model.safetensors")


@pytest.mark.parametrize("name", [NAME, "tiny-hubert", "/another/machine/tiny-hubert"])
def test_a_folder_in_our_cache_stands_in_for_any_name(name: str, published: Path, tmp_path: Path) -> None:
    kept = tmp_path / "cache" / "models" / "tiny-hubert"
    shutil.copytree(published, kept)
    assert find_model(name).folder == kept


@pytest.mark.parametrize("name", ["{folder}", "~/tiny-hubert", "/another/machine/tiny-hubert", NAME])
def test_cards_name_the_model_and_no_path(
    name: str, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(published, tmp_path / "tiny-hubert"))
    monkeypatch.setenv("HOME", str(tmp_path))
    told = find_model(str(folder)).described(name.format(folder=folder), 16_000, None)
    assert told["name"] == (NAME if name == NAME else "tiny-hubert")


def test_the_cache_of_the_hub_needs_no_network(published: Path, hub_cache: Path) -> None:
    own = hub_cache / "models--someone--tiny-hubert"
    shutil.copytree(published, own / "snapshots" / "abc")
    (own / "refs").mkdir()
    (own / "refs" / "main").write_text("abc", encoding="utf-8")
    assert find_model(NAME).folder == own / "snapshots" / "abc"


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_only_descriptions_and_weights_are_fetched(
    file: str, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def listing(_: object, name: str, *, timeout: float) -> SimpleNamespace:
        assert name == NAME and timeout <= 10
        names = ("config.json", "preprocessor_config.json", "modeling_evil.py", file, "tf_model.h5")
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=each) for each in names])

    def fetch(name: str, *, local_files_only: bool = False, **options: Any) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("not here")
        asked.extend(options["allow_patterns"])
        shutil.copytree(published, tmp_path / "fetched")
        (tmp_path / "fetched" / "model.safetensors").rename(tmp_path / "fetched" / file)
        return str(tmp_path / "fetched")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", listing)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert find_model(NAME).weights == tmp_path / "fetched" / file
    assert asked == ["config.json", "preprocessor_config.json", file]


def test_without_network_and_cache_the_error_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        find_model("facebook/wav2vec2-base")
    text = str(caught.value)
    assert "https://huggingface.co/facebook/wav2vec2-base" in text
    assert str(tmp_path / "cache" / "models" / "wav2vec2-base") in text and str(tmp_path / "hub") in text
    assert "could not be fetched" in text and "model.safetensors" in text
    assert "there is no folder facebook/wav2vec2-base here" in text and "give its whole path" in text


@pytest.mark.parametrize("error", [HfHubHTTPError.__bases__[0]("name not known"), TimeoutError("timed out")])
def test_a_broken_network_is_the_same_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", broken)
    with pytest.raises(BundleError, match=f"could not be fetched \\({error}\\)"):
        find_model(NAME)


def test_what_is_no_name_is_never_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> str:
        raise AssertionError("asked the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", never)
    for name in ("./nowhere", "a/b/c", "models", ""):
        with pytest.raises(BundleError, match="no model folder"):
            find_model(name)


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_a_model_that_wants_code_is_refused(file: str, copy: Path) -> None:
    change(copy / file, auto_map={"AutoModel": "modeling_evil.Evil"})
    (copy / "modeling_evil.py").write_text("raise SystemExit('code of a model was run')\n", encoding="utf-8")
    with pytest.raises(BundleError, match="none is ever run"):
        find_model(str(copy))


def test_missing_and_damaged_files_are_named(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "kept")
    with pytest.raises(BundleError, match="no weights"):
        find_model(str(copy))
    (copy / "kept").rename(copy / "model.safetensors")
    (copy / "config.json").write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(BundleError, match="no JSON object"):
        find_model(str(copy))
    (copy / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(BundleError, match=r"config\.json cannot be read"):
        find_model(str(copy))
    (copy / "preprocessor_config.json").unlink()
    (copy / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BundleError, match="has no preprocessor_config"):
        find_model(str(copy))


def test_other_weights_than_before_are_refused(published: Path, copy: Path) -> None:
    settings = create_representation("transformer", model=str(copy), segment_s=1.0).settings()
    options = {key: value for key, value in settings.items() if key not in ("name", "version")}
    shutil.copy(make_model(copy.parent, "distilhubert", seed=4) / "model.safetensors", copy)
    with pytest.raises(BundleError, match="not those that were used before"):
        create_representation("transformer", **options)
