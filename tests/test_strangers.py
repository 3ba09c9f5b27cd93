"""Models from strangers: what the graph of a bundle may hold and cost, and what its card may lead to."""

from __future__ import annotations

import json
import os
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from musicgenre import Classifier, _running
from musicgenre._onnxruntime import RunEndedError, open_session, run_session
from musicgenre._protobuf import bytes_field, read_varint, write_varint
from musicgenre.bundle import BundleCard, load_bundle, save_bundle
from musicgenre.data.manifest import read_manifest
from musicgenre.embedding.similar import SimilarityIndex, similar
from musicgenre.errors import BundleError, DataError, MusicgenreError, UsageError
from musicgenre.features.registry import create_representation
from musicgenre.models.head import GenreHead, _checksum
from tests.cli import run
from tests.toy import SEGMENT, save_toy

N = 16
CARD = BundleCard(
    name="stranger",
    kind="classifier",
    labels=("a", "b"),
    sample_rate_hz=8_000,
    segment_samples=N,
    hop_samples=80,
)
Change = Callable[[onnx.ModelProto], None]


def integers(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def scalars(**values: int) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in values.items()]


def model_of(
    nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto] | None = None, change: Change | None = None
) -> bytes:
    """A classifier of the mean amplitude, with more nodes that nothing needs, or that `logits` need."""
    base = (
        []
        if any("logits" in node.output for node in nodes)
        else [
            helper.make_node("ReduceMean", ["waveform"], ["mean"], axes=[1], keepdims=1),
            helper.make_node("Concat", ["mean", "mean"], ["logits"], axis=1),
        ]
    )
    graph = helper.make_graph(
        [*nodes, *base],
        "g",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["rows", N])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 2])],
        constants or [],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    if change is not None:
        change(model)
    return bytes(model.SerializeToString())


def load(folder: Path, model: bytes, card: BundleCard = CARD, **options: Any) -> Any:
    save_bundle(folder / "stranger.onnx", model, card)
    return load_bundle(folder / "stranger.onnx", threads=1, **options)


def test_a_graph_of_standard_operators_is_run(tmp_path: Path) -> None:
    rows = np.full((2, N), 0.25, np.float32)
    np.testing.assert_allclose(load(tmp_path, model_of([])).run(rows)["logits"], 0.25)


# What a graph may not hold


def outside(name: str, place: str) -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=place)
    return tensor


SUB = helper.make_graph([], "sub", [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])])


def add_function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("own", "f", ["x"], ["y"], [], [helper.make_opsetid("", 13)]))


def add_sparse(model: onnx.ModelProto) -> None:
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(outside("values", "secret.txt"))
    sparse.indices.CopyFrom(integers("indices", 0, 1, 2, 3))
    sparse.dims.append(8)


def nameless(model: onnx.ModelProto) -> None:
    model.graph.node[0].ClearField("op_type")


