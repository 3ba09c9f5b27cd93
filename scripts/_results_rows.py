"""Rows of docs/results/rows.toml, and their records: what scripts/results.py trains, checks and writes a page of."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from musicgenre.evaluation.report import LabelReport
    from musicgenre.runs.folder import Run

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "results"
RECORD_VERSION = 1
_FOLDS = 5


@dataclass(frozen=True)
class Row:
    """One line of the page: what is measured, on what, under which protocol, and what was claimed."""

    section: str
    code: str
    system: str
    recipe: str
    data: str
    protocol: str
    claimed: str
    recomputed: str
    note: str
    seeds: int
    folds: int
    settings: tuple[str, ...]
    unmeasured: str
    source: Mapping[str, Any]
    members: tuple[str, ...] = ()
    how: str = "mean"
    elsewhere: bool = False  # published by others: nothing here trains it
    still_open: str = ""  # why the row is to be trained again although it has a record
    value: int = 1  # rows of more value are trained first
    hours: float = 0.0  # of one core, about: from the measured time of an epoch; 0 where nobody measured it

    @property
    def record_name(self) -> str:
        """What finds its record."""
        return record_name(self.recipe, self.data, self.protocol, self.folds)

    @property
    def trained(self) -> str:
        """Name of the recipe to train; a study's variants come from one training."""
        return self.recipe.partition(".")[0]

    @property
    def run_name(self) -> str:
        """Folder of the training, inside the folder for all of them."""
        return record_name(self.trained, self.data, self.protocol, self.folds)

    def run_folder(self, work: Path) -> Path:
        """Folder of this row's run."""
        variant = self.recipe.partition(".")[2]
        return work / self.run_name / variant if variant else work / self.run_name

    @property
    def command(self) -> str:
        """The command that trains it, or lets its members answer together."""
        if self.members:
            runs = [record_name(member, self.data, self.protocol, self.folds) for member in self.members]
            return shlex.join(["musicgenre", "ensemble", *runs, "--how", self.how, "--name", self.recipe])
        folds = self.protocol.endswith("kfold")
        words = ["musicgenre", "train", self.trained, "--data", self.source["manifest"]]
        words += ["--folds", str(self.folds)] if folds else []
        words += ["--seeds", str(min(self.seeds, 3) if folds else self.seeds)] if self.seeds > 1 else []
        settings = [*self.source["settings"], *self.settings]
        if self.protocol not in ("kfold", "track", "segment-leaky"):  # those are in the recipes, or are --folds
            settings.append(f"protocol.name={self.protocol.removesuffix('-kfold')}")
        for setting in settings:
            words += ["--set", setting]
        return shlex.join(words)


def record_name(recipe: str, data: str, protocol: str, folds: int) -> str:
    """Name of a record; the number of folds is in it where it is not the usual one."""
    unusual = f"-{folds}" if protocol == "kfold" and folds != _FOLDS else ""
    return f"{recipe}--{data}--{protocol}{unusual}"


