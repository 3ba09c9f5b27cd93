"""Recipes: one YAML file per system, a base and small differences, checked key by key.

A recipe names its parents under `base`; they are merged first, in order, and what the recipe says itself wins.
Files whose name starts with `_` are parts to be named as parents, not recipes to train.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, cast

from musicgenre._text import nearest_name, short_repr
from musicgenre._yaml import parsed_yaml, read_yaml
from musicgenre.errors import RecipeError, needing
from musicgenre.features.base import SHORTEST_HOP_S
from musicgenre.training.recipe_names import Report, current_name, find_recipe, former_names, recipe_files

with needing("reading recipes", "train"):  # the light install has neither
    import yaml
    from pydantic import BaseModel, ConfigDict, Field, ValidationError

_MOST_GENERATIONS = 20
_MOST_DOTS = 20  # in the key of a setting

_ABSENT = object()
"""Stands for a setting that a recipe does not have."""

_WORDS = ("summary", "systems", "notes")
"""What a recipe says to people, and no training reads."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSection(_Section):
    """Which tracks of the manifest take part.

    Parameters
    ----------
    labels : tuple of str
        Keep the tracks of these labels; empty: all. In tagging they are the tags, in the order of the outputs, and all
        tracks stay.
    exclude : tuple of str
        Track ids to leave out.
    targets : {"labels", "columns"}
        Tagging: whether a track's tags are those its column `labels` lists, or soft targets from the columns
        `target:TAG`. See docs/tagging.md.
    """

    labels: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    targets: Literal["labels", "columns"] = "labels"


class RepresentationSection(_Section):
    """What the model reads.

    Parameters
    ----------
    name, options
        Passed to `create_representation`.
    hop_s : float, optional
        From one segment's start to the next, 0.01 at least; the segment length by default.
    dtype : {"float32", "float16"}
        How the store keeps it.
    normalise : {"standard", "row_l2", "none"}
        `standard`: mean 0 and variance 1 by the training part; `row_l2`: every example to length 1.
    """

    name: str
    options: dict[str, Any] = {}
    hop_s: float | None = Field(default=None, ge=SHORTEST_HOP_S)
    dtype: Literal["float32", "float16"] = "float32"
    normalise: Literal["standard", "row_l2", "none"] = "standard"


class OfflineSection(_Section):
    """Copies of the training tracks, augmented once and stored.

    Parameters
    ----------
    chain : str
        Name of a waveform chain.
    copies : int
        Copies of every training track; 0 switches it off.
    only : tuple of str
        Keep these steps of the chain; empty: all.
    """

    chain: str = "a3"
    copies: int = Field(default=0, ge=0)
    only: tuple[str, ...] = ()


class OnlineSection(_Section):
    """Augmentation drawn afresh every epoch.

    Parameters
    ----------
    waveform : str, optional
        Name of a waveform chain applied to every training segment, before its representation is computed.
    spectrogram : dict
        Spectrogram augmentations by name, each with its options, applied in this order after normalisation.
    """

    waveform: str | None = None
    spectrogram: dict[str, dict[str, Any]] = {}


class AugmentationSection(_Section):
    """Augmentation of the training part; no other part is ever augmented."""

    offline: OfflineSection = OfflineSection()
    online: OnlineSection = OnlineSection()


class ModelSection(_Section):
    """The model: passed to `create_model`."""

    name: str
    options: dict[str, Any] = {}


class StreamSection(_Section):
    """Training data larger than memory; see docs/streaming.md.

    Parameters
    ----------
    active : int
        Tracks that are open at a time, multiplexed at random; 0 switches streaming from the store off.
    rate : float, optional
        Mean number of examples that an open track yields before it gives way to another; all of them by default.
    epoch_examples : int, optional
        Examples in an epoch; each one at hand once by default. More go round again, less end the epoch earlier.
    workers : int
        Processes that read; 0: a thread.
    buffer : int
        Shards only: examples that are mixed while they are read.
    bad_shards : {"stop", "skip"}
        Shards only: what a damaged or missing one does.
    """

    active: int = Field(default=0, ge=0)
    rate: float | None = Field(default=None, ge=1)
    epoch_examples: int | None = Field(default=None, ge=1)
    workers: int = Field(default=0, ge=0, le=256)
    buffer: int = Field(default=1000, ge=1)
    bad_shards: Literal["stop", "skip"] = "stop"


