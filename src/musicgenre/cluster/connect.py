"""Start Ray on this machine or attach to a cluster, and ask its nodes whether they are fit for the work.

Ray is imported here first, after its usage statistics are off (`musicgenre._privacy`). A cluster of this machine alone
goes with the block that uses it, its folder of logs too.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import Any

from musicgenre import _debug
from musicgenre._files import temporary_folder, writing_to
from musicgenre._parallel import usable_cores
from musicgenre._privacy import TELEMETRY_OFF
from musicgenre._telling import tell
from musicgenre._text import printable
from musicgenre._version import __version__
from musicgenre.errors import DataError, MissingExtraError, MusicgenreError, UsageError, require

EXTRA = "cluster"
OBJECT_STORE_BYTES = 256_000_000
"""Shared memory that Ray takes on this machine: what passes through it are names and answers, and no sound."""

_ADDRESS_VARIABLE = "RAY_ADDRESS"
_REACH_S = 10.0  # Ray itself would try for minutes
_PORT = 6379  # of a cluster that `ray start --head` began
_SHOWN_CHARACTERS = 300  # of what Ray says
_HOW_TO_NAME = "HOST:PORT as 'ray start --head' prints it, or auto for the cluster that this machine is part of"
_SAME_PACKAGES = "Install the same versions of them on every node: pip install -c constraints.txt"
_ON_EACH_NODE = "Install the same versions of Python, ray and musicgenre on every node"


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster that can work.

    Attributes
    ----------
    id : str
        Ray's name of it.
    name : str
        Its address and host name, for messages.
    n_cpus : int
        Cores that Ray may give away there.
    """

    id: str
    name: str
    n_cpus: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """What this process is attached to, as long as the block of `connected` lasts.

    Attributes
    ----------
    address : str or None
        Where the cluster is; None for this machine alone.
    """

    address: str | None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that are alive and have a core to give."""
        import ray

        found = []
        for node in ray.nodes():
            n_cpus = int(node["Resources"].get("CPU", 0))
            if node["Alive"] and n_cpus:
                name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
                found.append(Node(node["NodeID"], name, n_cpus))
        return tuple(found)

    @property
    def n_cpus(self) -> int:
        """Cores of all nodes together."""
        return sum(node.n_cpus for node in self.nodes)

    def ask_nodes(self, question: Callable[[], str]) -> dict[Node, str]:
        """Ask every node at once.

        Parameters
        ----------
        question : callable
            Runs on each node; it is sent there, so it is a function of a module or a `partial` of one.

        Returns
        -------
        dict
            The answer of each node.

        Raises
        ------
        MusicgenreError
            What the question raised on a node, with the name of the node.
        """
        answers = {}
        asked = [(node, self._begin(question, node)) for node in self.nodes]
        for node, answer in asked:
            with naming_node(node.name):
                answers[node] = str(_result(answer))
        return answers

    def check_nodes(self, question: Callable[[], str], expected: str, what: str) -> None:
        """Refuse a cluster with a node whose answer is another one than this machine's.

        Parameters
        ----------
        question : callable
            As `ask_nodes` takes it; such as the checksum of a model.
        expected : str
            The answer of this machine.
        what : str
            What is asked for, for the message: "the model default".

        Raises
        ------
        UsageError
            A node has another version of it.
        MusicgenreError
            A node has none.
        """
        for node, answer in self.ask_nodes(question).items():
            if answer != expected:
                raise UsageError(
                    f"the node {node.name} has another version of {what}: {answer[:12]}, not {expected[:12]}",
                    valid="The same on every node, by its checksum",
                    next_step="Copy it there from this machine, or keep it in a folder that all nodes share",
                )

    def check_packages(self, *packages: str) -> None:
        """Refuse nodes where packages that the work needs have other versions than here, or are missing.

        Raises
        ------
        UsageError
            A node has other versions of them.
        """
        question = partial(_versions_of, packages)
        ours = question()
        for node, theirs in self.ask_nodes(question).items():
            if theirs != ours:
                raise UsageError(
                    f"the node {node.name} has {theirs}", valid=f"{ours}, as here", next_step=_SAME_PACKAGES
                )

    def check_room(self, n_processes: int, resource: str = "CPU", share: int = 1) -> None:
        """Refuse more processes than have room, even if nothing else works there: Ray would wait for a new node.

        Parameters
        ----------
        n_processes : int
            Processes at a time, as `--jobs` says it.
        resource : {"CPU", "GPU"}
            What each of them needs.
        share : int
            How many of it, on one node.

        Raises
        ------
        UsageError
            They do not fit.
        """
        import ray

        each_node = [int(node["Resources"].get(resource, 0)) for node in ray.nodes() if node["Alive"]]
        room = sum(n // share for n in each_node)
        if room >= n_processes:
            return
        wanted = f"--jobs {n_processes} need {n_processes * share} {resource}s"
        together = "" if share == 1 else f", with {share} together on a node for {room} of them"
        raise UsageError(
            f"{wanted}, and the cluster has {sum(each_node)}{together}",
            next_step="Take fewer --jobs, or add nodes",
        )

    def check_shared(self, folder: Path, *, next_step: str) -> None:
        """Refuse a cluster with a node that does not see a folder of this machine, or may not write there.

        Parameters
        ----------
        folder : Path
            A folder of this machine that can be written to.
        next_step : str
            What to do about it.

        Raises
        ------
        DataError
            A node is without it, or this machine cannot write there.
        """
        folder = folder.absolute()
        with writing_to(folder), NamedTemporaryFile(prefix=".seen-", dir=folder) as token:
            for node, answer in self.ask_nodes(partial(_says_of_folder, token.name)).items():
                if answer:
                    raise DataError(
                        f"the node {node.name} {answer} the folder {printable(folder)}",
                        valid="A folder that all nodes share under one name, and may write to",
                        next_step=next_step,
                    )

    def _begin(self, function: Callable[[], Any], node: Node) -> Any:
        """Let a node call a function; the answer comes later."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        place = NodeAffinitySchedulingStrategy(node.id, soft=False)
        remote = ray.remote(_asked_from(str(Path.cwd()), function))
        return remote.options(num_cpus=0, scheduling_strategy=place).remote()

    def _check_versions(self) -> None:
        """Refuse nodes with another Python, Ray or musicgenre."""
        import ray

        python = ".".join(map(str, sys.version_info[:3]))
        ours = f"Python {python}, ray {ray.__version__}, musicgenre {__version__}"
        for node, theirs in self.ask_nodes(_version_question()).items():
            if theirs != ours:
                raise UsageError(
                    f"the node {node.name} has {theirs}", valid=f"{ours}, as here", next_step=_ON_EACH_NODE
                )


