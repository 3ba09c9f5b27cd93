"""Run a pipeline: each step is a command's own function, done once for what it depends on, and told in the log."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicgenre._files import sha256_of
from musicgenre._json import json_sha256
from musicgenre._locks import folder_lock
from musicgenre._outputs import refuse_foreign_folder
from musicgenre._parallel import usable_cores
from musicgenre._version import __version__
from musicgenre.audio import AUDIO_SUFFIXES
from musicgenre.bundle.load import read_card
from musicgenre.bundle.versions import Version, add_version, current_version, read_version, use_version
from musicgenre.data.index import index_folder, read_artists
from musicgenre.data.manifest import Manifest, read_manifest, write_manifest
from musicgenre.data.splits import split
from musicgenre.errors import MusicgenreError, RecipeError, UsageError, require
from musicgenre.evaluation.protocols import is_leaky
from musicgenre.evaluation.study import write_reports
from musicgenre.exporting.export import export_run
from musicgenre.pipeline.call import check_answer, own_server, read_token_of
from musicgenre.pipeline.file import PipelineFile, read_pipeline
from musicgenre.pipeline.judge import RefusedError, check_gate, check_learnt, recipe_to_learn, set_to_learn
from musicgenre.pipeline.log import CACHED, FAILED, INTERRUPTED, RAN, REFUSED, PipelineLog
from musicgenre.runs.folder import RunFolder, read_description
from musicgenre.training.fit import Hardware
from musicgenre.training.material import Progress
from musicgenre.training.recipe_names import Report
from musicgenre.training.recipes import Recipe, load_recipe
from musicgenre.training.request import check_request
from musicgenre.training.train import train

LOG = "pipeline.jsonl"
"""The log, in the folder of the pipeline."""

_N_DIGITS = 12  # of the hash that names a run by all that decides it
_SERVER_LOG = "server.log"
_KEPT_OF_RUN = ("run.json", "recipe.yaml", "predictions_test.csv")

_Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """How a pipeline ended.

    Parameters
    ----------
    folder : Path
        Where run, reports and log lie.
    states : mapping of str to str
        Step to `ran`, `cached` or `refused`, in their order.
    version : Version or None
        What is served now; None where the model was refused.
    refusal : str
        Why it was refused; empty where it was not.
    """

    folder: Path
    states: Mapping[str, str]
    version: Version | None
    refusal: str = ""


def run_pipeline(
    file: str | Path,
    *,
    report: Report = lambda text: None,
    progress: Progress | None = None,
    scores: Report = lambda text: None,
) -> PipelineResult:
    """Go from labelled music to a model that is served; what is done already, and still holds, is not done again.

    Parameters
    ----------
    file : str or Path
        The YAML that says what to do; see docs/pipeline.md.
    report, progress, scores
        As `musicgenre.training.train.train` takes them.

    Returns
    -------
    PipelineResult
        Also where a step refuses the model; then what was served before is served still.

    Raises
    ------
    MusicgenreError
        The file is wrong, or a step cannot be done.
    """
    file = Path(os.path.abspath(file))  # noqa: PTH100 - links in the path stay as they are
    wanted = read_pipeline(file)
    folder = file.parent / (wanted.folder or f"{file.stem}-pipeline")
    session = _Session(wanted, file.parent, folder, report, progress, scores)
    refuse_foreign_folder(folder, lambda path: (path / LOG).is_file(), command="this command", option="folder")
    with folder_lock(folder, "pipeline"):
        session.log = PipelineLog(folder / LOG)
        session.log.write(event="begin", version=__version__, file=file.name)
        try:
            version = session.go()
        except RefusedError as refusal:
            return PipelineResult(folder, session.states, None, str(refusal))
        session.log.write(event="end", model=version.name)
    return PipelineResult(folder, session.states, version)


class _Session:
    """One call of a pipeline."""

    log: PipelineLog

    def __init__(
        self,
        wanted: PipelineFile,
        base: Path,
        folder: Path,
        report: Report,
        progress: Progress | None,
        scores: Report,
    ) -> None:
        self.wanted = wanted
        self.base = base
        self.folder = folder
        self.models = base / wanted.deploy.models
        self.recipe = _checked_recipe(wanted, base, report)
        self.token = ""
        if wanted.deploy.token_file is not None:
            self.token = read_token_of(base / wanted.deploy.token_file)
        self.report = report
        self.progress = progress
        self.scores = scores
        self.states: dict[str, str] = {}

    def go(self) -> Version:
        """Take every step."""
        manifest = self.prepare_tracks()
        self.check_learning(manifest)
        run = self.train_model(manifest)
        run_sha256 = sha256_of(run / "predictions_test.csv")
        self.check_gate(run, run_sha256)
        bundle = self.export(run)
        with folder_lock(self.models, "deployment", wait_s=math.inf):
            return self.deploy(bundle, run, run_sha256, manifest)

    def prepare_tracks(self) -> Manifest:
        """List the tracks and split them."""
        data = self.wanted.data
        source = self.base / (data.folder or data.manifest or "")
        index, divided = self.folder / "index.csv", self.folder / "split.csv"

        def list_tracks() -> _Found:
            manifest, n_left_out = self._read_tracks(source)
            write_manifest(manifest, index)
            return {"n_tracks": len(manifest), "labels": list(manifest.labels), "n_left_out": n_left_out}

        inputs: _Found = {"data": data.model_dump(mode="json"), "content": _content_of(source)}
        if data.artists is not None:
            inputs["artists"] = sha256_of(self.base / data.artists)
        self.step("index", inputs, list_tracks, [index])

        def divide() -> _Found:
            manifest, chosen = read_manifest(index), self.wanted.split
            if chosen is not None:
                manifest = split(manifest, chosen.protocol, seed=chosen.seed, **chosen.options)
            elif not any(track.split for track in manifest.tracks):
                protocol = self.recipe.protocol
                manifest = split(manifest, protocol.name, seed=protocol.seed, **protocol.options)
            write_manifest(manifest, divided)
            return {part: len(manifest.part(part)) for part in ("train", "validation", "test")}

        settings = (self.wanted.split or self.recipe.protocol).model_dump(mode="json")
        self.step("split", {"index": sha256_of(index), "split": settings}, divide, [divided])
        return read_manifest(divided)

    def check_learning(self, manifest: Manifest) -> None:
        """Let the model learn a few tracks by heart, before it takes the time to learn them all."""
        wanted = self.wanted.overfit
        if not wanted.tracks_a_label:
            return
        recipe = recipe_to_learn(self.recipe, wanted)
        tracks = set_to_learn(_chosen(manifest, recipe), wanted.tracks_a_label)
        listed = self.folder / "overfit.csv"
        inputs = {"recipe": recipe.as_yaml(), "overfit": wanted.model_dump(mode="json"), "tracks": _state_of(tracks)}

        def learn() -> _Found:
            write_manifest(tracks, listed)
            run = self._trained(recipe, listed, self.folder / "overfit" / json_sha256(inputs)[:_N_DIGITS])
            return check_learnt(run, wanted)

        self.step("overfit", inputs, learn, [])

    def train_model(self, manifest: Manifest) -> Path:
        """Train, and score the run; return its folder."""
        divided = self.folder / "split.csv"
        inputs: _Found = {"recipe": self.recipe.as_yaml(), "tracks": _state_of(manifest)}
        inputs["split"] = sha256_of(divided)
        run = self.folder / "runs" / json_sha256(inputs)[:_N_DIGITS]
        files = RunFolder(run)

        def learn() -> _Found:
            self._trained(self.recipe, divided, run)
            skipped = [skip["track_id"] for skip in read_description(run)["skipped"]]
            return {"run": run.relative_to(self.folder).as_posix(), "skipped": skipped}

        predictions = files.predictions("test")
        self.step("train", inputs, learn, [files.recipe, predictions])

        def score() -> _Found:
            (found,) = write_reports(run)
            self.report(f"{found.recipe}: {found.short} ({found.setting})")
            return {"score": found.short, "setting": found.setting, "warnings": list(found.warnings)}

        inputs = {"predictions": sha256_of(predictions), "run": run.name}
        self.step("evaluate", inputs, score, [run / "report.json", run / "report.html"])
        return run

    def check_gate(self, run: Path, run_sha256: str) -> None:
        """Hold the run against what is wanted, and against the model that is deployed."""
        # once it is deployed itself, it still answers to the one that it took the place of
        rival = current_version(self.models)
        if rival is not None and rival.run_sha256 == run_sha256:
            rival = read_version(self.models, rival.instead_of) if rival.instead_of else None
        wanted = self.wanted.gate
        inputs = {
            "gate": wanted.model_dump(mode="json"),
            "run": run_sha256,
            "deployed": "" if rival is None else rival.run_sha256,
        }
        self.step("gate", inputs, lambda: check_gate(run, wanted, rival), [])

    def export(self, run: Path) -> Path:
        """Make the run one file."""
        bundle = self.folder / f"{self.recipe.name}.onnx"

        def write() -> _Found:
            exported = export_run(run, bundle, overwrite=True)
            self.report(exported.to_text().splitlines()[0])
            return {"largest_difference": exported.largest_difference, "n_checked": len(exported.checked_on)}

        # with the run comes its name: two runs may say the same of all test tracks
        inputs = {"run": run.name, "description": sha256_of(run / "run.json")}
        self.step("export", inputs, write, [bundle])
        return bundle

    def deploy(self, bundle: Path, run: Path, run_sha256: str, manifest: Manifest) -> Version:
        """Install the bundle as the served model, ask a server for one track, and go back where that fails."""
        model_sha256, models = read_card(bundle).sha256, self.models
        kept = [run / name for name in _KEPT_OF_RUN]

        def install() -> _Found:
            version = add_version(models, bundle, kept, model_sha256=model_sha256, run_sha256=run_sha256)
            use_version(models, version.name)
            return {"version": version.name, "instead_of": version.instead_of}

        inputs = {"model": model_sha256, "models": os.fspath(self.wanted.deploy.models)}
        self.step("install", inputs, install, [models / "current"])
        version = current_version(models)
        assert version is not None, "one was installed"

        track = _track_to_ask(manifest)
        wanted = self.wanted.deploy
        inputs = {"model": model_sha256, "version": version.name, "track": track.name, "address": wanted.address or ""}
        # one that answered in an earlier call is served rightly, whatever became of the server since
        found_before = self.log.done("smoke").get("found") or {}
        is_good = self.states["install"] == CACHED and found_before.get("version") == version.name
        try:
            # what is served elsewhere may have changed: it is always asked
            always = wanted.address is not None
            self.step(
                "smoke", inputs, lambda: {**self._call(version, track), "version": version.name}, [], always=always
            )
            is_good = True
        finally:
            if not is_good:  # for whatever reason: nothing stays served that was not asked
                use_version(models, version.instead_of)
                before = version.instead_of or "nothing, as before"
                self.report(f"rolled back: {models} serves {before}")
                self.log.write(event="rolled back", step="smoke", version=version.name, to=version.instead_of)
        return version

    def step(
        self,
        name: str,
        inputs: Mapping[str, Any],
        work: Callable[[], _Found],
        outputs: Sequence[Path],
        *,
        always: bool = False,
    ) -> None:
        """Do a step, unless it was done with the same inputs and what it wrote is still there.

        Parameters
        ----------
        name : str
            Its name.
        inputs : mapping
            All that decides what comes out.
        work : callable
            Does it, and returns what was found.
        outputs : sequence of Path
            What it writes.
        always : bool
            Do it in any case.
        """
        decided_by = json_sha256({"version": __version__, **inputs})
        before = self.log.done(name)
        facts = {"step": name, "inputs_sha256": decided_by}
        is_done = before.get("inputs_sha256") == decided_by and before.get("outputs") == _checksums(outputs)
        if is_done and not always:
            self.states[name] = CACHED
            self.report(f"{name}: cached")
            self.log.write(**facts, state=CACHED, found=before.get("found"))
            return

        started = time.monotonic()
        self.report(f"{name}: ...")
        with self._noting(facts, started):
            found = work()
        self.states[name] = RAN
        self.log.write(**facts, state=RAN, seconds=_since(started), outputs=_checksums(outputs), found=found)

    @contextmanager
    def _noting(self, facts: Mapping[str, Any], started: float) -> Iterator[None]:
        """Write into the log how a step ended that did not end well."""
        try:
            yield
        except RefusedError as error:
            self.states[str(facts["step"])] = REFUSED
            self.log.write(**facts, state=REFUSED, seconds=_since(started), reason=str(error))
            raise
        except MusicgenreError as error:
            self.log.write(**facts, state=FAILED, seconds=_since(started), reason=str(error))
            raise
        except KeyboardInterrupt:
            self.log.write(**facts, state=INTERRUPTED, seconds=_since(started))
            raise

    def _read_tracks(self, source: Path) -> tuple[Manifest, int]:
        """The tracks that the file asks for, and how many were left out."""
        data = self.wanted.data
        if data.folder is None:
            manifest = read_manifest(source)
            return (manifest.with_labels(data.labels) if data.labels else manifest), 0

        artists = None if data.artists is None else read_artists(self.base / data.artists)
        labels = list(data.labels) or None
        progress = self.progress
        found = index_folder(
            source,
            labels=labels,
            artists=artists,
            progress=None if progress is None else lambda n, total: progress("read", n, total),
        )
        left_out = [*found.expected, *found.skipped]
        for path, reason in left_out:
            self.report(f"left out: {path}: {reason}")
        return found.manifest, len(left_out)

    def _trained(self, recipe: Recipe, manifest: Path, run: Path) -> Path:
        """Train one recipe, or go on with what an earlier call began."""
        return train(
            recipe,
            manifest,
            output=run,
            overrides=self.wanted.overrides,
            resume=True,
            hardware=Hardware(self.wanted.accelerator),
            jobs=usable_cores(),
            report=self.report,
            progress=self.progress,
            scores=self.scores,
        )

    def _call(self, version: Version, track: Path) -> _Found:
        """Ask the server of the given address, or one of our own."""
        wanted = self.wanted.deploy
        if wanted.address is not None:
            address = wanted.address.rstrip("/")
            found = check_answer(version, track, address, token=self.token, wait_s=wanted.wait_s)
            return {**found, "version": version.name}
        with own_server(self.models, self.folder / _SERVER_LOG, wait_s=wanted.wait_s) as address:
            return {**check_answer(version, track, address, wait_s=wanted.wait_s), "version": version.name}


def _checked_recipe(wanted: PipelineFile, base: Path, report: Report) -> Recipe:
    """Read the recipe, and refuse what no pipeline can do before anything is done."""
    name: str | Path = wanted.recipe
    if wanted.recipe.endswith((".yaml", ".yml")):
        name = base / wanted.recipe
    recipe = load_recipe(name, wanted.overrides, report=report)
    check_request(recipe)
    reasons = {
        "names tags, and the gate asks for the accuracy of labels": recipe.is_tagging,
        "is a study of several trainings": bool(recipe.variants()),
        "deals single segments (leaky): its accuracy says nothing": is_leaky(recipe.protocol.name),
        "splits into folds, and one model is deployed": recipe.protocol.name.endswith("kfold"),
    }
    for reason, holds in reasons.items():
        if holds:
            raise RecipeError(f"the recipe {recipe.name} {reason}", valid="a recipe of one model that names labels")
    if wanted.split is not None and (is_leaky(wanted.split.protocol) or wanted.split.protocol.endswith("kfold")):
        raise UsageError(
            f"split.protocol={wanted.split.protocol} makes no test part that a gate can go by",
            valid="a protocol with train, validation and test, as track or artist",
        )
    if wanted.deploy.address is None:
        require("the smoke call", "serve", "fastapi", "uvicorn", "python_multipart", "prometheus_client")
    return recipe


def _chosen(manifest: Manifest, recipe: Recipe) -> Manifest:
    """The tracks that a recipe takes of a manifest."""
    if recipe.data.labels:
        manifest = manifest.with_labels(recipe.data.labels)
    return manifest.with_tracks(track for track in manifest.tracks if track.track_id not in recipe.data.exclude)


def _content_of(source: Path) -> str:
    """What tells whether a manifest, or the files of a folder, have changed: of files, size and time."""
    if not source.is_dir():
        return sha256_of(source) if source.is_file() else ""  # what is not there is told by who reads it
    states = []
    for place, _, names in os.walk(source, followlinks=True):
        for name in names:
            path = Path(place, name)
            states.append([path.relative_to(source).as_posix(), _file_state(path)])
    return json_sha256(sorted(states))


def _state_of(manifest: Manifest) -> str:
    """What tells whether tracks have changed: their rows, and size and time of their files."""
    rows = []
    for track in manifest.tracks:
        rows.append([track.track_id, track.label, track.split, dict(track.columns), _file_state(track.path)])
    return json_sha256(rows)


def _file_state(path: Path) -> list[int]:
    try:
        state = path.stat()
    except OSError:
        return []
    return [state.st_size, state.st_mtime_ns]


def _checksums(paths: Sequence[Path]) -> dict[str, str]:
    """Checksums of what a step wrote, empty where it is gone."""
    return {path.name: sha256_of(path) if path.is_file() else "" for path in paths}


def _track_to_ask(manifest: Manifest) -> Path:
    """The first sound file of the test part."""
    for track in manifest.tracks:
        if track.split == "test" and track.path.suffix.lower() in AUDIO_SUFFIXES and track.path.is_file():
            return track.path
    raise UsageError("no test track is a sound file that is there: the server cannot be asked for one")


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)
