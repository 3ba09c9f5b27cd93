"""Any model on other tracks: labels matched and counted, what it learnt from named and left out, damage refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from musicgenre.bundle import read_card
from musicgenre.bundle.store import bundle_path
from musicgenre.cli import app
from musicgenre.data.learnt import LearntFrom
from musicgenre.data.manifest import Manifest, Track, read_manifest, write_manifest
from musicgenre.errors import DataError, RunError, UsageError
from musicgenre.evaluation.ensemble import ensemble
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.evaluation.html import render_html
from musicgenre.evaluation.report import TagReport
from musicgenre.features.representations.table import COLUMNS
from musicgenre.judging.elsewhere import TagElsewhereReport, evaluate_elsewhere
from musicgenre.judging.judged import JudgedListener, JudgedRuns, learnt_by_default, open_judged
from musicgenre.judging.label_map import match_labels, read_label_map
from musicgenre.runs.folder import open_run
from musicgenre.training.train import train
from tests.cli import run as run_command
from tests.labelled_music import make_table
from tests.make_run import make_run, random_answers
from tests.toy import RATE_HZ, save_toy, save_toy_ears

QUICK = ["protocol.options={test_size: 0.34, validation_size: 0.17}", "data.labels=[]"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def noises(tmp_path: Path) -> Manifest:
    """Eight sounds, half of them loud; two labels that the toy knows, and one that it does not."""
    random = np.random.default_rng(1)
    tracks = []
    for number, label in enumerate(("Loud", "loud", "loud", "quiet", "quiet", "quiet", "speech", "speech")):
        gain = 0.8 if label.lower() == "loud" else 0.01
        path = tmp_path / "sounds" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, random.uniform(-gain, gain, 2 * RATE_HZ), RATE_HZ)
        tracks.append(Track(f"t{number}", path, label, group=f"artist {number // 2}"))
    write_manifest(Manifest(None, tuple(tracks)), tmp_path / "sounds.csv")
    return read_manifest(tmp_path / "sounds.csv")


def test_labels_match_by_name_and_what_does_not_is_counted() -> None:
    found = match_labels(["Hip-Hop", "hip hop", "Jazz", "polka", "polka"], ["hiphop", "jazz", "rock"])
    assert found.names == ("hiphop", "jazz", "rock") and found.groups == ((0,), (1,), (2,))
    assert found.group_of == {"Hip-Hop": 0, "hip hop": 0, "Jazz": 1}
    assert found.unmapped == {"polka": 2} and found.dropped == {}


def test_a_map_joins_labels_and_leaves_others_out(tmp_path: Path) -> None:
    maps = {"map.yaml": "heavy: [metal, rock]\nspoken:\n", "map.toml": 'heavy = ["metal", "rock"]\nspoken = ""'}
    for name, text in maps.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        chosen = read_label_map(tmp_path / name)
        assert chosen == {"heavy": ("metal", "rock"), "spoken": ()}
    found = match_labels(["heavy", "spoken", "jazz"], ["jazz", "metal", "rock"], chosen)
    assert found.names == ("metal or rock", "jazz") and found.dropped == {"spoken": 1} and found.unmapped == {}
    scores = np.array([[0.4, 0.3, 0.3]])
    assert found.together(scores, are_tags=False).tolist() == [[0.6, 0.4]]
    assert found.together(scores, are_tags=True).tolist() == [[0.3, 0.4]]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"jaz": ("jazz",)}, r"'jaz', which no track has.*Did you mean 'jazz'"),
        ({"jazz": ("jazzy",)}, r"'jazzy', which the model cannot say.*Did you mean 'jazz'"),
        ({"jazz": ("jazz", "rock"), "pop": ("rock",)}, "'rock' as part of"),
    ],
)
def test_a_wrong_map_is_refused(chosen: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        match_labels(["jazz", "pop"], ["jazz", "pop", "rock"], chosen)
    with pytest.raises(UsageError, match=r"knows none of the labels.*--labels-map"):
        match_labels(["polka"], ["jazz"])


@pytest.mark.parametrize("text", ["", "- jazz", "jazz: 3", "jazz: {a: b}", "jazz: [", "1: jazz"])
def test_what_is_no_map_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "map.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="map"):
        read_label_map(tmp_path / "map.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        read_label_map(tmp_path / "none.toml")


def test_what_was_learnt_from_is_found_by_name_content_and_artist(tmp_path: Path) -> None:
    def track(name: str, md5: str = "", group: str = "") -> Track:
        return Track(name, tmp_path / f"{name}.wav", "x", group=group, columns={"md5": md5} if md5 else {})

    learnt = LearntFrom.of([track("one", "aa", "Nina  Simone"), track("two"), replace(track("c"), augmented=True)])
    again = LearntFrom.from_values(json.loads(json.dumps(learnt.as_values())), "x")
    assert again == learnt and len(learnt.tracks) == 2 and "one" not in str(learnt.as_values())
    tracks = [
        *(track("other", "aa"), track("two", "bb"), track("one", "cc"), track("one", "", "x")),
        *(track("new", "dd", "nina simone"), track("free", "ee", "Bach")),
    ]
    numbered = [replace(one, track_id=str(n), source_id=one.source_id) for n, one in enumerate(tracks)]
    assert learnt.find(numbered) == {
        "0": "the same content",
        "1": "the same track",
        "3": "the same track",  # and not "2": a name alone tells nothing where both contents are known and differ
        "4": "the same artist",
    }
    for damage in ({"tracks": "ab"}, {"tracks": ["a"], "contents": []}, {"digest": 3}):
        with pytest.raises(DataError, match="damaged"):
            LearntFrom.from_values(damage, "x")


def test_a_bundle_is_scored_on_tracks_it_never_heard(tmp_path: Path, noises: Manifest) -> None:
    learnt = LearntFrom.of(
        [Track("x", noises.tracks[0].path, "loud"), Track("y", tmp_path / "none.wav", "quiet", group="Artist 2")]
    )
    toy = save_toy(tmp_path / "toy.onnx", learnt_from=learnt.as_values())
    report = evaluate_elsewhere(str(toy), noises)
    assert report.learnt_from == {"the same content": ("t0",), "the same artist": ("t4", "t5")}
    assert report.unmapped == {"speech": 2} and report.n_tracks == 3 and report.accuracy.value == 1.0
    assert report.expected_calibration_error is not None and sum(one.n_tracks for one in report.calibration) == 3
    text = report.to_text()
    assert "1 track, left out: t0" in text and "speech (2 tracks)" in text and "confidence and what came" in text
    assert "toy" in render_html(report) and json.loads(report.to_json())["unmapped"] == {"speech": 2}
    assert any("not calibrated" in warning for warning in report.warnings)

    kept = evaluate_elsewhere(str(toy), noises, leave_out="tracks")
    assert kept.n_tracks == 5 and "2 of 5 tracks are by artists that the model learnt from" in kept.warnings
    all_of_them = evaluate_elsewhere(str(toy), noises, leave_out="nothing")
    assert all_of_them.leaky and all_of_them.warnings[0].startswith("LEAK: 1 of 6 tracks")
    assert "scored all the same" in all_of_them.to_text()

    unknown = evaluate_elsewhere(str(save_toy(tmp_path / "bare.onnx")), noises)
    assert any("nobody noted what the model learnt from" in warning for warning in unknown.warnings)
    everything = LearntFrom.of(noises.tracks)
    with pytest.raises(DataError, match=r"nothing is left to score.*the same content: 6"):
        evaluate_elsewhere(str(save_toy(tmp_path / "all.onnx", learnt_from=everything.as_values())), noises)


def test_a_tagger_answers_with_the_tags_that_stand_for_labels(tmp_path: Path, noises: Manifest) -> None:
    toy = save_toy(tmp_path / "tagger.onnx", thresholds=(0.5, 0.5))
    report = evaluate_elsewhere(str(toy), noises)
    assert report.accuracy.value == 1.0 and report.calibration == () and "names tags" in " ".join(report.warnings)


def test_a_tagger_is_scored_on_tracks_with_any_number_of_tags(tmp_path: Path, noises: Manifest) -> None:
    said = {"t0": ("Loud", "speech"), "t1": ("loud",), "t3": ("quiet",), "t4": ("quiet", "hum"), "t5": ("loud",)}
    tagged = []
    for track in noises.tracks:  # t2 has none, and of t7 one is unknown
        columns = {"unknown": "quiet"} if track.track_id == "t7" else {}
        tagged.append(replace(track, label="", labels=said.get(track.track_id, ()), columns=columns))
    manifest = noises.with_tracks(tagged)
    learnt = LearntFrom.of([Track("x", noises.tracks[0].path, "loud")])
    toy = save_toy(tmp_path / "tagger.onnx", thresholds=(0.5, 0.5), learnt_from=learnt.as_values())
    report = evaluate_elsewhere(str(toy), manifest, leave_out="tracks", labels={"hum": ()})
    assert isinstance(report, TagElsewhereReport) and report.tags == ("loud", "quiet")
    assert report.learnt_from == {"the same content": ("t0",)} and report.n_tracks == 7
    assert report.unmapped == {"speech": 1} and report.dropped == {"hum": 1}
    loud, quiet = report.scores
    assert (loud.n_present, loud.n_known, quiet.n_present, quiet.n_known) == (2, 7, 2, 6)
    assert quiet.roc_auc is not None and quiet.precision == 0.5 and quiet.recall == 1.0
    # the toy calls t1 and t2 loud and t3 to t7 quiet: 5 of 7 decisions about loud are right, and 4 of 6 about quiet
    assert report.decisions.accuracy == pytest.approx(9 / 13)
    assert report.decisions.zeros_accuracy == pytest.approx(9 / 13)
    text = report.to_text()
    assert "on sounds.csv, 7 tracks" in text and "tags it has nothing for" in text and "1 track, left out: t0" in text
    assert "toy" in render_html(report) and json.loads(report.to_json())["task"] == "multi_label"

    one_label = str(save_toy(tmp_path / "toy.onnx"))
    with pytest.raises(DataError, match=r"8 of 8 tracks of .* have tags and no label"):
        evaluate_elsewhere(one_label, manifest)
    silent = manifest.with_tracks(replace(one, labels=("loud",)) for one in manifest.tracks)
    with pytest.raises(DataError, match="tells nothing about the tags loud"):
        evaluate_elsewhere(str(toy), silent)


def test_a_run_that_tags_keeps_its_thresholds_on_other_tracks(tmp_path: Path) -> None:
    table = make_table(tmp_path / "table.csv", COLUMNS)
    tags_of = {label: ("drums", label) for label in table.labels}
    tagged = table.with_tracks(replace(one, label="", labels=tags_of[one.label]) for one in table.tracks)
    quick = [*QUICK, "representation.name=columns", "training.epochs=2"]
    run = train("table-mlp-tags", tagged, output=tmp_path / "run", overrides=quick)
    own, evaluated = evaluate_elsewhere(str(run), tagged), evaluate(run)
    assert isinstance(own, TagElsewhereReport) and isinstance(evaluated, TagReport)
    assert own.roc_auc == evaluated.roc_auc and own.decisions == evaluated.decisions
    assert not any("thresholds" in warning for warning in own.warnings)
    other = evaluate_elsewhere(str(run), tagged, pooling="max", leave_out="nothing")
    assert other.leaky and other.pooling == "max"


def test_unsure_answers_and_parts(tmp_path: Path, noises: Manifest) -> None:
    split = noises.with_tracks(replace(one, split="test" if n % 2 else "train") for n, one in enumerate(noises.tracks))
    toy = str(save_toy(tmp_path / "toy.onnx", unsure_threshold=0.99))
    report = evaluate_elsewhere(toy, split, part="test")
    assert report.n_tracks == 3 and report.answered is not None and report.answered.n_answered < 3
    assert "where it is not unsure" in report.to_text() and "--labels-map" in report.to_text()
    page = render_html(report)  # says as much as the text
    assert "What confidence is worth" in page
    for name, words in report.headline()[1:]:
        assert name.strip() in page and escape(words) in page
    with pytest.raises(DataError, match="no track of the part 'validation'"):
        evaluate_elsewhere(toy, split, part="validation")


def test_a_run_is_scored_from_a_table_and_so_is_an_ensemble(tmp_path: Path) -> None:
    table = make_table(tmp_path / "table.csv", COLUMNS)
    runs = [
        train(name, table, output=tmp_path / name, overrides=[*QUICK, "representation.name=columns"])
        for name in ("table-naive-bayes-30s", "table-logistic-regression-30s")
    ]
    own = open_run(runs[0]).manifest()
    assert own is not None
    n_test = len(own.part("test"))
    report = evaluate_elsewhere(str(runs[0]), table)
    assert report.n_tracks == n_test, "what trained or validated it is left out"
    assert report.accuracy.value == pytest.approx(
        float((open_run(runs[0]).predictions("test").predicted == open_run(runs[0]).predictions("test").truth).mean())
    )

    new = make_table(tmp_path / "new.csv", COLUMNS)
    other = new.with_tracks(replace(one, track_id=f"new-{one.track_id}", source_id="") for one in new.tracks)
    both = ensemble(runs, tmp_path / "both").folder
    found = evaluate_elsewhere(str(both), other)
    assert found.n_tracks == len(table) and "artists of its training are not known" in " ".join(found.warnings)
    info = json.loads((runs[1] / "run.json").read_text(encoding="utf-8"))
    (runs[1] / "run.json").write_text(json.dumps({**info, "finished": "2999-01-01T00:00:00+00:00"}), encoding="utf-8")
    with pytest.raises(RunError, match=r"was trained or continued after that was made.* Make the ensemble again"):
        evaluate_elsewhere(str(both), other)
    with pytest.raises(UsageError, match="hears sound"):
        evaluate_elsewhere(str(save_toy(tmp_path / "toy.onnx", labels=found.labels[:2])), other)

    info = json.loads((runs[0] / "run.json").read_text(encoding="utf-8"))
    info["representation"]["names"] = [f"my-{name}" for name in COLUMNS]
    (runs[0] / "run.json").write_text(json.dumps(info), encoding="utf-8")
    soundfile.write(tmp_path / "a.wav", np.zeros(8_000), 8_000)
    with pytest.raises(UsageError, match="columns that these tracks do not have"):
        evaluate_elsewhere(str(runs[0]), Manifest(None, (Track("a", tmp_path / "a.wav", info["labels"][0]),)))


def test_folds_that_answer_other_tracks_are_named_as_folds(tmp_path: Path) -> None:
    """Each fold of one seed is a model here, and no seed of its own."""
    table = make_table(tmp_path / "table.csv", COLUMNS)
    overrides = ["data.labels=[]", "representation.name=columns"]
    run = train("table-naive-bayes-30s", table, output=tmp_path / "folds", folds=2, overrides=overrides)
    report = evaluate_elsewhere(str(run), table, leave_out="nothing")
    text, page = report.to_text(), render_html(report)
    for words in ("seed 0, fold 0", "seed 0, fold 1", "over models", "averaged over 2 models"):
        assert words in text and words in page
    assert "seed 1" not in text + page and "over seeds" not in text + page


def test_the_command(tmp_path: Path, noises: Manifest) -> None:
    toy = save_toy(tmp_path / "toy.onnx", unsure_threshold=0.1)
    (tmp_path / "map.yaml").write_text("speech: quiet\n", encoding="utf-8")
    words = ["evaluate", toy, "--data", tmp_path / "sounds.csv", "--labels-map", tmp_path / "map.yaml"]
    done = run_command(*words, "--output", tmp_path / "report.json", "--jobs", "1")
    assert done.returncode == 0, done.stderr.decode()
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content["n_tracks"] == 8 and content["unmapped"] == {} and content["data"] == "sounds.csv"
    refused = CliRunner().invoke(app, ["evaluate", str(toy), "--leave-out", "tracks"])
    assert isinstance(refused.exception, UsageError) and "--data" in str(refused.exception)


def test_what_the_default_model_learnt_from_is_noted_without_names() -> None:
    learnt = learnt_by_default()
    assert len(learnt.tracks) == len(learnt.contents) == 789 and all(learnt.contents) and len(learnt.groups) > 200
    assert learnt.find([Track("blues.00000", Path("none.wav"), "blues")]) in ({}, {"blues.00000": "the same track"})


def test_an_exported_bundle_notes_what_it_learnt_from(tmp_path: Path) -> None:
    assert read_card(save_toy(tmp_path / "toy.onnx")).learnt_from == {}
    values = LearntFrom.of_names(["a"], [""], ["b"]).as_values()
    card = read_card(save_toy(tmp_path / "noted.onnx", learnt_from=values))
    assert dict(card.learnt_from) == values and card.format_version == 1


def test_labels_that_no_track_has_count_in_no_macro_f1(tmp_path: Path, noises: Manifest) -> None:
    """The toy says quiet of one loud track: two labels are said, one is true, and there is one macro F1."""
    only_loud = noises.with_tracks(noises.tracks[:3] + tuple(replace(one, label="loud") for one in noises.tracks[3:4]))
    report = evaluate_elsewhere(str(save_toy(tmp_path / "toy.onnx")), only_loud)
    loud, quiet = report.classes
    assert (report.accuracy.value, loud.f1, quiet.support) == (0.75, pytest.approx(6 / 7), 0)
    assert report.macro_f1.value == report.macro.f1 == report.seeds[0].macro_f1 == loud.f1
    assert report.macro_f1.low < loud.f1 < report.macro_f1.high


def test_what_was_said_of_every_track_is_written_and_a_track_that_is_not_heard_is_an_exit_code_of_1(
    tmp_path: Path, noises: Manifest
) -> None:
    toy = save_toy(tmp_path / "toy.onnx", unsure_threshold=0.9)
    noises.tracks[5].path.write_bytes(b"no sound")
    noises.tracks[4].path.unlink()
    words = ["evaluate", toy, "--data", tmp_path / "sounds.csv", "--jobs", "1"]
    done = run_command(*words, "--answers", tmp_path / "answers.csv")
    said = done.stderr.decode()
    assert done.returncode == 1 and "not heard (2)" in said and "t4: " in said and "t5: " in said
    assert "not heard" in done.stdout.decode()

    with (tmp_path / "answers.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["track_id"] for row in rows] == ["t0", "t1", "t2", "t3", "t4", "t5"], "speech is no label of the toy's"
    assert rows[0] | {"confidence": "", "score_loud": "", "score_quiet": ""} == {
        **{"track_id": "t0", "path": str(noises.tracks[0].path), "model": "0", "label": "loud", "answer": "loud"},
        **{"confidence": "", "right": "yes", "unsure": "no", "reason": "", "score_loud": "", "score_quiet": ""},
    }
    assert float(rows[0]["confidence"]) == max(float(rows[0]["score_loud"]), float(rows[0]["score_quiet"]))
    assert rows[4]["answer"] == rows[4]["score_loud"] == "" and rows[4]["reason"] and rows[5]["label"] == "quiet"

    tagger = save_toy(tmp_path / "tagger.onnx", thresholds=(0.5, 0.5))
    tagged = noises.with_tracks(replace(one, label="", labels=(one.label.lower(),)) for one in noises.tracks)
    evaluate_elsewhere(str(tagger), tagged, answers_file=tmp_path / "tags.csv")
    with (tmp_path / "tags.csv").open(encoding="utf-8", newline="") as stream:
        said_of = [(row["label"], row["answer"]) for row in csv.DictReader(stream)]
    assert said_of[2:4] == [("loud", "loud"), ("quiet", "quiet")]


def test_a_name_that_a_model_and_a_folder_of_runs_have_is_refused_with_the_way_to_either(
    tmp_path: Path, noises: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = bundle_path("mine")
    bundle.parent.mkdir(parents=True)
    save_toy_ears(bundle)
    (tmp_path / "mine").mkdir()
    assert isinstance(open_judged("mine"), JudgedListener), "a folder that holds anything else is not meant"

    make_run(tmp_path / "mine", random_answers(1, 6))
    with pytest.raises(UsageError, match=rf"is both a bundle and a folder here.*Give \./mine for .*{bundle}"):
        open_judged("mine")
    assert isinstance(open_judged("./mine"), JudgedRuns) and isinstance(open_judged("mine/"), JudgedRuns)
    assert isinstance(open_judged(str(bundle)), JudgedListener)
    refused = run_command("evaluate", "mine", "--data", "sounds.csv", cwd=tmp_path)
    assert refused.returncode == 2 and b"./mine" in refused.stderr
    assert run_command("evaluate", "mine", cwd=tmp_path).returncode == 0, "then a folder alone can be meant"

    for command in (["evaluate", "default"], ["compare", "mine", "default"]):
        refused = run_command(*command, cwd=tmp_path)
        assert refused.returncode == 2 and b"evaluate default --data MANIFEST.csv" in refused.stderr
