"""Work on a cluster, as far as it needs no Ray: what is refused before anything is imported, and how it is said."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from musicgenre._telling import telling
from musicgenre.cli._cluster import attached
from musicgenre.cli._options import check_ray_options
from musicgenre.cluster.columns import AnswerColumns
from musicgenre.cluster.connect import Cluster, Node, _says_of_folder, connected, naming_node, own_error
from musicgenre.cluster.partitions import RECORD_NAME, Partitions, opened_partitions
from musicgenre.cluster.storage import Place, as_address, asking, gather_tracks, is_object
from musicgenre.embedding.file import EmbeddingSettings, TrackEmbeddings, read_embeddings, write_embeddings
from musicgenre.errors import BundleError, DataError, MissingExtraError, UsageError
from tests.cli import run
from tests.limits import wait_until
from tests.toy import save_toy, save_toy_ears

without_ray = pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed here")


def test_nothing_imports_ray_unasked() -> None:
    code = (
        "import sys, musicgenre, musicgenre.cli, musicgenre.listening.classifier, musicgenre.embedding.embed,"
        " musicgenre.features.prepare, musicgenre.cluster, musicgenre.cluster.connect;"
        " print([name for name in sys.modules if name.partition('.')[0] in ('ray', 'pandas', 'pyarrow', 'fsspec')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@without_ray
def test_ray_that_is_not_installed_is_told_with_the_line_that_installs_it() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install .*'musicgenre\[cluster\]'"), connected():
        pass
    with pytest.raises(MissingExtraError):
        check_ray_options(True, None)


def test_an_address_needs_the_option_whose_cluster_it_names() -> None:
    with pytest.raises(UsageError, match="Add --ray"):
        check_ray_options(False, "127.0.0.1:6379")


@pytest.mark.parametrize("address", ["nowhere", "ray://host:10001", "host:", ":6379", "host:0", "host:65536"])
def test_what_is_no_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musicgenre.cluster.connect.require", lambda *_: None)
    with pytest.raises(UsageError, match="is no address of a cluster"), connected(address):
        pass


def test_a_cluster_that_is_not_there_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musicgenre.cluster.connect.require", lambda *_: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(UsageError, match=f"there is no Ray cluster at {address} .*ray start --head"), connected():
            pass


@pytest.mark.parametrize("host", ["..", "a" * 300])
def test_a_name_that_no_host_can_have_is_told(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musicgenre.cluster.connect.require", lambda *_: None)
    with pytest.raises(UsageError, match="there is no Ray cluster at"), connected(f"{host}:6379"):
        pass


@pytest.mark.parametrize("command", ["classify", "embed", "prepare", "search", "train"])
def test_every_command_tells_that_there_is_no_cluster_in_a_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "127.0.0.1:1"  # where nobody listens
    if command == "search":
        pytest.importorskip("optuna", reason="searching needs the extra musicgenre[search]")
    for module in ("cli._options", "cluster.connect"):
        monkeypatch.setattr(f"musicgenre.{module}.require", lambda *_: None)
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.wav").touch()
    (tmp_path / "tracks.csv").write_text("path,label\n" + "".join(f"{n}.wav,{'ab'[n % 2]}\n" for n in range(8)))
    save_toy_ears(tmp_path / "ears.onnx")
    save_toy(tmp_path / "toy.onnx")
    words = {
        "classify": ["a.wav", "--model", "toy.onnx"],
        "embed": ["a.wav", "--model", "ears.onnx"],
        "prepare": ["tracks.csv", "--representation", "mfcc"],
        "search": ["mfcc-cnn", "--data", "tracks.csv"],
        "train": ["mfcc-cnn", "--data", "tracks.csv", "--jobs", "2"],
    }[command]
    done = run(command, *words, "--output", "out", "--ray", "--ray-address", address, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    line = done.stderr.decode().splitlines()[-1]
    assert line.startswith("error: ") and address in line and "ray start --head" in line
    assert not (tmp_path / "out").exists()


def test_an_error_of_a_node_names_it() -> None:
    class FarError(Exception):
        cause = BundleError("there is no bundle 'x'", next_step="Copy it there")

    own = own_error(FarError())
    assert isinstance(own, BundleError)
    told = r"on the node one \(10.0.0.1\), there is no bundle 'x'\. Copy it there"
    with pytest.raises(BundleError, match=told), naming_node("one (10.0.0.1)"):
        raise own
    assert own_error(ValueError("of others")) is None


def nodes_of_ray(monkeypatch: pytest.MonkeyPatch, *resources: dict[str, float]) -> Cluster:
    """A cluster as Ray would describe it."""
    nodes = []
    for number, each in enumerate(resources):
        where = {"NodeManagerHostname": f"host{number}", "NodeManagerAddress": f"10.0.0.{number}"}
        nodes.append({"Alive": True, "NodeID": str(number), "Resources": each, **where})
    nodes.append({"Alive": False, "NodeID": "dead", "Resources": {"CPU": 64.0, "GPU": 8.0}})
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(nodes=lambda: nodes))
    return Cluster("10.0.0.0:6379")


def test_what_has_no_room_is_refused_where_ray_would_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = nodes_of_ray(monkeypatch, {"CPU": 3.0}, {"CPU": 2.0, "GPU": 1.0}, {"memory": 1.0})
    cluster.check_room(5)
    cluster.check_room(2, share=2)
    cluster.check_room(1, "GPU")
    with pytest.raises(UsageError, match=r"--jobs 6 need 6 CPUs, and the cluster has 5\. Take fewer --jobs"):
        cluster.check_room(6)
    told = r"--jobs 3 need 6 CPUs, and the cluster has 5, with 2 together on a node for 2 of them"
    with pytest.raises(UsageError, match=told):
        cluster.check_room(3, share=2)
    with pytest.raises(UsageError, match=r"--jobs 2 need 2 GPUs, and the cluster has 1"):
        cluster.check_room(2, "GPU")


def answering(monkeypatch: pytest.MonkeyPatch, change: Callable[[str], str]) -> Cluster:
    """A cluster of two nodes; the second gives another answer than this machine."""
    nodes = Node("0", "one (10.0.0.1)", 1), Node("1", "two (10.0.0.2)", 1)

    def ask(_: Cluster, question: Callable[[], str]) -> dict[Node, str]:
        return {nodes[0]: question(), nodes[1]: change(question())}

    monkeypatch.setattr(Cluster, "ask_nodes", ask)
    return Cluster("10.0.0.0:6379")


def test_a_node_with_other_packages_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, lambda ours: ours).check_packages("numpy", "no-such-package")
    cluster = answering(monkeypatch, lambda ours: re.sub(r"numpy [\d.]+", "numpy none", ours))
    told = (
        r"the node two \(10\.0\.0\.2\) has numpy none, pytest [\d.]+\. Valid: numpy [\d.]+, pytest [\d.]+, as here\."
    )
    with pytest.raises(UsageError, match=told):
        cluster.check_packages("numpy", "pytest")


def test_a_node_that_does_not_share_a_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, lambda ours: ours).check_shared(tmp_path, next_step="Share it")
    cluster = answering(monkeypatch, lambda ours: _says_of_folder(str(tmp_path / "nothing")))
    told = r"the node two \(10\.0\.0\.2\) does not see the folder .*one name.*\. Share it"
    with pytest.raises(DataError, match=told):
        cluster.check_shared(tmp_path, next_step="Share it")

    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("musicgenre.cluster.connect.TemporaryFile", refuse)
    with pytest.raises(DataError, match=r"cannot write \(Permission denied\) into the folder .*\. Share it"):
        cluster.check_shared(tmp_path, next_step="Share it")
    assert list(tmp_path.iterdir()) == []


def test_what_ray_says_goes_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def talking(address: str | None, *, n_cpus: int) -> Iterator[str]:
        print("ray begins")  # noqa: T201 - as Ray does
        yield f"{address} {n_cpus}"
        print("(raylet) a worker died")  # noqa: T201

    monkeypatch.setattr("musicgenre.cluster.connect.connected", talking)
    with attached("10.0.0.0:6379", 2) as cluster:
        assert str(cluster) == "10.0.0.0:6379 2"
    print("a row")  # noqa: T201
    told = capsys.readouterr()
    assert told.out == "a row\n"
    assert told.err == "ray begins\n(raylet) a worker died\n"


def test_a_node_whose_disk_is_full_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from musicgenre.cluster.preparing import _rows_of
    from musicgenre.data.cache import RowCache
    from musicgenre.features.jobs import Cut, Job
    from musicgenre.features.registry import create_representation

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("musicgenre.cluster.preparing.make_rows", full)
    shared = create_representation("mfcc"), Cut(None, None, "float32"), RowCache(tmp_path)
    with pytest.raises(DataError, match=r"the disk is full while writing into .*Free some space"):
        _rows_of(ExitStack(), shared, [Job(tmp_path / "a.wav", None)])


def test_addresses_of_stores_are_told_from_paths() -> None:
    assert as_address(Path("s3://bucket/music")) == "s3://bucket/music", "Path folds its slashes"
    assert as_address("gs://bucket/a b") == "gs://bucket/a b"
    assert as_address("file:///mnt/a%20b") == as_address(Path("file:///mnt/a%20b")) == "/mnt/a b"
    assert as_address(Path("mine/music")) == "mine/music"
    assert is_object("s3://bucket/x.wav")
    assert not is_object("C:/music") and not is_object("a:b/c") and not is_object("file:///x")


@pytest.mark.parametrize("place", ["s3:", "s3://", "gs:/"])
def test_a_kind_of_store_alone_is_no_place(place: str) -> None:
    with pytest.raises(UsageError, match=r"names no place in a store.*BUCKET"):
        as_address(Path(place))


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/a/", "https://host/a.wav", "memory://a/"])
def test_what_keeps_no_files_for_all_nodes_is_refused(address: str) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("fsspec")
    with pytest.raises(UsageError, match="is in no store that keeps files for all nodes"):
        gather_tracks([address], [], stdin=io.BytesIO())


def test_tracks_are_those_of_paths_and_manifests(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav", "notes.txt"):
        (tmp_path / name).touch()
    manifest = tmp_path / "tracks.csv"
    manifest.write_text("path,label\nb.wav,jazz\nc.wav,rock\n")
    listed = io.BytesIO(b"s3://bucket/x.mp3\n")
    found = gather_tracks([str(tmp_path), str(manifest), "-"], [], stdin=listed)
    assert found.paths == (*(str(tmp_path / name) for name in ("a.wav", "b.wav", "c.wav")), "s3://bucket/x.mp3")
    with pytest.raises(UsageError, match="no tracks were named"):
        gather_tracks([], [], stdin=io.BytesIO())


BUSY = OSError("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation: No response body.")


def test_a_busy_store_is_asked_again_and_that_is_told_once() -> None:
    answers: list[OSError | str] = [BUSY, BUSY, "here it is"]
    lines: list[str] = []

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    with telling(lines.append):
        assert asking("s3://bucket/x", ask, waits_s=(0, 0.01)) == "here it is"
    (line,) = lines
    assert "s3://bucket/x is busy (AWS Error UNKNOWN (HTTP status 503)" in line


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (BUSY, DataError, "gave no answer for 0 s .*503.* again with --resume"),
        (ValueError("Empty path component in path b//x"), UsageError, "cannot be used"),
        (OSError("AWS Error ACCESS_DENIED during PutObject operation"), UsageError, "no permission for s3://b/x"),
        (PermissionError(13, "Permission denied"), UsageError, "no permission for s3://b/x"),
        (OSError("AWS Error NO_SUCH_BUCKET during X"), UsageError, "cannot be used .*NO_SUCH_BUCKET"),
        (FileNotFoundError("x"), FileNotFoundError, "x"),
    ],
)
def test_what_a_store_will_not_do_is_told(error: OSError, kind: type[Exception], told: str) -> None:
    def ask() -> None:
        raise error

    with pytest.raises(kind, match=told):
        asking("s3://b/x", ask, waits_s=(0,))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the bucket s3://bucket."""
    fs = pytest.importorskip("pyarrow.fs")
    (tmp_path / "bucket" / "out").mkdir(parents=True)
    files = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr(
        "musicgenre.cluster.storage._filesystem", lambda address: (files, address.removeprefix("s3://"))
    )
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "bucket" / "out"


