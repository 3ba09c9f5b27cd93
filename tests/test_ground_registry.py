"""One registry for everything that has a name: folders are scanned, plugins loaded, mistakes told."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from musicgenre import _registry
from musicgenre._registry import Registry, load_plugins
from musicgenre.errors import UsageError

# Prints the module's name when it is imported, and registers an entry of the same name.
MODULE = """
    from shelf import TOOLS
    print("import", __name__)
    TOOLS.add(__name__.rpartition(".")[2], __name__)
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str, str], str]:
    """Run Python code beside a package ``shelf`` of three modules, with a registry of the given options."""

    def run(options: str, code: str) -> str:
        package = tmp_path / "shelf"
        package.mkdir(exist_ok=True)
        shelf = f"from musicgenre._registry import Registry\nTOOLS = Registry('tool', 'tools', __name__, {options})\n"
        (package / "__init__.py").write_text(shelf)
        for name in ("saw", "hammer", "_plumbing"):
            (package / f"{name}.py").write_text(textwrap.dedent(MODULE))
        whole = f"from shelf import TOOLS\n{textwrap.dedent(code)}"
        done = subprocess.run([sys.executable, "-c", whole], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str, str, str], None]:
    """Install a plugin: its name, its module's code, and what of the module the entry point names."""

    def install(name: str, code: str, attribute: str = "") -> None:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[musicgenre.plugins]\n{name} = {name}{attribute}\n")

    return install


def test_nothing_is_imported_before_a_name_is_asked_for(script: Callable[[str, str], str]) -> None:
    assert script("", "print('ready')") == "ready\n"


def test_a_scan_imports_every_module_once_and_leaves_plumbing_out(script: Callable[[str, str], str]) -> None:
    told = script("", "print(TOOLS.names(), TOOLS.names('s*'), TOOLS.get('saw'), TOOLS.entries())")
    assert told.splitlines() == [
        *("import shelf.hammer", "import shelf.saw"),
        "['hammer', 'saw'] ['saw'] shelf.saw ('shelf.hammer', 'shelf.saw')",
    ]


def test_many_threads_see_the_whole_folder(script: Callable[[str, str], str]) -> None:
    code = """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(8) as pool:
            print(set(map(tuple, pool.map(lambda _: TOOLS.names(), range(32)))))
    """
    assert script("", code).splitlines()[-1] == "{('hammer', 'saw')}"


def test_a_scan_that_failed_is_tried_again(tmp_path: Path, script: Callable[[str, str], str]) -> None:
    code = """
        import sys
        sys.modules['shelf.saw'] = None
        try:
            TOOLS.names()
        except ModuleNotFoundError as error:
            print(error.name)
        del sys.modules['shelf.saw']
        print(TOOLS.names())
    """
    assert script("", code).splitlines()[-3:] == ["shelf.saw", "import shelf.saw", "['hammer', 'saw']"]


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Registry[object]:
    """A registry whose package has no modules."""
    registry: Registry[object] = Registry("tool", "tools", "no_such_package")
    monkeypatch.setattr(registry, "_modules", set)
    return registry


def test_the_decorator_gives_back_what_it_registers(tools: Registry[object]) -> None:
    @tools.register("saw")
    class Saw:
        pass

    assert tools.get("saw") is Saw and tools.entries() == (Saw,)
    assert tools.add("hammer", 3) == 3 and tools.names() == ["hammer", "saw"]


def test_a_name_given_twice_is_an_error(tools: Registry[object]) -> None:
    tools.add("saw", 1)
    with pytest.raises(UsageError, match="two tools are called 'saw': the name is taken twice"):
        tools.add("saw", 2)
    assert tools.get("saw") == 1


def test_unknown_names_are_told_with_the_nearest(tools: Registry[object], monkeypatch: pytest.MonkeyPatch) -> None:
    tools.add("saw", 1)
    with pytest.raises(UsageError) as caught:
        tools.get("sawe")
    assert str(caught.value) == "there is no tool named 'sawe'. Valid: saw. Nearest: 'saw'."
    monkeypatch.setattr(tools, "_asks", True)
    with pytest.raises(UsageError) as caught:
        tools.get("sawe")
    assert str(caught.value) == "there is no tool 'sawe'. Did you mean 'saw'? Tools: saw."


def test_plugins_bring_modules_and_functions(script: Callable[[str, str], str], plugin: Callable[..., None]) -> None:
    plugin("by_module", "from shelf import TOOLS\nTOOLS.add('drill', 'module')")
    plugin("by_call", "from shelf import TOOLS\ndef start(): TOOLS.add('file', 'function')", ":start")
    told = script("", "print(TOOLS.names(), TOOLS.get('drill'), TOOLS.get('file'))")
    assert told.splitlines()[-1] == "['drill', 'file', 'hammer', 'saw'] module function"


def test_a_broken_plugin_is_named_and_the_rest_goes_on(
    script: Callable[[str, str], str], plugin: Callable[..., None]
) -> None:
    plugin("absent", "import no_such_package")
    plugin("broken", "1 / 0")
    plugin("clash", "from shelf import TOOLS\nTOOLS.add('saw', 'not ours')")
    plugin("whole", "from shelf import TOOLS\nTOOLS.add('drill', 'module')")
    told = script("", "print(TOOLS.names(), TOOLS.get('saw')); TOOLS.names()")
    assert "['drill', 'hammer', 'saw'] shelf.saw" in told
    assert told.count("could not be loaded") == 1
    for reason in ("absent (ModuleNotFoundError", "broken (ZeroDivisionError", "clash (UsageError: two tools"):
        assert reason in told


def test_plugins_are_loaded_once_whatever_thread_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[object] = []
    monkeypatch.setattr(_registry, "_plugins", _registry._Plugins())
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [group])
    monkeypatch.setattr(_registry, "_load", lambda plugin: loads.append(plugin) or "")
    threads = [threading.Thread(target=load_plugins) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == ["musicgenre.plugins"]