NODE = helper.make_node
REFUSED: dict[str, tuple[list[onnx.NodeProto], list[onnx.TensorProto], Change | None, str]] = {
    "a tensor in another file": ([], [outside("w", "secret.txt")], None, "another file"),
    "a tensor at an absolute place": ([], [outside("w", "/etc/passwd")], None, "another file"),
    "a tensor in a node": ([NODE("Constant", [], ["c"], value=outside("", "secret.txt"))], [], None, "another file"),
    "a sparse tensor": ([], [], add_sparse, "sparse tensors"),
    "a branch": ([NODE("If", ["waveform"], ["y"], then_branch=SUB, else_branch=SUB)], [], None, "inside nodes"),
    "a loop": ([NODE("Loop", ["", ""], ["y"], body=SUB)], [], None, "inside nodes"),
    "a scan": ([NODE("Scan", ["waveform"], ["y"], body=SUB, num_scan_inputs=1)], [], None, "inside nodes"),
    "a function": ([], [], add_function, "functions of its own"),
    "a custom operator": ([NODE("Gelu", ["waveform"], ["y"], domain="com.microsoft")], [], None, "com.microsoft"),
    "a sequence": ([NODE("SequenceConstruct", ["waveform"], ["s"])], [], None, "SequenceConstruct"),
    "random numbers": ([NODE("RandomNormalLike", ["waveform"], ["y"])], [], None, "RandomNormalLike"),
    "text": ([], [helper.make_tensor("t", TensorProto.STRING, [1], [b"x"])], None, "element type 8|text"),
    "an operator without a name": ([], [], nameless, "operator"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_model_needs_is_refused(what: str, tmp_path: Path) -> None:
    nodes, constants, change, message = REFUSED[what]
    with pytest.raises(BundleError, match=message):
        load(tmp_path, model_of(nodes, constants, change))


@pytest.mark.parametrize(
    "value",
    [
        bytes_field(13, bytes_field(1, b"location") + bytes_field(2, b"secret.txt")),
        write_varint(14 << 3) + write_varint((1 << 32) + 1),  # one, to a reader that keeps 32 bits
        bytes_field(12, b"\xff\xfe"),
    ],
)
def test_a_tensor_is_read_as_onnxruntime_reads_it(value: bytes, tmp_path: Path) -> None:
    """Entries whose other half is missing, numbers that wrap around, names that are no text."""
    tensor = integers("w", 1).SerializeToString()
    plain = model_of([], [integers("w", 1)])
    broken = plain.replace(bytes_field(5, tensor), bytes_field(5, tensor + value))
    graph_at = broken.index(b"\x3a")
    grown = len(broken) - len(plain)
    length, end = read_varint(plain, graph_at + 1)
    whole = broken[: graph_at + 1] + write_varint(length + grown) + broken[end:]
    with pytest.raises(BundleError, match="musicgenre cannot load"):
        load(tmp_path, whole)


def test_nothing_beside_a_bundle_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder and the working directory hold files with names that onnxruntime or we might look for."""
    for name in ("secret.txt", "stranger.onnx.data", "config.json", "stranger.json", "ort_config.json"):
        os.mkfifo(tmp_path / name)  # whoever opens one waits for ever
    monkeypatch.chdir(tmp_path)
    assert load(tmp_path, model_of([])).run(np.zeros((1, N), np.float32))["logits"].shape == (1, 2)


# What a graph may cost

FILL = helper.make_tensor("fill", TensorProto.FLOAT, [1], [1.0])
BOMBS: dict[str, tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]] = {
    "filled": ([NODE("ConstantOfShape", ["n"], ["y"], value=FILL)], [integers("n", 2_150_000_000)], "memory"),
    "expanded": ([NODE("Expand", ["waveform", "n"], ["y"])], [integers("n", 100_000_000, 16)], "memory"),
    "tiled": ([NODE("Tile", ["waveform", "n"], ["y"])], [integers("n", 100_000, 100_000)], "memory"),
    "padded": ([NODE("Pad", ["waveform", "n"], ["y"])], [integers("n", 0, 0, 0, 10**10)], "memory"),
    "counted": ([NODE("Range", ["first", "to", "step"], ["y"])], scalars(first=0, to=2 * 10**9, step=1), "memory"),
    "resized": (
        [NODE("Resize", ["waveform", "", "", "n"], ["y"])],
        [integers("n", 100_000, 100_000)],
        "memory",
    ),
    "one-hot": (
        [NODE("OneHot", ["waveform", "depth", "values"], ["y"])],
        [integers("depth", 10**10), integers("values", 0, 1)],
        "memory",
    ),
    "multiplied": (
        [NODE("Transpose", ["waveform"], ["t"], perm=[1, 0])]
        + [NODE("Concat", [f"c{n}" if n else "t"] * 64, [f"c{n + 1}"], axis=0) for n in range(3)]
        + [NODE("Transpose", ["c3"], ["u"], perm=[1, 0]), NODE("MatMul", ["c3", "u"], ["y"])],
        [],
        "would give 4194304 x 4194304 values",
    ),
    "convolved": (
        [
            NODE("ConstantOfShape", ["n"], ["x"], value=FILL),
            NODE("ConstantOfShape", ["m"], ["w"], value=FILL),
            NODE("Conv", ["x", "w"], ["y"], pads=[2000, 2000]),
        ],
        [integers("n", 1, 1000, 4000), integers("m", 10_000, 1000, 4000)],
        "memory|too long",
    ),
    "computed for hours": (
        [
            NODE("ConstantOfShape", ["n"], ["x"], value=FILL),
            NODE("MatMul", ["x", "x"], ["y"]),
        ],
        [integers("n", 12_000, 12_000)],
        "too long",
    ),
    "as long as the sound wants": ([NODE("NonZero", ["waveform"], ["y"])], [], "NonZero"),
    "as large as the sound wants": (
        [
            NODE("ReduceSum", ["waveform"], ["s"], keepdims=0),
            NODE("Cast", ["s"], ["n"], to=7),
            NODE("Range", ["zero", "n", "one"], ["y"]),
        ],
        scalars(zero=0, one=1),
        "depends on the sound",
    ),
    "divided by nothing": (
        [NODE("Cast", ["waveform"], ["n"], to=7), NODE("Div", ["one", "n"], ["y"])],
        [integers("one", 1)],
        "may be zero",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BOMBS)
def test_what_would_not_fit_is_refused_before_onnxruntime_sees_it(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes, constants, message = BOMBS[what]
    model = model_of(nodes, constants)
    assert len(model) < 10_000
    monkeypatch.setattr("musicgenre._onnxruntime.open_session", lambda graph: pytest.fail("it was loaded"))
    with pytest.raises(BundleError, match=message):
        load(tmp_path, model)


def test_a_tensor_without_its_values_is_refused(tmp_path: Path) -> None:
    """Its header alone would make onnxruntime find room for it."""
    empty = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[100_000, 100_000])
    with pytest.raises(BundleError, match="holds 0 values"):
        load(tmp_path, model_of([], [empty]))


def test_more_is_allowed_where_somebody_asks(tmp_path: Path) -> None:
    nodes = [NODE("Expand", ["waveform", "n"], ["y"])]
    model = model_of(nodes, [integers("n", 1_000_000, N)])  # 64 MB, twice: onnxruntime leaves out what nothing needs
    with pytest.raises(BundleError, match="more than 100 MB of memory"):
        load(tmp_path, model, max_model_mb=100)
    assert load(tmp_path, model, max_model_mb=200).run(np.zeros((1, N), np.float32))["logits"].shape == (1, 2)
    with pytest.raises(BundleError, match="too large"):
        load(
            tmp_path,
            model_of([], [helper.make_tensor("w", TensorProto.INT8, [2_000_000], bytes(2_000_000), raw=True)]),
            max_model_mb=1,
        )


def test_the_command_line_takes_the_ceiling(tmp_path: Path, beep: Path) -> None:
    model = save_toy(tmp_path / "toy.onnx")
    assert run("classify", beep, "--model", model, "--max-model-mb", "10").returncode == 0
    padded = model_of([NODE("Expand", ["waveform", "n"], ["y"])], [integers("n", 1_000_000, N)])
    save_bundle(tmp_path / "large.onnx", padded, CARD)
    refused = run("classify", beep, "--model", tmp_path / "large.onnx", "--max-model-mb", "10")
    assert refused.returncode == 2 and b"more than 10 MB" in refused.stderr


@pytest.fixture
def beep(tmp_path: Path) -> Path:
    import wave

    path = tmp_path / "beep.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8_000, 0, "NONE", ""))
        file.writeframes((np.sin(np.arange(2 * SEGMENT) / 5) * 10_000).astype("<i2").tobytes())
    return path


# What runs can be ended


def endless() -> Any:
    """A session that computes for a while: many products, each of which is quick."""
    nodes = [NODE("MatMul", [f"x{n}" if n else "x", "w"], [f"x{n + 1}"]) for n in range(2_000)]
    graph = helper.make_graph(
        nodes,
        "long",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [256, 256])],
        [helper.make_tensor_value_info("x2000", TensorProto.FLOAT, [256, 256])],
        [numpy_helper.from_array(np.zeros((256, 256), np.float32), "w")],
    )
    return open_session(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7).SerializeToString()
    )


def test_a_run_that_takes_too_long_is_ended() -> None:
    feeds = {"x": np.zeros((256, 256), np.float32)}
    session = endless()
    with pytest.raises(RunEndedError, match="longer than 0 s"):
        run_session(session, ["x2000"], feeds, longest_s=0.0)
    assert run_session(session, ["x2000"], feeds)[0].shape == (256, 256)


def test_runs_in_all_threads_end_with_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_running, "_is_over", False)
    session = endless()
    ended: list[BaseException] = []

    def hear() -> None:
        try:
            run_session(session, ["x2000"], {"x": np.zeros((256, 256), np.float32)})
        except RunEndedError as error:
            ended.append(error)

    threads = [threading.Thread(target=hear) for _ in range(2)]
    for thread in threads:
        thread.start()
    _running.end_all()
    for thread in threads:
        thread.join()
    assert len(ended) == 2


# What comes out


def test_onnxruntime_says_nothing_itself(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An index beyond the end is found as the graph runs; it is told once, by us."""
    nodes = [
        NODE("Gather", ["waveform", "far"], ["picked"], axis=1),
        NODE("Concat", ["picked", "picked"], ["logits"], axis=1),
    ]
    bundle = load(tmp_path, model_of(nodes, [integers("far", 10**6)]))
    with pytest.raises(BundleError, match="cannot run stranger"):
        bundle.run(np.zeros((1, N), np.float32))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("label", ["\x1b[31mred", "a\u202eb"])
def test_labels_of_a_manifest_can_be_shown(label: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"path,label\na.wav,{label}\nb.wav,jazz\n", encoding="utf-8")
    with pytest.raises(DataError, match="without control characters") as caught:
        read_manifest(tmp_path / "m.csv")
    assert label not in str(caught.value)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (NODE("ReduceMean", ["waveform"], ["logits"], axes=[1], keepdims=0), "does not do what its card says"),
        (NODE("Identity", ["waveform"], ["logits"]), "does not do what its card says"),
        (NODE("Expand", ["two", "n"], ["logits"]), "does not do what its card says"),
    ],
)
def test_what_a_graph_gives_is_a_row_of_its_labels(node: onnx.NodeProto, message: str, tmp_path: Path) -> None:
    def untold(model: onnx.ModelProto) -> None:
        model.graph.output[0].type.tensor_type.ClearField("shape")

    constants = [numpy_helper.from_array(np.zeros((1, 2), np.float32), "two"), integers("n", 3, 2)]
    with pytest.raises(BundleError, match=message):
        load(tmp_path, model_of([node], constants, untold))


