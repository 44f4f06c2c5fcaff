"""Run a file of Python as a module, under a name that the caller chooses.

>>> module = run_as_module(Path("my_method.py"), "my_method")
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType


class _SourceLoader(SourceFileLoader):
    """Runs what stands in the file now.

    Python keeps compiled bytecode, and takes a file of the same size and second for the one that it compiled.
    """

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def run_as_module(path: Path, name: str) -> ModuleType:
    """Run a file, and keep it among the modules of this process; what had that name is replaced.

    Args:
        path: The file, which is there.
        name: Name of the module. While the file runs it can be found by it, as dataclasses and pickles need.

    Returns:
        The module.

    Raises:
        BaseException: Whatever the file raises; then no module of that name is left.
    """
    spec = importlib.util.spec_from_file_location(name, path, loader=_SourceLoader(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
