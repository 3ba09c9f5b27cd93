"""The space that is searched: keys of a recipe, each with the values it may take, checked before the first trial.

A key is given as on the command line, `training.learning_rate=log:1e-5:1e-2`, or in a YAML file as `key: values`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from musicgenre._text import short_repr
from musicgenre._yaml import parsed_yaml, read_yaml
from musicgenre.errors import MusicgenreError, RecipeError, UsageError
from musicgenre.features.registry import create_representation
from musicgenre.models.registry import check_options, create_to_restore, model_entry
from musicgenre.training.recipes import ModelSection, Recipe, RepresentationSection

Kind = Literal["choice", "float", "log", "int", "logint"]
"""How values are drawn: from a list; evenly or by their logarithm between two ends, whole numbers or any."""

Space = Mapping[str, "Parameter"]
"""Parameters by their key in the recipe."""

_GRAMMAR = "16,32,64 or float:0:0.5, log:1e-5:1e-2, int:1:4 (int:16:256:16 in steps of 16), logint:16:1024"
_N_GRID = 5  # values of a range that a grid has
_MOST_VALUES = 10_000
_SCALARS = (str, int, float, bool, type(None))

# What a training of this kind never reads.
_WORDS = ("name", "summary", "systems", "notes", "study", "training.in_memory_mb", "representation.dtype")
_OF_NETWORKS = (
    *("optimiser", "learning_rate", "weight_decay", "momentum", "batch_size", "epochs", "patience", "monitor"),
    *("softmax_in_loss", "positive_weights", "positive_weight_cap", "stream"),
)
# These say which tracks are scored, and how: with other ones two trials cannot be held against each other.
_OF_THE_QUESTION = ("task", "data", "protocol")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One key of a recipe and the values it may take.

    Attributes
    ----------
    kind : {"choice", "float", "log", "int", "logint"}
        How values are drawn.
    choices : tuple
        Of `choice`: the values, as YAML reads them.
    low, high : float
        Of a range: both ends, which are in it.
    step : int
        Of `int`.
    """

    kind: Kind
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: int = 1

    def probes(self) -> list[Any]:
        """Values that stand for all: the choices, or both ends."""
        if self.kind == "choice":
            return list(self.choices)
        ends = [self.low, self.high]
        return [int(end) for end in ends] if self.is_whole else ends

    @property
    def is_whole(self) -> bool:
        """Whether values are whole numbers."""
        return self.kind in ("int", "logint")

    def grid(self) -> list[Any]:
        """Values of a grid: the choices, all of a few whole numbers, else five from end to end."""
        if self.kind == "choice":
            return list(self.choices)
        if self.kind == "int" and (self.high - self.low) / self.step < 2 * _N_GRID:
            return list(range(int(self.low), int(self.high) + 1, self.step))

        values = []
        for number in range(_N_GRID):
            share = number / (_N_GRID - 1)
            if self.kind in ("log", "logint"):
                value = self.low * (self.high / self.low) ** share
            else:
                value = self.low + share * (self.high - self.low)
            if self.kind == "int":  # on a step
                value = self.low + round((value - self.low) / self.step) * self.step
            values.append(round(value) if self.is_whole else value)
        return sorted(set(values))

    def labels(self) -> list[Any]:
        """Choices as Optuna keeps them: lists and mappings as text."""
        return [one if isinstance(one, _SCALARS) else json.dumps(one) for one in self.choices]

    def as_text(self) -> str:
        """The values as the command line takes them."""
        if self.kind == "choice":
            return ",".join(value if isinstance(value, str) else json.dumps(value) for value in self.choices)
        ends = ":".join(str(end) if self.is_whole else f"{end:g}" for end in self.probes())
        return f"{self.kind}:{ends}" + (f":{self.step}" if self.step != 1 else "")


def read_space(given: Iterable[str], recipe: Recipe) -> dict[str, Parameter]:
    """Read a space: files, or keys with their values.

    Parameters
    ----------
    given : iterable of str
        Each the path of a YAML file (`key: values`), or `key=values`. Options of the model and the representation may
        leave `options` out: `model.width`.
    recipe : Recipe
        The recipe around which is searched.

    Raises
    ------
    UsageError
        What is given cannot be read, names a key twice, or has an empty range.
    """
    space: dict[str, Parameter] = {}
    for text in given:
        pairs = _pairs_of(text)
        for name, values in pairs:
            key = _whole_key(name)
            if key in space:
                raise UsageError(f"the space names {key} twice", valid="Each key once")
            space[key] = _parameter(key, values)

    for key, other in combinations(sorted(space), 2):
        if other.startswith(f"{key}."):
            raise UsageError(f"the space names {key} and {other}, which is a part of it", valid="One of them")
    return space


