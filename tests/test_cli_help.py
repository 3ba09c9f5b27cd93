"""What ``musicgenre --help`` shows."""

from __future__ import annotations

import typer
from typer.testing import CliRunner

from musicgenre.cli import app


def test_every_command_stands_in_the_overview_in_the_order_of_the_work() -> None:
    done = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"})
    assert done.exit_code == 0
    rows = [
        line.strip("│ ").split()[0] for line in done.stdout.splitlines() if line.startswith("│ ") and line[2] != " "
    ]
    commands = [name for name in rows if not name.startswith("-")]
    registered = typer.main.get_command(app).commands
    assert sorted(commands) == sorted(registered)
    assert commands.index("data") < commands.index("train") < commands.index("evaluate") < commands.index("export")
    assert done.stdout.index("Hear music") < done.stdout.index("Train a model") < done.stdout.index("Single steps")
    assert "Exit code" not in done.stdout, "exit codes stand in the help of each command"
