"""Both registries behave the same: how a plug-in is found, made and refused, and what is imported meanwhile."""

import inspect
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import Isolated

from channel_bench.errors import ArgumentError, MethodError, MissingDataError, UnknownNameError
from harness.method import METHODS
from harness.outline import Outline, read_outline
from harness.registry import Registry
from harness.searcher import SEARCHERS

KINDS = {"method": (METHODS, "fit", "uniform"), "searcher": (SEARCHERS, "search", "greedy")}

PLUGIN = """
class Good:
    '''Says what it does.

    And more.
    '''
    def __init__(self, depth: int = 1, *, note=None, **others):
        self.depth, self.others = depth, others
    def FUNCTION(self, *arguments):
        return arguments

class Strict:
    def __init__(self, depth: int = 1):
        self.depth = depth
    def FUNCTION(self, *arguments):
        return arguments

class Lacking:
    pass
"""


@pytest.fixture(params=KINDS)
def kind(request, tmp_path, monkeypatch):
    """A registry of a kind as a new one would be, with two installed packages, one of them broken."""
    registry, function, built_in = KINDS[request.param]
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plug.py").write_text(PLUGIN.replace("FUNCTION", function))
    (tmp_path / "installed_good.py").write_text(PLUGIN.replace("FUNCTION", function))
    (tmp_path / "installed_bad.py").write_text("raise RuntimeError('it does not import')")
    info = tmp_path / "plugs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.group}]\ngood = installed_good:Good\nbad = installed_bad:Bad\n")
    for name in registry.built_in:
        registry.find(name)
    monkeypatch.setattr(registry, "_known", Isolated(registry))
    before = set(sys.modules)
    yield SimpleNamespace(name=request.param, registry=registry, function=function, built_in=built_in, folder=tmp_path)
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


def imported():
    return {name for name in ("plug", "installed_good", "installed_bad") if name in sys.modules}


def test_finding_one_plugin_imports_no_other(kind):
    kind.registry.find(kind.built_in)
    assert {"good", "bad", kind.built_in} <= set(kind.registry.names()) and not imported()
    kind.registry.make("plug.py:Good")
    assert imported() == {"plug"}
    kind.registry.make("good")
    assert imported() == {"plug", "installed_good"}
    with pytest.raises(UnknownNameError, match=f"unknown {kind.name} 'god': known are .*did you mean 'good'"):
        kind.registry.find("god")
    assert "installed_bad" not in sys.modules


def test_a_new_registry_imports_only_the_built_in_module_that_is_asked_for(tmp_path, monkeypatch):
    package = tmp_path / "fresh_package"
    package.mkdir()
    (package / "__init__.py").touch()
    code = "import registries\n@registries.FRESH.register('{0}')\nclass Plugin:\n    def act(self): ...\n"
    (tmp_path / "registries.py").write_text(
        "from harness.registry import Registry\n"
        "FRESH = Registry('thing', 'no.group', 'fresh_package', ('one', 'two'), 'act')\n"
    )
    for name in ("one", "two"):
        (package / f"{name}.py").write_text(code.format(name))
    monkeypatch.syspath_prepend(tmp_path)
    import registries

    assert isinstance(registries.FRESH, Registry) and registries.FRESH.find("one").name == "one"
    assert "fresh_package.one" in sys.modules and "fresh_package.two" not in sys.modules


@pytest.mark.parametrize("text", ["plug.py:Good", "plug:Good", "good"])
def test_a_plugin_is_made_by_file_module_and_name(kind, text):
    found = kind.registry.find(text)
    assert found.name == ("Good" if ":" in text else "good") and found.summary == "Says what it does."
    assert found.options == {"depth": 1, "note": None} and bool(found.code) == (":" in text)
    made = kind.registry.make(text, depth=3, colour="red")
    assert made.depth == 3 and made.others == {"colour": "red"} and getattr(made, kind.function)(1) == (1,)


