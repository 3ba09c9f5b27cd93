"""Tracks heard and prepared on clusters of this machine: equal to one machine to the bit, whatever dies in between."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musicgenre.embedding.file import read_embeddings
from musicgenre.errors import BundleError, UsageError
from tests.cli import run
from tests.conftest import ROOT
from tests.labelled_music import make_collection
from tests.limits import wait_until
from tests.sounds import music, write
from tests.toy import RATE_HZ, save_toy, save_toy_ears

pytest.importorskip("ray", reason="needs the extra cluster")
pytestmark = pytest.mark.slow

N_TRACKS = 24
STORE_BYTES = 80_000_000


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of music, models, and what one machine says of it."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "music").mkdir()
    for number in range(N_TRACKS):
        loudness = 0.1 + 0.9 * number / N_TRACKS
        sound = loudness * music(2.0 + number % 3, RATE_HZ, 1, seed=number)
        write(folder / "music" / f"{number:02d}.wav", sound, RATE_HZ)
    (folder / "music" / "torn.mp3").write_text("no sound")
    save_toy(folder / "toy.onnx")
    save_toy_ears(folder / "ears.onnx")

    single = ["--threads", "1", "--jobs", "2", "--quiet"]
    done = run("classify", "music", "--model", "toy.onnx", "--output", "one.jsonl", *single, cwd=folder)
    assert done.returncode == 1
    run("embed", "music", "--model", "ears.onnx", "--output", "one.parquet", *single, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[Any]:
    """A cluster of three nodes with a core each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def here(three_nodes: Any) -> list[str]:
    """What attaches a command to that cluster."""
    return ["--ray", "--ray-address", three_nodes.address]


def rows_of(place: Path) -> dict[str, dict[str, Any]]:
    """Rows of all partitions by path, with their maps as JSON has them; no track stands in two."""
    from pyarrow import parquet

    rows: dict[str, dict[str, Any]] = {}
    for path in sorted(place.glob("*.parquet")):
        for row in parquet.read_table(path).to_pylist():
            assert row["path"] not in rows, "it was heard twice"
            for name in {"scores", "tags"} & row.keys():
                row[name] = dict(row[name])
            rows[row["path"]] = row
    return rows


def lines_of(file: Path) -> dict[str, dict[str, Any]]:
    """Rows of a result file of one machine, by path."""
    return {row["path"]: row for row in map(json.loads, file.read_text("utf-8").splitlines())}


@pytest.mark.parametrize("workers", [1, 2])
def test_answers_are_those_of_one_machine_to_the_bit(desk: Path, here: list[str], workers: int) -> None:
    output = desk / f"answers-{workers}"
    words = ["--model", "toy.onnx", "--output", output, "--jobs", str(workers), *here]
    done = run("classify", "music", *words, cwd=desk)
    assert done.returncode == 1, done.stderr
    told = done.stderr.decode()
    assert "24 classified, 1 failed" in told
    counts = Counter(row["genre"] for row in lines_of(desk / "one.jsonl").values() if row["error"] is None)
    assert all(f"{genre} {n}" in told.splitlines()[-1] for genre, n in counts.items()), "genres are counted"
    assert done.stderr.count(b"failed: music/torn.mp3 is not audio") == 1
    assert done.stdout == b"", "Ray says nothing among results"

    expected = lines_of(desk / "one.jsonl")
    found = rows_of(output)
    assert found == expected
    assert list(found["music/00.wav"]) == list(expected["music/00.wav"]), "the same columns in the same order"


def test_vectors_are_those_of_one_machine_to_the_bit(desk: Path, here: list[str]) -> None:
    done = run("embed", "music", "--model", "ears.onnx", "--output", "vectors", *here, cwd=desk)
    assert done.returncode == 1, done.stderr
    assert b"24 embedded, 1 failed" in done.stderr

    (partition,) = (desk / "vectors").glob("part-*.parquet")
    one, found = read_embeddings(desk / "one.parquet"), read_embeddings(partition)
    assert found.settings == one.settings
    order = np.argsort(found.paths)
    assert [found.paths[place] for place in order] == list(one.paths)
    for name in ("vectors", "size_bytes", "modified_ns", "sha256"):
        np.testing.assert_array_equal(getattr(found, name)[order], getattr(one, name))
    assert [row["path"] for row in rows_of(desk / "vectors").values() if row.get("error")] == ["music/torn.mp3"]
    assert len(read_embeddings(desk / "vectors")) == N_TRACKS, "the folder is read as one file"


