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
) -> None:
    """List the models, and the published weights with their terms: whose work, trained on what, which licence."""
    from musicgenre.errors import MissingExtraError
    from musicgenre.models.cards import list_cards

    cards = list_cards()
    try:
        known = _models()
    except MissingExtraError as error:  # the light install still has the cards
        known = []
        typer.echo(f"no models here: {error}", err=True)
    if name is not None:
        known, cards = _named(name, known, cards)
    if output_format is ListFormat.json:
        import json

        typer.echo(json.dumps({"models": known, "weights": [_whole(card) for card in cards]}, ensure_ascii=False))
    elif name is None:
        _print_table(known, cards)
    else:
        _print_whole(known, cards)


def _models() -> list[dict[str, Any]]:
    """Every registered model: name, file, dimensions of its input, options with their defaults."""
    from musicgenre.models.registry import list_models, model_entry

    entries = [model_entry(name) for name in list_models()]
    return [
        {
            "name": entry.name,
            "file": entry.file,
            "dimensions": list(entry.dims),
            "example_shape": list(entry.tiny_shape),
            "options": entry.options,
        }
        for entry in entries
    ]


def _named(
    name: str, known: list[dict[str, Any]], cards: list[WeightCard]
) -> tuple[list[dict[str, Any]], list[WeightCard]]:
    """Keep a model with the cards of its weights, or one card."""
    found = [model for model in known if model["name"] == name]
    kept = [card for card in cards if name in (card.name, card.model)]
    if not found and not kept:
        import difflib

        from musicgenre.errors import UsageError

        names = [*(model["name"] for model in known), *(card.name for card in cards)]
        near = difflib.get_close_matches(name, names, n=1)
        raise UsageError(
            f"there is no model or card named {name!r}",
            valid=f"Nearest: {near[0]}" if near else "",
            next_step="'musicgenre models' lists them",
        )
    return found, kept


def _print_table(known: list[dict[str, Any]], cards: list[WeightCard]) -> None:
    rows: list[tuple[str, ...]] = [("model", "dimensions", "file", "published weights")]
    for model in known:
        weights = ", ".join(card.name for card in cards if card.model == model["name"])
        rows.append((model["name"], " or ".join(map(str, model["dimensions"])), model["file"], weights))
    _print_rows(rows if known else [])
    rows = [("weights", "at hand", "classes", "reads", "licence")]
    for card in cards:
        here = "yes" if _place(card) else "no"
        rows.append((card.name, here, str(card.classes or "-"), card.reads, _short(card.licence)))
    _print_rows(rows)
    typer.echo("musicgenre models NAME shows one whole, with the way to get its weights", err=True)


def _print_rows(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for row in rows:
        typer.echo("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    if rows:
        typer.echo("")


def _print_whole(known: list[dict[str, Any]], cards: list[WeightCard]) -> None:
    for entry in [*known, *map(_whole, cards)]:
        for key, value in entry.items():
            typer.echo(f"{key}: {_plain(value)}")
        typer.echo("")


def _whole(card: WeightCard) -> dict[str, Any]:
    """What a card says, and how to come by its weights on this machine."""
    return {**card.as_dict(), "at_hand": str(_place(card) or ""), "get": _way(card)}


def _place(card: WeightCard) -> Path | None:
    """Where the weights lie on this machine; ``None`` where they do not."""
    if card.model.startswith("musicnn"):
        from musicgenre.features.published.musicnn.published import PUBLISHED
        from musicgenre.features.published.musicnn.weights import variables_path

        path = variables_path(PUBLISHED[card.name])
        return path if path.is_file() else None
    path = _own_place(card)
    if path.exists():
        return path
    return _in_hub_cache(card.file) if card.model == "transformer" else None


def _own_place(card: WeightCard) -> Path:
    from musicgenre._files import cache_folder

    if card.model == "transformer":
        return cache_folder() / "models" / card.file.rpartition("/")[2]
    return cache_folder() / "weights" / card.file


def _in_hub_cache(name: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ModuleNotFoundError:  # the light install
        return None
    found = (try_to_load_from_cache(name, file) for file in ("model.safetensors", "pytorch_model.bin"))
    return next((Path(path).parent for path in found if isinstance(path, str)), None)


def _way(card: WeightCard) -> str:
    """How to get the weights, with a network and without."""
    if card.model.startswith("musicnn"):
        return f"musicgenre bundles get {card.name} (without a network: --from the wheel)"
    if card.model == "transformer":
        return (
            "fetched when first used; without a network save config.json, preprocessor_config.json and "
            f"model.safetensors of its page in {_own_place(card)}, or name your folder: "
            "--set model.options.model=FOLDER (representation.options.model=FOLDER where the recipe's representation "
            "is 'transformer')"
        )
    option = "representation.options.pca" if card.name.startswith("vggish-pca") else "model.options.weights"
    also = " (representation.options.weights=FILE where it is 'vggish')" if card.name == "vggish/published" else ""
    return (
        f"fetched when first used; without a network put the file in {_own_place(card).parent}, or name it: "
        f"--set {option}=FILE{also}"
    )


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{option}={default!r}" for option, default in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "-" if value in ("", None) else str(value)


def _short(licence: str) -> str:
    """What a licence is called; its whole text is on the card."""
    return licence.partition(". ")[0].rstrip(".")
