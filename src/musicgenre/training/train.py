"""Train a recipe: one call from a manifest to a run folder."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import torch

from musicgenre._files import room_advice
from musicgenre.data.manifest import Manifest, read_manifest, write_manifest
from musicgenre.data.shards import ShardSet, looks_like_shards
from musicgenre.errors import MusicgenreError, RecipeError, RunError, UsageError
from musicgenre.models.cards import cards_in_use
from musicgenre.models.classical import ClassicalModel
from musicgenre.models.network import Network, count_parameters
from musicgenre.models.registry import check_options, create_model
from musicgenre.runs.folder import RunFolder, check_output, free_folder, versions, write_group, write_study
from musicgenre.training.datamodule import StoreDataModule
from musicgenre.training.fit import Hardware, fit_classical, fit_network, probabilities
from musicgenre.training.inputs import Normalise, SpectrogramAugment, WaveformChange
from musicgenre.training.material import Material, Progress, Tell, find_weights_first, gather_material
from musicgenre.training.parts import Parts, missing_tags
from musicgenre.training.recipes import Recipe, load_recipe
from musicgenre.training.stream import material_of_shards


def train(
    recipe: str | Path | Recipe,
    data: Manifest | Path | str,
    *,
    output: Path | None = None,
    overrides: Iterable[str] = (),
    seeds: int = 1,
    folds: int = 0,
    resume: bool = False,
    hardware: Hardware | None = None,
    store: Path | None = None,
    jobs: int = 1,
    tell: Tell = lambda text: None,
    progress: Progress | None = None,
) -> Path:
    """Train a recipe on the tracks of a manifest; features are prepared on the way.

    Parameters
    ----------
    recipe : str, Path or Recipe
        A name of ``list_recipes`` or one that a recipe had before, the path of a YAML file, or a recipe.
    data : Manifest, Path or str
        The tracks; or the folder, address or brace pattern of shards.
    output : Path, optional
        The run folder; ``runs/RECIPE`` by default, with a number behind it where that exists.
    overrides : iterable of str
        ``section.key=value`` each.
    seeds : int
        Trainings with different seeds, counted from the recipe's.
    folds : int
        Folds of a cross-validation; 0: one split.
    resume : bool
        Go on with what is in ``output``: finished runs are kept, interrupted ones continued.
    hardware : Hardware, optional
        One CPU by default.
    store : Path, optional
        Where the features go; in the cache folder by default.
    jobs : int
        Processes that prepare.
    tell : callable
        Takes a line for the person who waits.
    progress : callable, optional
        Takes (what is being done, how much of it is done, how much there is).

    Returns
    -------
    Path
        The run folder; with several seeds or folds, the folder that holds them and ``group.json``.
    """
    overrides = list(overrides)
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides, report=tell)
    if seeds < 1 or folds < 0 or folds == 1:
        raise UsageError(f"seeds={seeds}, folds={folds}", valid="1 seed or more; 0 folds, or 2 and more")
    if resume and output is None:
        raise UsageError("there is nothing to resume", next_step="Name the run folder with --output")
    folder = output or free_folder(Path("runs") / chosen.name)
    check_output(folder, resume)
    command = _command(chosen.name, data, overrides, seeds, folds)
    session = _Session(command, seeds, folds, resume, hardware or Hardware(), store, jobs, tell, progress)
    variants = chosen.variants()
    with _telling_how_to_go_on(folder, tell):
        if not variants:
            return session.train_group(chosen, data, folder)
        for name, variant in variants.items():
            session.train_group(variant, data, folder / name)
        write_study(folder, list(variants), chosen.name)
    return folder


@contextmanager
def _telling_how_to_go_on(folder: Path, tell: Tell) -> Iterator[None]:
    """Say after Ctrl-C how the training goes on; before the folder is there the same command simply does."""
    try:
        yield
    except KeyboardInterrupt:
        if folder.is_dir():
            where = shlex.quote(str(folder))
            tell(f"{folder} is unfinished. Go on with the same command and: --output {where} --resume")
        raise


class _Session:
    """The wishes of one call of :func:`train`."""

    def __init__(
        self,
        command: str,
        seeds: int,
        folds: int,
        resume: bool,
        hardware: Hardware,
        store: Path | None,
        jobs: int,
        tell: Tell,
        progress: Progress | None,
    ) -> None:
        self.command, self.seeds, self.folds, self.resume = command, seeds, folds, resume
        self.hardware, self.store, self.jobs, self.tell, self.progress = hardware, store, jobs, tell, progress

    def train_group(self, recipe: Recipe, data: Manifest | Path | str, folder: Path) -> Path:
        """Train all seeds and folds of one recipe."""
        check_options(recipe.model.name, recipe.model.options)
        if not self.resume:  # a finished run needs none
            find_weights_first(recipe)
        material = self._material(recipe, data)
        first = recipe.training.seed
        children = []
        for seed in range(first, first + self.seeds):
            for fold in material.folds if self.folds else (None,):
                steps = [f"seed-{seed - first}"] * (self.seeds > 1) + [f"fold-{fold}"] * (fold is not None)
                child = "/".join(steps)
                self.train_one(material, seed, fold, folder / child)
                children.append(child)
        if children != [""]:
            facts = {"recipe": recipe.name, "seeds": self.seeds, "folds": self.folds}
            write_group(folder, children, facts)
        return folder

    def _material(self, recipe: Recipe, data: Manifest | Path | str) -> Material:
        if isinstance(data, Manifest) or not looks_like_shards(data):
            return gather_material(
                recipe,
                data if isinstance(data, Manifest) else Path(data),
                folds=self.folds,
                store=self.store,
                jobs=self.jobs,
                tell=self.tell,
                progress=self.progress,
            )
        if self.store is not None:
            raise UsageError("shards hold the features: there is no store to make", next_step="Leave --store out")
        return material_of_shards(recipe, data, folds=self.folds)

    def train_one(self, material: Material, seed: int, fold: int | None, path: Path) -> None:
        """Train one seed on one fold, and leave a run folder that says how it ended."""
        folder = RunFolder(path)
        recipe = _with_seed(material.recipe, seed)
        manifest, parts = material.round(fold)
        if folder.status is not None:
            _check_same(folder, recipe, manifest)
            if folder.status == "finished":
                folder.resume_state.unlink(missing_ok=True)  # a kill may have left it
                self.tell(f"{path} is finished already")
                return
        try:
            self._train_in(folder, material, recipe, manifest, parts, fold)
        except MusicgenreError as error:
            folder.stop("failed", str(error))
            raise
        except OSError as error:  # a full disk, most often: what was whole before still is
            problem = RunError(
                f"the training in {path} broke off: {error.strerror or error}",
                next_step=f"{room_advice(error) or 'Mend that'}, then go on with --output {path} --resume",
            )
            with suppress(OSError):  # the reason may find no room either
                folder.stop("failed", str(problem))
            raise problem from error
        except (KeyboardInterrupt, SystemExit) as error:
            folder.stop("interrupted", type(error).__name__)
            raise KeyboardInterrupt from error
        self.tell(f"wrote {path}")

    def _train_in(
        self,
        folder: RunFolder,
        material: Material,
        recipe: Recipe,
        manifest: Manifest,
        parts: Parts,
        fold: int | None,
    ) -> None:
        with torch.random.fork_rng(devices=self.hardware.generators()):
            torch.manual_seed(recipe.training.seed)
            shape = material.representation.shape()
            normalise = Normalise(recipe.representation.normalise, len(shape), parts.normalisation)
            network = create_model(recipe.model.name, shape, parts.n_classes, **recipe.model.options)
            if recipe.is_tagging:
                check_tagger(network, recipe, parts, self.tell)
            _check_rate(network, recipe.model.name, material.representation.sample_rate_hz)
            facts = _facts(material, recipe, parts, fold)
            facts["model"]["options"] |= network.options_to_restore()
            classical = isinstance(network, ClassicalModel)
            if classical:
                _check_at_once(material, recipe)
            facts["parameters"] = None if classical else count_parameters(network)
            facts["weights"] = [card.as_dict() for card in cards_in_use(material.representation, network)]
            facts |= {"hardware": asdict(self.hardware), "command": self.command}
            folder.begin(facts, recipe.as_yaml(), normalise.as_dict())
            write_manifest(manifest, folder.manifest)
            if isinstance(network, ClassicalModel):
                found = fit_classical(network, parts, normalise, folder, recipe.training)
            else:
                data = _data_module(material, recipe, manifest, parts, normalise)
                watch = None if self.progress is None else partial(self.progress, f"training {folder.folder.name}")
                found = fit_network(network, data, folder, self.hardware, resume=self.resume, progress=watch)
            device = torch.device("cpu") if classical else self.hardware.device()
            for name, part in (("validation", parts.validation), ("test", parts.test)):
                scores = probabilities(network, normalise, part, device, facts["activation"])
                folder.write_predictions(name, part, scores)
            folder.finish(found)


def check_tagger(network: Network, recipe: Recipe, parts: Parts, tell: Tell) -> None:
    """Refuse a model that cannot name several tags; say which tags the smaller parts cannot measure."""
    if isinstance(network, ClassicalModel):
        raise RecipeError(
            f"the model {recipe.model.name} is fitted to one label a track, not to tags",
            valid="A network, such as mlp, cnn1d or cnn2d",
            next_step="'musicgenre recipes' lists recipes with task: multi_label",
        )
    for name, part in (("validation", parts.validation), ("test", parts.test)):
        if missing := missing_tags(part):
            tell(f"the {name} part tells nothing about {len(missing)} tags: {', '.join(missing)}")


def _check_rate(network: Network, name: str, rate_hz: int) -> None:
    """Refuse to feed a network that hears sound itself at another rate than its own."""
    wanted_hz = network.sample_rate_hz
    if wanted_hz is not None and wanted_hz != rate_hz:
        raise UsageError(
            f"the model {name} hears sound at {wanted_hz} Hz, and the representation gives {rate_hz} Hz",
            next_step=f"Set representation.options.sample_rate_hz={wanted_hz}",
        )


def _data_module(
    material: Material, recipe: Recipe, manifest: Manifest, parts: Parts, normalise: Normalise
) -> StoreDataModule:
    online = recipe.augmentation.online
    change = None
    if material.sound is not None and online.waveform is not None:
        change = WaveformChange(online.waveform, material.representation, recipe.training.seed)
        parts = replace(parts, train=material.parts(material.sound, manifest).train)
    augment = None
    if online.spectrogram:
        augment = SpectrogramAugment(online.spectrogram, material.representation, parts.n_classes)
    shards = material.store if isinstance(material.store, ShardSet) else None
    return StoreDataModule(parts, normalise, recipe.training, augment=augment, change=change, shards=shards)


def _check_at_once(material: Material, recipe: Recipe) -> None:
    """Refuse what a model without epochs cannot do."""
    wanted = {
        "cannot read shards": isinstance(material.store, ShardSet),
        "cannot stream (training.stream.active)": recipe.training.stream.active > 0,
        "has no epochs (training.examples=fresh)": recipe.training.examples == "fresh",
    }
    if refused := [what for what, asked in wanted.items() if asked]:
        raise UsageError(
            f"the model {recipe.model.name} is fitted on all examples at once and {refused[0]}",
            next_step="Train it from the manifest, without these keys",
        )


def _with_seed(recipe: Recipe, seed: int) -> Recipe:
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"seed": seed})})


def _command(name: str, data: Manifest | Path | str, overrides: Sequence[str], seeds: int, folds: int) -> str:
    """Write down the command that repeats this, without the folders of this machine."""
    path = data.path if isinstance(data, Manifest) else data
    words = ["musicgenre", "train", name, "--data", PurePath(path).name if path else "MANIFEST"]
    words += [word for override in overrides for word in ("--set", override)]
    words += ["--seeds", str(seeds)] * (seeds > 1) + ["--folds", str(folds)] * (folds > 0)
    return shlex.join(words)


def _facts(material: Material, recipe: Recipe, parts: Parts, fold: int | None) -> dict[str, Any]:
    return {
        "recipe": recipe.name,
        "systems": list(recipe.systems),
        "task": recipe.task,
        "targets": recipe.data.targets,
        "activation": "sigmoid" if recipe.is_tagging and not recipe.training.softmax_in_loss else "softmax",
        "labels": list(parts.train.label_names),
        "seed": recipe.training.seed,
        "fold": fold,
        "protocol": material.protocol,
        "scoring": recipe.scoring,
        "representation": material.representation.settings(),
        "segment_s": material.store.segment_s,
        "hop_s": material.store.hop_s,
        "model": {
            "name": recipe.model.name,
            "options": dict(recipe.model.options),
            "input_shape": list(material.representation.shape()),
            "n_classes": parts.n_classes,
        },
        "segments": {"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)},
        "skipped": material.store.skipped,
        "versions": versions(),
    }


def _check_same(folder: RunFolder, recipe: Recipe, manifest: Manifest) -> None:
    """Refuse to go on with a run that was begun with something else."""
    if not folder.recipe.is_file() or not recipe.trains_like(folder.recipe.read_text(encoding="utf-8")):
        raise RunError(
            f"{folder.folder} was begun with another recipe or other settings",
            next_step="Resume it with the same, or give another --output",
        )
    if not folder.manifest.is_file():
        return
    begun = {(track.track_id, track.split) for track in read_manifest(folder.manifest).tracks}
    if begun != {(track.track_id, track.split) for track in manifest.tracks}:
        raise RunError(
            f"{folder.folder} was begun with other tracks or another split",
            next_step="Resume it with the same manifest, or give another --output",
        )