def test_a_node_that_dies_costs_nothing(desk: Path, three_nodes: Any) -> None:
    from musicgenre.cluster.connect import connected
    from musicgenre.cluster.hearing import Answers, hear_on_cluster

    lost = three_nodes.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    three_nodes.wait_for_nodes()
    names = sorted(str(path) for path in (desk / "music").iterdir())
    # the same sounds under many names, so that the node has some of them when it goes
    many = desk / "many"
    many.mkdir()
    for copy in range(8):
        for name in names:
            (many / f"{copy}-{Path(name).name}").symlink_to(name)
    paths = sorted(str(path) for path in many.iterdir())
    seen = 0

    def kill_in_the_middle(row: dict[str, Any]) -> None:
        nonlocal seen
        seen += 1
        if seen == len(paths) // 4:
            three_nodes.remove_node(lost, allow_graceful=False)

    with connected(three_nodes.address) as cluster:
        assert len(cluster.nodes) == 4
        hearing = Answers({"model": str(desk / "toy.onnx")})
        report = hear_on_cluster(cluster, hearing, paths, str(desk / "survived"), on_row=kill_in_the_middle)
        wait_until(lambda: len(cluster.nodes) == 3)  # Ray takes seconds to notice
    assert (report.heard, report.reused, len(report.failures)) == (8 * N_TRACKS, 0, 8)

    one = lines_of(desk / "one.jsonl")
    found = rows_of(desk / "survived")
    assert sorted(found) == paths
    for path, row in found.items():
        same = one[f"music/{Path(path).name.partition('-')[2]}"]
        assert (row["scores"], row["sha256"]) == (same["scores"], same["sha256"])


def test_a_killed_driver_loses_what_was_not_written_and_resuming_doubles_nothing(desk: Path, here: list[str]) -> None:
    output = desk / "resumed"
    code = (
        "import sys; from musicgenre.cluster import partitions; partitions.ROWS_A_PARTITION = 5;"
        " from musicgenre.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "classify", "music", "--model", "toy.onnx", "--output", str(output), *here]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    driver = subprocess.Popen(command, cwd=desk, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: len(list(output.glob("part-*.parquet"))) >= 2 or driver.poll() is not None)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    before = {path.name: path.read_bytes() for path in output.glob("part-*.parquet")}
    assert before

    words = ["--model", "toy.onnx", "--output", output, *here]
    assert run("classify", "music", *words, cwd=desk).returncode == 2, "unasked, nothing is added"
    done = run("classify", "music", *words, "--resume", cwd=desk)
    assert done.returncode == 1, done.stderr
    assert b"done before" in done.stderr
    assert {name: (output / name).read_bytes() for name in before} == before, "what is finished stays"
    assert rows_of(output) == lines_of(desk / "one.jsonl")

    done = run("classify", "music", *words, "--resume", cwd=desk)
    assert b"0 classified, 24 done before, 1 failed" in done.stderr, "what failed is tried again"
    assert rows_of(output) == lines_of(desk / "one.jsonl")
    done = run("classify", "music", *words, "--resume", "--coverage", "full", cwd=desk)
    assert done.returncode == 2
    assert b"holds partitions of another run: coverage 'default', not 'full'" in done.stderr
    assert rows_of(output) == lines_of(desk / "one.jsonl")


def test_a_store_is_the_one_that_one_machine_prepares(desk: Path, here: list[str]) -> None:
    make_collection(desk / "labelled")
    run("data", "index", "labelled", "--output", "tracks.csv", cwd=desk)
    how = ["tracks.csv", "--representation", "mfcc", "--segment", "1", "--quiet"]
    run("prepare", *how, "--output", "store", "--cache", "cache", "--jobs", "1", cwd=desk)
    done = run("prepare", *how, "--output", "ray-store", "--cache", "ray-cache", *here, cwd=desk)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (desk / "store").iterdir())
    assert sorted(path.name for path in (desk / "ray-store").iterdir()) == names
    for name in names:
        assert (desk / "ray-store" / name).read_bytes() == (desk / "store" / name).read_bytes()


