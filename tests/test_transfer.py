"""Downloads from a server on this machine that is slow, lies, or sends something else."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from musicgenre._telling import telling
from musicgenre._weight_files import WeightFile, cached_or_fetched, load_strictly, read_weights
from musicgenre.data.download import download
from musicgenre.data.sets.registry import Archive
from musicgenre.data.shard_places import fetch
from musicgenre.errors import BundleError, DataError
from musicgenre.features.published.vggish.network import read_pca

Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def serving() -> Iterator[Callable[[Answer], str]]:
    """Start servers that answer as told; give the address of a file there."""
    servers: list[ThreadingHTTPServer] = []

    def serve(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/file"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


def sending(content: bytes, kind: str = "application/octet-stream", said: int | None = None) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(content) if said is None else said))
        request.end_headers()
        request.wfile.write(content)

    return answer


def trickle(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "1000000")
    request.end_headers()
    with suppress(OSError):
        while True:
            request.wfile.write(b"x")
            time.sleep(0.02)


def trickle_headers(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\n")
    with suppress(OSError):
        for number in range(10):
            request.wfile.write(f"X-{number}: y\r\n".encode())
            time.sleep(0.02)
        request.connection.recv(1)  # until the other side hangs up


@contextmanager
def short_minute(answer: Answer) -> Iterator[None]:
    """Let a minute be 0.3 s for what trickles in an answer, and for nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        if answer in (trickle, trickle_headers):
            patch.setattr("musicgenre._transfer._WINDOW_S", 0.3)
        if answer is trickle:  # its headers may take their time
            patch.setattr("threading.Timer.start", lambda _: None)
        yield


def endless(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    with suppress(OSError):
        while True:
            request.wfile.write(b"x" * 10_000)


def whole_npz() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.npy"), "x")  # the same whenever it is made
    return stream.getvalue()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (trickle, "sent only .* bytes in a minute"),
        (trickle_headers, "gave no answer within"),
        (sending(b"<html>sign in</html>", "text/html; charset=utf-8"), "web page in the place of the file"),
        (sending(whole_npz(), said=5_000), "broke after .* of 5000 bytes"),
        (sending(b"no zip at all"), "no whole .npz file"),
        (sending(whole_npz()[:-30]), "no whole .npz file"),
    ],
)
def test_what_is_not_the_file_never_takes_its_place(
    serving: Callable[[Answer], str], cache: Path, answer: Answer, reason: str
) -> None:
    """Also where no hash is published, as for the PCA of VGGish."""
    with short_minute(answer), pytest.raises(BundleError, match=reason):
        cached_or_fetched(WeightFile("pca.npz", serving(answer), ""), "options.pca")
    assert not list(cache.iterdir())


def test_a_whole_file_is_kept_and_told_of(serving: Callable[[Answer], str], cache: Path) -> None:
    told: list[str] = []
    with telling(told.append):
        path = cached_or_fetched(WeightFile("pca.npz", serving(sending(whole_npz())), ""), "options.pca")
    assert path.read_bytes() == whole_npz() and path.parent == cache
    assert told == ["downloading pca.npz: 0 of 0 MB"]


def test_two_first_fetches_at_once_both_end_well(serving: Callable[[Answer], str], cache: Path) -> None:
    published = WeightFile("pca.npz", serving(sending(whole_npz())), "")
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: cached_or_fetched(published, "options.pca"), range(4)))
    assert set(paths) == set(cache.iterdir()) and paths[0].read_bytes() == whole_npz()


def test_what_killed_downloads_left_goes_after_a_day(serving: Callable[[Answer], str], cache: Path) -> None:
    cache.mkdir(parents=True)
    old, fresh = cache / ".vgg.pth.abc.tmp", cache / ".vgg.pth.def.tmp"
    old.write_bytes(b"part")
    fresh.write_bytes(b"part")
    os.utime(old, (time.time() - 100_000,) * 2)
    cached_or_fetched(WeightFile("pca.npz", serving(sending(whole_npz())), ""), "options.pca")
    assert sorted(cache.iterdir()) == [fresh, cache / "pca.npz"]


