"""Published networks behind a bundle's graph: files of their own, byte for byte as they were published.

A bundle holds the front end and the checksums; what its graph gives goes through its stages, one after the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musicgenre.bundle._graph import GraphError, read_graph
from musicgenre.errors import BundleError
from musicgenre.features.published.essentia.files import kept_path
from musicgenre.features.published.essentia.network import open_network

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from musicgenre._onnxruntime import Session
    from musicgenre.bundle.card import BundleCard

    Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One published network.

    Attributes
    ----------
    file : str
        Name of its file, among the kept published ones.
    sha256 : str
        Checksum of that file.
    reads : str
        Which output of what comes before it goes in.
    input : str
        What the network calls its input.
    outputs : mapping of str to str
        Its outputs by what a bundle calls them: `tags`, `embedding`, `logits`.
    """

    file: str
    sha256: str
    reads: str
    input: str
    outputs: Mapping[str, str]

    @classmethod
    def from_values(cls, values: Mapping[str, Any], where: str) -> Stage:
        """Make a stage of plain values.

        Raises
        ------
        BundleError
            When they describe none.
        """
        names = ("file", "sha256", "reads", "input")
        outputs = values.get("outputs")
        are_texts = all(isinstance(values.get(name), str) and values[name] for name in names)
        if not are_texts or not isinstance(outputs, Mapping) or not outputs:
            raise BundleError(f"{where} has a damaged stage", valid=f"{', '.join(names)} and outputs")
        if not all(isinstance(name, str) for pair in outputs.items() for name in pair):
            raise BundleError(f"{where} has a damaged stage", valid="names of outputs")

        # A card from elsewhere names a kept file, and nothing beside them.
        file = values["file"]
        if file != Path(file).name or "\\" in file or file.startswith("."):
            raise BundleError(f"{where} has a stage in the file {file!r}", valid="a plain name such as model.onnx")
        return cls(outputs=dict(outputs), **{name: values[name] for name in names})

    def as_values(self) -> dict[str, Any]:
        """Plain values, as they stand on a card."""
        return asdict(self)

    @property
    def path(self) -> Path:
        """Where its file is kept, or would be."""
        return kept_path(self.file)


class LoadedStage:
    """A published network, ready to run. Safe to share between threads.

    Parameters
    ----------
    stage : Stage
        What it is.
    session : Session
        Its graph.
    """

    def __init__(self, stage: Stage, session: Session) -> None:
        self.stage = stage
        self._session = session
        self.shapes: dict[str, list[Any]] = {}
        given = {output.name: output.shape for output in session.get_outputs()}
        for ours, theirs in stage.outputs.items():
            if theirs in given:
                self.shapes[ours] = given[theirs]

    def run(self, values: Mapping[str, Float32]) -> dict[str, Float32]:
        """Run it on what came before, by name; its own outputs, by ours."""
        from musicgenre._onnxruntime import run_session

        results = run_session(
            self._session, list(self.stage.outputs.values()), {self.stage.input: values[self.stage.reads]}
        )
        return dict(zip(self.stage.outputs, results, strict=True))


def ears_sha256(card: BundleCard) -> str:
    """Checksum of the published network that a bundle hears with; empty where all of it is in the bundle."""
    stages = card.published_stages
    return stages[0].sha256 if stages else ""


def load_stage(stage: Stage, where: str) -> LoadedStage:
    """Read the file of a stage, compare its checksum, and load it.

    Parameters
    ----------
    stage : Stage
        What to load.
    where : str
        The bundle that needs it, for messages.

    Raises
    ------
    BundleError
        When the file is not there, is another one, or cannot be loaded.
    """
    content = read_stage(stage, where)
    check_graph(content, str(stage.path))
    loaded = LoadedStage(stage, open_network(content, str(stage.path)))
    if loaded.shapes.keys() != stage.outputs.keys():
        raise BundleError(
            f"{stage.path} does not give {', '.join(stage.outputs.values())}, as {where} says",
            next_step="Get it anew with: musicgenre bundles get",
        )
    return loaded


def check_graph(model: bytes, where: str) -> None:
    """Refuse a published network that reads other files, loops, or holds operators that are not ONNX's own.

    Raises
    ------
    BundleError
        It does, or is no ONNX model.
    """
    try:
        read_graph(model)
    except GraphError as error:
        raise BundleError(
            f"{where} cannot be used: {error}", next_step="docs/bundles.md says what a graph may hold"
        ) from error


def read_stage(stage: Stage, where: str) -> bytes:
    """Read the file of a stage, compared with its checksum.

    Raises
    ------
    BundleError
        When it is not there or is another one.
    """
    try:
        content = stage.path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{where} needs the published file {stage.path}, which cannot be read ({error.strerror})",
            next_step="Get it with: musicgenre bundles get",
        ) from error

    found = hashlib.sha256(content).hexdigest()
    if found != stage.sha256:
        raise BundleError(
            f"{stage.path} is not the file that {where} was made for: its sha256 is {found}",
            valid=stage.sha256,
            next_step="Get the bundle anew with: musicgenre bundles get NAME --force",
        )
    return content
