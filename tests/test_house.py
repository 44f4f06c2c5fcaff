"""The order of the house: no module imports, over whatever detour, itself.

import-linter keeps the order of the rooms (pyproject.toml); here is the order within them. An import counts wherever it
stands: at the top, inside a function, or for type checkers only.
"""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("channel_bench", "harness")


def modules(root):
    """Path of every module of both packages, by dotted name; a package is its `__init__.py`."""
    found = {}
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def is_lazy_export(node):
    """Whether a statement of an `__init__.py` only re-exports late: `__getattr__`, and its twin for type checkers."""
    is_getattr = isinstance(node, ast.FunctionDef) and node.name == "__getattr__"
    return is_getattr or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")


def imports(name, path, names):
    """The modules of both packages that a module imports."""
    tree = ast.parse(path.read_text())
    if path.name == "__init__.py":
        tree.body = [node for node in tree.body if not is_lazy_export(node)]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            # "from package import module" needs the module; "from package import name" needs the package itself.
            inner = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {dotted if dotted in names else node.module for dotted in inner.values()}
    return found & names - {name}


def find_cycle(root):
    """Modules that import each other in a circle, as [a, b, a]; empty where there is no circle."""
    paths = modules(root)
    graph = {name: imports(name, path, paths.keys()) for name, path in paths.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_no_module_imports_itself_over_others():
    assert len(modules(ROOT)) > 80
    assert find_cycle(ROOT) == []


@pytest.mark.parametrize(
    "upward",
    [
        "import channel_bench.a",
        "from channel_bench import a",
        "from channel_bench.a import name",
        "def late():\n    from channel_bench.a import name",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from channel_bench.a import Name",
    ],
)
def test_a_circle_is_found_however_it_is_imported(tmp_path, upward):
    package = tmp_path / "channel_bench"
    package.mkdir()
    (package / "__init__.py").write_text("def __getattr__(name):\n    from channel_bench import a\n")
    (package / "a.py").write_text("import channel_bench\nfrom channel_bench import b\n")
    (package / "b.py").write_text("name = 1\n")
    assert find_cycle(tmp_path) == []
    (package / "b.py").write_text(upward)
    assert set(find_cycle(tmp_path)) == {"channel_bench.a", "channel_bench.b"}