def test_what_cannot_be_made_is_refused(kind):
    for text, options, error, message in (
        ("plug.py:Strict", {"colour": 1}, ArgumentError, "has no option 'colour': it has depth"),
        ("plug.py:Strict", {"depth": "3"}, ArgumentError, "'3': allowed are values of type int"),
        ("plug.py:Lacking", {}, MethodError, rf"object of class Lacking, which has no function {kind.function}\(\)"),
        ("none.py:Good", {}, MissingDataError, "file 'none.py' does not exist"),
        ("plug.py", {}, ArgumentError, f"'plug.py' is a file: add the class that is the {kind.name}, plug.py:CLASS"),
        ("bad", {}, MethodError, f"installed {kind.name} 'bad' .*cannot be imported: RuntimeError"),
    ):
        with pytest.raises(error, match=message):
            kind.registry.make(text, **options)


def test_a_broken_package_is_listed_with_the_reason(kind):
    listed = {outline.name: outline for outline in kind.registry.outlines()}
    assert not listed["bad"].is_usable and "cannot be used" in listed["bad"].summary and listed["bad"].options == {}
    assert listed["good"].summary == "Says what it does." and listed[kind.built_in].is_usable


def test_the_outline_of_a_built_in_plugin_is_read_from_its_source_and_equals_the_class():
    for name in METHODS.built_in:
        assert read_outline("harness.methods", name) == METHODS.find(name).outline()
    for name in SEARCHERS.built_in:  # some of their defaults are constants of the module, so they are imported
        assert read_outline("harness.searchers", name) in (None, SEARCHERS.find(name).outline())


def test_listing_the_methods_imports_none():
    code = (
        "import sys; from harness.cli.rank import methods; methods(True);"
        "print([name for name in ('torch', 'pandas', 'scipy', 'harness.methods.uniform') if name in sys.modules])"
    )
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(f'"{name}"' in listed for name in METHODS.built_in) and listed.splitlines()[-1] == "[]"


def test_an_outline_that_cannot_be_read_is_taken_from_the_class(tmp_path, monkeypatch):
    package = tmp_path / "odd_package"
    package.mkdir()
    (package / "__init__.py").touch()
    head = "from odd_registry import ODD\n@ODD.register('{0}', summary='sums')\n"
    codes = {
        "computed": "class Plugin:\n    def __init__(self, depth=1 + 1, *, width=3): ...\n    def act(self): ...\n",
        "inherited": "class Plugin(Base):\n    def act(self): ...\n",
        "plain": "class Plugin(Base):\n    def __init__(self, a, width=3, *, c, d=4): ...\n    def act(self): ...\n",
    }
    base = "class Base:\n    def __init__(self, depth=7): ...\n"
    for name, code in codes.items():
        (package / f"{name}.py").write_text(base + head.format(name) + code)
    (tmp_path / "odd_registry.py").write_text(
        "from harness.registry import Registry\n"
        f"ODD = Registry('thing', 'no.group', 'odd_package', {tuple(codes)}, 'act')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import odd_registry

    empty = inspect.Parameter.empty
    assert read_outline("odd_package", "computed") is None and read_outline("odd_package", "inherited") is None
    assert read_outline("odd_package", "absent") is None
    plain = Outline("plain", "", "sums", {"a": empty, "width": 3, "c": empty, "d": 4})
    assert read_outline("odd_package", "plain") == plain and "odd_package.plain" not in sys.modules
    listed = {outline.name: outline.options for outline in odd_registry.ODD.outlines()}
    assert listed == {"computed": {"depth": 2, "width": 3}, "inherited": {"depth": 7}, "plain": plain.options}


def test_a_name_belongs_to_one_class_and_a_file_that_changed_is_read_again(kind):
    door = "method" if kind.name == "method" else "searcher"
    register = "register" if kind.name == "method" else "register_searcher"
    file = kind.folder / "named.py"
    code = "from harness.{0} import {1}\n@{1}('named')\nclass Named:\n    value = {2}\n    def {3}(self): ...\n"
    for value in (1, 2):
        file.write_text(code.format(door, register, value, kind.function))
        for _ in range(2):
            assert kind.registry.make("named.py:Named").value == value
    assert kind.registry.find("named.py:Named").name == "named" and kind.registry.make("named").value == 2
    (kind.folder / "thief.py").write_text(code.format(door, register, 3, kind.function))
    with pytest.raises(ArgumentError, match="name 'named' is taken by named: choose another name"):
        kind.registry.find("thief.py:Named")
    with pytest.raises(ArgumentError, match=f"name '{kind.built_in}' is taken by harness"):
        kind.registry.register(kind.built_in)(type("Other", (), {}))
