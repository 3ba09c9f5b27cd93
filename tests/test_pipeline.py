"""One command from labelled music to a served model: what is done once, what is refused, what is rolled back."""

from __future__ import annotations

import http.server
import json
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from musicgenre import Classifier
from musicgenre.bundle.versions import Version, add_version, current_bundle, current_version, use_version
from musicgenre.data.manifest import read_manifest
from musicgenre.errors import BundleError, RecipeError, UsageError
from musicgenre.pipeline import call
from musicgenre.pipeline import run as running
from musicgenre.pipeline.file import GateSection, read_pipeline
from musicgenre.pipeline.judge import RefusedError, check_gate, set_to_learn
from musicgenre.pipeline.log import PipelineLog
from musicgenre.pipeline.run import run_pipeline
from tests.cli import run
from tests.labelled_music import make_collection
from tests.make_run import make_run
from tests.toy import save_toy

pytestmark = pytest.mark.usefixtures("checked_on_short_tracks")

STEPS = ["index", "split", "overfit", "train", "evaluate", "gate", "export", "install", "smoke"]
FILE = """
recipe: mfcc-mlp
set: {training.epochs: EPOCHS}
data: {folder: music}
split: {protocol: track, options: {test_size: 0.34, validation_size: 0.17}}
overfit: {epochs: 30}
gate: {accuracy: 0.5}
deploy: {models: served}
"""


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the whole pipeline ran once, a server of its own included."""
    folder = tmp_path_factory.mktemp("pipeline")
    make_collection(folder / "music", tracks_a_label=8).unlink()
    (folder / "mine.yaml").write_text(FILE.replace("EPOCHS", "20"))
    done = run("pipeline", "mine.yaml", "--quiet", cwd=folder, env={"MUSICGENRE_CACHE": str(folder / "cache")})
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines()[-1] == str(folder / "served" / "v0001")
    return folder


@pytest.fixture
def own(deployed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, whose smoke call needs no server."""
    folder = Path(shutil.copytree(deployed, tmp_path / "own"))
    monkeypatch.setenv("MUSICGENRE_CACHE", str(folder / "cache"))

    @contextmanager
    def no_server(models: Path, log: Path, *, wait_s: float) -> Iterator[str]:
        yield "http://127.0.0.1:9"

    def hears(version: Version, track: Path, address: str, *, token: str = "", wait_s: float) -> dict[str, Any]:
        assert current_version(version.folder.parent) == version, "it is asked for what is served"
        return {"genre": Classifier(str(version.bundle)).classify(track).genre}

    monkeypatch.setattr(running, "own_server", no_server)
    monkeypatch.setattr(running, "check_answer", hears)
    return folder


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "mine-pipeline" / "pipeline.jsonl").read_text().splitlines()]


def states(folder: Path) -> list[str]:
    """How the steps of the last call ended."""
    told = lines(folder)
    begun = max(number for number, line in enumerate(told) if line.get("event") == "begin")
    return [line["state"] for line in told[begun:] if "state" in line]


def refuse(*_: object, **__: object) -> dict[str, Any]:
    raise RefusedError("the server answers otherwise")


def test_every_step_runs_once_and_the_log_tells_what_was_found(deployed: Path) -> None:
    told = [line for line in lines(deployed) if "step" in line]
    assert [line["step"] for line in told] == STEPS
    assert {line["state"] for line in told} == {"ran"}
    found = {line["step"]: line["found"] for line in told}
    assert found["index"]["n_tracks"] == 24 and sum(found["split"].values()) == 24
    assert found["overfit"]["accuracy"] >= 0.95 and found["gate"]["accuracy"] >= 0.5
    assert found["smoke"]["genre"] in ("classical", "jazz", "metal", "unsure")

    served = Classifier(f"{deployed / 'served'}/")
    version = current_version(deployed / "served")
    assert version is not None and served.model_sha256 == version.model_sha256
    assert "listening at" in (deployed / "mine-pipeline" / "server.log").read_text()


def test_what_is_done_and_unchanged_is_cached(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "train", None)
    done = run_pipeline(own / "mine.yaml")
    assert done.states == dict.fromkeys(STEPS, "cached") and states(own) == ["cached"] * len(STEPS)

    # what is gone is made again, and nothing else
    (own / "mine-pipeline" / "mfcc-mlp.onnx").unlink()
    done = run_pipeline(own / "mine.yaml")
    assert [step for step, state in done.states.items() if state == "ran"] == ["export"]