def read_rows(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """Read rows.toml; give its head and one row for every protocol of every entry."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    rows = [
        Row(
            section=entry["section"],
            code=entry["code"],
            system=entry["system"],
            recipe=entry["recipe"],
            data=entry["data"],
            protocol=protocol,
            claimed=entry.get("claimed", ""),
            recomputed=entry.get("recomputed", ""),
            note=entry.get("note", ""),
            seeds=entry.get("seeds", content["data"][entry["data"]]["seeds"]),
            folds=entry.get("folds", content["data"][entry["data"]].get("folds", _FOLDS)),
            settings=tuple(entry.get("settings", ())),
            unmeasured=entry.get("unmeasured", ""),
            source=content["data"][entry["data"]],
            members=tuple(entry.get("members", ())),
            how=entry.get("how", "mean"),
            elsewhere=entry.get("elsewhere", False),
            still_open=entry.get("open", ""),
            value=entry.get("value", 1),
            hours=entry.get("hours", 0.0),
        )
        for entry in content["row"]
        for protocol in entry["protocols"]
    ]
    return content, rows


def record_of(run: Path, data: str, command: str | None = None) -> dict[str, Any]:
    """Everything the page needs of a run, from its folder alone."""
    from musicgenre.evaluation.evaluate import evaluate
    from musicgenre.evaluation.report import LabelReport
    from musicgenre.runs.folder import open_runs
    from musicgenre.training.recipe_names import current_name

    report = evaluate(run)
    runs = open_runs(run)
    kept = ("systems", "protocol", "leaky", "how", "n_tracks", "n_segments", "n_folds", "parameter_count")
    plain = report.as_dict()
    recipe = current_name(plain["recipe"])  # an old run knows its recipe by a former name
    first = runs[0]
    command = command or str(first.info.get("command", "")).replace(f" {plain['recipe']} ", f" {recipe} ")
    return {
        "format_version": RECORD_VERSION,
        "data": data,
        "recipe": recipe,
        **{name: plain[name] for name in kept},
        **(_label_figures(report, plain) if isinstance(report, LabelReport) else _tag_figures(plain)),
        "training": _training_of(runs),
        "command": command,
        "date": str(first.info.get("finished") or "")[:10],
        "versions": first.info.get("versions", {}),
    }


def _training_of(runs: Sequence[Run]) -> dict[str, Any] | None:
    """Epochs that the runs trained, those that were kept, and their limits; None where there is none to choose."""
    import yaml

    epochs = [run.info["epochs"] for run in runs if run.best_epoch is not None]
    if not epochs:
        return None
    recipe = yaml.safe_load(runs[0].files.recipe.read_text(encoding="utf-8"))["training"]
    return {
        "epochs": epochs,
        "best_epochs": [run.best_epoch + 1 for run in runs if run.best_epoch is not None],
        "limit": recipe["epochs"],
        "patience": recipe.get("patience"),
        "monitor": recipe["monitor"],
        "threads": runs[0].info.get("threads"),
    }


def _label_figures(report: LabelReport, plain: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "labels": list(report.labels),
        "seeds": [entry.seed for entry in report.seeds],
        "accuracy": plain["accuracy"],
        "accuracy_sd": report.accuracy_sd,
        "segment_accuracy": plain["segment_accuracy"],
        "macro_f1": report.macro.f1,
        "majority_share": report.majority_share,
        "confusion": plain["confusion"],
    }


def _tag_figures(plain: Mapping[str, Any]) -> dict[str, Any]:
    names = ("tags", "seeds", "roc_auc", "roc_auc_sd", "pr_auc", "pr_auc_sd", "chance_pr_auc", "left_out")
    return {"task": "multi_label", **{name: plain[name] for name in (*names, "decisions", "agreement", "scores")}}


def records_at_hand() -> dict[str, dict[str, Any]]:
    """Every record of records.jsonl by its name."""
    path = FOLDER / "records.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    records = [json.loads(line) for line in lines]
    return {name_of(record): record for record in records}


def name_of(record: Mapping[str, Any]) -> str:
    """The name of a record, from what it says."""
    return record_name(record["recipe"], record["data"], record["protocol"], record["n_folds"])


def write_records(records: Mapping[str, Mapping[str, Any]]) -> None:
    """Write records.jsonl, one record a line in the order of the names."""
    from musicgenre._files import write_text_atomic

    lines = [json.dumps(records[name], ensure_ascii=False, separators=(",", ":")) for name in sorted(records)]
    write_text_atomic(FOLDER / "records.jsonl", "\n".join(lines) + "\n")


def read_records(rows: Sequence[Row]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Read the record of every row; the second value lists what is missing or does not fit."""
    records = records_at_hand()
    problems = []
    codes: dict[str, set[str]] = {}  # one system may be shown in several sections, each with a code of its own
    for row in rows:
        codes.setdefault(row.record_name, set()).add(row.code)
    for row in rows:
        record = records.get(row.record_name)
        if record is None:
            if not row.unmeasured:
                problems.append(f"row {row.code} ({row.system}, {row.protocol}) has no record {row.record_name}")
            continue
        if row.unmeasured:
            problems.append(f"{row.record_name} has a record, but rows.toml calls its row unmeasured")
        if codes[row.record_name].isdisjoint(record["systems"]):
            problems.append(f"{row.record_name} is of {', '.join(record['systems'])}, its row of {row.code}")

    known = {row.record_name for row in rows}
    problems += [f"the record {name} belongs to no row" for name in sorted(records) if name not in known]
    return records, problems
