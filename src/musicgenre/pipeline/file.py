"""The file that says what a pipeline does: YAML, checked key by key."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from musicgenre._text import nearest_name, printable, short_repr
from musicgenre._yaml import read_yaml
from musicgenre.errors import RecipeError, needing

with needing("reading a pipeline", "train"):
    from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

_PAGE = "See docs/pipeline.md for every key"
_ADDRESS = re.compile(r"https?://[^/\s?#@]+/?")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSection(_Section):
    """The labelled music: a folder to index or a manifest, one of the two.

    Parameters
    ----------
    folder : str, optional
        A folder with one folder per genre, as `musicgenre data index` takes it.
    manifest : str, optional
        A manifest.
    artists : str, optional
        CSV that sets the groups of a folder's tracks.
    labels : tuple of str
        Keep the tracks of these labels; empty: all.
    """

    folder: str | None = None
    manifest: str | None = None
    artists: str | None = None
    labels: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _has_one_source(self) -> DataSection:
        if (self.folder is None) == (self.manifest is None):
            raise ValueError("either folder or manifest")
        if self.artists is not None and self.folder is None:
            raise ValueError("artists with folder alone: a manifest has its groups")
        return self


class SplitSection(_Section):
    """How the tracks are split, as `musicgenre data split` takes it."""

    protocol: str
    seed: int = Field(default=0, ge=0)
    options: dict[str, int | float | bool | str | None] = {}


class OverfitSection(_Section):
    """The over-fit check: a model that cannot learn a few tracks by heart has something wrong with it.

    Parameters
    ----------
    tracks_a_label : int
        Training tracks of every label that are to be learnt; 0: no check.
    epochs : int
        Epochs it may take.
    accuracy : float
        Share of these tracks that must be named rightly afterwards.
    """

    tracks_a_label: int = Field(default=2, ge=0, le=100)
    epochs: int = Field(default=100, ge=1)
    accuracy: float = Field(default=0.95, ge=0, le=1)


class GateSection(_Section):
    """What a run must reach to be deployed.

    Parameters
    ----------
    accuracy : float
        Share of the test tracks that must be named rightly, at least.
    against : {"deployed", "nothing"}
        What it must not be worse than.
    level : float
        It is worse where a one-sided paired test on the shared test tracks says so at this level.
    """

    accuracy: float = Field(ge=0, le=1)
    against: Literal["deployed", "nothing"] = "deployed"
    level: float = Field(default=0.05, gt=0, lt=0.5)


class DeploySection(_Section):
    """Where the model goes, and who is asked whether it is served.

    Parameters
    ----------
    models : str
        Folder of versions, which `musicgenre serve --model` takes.
    address : str, optional
        A server that takes up the version in use by itself; without it one is started for the call.
    token_file : str, optional
        File with the token of that server.
    wait_s : float
        Seconds for the server to be ready with the new version.
    """

    models: str
    address: str | None = None
    token_file: str | None = None
    wait_s: float = Field(default=120.0, gt=0)

    @model_validator(mode="after")
    def _is_an_address(self) -> DeploySection:
        if self.address is not None and not _ADDRESS.fullmatch(self.address):
            raise ValueError("address as http://127.0.0.1:8000, without a path")
        if self.token_file is not None and self.address is None:
            raise ValueError("token_file with address alone")
        return self


class PipelineFile(_Section):
    """All that one pipeline needs; paths are relative to the file's folder.

    Parameters
    ----------
    recipe : str
        A name of `musicgenre recipes`, or a YAML file.
    changes : dict
        `set` in the file: values of the recipe's dotted keys, as `--set` takes them.
    folder : str, optional
        Where run, reports and log go; by default named after the file, beside it.
    accelerator : str
        As `musicgenre train --accelerator` takes it.
    """

    recipe: str
    changes: dict[str, Any] = Field(default={}, alias="set")
    data: DataSection
    split: SplitSection | None = None
    overfit: OverfitSection = OverfitSection()
    gate: GateSection
    deploy: DeploySection
    folder: str | None = None
    accelerator: str = "cpu"

    @property
    def overrides(self) -> list[str]:
        """The recipe's changes as `section.key=value`, the values as YAML reads them."""
        return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in self.changes.items()]


def read_pipeline(path: Path) -> PipelineFile:
    """Read the file of a pipeline.

    Raises
    ------
    RecipeError
        It cannot be read, is no YAML, or says something that a pipeline does not know; the nearest key is named.
    """
    try:
        plain = read_yaml(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(
            f"{printable(path)} is no YAML that a pipeline can be ({reason})",
            valid="a mapping with recipe, data, gate and deploy, in UTF-8",
            next_step=_PAGE,
        ) from error
    if not isinstance(plain, dict):
        raise RecipeError(
            f"{printable(path)} holds no pipeline",
            valid="a mapping with recipe, data, gate and deploy",
            next_step=_PAGE,
        )
    try:
        return PipelineFile.model_validate(plain)
    except ValidationError as error:
        raise _file_error(error, path) from error


def _file_error(error: ValidationError, path: Path) -> RecipeError:
    """Turn a complaint of pydantic into a sentence: of a misspelt key before the one that it leaves missing."""
    complaints = error.errors()
    unknown = [complaint for complaint in complaints if complaint["type"] == "extra_forbidden"]
    first = [*unknown, *complaints][0]
    where = [str(step) for step in first["loc"]]
    key = ".".join(where)
    if first["type"] == "missing":
        return RecipeError(f"{printable(path)} lacks the key {key!r}", next_step=_PAGE)
    if first["type"] != "extra_forbidden":
        said = first["msg"].removeprefix("Value error, ")
        return RecipeError(f"{printable(path)} has {key}={short_repr(first['input'])}", valid=said, next_step=_PAGE)

    section: Any = PipelineFile
    for step in where[:-1]:
        section = _SECTIONS[step]
    keys = sorted(field.alias or name for name, field in section.model_fields.items())
    near = nearest_name(where[-1], keys)
    return RecipeError(
        f"{printable(path)} has the unknown key {short_repr(key)}",
        valid=f"Nearest: {'.'.join([*where[:-1], near])!r}" if near else f"Valid here: {', '.join(keys)}",
        next_step=_PAGE,
    )


_SECTIONS = {
    "data": DataSection,
    "split": SplitSection,
    "overfit": OverfitSection,
    "gate": GateSection,
    "deploy": DeploySection,
}