def test_a_timeline_without_numbers_is_refused(tmp_path: Path) -> None:
    """One segment that is no number does not hide behind a vote."""
    nodes = [
        NODE("ReduceMean", ["waveform"], ["mean"], axes=[1], keepdims=1),
        NODE("Div", ["mean", "mean"], ["ratio"]),
        NODE("Concat", ["ratio", "mean"], ["logits"], axis=1),
    ]
    card = replace(CARD, scoring="vote", segment_samples=N)
    save_bundle(tmp_path / "odd.onnx", model_of(nodes), card)
    sound = np.concatenate([np.full(400, 0.5, np.float32), np.zeros(400, np.float32), np.full(8_000, 0.5, np.float32)])
    with pytest.raises(MusicgenreError, match="no answer that is a number"):
        Classifier(str(tmp_path / "odd.onnx"), coverage="full").classify(sound, sample_rate_hz=8_000)


# What a card may lead to


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a\x1b[2Jb"},
        {"name": "x" * 201},
        {"labels": ("a", "b\n")},
        {"labels": ("a", "b" * 201)},
        {"segment_samples": 2**31 - 1},
        {"temperature": 10**400},
    ],
)
def test_cards_that_cannot_be_shown_or_meant(changes: dict[str, Any]) -> None:
    with pytest.raises(BundleError) as caught:
        replace(CARD, **changes)
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("picture", {"size": 200_000}),
        ("melspectrogram", {"n_fft": 2**30}),
        ("melspectrogram", {"n_mels": 10**6}),
        ("melspectrogram", {"hop_length": 1, "segment_s": 3_000.0}),
        ("mfcc", {"n_fft": 2**30}),
        ("waveform", {"segment_s": 1e9}),
        ("vggish", {"output": "examples", "n_examples": 10**7}),
        ("vggish", {"n_examples": 10**9}),
        ("table", {"segment_s": 1e9}),
        ("joined", {"parts": [{"name": "picture", "size": 200_000}]}),
    ],
)
def test_sizes_of_features_are_refused_before_they_are_made(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"values|too large"):
        create_representation(name, **options)


