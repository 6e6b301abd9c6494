"""An importer of modules kept in memory: how the agent runs without being installed and without writing a file.

The first stage execs this file's text on its own and calls `run` with the texts of all modules of the package,
name → source; `""` is the package itself. Tracebacks show source lines, since `get_source` is there for linecache.
"""

from __future__ import annotations

import importlib
import importlib.abc
import sys
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any, Dict, List, Optional

PACKAGE = "netbridge_agent"


class MemoryImporter(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds and loads the modules of one package from a dict of sources."""

    def __init__(self, sources: Dict[str, str]) -> None:
        self._sources = {(PACKAGE + "." + name).rstrip("."): text for name, text in sources.items()}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        """The spec of one of our modules, None for everything else."""
        if fullname not in self._sources:
            return None
        return ModuleSpec(fullname, self, origin="<%s>" % fullname, is_package=fullname == PACKAGE)

    def get_source(self, fullname: str) -> str:
        """The module's text; also what linecache asks for."""
        return self._sources[fullname]

    def get_code(self, fullname: str) -> CodeType:
        """The compiled module."""
        return compile(self._sources[fullname], "<%s>" % fullname, "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:
        """Only the package itself is one."""
        return fullname == PACKAGE

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code in it."""
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102  (it is what an importer does)


def run(sources: Dict[str, str], arguments: List[str]) -> int:
    """Make the package importable and run its `main`; the exit status."""
    sys.meta_path.insert(0, MemoryImporter(sources))
    sys.dont_write_bytecode = True
    main = importlib.import_module(PACKAGE + ".main").main
    status: int = main(sources, arguments)
    return status
