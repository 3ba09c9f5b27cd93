"""Train a recipe: one call from a manifest to a run folder."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import torch

from musicgenre._files import room_advice, writing_to
from musicgenre._locks import folder_lock
from musicgenre._parallel import free_cores, usable_cores
from musicgenre._text import how_many
from musicgenre.data.manifest import Manifest, read_manifest, write_manifest
from musicgenre.data.shards import ShardSet, looks_like_shards
from musicgenre.errors import MusicgenreError, RecipeError, RunError, UsageError
from musicgenre.models.cards import cards_in_use
from musicgenre.models.classical import ClassicalModel
from musicgenre.models.network import Network, count_parameters
from musicgenre.models.registry import check_options, create_model
from musicgenre.runs.folder import (
    CONTINUATION,
    RUN_FILE,
    RunFolder,
    check_output,
    output_folder,
    read_description,
    versions,
    write_group,
    write_study,
)
from musicgenre.training.bookkeeper import Watch, words_of
from musicgenre.training.continuing import (
    Continuation,
    check_changes,
    check_features,
    check_group,
    check_tracks,
    continuation_of,
    take_place,
)
from musicgenre.training.datamodule import StoreDataModule
from musicgenre.training.fit import Hardware, Launch, fit_classical, fit_network, probabilities, train_here
from musicgenre.training.inputs import Normalise, SpectrogramAugment, WaveformChange
from musicgenre.training.material import (
    Material,
    Progress,
    find_weights_first,
    gather_material,
    material_of_shards,
)
from musicgenre.training.parts import Parts, missing_tags
from musicgenre.training.recipe_names import Report
from musicgenre.training.recipes import Recipe
from musicgenre.training.request import check_request
from musicgenre.training.tracks import check_task

_DOING = "training"


def train(
    recipe: str | Path | Recipe,
    data: Manifest | Path | str,
    *,
    output: Path | None = None,
    overrides: Iterable[str] = (),
    seeds: int = 1,
    folds: int = 0,
    resume: bool = False,
    keep_state: bool = True,
    hardware: Hardware | None = None,
    store: Path | None = None,
    jobs: int = 1,
    has_test: bool = True,
    report: Report = lambda text: None,
    progress: Progress | None = None,
    scores: Report = lambda text: None,
    on_run: Callable[[Path], None] = lambda folder: None,
    launch: Launch = train_here,
) -> Path:
    """Train a recipe on the tracks of a manifest; features are prepared on the way.

    Parameters
    ----------
    recipe : str, Path or Recipe
        A name of `list_recipes` or one that a recipe had before, the path of a YAML file, or a recipe.
    data : Manifest, Path or str
        The tracks; or the folder, address or brace pattern of shards.
    output : Path, optional
        The run folder; `runs/RECIPE` by default, with a number behind it where that exists.
    overrides : iterable of str
        `section.key=value` each.
    seeds : int
        Trainings with different seeds, counted from the recipe's.
    folds : int
        Folds of a cross-validation; 0: one split.
    resume : bool
        Go on with what is in `output`: interrupted runs go on, finished ones are kept, or get more epochs where the
        recipe has more now; see `musicgenre.training.continuing`.
    keep_state : bool
        Whether a network's finished run keeps what it takes to give it more epochs: three times its weights with Adam.
    hardware : Hardware, optional
        One CPU by default.
    store : Path, optional
        Where the features go; in the cache folder by default.
    jobs : int
        Processes that prepare.
    has_test : bool
        Whether there must be a test part. A run without one has predictions of the validation part alone.
    report : callable
        Takes a line for the person who waits.
    progress : callable, optional
        Takes (what is being done, how much of it is done, how much there is).
    scores : callable
        Takes a line at the end of every epoch, where there is `progress`: loss, validation score, the best so far.
    on_run : callable
        Takes the folder of each run that is finished, or was before.
    launch : callable
        What trains a network, such as `musicgenre.cluster.training.RayTraining`; by default this machine.

    Returns
    -------
    Path
        The run folder; with several seeds or folds, the folder that holds them and `group.json`.

    Raises
    ------
    UsageError
        Impossible numbers of seeds or folds, nothing to resume, a model that cannot do what is asked.
    RecipeError
        The recipe does not exist, or does not go with the data.
    DataError
        The data cannot be read, split or prepared.
    RunError
        A folder that holds something else, or a training that failed.
    """
    overrides = list(overrides)
    chosen = check_request(
        recipe, overrides, seeds=seeds, folds=folds, output=output, resume=resume, store=store, report=report
    )
    hardware = _with_threads(hardware or Hardware(), output if resume else None)
    command = _command(chosen.name, data, overrides, seeds, folds)
    session = _Session(
        command,
        seeds,
        folds,
        resume,
        keep_state,
        hardware,
        store,
        jobs,
        has_test,
        report,
        progress,
        scores,
        on_run,
        launch,
    )
    folder = output or Path("runs") / chosen.name
    try:
        with output_folder(output, folder) as folder, folder_lock(folder, _DOING):
            check_output(folder, resume)  # again: another training may have ended in it meanwhile
            session.train_all(chosen, data, folder)
    except KeyboardInterrupt:
        # where nothing was written yet, the same command simply begins anew
        if folder.is_dir():
            where = shlex.quote(str(folder))
            report(f"{folder} is unfinished. Go on with the same command and: --output {where} --resume")
        raise
    return folder


@dataclass(frozen=True)
class _Session:
    """The wishes of one call of `train`, as it takes them."""

    command: str
    seeds: int
    folds: int
    resume: bool
    keep_state: bool
    hardware: Hardware
    store: Path | None
    jobs: int
    has_test: bool
    report: Report
    progress: Progress | None
    scores: Report
    on_run: Callable[[Path], None]
    launch: Launch

    def train_all(self, recipe: Recipe, data: Manifest | Path | str, folder: Path) -> None:
        """Train a recipe, or all that a study consists of, in a folder that this process holds."""
        variants = recipe.variants()
        if not variants:
            self.train_group(recipe, data, folder)
            return

        for name, variant in variants.items():
            with folder_lock(folder / name, _DOING):  # each can be gone on with by its own name
                self.train_group(variant, data, folder / name)
        write_study(folder, list(variants), recipe.name)

    def train_group(self, recipe: Recipe, data: Manifest | Path | str, folder: Path) -> None:
        """Train all seeds and folds of one recipe."""
        # what would only fail after hours of preparing, or a long download, fails now
        check_options(recipe.model.name, recipe.model.options)
        if not isinstance(data, Manifest) and not looks_like_shards(data) and Path(data).is_file():
            data = read_manifest(Path(data))
        if isinstance(data, Manifest):
            check_task(recipe, data)
        if not self.resume:  # a finished run needs no weights
            find_weights_first(recipe)

        if not isinstance(data, Manifest) and looks_like_shards(data):
            if self.store is not None:
                raise UsageError("shards hold the features: there is no store to make", next_step="Leave --store out")
            material = material_of_shards(recipe, data, folds=self.folds)
        else:
            if not isinstance(data, Manifest):
                data = Path(data)
            material = gather_material(
                recipe,
                data,
                folds=self.folds,
                store=self.store,
                jobs=self.jobs,
                has_test=self.has_test,
                report=self.report,
                progress=self.progress,
            )

        children: dict[str, tuple[int, int | None]] = {}  # seed and fold by the run's folder within
        folds: Sequence[int | None] = (None,)
        if self.folds:
            folds = material.folds
        for number in range(self.seeds):
            for fold in folds:
                steps = []
                if self.seeds > 1:
                    steps.append(f"seed-{number}")
                if fold is not None:
                    steps.append(f"fold-{fold}")
                children["/".join(steps)] = (recipe.training.seed + number, fold)

        check_group(folder, children)
        for child, (seed, fold) in children.items():
            with folder_lock(folder / child, _DOING) if child else nullcontext():
                self.train_one(material, seed, fold, folder / child)

        # a single training lies in the folder itself: that is a run, not a group
        if list(children) != [""]:
            write_group(folder, list(children), {"recipe": recipe.name, "seeds": self.seeds, "folds": self.folds})

    def train_one(self, material: Material, seed: int, fold: int | None, path: Path) -> None:
        """Train one seed on one fold, and leave a run folder that says how it ended."""
        folder = RunFolder(path)
        training = material.recipe.training.model_copy(update={"seed": seed})
        recipe = material.recipe.model_copy(update={"training": training})
        manifest, parts = material.round(fold)

        going_on, work = None, folder
        if folder.status is not None:
            with writing_to(path):
                take_place(folder)  # of what a kill left half done
            check_tracks(folder, manifest)
            if folder.status != "finished":
                check_changes(folder, recipe)
            elif (going_on := continuation_of(folder, recipe, self.report)) is None:
                self._end(folder, f"{path} is finished already")
                return
            if (going_on or folder).resume_state.is_file():
                measured = parts.normalisation if recipe.representation.normalise == "standard" else None
                check_features(folder, measured, self.hardware.precision)

        if going_on is not None:
            work = going_on.folder
            with writing_to(path):
                going_on.begin()
            self.report(
                f"{path} goes on from epoch {going_on.from_epoch} to {going_on.epochs}; "
                "until that has ended it stays as it is"
            )
        try:
            # the caller's own random numbers go on afterwards as if nothing had been trained
            with torch.random.fork_rng(devices=self.hardware.generators()):
                torch.manual_seed(recipe.training.seed)
                self._fill_folder(work, material, recipe, manifest, parts, fold, going_on)
        except MusicgenreError as error:
            work.stop("failed", str(error))
            raise
        except OSError as error:  # a full disk, most often: what was whole before still is
            problem = RunError(
                f"the training in {path} broke off: {error.strerror or error}",
                next_step=f"{room_advice(error) or 'Mend that'}, then go on with --output {path} --resume",
            )
            with suppress(OSError):  # the reason may find no room either
                work.stop("failed", str(problem))
            raise problem from error
        except (KeyboardInterrupt, SystemExit) as error:  # Lightning ends with SystemExit where it is interrupted
            work.stop("interrupted", type(error).__name__)
            raise KeyboardInterrupt from error

        with writing_to(path):
            take_place(folder)
        self._end(folder, f"wrote {path}")

    def _end(self, folder: RunFolder, told: str) -> None:
        """Tell that a run is whole, and drop what only more epochs would need where that is not wanted."""
        if not self.keep_state:  # last: who is stopped in between does not train all over again
            folder.resume_state.unlink(missing_ok=True)
        self.report(told)
        self.on_run(folder.folder)

    def _fill_folder(
        self,
        folder: RunFolder,
        material: Material,
        recipe: Recipe,
        manifest: Manifest,
        parts: Parts,
        fold: int | None,
        going_on: Continuation | None,
    ) -> None:
        """Make the model, fit it, and write what it says of the validation and the test part."""
        shape = material.representation.shape()
        normalise = Normalise(recipe.representation.normalise, len(shape), parts.normalisation)
        network = create_model(recipe.model.name, shape, parts.n_classes, **recipe.model.options)
        _check_model(network, material, recipe)
        if recipe.is_tagging:
            for name, part in (("validation", parts.validation), ("test", parts.test)):
                if len(part) and (missing := missing_tags(part)):
                    n_missing = how_many(len(missing), "tag")
                    self.report(f"the {name} part tells nothing about {n_missing}: {', '.join(missing)}")

        facts = _facts(material, recipe, parts, network, fold)
        facts |= {"hardware": asdict(self.hardware), "command": self.command}
        state = folder.resume_state if self.resume else None
        if going_on is not None:
            facts, state = going_on.described(facts), going_on.resume_state
        folder.begin(facts, recipe.as_yaml(), normalise.as_dict())
        write_manifest(manifest, folder.manifest)

        if isinstance(network, ClassicalModel):
            device = torch.device("cpu")
            found = fit_classical(network, parts, normalise, folder, recipe.training)
        else:
            online = recipe.augmentation.online
            fed, change, augment, shards = parts, None, None, None
            if material.sound is not None and online.waveform is not None:
                # the training part reads sound then, and its mean and deviation stay those of its features
                change = WaveformChange(online.waveform, material.representation, recipe.training.seed)
                fed = replace(parts, train=material.parts(material.sound, manifest).train)
            if online.spectrogram:
                augment = SpectrogramAugment(online.spectrogram, material.representation, parts.n_classes)
            if isinstance(material.store, ShardSet):
                shards = material.store
            data = StoreDataModule(fed, normalise, recipe.training, augment=augment, change=change, shards=shards)

            device, watch = self.hardware.device(), None
            if self.progress is not None:
                name = folder.folder.name
                watch = Watch(
                    epochs=partial(self.progress, f"training {name}"),
                    batches=partial(self.progress, "  within the epoch"),
                    scores=self.scores,
                )
            found = fit_network(network, data, folder, self.hardware, state=state, watch=watch, launch=self.launch)
            self.report(_end_in_words(folder, recipe, found))

        for name, part in (("validation", parts.validation), ("test", parts.test)):
            if not len(part):
                continue
            scores = probabilities(network, normalise, part, device, facts["activation"])
            folder.write_predictions(name, part, scores)
        if going_on is not None:
            found = going_on.found(found)
        folder.finish(found)


def _with_threads(hardware: Hardware, begun: Path | None) -> Hardware:
    """Settle the number of threads where none is asked for; what was begun goes on with its own, to the same bits.

    Threads wait for each other at every step: beside other work, all cores are many times slower than one
    (`benchmarks/training_threads.py`).
    """
    if hardware.threads is not None:
        return hardware
    threads = max(1, min(torch.get_num_threads(), free_cores()) // hardware.devices)
    for path in sorted(begun.rglob(RUN_FILE)) if begun is not None else ():
        before = read_description(path.parent)
        noted = before.get("hardware")
        recorded = before.get("threads", noted.get("threads") if isinstance(noted, dict) else None)
        if type(recorded) is int and 0 < recorded <= usable_cores():
            threads = recorded
            break
    return replace(hardware, threads=threads)


def _command(recipe: str, data: Manifest | Path | str, overrides: Sequence[str], seeds: int, folds: int) -> str:
    """The command that repeats a training, without the folders of this machine."""
    path = data.path if isinstance(data, Manifest) else data
    words = ["musicgenre", "train", recipe, "--data", PurePath(path).name if path else "MANIFEST"]
    for override in overrides:
        words += ["--set", override]
    if seeds > 1:
        words += ["--seeds", str(seeds)]
    if folds:
        words += ["--folds", str(folds)]
    return shlex.join(words)


def _end_in_words(folder: RunFolder, recipe: Recipe, found: Mapping[str, Any]) -> str:
    """Where a training stopped, which epoch was kept and why; epochs count from 1, as people do."""
    epochs, best, settings = found["epochs"], found["best_epoch"] + 1, recipe.training
    kept = folder.read_metrics(settings.monitor)[found["best_epoch"]]
    text = f"stopped at {epochs}, best {best}"
    if epochs >= settings.epochs:
        text = f"all {how_many(epochs, 'epoch')}, best {best}"
    text += f" ({words_of(settings.monitor)} {kept:.3f})"
    if best == epochs == settings.epochs > 1:
        text += ": the last was the best, and more training.epochs may do better"
    run = folder.folder.parent if folder.folder.name == CONTINUATION else folder.folder
    return f"{run.name}: {text}"


def _check_model(network: Network, material: Material, recipe: Recipe) -> None:
    """Refuse a model that cannot do what the recipe asks of it."""
    name, rate_hz = recipe.model.name, material.representation.sample_rate_hz
    is_classical = isinstance(network, ClassicalModel)
    if is_classical and recipe.is_tagging:
        raise RecipeError(
            f"the model {name} is fitted to one label per track, not to tags",
            valid="A network, such as mlp, cnn1d or cnn2d",
            next_step="'musicgenre recipes' lists recipes with task: multi_label",
        )

    # a network that hears sound itself would take another rate for another pitch, and say nothing
    if network.sample_rate_hz is not None and network.sample_rate_hz != rate_hz:
        raise UsageError(
            f"the model {name} hears sound at {network.sample_rate_hz} Hz, and the representation gives {rate_hz} Hz",
            next_step=f"Set representation.options.sample_rate_hz={network.sample_rate_hz}",
        )

    is_refused = {
        "cannot read shards": isinstance(material.store, ShardSet),
        "cannot stream (training.stream.active)": recipe.training.stream.active > 0,
        "has no epochs (training.examples=fresh)": recipe.training.examples == "fresh",
    }
    for what, is_asked in is_refused.items():
        if is_classical and is_asked:
            raise UsageError(
                f"the model {name} is fitted on all examples at once and {what}",
                next_step="Train it from the manifest, without these keys",
            )


def _facts(material: Material, recipe: Recipe, parts: Parts, network: Network, fold: int | None) -> dict[str, Any]:
    """What `run.json` says before the training begins."""
    activation = "softmax"
    if recipe.is_tagging and not recipe.training.softmax_in_loss:
        activation = "sigmoid"
    n_parameters = None
    if not isinstance(network, ClassicalModel):  # of which a forest or a neighbour list says nothing
        n_parameters = count_parameters(network)

    return {
        "recipe": recipe.name,
        "systems": list(recipe.systems),
        "task": recipe.task,
        "targets": recipe.data.targets,
        "activation": activation,
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
            # what the network settled for itself must be the same when it is made again
            "options": {**recipe.model.options, **network.options_to_restore()},
            "input_shape": list(material.representation.shape()),
            "n_classes": parts.n_classes,
        },
        "segments": {"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)},
        "skipped": material.store.skipped,
        "versions": versions(),
        "parameters": n_parameters,
        "weights": [card.as_dict() for card in cards_in_use(material.representation, network)],
    }