def features_bundle(folder: Path, front_end: dict[str, Any]) -> Path:
    nodes = [
        NODE("ReduceMean", ["features"], ["mean"], axes=[1], keepdims=1),
        NODE("Concat", ["mean", "mean"], ["logits"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", "width"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    save_bundle(folder / "features.onnx", model.SerializeToString(), replace(CARD, front_end=front_end))
    return folder / "features.onnx"


@pytest.mark.parametrize(
    ("front_end", "message"),
    [
        ({"name": "transformer", "version": 1, "model": "nobody/nothing"}, r"models nobody/nothing --get"),
        ({"name": "musicnn", "version": 1, "model": "msd-musicnn"}, r"models msd-musicnn --get"),
        ({"name": "vggish", "version": 1}, r"models vggish-10086976\.pth --get"),
        ({"name": "transformer", "version": 1, "model": "//host/share"}, "another machine"),
        ({"name": "transformer", "version": 1, "model": "\\\\host\\share"}, "another machine"),
    ],
)
def test_nothing_is_fetched_because_a_card_says_so(
    front_end: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("musicgenre.features.published.musicnn.weights.installed_copy", lambda: None)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("something was looked up"))
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("something was started"))
    with pytest.raises(BundleError, match=message):
        load_bundle(features_bundle(tmp_path, front_end))


def test_nothing_is_fetched_because_an_index_says_so(
    tmp_path: Path, beep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from musicgenre.embedding.file import EmbeddingSettings, TrackEmbeddings, write_embeddings

    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("something was looked up"))
    settings = EmbeddingSettings(
        "transformer", "0" * 64, "embedding", "mean", "full", {"version": 1}, {"model": "nobody/nothing"}
    )
    vectors, none = np.ones((1, 4), np.float16), np.zeros(1, np.int64)
    tracks = TrackEmbeddings(settings, ("one.wav",), vectors, none, none, np.zeros((1, 32), np.uint8))
    write_embeddings(tmp_path / "index.npz", tracks)
    with pytest.raises(BundleError, match=r"the index needs the model nobody/nothing.*models nobody/nothing --get"):
        similar(beep, SimilarityIndex.open(tmp_path / "index.npz"))


def test_weights_are_fetched_by_their_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "vggish-10086976.pth").write_bytes(b"here")
    told = run("models", "vggish-10086976.pth", "--get")
    assert told.returncode == 0 and b"vggish-10086976.pth" in told.stderr
    unknown = run("models", "nothing", "--get")
    assert unknown.returncode == 2 and b"no published weights named 'nothing'" in unknown.stderr


# Heads and indexes


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 10**400},
        {"bias": [10**400] * 10},
        {"name": "a\x1b[2J"},
        {"labels": ["\u202e" + str(n) for n in range(10)]},
        {"labels": ["x" * 300 + str(n) for n in range(10)]},
        {"style_tags": ["a\nb"]},
    ],
)
def test_heads_that_cannot_be_shown_or_meant(changes: dict[str, Any]) -> None:
    content = json.loads(GenreHead.load_default().to_json()) | changes
    content["sha256"] = _checksum(content)
    with pytest.raises(BundleError) as caught:
        GenreHead.from_json(json.dumps(content))
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 800


def test_an_index_that_inflates_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    zeros = bytes(64_000_000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("embeddings.npy", "w") as entry:
        np.lib.format.write_array_header_1_0(  # type: ignore[no-untyped-call]
            entry, {"descr": "<f2", "fortran_order": False, "shape": (32_000_000, 1)}
        )
        entry.write(zeros)
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match="would become 64,000,"):
        SimilarityIndex.open(path)
