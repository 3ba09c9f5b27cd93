"""Find a published model: a folder of yours, our cache, the cache of the Hugging Face hub, then the hub itself.

Only JSON and weights are ever read of a model; a model that brings code along is refused. Needs no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicgenre._files import cache_folder
from musicgenre._json import json_sha256, parsed_json
from musicgenre._known_files import known_sha256
from musicgenre._transfer import refuse_unasked
from musicgenre.errors import BundleError, needing

EXTRA = "pretrained"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"

MERT = "mert_model"
"""Its code is never needed: the network is a HuBERT, see load.py."""

_HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")
_TIMEOUT_S = 5.0  # the hub either answers at once or is not to be had


@dataclass(frozen=True, slots=True)
class Published:
    """A model that was found.

    Parameters
    ----------
    folder : Path
        Where its files lie.
    config, processor : dict
        What its two JSON files say: its layers, and what it wants to be fed.
    weights : Path
        Its weights.
    """

    folder: Path
    config: dict[str, Any]
    processor: dict[str, Any]
    weights: Path

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights: what identifies the model."""
        return known_sha256(self.weights)

    @property
    def config_sha256(self) -> str:
        """SHA-256 of the two descriptions: with the weights they decide every value."""
        return json_sha256([self.config, self.processor])

    def described(self, name: str, sample_rate_hz: int, window_s: float | None) -> dict[str, Any]:
        """What a card of these weights can tell."""
        on_hub = _HUB_NAME.fullmatch(name) and not Path(name).is_dir()
        return {
            "name": name if on_hub else Path(name).name,  # a folder's place says nothing to others
            "model": "transformer",
            "sha256": self.sha256,
            "reads": f"mono sound, {sample_rate_hz:,} Hz",
            "sample_rate_hz": sample_rate_hz,
            "window_s": window_s,
        }


def find_model(name: str) -> Published:
    """Find a model and read what it says about itself.

    Parameters
    ----------
    name : str
        A folder, or the model's name on the hub (`facebook/wav2vec2-base`). For either, a folder of the last part of
        its name in `models/` of our cache folder will do.

    Raises
    ------
    BundleError
        It is not there and cannot be fetched, is not whole, or wants to run code of its own.
    """
    folder = _folder_of(name)
    config = _read_json(folder / CONFIG)
    processor = _read_json(folder / PROCESSOR)

    wants_code = "auto_map" in processor or ("auto_map" in config and config.get("model_type") != MERT)
    if wants_code:
        raise BundleError(
            f"the model {name} wants to run code of its own (auto_map in its configuration), and none is ever run",
            valid="a model of a type that transformers itself knows",
            next_step="Take one of those that docs/transformers.md lists",
        )

    weights = next((folder / file for file in WEIGHT_FILES if (folder / file).is_file()), None)
    if weights is None:
        raise BundleError(f"{folder} holds no weights", valid=f"{' or '.join(WEIGHT_FILES)}")
    return Published(folder, config, processor, weights)


def _folder_of(name: str) -> Path:
    """Find the folder of a model, fetched from the hub where need be."""
    own = Path(name).expanduser()
    kept = cache_folder() / "models" / own.name
    for folder in (own, kept):
        if name and folder.is_dir():
            return folder

    if not _HUB_NAME.fullmatch(name):
        raise BundleError(
            f"there is no model folder {name!r}, and none named {own.name!r} in {kept.parent}",
            valid=f"a folder with {CONFIG}, {PROCESSOR} and {WEIGHT_FILES[0]}, or OWNER/NAME on huggingface.co",
        )

    with needing(f"the model {name}", EXTRA):
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    # The hub's own cache counts where all that we read is there; others may have fetched less.
    try:
        cached = Path(snapshot_download(name, local_files_only=True))
    except LocalEntryNotFoundError:
        cached = None
    if cached is not None:
        here = {file for file in (CONFIG, PROCESSOR, *WEIGHT_FILES) if (cached / file).is_file()}
        if {CONFIG, PROCESSOR} <= here and here & set(WEIGHT_FILES):
            return cached

    refuse_unasked(f"the model {name} of huggingface.co", name)
    # Errors of the hub's HTTP client change their module with its version: their base is asked for.
    failures: tuple[type[Exception], ...] = (*HfHubHTTPError.__bases__, ValueError)
    try:
        return _fetched(name)
    except failures as error:  # no network, no such model, not allowed
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleError(
            f"there is no folder {name} here, and the model of that name is not in {constants.HF_HUB_CACHE} and "
            f"could not be fetched ({reason})",
            next_step=f"If it is a folder of yours, give its whole path, or put it in place as {kept}. If it is on "
            f"the hub: where there is a network, save {CONFIG}, {PROCESSOR} and {WEIGHT_FILES[0]} (or "
            f"{WEIGHT_FILES[1]}) of https://huggingface.co/{name} into a folder; then put it in place as {kept}, or "
            "name it in place of the model",
        ) from error


def _fetched(name: str) -> Path:
    """Fetch the files we read from the hub, and no others.

    Its listing is asked for first, since that alone has a time limit and is not tried again and again.
    """
    from huggingface_hub import HfApi, snapshot_download

    siblings = HfApi().model_info(name, timeout=_TIMEOUT_S).siblings or []
    there = {file.rfilename for file in siblings}
    weights = next((file for file in WEIGHT_FILES if file in there), None)
    if weights is None or not {CONFIG, PROCESSOR} <= there:
        raise ValueError(f"it is not whole there: it has {', '.join(sorted(there)) or 'no files'}")

    wanted = [CONFIG, PROCESSOR, weights]
    return Path(snapshot_download(name, allow_patterns=wanted, etag_timeout=_TIMEOUT_S))


def _read_json(path: Path) -> dict[str, Any]:
    """Read one of the two descriptions of a model."""
    try:
        content = parsed_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(
            f"{path.parent} is no model folder: it has no {path.name}",
            valid=f"{CONFIG}, {PROCESSOR} and {WEIGHT_FILES[0]} or {WEIGHT_FILES[1]}",
        ) from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read ({error})", next_step="Fetch it anew") from error

    if not isinstance(content, dict):
        raise BundleError(f"{path} is no JSON object", next_step="Fetch it anew")
    return content
