"""One registry for every kind of plug-in: built in, registered by a decorator, installed by pip, or in a file.

    >>> METHODS = Registry("method", "channel_bench.methods", "harness.methods", ("autoslim", "bcnet"), "fit")
    >>> METHODS.make("autoslim", distill=False)
    >>> METHODS.make("my_method.py:MyMethod")          # or "my_package.module:MyMethod"

Every command finds plug-ins by `Registry.find`, which takes a name, ``module:Class`` or ``path/to/file.py:Class``.
Finding one plug-in imports no other one.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from channel_bench.errors import ArgumentError, MethodError, absent_module, missing_package, unknown_name
from harness.locate import code_of, find_object
from harness.outline import Outline, read_outline

T = TypeVar("T")
"""What a plug-in's factory makes."""
PluginClass = TypeVar("PluginClass", bound=type)


@dataclass(frozen=True)
class Plugin(Generic[T]):
    """What a registry knows about a plug-in."""

    name: str
    paper: str
    """The paper that it is from, one line; without a registration, the "module:Class" that it was found by."""
    summary: str
    """What it does, one line."""
    factory: Callable[..., T]
    """Makes it."""
    code: dict[str, str] = field(default_factory=dict)
    """The file that it was found in (`harness.locate.code_of`); empty for a plug-in that was found by name."""

    @property
    def options(self) -> dict[str, Any]:
        """Options of its constructor with their defaults; `inspect.Parameter.empty` where an option has none."""
        try:
            parameters = inspect.signature(self.factory).parameters.values()
        except (TypeError, ValueError):  # made by C code that does not tell
            return {}
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {each.name: each.default for each in parameters if each.kind in named}

    def outline(self) -> Outline:
        """What a listing shows."""
        return Outline(self.name, self.paper, self.summary, self.options)


