"""The rows of an experiment folder, for programs other than its own train.py."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from public.config.command_line import fail


def load_configs(path: Path) -> Mapping[str, Any]:
    """The CONFIGS of an experiment, given as its folder or its config.py; a path without them ends the program."""
    path = path.resolve()
    file = path if path.suffix == ".py" else path / "config.py"
    if not file.is_file():
        fail(f"{path} is not an experiment folder: it has no config.py." if file != path else f"there is no {path}.")
    spec = importlib.util.spec_from_file_location(f"config_of_{file.parent.name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not isinstance(getattr(module, "CONFIGS", None), Mapping):
        fail(f"{file} is not the config of an experiment: it does not define CONFIGS.")
    return module.CONFIGS