def test_a_failing_call_rolls_back_and_a_good_one_keeps_the_old_version(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own / "mine.yaml").write_text(FILE.replace("EPOCHS", "25"))
    with monkeypatch.context() as patch:
        patch.setattr(running, "check_answer", refuse)
        refused = run_pipeline(own / "mine.yaml")
    assert refused.version is None and "answers otherwise" in refused.refusal
    assert refused.states["smoke"] == "refused" and refused.states["overfit"] == "cached"
    assert (own / "served" / "current").read_text() == "v0001\n"
    assert [line["to"] for line in lines(own) if line.get("event") == "rolled back"] == ["v0001"]
    assert run("classify", "music/jazz", "--model", "./served", cwd=own).returncode == 0

    done = run_pipeline(own / "mine.yaml")
    assert done.version is not None and (done.version.name, done.version.instead_of) == ("v0002", "v0001")
    assert [step for step, state in done.states.items() if state == "ran"] == ["install", "smoke"]
    assert (own / "served" / "v0001" / "model.onnx").is_file()
    gate = next(line["found"] for line in reversed(lines(own)) if line.get("step") == "gate")
    assert gate["against"] == "v0001" and gate["n_shared_tracks"] == 8
    assert set(run_pipeline(own / "mine.yaml").states.values()) == {"cached"}, "it is not held against itself"


def test_what_has_answered_stays_served_when_the_server_is_gone(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = "deploy: {models: served, address: 'http://127.0.0.1:9'}"
    (own / "mine.yaml").write_text(FILE.replace("EPOCHS", "20").replace("deploy: {models: served}", served))
    assert run_pipeline(own / "mine.yaml").states["smoke"] == "ran"
    monkeypatch.setattr(running, "check_answer", refuse)
    gone = run_pipeline(own / "mine.yaml")
    assert gone.states["smoke"] == "refused" and gone.states["install"] == "cached"
    assert (own / "served" / "current").read_text() == "v0001\n"
    assert "rolled back" not in [line.get("event") for line in lines(own)]


def test_a_first_version_that_fails_leaves_nothing_served(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(own / "served")

    def stop(*_: object, **__: object) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "check_answer", stop)
    (own / "mine-pipeline" / "pipeline.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines(own) if line.get("step") != "smoke")
    )
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(own / "mine.yaml")
    assert current_version(own / "served") is None and states(own)[-1] == "interrupted"


def test_an_interrupted_pipeline_goes_on(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "mine.yaml").write_text(FILE.replace("EPOCHS", "2"))
    wrong = read_pipeline(own / "mine.yaml")
    assert wrong.overrides == ["training.epochs=2"]

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running, "write_reports", stop)
        with pytest.raises(KeyboardInterrupt):
            run_pipeline(own / "mine.yaml")
    assert states(own)[-2:] == ["ran", "interrupted"]
    with (own / "mine-pipeline" / "pipeline.jsonl").open("a") as log:
        log.write('{"step": "evaluate", "sta')  # a kill came between
    done = run_pipeline(own / "mine.yaml")
    assert done.states["train"] == "cached" and done.states["evaluate"] == "ran"


def test_what_cannot_be_learnt_or_is_not_good_enough_is_refused(own: Path) -> None:
    before = (own / "served" / "current").read_bytes()
    blind = FILE.replace("set: {", "set: {training.learning_rate: 1.0e-9, ").replace("EPOCHS", "1")
    (own / "mine.yaml").write_text(blind.replace("{epochs: 30}", "{epochs: 1, accuracy: 1}"))
    done = run("pipeline", "mine.yaml", cwd=own)
    assert done.returncode == 1 and b"to learn by heart" in done.stderr
    assert states(own)[-1] == "refused" and "overfit.accuracy" in lines(own)[-1]["reason"]

    (own / "mine.yaml").write_text(blind.replace("{epochs: 30}", "{tracks_a_label: 0}").replace("0.5", "1"))
    refused = run_pipeline(own / "mine.yaml")
    assert refused.states["gate"] == "refused" and "gate.accuracy" in refused.refusal
    assert refused.version is None and (own / "served" / "current").read_bytes() == before