def check_keys(recipe: Recipe, space: Space) -> None:
    """Hold every key and value against the recipe's types; no model is made.

    Parameters
    ----------
    recipe, space
        As `check_space` takes them.

    Raises
    ------
    RecipeError, UsageError
        There is no key, an unknown one (the nearest one is named), one that changes what is measured, or a value of
        the wrong type.
    """
    if not space:
        raise UsageError(f"there is nothing to search around {recipe.name}", next_step="Give --space key=values")
    for key, parameter in space.items():
        _refuse_other_questions(key)
        for value in parameter.probes():
            with _naming(key, value):
                recipe.with_settings({key: value})


def check_space(recipe: Recipe, space: Space, *, input_shape: Sequence[int], objective: str) -> None:
    """Hold every key and value against the recipe's types, the model and the representation, before the first trial.

    Parameters
    ----------
    recipe : Recipe
        The recipe around which is searched.
    space : mapping of str to Parameter
        What is searched.
    input_shape : sequence of int
        Of one array that the recipe's model reads.
    objective : str
        What is searched for.

    Raises
    ------
    RecipeError, UsageError
        An unknown key (the nearest one is named), a value of the wrong type or that cannot be built, a key that
        changes nothing, or one that changes what is measured.
    """
    check_keys(recipe, space)
    is_classical = not model_entry(recipe.model.name).has_epochs
    for key, parameter in space.items():
        recipes = []
        for value in parameter.probes():
            changed = recipe.with_settings({key: value})
            with _naming(key, value):
                _refuse_unbuilt(key, changed, input_shape)
            recipes.append(changed)
        for one, other in combinations(recipes, 2):
            if one == other:
                raise UsageError(
                    f"the space has {key}={parameter.as_text()}, which changes nothing",
                    valid="Different values, two or more",
                )
        _refuse_without_effect(key, recipe, space, is_classical=is_classical)

    fits_both = recipe.training.fit_on != "train" or "training.fit_on" in space
    if fits_both and is_classical and objective != "cv.accuracy":
        raise UsageError(
            f"the search for {objective} around {recipe.name} would score what it was fitted on "
            "(training.fit_on=train+validation)",
            next_step="Give --objective cv.accuracy, or --set training.fit_on=train",
        )


