"""What a search found: text, plain values, and a page with history, parallel coordinates and importance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musicgenre._text import how_many
from musicgenre.errors import needing
from musicgenre.search.study import StudyFolder, is_higher_better

if TYPE_CHECKING:
    import optuna

_N_SHOWN = 10  # trials in the text
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } th, td { padding: .2rem .8rem; text-align: left; border-bottom: 1px solid #eee; }
.note { color: #666; }
.wide { overflow-x: auto; } .reason { min-width: 12rem; }
"""

_AXIS_PX = 160
"""Width that an axis of the parallel coordinates needs for its numbers; on a narrower screen the plot scrolls."""

_LABEL = 22  # characters on a line beside a bar


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One trial.

    Attributes
    ----------
    number : int
        From 0 on.
    state : str
        `complete`, `pruned`, `fail` or `running`.
    value : float or None
        Of the objective; None where it was not finished.
    values : mapping
        What was drawn, by key.
    reason : str
        Why it failed.
    """

    number: int
    state: str
    value: float | None
    values: Mapping[str, Any]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SearchReport:
    """What a search has found so far.

    Attributes
    ----------
    recipe, objective, sampler, pruner : str
        What was searched, and how.
    trials : tuple of TrialRow
        The best first; what was not finished comes last.
    importance : mapping of str to float
        Share of the differences between trials that each key explains (Optuna's PED-ANOVA); empty where there are too
        few trials to say.
    winner : mapping
        As `search.json` holds it; empty before the search has ended.
    n_tested : int
        How many winners were scored on the test part.
    """

    recipe: str
    objective: str
    sampler: str
    pruner: str
    trials: tuple[TrialRow, ...]
    importance: Mapping[str, float]
    winner: Mapping[str, Any]
    n_tested: int

    def counts(self) -> dict[str, int]:
        """Number of trials by state."""
        found: dict[str, int] = {}
        for trial in self.trials:
            found[trial.state] = found.get(trial.state, 0) + 1
        return found

    def verdict(self) -> list[str]:
        """Lines about the winner: what chose it, what it got on the test part, and how much the choice flattered."""
        if not self.winner:
            return ["the search has not ended: there is no winner yet"]
        lines = [
            f"trial {self.winner['trial']} of {self.winner['n_trials']} won by {self.objective} "
            f"{self.winner['best']:.4g}, which chose it and flatters"
        ]
        if "test" not in self.winner:
            return [*lines, "the test part was not looked at"]
        lines.append(f"trained anew with {how_many(self.winner['seeds'], 'seed')}: {self.winner['test']}")
        if "test_accuracy" in self.winner:
            validation, test = self.winner["validation_accuracy"], self.winner["test_accuracy"]
            lines.append(f"accuracy of these runs: validation {validation:.3f}, test {test:.3f}")
            if self.objective.endswith("accuracy"):
                best = self.winner["best"]
                lines.append(f"optimism: {best:.3f} of the best trial is {best - test:+.3f} against test")
        if self.n_tested > 1:
            lines.append(f"the test part was looked at {self.n_tested} times: the last score is no first look")
        return lines

    def to_text(self) -> str:
        """Plain text for the terminal."""
        states = ", ".join(f"{n} {state}" for state, n in self.counts().items()) or "no trials yet"
        lines = [f"search around {self.recipe}: {self.objective}, {self.sampler}, {self.pruner}; {states}"]
        lines += [f"  {line}" for line in self.verdict()]
        if self.importance:
            shares = ", ".join(f"{key} {share:.2f}" for key, share in self.importance.items())
            lines.append(f"  importance: {shares}")
        for trial in self.trials[:_N_SHOWN]:
            value = trial.state if trial.value is None else f"{trial.value:.4g}"
            drawn = "  ".join(f"{key}={_short(value)}" for key, value in trial.values.items())
            lines.append(f"  {trial.number:>4}  {value:<9} {drawn}")
        if len(self.trials) > _N_SHOWN:
            lines.append(f"  and {len(self.trials) - _N_SHOWN} more")
        return "\n".join(lines) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        trials = []
        for trial in self.trials:
            row = {"number": trial.number, "state": trial.state, "value": trial.value, "values": dict(trial.values)}
            if trial.reason:
                row["reason"] = trial.reason
            trials.append(row)
        return {
            "recipe": self.recipe,
            "objective": self.objective,
            "sampler": self.sampler,
            "pruner": self.pruner,
            "trials": trials,
            "importance": dict(self.importance),
            "winner": dict(self.winner),
            "n_tested": self.n_tested,
        }


def report_search(folder: Path) -> SearchReport:
    """Read what a search has found; it may still be at work.

    Raises
    ------
    RunError
        The folder holds no search, or a damaged one.
    MissingExtraError
        Optuna is not installed.
    """
    files = StudyFolder(folder)
    facts = files.read()
    study = files.open()
    sign = -1 if is_higher_better(facts["objective"]) else 1

    def rank(trial: optuna.trial.FrozenTrial) -> tuple[bool, float, int]:
        is_whole = trial.state.name == "COMPLETE"
        return not is_whole, sign * (trial.value or 0.0) if is_whole else 0.0, trial.number

    rows = []
    for trial in sorted(study.get_trials(deepcopy=False), key=rank):
        value = trial.value if trial.state.name == "COMPLETE" else None
        reason = str(trial.user_attrs.get("reason", ""))
        rows.append(TrialRow(trial.number, trial.state.name.lower(), value, dict(trial.params), reason))
    return SearchReport(
        facts["recipe"],
        facts["objective"],
        facts["sampler"],
        facts["pruner"],
        tuple(rows),
        _importance(study),
        facts.get("winner", {}),
        len(facts.get("tested", [])),
    )


def render_search(folder: Path) -> str:
    """Write the page of a search: one file, with the plotting script in it, that asks no other host for anything.

    Raises
    ------
    RunError
        The folder holds no search, or a damaged one.
    MissingExtraError
        Optuna or plotly is not installed.
    """
    report = report_search(folder)
    with needing("drawing a search", "search"):
        import plotly.offline
        from optuna import visualization
    study = StudyFolder(folder).open()

    plots = []
    n_whole = report.counts().get("complete", 0)
    if n_whole:
        history = visualization.plot_optimization_history(study, target_name=report.objective)
        parallel = visualization.plot_parallel_coordinate(study, target_name=report.objective)
        keys = [report.objective, *sorted({key for trial in report.trials for key in trial.values})]
        _name_axes(parallel, _ends_of(keys))
        plots += [("History", history, 0), ("Parallel coordinates", parallel, _AXIS_PX * len(keys))]
    if report.importance:
        importance = visualization.plot_param_importances(study, evaluator=_evaluator())
        names = {key: "<br>".join(_in_lines(key)) for key in report.importance}
        importance.update_yaxes(title=None, tickvals=list(names), ticktext=list(names.values()))
        plots.append(("Importance", importance, 0))

    title = escape(f"Search around {report.recipe}")
    sections = [f"<h1>{title}</h1>"]
    sections += [f"<p>{escape(line[0].upper() + line[1:])}.</p>" for line in report.verdict()]
    for name, figure, width_px in plots:
        legend = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"}
        margin = {"l": 60, "r": 30, "t": 50, "b": 40}
        figure.update_layout(title=None, legend=legend, margin=margin, autosize=True)
        figure.update_xaxes(automargin=True)
        figure.update_yaxes(automargin=True)
        options = {"displaylogo": False, "responsive": True}
        drawn = figure.to_html(full_html=False, include_plotlyjs=False, config=options)
        sections.append(f'<h2>{name}</h2>\n<div class="wide"><div style="min-width: {width_px}px">{drawn}</div></div>')
    if not plots:
        sections.append('<p class="note">No trial is finished yet: there is nothing to draw.</p>')
    sections.append(_table(report))

    script = plotly.offline.get_plotlyjs() if plots else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n<script>{script}</script></head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _importance(study: optuna.Study) -> dict[str, float]:
    """Share of each key, the largest first; nothing where trials are too few or all alike."""
    import optuna

    whole = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    if len({trial.value for trial in whole}) < 2:
        return {}
    return dict(optuna.importance.get_param_importances(study, evaluator=_evaluator()))


def _evaluator() -> Any:
    import optuna

    return optuna.importance.PedAnovaImportanceEvaluator()


def _table(report: SearchReport) -> str:
    """All trials, the best first."""
    keys = sorted({key for trial in report.trials for key in trial.values})
    head = ""
    for name in ("trial", report.objective, *keys, ""):
        breaking = escape(name).replace(".", ".<wbr>").replace("_", "_<wbr>")  # where the screen is narrow
        head += f"<th>{breaking}</th>"
    rows = []
    for trial in report.trials:
        value = trial.state if trial.value is None else f"{trial.value:.4g}"
        cells = [str(trial.number), value, *(_short(trial.values.get(key, "")) for key in keys)]
        words = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr>{words}<td class="reason">{escape(trial.reason)}</td></tr>')
    body = "\n".join(rows)
    return f'<h2>Trials</h2>\n<div class="wide"><table><tr>{head}</tr>\n{body}\n</table></div>'


def _name_axes(parallel: Any, names: Sequence[str]) -> None:
    """Name the axes of parallel coordinates, whose names Optuna cuts off."""
    if parallel.layout.xaxis.ticktext is not None:  # lines, as Optuna 5 draws them
        parallel.update_xaxes(ticktext=names, side="top")
        return
    for axis, name in zip(parallel.data[0].dimensions, names, strict=True):
        axis.label = name


def _ends_of(keys: Sequence[str]) -> list[str]:
    """The last words of dotted keys, as few as tell them apart."""
    ends = []
    for key in keys:
        words = key.split(".")
        n_words = 1
        while sum(f".{other}".endswith("." + ".".join(words[-n_words:])) for other in keys) > 1:
            n_words += 1
        ends.append(".".join(words[-n_words:]))
    return ends


def _in_lines(key: str) -> list[str]:
    """A dotted key in lines that are short, broken behind its dots."""
    lines = [""]
    for word in key.split("."):
        if lines[-1] and len(lines[-1]) + len(word) > _LABEL:
            lines.append("")
        lines[-1] += f"{word}."
    lines[-1] = lines[-1].removesuffix(".")
    return lines


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