def answers(n_right: int, n: int = 40) -> Mapping[str, tuple[str, list[str]]]:
    return {f"t{number:02d}": ("jazz", ["jazz" if number < n_right else "pop"]) for number in range(n)}


@pytest.mark.parametrize(
    ("n_right", "passes"),
    [(30, True), (36, True), (27, True), (25, False)],
    ids=["equal", "better", "by chance", "worse"],
)
def test_the_gate_lets_pass_what_is_not_worse_by_the_paired_test(tmp_path: Path, n_right: int, passes: bool) -> None:
    deployed = Version(tmp_path / "v0001", "", "")
    make_run(deployed.run, answers(30))
    candidate = make_run(tmp_path / "new", answers(n_right))
    gate = GateSection(accuracy=0.5)
    if passes:
        found = check_gate(candidate, gate, deployed)
        assert found["against"] == "v0001" and found["n_shared_tracks"] == 40
        # three tracks lost and none won: one-sided 1/8
        assert found["p_one_sided"] == (0.125 if n_right == 27 else None)
        return
    with pytest.raises(RefusedError, match=r"worse than the deployed v0001: 0.625 against 0.750.*p = 0.0312"):
        check_gate(candidate, gate, deployed)
    check_gate(candidate, GateSection(accuracy=0.5, against="nothing"), deployed)
    with pytest.raises(RefusedError, match=r"gate\.accuracy"):
        check_gate(candidate, GateSection(accuracy=0.7), None)


def test_runs_that_cannot_be_compared_are_refused_with_the_way_out(tmp_path: Path) -> None:
    deployed = Version(tmp_path / "v0001", "", "")
    make_run(deployed.run, {"other": ("jazz", ["jazz"])})
    candidate = make_run(tmp_path / "new", answers(30))
    with pytest.raises(RefusedError, match=r"cannot be compared with the deployed v0001.*against: nothing"):
        check_gate(candidate, GateSection(accuracy=0.5), deployed)


def test_what_is_to_be_learnt_stands_in_all_parts(deployed: Path) -> None:
    manifest = read_manifest(deployed / "mine-pipeline" / "split.csv")
    small = set_to_learn(manifest, 2)
    for part in ("train", "validation", "test"):
        assert small.part(part).counts() == dict.fromkeys(manifest.labels, 2)
    assert len({track.path for track in small.tracks}) == 6
    trained = {track.path for track in manifest.part("train").tracks}
    assert {track.path for track in small.tracks} <= trained


WRONG = {
    "recipe: [": "no YAML",
    "- a": "holds no pipeline",
    FILE.replace("recipe: mfcc-mlp", ""): "lacks the key 'recipe'",
    FILE.replace("accuracy: 0.5", "accurcy: 0.5"): "unknown key.*gate.accuracy",
    FILE.replace("accuracy: 0.5", "accuracy: 5"): "gate.accuracy=5",
    FILE.replace("deploy:", "deplyo:"): "'deploy'",
    FILE.replace("{folder: music}", "{folder: music, manifest: a.csv}"): "either folder or manifest",
    FILE.replace("{models: served}", "{models: served, address: 'file:///etc/passwd'}"): "address as http",
    FILE.replace("{models: served}", "{models: served, token_file: t}"): "token_file with address alone",
}