class TrainingSection(_Section):
    """How the weights are found.

    Parameters
    ----------
    optimiser, learning_rate, weight_decay, momentum
        `momentum` is Adam's first beta too.
    batch_size, epochs, patience
        `patience` epochs without a better `monitor` end the training; `None`: never.
    monitor : {"validation_loss", "validation_accuracy", "validation_macro_f1", ...}
        What chooses the weights that are kept, of single segments: the loss; accuracy or F1, mean over labels, where
        there is one label a track; `validation_roc_auc` or `validation_pr_auc`, means over tags, in tagging.
    class_weights : bool
        Weigh the loss by the inverse frequency of the class.
    positive_weights : {"none", "balanced"}
        Tagging: `balanced` weighs a tag where it is present by (absent / present) in the training part.
    positive_weight_cap : float
        Largest such weight.
    softmax_in_loss : bool
        Put a softmax in front of the loss, as some reports did. It slows learning, and in tagging it contradicts
        several tags at once; never the default.
    seed : int
        Of weights, order, dropout and online augmentation.
    fit_on : {"train", "train+validation"}
        Classical models: what they are fitted on.
    in_memory_mb : int
        Parts up to this size are held in memory, larger ones read from the store.
    examples : {"all", "stored", "fresh"}
        Of the segments of a training track: all; one, drawn once and the same in every epoch; or one drawn anew for
        every epoch. The other parts always score all segments.
    stream : StreamSection
        Training data larger than memory.
    """

    optimiser: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    batch_size: int = Field(default=32, ge=1)
    epochs: int = Field(default=100, ge=1)
    patience: int | None = Field(default=None, ge=1)
    monitor: Literal[
        "validation_loss", "validation_accuracy", "validation_macro_f1", "validation_roc_auc", "validation_pr_auc"
    ] = "validation_loss"
    class_weights: bool = False
    positive_weights: Literal["none", "balanced"] = "none"
    positive_weight_cap: float = Field(default=20.0, ge=1)
    softmax_in_loss: bool = False
    seed: int = Field(default=0, ge=0)
    fit_on: Literal["train", "train+validation"] = "train"
    in_memory_mb: int = Field(default=2048, ge=0)
    examples: Literal["all", "stored", "fresh"] = "all"
    stream: StreamSection = StreamSection()

    @property
    def is_better_higher(self) -> bool:
        """Whether more of `monitor` is better."""
        return self.monitor != "validation_loss"


class ProtocolSection(_Section):
    """How tracks are split; only used where the manifest carries no split of its own.

    Parameters
    ----------
    name : str
        A protocol of `musicgenre data split`, or `segment-leaky`.
    seed : int
        Of the split.
    options : dict
        Further options of the protocol, as `test_size`.
    """

    name: str = "track"
    seed: int = Field(default=0, ge=0)
    options: dict[str, Any] = {}


class StudySection(_Section):
    """Several trainings that differ in a few keys: name of the variant to its `--set` values."""

    variants: dict[str, dict[str, Any]] = {}


