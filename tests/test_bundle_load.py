from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicgenre import Classifier
from musicgenre._onnx import GraphBuilder
from musicgenre._protobuf import ProtobufError, bytes_field, fields, read_varint, write_varint
from musicgenre.bundle import BundleCard, load_bundle, load_ensemble, open_bundle, read_card, save_bundle
from musicgenre.bundle.container import CARD_KEY, seal
from musicgenre.errors import BundleError, MissingExtraError, UsageError
from musicgenre.features.registry import create_representation
from tests.fresh import run_python
from tests.toy import save_toy, save_toy_ears

N_SAMPLES = 80
CARD = BundleCard(
    name="tiny",
    kind="classifier",
    labels=("quiet", "loud"),
    sample_rate_hz=8_000,
    segment_samples=N_SAMPLES,
    hop_samples=N_SAMPLES,
)


def tiny_model() -> bytes:
    graph = GraphBuilder("tiny")
    waveform = graph.input("waveform", "float32", ["rows", N_SAMPLES])
    mean = graph.op("ReduceMean", graph.op("Abs", waveform), axes=[1], keepdims=1)
    graph.output(graph.op("Mul", mean, graph.floats([[-1.0, 1.0]])), "logits", ["rows", 2])
    return graph.build()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_bundle(tmp_path / "tiny.onnx", tiny_model(), CARD)
    return tmp_path / "tiny.onnx"


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_varints_round_trip(value: int) -> None:
    assert read_varint(write_varint(value) + b"rest", 0) == (value, len(write_varint(value)))


@given(st.binary(max_size=60))
def test_any_bytes_are_walked_or_refused(data: bytes) -> None:
    try:
        ends = [end for _, _, (_, end) in fields(data)]
    except ProtobufError:
        return
    assert not data or ends[-1] == len(data)


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_in_logits_out(path: Path, threads: int, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((7, N_SAMPLES))
    bundle = load_bundle(path, threads=threads)
    loudness = np.abs(rows).mean(axis=1)
    outputs = bundle.run(rows)
    assert list(outputs) == ["logits"]
    assert outputs["logits"].dtype == np.float32
    np.testing.assert_allclose(outputs["logits"], np.stack([-loudness, loudness], axis=1), rtol=1e-5)
    assert bundle.card.labels == ("quiet", "loud")


def test_a_bundle_is_shared_between_threads(path: Path, rng: np.random.Generator) -> None:
    bundle = load_bundle(path, threads=2)
    batches = [rng.standard_normal((n, N_SAMPLES)).astype(np.float32) for n in range(1, 30)]
    alone = [bundle.run(batch)["logits"] for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda batch: bundle.run(batch)["logits"], batches))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [(0, N_SAMPLES), (2, N_SAMPLES - 1), (N_SAMPLES,)])
def test_rows_of_a_wrong_shape(path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"do not fit tiny.*\(n, 80\)"):
        load_bundle(path).run(np.zeros(shape, dtype=np.float32))


def test_other_programs_read_the_file_and_its_card(path: Path) -> None:
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 7
    assert [entry.version for entry in model.opset_import] == [13]
    card = json.loads({entry.key: entry.value for entry in model.metadata_props}[CARD_KEY])
    assert card["labels"] == ["quiet", "loud"]


def test_sealing_again_replaces_the_card(path: Path) -> None:
    again = seal(path.read_bytes(), CARD)
    assert again == path.read_bytes()
    assert path.read_bytes().count(CARD_KEY.encode()) == 1


