"""`musicgenre embed`: vectors are pooled outputs, the file survives interruptions, done tracks are not heard again."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from musicgenre.bundle import load_bundle
from musicgenre.cli import app
from musicgenre.embedding.embed import Embedder, embed_tracks
from musicgenre.embedding.file import read_embeddings, write_embeddings
from musicgenre.embedding.similar import SimilarityIndex, similar
from musicgenre.errors import AudioError, BundleError, DataError, UsageError
from musicgenre.listening.batch import hear_many
from musicgenre.models.head import GenreHead
from tests.cli import run
from tests.toy import RATE_HZ, save_toy, save_toy_ears


@pytest.fixture(scope="module")
def ears(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_ears(tmp_path_factory.mktemp("model") / "ears.onnx")


def noise(path: Path, gain: float, duration_s: float = 3.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(path.name.encode()))  # every name its own content
    soundfile.write(path, rng.uniform(-gain, gain, int(duration_s * RATE_HZ)), RATE_HZ)
    return path


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    for index, gain in enumerate((0.8, 0.4, 0.1)):
        noise(folder / f"{index}.wav", gain)
    return folder


def tracks_in(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*.wav"))


@pytest.mark.parametrize("what", ["embedding", "tags"])
def test_vectors_are_the_pooled_outputs(ears: Path, library: Path, what: str) -> None:
    path = library / "0.wav"
    rows = soundfile.read(path, dtype="float32")[0].reshape(3, RATE_HZ)
    outputs = load_bundle(ears).run(rows)[what]
    mean, most = outputs.mean(axis=0), outputs.max(axis=0)
    for pool, expected in (("mean", mean), ("max", most), ("mean-max", np.concatenate((mean, most)))):
        embedder = Embedder(str(ears), what=what, pool=pool, coverage="full")  # type: ignore[arg-type]
        vector = embedder.embed(path).vector
        assert vector.dtype == np.float16
        np.testing.assert_allclose(vector, expected, rtol=2e-3)
        np.testing.assert_array_equal(embedder.embed(io.BytesIO(path.read_bytes())).vector, vector)
        np.testing.assert_array_equal(embedder.embed(rows.ravel(), sample_rate_hz=RATE_HZ).vector, vector)


def test_what_cannot_be_is_refused(ears: Path, tmp_path: Path, library: Path) -> None:
    with pytest.raises(UsageError, match="mean-max"):
        Embedder(str(ears), pool="median")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="tags"):
        Embedder(str(ears), what="logits")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="coverage"):
        Embedder(str(ears), coverage=0)
    with pytest.raises(BundleError, match="classifier"):
        Embedder(str(save_toy(tmp_path / "toy.onnx")))
    with pytest.raises(BundleError, match="no-such"):
        Embedder("no-such-model")
    with pytest.raises(AudioError, match=r"no embedding that is a number.*export the model anew"):
        Embedder(str(ears)).embed(np.where(np.arange(9000) % 2, 3e6, -3e6), sample_rate_hz=RATE_HZ)
    for options in ({"resume": True, "overwrite": True}, {"resume": True}):
        with pytest.raises(UsageError):
            embed_tracks([], Embedder(str(ears)), tmp_path / "out.txt", **options)
    with pytest.raises(UsageError, match="is no file"):
        (tmp_path / "folder.npz").mkdir()
        embed_tracks(tracks_in(library), Embedder(str(ears)), tmp_path / "folder.npz", overwrite=True)


@pytest.mark.parametrize("jobs", [1, 3])
def test_many_tracks_keep_their_order_and_bad_ones_are_named(ears: Path, library: Path, jobs: int) -> None:
    (library / "1b.wav").write_bytes(b"RIFF")
    paths = [*tracks_in(library), str(library / "none.wav")]
    out, told = library / "out.npz", []
    report = embed_tracks(
        paths, Embedder(str(ears)), out, jobs=jobs, progress=lambda done, total: told.append((done, total))
    )
    assert (report.embedded, report.reused) == (3, 0) and told[-1] == (5, 5)
    assert [Path(failure.path).name for failure in report.failures] == ["1b.wav", "none.wav"]
    tracks = read_embeddings(out)
    assert [Path(path).name for path in tracks.paths] == ["0.wav", "1.wav", "2.wav"]
    assert (np.diff(tracks.vectors[:, 0].astype(float)) < 0).all()  # louder first
    status = Path(paths[0]).stat()
    assert (tracks.size_bytes[0], tracks.modified_ns[0]) == (status.st_size, status.st_mtime_ns)


def test_resume_hears_only_what_is_new_or_changed(ears: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, embedder, heard = library / "out.npz", Embedder(str(ears)), []
    embed = Embedder.embed
    monkeypatch.setattr(Embedder, "embed", lambda self, path: heard.append(Path(path).name) or embed(self, path))

    def names_after_resume() -> list[str]:
        heard.clear()
        report = embed_tracks(tracks_in(library), embedder, out, resume=True)
        assert report.embedded == len(heard) and report.embedded + report.reused == len(tracks_in(library))
        return [Path(path).name for path in read_embeddings(out).paths]

    assert names_after_resume() == ["0.wav", "1.wav", "2.wav"] and len(heard) == 3
    before = out.stat().st_mtime_ns
    assert names_after_resume() == ["0.wav", "1.wav", "2.wav"] and not heard
    assert out.stat().st_mtime_ns == before, "nothing new, nothing written"
    os.utime(library / "0.wav", ns=(1, 1))
    (library / "1.wav").rename(library / "moved.wav")
    shutil.copy(library / "2.wav", library / "copy.wav")
    assert names_after_resume() == ["0.wav", "moved.wav", "2.wav", "copy.wav"] and not heard
    noise(library / "new.wav", 0.3)
    soundfile.write(library / "2.wav", np.zeros(9000), RATE_HZ)
    assert names_after_resume() == ["0.wav", "moved.wav", "2.wav", "copy.wav", "new.wav"]
    assert heard == ["2.wav", "new.wav"]
    tracks = read_embeddings(out)
    assert not tracks.vectors[2].any() and tracks.vectors[3].any()
    assert tracks.modified_ns[0] == 1


def test_at_a_level_loudness_counts_for_nothing(ears: Path, library: Path) -> None:
    samples = soundfile.read(library / "0.wav", dtype="float32")[0]
    for level, same in ((-20, True), ("off", False), (None, False)):  # the bundle's card names no level
        embedder = Embedder(str(ears), level=level)
        plain, quiet = (
            embedder.embed(samples * np.float32(gain), sample_rate_hz=RATE_HZ).vector for gain in (1, 0.05)
        )
        assert np.allclose(plain, quiet, rtol=2e-3) == same
    assert "too quiet" in " ".join(Embedder(str(ears), level=-20).embed(samples * 0, sample_rate_hz=RATE_HZ).warnings)


def test_the_level_stands_in_the_file_and_others_are_as_before(ears: Path, library: Path) -> None:
    for level, expected in ((-20, (2, -20)), ("off", (1, None))):
        out = library / f"{level}.npz"
        run("embed", library, "--output", out, "--model", ears, "--level", str(level))
        with np.load(out) as arrays:
            card = json.loads(bytes(arrays["card"]))
        assert (card["format_version"], card.get("level", {}).get("target_db")) == expected
        assert read_embeddings(out).settings == Embedder(str(ears), level=level).settings


@pytest.mark.default_model
def test_the_default_model_embeds_at_its_own_level(default_bundle_cache: Path) -> None:
    embedder = Embedder("default", threads=1)
    assert embedder.settings.level == GenreHead.load_default().level is not None
    assert Embedder("msd-musicnn", threads=1).settings.level is None, "published models stay as published"
    time_s = np.arange(16_000 * 4) / 16_000
    sound = (0.3 * np.sin(2 * np.pi * (300 + 80 * time_s) * time_s)).astype(np.float32)
    plain, quiet = (
        embedder.embed(sound * np.float32(gain), sample_rate_hz=16_000).vector.astype(float) for gain in (1, 0.1)
    )
    np.testing.assert_allclose(quiet, plain, atol=5e-3)


def test_files_are_neither_overwritten_nor_mixed_unasked(ears: Path, library: Path, tmp_path: Path) -> None:
    out, paths = library / "out.npz", tracks_in(library)
    embed_tracks(paths, Embedder(str(ears)), out)
    with pytest.raises(UsageError, match="--resume"):
        embed_tracks(paths, Embedder(str(ears)), out)
    other = save_toy_ears(tmp_path / "other.onnx", name="other-ears")
    for embedder, told in (
        (Embedder(str(ears), pool="max"), "pool mean, not max"),
        (Embedder(str(ears), coverage="full"), "coverage 18, not full"),
        (Embedder(str(ears), level=-20), "level off, not -20 dBFS"),
        (Embedder(str(other)), "model toy-ears, not other-ears"),
    ):
        with pytest.raises(UsageError, match=told):
            embed_tracks(paths, embedder, out, resume=True)
    embed_tracks(paths[:1], Embedder(str(other)), out, overwrite=True)
    assert len(read_embeddings(out)) == 1
    out.write_bytes(b"something else")
    with pytest.raises(DataError, match="damaged"):
        embed_tracks(paths, Embedder(str(ears)), out, resume=True)
    assert out.read_bytes() == b"something else"


def test_two_at_once_do_not_write_one_file(ears: Path, library: Path) -> None:
    out = library / "out.npz"
    refused: list[str] = []

    def second(done: int, total: int) -> None:
        told = r"another 'musicgenre embed' \(process \d+ on .+ since .+\) is writing into"
        with pytest.raises(DataError, match=told) as error:
            embed_tracks(tracks_in(library)[:1], Embedder(str(ears)), out, overwrite=True)
        refused.append(str(error.value))

    embed_tracks(tracks_in(library), Embedder(str(ears)), out, progress=second)
    assert refused and len(read_embeddings(out)) == 3
    assert not list(library.glob(".*")), "the lock goes with the work"


def test_resume_hears_damaged_rows_again(ears: Path, library: Path) -> None:
    out, paths = library / "out.npz", tracks_in(library)
    embed_tracks(paths, Embedder(str(ears)), out)
    whole = read_embeddings(out, mapped=False)
    damaged = whole.vectors.copy()
    damaged[1] = np.nan
    write_embeddings(out, replace(whole, vectors=damaged))
    report = embed_tracks(paths, Embedder(str(ears)), out, resume=True)
    assert (report.embedded, report.reused) == (1, 2)
    again = read_embeddings(out)
    assert {*again.paths} == {*paths} and np.isfinite(again.vectors).all()


def test_resume_refuses_a_file_of_another_width(ears: Path, library: Path) -> None:
    out, paths = library / "out.npz", tracks_in(library)
    embed_tracks(paths[:2], Embedder(str(ears)), out)
    whole = read_embeddings(out, mapped=False)
    write_embeddings(out, replace(whole, vectors=whole.vectors[:, :1]))
    with pytest.raises(DataError, match="holds embeddings of width 1, not 3"):
        embed_tracks(paths, Embedder(str(ears)), out, resume=True)


def test_long_runs_save_on_the_way(ears: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musicgenre.embedding.embed._SAVE_EVERY_S", 0.0)
    monkeypatch.setattr("musicgenre.embedding.embed._SAVING_SHARE", 0)
    sizes = []

    def look(done: int, total: int) -> None:
        sizes.append(len(read_embeddings(library / "out.npz")) if done > 1 else 0)

    embed_tracks(tracks_in(library), Embedder(str(ears)), library / "out.npz", progress=look)
    assert sizes == [0, 0, 1, 2]


def test_the_command_names_tracks_as_classify_does(ears: Path, library: Path) -> None:
    out = library / "out.npz"
    (library / "broken.wav").write_bytes(b"RIFF")
    listed = f"{library}/0.wav\n{library}\n".encode()
    done = run("embed", "-", "--output", out, "--model", ears, "--format", "json", "--pool", "mean-max", stdin=listed)
    assert done.returncode == 1 and done.stderr.count(b"broken.wav") == 1 and b"3 embedded, 1 failed" in done.stderr
    summary = json.loads(done.stdout)
    assert (summary["embedded"], summary["reused"], summary["pool"]) == (3, 0, "mean-max")
    assert [Path(failure["path"]).name for failure in summary["failed"]] == ["broken.wav"]
    assert read_embeddings(out).vectors.shape == (3, 6)
    glob = (f"{library}/*.wav", "--output", out, "--model", ears, "--pool", "mean-max")
    again = run("embed", *glob, "--resume")
    assert again.returncode == 1 and b"0 embedded, 3 done before, 1 failed" in again.stderr
    misused = run("embed", *glob)
    assert misused.returncode == 2 and b"exists already" in misused.stderr


def test_the_command_writes_parquet_for_other_tools(ears: Path, library: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    paths = tracks_in(library)
    outputs = [library.parent / f"library{suffix}" for suffix in (".npz", ".parquet")]
    for output in outputs:
        run("embed", library, "--model", ears, "--output", output, "--quiet")
    table = parquet.read_table(outputs[1])
    assert table["path"].to_pylist() == paths
    expected = read_embeddings(outputs[0]).vectors
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), np.float16), expected)
    again = run("embed", library, "--model", ears, "--output", outputs[1], "--resume")
    assert again.returncode == 2 and b"cannot be resumed" in again.stderr
    found = [run("similar", paths[0], "--index", output).stdout for output in outputs]
    assert found[0] == found[1] != b""


def test_the_command_refuses_outputs_before_listening(ears: Path, library: Path) -> None:
    for name in ("out.csv", "out"):
        done = run("embed", library, "--output", library / name, "--model", ears)
        assert done.returncode == 2 and b".npz" in done.stderr and not (library / name).exists()
    heard = run("embed", library, "--output", "/dev/null/out.npz", "--model", ears)
    assert heard.returncode == 2 and b"cannot be written" in heard.stderr and b"embedded" not in heard.stderr
    none = run("embed", library / "empty", "--output", library / "out.npz", "--model", ears)
    assert none.returncode == 1 and not (library / "out.npz").exists()


def test_ctrl_c_keeps_what_was_heard(ears: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Generator[Any, None, None]:
        results = hear_many(*arguments, **options)
        yield next(results)
        yield next(results)
        raise KeyboardInterrupt

    out = library / "out.npz"
    command = ["embed", str(library), "--model", str(ears), "--output", str(out)]
    with monkeypatch.context() as patched:
        patched.setattr("musicgenre.embedding.embed.hear_many", interrupted)
        stopped = CliRunner().invoke(app, command)
    assert stopped.exit_code == 130 and "--resume" in stopped.stderr
    assert len(read_embeddings(out)) == 2
    resumed = CliRunner().invoke(app, [*command, "--resume"])
    assert resumed.exit_code == 0 and "1 embedded, 2 done before" in resumed.stderr
    assert len(read_embeddings(out)) == 3


@pytest.mark.default_model
def test_both_musicnns_embed_one_behind_the_other(default_bundle_cache: Path, tmp_path: Path) -> None:
    track, quieter = tmp_path / "track.wav", tmp_path / "quieter.wav"
    sound = 0.1 * np.random.default_rng(3).normal(size=64_000)
    soundfile.write(track, sound, 16_000)
    soundfile.write(quieter, 0.5 * sound, 16_000)
    both, first = Embedder("both", coverage="full"), Embedder("default", coverage="full")
    vector = both.embed(track).vector
    assert vector.shape == (400,) and np.array_equal(vector[:200], first.embed(track).vector)
    assert (both.settings.model, both.settings.level) == ("both", first.settings.level)

    embed_tracks([str(track)], both, tmp_path / "index.npz")
    index = SimilarityIndex.open(tmp_path / "index.npz")
    [found] = similar(quieter, index, top=1)
    assert found.cosine == pytest.approx(1, abs=1e-3)


def test_the_default_model_has_two_hundred_values(default_bundle_cache: Path) -> None:
    example = next((Path(__file__).parents[1] / "examples").glob("*.flac"))
    embedder = Embedder(coverage=6)
    assert embedder.embed(example).vector.shape == (200,)
    assert embedder.settings.model == "msd-musicnn" and embedder.settings.coverage == "6"
    assert Embedder(coverage=6, what="tags").embed(example).vector.shape == (50,)
