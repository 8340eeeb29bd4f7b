"""The house as it is drawn: homeserver → storage → federation → config, never up, and no circles.

Reads the imports of every module. Imports under `if TYPE_CHECKING:` count for the layers (a type that belongs to an
upper floor would be knowledge of it), but not as circles, because they do not run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: From the top floor down. A package may import itself and what stands after it.
FLOORS = ("homeserver", "storage", "federation", "config")
#: `federation/room` and `federation/wire` are pure: whatever opens a socket, a file or a thread, tells the time or
#: rolls dice is an argument there.
IMPURE = {
    "aiohttp", "asyncio", "http", "multiprocessing", "os", "pathlib", "psycopg2", "random", "secrets", "select",
    "shutil", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "treq", "twisted", "urllib",
    "uvloop",
}  # fmt: skip
#: Pure functions that live in impure company.
PURE = {"urllib.parse"}


def _modules() -> dict[str, Path]:
    """Every module of the house, by its dotted name."""
    modules = {}
    for floor in FLOORS:
        for file in sorted((ROOT / floor).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return modules


MODULES = _modules()


def _imports(module: str, *, running: bool = False) -> Iterator[tuple[str, int]]:
    """What a module imports, with the line; with `running`, only what is imported when the module itself is."""
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    yield from _imports_below(tree.body if running else list(ast.walk(tree)), module, running)


def _imports_below(nodes: list[ast.stmt] | list[ast.AST], module: str, running: bool) -> Iterator[tuple[str, int]]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports are absolute here"
            base = node.module or ""
            for alias in node.names:
                below = f"{base}.{alias.name}"
                yield (below if below in MODULES else base), node.lineno
        elif running and isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from _imports_below(node.orelse, module, running)
        elif running and isinstance(node, ast.If | ast.Try | ast.With):
            inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
            yield from _imports_below(inner, module, running)


def test_imports_run_down_the_house() -> None:
    wrong = []
    for module in MODULES:
        floor = FLOORS.index(module.partition(".")[0])
        for imported, line in _imports(module):
            top = imported.partition(".")[0]
            if top == "tests" or (top in FLOORS and FLOORS.index(top) < floor):
                wrong.append(f"{module}:{line} imports {imported}")
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {
        module: {imported for imported, _ in _imports(module, running=True) if imported in MODULES} - {module}
        for module in MODULES
    }
    # A package's __init__ runs before its modules do; that it then imports them is how packages are made.
    for module, imported in graph.items():
        graph[module] = {each for each in imported if not module.startswith(f"{each}.")}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@pytest.mark.parametrize("package", ["federation.room", "federation.wire"])
def test_the_centre_is_pure(package: str) -> None:
    wrong = []
    for module in MODULES:
        if not (module == package or module.startswith(f"{package}.")):
            continue
        for imported, line in _imports(module):
            if imported.partition(".")[0] in IMPURE and imported not in PURE:
                wrong.append(f"{module}:{line} imports {imported}")
    assert not wrong, "\n".join(wrong)


def test_sql_stays_in_storage() -> None:
    drivers = {"sqlite3", "psycopg2"}
    wrong = [
        f"{module}:{line} imports {imported}"
        for module in MODULES
        if not module.startswith("storage")
        for imported, line in _imports(module)
        if imported.partition(".")[0] in drivers
    ]
    assert not wrong, "\n".join(wrong)


def test_this_test_can_see() -> None:
    """Were the folders to move, the tests above would find nothing and be content."""
    assert {module.partition(".")[0] for module in MODULES} == set(FLOORS)
    assert ("config.settings", "config.server") in {
        (module, imported) for module in MODULES for imported, _ in _imports(module)
    }
