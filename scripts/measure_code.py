"""Measure how the code reads, beside what it should come to.

Run: python scripts/measure_code.py [FOLDER] [--by-room] [--json]
                                        figures of src/musicgenre, or of another package
     python scripts/measure_code.py --sample 20 --seed 7 --save-names FILE
                                        the source of twenty functions drawn by a seed
     python scripts/measure_code.py --names FILE
                                        the source of the same functions, in a later state of the code
     python scripts/measure_code.py --trace classify
                                        what one call runs through: functions, files, depth

The figures are signs, not limits: code that meets them all can still be hard to follow, so read the sample too.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import inspect
import io
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import tokenize
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import CodeType, FrameType

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "musicgenre"
PIECE = ROOT / "examples" / "porch-shuffle.flac"
JOBS = ("classify", "evaluate", "classifier")  # two commands, and `Classifier().classify` from Python

MANY_STEPS_LINES = 15  # from here on a function should show its steps
LONG_FUNCTION_LINES = 100
LONG_FILE_LINES = 700

# Comments that speak to a tool; the last is the first line of a program.
PRAGMAS = ("type:", "noqa", "pragma:", "fmt:", "ruff:", "!")
# Decorators that hand a function to somebody else, who calls it.
REGISTERING = ("register", "command", "callback")
# Tokens that lines without code have, too.
LAYOUT = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
DEFINITIONS = FunctionNode | ast.ClassDef
TEXTS = ast.Constant | ast.JoinedStr
COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp

# Figure: what it should come to. None: told, with no aim.
AIMS = {
    "files": None,
    "lines": None,
    "lines of code": None,
    "median lines a file": "150 to 300",
    "functions": None,
    "private helpers used once, % of functions": "at most 10",
    f"functions of {MANY_STEPS_LINES} lines and more": None,
    "of these with a blank line between steps, %": "at least 60",
    "comments per 100 lines of code": "at least 4",
    "comprehensions per 100 lines of code": "at most 2.5",
    "conditional expressions per 100 lines of code": "at most 1.5",
    f"files over {LONG_FILE_LINES} lines": "few",
    f"functions over {LONG_FUNCTION_LINES} lines": "few",
}


@dataclass(frozen=True)
class Source:
    """One file of the package, read and parsed.

    Attributes
    ----------
    name : str
        Path inside the package, as `audio/decode.py`.
    text : str
        Its content.
    """

    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text, self.name)

    @cached_property
    def lines(self) -> list[str]:
        """The lines, the first at 0."""
        return self.text.splitlines()

    @cached_property
    def module(self) -> str:
        """Dotted name inside the package, as `audio.decode`; `audio` for `audio/__init__.py`."""
        return ".".join(Path(self.name).with_suffix("").parts).removesuffix("__init__").removesuffix(".")

    @property
    def room(self) -> str:
        """Top folder, or `.` for files that lie in none."""
        return Path(self.name).parts[0] if "/" in self.name else "."

    @cached_property
    def functions(self) -> list[Function]:
        """Every function and method, nested ones too, in order."""
        return list(_functions_in(self.tree, self, prefix=""))

    @cached_property
    def reads(self) -> tuple[Counter[str], Counter[str]]:
        """How often each name is read: on its own, as in `_step()`, and of something, as in `self._step()`."""
        names: Counter[str] = Counter()
        attributes: Counter[str] = Counter()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                names[node.id] += 1
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                attributes[node.attr] += 1
        return names, attributes

    @cached_property
    def imports(self) -> dict[str, tuple[str, str]]:
        """Imported name: last part of the module it comes from, and what it is called here."""
        found = {}
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.ImportFrom):
                continue
            module = (node.module or "").rpartition(".")[2]
            for alias in node.names:
                found[alias.name] = (module, alias.asname or alias.name)
        return found


@dataclass(frozen=True)
class Function:
    """A function or method, and where it stands.

    Attributes
    ----------
    source : Source
        Its file.
    path : str
        Name inside the file, as `Bundle.run`.
    node : FunctionDef
        Its syntax tree.
    """

    source: Source
    path: str
    node: FunctionNode

    @property
    def name(self) -> str:
        """Name inside the package, as `bundle.file:Bundle.run`."""
        return f"{self.source.module}:{self.path}"

    @property
    def is_helper(self) -> bool:
        """Whether it is private, and not called by somebody it is registered with."""
        for decorator in self.node.decorator_list:
            maker = decorator.func if isinstance(decorator, ast.Call) else decorator
            if ast.unparse(maker).rpartition(".")[2].startswith(REGISTERING):
                return False

        name = self.node.name
        dunder = name.startswith("__") and name.endswith("__")
        return name.startswith("_") and not dunder

    @property
    def body_lines(self) -> range:
        """Numbers of the lines from the first statement after the docstring to the end."""
        body = self.node.body
        if _is_docstring(body[0]):
            body = body[1:] or body  # a protocol's method may have nothing else
        return range(body[0].lineno, self.node.end_lineno + 1)

    @property
    def shows_steps(self) -> bool:
        """Whether a blank line stands between steps.

        Blank lines inside nested definitions and texts say nothing of the steps here, and the one after an import is
        the formatter's.
        """
        elsewhere: set[int] = set()
        for node in ast.walk(self.node):
            if isinstance(node, ast.Import | ast.ImportFrom):
                elsewhere.add(node.end_lineno + 1)
            elif isinstance(node, DEFINITIONS | TEXTS) and node is not self.node:
                elsewhere.update(range(node.lineno, node.end_lineno + 1))

        lines = self.source.lines
        return any(not lines[number - 1].strip() for number in self.body_lines if number not in elsewhere)

    @property
    def text(self) -> str:
        """Its source, decorators included."""
        first = (*self.node.decorator_list, self.node)[0].lineno
        return "\n".join(self.source.lines[first - 1 : self.node.end_lineno])


def read_package(folder: Path) -> list[Source]:
    """Read every Python file of a folder and those below, sorted by path."""
    files = sorted(folder.rglob("*.py"))
    if not files:
        sys.exit(f"{folder} holds no Python file; give the folder of a package")

    sources = []
    for path in files:
        sources.append(Source(path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")))
    return sources


def functions_of(sources: Iterable[Source]) -> list[Function]:
    """Every function of some files."""
    return [function for source in sources for function in source.functions]


def find_helpers_used_once(sources: Sequence[Source]) -> set[str]:
    """Names of the private functions that stand in one place only, apart from their definition.

    Counted are the uses in the defining file, and in other files that import the name from it, or reach it as an
    attribute and define no such name themselves. An import that nothing follows is a use, too.
    """
    definers: dict[str, set[str]] = {}
    for function in functions_of(sources):
        definers.setdefault(function.node.name, set()).add(function.source.name)

    found = set()
    for function in functions_of(sources):
        if not function.is_helper:
            continue

        name = function.node.name
        names, attributes = function.source.reads
        uses = names[name] + attributes[name]
        for other in sources:
            # Where a file has a function of that name itself, it means its own.
            if other.name not in definers[name]:
                uses += _uses_elsewhere(function, other)

        if uses == 1:
            found.add(function.name)
    return found


def measure(sources: Sequence[Source], used_once: set[str]) -> dict[str, float]:
    """Figures of some files, in the order of `AIMS`; `used_once` holds the helpers of the whole package."""
    n_code = n_comments = n_comprehensions = n_conditionals = n_long_files = 0
    file_lines = []
    for source in sources:
        code, comments = count_code_and_comments(source)
        n_code += code
        n_comments += comments
        file_lines.append(len(source.lines))
        n_long_files += len(source.lines) > LONG_FILE_LINES
        for node in ast.walk(source.tree):
            n_comprehensions += isinstance(node, COMPREHENSIONS)
            n_conditionals += isinstance(node, ast.IfExp)

    functions = functions_of(sources)
    n_used_once = n_with_steps = n_shown = n_long_functions = 0
    for function in functions:
        n_used_once += function.name in used_once
        n_long_functions += len(function.body_lines) > LONG_FUNCTION_LINES
        # A short function is one step; whether it shows any says nothing.
        if len(function.body_lines) >= MANY_STEPS_LINES:
            n_with_steps += 1
            n_shown += function.shows_steps

    values = (
        len(sources),
        sum(file_lines),
        n_code,
        statistics.median(file_lines),
        len(functions),
        _percent(n_used_once, len(functions)),
        n_with_steps,
        _percent(n_shown, n_with_steps),
        _percent(n_comments, n_code),
        _percent(n_comprehensions, n_code),
        _percent(n_conditionals, n_code),
        n_long_files,
        n_long_functions,
    )
    return dict(zip(AIMS, values, strict=True))


def measure_rooms(sources: Sequence[Source], used_once: set[str]) -> dict[str, dict[str, float]]:
    """Figures of every top folder."""
    rooms: dict[str, list[Source]] = {}
    for source in sources:
        rooms.setdefault(source.room, []).append(source)
    return {room: measure(files, used_once) for room, files in sorted(rooms.items())}


def count_code_and_comments(source: Source) -> tuple[int, int]:
    """Count the lines with code, docstrings left out, and the comments that speak to a reader."""
    code: set[int] = set()
    n_comments = 0
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT:
            n_comments += not token.string.lstrip("# ").startswith(PRAGMAS)
        elif token.type not in LAYOUT:
            code.update(range(token.start[0], token.end[0] + 1))

    # Texts that stand alone describe what is around them, constants as well as functions.
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Expr) and _is_docstring(node):
            code.difference_update(range(node.lineno, node.end_lineno + 1))
    return len(code), n_comments


def trace(job: Callable[[], object], folder: Path) -> dict[str, int]:
    """Run a job; count the package's own functions and files that took part, and how deep its calls were nested.

    Only named functions count. What runs while a file is being imported does not: it happens once, whatever the job.
    """
    own = f"{folder.resolve()}/"
    seen: set[CodeType] = set()
    depth = 0

    def look(frame: FrameType, event: str, _: object) -> None:
        nonlocal depth
        if event != "call" or not frame.f_code.co_filename.startswith(own):
            return

        # The stack is read anew each time: generators and threads come and go without an order to rely on.
        calls = []
        caller: FrameType | None = frame
        while caller is not None:
            if caller.f_code.co_filename.startswith(own):
                calls.append(caller.f_code)
            caller = caller.f_back

        # Bodies of files and classes are the only code without fast local variables: here something is imported.
        importing = not all(code.co_flags & inspect.CO_OPTIMIZED for code in calls)
        if not importing and not frame.f_code.co_name.startswith("<"):
            seen.add(frame.f_code)
            depth = max(depth, len(calls))

    threading.setprofile(look)
    sys.setprofile(look)
    try:
        job()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)

    files = {code.co_filename for code in seen}
    return {"functions": len(seen), "files": len(files), "depth": depth}


def trace_job(name: str) -> dict[str, int]:
    """Trace one of `JOBS` on something small: a piece of fifteen seconds, or a run of sixty tracks."""
    sys.path[:0] = [str(ROOT), str(PACKAGE.parent)]
    with tempfile.TemporaryDirectory() as folder:
        if name == "evaluate":
            from tests.make_run import make_run, random_answers

            run = make_run(Path(folder) / "run", random_answers(seed=1))
            return trace(lambda: _run_command("evaluate", str(run)), PACKAGE)

    # The model is fetched in a process of its own: neither that nor what it imports is part of the job.
    fetch = [sys.executable, "-m", "musicgenre", "bundles", "get"]
    subprocess.run(fetch, cwd=PACKAGE.parent, check=True, stdout=subprocess.DEVNULL)

    if name == "classify":
        return trace(lambda: _run_command("classify", str(PIECE)), PACKAGE)

    def hear() -> None:
        from musicgenre import Classifier

        Classifier().classify(PIECE)

    return trace(hear, PACKAGE)


def draw(sources: Sequence[Source], n_functions: int, seed: int) -> list[str]:
    """Draw names of functions, sorted; the same ones for the same seed and code."""
    # A property and its setter share a name.
    names = sorted({function.name for function in functions_of(sources)})
    return sorted(random.Random(seed).sample(names, min(n_functions, len(names))))


def render_functions(sources: Sequence[Source], names: Iterable[str]) -> str:
    """Write the source of functions; one that has moved is found by its name inside its file."""
    parts = []
    for name in names:
        path = name.partition(":")[2]
        alike = [function for function in functions_of(sources) if function.path == path]
        same = [function for function in alike if function.name == name]

        parts.append(f"== {name}")
        if not alike:
            parts.append("# is no longer there\n")
        for function in same or alike:
            parts.append(f"# {function.source.name}, line {function.node.lineno}\n{function.text}\n")
    return "\n".join(parts)


def render_table(figures: dict[str, float]) -> str:
    """Write a line a figure, with what it should come to."""
    width = max(map(len, AIMS))
    lines = []
    for name, value in figures.items():
        line = f"{name:<{width}} {value:>9,}"
        if AIMS[name]:
            line += f"   aim: {AIMS[name]}"
        lines.append(line)
    return "\n".join(lines)


def _run_command(*words: str) -> None:
    """Run the command line as `musicgenre` does, silently."""
    from musicgenre.__main__ import main as run

    before, sys.argv = sys.argv, ["musicgenre", *words]
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            run()
    except SystemExit as stop:
        # A job that failed half-way would give small, pleasing figures.
        if stop.code:
            raise SystemExit(f"musicgenre {' '.join(words)} failed:\n{told.getvalue()}") from None
    finally:
        sys.argv = before


def _functions_in(parent: ast.AST, source: Source, prefix: str) -> Iterator[Function]:
    """Functions below a node, whose names begin with those of the classes and functions around them."""
    for node in ast.iter_child_nodes(parent):
        inner = prefix
        if isinstance(node, FunctionNode):
            yield Function(source, prefix + node.name, node)
        if isinstance(node, DEFINITIONS):
            inner += f"{node.name}."
        yield from _functions_in(node, source, inner)


def _uses_elsewhere(function: Function, other: Source) -> int:
    """Count the uses of a helper in a file that defines no function of its name."""
    name = function.node.name
    names, attributes = other.reads
    if name not in other.imports:
        # A method may be called on an object from elsewhere; a plain function cannot be had without its name.
        return attributes[name] if "." in function.path else 0

    module, called = other.imports[name]
    if module != function.source.module.rpartition(".")[2]:
        return 0
    return max(names[called], 1)


def _is_docstring(node: ast.stmt) -> bool:
    """Whether a statement is a text and nothing else."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _percent(part: int, whole: int) -> float:
    """Parts in a hundred; of nothing, none."""
    return round(100 * part / whole, 1) if whole else 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=PACKAGE, help="folder of a package")
    parser.add_argument("--by-room", action="store_true", help="figures of every top folder as well")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument("--sample", type=int, metavar="N", help="print N functions drawn by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-names", type=Path, metavar="FILE", help="write the names of the sample, one a line")
    parser.add_argument("--names", type=Path, metavar="FILE", help="print the functions of such a list")
    parser.add_argument("--trace", choices=JOBS, help="measure one call: of a command, or of `Classifier().classify`")
    chosen = parser.parse_args(arguments)

    if chosen.trace:
        counts = trace_job(chosen.trace)
        if chosen.json:
            print(json.dumps(counts))
        else:
            print("{functions} functions in {files} files, {depth} calls deep".format(**counts))
        return 0

    sources = read_package(chosen.folder)
    if chosen.names:
        print(render_functions(sources, chosen.names.read_text(encoding="utf-8").split()))
        return 0
    if chosen.sample:
        names = draw(sources, chosen.sample, chosen.seed)
        if chosen.save_names:
            chosen.save_names.write_text("\n".join(names) + "\n", encoding="utf-8")
        print(render_functions(sources, names))
        return 0

    used_once = find_helpers_used_once(sources)
    tables = {"all": measure(sources, used_once)}
    if chosen.by_room:
        tables.update(measure_rooms(sources, used_once))
    if chosen.json:
        print(json.dumps(tables, indent=1))
        return 0
    for room, figures in tables.items():
        if chosen.by_room:
            print(f"== {room}")
        print(render_table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
