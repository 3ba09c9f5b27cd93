"""`musicgenre models`: the networks and classical models that recipes name, and the cards of published weights."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from musicgenre.models.cards import WeightCard


class ListFormat(StrEnum):
    """How the list is printed."""

    table = "table"
    json = "json"


def models(
    name: Annotated[str | None, typer.Argument(help="Show this model or this card of weights whole.")] = None,
    output_format: Annotated[ListFormat, typer.Option("--format", help="How it is printed.")] = ListFormat.table,
    get: Annotated[
        bool, typer.Option("--get", help="Fetch the weights of this name: of a card, or OWNER/NAME of the hub.")
    ] = False,
) -> None:
    """List the models, and the published weights with their terms: whose work, trained on what, which licence."""
    if get:
        _get(name)
        return

    from musicgenre._text import nearest_name
    from musicgenre.errors import MissingExtraError, UsageError
    from musicgenre.models.cards import list_cards
    from musicgenre.models.registry import list_models, model_entry, names_in_files

    # A wrong name is told before torch is loaded. A model comes with the cards of its weights, a card alone.
    cards = list_cards()
    if name is not None:
        names = [*sorted(names_in_files()), *(card.name for card in cards)]
        cards = [card for card in cards if name in (card.name, card.model)]
        if name not in names:
            near = nearest_name(name, names)
            raise UsageError(
                f"there is no model or card named {name!r}",
                valid=f"Nearest: {near}" if near else "",
                next_step="'musicgenre models' lists them",
            )

    known: list[dict[str, Any]] = []
    try:
        for entry in map(model_entry, list_models()):
            facts = {"name": entry.name, "file": entry.file, "dimensions": list(entry.dims)}
            known.append({**facts, "example_shape": list(entry.tiny_shape), "options": entry.options})
    except MissingExtraError as error:  # the light install still has the cards
        if not cards:
            raise
        typer.echo(f"no models here: {error}", err=True)
    if name is not None:
        known = [model for model in known if model["name"] == name]

    if output_format is ListFormat.json:
        import json

        typer.echo(json.dumps({"models": known, "weights": [_whole(card) for card in cards]}, ensure_ascii=False))
    elif name is None:
        _print_table(known, cards)
    else:
        for content in [*known, *map(_whole, cards)]:
            for key, value in content.items():
                typer.echo(f"{key}: {_plain(value)}")
            typer.echo("")


def _get(name: str | None) -> None:
    """Fetch published weights that are not at hand, by the name of their card, of their file, or on the hub."""
    from musicgenre._weight_files import WeightFile, cached_or_fetched
    from musicgenre.bundle.store import get_bundles
    from musicgenre.errors import UsageError
    from musicgenre.features.published.transformers.hub import find_model
    from musicgenre.models.cards import list_cards

    found = [card for card in list_cards() if name in (card.name, card.file)]
    if not found and name is not None and name.count("/") == 1:
        typer.echo(f"{name} is at hand: {find_model(name).folder}", err=True)
        return
    if not found:
        raise UsageError(
            f"there are no published weights named {name!r}" if name else "--get needs a name",
            valid="the name of a card, or OWNER/NAME on huggingface.co",
            next_step="'musicgenre models' lists the cards",
        )

    card = found[0]
    if card.model.startswith("musicnn"):
        place = get_bundles([card.name])[0]
    elif card.model == "transformer":
        place = find_model(card.file).folder
    else:
        place = cached_or_fetched(WeightFile(card.file, card.url, card.sha256), "model.options.weights")
    typer.echo(f"{card.name} is at hand: {place}", err=True)


def _print_table(known: list[dict[str, Any]], cards: list[WeightCard]) -> None:
    """Print two tables, each with a blank line behind: the models, where there are any, and the weights."""
    models: list[tuple[str, ...]] = [("model", "dimensions", "file", "published weights")]
    for model in known:
        weights = ", ".join(card.name for card in cards if card.model == model["name"])
        models.append((model["name"], " or ".join(map(str, model["dimensions"])), model["file"], weights))

    published: list[tuple[str, ...]] = [("weights", "at hand", "classes", "reads", "licence")]
    for card in cards:
        at_hand = "yes" if _place(card) else "no"
        licence = card.licence.partition(". ")[0].rstrip(".")  # what it is called; its whole text is on the card
        published.append((card.name, at_hand, str(card.classes or "-"), card.reads, licence))

    for rows in (models, published):
        if rows is models and not known:
            continue
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            typer.echo("  ".join(map(str.ljust, row, widths)).rstrip())
        typer.echo("")
    typer.echo("musicgenre models NAME shows one whole, with the way to get its weights", err=True)


def _whole(card: WeightCard) -> dict[str, Any]:
    """What a card says, and how to come by its weights on this machine; of another file at hand, that it is one."""
    place = _place(card)
    told = {**card.as_dict(), "at_hand": str(place or ""), "get": _way(card)}
    if card.model == "discogs-effnet" and place is not None:  # which `bundles get --unverified` may have brought
        from musicgenre._files import sha256_of

        own = sha256_of(place)
        if own != card.sha256:
            told["unverified"] = f"the file at hand is not the published one: its sha256 is {own}"
    return told


def _place(card: WeightCard) -> Path | None:
    """Where the weights lie on this machine; `None` where they do not."""
    if card.model.startswith("musicnn"):
        from musicgenre.features.published.musicnn.published import PUBLISHED
        from musicgenre.features.published.musicnn.weights import variables_path

        path = variables_path(PUBLISHED[card.name])
        return path if path.is_file() else None

    path = _own_place(card)
    if path.exists():
        return path
    if card.model != "transformer":
        return None

    # other programs of this machine may have fetched it before
    try:
        from huggingface_hub import try_to_load_from_cache
    except ModuleNotFoundError:  # the light install
        return None
    for file in ("model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(card.file, file)
        if isinstance(found, str):  # a mark of its own says that the page has no such file
            return Path(found).parent
    return None


def _own_place(card: WeightCard) -> Path:
    """Where musicgenre itself keeps the weights of a card, there or not."""
    from musicgenre._files import cache_folder

    if card.model == "transformer":
        return cache_folder() / "models" / card.file.rpartition("/")[2]
    return cache_folder() / "weights" / card.file


def _way(card: WeightCard) -> str:
    """How to get the weights, with a network and without."""
    if card.model.startswith("musicnn"):
        return f"musicgenre bundles get {card.name} (without a network: --from the wheel)"
    if card.model == "discogs-effnet":
        file = Path(card.file).name
        return f"musicgenre bundles get {card.name}, which asks first (without a network: --from {file})"
    if card.model == "transformer":
        return (
            "fetched with --get, or when you first train or embed with it; without a network save config.json, "
            "preprocessor_config.json and "
            f"model.safetensors of its page in {_own_place(card)}, or name your folder: "
            "--set model.options.model=FOLDER (representation.options.model=FOLDER where the recipe's representation "
            "is 'transformer')"
        )

    option, also = "model.options.weights", ""
    if card.name.startswith("vggish-pca"):
        option = "representation.options.pca"
    elif card.name == "vggish/published":
        also = " (representation.options.weights=FILE where it is 'vggish')"
    return (
        "fetched with --get, or when you first train or embed with it; without a network put the file in "
        f"{_own_place(card).parent}, or name it: "
        f"--set {option}=FILE{also}"
    )


def _plain(value: Any) -> str:
    """Print a value for people: options as NAME=VALUE, lists with commas, a dash for nothing."""
    if isinstance(value, dict):
        return ", ".join(f"{option}={default!r}" for option, default in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if value in ("", None):
        return "-"
    return str(value)