@pytest.mark.parametrize("where", [0.2, 0.5, 0.97])
def test_a_changed_byte_is_noticed(path: Path, where: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * where)] ^= 0x01
    path.write_bytes(content)
    with pytest.raises(BundleError):
        load_bundle(path)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_cut_file_is_noticed(path: Path, kept: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(BundleError, match=r"cut short|without a musicgenre card"):
        read_card(path)


@pytest.mark.parametrize("content", [b"not a model", b"RIFF....WAVEfmt ", b"\x00" * 64])
def test_not_a_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "song.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match="not an ONNX file"):
        load_bundle(path)


def test_missing_file_folder_and_bare_model(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no bundle at"):
        load_bundle(tmp_path / "nothing.onnx")
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(tmp_path)
    (tmp_path / "bare.onnx").write_bytes(tiny_model())
    with pytest.raises(BundleError, match="without a musicgenre card"):
        load_bundle(tmp_path / "bare.onnx")


def test_a_newer_bundle_is_refused(path: Path) -> None:
    text = path.read_bytes().replace(b'"format_version": 1', b'"format_version": 9')
    path.write_bytes(text)
    with pytest.raises(BundleError, match="has bundle format 9"):
        load_bundle(path)


def test_a_graph_that_onnxruntime_cannot_load(tmp_path: Path) -> None:
    graph = bytes_field(7, bytes_field(2, b"empty"))  # ModelProto.graph with a name and nothing else
    save_bundle(tmp_path / "empty.onnx", graph, CARD)
    with pytest.raises(BundleError, match="cannot load"):
        load_bundle(tmp_path / "empty.onnx")


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    save_bundle(tmp_path / "table.onnx", tiny_model(), replace(CARD, extra="features"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"musicgenre\[features\]"):
        load_bundle(tmp_path / "table.onnx")


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ("one", "two", "three")},
        {"segment_samples": N_SAMPLES + 1},
        {"kind": "embedding", "tags": ("quiet", "loud")},
    ],
)
def test_a_card_that_does_not_fit_its_graph_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    save_bundle(tmp_path / "odd.onnx", tiny_model(), replace(CARD, **changes))
    with pytest.raises(BundleError, match="does not do what its card says"):
        load_bundle(tmp_path / "odd.onnx")


def test_a_graph_that_fails_as_it_runs_is_named(tmp_path: Path, rng: np.random.Generator) -> None:
    graph = GraphBuilder("tiny")
    waveform = graph.input("waveform", "float32", ["rows", "samples"])
    graph.output(graph.op("MatMul", waveform, graph.floats([[-1.0, 1.0]])), "logits", ["rows", 2])
    save_bundle(tmp_path / "odd.onnx", graph.build(), CARD)
    with pytest.raises(BundleError, match="cannot run tiny"):
        load_bundle(tmp_path / "odd.onnx").run(rng.standard_normal((1, N_SAMPLES)))


def test_a_front_end_in_python_may_need_no_extra(tmp_path: Path, rng: np.random.Generator) -> None:
    """The graph itself tells that it reads features: no extra is named where the light install computes them."""
    graph = GraphBuilder("tiny")
    features = graph.input("features", "float32", ["rows", N_SAMPLES])
    loudest = graph.op("ReduceMax", graph.op("Abs", features), axes=[1], keepdims=1)
    graph.output(graph.op("Mul", loudest, graph.floats([[-1.0, 1.0]])), "logits", ["rows", 2])
    settings = create_representation("waveform", segment_s=N_SAMPLES / 16_000, scale="peak").settings()
    card = replace(CARD, sample_rate_hz=16_000, hop_samples=160, front_end=settings, extra="")
    save_bundle(tmp_path / "light.onnx", graph.build(), card)
    found = load_bundle(tmp_path / "light.onnx").run(rng.standard_normal((3, N_SAMPLES)))["logits"]
    np.testing.assert_allclose(found, [[-1.0, 1.0]] * 3, rtol=1e-6)


@pytest.mark.parametrize("make", [save_toy, save_toy_ears])
def test_a_bundle_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "toy.onnx")
    read, opened = Path.read_bytes, []
    monkeypatch.setattr(Path, "read_bytes", lambda self: opened.append(self) or read(self))
    Classifier(str(path))
    assert opened == [path]


def test_an_open_bundle_is_not_read_again(path: Path, rng: np.random.Generator) -> None:
    file = open_bundle(path)
    path.unlink()
    assert open_bundle(file) is file and file.card.labels == ("quiet", "loud")
    assert load_bundle(file).run(rng.standard_normal((1, N_SAMPLES)))["logits"].shape == (1, 2)
    with pytest.raises(BundleError, match="is no ensemble"):
        load_ensemble(file)


def test_opening_a_bundle_needs_no_onnx() -> None:
    code = "import sys; sys.modules['onnx'] = None; import musicgenre.embedding.similar, musicgenre.teaching.teach"
    done = run_python(code)
    assert done.returncode == 0, done.stderr
