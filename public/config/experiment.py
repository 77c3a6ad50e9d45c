"""An experiment's folder, for programs other than its own train.py: its rows, and the classes that are its own."""

import importlib
import sys
from collections.abc import Mapping
from inspect import isclass
from pathlib import Path
from types import ModuleType
from typing import Any

from public.config.command_line import fail

PREFIX = "experiment:"
"""Of a class's name in a record: experiment:<module>.<Name>, <module>.py being a file of the experiment's folder."""


class Experiment:
    """An experiment's folder; its modules are imported when one of their classes is asked for, and no others.

    Args:
        folder: as the caller gives it. A record never does.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def name_of(self, type_: type[Any]) -> str | None:
        """How a record names one of the folder's own classes; None for a class from elsewhere."""
        path = _file_of(sys.modules.get(type_.__module__))
        if path is None or path.parent != self.folder or path.suffix != ".py":
            return None
        return f"{PREFIX}{path.stem}.{type_.__qualname__}"

    def find(self, name: str) -> type[Any]:
        """The class behind such a name.

        Raises:
            ValueError: the folder has no such module, or that no such class.
        """
        stem, _, attribute = name.removeprefix(PREFIX).partition(".")
        if not stem.isidentifier() or not (self.folder / f"{stem}.py").is_file():
            raise ValueError(f"{name}: {self.folder} has no file {stem}.py")
        found = getattr(self.module(stem), attribute, None) if attribute.isidentifier() else None
        if not isclass(found):
            raise ValueError(f"{name}: {self.folder / stem}.py defines no class {attribute!r}")
        return found

    def module(self, stem: str) -> ModuleType:
        """One of the folder's modules, imported as its train.py would import it, each once."""
        # By whatever name: train.py itself is called __main__.
        file = self.folder / f"{stem}.py"
        for imported in list(sys.modules.values()):
            if str(getattr(imported, "__file__", "")).endswith(file.name) and _file_of(imported) == file:
                return imported
        # Its modules import each other by their bare names. Those of another experiment must not be taken for them.
        for path in self.folder.glob("*.py"):
            other = sys.modules.get(path.stem)
            if other is not None and _file_of(other) != path:
                del sys.modules[path.stem]
        sys.path[:] = [str(self.folder), *(entry for entry in sys.path if entry != str(self.folder))]
        importlib.invalidate_caches()
        return importlib.import_module(stem)


def _file_of(module: Any) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if isinstance(file, str) else None


def load_configs(path: Path) -> Mapping[str, Any]:
    """The CONFIGS of an experiment, given as its folder or its config.py; a path without them ends the program."""
    path = path.resolve()
    file = path if path.suffix == ".py" else path / "config.py"
    if not file.is_file():
        fail(f"{path} is not an experiment folder: it has no config.py." if file != path else f"there is no {path}.")
    module = Experiment(file.parent).module(file.stem)
    if not isinstance(getattr(module, "CONFIGS", None), Mapping):
        fail(f"{file} is not the config of an experiment: it does not define CONFIGS.")
    return module.CONFIGS