def recipe_of(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe of a trial: the one around which is searched, with values for the keys of the space."""
    return recipe.with_settings(values)


def _pairs_of(text: str) -> list[tuple[str, Any]]:
    """Read `key=values`, or the pairs of a YAML file."""
    name, equals, values = text.partition("=")
    if equals:
        if not name.strip() or not values.strip():
            raise UsageError(f"cannot read the space {text!r}", valid=f"key=values, with values as {_GRAMMAR}")
        return [(name.strip(), values.strip())]

    path = Path(text)
    try:
        content = read_yaml(path)
    except OSError as error:
        raise UsageError(
            f"the space {text!r} is neither key=values nor a file that can be read ({error.strerror or error})",
            valid=f"A YAML file of `key: values`, or key=values with values as {_GRAMMAR}",
        ) from error
    except ValueError as error:
        raise UsageError(f"the space {path} is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict) or not content:
        raise UsageError(f"the space {path} names no keys", valid="Lines `key: values`")
    return [(str(key), value) for key, value in content.items()]


def _whole_key(name: str) -> str:
    """The key as recipes have it: `model.width` is an option, and stands under `model.options`."""
    section, _, rest = name.partition(".")
    fields = {"model": ModelSection.model_fields, "representation": RepresentationSection.model_fields}.get(section)
    if fields is not None and rest and rest.partition(".")[0] not in fields:
        return f"{section}.options.{rest}"
    return name


def _parameter(key: str, values: Any) -> Parameter:
    """Read the values of a key: a list, or text as on the command line."""

    def refused(reason: str) -> UsageError:
        return UsageError(f"the space has {key}={short_repr(values)}, {reason}", valid=_GRAMMAR)

    if isinstance(values, list):
        return _choice(tuple(values), refused)
    if not isinstance(values, str):
        raise refused("which is neither a list nor a range")
    word, colon, rest = values.partition(":")
    kinds: dict[str, Kind] = {"float": "float", "log": "log", "int": "int", "logint": "logint"}
    if not colon or word not in kinds:
        try:
            read = parsed_yaml(f"[{values}]")
        except ValueError as error:
            raise refused("which cannot be read") from error
        return _choice(tuple(_number_if_any(value) for value in read), refused)

    kind, parts = kinds[word], rest.split(":")
    if len(parts) != 2 and not (kind == "int" and len(parts) == 3):
        raise refused("which is no range of two ends")
    try:
        numbers = [int(part) if kind in ("int", "logint") else float(part) for part in parts]
    except ValueError as error:
        raise refused("whose ends are no such numbers") from error
    low, high = numbers[:2]
    step = int(numbers[2]) if len(numbers) == 3 else 1
    if not all(math.isfinite(number) for number in numbers):
        raise refused("whose ends are not finite")
    is_empty = not low < high or step < 1
    if is_empty or (kind == "int" and low + step > high):
        raise refused("which is an empty range")
    if kind in ("log", "logint") and low <= 0:
        raise refused("and a logarithm needs a lower end above 0")
    high = low + (high - low) // step * step if kind == "int" else high  # the last that the steps reach
    return Parameter(kind, low=low, high=high, step=step)


def _choice(values: tuple[Any, ...], refused: Any) -> Parameter:
    if len(values) < 2:
        raise refused("which leaves nothing to choose")
    if len(values) > _MOST_VALUES:
        raise refused(f"which are more than {_MOST_VALUES} values")
    try:
        json.dumps(values, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise refused("which a recipe cannot hold") from error
    return Parameter("choice", choices=values)


def _number_if_any(value: Any) -> Any:
    """Read 1e-3 as the number it is meant to be, which YAML takes for text."""
    if isinstance(value, str):
        try:
            return float(value) if "e" in value.lower() else value
        except ValueError:
            return value
    return value


@contextmanager
def _naming(key: str, value: Any) -> Iterator[None]:
    """Say of an error which value of the space it comes of."""
    try:
        yield
    except MusicgenreError as error:
        raise type(error)(
            f"the space has {key}={short_repr(value)}: {error.problem}", valid=error.valid, next_step=error.next_step
        ) from error


def _refuse_other_questions(key: str) -> None:
    if key.partition(".")[0] in _OF_THE_QUESTION:
        raise UsageError(
            f"the space has {key}, which changes what is measured: trials could not be held against each other",
            valid="Keys of representation, augmentation, model, training, and scoring",
            next_step="Set it for all of them with --set",
        )


def _refuse_unbuilt(key: str, recipe: Recipe, input_shape: Sequence[int]) -> None:
    """Make what the key is an option of: the representation, or the model with fresh weights."""
    if key.startswith("model."):
        check_options(recipe.model.name, recipe.model.options)
        try:
            create_to_restore(recipe.model.name, tuple(input_shape), 2, recipe.model.options)
        except (TypeError, ValueError) as error:
            raise RecipeError(
                f"the model {recipe.model.name} cannot be made with it ({' '.join(str(error).split())})",
                next_step="docs/models.md says what each option takes",
            ) from error
    if key.startswith("representation."):
        create_representation(recipe.representation.name, **recipe.representation.options)


def _refuse_without_effect(key: str, recipe: Recipe, space: Space, *, is_classical: bool) -> None:
    """Refuse a key that no training of this recipe reads."""
    section, _, name = key.partition(".")
    first = name.partition(".")[0]
    offline = recipe.augmentation.offline
    is_streaming = recipe.training.stream.active > 0 or "training.stream.active" in space
    reasons = {
        "no training reads it": key in _WORDS or section in _WORDS,
        f"the model {recipe.model.name} is fitted in one go, without it": (
            is_classical and section == "training" and first in _OF_NETWORKS
        ),
        "networks are always fitted on the training part": not is_classical and key == "training.fit_on",
        "there are no copies (augmentation.offline.copies=0)": (
            key in ("augmentation.offline.chain", "augmentation.offline.only")
            and not offline.copies
            and "augmentation.offline.copies" not in space
        ),
        "tags are not weighed (training.positive_weights=none)": (
            key == "training.positive_weight_cap"
            and recipe.training.positive_weights == "none"
            and "training.positive_weights" not in space
        ),
        "nothing is streamed (training.stream.active=0)": (
            key.startswith("training.stream.") and key != "training.stream.active" and not is_streaming
        ),
    }
    for reason, is_so in reasons.items():
        if is_so:
            raise UsageError(f"the space has {key}, which changes nothing: {reason}", next_step="Leave it out")