def test_a_disk_that_takes_no_more_is_not_blamed_on_the_network(
    serving: Callable[[Answer], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("musicgenre._weight_files.receive", full)
    monkeypatch.setattr("musicgenre.data.download.receive", full)
    address = serving(sending(whole_npz()))
    with pytest.raises(BundleError, match=r"No space left.*Free some space\.$"):
        cached_or_fetched(WeightFile("pca.npz", address, ""), "options.pca")
    with pytest.raises(DataError, match=r"takes no more of set\.zip.*Free some space, then"):
        download(Archive("set.zip", (address,), None, "us"), tmp_path)


def test_an_archive_that_trickles_ends_and_resumes(serving: Callable[[Answer], str], tmp_path: Path) -> None:
    content = b"y" * 1000
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    with short_minute(trickle), pytest.raises(DataError, match=r"sent only .* bytes in a minute.*resumes"):
        download(Archive("a.zip", (serving(trickle),), checksum), tmp_path)
    assert (tmp_path / "a.zip.part").stat().st_size > 0
    assert download(Archive("a.zip", (serving(sending(content)),), checksum), tmp_path).read_bytes() == content


def test_a_web_page_is_no_archive_even_without_a_checksum(serving: Callable[[Answer], str], tmp_path: Path) -> None:
    page = sending(b"<html>", "text/html")
    with pytest.raises(DataError, match="web page"):
        download(Archive("a.zip", (serving(page),), None), tmp_path)
    assert not (tmp_path / "a.zip").exists()


def test_a_file_without_end_is_thrown_away(serving: Callable[[Answer], str], tmp_path: Path) -> None:
    checksum = f"sha256:{'0' * 64}"
    with pytest.raises(DataError, match="sent more than 2 MB, which the file cannot have"):
        download(Archive("a.zip", (serving(endless),), checksum), tmp_path, most=2_000_000)
    assert not list(tmp_path.iterdir())


def test_shards_that_trickle_or_have_no_end_are_given_up(
    serving: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("musicgenre.data.shard_places._WAIT_S", 0.0)
    with (
        short_minute(trickle),
        pytest.raises(DataError, match=r"/file cannot be read \(the server sent only .* bytes in a minute"),
    ):
        fetch(serving(trickle), n_bytes=1_000_000)
    with pytest.raises(DataError, match=r"sent more than 100 bytes"):
        fetch(serving(endless), n_bytes=100)


class _Code:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("ran"),))


def test_a_file_that_would_run_code_is_refused_without_advice_to_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(_Code(), protocol=4))
    with pytest.raises(BundleError, match="nothing of it was run") as refused:
        read_weights(path)
    assert "weights_only" not in str(refused.value) and not list(recwarn)
    assert not Path("ran").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_pca_of_no_numbers_is_refused(tmp_path: Path, value: float) -> None:
    path = tmp_path / "pca.npz"
    vectors = np.eye(128)
    vectors[3, 5] = value
    np.savez(path, pca_eigen_vectors=vectors, pca_means=np.zeros((128, 1)))
    with pytest.raises(BundleError, match="no finite numbers"):
        read_pca(path)


@pytest.mark.parametrize(
    "odd",
    [
        torch.zeros(2, 2).to_sparse(),
        torch.zeros(2, 2, dtype=torch.complex64),
        torch.zeros(2, 2, device="meta"),
        torch.full((2, 2), torch.nan),
        torch.tensor([[torch.inf, 0.0], [0.0, -torch.inf]]),
    ],
    ids=["sparse", "complex", "without values", "no numbers", "not finite"],
)
def test_tensors_that_are_no_weights_are_refused(tmp_path: Path, odd: torch.Tensor) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"weight": odd, "bias": torch.zeros(2)}, path)
    with pytest.raises(BundleError, match=r"no finite plain numbers: weight\. Valid: dense tensors"):
        load_strictly(torch.nn.Linear(2, 2), path, valid="a layer")
    torch.save({"weight": torch.zeros(2, 2, dtype=torch.int64), "bias": torch.zeros(2)}, path)
    with pytest.raises(BundleError, match=r"other numbers: weight torch.int64"):
        load_strictly(torch.nn.Linear(2, 2), path, valid="a layer")


def test_finite_numbers_whose_sum_runs_over_are_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.full((2, 2), 3e38), "bias": torch.zeros(2)}, path)
    assert float(read_weights(path)["weight"].sum()) == np.inf