@contextmanager
def connected(
    address: str | None = None, *, n_cpus: int | None = None, object_store_bytes: int = OBJECT_STORE_BYTES
) -> Iterator[Cluster]:
    """Attach to a cluster in the block, or start one of this machine alone.

    Parameters
    ----------
    address : str, optional
        `HOST:PORT` or `auto`; by default what the variable RAY_ADDRESS says, else this machine.
    n_cpus : int, optional
        Cores to use of this machine, where no cluster is named; by default all.
    object_store_bytes : int
        Shared memory for Ray on this machine, where no cluster is named.

    Yields
    ------
    Cluster
        With a node at least, all of them with the same versions as here.

    Raises
    ------
    MissingExtraError
        Ray is not installed.
    UsageError
        There is no cluster at the address, or its versions are other ones.
    """
    require("working with Ray", EXTRA, "ray")
    address = address or os.environ.get(_ADDRESS_VARIABLE) or None
    if address == "local":  # Ray's own word for it
        address = None
    if address is not None:
        _check_reachable(address)

    os.environ.update(TELEMETRY_OFF)  # again: somebody may have changed it since
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "warning" if _debug.is_wanted() else "fatal")
    import ray

    with ExitStack() as stack:
        # What Ray says of itself is for those who look for a fault.
        how: dict[str, Any] = {"log_to_driver": _debug.is_wanted(), "logging_level": logging.ERROR}
        if address is None:
            # Its sockets lie there too, whose names may not be long: so never in a TMPDIR.
            place = Path("/tmp" if os.name == "posix" else tempfile.gettempdir())
            folder = stack.enter_context(temporary_folder(place / "musicgenre-ray"))
            how |= {
                "_temp_dir": str(folder),
                "num_cpus": n_cpus or usable_cores(),
                "object_store_memory": object_store_bytes,
                "include_dashboard": False,
            }
            tell("starting Ray on this machine")
        stack.callback(ray.shutdown)
        _start(address, how)

        cluster = Cluster(address)
        if not cluster.nodes:
            raise UsageError(f"the cluster at {address} has no node with a core", next_step="Add one: ray start")
        if address is not None:
            cluster._check_versions()
        yield cluster


@contextmanager
def naming_node(name: str) -> Iterator[None]:
    """Let errors of ours, also those that Ray brings from a node, name the node that raised them."""
    try:
        yield
    except MusicgenreError as error:
        if isinstance(error, MissingExtraError):
            raise UsageError(f"on the node {name}, {error.problem}", next_step=error.next_step) from error
        raise type(error)(
            f"on the node {name}, {error.problem}", valid=error.valid, next_step=error.next_step
        ) from error


def this_node() -> str:
    """Name of the machine that this process of a cluster runs on, as `Cluster.nodes` has it."""
    import ray.util

    return f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"


