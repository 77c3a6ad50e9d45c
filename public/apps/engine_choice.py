"""Which exported files lie beside a checkpoint and how fast each is: what --engine auto chooses by.

`public.apps.export` notes each file in fp32 that it writes beside a checkpoint: best.engines.json beside best.pth. So
predict, the API and the page choose alike. A note holds for that checkpoint, that file and that version of the engine
alone: all are compared before anything is taken.
"""

import hashlib
import json
from importlib.util import find_spec
from os.path import isfile
from pathlib import Path
from typing import Any, NamedTuple

from public.apps.exported import FILE_FORMATS, engine_of
from public.config.names import first_line
from public.runtime.environment import package_version
from public.runtime.run_folder import replace_text


class Ready(NamedTuple):
    """A file that answers for a checkpoint."""

    path: Path
    speed: float
    """How many times as fast as PyTorch it was, one picture at a time."""

    @property
    def engine(self) -> str:
        """What runs it, a name of `FILE_FORMATS`."""
        return engine_of(self.path)


def notes_of(weights: str | Path) -> Path:
    """Where the notes of a checkpoint lie."""
    return Path(weights).with_suffix(".engines.json")


def note(weights: Path, ready: Ready) -> None:
    """Notes a file that was compared with a checkpoint beside which it lies; notes of other weights go."""
    own = {"speed": round(ready.speed, 3), "version": _version(ready.engine), "checksum": _checksum(ready.path)}
    checksum = _checksum(weights)
    notes = _read(weights)  # at last: another export may have noted its own meanwhile
    files = notes["files"] if notes["weights"] == checksum else {}
    files[ready.path.name] = own
    replace_text(notes_of(weights), json.dumps({"weights": checksum, "files": files}, indent=1) + "\n")


def ready_files(weights: Path) -> list[Ready]:
    """The files that answer for a checkpoint and can be run here, the fastest first.

    Raises:
        ValueError: the notes cannot be read.
    """
    if not (isfile(weights) and isfile(notes_of(weights))):  # of a path that cannot be looked at PyTorch says why
        return []
    notes = _read(weights)
    if notes["weights"] != _checksum(weights):
        return []
    found = []
    for name, one in notes["files"].items():
        ready = Ready(weights.parent / name, one["speed"])
        is_here = find_spec(FILE_FORMATS[ready.engine].package) is not None and all(
            one.is_file() for one in files_of(ready.path)
        )
        if is_here and (_version(ready.engine), _checksum(ready.path)) == (one["version"], one["checksum"]):
            found.append(ready)
    return sorted(found, key=lambda ready: -ready.speed)


def is_noted(weights: Path, path: Path) -> bool:
    """Whether export wrote a file for these weights, as they are or as they were."""
    return path.name in _read(weights)["files"]


def _read(weights: Path) -> dict[str, Any]:
    path = notes_of(weights)
    if not path.is_file():
        return {"weights": None, "files": {}}
    try:
        notes = json.loads(path.read_text(encoding="utf-8"))
        files = {
            name: {"speed": float(one["speed"]), "version": one["version"], "checksum": one["checksum"]}
            for name, one in notes["files"].items()
        }
        return {"weights": notes["weights"], "files": files}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read ({first_line(error)}): remove it, and export again.") from error


def _version(engine: str) -> str | None:
    return package_version(FILE_FORMATS[engine].package)


def _checksum(path: Path) -> str:
    """SHA-256 of the digests of a file's parts."""
    digest = hashlib.sha256()
    for part in files_of(path):
        with part.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def files_of(path: Path) -> tuple[Path, ...]:
    """A file, and the .bin of OpenVINO's .xml."""
    return (path, path.with_suffix(".bin")) if path.suffix == ".xml" else (path,)