def test_a_node_with_another_model_or_none_is_named(three_nodes: Any) -> None:
    from musicgenre.cluster.connect import connected

    with connected(three_nodes.address) as cluster:
        odd = cluster.nodes[-1]
        odd_id = odd.id

        def checksum(missing: bool = False) -> str:
            import ray

            if ray.get_runtime_context().get_node_id() != odd_id:
                return "a" * 64
            if missing:
                raise BundleError("there is no bundle 'mine'")
            return "b" * 64

        told = rf"{odd.name.split(' ')[0]} \(.*\) has another version of the model mine: b{{12}}, not a{{12}}"
        with pytest.raises(UsageError, match=told):
            cluster.check_nodes(checksum, "a" * 64, "the model mine")
        with pytest.raises(BundleError, match=r"on the node .*, there is no bundle 'mine'"):
            cluster.check_nodes(lambda: checksum(missing=True), "a" * 64, "the model mine")


def test_a_node_that_comes_later_with_another_model_hears_nothing(desk: Path, three_nodes: Any) -> None:
    from musicgenre.cluster.actors import in_actors
    from musicgenre.cluster.connect import connected
    from musicgenre.cluster.hearing import Answers

    hearing = Answers({"model": str(desk / "toy.onnx")})
    hearing.made_with["model_sha256"] = "b" * 64
    with connected(three_nodes.address) as cluster:
        told = r"on the node .*, there is another version of the model toy: [0-9a-f]{12}\. Valid: b{12}, by"
        with pytest.raises(UsageError, match=told):
            list(in_actors(cluster, hearing, [str(desk / "music" / "00.wav")]))


def test_an_item_that_kills_its_workers_is_given_up_alone(three_nodes: Any) -> None:
    from musicgenre.cluster.actors import in_actors
    from musicgenre.cluster.connect import connected

    def make() -> Any:
        def double(numbers: list[int]) -> list[int]:
            if 5 in numbers:
                os.kill(os.getpid(), signal.SIGKILL)
            return [2 * number for number in numbers]

        return double

    with connected(three_nodes.address) as cluster:
        found = list(in_actors(cluster, make, range(10), n_actors=2))
    assert sorted(found, key=lambda pair: pair[0]) == [
        (number, None if number == 5 else 2 * number) for number in range(10)
    ]