def test_a_bucket_that_is_not_there_is_told(store: Path) -> None:
    told = r"s3://none/music/ is in no bucket that is there: the store has no none\."
    with pytest.raises(UsageError, match=told):
        gather_tracks(["s3://none/music/"], [], stdin=io.BytesIO())
    with pytest.raises(UsageError, match="the store has no none"):
        Place("s3://none/out").names()
    assert Place("s3://bucket/other").names() == [], "a prefix need not be there"


@pytest.mark.parametrize("operation", ["get_file_info", "open_output_stream"])
def test_a_store_that_forbids_is_asked_once_and_ends_the_command(
    operation: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from musicgenre.cluster import storage

    files, _ = storage._filesystem("s3://bucket")
    asked = []

    class Forbidding:
        def __getattr__(self, name: str) -> Any:
            return self.forbid if name == operation else getattr(files, name)

        def forbid(self, *_: object, **__: object) -> None:
            asked.append(operation)
            raise OSError("AWS Error INVALID_ACCESS_KEY_ID during X: The AWS Access Key Id does not exist")

    monkeypatch.setattr(storage, "_filesystem", lambda address: (Forbidding(), address.removeprefix("s3://")))
    monkeypatch.setattr("musicgenre.cli._options.require", lambda *_: None)
    monkeypatch.setattr("musicgenre.cluster.connect.connected", lambda *_, **__: nullcontext(OneNode()))
    if operation == "get_file_info":
        words = ["s3://bucket/music/", "--output", "s3://bucket/out"]
    else:
        (tmp_path / "a.wav").touch()
        words = [tmp_path / "a.wav", "--output", "s3://bucket/out"]
    save_toy(tmp_path / "toy.onnx")
    done = run("classify", *words, "--ray", "--model", tmp_path / "toy.onnx")
    assert done.returncode == 2 and asked == [operation]
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: no permission for s3://bucket/") and "AWS_ACCESS_KEY_ID or a role" in line


class OneNode:
    """A cluster whose nodes are as this machine is."""

    def check_nodes(self, *_: object) -> None:
        """Nothing is wrong with them."""


SETTINGS = {"model": "toy", "coverage": "full"}


@contextmanager
def results(folder: Path | str, wanted: Sequence[str], **options: Any) -> Iterator[Partitions]:
    columns = AnswerColumns(names_tags=False, names_wide=False, has_card=False, timeline=False)
    how = {"command": "classify", "resume": False, "overwrite": False, "made_with": SETTINGS} | options
    made_with = how.pop("made_with")
    with opened_partitions(str(folder), columns, made_with, wanted, **how) as partitions:
        yield partitions


def row(path: Path | str, error: str | None = None) -> dict[str, Any]:
    state = {"size_bytes": 0, "modified_ns": 0}
    if Path(path).exists():
        state = {"size_bytes": Path(path).stat().st_size, "modified_ns": Path(path).stat().st_mtime_ns}
    return {"path": str(path), "genre": None if error else "jazz", "scores": {"jazz": 0.7}, "error": error, **state}


def held(folder: Path) -> list[tuple[str, str | None]]:
    from pyarrow import parquet

    tables = [parquet.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    return sorted(
        (path, error)
        for table in tables
        for path, error in zip(table["path"].to_pylist(), table["error"].to_pylist(), strict=True)
    )


def test_partitions_go_on_without_doubling_and_try_again_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("musicgenre.cluster.partitions.ROWS_A_PARTITION", 2)
    tracks = [str(tmp_path / name) for name in ("a.wav", "b.wav", "c.wav", "d.wav", "e.wav")]
    for track in tracks:
        Path(track).write_text("sound")
    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), results(folder, tracks) as partitions:
        for track in tracks[:3]:
            partitions.add(row(track))
        partitions.add(row(tracks[3], "is no sound"))
        raise KeyboardInterrupt
    assert held(folder) == [*((track, None) for track in tracks[:3]), (tracks[3], "is no sound")]

    Path(tracks[0]).write_text("another sound")
    with results(folder, tracks, resume=True) as partitions:
        assert partitions.done == {tracks[1], tracks[2]}, "one changed, one failed"
        for track in tracks:
            partitions.add(row(track))
    assert held(folder) == [(track, None) for track in tracks]

    # what fails and is not asked for this time stays
    with results(folder, ["x.wav"], resume=True) as partitions:
        partitions.add(row("x.wav", "first"))
    with results(folder, ["y.wav"], resume=True) as partitions:
        partitions.add(row("y.wav", "second"))
    assert held(folder)[-2:] == [("x.wav", "first"), ("y.wav", "second")]

    with results(folder, tracks, overwrite=True) as partitions:
        assert not partitions.done
        partitions.add(row(tracks[0]))
    assert held(folder) == [(tracks[0], None)]


def test_a_place_of_others_is_refused(tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    with results(ours, []) as partitions:
        partitions.add(row("a.wav"))
    for options, told in (
        ({}, "holds partitions already.* Add --resume"),
        ({"resume": True, "overwrite": True}, "contradict each other"),
        ({"resume": True, "made_with": {**SETTINGS, "coverage": "9"}}, "of another run: coverage 'full', not '9'"),
        ({"resume": True, "command": "embed"}, "holds partitions of 'musicgenre classify'"),
        ({"overwrite": True, "command": "embed"}, "holds partitions of 'musicgenre classify'"),
    ):
        with pytest.raises(UsageError, match=told), results(ours, [], **options):
            pass

    (ours / RECORD_NAME).unlink()
    with (
        pytest.raises(UsageError, match=r"is not empty: it holds part-000000\.parquet"),
        results(ours, [], overwrite=True),
    ):
        pass
    others = tmp_path / "others"
    others.mkdir()
    (others / "holiday.jpg").touch()
    with pytest.raises(UsageError, match=r"is not empty: it holds holiday\.jpg"), results(others, [], resume=True):
        pass
    with pytest.raises(UsageError, match="is a file"), results(others / "holiday.jpg", []):
        pass


def test_of_two_commands_in_a_folder_the_second_is_refused(tmp_path: Path) -> None:
    with results(tmp_path / "out", []) as partitions:
        partitions.add(row("a.wav"))
        told = r"another 'musicgenre classify --ray' \(process \d+ on .* is writing into .*out"
        with pytest.raises(DataError, match=told), results(tmp_path / "out", [], resume=True):
            pass
    assert held(tmp_path / "out") == [("a.wav", None)]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_of_two_commands_in_a_store_the_second_is_refused(
    elsewhere: bool, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = r"another 'musicgenre classify --ray' \(process \d+ on .* since .*\) is writing into s3://bucket/out"
    with results("s3://bucket/out", []) as partitions:
        partitions.add(row("a.wav"))
        if elsewhere:  # a machine of its own knows nothing of the locks of this one
            monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "another"))
        for options in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(DataError, match=told), results("s3://bucket/out", [], **options):
                pass
    assert held(store) == [("a.wav", None)]
    with results("s3://bucket/out", [], resume=True) as partitions:
        partitions.add(row("b.wav"))
    assert held(store) == [("a.wav", None), ("b.wav", None)]
    assert sorted(path.name for path in store.iterdir()) == [
        *(RECORD_NAME, "part-000000.parquet", "part-000001.parquet")
    ], "of the claims nothing is left"


def test_a_command_that_was_killed_blocks_a_store_for_minutes_alone(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with results("s3://bucket/out", []) as partitions:
        partitions.add(row("a.wav"))
        (claim,) = store.glob(".writing-*")
        memory = tmp_path / "cache" / "claims"
        shutil.copytree(memory, tmp_path / "memory")
        text = claim.read_bytes()

    def as_after_a_kill() -> None:
        shutil.rmtree(memory)
        shutil.copytree(tmp_path / "memory", memory)
        claim.write_bytes(text)

    as_after_a_kill()
    with results("s3://bucket/out", [], resume=True):
        assert not claim.exists(), "the machine of the killed one knows it at once"
    as_after_a_kill()
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "another"))
    with (
        pytest.raises(DataError, match=r"for \d+ s more if it was killed"),
        results("s3://bucket/out", [], resume=True),
    ):
        pass
    os.utime(claim, (0, 0))
    with results("s3://bucket/out", [], resume=True):
        assert not claim.exists()
    assert held(store) == [("a.wav", None)]


