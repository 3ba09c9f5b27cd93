"""The script that puts published tags beside the 57 columns, and the recipes that read what it writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scripts import tags_and_table

from musicgenre.data.manifest import read_manifest
from musicgenre.errors import DataError
from musicgenre.features.representations.table import COLUMNS
from musicgenre.training.material import gather_material
from musicgenre.training.recipes import load_recipe

GENRES = ("blues", "jazz")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Eight tracks in the layout of the research data, six of which have tags."""
    rng = np.random.default_rng(1)
    tables, tags = tmp_path / "gtzan-tables", tmp_path / "gtzan-musicnn-tags"
    tables.mkdir()
    tags.mkdir()
    ids = [f"{genre}.{number:05d}" for genre in GENRES for number in range(4)]
    values = [",".join(f"{value:.5f}" for value in rng.normal(size=57)) for _ in ids]
    lines = [f"{name}.wav,661794,{row},{name.split('.')[0]}" for name, row in zip(ids, values, strict=True)]
    header = ",".join(["filename", "length", *COLUMNS, "label"])
    (tables / "features_30_sec.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    artists = [f"{name},{'someone' if name.endswith('0') else ''}" for name in ids]
    (tables / "artists.csv").write_text("\n".join(["track_id,artist_group", *artists]) + "\n", encoding="utf-8")
    names = [f"{name.split('.')[0]}/{name}.au" for name in ids if not name.endswith("3") for _ in range(2)]
    windows = rng.random((len(names), 50)).astype(np.float32)
    np.savez(tags / "train_filtered.npz", X=windows, Y=np.zeros(len(names)), IDS=np.array(names))
    return tmp_path


def test_a_track_has_the_mean_of_its_windows(source: Path) -> None:
    assert tags_and_table.main([str(source), "--output", str(source / "m.csv")]) == 0
    manifest = read_manifest(source / "m.csv")
    assert [track.track_id for track in manifest.tracks] == [f"{g}.{n:05d}" for g in GENRES for n in range(3)]
    assert manifest.tracks[0].group == manifest.tracks[3].group == "someone" and not manifest.tracks[1].group
    windows = np.load(source / "gtzan-musicnn-tags" / "train_filtered.npz")["X"]
    first = [float(manifest.tracks[0].columns[name]) for name in tags_and_table.COLUMNS]
    assert np.allclose(first, windows[:2].mean(axis=0), atol=1e-6)
    assert "tag_hip_hop" in tags_and_table.COLUMNS and len(set(tags_and_table.COLUMNS)) == 50


@pytest.mark.parametrize(
    ("recipe", "n_values"),
    [("musicnn-tags-svm", 50), ("musicnn-tags-table-svm", 107), ("table-svm-30s", 57)],
)
def test_such_a_manifest_is_read_as_it_is(
    source: Path, recipe: str, n_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(source / "cache"))
    tags_and_table.main([str(source), "--output", str(source / "m.csv")])
    wanted = ["protocol.options={test_size: 0.34, validation_size: 0.34}"]
    material = gather_material(load_recipe(recipe, wanted), source / "m.csv")
    assert material.representation.name == "columns" and material.store.shape == (n_values,)


def test_other_files_are_refused(source: Path) -> None:
    path = source / "gtzan-musicnn-tags" / "train_filtered.npz"
    names = np.load(path)["IDS"]
    np.savez(path, X=np.zeros((len(names), 3)), IDS=names)
    with pytest.raises(DataError, match=r"tags of shape \(12, 3\)"):
        tags_and_table.main([str(source), "--output", str(source / "m.csv")])
    np.savez(path, X=np.zeros((1, 50)), IDS=np.array(["pop/pop.00000.au"]))
    with pytest.raises(DataError, match=r"no track pop.00000"):
        tags_and_table.main([str(source), "--output", str(source / "m.csv")])


def test_published_tags_of_the_training_list(shared_data: Path, tmp_path: Path) -> None:
    assert tags_and_table.main([str(shared_data), "--output", str(tmp_path / "m.csv")]) == 0
    manifest = read_manifest(tmp_path / "m.csv")
    listed = (shared_data / "gtzan-tables" / "splits" / "train_filtered.txt").read_text(encoding="utf-8").split()
    assert {track.track_id for track in manifest.tracks} == {Path(name).stem for name in listed}
    assert len(manifest) == 443 and set(COLUMNS) | set(tags_and_table.COLUMNS) <= set(manifest.extra_columns)