def test_nodes_with_other_versions_are_refused(three_nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from musicgenre.cluster.connect import connected

    monkeypatch.setattr("musicgenre.cluster.connect.__version__", "9.9")
    told = r"the node .* has Python .*, musicgenre \d.*\. .*, musicgenre 9\.9, as here\. Install the same versions"
    with pytest.raises(UsageError, match=told), connected(three_nodes.address):
        pass


def test_a_node_without_musicgenre_can_say_so() -> None:
    from ray import cloudpickle

    from musicgenre.cluster.connect import _asked_from, _version_question

    code = "import sys; sys.modules['musicgenre'] = None; import pickle; print(pickle.load(sys.stdin.buffer)())"
    question = cloudpickle.dumps(_asked_from("/", _version_question()))
    done = subprocess.run([sys.executable, "-c", code], input=question, capture_output=True, check=True)
    assert done.stdout.strip().endswith(b", musicgenre none"), done


def test_more_workers_than_cores_are_refused(desk: Path, here: list[str]) -> None:
    done = run("classify", "music", "--model", "toy.onnx", "--output", "none", "--jobs", "9", *here, cwd=desk)
    assert done.returncode == 2
    assert b"9 workers do not fit the cluster. Valid: 3 at most: one a core" in done.stderr


def test_usage_statistics_are_off_here_and_on_every_node(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray._common.usage import usage_lib

    from musicgenre.cluster.connect import connected

    def is_on() -> str:
        from ray._common.usage import usage_lib

        return str(usage_lib.usage_stats_enabled())

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with connected(n_cpus=1, object_store_bytes=STORE_BYTES) as cluster:
        assert not usage_lib.usage_stats_enabled()
        assert set(cluster.ask_nodes(is_on).values()) == {"False"}
        socket = Path(ray.nodes()[0]["ObjectStoreSocketName"].removeprefix("unix://"))
        (folder,) = (parent for parent in socket.parents if parent.name.startswith(".musicgenre-ray."))
        assert folder.is_dir()
        started = ray._private.worker._global_node.all_processes
        assert "raylet" in started
        assert "dashboard" not in started, "it would look up hosts"
    assert not folder.exists(), "nothing of it stays"


class Store:
    """A store like S3 on this machine, that answers 503 or 403 as often as it is told."""

    def __init__(self) -> None:
        server = pytest.importorskip("moto.server", reason="needs the extra cluster-test")
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._app = server.DomainDispatcherApplication(server.create_backend_app)
        self.n_refused, self.status = 0, b""
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.variables = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _answer(self, environment: Any, start: Any) -> Any:
        if self.n_refused:
            self.n_refused -= 1
            start(self.status.decode(), [("Content-Type", "application/xml")])
            return [b"<Error><Code>" + self.status.split(b" ", 1)[1].replace(b" ", b"") + b"</Code></Error>"]
        return self._app(environment, start)

    def close(self) -> None:
        self._server.shutdown()


@pytest.fixture(scope="module")
def store(desk: Path) -> Iterator[Store]:
    store = Store()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.variables.items():
            patch.setenv(name, value)
        import boto3

        client = boto3.client("s3")
        client.create_bucket(Bucket="library")
        for path in (desk / "music").iterdir():
            client.upload_file(str(path), "library", f"music/{path.name}")
        client.put_object(Bucket="library", Key="music/cover.jpg", Body=b"no track")
        yield store
    store.close()


def test_music_and_results_lie_in_a_store_that_is_busy_for_a_while(desk: Path, store: Store) -> None:
    from musicgenre.cluster.storage import Place

    words = ["--model", "toy.onnx", "--output", "s3://library/answers", "--ray", "--jobs", "1"]
    store.n_refused, store.status = 2, b"503 Slow Down"
    environment = {**store.variables, "RAY_ADDRESS": ""}
    done = run("classify", "s3://library/music/", *words, cwd=desk, env=environment)
    assert done.returncode == 1, done.stderr
    assert b" is busy (" in done.stderr
    assert b"24 classified, 1 failed; in s3://library/answers" in done.stderr

    place = Place("s3://library/answers")
    assert [name for name in place.names() if not name.startswith("part-")] == [
        "failed-000001.parquet",
        "musicgenre-run.json",
    ]
    copy = desk / "from-store"
    copy.mkdir()
    for name in place.names():
        (copy / name).write_bytes(place.read(name))
    one = lines_of(desk / "one.jsonl")
    found = rows_of(copy)
    assert len(found) == len(one)
    for path, row in found.items():
        same = one[path.removeprefix("s3://library/")]
        times = {"path", "modified_ns", "error"}  # an object has a time of its own
        assert {name: cell for name, cell in row.items() if name not in times} == {
            name: cell for name, cell in same.items() if name not in times
        }
    assert found["s3://library/music/torn.mp3"]["error"].startswith("s3://library/music/torn.mp3 is not audio")


def test_a_store_that_forbids_is_one_clear_line(desk: Path, store: Store) -> None:
    store.n_refused, store.status = 10_000, b"403 Access Denied"
    try:
        words = ["--model", "toy.onnx", "--output", "s3://library/other", "--ray"]
        done = run("classify", "s3://library/music/", *words, cwd=desk, env=store.variables)
    finally:
        store.n_refused = 0
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"error: no permission for s3://library/music/" in done.stderr