def test_a_claim_is_put_anew_and_who_lost_it_writes_nothing_more(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musicgenre.cluster.claims._AGAIN_EVERY_S", 0.01)
    with (
        pytest.raises(DataError, match="another command has begun to write into s3://bucket/out"),
        results("s3://bucket/out", []) as partitions,
    ):
        (claim,) = store.glob(".writing-*")
        os.utime(claim, (0, 0))
        wait_until(lambda: claim.stat().st_mtime > 0)
        claim.unlink()  # as one that takes this one for dead does
        partitions.add(row("a.wav"))
    assert held(store) == [] and not claim.exists()


def test_a_damaged_partition_or_record_is_told(tmp_path: Path) -> None:
    with results(tmp_path, []) as partitions:
        partitions.add(row("a.wav"))
    (tmp_path / "part-000000.parquet").write_bytes(b"torn")
    with (
        pytest.raises(DataError, match=r"part-000000\.parquet is damaged .*Delete that file"),
        results(tmp_path, [], resume=True),
    ):
        pass
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pytest.importorskip("pyarrow").table({"x": [1]}), tmp_path / "part-000000.parquet")
    with pytest.raises(DataError, match=r"is damaged .*path"), results(tmp_path, [], resume=True):
        pass
    (tmp_path / RECORD_NAME).write_text("[1")
    with pytest.raises(DataError, match=f"{RECORD_NAME} is damaged"), results(tmp_path, [], resume=True):
        pass


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--format", "csv", "--output", "x"], "--format has no meaning with --ray"),
        (["--threads", "2", "--output", "x"], "--threads has no meaning with --ray"),
        ([], "--ray needs --output"),
        (["--output", "x.csv"], "--output x.csv names a file"),
        (["--output", "-"], "--output - names no place"),
        (["--output", "x", "--resume", "--overwrite"], "contradict each other"),
    ],
)
def test_options_that_mean_nothing_on_a_cluster_are_refused(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("musicgenre.cli._options.require", lambda *_: None)
    done = run("classify", "a.wav", "--ray", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr.decode()


def test_a_folder_of_partitions_is_read_as_one_file_of_embeddings(tmp_path: Path) -> None:
    settings = EmbeddingSettings("toy", "0" * 64, "embedding", "mean", "18")
    for number in range(3):
        tracks = TrackEmbeddings(
            settings,
            (f"{number}.wav",),
            np.full((1, 2), number, np.float16),
            np.array([number], np.int64),
            np.array([number], np.int64),
            np.full((1, 32), number, np.uint8),
        )
        write_embeddings(tmp_path / f"part-{number:06d}.parquet", tracks)
    whole = read_embeddings(tmp_path)
    assert whole.paths == ("0.wav", "1.wav", "2.wav")
    assert whole.vectors.tolist() == [[0, 0], [1, 1], [2, 2]]

    write_embeddings(tmp_path / "part-000003.parquet", replace(tracks, settings=replace(settings, pool="max")))
    with pytest.raises(DataError, match=r"part-000003.parquet was made with other settings than part-000000"):
        read_embeddings(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no partitions"):
        read_embeddings(tmp_path / "empty")