class Registry(Generic[T]):
    """Plug-ins of one kind, by name.

    Args:
        kind: Their kind, for messages: "method".
        group: Entry-point group under which other packages offer theirs.
        package: Package of the built-in plug-ins, one module each.
        built_in: Names of the built-in plug-ins, which are also those of their modules.
        function: Function that every plug-in of this kind has: "fit".
    """

    def __init__(self, kind: str, group: str, package: str, built_in: tuple[str, ...], function: str) -> None:
        """Import nothing yet."""
        self.kind = kind
        self.group = group
        self.built_in = built_in
        self._package = package
        self._function = function
        self._known: dict[str, Plugin[T]] = {}

    def register(self, name: str, *, paper: str = "", summary: str = "") -> Callable[[PluginClass], PluginClass]:
        """Class decorator that gives a class a name.

        Args:
            name: Lower-case name, as the command line takes it.
            paper: The paper that it is from, one line.
            summary: What it does, one line.

        Raises:
            ArgumentError: The name belongs to another class.
        """

        def decorate(cls: PluginClass) -> PluginClass:
            known = self._known.get(name)
            owner = self._package + "." + name if name in self.built_in else cls.__module__
            if known is not None:
                factory = known.factory
                if (factory.__module__, factory.__qualname__) != (cls.__module__, cls.__qualname__):
                    raise ArgumentError(
                        f"{self.kind} name {name!r} is taken by {factory.__module__}: choose another name"
                    )
            elif cls.__module__ != owner:
                raise ArgumentError(f"{self.kind} name {name!r} is taken by {owner}: choose another name")
            self._known[name] = Plugin(name, paper, summary, cls)
            return cls

        return decorate

    def outlines(self) -> list[Outline]:
        """List all plug-ins, built in, registered and installed, by name; a built-in one is read, not imported.

        An installed plug-in has to be imported to be listed. One that cannot be is listed with the reason.
        """
        found = {name: self._outline(name) for name in self.built_in}
        found |= {name: plugin.outline() for name, plugin in self._known.items()}
        for name, entry_point in self._installed():
            try:
                found[name] = self._load(entry_point).outline()
            except MethodError as error:
                # Under another key where the name is that of a built-in one, which stays what it is.
                key = name if name not in found else f"{name} ({entry_point.value})"
                found[key] = Outline(key, entry_point.value, f"cannot be used: {error}", {}, is_usable=False)
        return [found[name] for name in sorted(found)]

    def _outline(self, name: str) -> Outline:
        return read_outline(self._package, name) or self.find(name).outline()

    def names(self) -> list[str]:
        """Names of all plug-ins, built in, registered and installed; imports none."""
        return sorted({*self.built_in, *self._known, *(name for name, _ in self._installed())})

    def find(self, text: str) -> Plugin[T]:
        """Find a plug-in by name, "module:Class" or "path/to/file.py:Class".

        A class that was found by module or file has the name under which it registered itself, else its own.

        Raises:
            UnknownNameError: No plug-in has this name, or no class in that file or module.
            MissingDataError: The file does not exist.
            MissingPackageError: It is built in, and a package that it needs is not installed.
            MethodError: An installed plug-in cannot be imported.
            ArgumentError: The module cannot be imported, the object cannot be called, or a file is given without a
                class.
        """
        if text.endswith(".py"):
            raise ArgumentError(f"{text!r} is a file: add the class that is the {self.kind}, {text}:CLASS")
        if ":" in text:
            factory = find_object(text, self.kind, self._function)
            registered = [plugin for plugin in self._known.values() if plugin.factory is factory]
            name = getattr(factory, "__name__", self.kind)
            found = registered[0] if registered else _described(name, text, factory)
            return replace(found, code=code_of(text, factory))
        if text in self.built_in:
            try:
                importlib.import_module(f"{self._package}.{text}")
            except ModuleNotFoundError as error:
                absent = absent_module(error)
                if absent is None:
                    raise
                raise missing_package(f"{self.kind} {text!r}", absent, error) from None
        if text in self._known:
            return self._known[text]
        installed = dict(self._installed())
        if text not in installed:
            places = ["path/to/file.py:Class", "module:Class"]
            raise unknown_name(self.kind, text, [*dict.fromkeys([*self.names(), *places])])
        return self._load(installed[text])

    def make(self, text: str, /, **options: Any) -> T:
        """Find a plug-in and make it.

        Args:
            text: As for `find`.
            **options: Keyword arguments of its constructor.

        Raises:
            ArgumentError: It has no such option, or refuses its value.
            MethodError: What was made does not have the function that this kind of plug-in needs.
            UnknownNameError, MissingDataError, MethodError: As `find`.
        """
        factory = self.find(text).factory
        allowed = inspect.signature(factory).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in allowed.values())
        for option, value in options.items():
            if option in allowed:
                self._check_type(text, option, value, allowed[option].default)
            elif not takes_any:
                names = ", ".join(allowed) or "none"
                raise ArgumentError(f"{self.kind} {text!r} has no option {option!r}: it has {names}")
        try:
            made = factory(**options)
        except TypeError as error:
            raise ArgumentError(f"{self.kind} {text!r}: {error}") from None
        if not callable(getattr(made, self._function, None)):
            raise MethodError(
                f"{self.kind} {text!r} makes an object of class {type(made).__name__}, which has no function"
                f" {self._function}(): a {self.kind} must have one"
            )
        return made

    def _check_type(self, name: str, option: str, value: Any, default: Any) -> None:
        """Refuse a value of another type than the option's default: the text "off" for distill would count as true."""
        kind = type(default)
        if kind not in (bool, int, float, str):
            return
        fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not fits and not (kind is float and type(value) is int):
            raise ArgumentError(
                f"option {option!r} of {self.kind} {name!r} is {value!r}: allowed are values of type {kind.__name__}"
            )

    def _installed(self) -> list[tuple[str, importlib.metadata.EntryPoint]]:
        return [(entry.name, entry) for entry in importlib.metadata.entry_points(group=self.group)]

    def _load(self, entry_point: importlib.metadata.EntryPoint) -> Plugin[T]:
        if entry_point.name in self.built_in:
            raise MethodError(f"the name {entry_point.name!r} belongs to a built-in {self.kind}")
        try:
            factory = entry_point.load()
        except Exception as error:
            raise MethodError(
                f"installed {self.kind} {entry_point.name!r} ({entry_point.value}) cannot be imported:"
                f" {type(error).__name__}: {error}"
            ) from error
        if entry_point.name in self._known:
            return self._known[entry_point.name]  # the class registered itself, with its paper
        return _described(entry_point.name, entry_point.value, factory)


def _described(name: str, origin: str, factory: Callable[..., T]) -> Plugin[T]:
    """A plug-in that did not register itself: the first line of its docstring is its summary."""
    return Plugin(name, origin, (inspect.getdoc(factory) or "").partition("\n")[0], factory)
