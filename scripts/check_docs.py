"""Check that the documentation is true: generated pages, links, code blocks, commands, results.

Run: python scripts/check_docs.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Pages that other scripts write: each is asked whether its page is up to date.
GENERATORS = (
    ("scripts/generate_docs.py", "--check"),
    ("scripts/results.py", "--check"),
    ("scripts/recipes_page.py", "--check"),
    ("scripts/scale_tables.py",),
)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\s*(?:\$ )?musicgenre ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)((?: .*)?)$", re.MULTILINE)
CODE_ROW = re.compile(r"^\| ([A-E]\d+) \| [^|]+ \| ([^|]*) \| [^|]*\|$", re.MULTILINE)
OPTION = re.compile(r"(?<=\s)--[a-z][a-z-]*")


def pages() -> list[Path]:
    """Every page a person reads."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def broken_links(page: Path, text: str) -> Iterator[str]:
    """Relative links that lead nowhere."""
    for target in LINK.findall(text):
        if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists():
            yield f"link to {target}, which does not exist"


def bad_python(text: str) -> Iterator[str]:
    """Python blocks that do not compile."""
    for language, block in BLOCK.findall(text):
        if language == "python" and "->" not in block.splitlines()[0]:
            try:
                compile(block, "block", "exec")
            except SyntaxError as error:
                yield f"python block that does not compile ({error.msg}): {block.splitlines()[0]}"


def unknown_commands(text: str, commands: dict[str, set[str]]) -> Iterator[str]:
    """Commands or options in shell blocks that the command line does not have."""
    shell = "\n".join(block for language, block in BLOCK.findall(text) if language in ("sh", "bash", "console"))
    for words, rest in COMMAND.findall(shell.replace("\\\n", " ")):
        name = words if words in commands else words.split()[0]
        if name not in commands:
            yield f"unknown command: musicgenre {words}"
            continue
        for option in OPTION.findall(" " + rest.split("|")[0].split("#")[0]):
            if option not in commands[name]:
                yield f"musicgenre {name} has no option {option}"


def known_commands() -> dict[str, set[str]]:
    """Every command with its options, read from the command line itself."""
    import typer

    from musicgenre.cli import app

    found: dict[str, set[str]] = {}

    def visit(prefix: str, command: object) -> None:
        for name, child in getattr(command, "commands", {}).items():
            full = f"{prefix} {name}".strip()
            options = {option for p in child.params for option in (*p.opts, *p.secondary_opts)}
            found[full] = options | {"--help"}
            visit(full, child)

    visit("", typer.main.get_command(app))
    return found


def wrong_codes(text: str) -> Iterator[str]:
    """Row codes that the page lacks, and recipes it names that do not exist or have another code."""
    from musicgenre.training.recipe_names import list_recipes
    from musicgenre.training.recipes import load_recipe

    codes = {name: load_recipe(name).systems for name in list_recipes()}
    explained = dict(CODE_ROW.findall(text))
    for code in sorted({code for own in codes.values() for code in own} - set(explained)):
        yield f"the row code {code} of a recipe is missing"
    for code, cell in explained.items():
        named = re.findall(r"`([^`]+)`", cell)
        for name in named:
            if code not in codes.get(name, ()):
                yield f"{code} names {name}, which is no recipe of that code"
        if not named and any(code in own for own in codes.values()):
            yield f"{code} names no recipe, and there are some"


def main() -> int:
    """Print every fault; return 1 if there is any."""
    commands = known_commands()
    faults = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        found = [*broken_links(page, text), *bad_python(text), *unknown_commands(text, commands)]
        faults += [f"{page.relative_to(ROOT)}: {fault}" for fault in found]
    faults += [f"docs/codes.md: {fault}" for fault in wrong_codes((ROOT / "docs" / "codes.md").read_text("utf-8"))]
    documented = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    faults += [f"docs/cli.md: {name} is missing" for name in commands if f"## musicgenre {name}\n" not in documented]
    for script, *arguments in GENERATORS:
        done = subprocess.run([sys.executable, ROOT / script, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            faults.append(f"{script}: {(done.stdout + done.stderr).strip()}")
    print("\n".join(faults) if faults else f"{len(pages())} pages and {len(commands)} commands are in order")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
