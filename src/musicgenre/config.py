"""Defaults of the command line from a config file in TOML: one table per command, option names as keys."""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from musicgenre._files import config_folder
from musicgenre._json import is_plain
from musicgenre._text import did_you_mean, short_repr
from musicgenre.errors import UsageError


def config_path() -> Path:
    """Where the config file is looked for."""
    return config_folder() / "config.toml"


def read_config(path: Path, commands: Mapping[str, Iterable[str]]) -> dict[str, dict[str, Any]]:
    """Read the defaults that a person set for commands.

    Parameters
    ----------
    path : Path
        A TOML file such as `[classify]` / `coverage = "full"`. Absent means no defaults.
    commands : mapping of str to iterable of str
        The options every command knows, in their command-line spelling without the leading dashes.

    Returns
    -------
    dict
        For every command the option values, keyed by parameter name (dashes become underscores). A file that may not
        be read means no defaults, and a warning.

    Raises
    ------
    UsageError
        When the file is not TOML, or names a command or option that does not exist.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows editors like to begin with a mark
    except FileNotFoundError:
        return {}
    except (PermissionError, NotADirectoryError) as error:
        # Not the fault of what the command is asked to do: another person's folder, a home that a service has not.
        warnings.warn(f"the config file {path} cannot be read ({error.strerror}): no defaults are used", stacklevel=2)
        return {}
    except (OSError, ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number of thousands of digits
        reason = "its brackets are nested too deeply" if isinstance(error, RecursionError) else error
        raise UsageError(
            f"the config file {path} cannot be read ({reason})", next_step="Correct it or move it away"
        ) from error

    defaults: dict[str, dict[str, Any]] = {}
    for command, options in tables.items():
        known = list(commands.get(command, ()))
        if not known:
            with_options = [name for name in commands if list(commands[name])]
            raise _unknown(path, "table", command, with_options)
        if not isinstance(options, dict):
            raise UsageError(
                f"{path}: {command!r} is not a table",
                valid=f"[{command}] on a line of its own",
                next_step="Correct it",
            )

        defaults[command] = {}
        for option, value in options.items():
            if option.replace("_", "-") not in known:  # both spellings will do
                raise _unknown(path, f"key in [{command}]", option, known)
            if isinstance(value, dict) or not is_plain(value):
                raise UsageError(
                    f"{path}: {option!r} in [{command}] has the value {short_repr(value)}",
                    valid="text in quotes, a number, true or false, or a list of those",
                    next_step="Correct the file",
                )
            defaults[command][option.replace("-", "_")] = value
    return defaults


def _unknown(path: Path, what: str, name: str, known: list[str]) -> UsageError:
    return UsageError(
        f"{path}: unknown {what}: {name!r}",
        valid=f"{did_you_mean(name, known)}Known: {', '.join(known)}",
        next_step="Correct the file",
    )
