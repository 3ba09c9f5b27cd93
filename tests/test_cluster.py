"""Work on a cluster, as far as it needs no Ray: what is refused before anything is imported, and how it is said."""

from __future__ import annotations

import socket
import subprocess
import sys
from importlib.util import find_spec

import pytest

from musicgenre.cli._options import check_ray_options
from musicgenre.cluster.connect import connected, naming_node, own_error
from musicgenre.errors import BundleError, MissingExtraError, UsageError

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


def test_an_error_of_a_node_names_it() -> None:
    class FarError(Exception):
        cause = BundleError("there is no bundle 'x'", next_step="Copy it there")

    own = own_error(FarError())
    assert isinstance(own, BundleError)
    told = r"on the node one \(10.0.0.1\), there is no bundle 'x'\. Copy it there"
    with pytest.raises(BundleError, match=told), naming_node("one (10.0.0.1)"):
        raise own
    assert own_error(ValueError("of others")) is None
