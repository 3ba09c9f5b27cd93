"""Things by name: each registers itself where it is written, in a file of its folder or in a plugin.

A folder is scanned when a name of its registry is first asked for, so that importing a registry stays cheap. Plugins
are other packages that name a module, or a function to call, in the entry-point group `musicgenre.plugins`; see
docs/extending.md. What a plugin brings does not make a folder scanned: one with a model and a representation can be
loaded for the representation where torch is not installed.
"""

from __future__ import annotations

import fnmatch
import importlib
import pkgutil
import threading
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from types import ModuleType
from typing import TYPE_CHECKING, Generic, TypeVar

from musicgenre._text import did_you_mean, unknown_name
from musicgenre.errors import UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

PLUGIN_GROUP = "musicgenre.plugins"

Entry = TypeVar("Entry")
Decorated = TypeVar("Decorated")


class Registry(Generic[Entry]):
    """Entries of one kind by name.

    Parameters
    ----------
    kind, plural : str
        What one entry is called, and several: ``model``, ``models``.
    package : str
        The package whose modules register entries, `musicgenre.models`; names that begin with `_` are left out.
    asks : bool, optional
        Whether a message about an unknown name asks for the nearest one, before it lists all.
    without : tuple of str, optional
        Modules of the package that register nothing here and take long to import.
    """

    def __init__(
        self, kind: str, plural: str, package: str, *, asks: bool = False, without: tuple[str, ...] = ()
    ) -> None:
        self._kind = kind
        self._plural = plural
        self._package = package
        self._asks = asks
        self._without = without
        self._entries: dict[str, Entry] = {}
        self._plugin_of: dict[str, str] = {}
        self._lock = threading.RLock()
        self._is_scanned = False

    def add(self, name: str, entry: Entry) -> Entry:
        """Keep `entry` under `name` and give it back.

        Raises
        ------
        UsageError
            If the name is taken. A plugin that took a name of ours before the folder was scanned loses it instead.
        """
        plugin = _loading.get()
        taken_by = self._plugin_of.get(name, "")
        if name in self._entries:
            taken = UsageError(
                f"two {self._plural} are called {name!r}: the name is taken twice", valid="Each name once"
            )
            if plugin or not taken_by:
                raise taken
            _warn([f"{taken_by} ({type(taken).__name__}: {taken})"])

        self._entries[name] = entry
        self._plugin_of[name] = plugin
        return entry

    def register(self, name: str) -> Callable[[Decorated], Decorated]:
        """Keep the decorated class or function, which is an entry, under `name`; see `add`."""

        def keep(entry: Decorated) -> Decorated:
            self.add(name, entry)  # type: ignore[arg-type]  # a decorator gives back the very type it was given
            return entry

        return keep

    def names(self, pattern: str = "*") -> list[str]:
        """Names that match a shell pattern, sorted; upper and lower case differ."""
        self._scan()  # first, so that no plugin takes a name of ours
        load_plugins()

        names = list(self._entries)  # a copy: another thread may add one meanwhile
        return sorted(name for name in names if fnmatch.fnmatchcase(name, pattern))

    def names_so_far(self) -> set[str]:
        """Names that are known by now; the folder is not scanned for them."""
        return set(self._entries)

    def entries(self) -> tuple[Entry, ...]:
        """All entries, by name."""
        return tuple(self.get(name) for name in self.names())

    def get(self, name: str) -> Entry:
        """Find an entry.

        Raises
        ------
        UsageError
            If there is none of that name; the nearest one is named.
        """
        self._scan()
        if name not in self._entries:
            load_plugins()
        if name not in self._entries:
            raise self._unknown(name)

        return self._entries[name]

    def _unknown(self, name: str) -> UsageError:
        """Make the error for a name that does not exist."""
        names = self.names()
        if not self._asks:
            return unknown_name(self._kind, name, names)

        listed = f"{self._plural.capitalize()}: {', '.join(names)}"
        return UsageError(f"there is no {self._kind} {name!r}", valid=f"{did_you_mean(name, names)}{listed}")

    def _scan(self) -> None:
        """Import every module of the package, once; one that fails is tried again."""
        with self._lock:
            if self._is_scanned:
                return

            token = _loading.set("")  # a plugin may have asked; what is found here is ours all the same
            try:
                for module in sorted(self._modules()):
                    importlib.import_module(f"{self._package}.{module}")
            finally:
                _loading.reset(token)
            self._is_scanned = True

    def _modules(self) -> set[str]:
        """Names of the package's modules, plumbing left out."""
        package = importlib.import_module(self._package)
        names = {module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")}
        return names.difference(self._without)


_loading: ContextVar[str] = ContextVar("_loading", default="")
"""Name of the plugin that this thread is loading."""


class _Plugins:
    """What is known of the plugins, for all registries together."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.were_loaded = False


_plugins = _Plugins()


def load_plugins() -> None:
    """Let the installed plugins register what they bring, once a process.

    One that fails is left out, whatever its failure: a warning names all of these with their reasons.
    """
    from importlib.metadata import entry_points  # slow to import, and seldom needed

    with _plugins.lock:
        if _plugins.were_loaded:
            return
        _plugins.were_loaded = True  # first, for a plugin may ask for names itself

        try:
            plugins = entry_points(group=PLUGIN_GROUP)
        except (TypeError, ValueError) as error:  # some package's file is no list of entry points
            _warn([f"all of them (an entry_points.txt cannot be read: {error})"])
            return
        outcomes = [_load(plugin) for plugin in plugins]

    failures = [outcome for outcome in outcomes if outcome]
    if failures:
        _warn(failures)


def _load(plugin: EntryPoint) -> str:
    """Load one plugin; say its name and what is wrong with it, or nothing."""
    token = _loading.set(plugin.name)
    try:
        loaded = plugin.load()
        if not isinstance(loaded, ModuleType):
            loaded()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - code of others may fail in any way, and must not stop ours
        return f"{plugin.name} ({type(error).__name__}: {error})"
    finally:
        _loading.reset(token)

    return ""


def _warn(failures: list[str]) -> None:
    """Name the plugins that are left out, or their entries that are."""
    warnings.warn(f"plugins of musicgenre that could not be loaded: {'; '.join(failures)}", stacklevel=3)