class Recipe(_Section):
    """All that one training needs, beside the data.

    Parameters
    ----------
    name : str
        Stem of the file.
    summary : str
        One line.
    systems : tuple of str
        Row codes of the published systems it rebuilds.
    task : {"single_label", "multi_label"}
        Whether a track has one label, or any number of tags.
    scoring : {"mean", "max", "vote"}
        How the segments of a track score together; tagging takes no vote.
    """

    name: str
    summary: str
    systems: tuple[str, ...]
    notes: str = ""
    task: Literal["single_label", "multi_label"] = "single_label"
    data: DataSection = DataSection()
    representation: RepresentationSection
    augmentation: AugmentationSection = AugmentationSection()
    model: ModelSection
    training: TrainingSection = TrainingSection()
    protocol: ProtocolSection = ProtocolSection()
    scoring: Literal["mean", "max", "vote"] = "mean"
    study: StudySection = StudySection()

    @property
    def is_tagging(self) -> bool:
        """Whether a track may have any number of tags."""
        return self.task == "multi_label"

    def variants(self) -> dict[str, Recipe]:
        """Return the recipes of the study by name; empty when it is none."""
        plain = self.model_dump(mode="json", exclude={"study"})
        found = {}
        for name, changes in self.study.variants.items():
            found[name] = check_recipe(_with_settings(plain, changes.items()), name=f"{self.name}.{name}")
        return found

    def with_settings(self, settings: Mapping[str, Any]) -> Recipe:
        """Return the recipe with some keys changed, each under its dotted name, and check it.

        Raises
        ------
        RecipeError
            An unknown key, or a value of the wrong type.
        """
        return check_recipe(_with_settings(self.model_dump(mode="json"), settings.items()), name=self.name)

    def as_yaml(self) -> str:
        """Return the whole recipe, defaults included, as YAML that `load_recipe` reads."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude={"name"}), sort_keys=False, allow_unicode=True)

    def trains_like(self, text: str) -> bool:
        """Whether `as_yaml` once gave this text, but for words no training reads: summary, notes, row codes."""
        return self.changes_since(text) == {}

    def changes_since(self, text: str) -> dict[str, tuple[Any, Any]] | None:
        """Settings that differ from those of which `as_yaml` once gave this text: dotted name to (before, now).

        What is not there is None. Words that no training reads are passed over: a run must go on with `--resume` after
        somebody has mended a summary. None where the text is no recipe.
        """
        try:
            written = parsed_yaml(text)
        except ValueError:
            return None
        if not isinstance(written, dict):
            return None

        before = _settings_by_name(written)
        now = _settings_by_name(self.model_dump(mode="json", exclude={"name"}))
        changes = {}
        for name in dict.fromkeys((*before, *now)):
            if name.partition(".")[0] not in _WORDS and before.get(name, _ABSENT) != now.get(name, _ABSENT):
                changes[name] = (before.get(name), now.get(name))
        return changes


def load_recipe(recipe: str | Path, overrides: Iterable[str] = (), *, report: Report = lambda text: None) -> Recipe:
    """Read a recipe, merge its parents, apply the overrides and check the whole.

    Parameters
    ----------
    recipe : str or Path
        A name of `list_recipes` or one that a recipe had before, or the path of a YAML file.
    overrides : iterable of str
        `section.key=value` each; the value is read as YAML.
    report : callable
        Takes a line where a name, of the recipe or under its `base`, is a former one.

    Raises
    ------
    RecipeError
        An unknown key (the nearest valid one is named), a wrong type, a missing parent.
    """
    report = functools.cache(report)  # a name that several parents use is told once
    path = find_recipe(recipe, report)
    plain = _merged_recipe(path, (), report)

    # values are read as YAML, so that `--set` takes what a recipe file takes: numbers, lists, null
    pairs = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip() or key.count(".") > _MOST_DOTS:
            raise RecipeError(f"cannot read the setting {short_repr(override)}", valid="section.key=value")
        try:
            pairs.append((key.strip(), parsed_yaml(value)))
        except ValueError as error:
            raise RecipeError(
                f"cannot read the value of {short_repr(override)} ({error})",
                valid="a value in YAML",
                next_step="Put text in quotes",
            ) from error

    return check_recipe(_with_settings(plain, pairs), name=path.stem)


def check_recipe(plain: Mapping[str, Any], *, name: str) -> Recipe:
    """Check a merged recipe and give it its types.

    Raises
    ------
    RecipeError
        The first thing that is wrong with it.
    """
    try:
        recipe = Recipe.model_validate({**plain, "name": name})
    except ValidationError as error:
        raise _recipe_error(error, name) from error

    # some settings have no meaning for the recipe's task
    training = recipe.training
    ranks_tags = training.monitor.endswith("_auc")
    has_degrees = recipe.data.targets == "columns"

    if recipe.is_tagging:
        is_wrong = {
            f"training.monitor={training.monitor}": training.monitor in ("validation_accuracy", "validation_macro_f1"),
            "training.class_weights": training.class_weights,
            "scoring=vote": recipe.scoring == "vote",
            "protocol.name=segment-leaky": recipe.protocol.name == "segment-leaky",
            # with degrees no tag is simply there or not, as the curves ask
            f"data.targets=columns with training.monitor={training.monitor}": has_degrees and ranks_tags,
        }
    else:
        is_wrong = {
            f"training.monitor={training.monitor}": ranks_tags,
            "training.positive_weights": training.positive_weights != "none",
            "data.targets=columns": has_degrees,
        }

    for setting, wrong in is_wrong.items():
        if wrong:
            raise RecipeError(
                f"the recipe {recipe.name} has {setting}, which means nothing with task: {recipe.task}",
                next_step="Leave it out, or change the task; docs/tagging.md says what tagging takes",
            )

    if recipe.study.variants:
        recipe.variants()  # each is checked too, before the first of them trains for hours
    return recipe


def _merged_recipe(path: Path, children: tuple[Path, ...], report: Report) -> dict[str, Any]:
    """Read a recipe on top of its parents; `children` are the files that led here."""
    if path in children:
        raise RecipeError(f"the recipe {path.name} is its own parent")
    if len(children) > _MOST_GENERATIONS:
        raise RecipeError(
            f"the recipe {children[0].name} has parents of parents through more than {_MOST_GENERATIONS} files",
            next_step="Write what they say together into fewer files",
        )

    try:
        own = read_yaml(path)
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"{path} is no YAML that a recipe can be ({error})",
            valid="a mapping of sections in UTF-8",
            next_step="Correct it; see docs/recipes.md",
        ) from error
    if not isinstance(own, dict):
        raise RecipeError(f"{path} holds no recipe", valid="A recipe is a mapping of sections")

    own.pop("formerly", None)  # a name is a file's own, not its children's
    base = own.pop("base", [])
    parents = base if isinstance(base, list) else [base]
    if not all(isinstance(parent, str) for parent in parents):
        raise RecipeError(
            f"{path} has base={short_repr(base)}",
            valid="the name of a recipe, or a list of names",
            next_step="Name the recipes that it changes, or leave base out",
        )

    merged: dict[str, Any] = {}
    for parent in parents:
        file = _parent_file(parent, path, report)
        merged = _merge(merged, _merged_recipe(file, (*children, path), report))
    return _merge(merged, own)


def _parent_file(name: str, child: Path, report: Report) -> Path:
    """The file of a parent: beside the child, in the package or in a plugin, and there under a former name too."""
    beside = child.parent / f"{name}.yaml"
    if os.path.isfile(beside):  # noqa: PTH113 - which takes a name that no file can have for one that is not there
        return beside

    files = recipe_files()
    if name not in files and name in former_names():
        report(f"{name} is called {current_name(name)} now")
        name = current_name(name)
    if name in files:
        return files[name]

    near = nearest_name(name, files)
    raise RecipeError(
        f"the recipe {child.name} names the base {short_repr(name)}, which does not exist",
        valid=f"Nearest: {near}" if near else "",
    )


def _merge(low: dict[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `high` over `low`; mappings are merged, all else is replaced."""
    merged = dict(low)
    for key, value in high.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _with_settings(plain: Mapping[str, Any], pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Lay single values over a recipe, each under its dotted key; nothing is checked here."""
    changed = dict(plain)
    for key, value in pairs:
        nested: Any = value
        for step in reversed(key.split(".")):
            nested = {step: nested}
        changed = _merge(changed, nested)
    return changed


def _settings_by_name(plain: Mapping[Any, Any], above: str = "") -> dict[str, Any]:
    """Single values of a recipe by their dotted names; an empty mapping has none."""
    found: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, dict):
            found |= _settings_by_name(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value
    return found


def _recipe_error(error: ValidationError, name: str) -> RecipeError:
    """Turn the first complaint of pydantic into a sentence."""
    first = error.errors()[0]
    where = [str(step) for step in first["loc"]]
    key = ".".join(where)
    if first["type"] == "missing":
        return RecipeError(f"the recipe {name} lacks the key {key!r}")
    if first["type"] != "extra_forbidden":
        given = short_repr(first["input"])
        return RecipeError(f"the recipe {name} has {key}={given}", valid=f"{first['msg']}")

    # the unknown key stands in a section that is known: its neighbours are what may stand there
    section: type[BaseModel] = Recipe
    for step in where[:-1]:
        section = cast("type[BaseModel]", section.model_fields[step].annotation)
    keys = sorted(section.model_fields)
    near = nearest_name(where[-1], keys)
    valid = f"Valid here: {', '.join(keys)}"
    if near:
        valid = f"Nearest: {'.'.join([*where[:-1], near])!r}"
    return RecipeError(
        f"the recipe {name} has the unknown key {short_repr(key)}",
        valid=valid,
        next_step="See docs/recipes.md for every key",
    )