def enter_folder(folder: str) -> None:
    """Go to the folder in which the command was called, for names that count from there."""
    with suppress(OSError):  # a node without that folder finds none of those names
        os.chdir(folder)


def own_error(error: BaseException) -> MusicgenreError | None:
    """Find the error of ours that Ray brought from another process; None where there is none."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MusicgenreError) and type(error).__module__ == MusicgenreError.__module__:
            return error
        following = getattr(error, "cause", None) or error.__cause__
        if following is None:
            return None
        error = following
    return None


def _start(address: str | None, how: dict[str, Any]) -> None:
    """Call Ray's own start; what it cannot do becomes an error of ours."""
    import ray

    try:
        with _without_reporter():
            ray.init(address=address or "local", **how)
    except (ConnectionError, TimeoutError) as error:
        raise _unreachable(str(address), str(error)) from error
    except (RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:_SHOWN_CHARACTERS]
        if "mismatch" in reason:
            raise UsageError(
                f"the cluster at {address} has other versions ({reason})", next_step=_ON_EACH_NODE
            ) from error
        where = "on this machine" if address is None else f"at {address}"
        raise UsageError(
            f"Ray {where} cannot be used ({reason})", next_step="Add --debug to see what it says"
        ) from error
    if not _debug.is_wanted():
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        # It prints the deaths of workers among the results of a command, and has no option for that.
        ray._private.worker.print_to_stdstream = lambda *_, **__: None


@contextmanager
def _without_reporter() -> Iterator[None]:
    """Let Ray start no process for its usage statistics in the block.

    It starts one without a dashboard too, and with statistics off, which looks up hosts to learn in which cloud it is.
    There is no option against it.
    """
    from ray._private import services

    start = services.start_api_server
    services.start_api_server = lambda *_, **__: ("", None)  # no address, no process
    try:
        yield
    finally:
        services.start_api_server = start


def _check_reachable(address: str) -> None:
    """Refuse what is no address, and one where nobody listens: Ray would try for minutes."""
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if "//" in address or not colon or not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UsageError(
            f"--ray-address {address!r} is no address of a cluster",
            valid=_HOW_TO_NAME,
            next_step=f"The port is {_PORT} where none was chosen; a ray:// client runs on a node of the cluster",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_S).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from error
    except UnicodeError as error:  # a name that no host can have
        raise _unreachable(address, str(error)) from error


def _unreachable(address: str, reason: str) -> UsageError:
    reason = " ".join(reason.split())[:_SHOWN_CHARACTERS]
    return UsageError(
        f"there is no Ray cluster at {address} ({reason})",
        valid=_HOW_TO_NAME,
        next_step="Start one with: ray start --head --disable-usage-stats; or leave the address out for this machine",
    )


def _result(answer: Any) -> Any:
    """Wait for what a node answers; an error of ours is raised as it was there."""
    import ray

    try:
        return ray.get(answer)
    except ray.exceptions.RayError as error:
        own = own_error(error)
        if own is not None:
            raise own from error
        reason = " ".join(str(getattr(error, "cause", None) or error).split())[:_SHOWN_CHARACTERS]
        raise UsageError(f"it cannot do what it was asked ({reason})", next_step=_ON_EACH_NODE) from error


def _asked_from(folder: str, function: Callable[[], Any]) -> Callable[[], Any]:
    """Make a function that a node calls in the folder of this process, for names that count from there.

    It is sent as it is and stands for itself, so that a node without musicgenre can call it too.
    """

    def answer() -> Any:
        with suppress(OSError):  # a node without that folder finds none of those names
            os.chdir(folder)
        return function()

    return answer


def _versions_of(packages: Sequence[str]) -> str:
    """Versions of packages where it is called, as `torch 2.13.0, lightning none`."""
    parts = []
    for package in packages:
        try:
            parts.append(f"{package} {version_of(package)}")
        except PackageNotFoundError:
            parts.append(f"{package} none")
    return ", ".join(parts)


def _says_of_folder(token: str) -> str:
    """Say what is wrong with the folder of a file where it is called; empty where it can be written to."""
    if not Path(token).exists():
        return "does not see"
    try:
        TemporaryFile(dir=Path(token).parent).close()
    except OSError as error:
        return f"cannot write ({error.strerror}) into"
    return ""


def _version_question() -> Callable[[], str]:
    """Make the question for versions; it is sent as it is, for a node without musicgenre must answer too."""

    def versions() -> str:
        import sys

        import ray

        try:
            from musicgenre._version import __version__ as version
        except ImportError:
            version = "none"
        python = ".".join(map(str, sys.version_info[:3]))
        return f"Python {python}, ray {ray.__version__}, musicgenre {version}"

    return versions