@pytest.mark.parametrize("text", WRONG, ids=[*map(str, range(len(WRONG)))])
def test_a_file_of_another_shape_is_told_in_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text.replace("EPOCHS", "1"))
    with pytest.raises(RecipeError, match=WRONG[text]):
        read_pipeline(tmp_path / "mine.yaml")
    assert run("pipeline", "mine.yaml", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("recipe: mfcc-mlp", "recipe: mfcc-mlp-leaky", "leaky"),
        ("recipe: mfcc-mlp", "recipe: mel-cnn2d-tags", "names tags"),
        ("protocol: track, options: {test_size: 0.34, validation_size: 0.17}", "protocol: kfold", "no test part"),
        ("recipe: mfcc-mlp", "recipe: mfcc-mpl", "mfcc-mlp"),
    ],
)
def test_what_no_pipeline_can_do_is_refused_before_anything_is_done(
    old: str, new: str, told: str, tmp_path: Path
) -> None:
    text = FILE.replace(old, new).replace("EPOCHS", "1")
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises((RecipeError, UsageError), match=told):
        run_pipeline(tmp_path / "mine.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(FILE.replace("EPOCHS", "1"))
    (tmp_path / "mine-pipeline").mkdir()
    (tmp_path / "mine-pipeline" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"is not empty: it holds notes\.txt"):
        run_pipeline(tmp_path / "mine.yaml")


def test_a_version_is_put_there_once_and_a_damaged_pointer_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    toy, folder = save_toy(tmp_path / "toy.onnx"), tmp_path / "served"
    first = add_version(folder, toy, [], model_sha256="a", run_sha256="1")
    assert current_version(folder) is None, "it is not in use before it is pointed to"
    use_version(folder, first.name)
    second = add_version(folder, toy, [], model_sha256="b", run_sha256="2")
    use_version(folder, second.name)
    assert add_version(folder, toy, [], model_sha256="b", run_sha256="2") == second
    back = add_version(folder, toy, [], model_sha256="a", run_sha256="1")
    assert (back.name, back.instead_of, second.instead_of) == ("v0001", "v0002", "v0001")

    monkeypatch.chdir(tmp_path)
    assert current_bundle("served") is None, "a plain name is no path"
    assert current_bundle("./served") == Path("served/v0002/model.onnx")
    assert current_bundle(f"{tmp_path}/toy.onnx") is None
    for text in ("v0009\n", "../served/v0001\n", "", "v0001\0"):
        (folder / "current").write_text(text)
        with pytest.raises(BundleError, match="which is not there"):
            current_bundle(folder)
    use_version(folder, "")
    assert current_version(folder) is None and current_bundle(folder) is None


def test_a_torn_log_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'[1]\n\xff\n{"step": 3, "state": "ran"}\n{"step": "a", "state": "ran", "n": 1}\n{"st')
    log = PipelineLog(path)
    assert log.done("a")["n"] == 1 and log.done("b") == {}
    log.write(step="b", state="ran")
    assert PipelineLog(path).done("b")["state"] == "ran" and b'{"st\n{' in path.read_bytes()


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    """Sends everybody to another place."""

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", "/stolen")
        self.end_headers()
        self.server.asked.append(self.path)  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        pass


def test_the_call_follows_nobody_and_tells_what_differs(deployed: Path) -> None:
    version = current_version(deployed / "served")
    assert version is not None
    track = deployed / "music" / "jazz" / "jazz.00000.wav"
    server = http.server.HTTPServer(("127.0.0.1", 0), _Elsewhere)
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(RefusedError, match=r"does not serve v0001 .*answers 302"):
            call.check_answer(version, track, f"http://127.0.0.1:{server.server_port}", token="secret", wait_s=0.1)
        assert set(server.asked) == {"/readyz"}  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()

    record = {"path": "a", "genre": "jazz", "confidence": 0.9, "scores": {"jazz": 0.9}, "tags": [], "error": None}
    assert call.differences({**record, "path": "b", "confidence": 0.9004}, record) == []
    assert call.differences({**record, "genre": "metal"}, record) == ["genre is 'metal' and not 'jazz'"]
    assert call.differences({**record, "scores": {"jazz": 0.8}}, record) != []
    assert call.differences({**record, "more": 1}, record) == ["more is 1 and not None"]


@pytest.mark.slow
@pytest.mark.real_data
def test_real_tracks_become_a_served_model(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text(
        FILE.replace("EPOCHS", "60")
        .replace("folder: music", f"folder: {shared_data / 'gtzan-mini'}")
        .replace("test_size: 0.34, validation_size: 0.17", "test_size: 0.3, validation_size: 0.1")
        .replace("accuracy: 0.5", "accuracy: 0.3")
        .replace("{epochs: 30}", "{epochs: 60, tracks_a_label: 1}")
    )
    environment = {"MUSICGENRE_CACHE": str(tmp_path / "cache")}
    done = run("pipeline", "real.yaml", "--quiet", cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr.decode()
    again = run("pipeline", "real.yaml", "--quiet", cwd=tmp_path, env=environment)
    assert again.returncode == 0 and again.stderr.decode().count(": cached") == len(STEPS)


def test_a_file_that_is_wrong_is_told_before_torch_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "musicgenre.pipeline.run", None)  # which loads it
    done = run("pipeline", tmp_path / "none.yaml")
    assert done.returncode == 2 and b"none.yaml is no YAML that a pipeline can be (No such file" in done.stderr
