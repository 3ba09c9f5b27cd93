"""Say what a search is worth: a recipe as it stands and searched, on artists that neither of them ever met.

Run: python scripts/nested_search.py table-svm-30s table.csv work --trials 10 --set representation.name=columns

Artists are dealt to outer folds. For each, the recipe is trained on the other folds as it stands, and searched on them
by cross-validation with artists apart; the winner is trained on the same tracks. Both are scored on the fold, and all
folds together, so that every track is answered once, by a model and by settings that its artist had no part in.
`work/searched.json` keeps what was found: `scripts/results.py searched` takes it into docs/results.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from musicgenre._files import write_text_atomic
from musicgenre.data.manifest import read_manifest, write_manifest
from musicgenre.data.splits import split, take_fold
from musicgenre.evaluation.compare import compare
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.runs.folder import write_group
from musicgenre.search.default_space import default_space
from musicgenre.search.options import SearchOptions
from musicgenre.search.search import search
from musicgenre.search.space import read_space
from musicgenre.search.study import StudyFolder
from musicgenre.training.recipes import load_recipe
from musicgenre.training.train import train


def main() -> None:
    """Train and search all outer folds, and print both accuracies and how they differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--inner-folds", type=int, default=5)
    parser.add_argument("--pruner", choices=("asha", "median", "none"), default="none")
    parser.add_argument("--space", action="append", default=[])
    parser.add_argument("--set", action="append", default=[], dest="settings")
    wishes = parser.parse_args()

    recipe = load_recipe(wishes.recipe, wishes.settings)
    space = read_space(wishes.space, recipe) if wishes.space else default_space(recipe)
    dealt = split(read_manifest(wishes.data), "artist-kfold", seed=0, folds=wishes.folds)
    wishes.work.mkdir(parents=True, exist_ok=True)
    inner = {"folds": wishes.inner_folds, "seeds": 1, "pruner": wishes.pruner}
    winners, settings = [], []
    for fold in range(wishes.folds):
        parts = take_fold(dealt, fold, validation_size=0.125)
        # the outer folds are settled: what is searched inside deals its own
        parts = parts.with_tracks(replace(track, fold=None) for track in parts.tracks)
        data = wishes.work / f"fold-{fold}.csv"
        write_manifest(parts, data)

        plain = wishes.work / "before" / f"fold-{fold}"
        train(recipe, data, output=plain, resume=plain.is_dir())
        study = wishes.work / "after" / f"fold-{fold}"
        options = SearchOptions("cv.accuracy", trials=wishes.trials, **inner)
        search(recipe, data, space, options, output=study, resume=study.is_dir(), report=print)
        winner = StudyFolder(study).read()["winner"]
        print(f"fold {fold}: {winner}", flush=True)
        settings.append(winner)
        winners.append(f"fold-{fold}/{StudyFolder(study).winner(winner['trial']).name}")

    names = [f"fold-{fold}" for fold in range(wishes.folds)]
    write_group(wishes.work / "before", names, {"recipe": recipe.name, "seeds": 1, "folds": 0})
    write_group(wishes.work / "after", winners, {"recipe": recipe.name, "seeds": 1, "folds": 0})
    before, after = evaluate(wishes.work / "before"), evaluate(wishes.work / "after")
    difference = compare(wishes.work / "before", wishes.work / "after")
    print(f"before: {before.short}\nafter: {after.short}\n{difference.to_text()}")
    found = {
        "recipe": recipe.name,
        "data": wishes.data.name,
        "folds": wishes.folds,
        "inner": {"objective": "cv.accuracy", **inner, "trials": wishes.trials},
        "winners": settings,
        "before": before.as_dict(),
        "after": after.as_dict(),
        "difference": difference.as_dict(),
    }
    write_text_atomic(wishes.work / "searched.json", json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
