"""The shape of the package: imports point one way, and nothing hides in an __init__.py."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "public"
# The order in which data flows: a folder imports from itself and from folders before it.
ORDER = (
    "config",
    "runtime",
    "geometry",
    "layers",
    "losses",
    "transforms",
    "datasets",
    "weights",
    "backbones",
    "optim",
    "detectors",
    "evaluation",
    "recipes",
    "test_scripts",
    "apps",
)
OLD_COMMANDS = {"test_scripts/detect_single_image.py": "apps"}
"""Files that stay where people call them, with the folder that they belong to: nothing imports them."""
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
NAMES = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES]
FOLDERS = sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__")


def imported_by(node: ast.AST) -> list[str]:
    """Full names of what one statement imports: modules, and for `from a import b` also a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        return [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return []


def imports_of(path: Path) -> Iterator[str]:
    """Everything that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        yield from imported_by(node)


def test_the_sweep_finds_the_package() -> None:
    """Every folder has a place in the order; enough files are looked at for the other tests to mean something."""
    assert set(FOLDERS) <= set(ORDER)
    assert {"config", "runtime", "datasets", "backbones", "optim", "evaluation", "recipes"} <= set(FOLDERS)
    assert len(FILES) >= 35
    assert all(len(path.relative_to(PACKAGE).parts) >= 2 for path in FILES), "no module outside the folders"


def test_every_init_is_empty() -> None:
    """Each folder is a package, whose __init__.py neither re-exports nor does anything."""
    packages = {PACKAGE, *(path.parent for path in FILES), *(PACKAGE / name for name in FOLDERS)}
    assert len(packages) >= 12
    for folder in packages:
        assert (folder / "__init__.py").read_text(encoding="utf-8") == "", folder


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_point_to_earlier_folders(path: Path) -> None:
    """By full path, to this folder or one before it, and never to an experiment, a test or a benchmark."""
    own = path.relative_to(PACKAGE)
    place = ORDER.index(OLD_COMMANDS.get(own.as_posix(), own.parts[0]))
    for name in imports_of(path):
        assert name not in {f"public.{one.removesuffix('.py').replace('/', '.')}" for one in OLD_COMMANDS}, name
        assert not name.startswith("."), f"{name} is relative"
        first, *rest = name.split(".")
        assert first not in ("tests", "benchmarks"), name
        assert not first.endswith("experiments"), name
        if first == "public":
            assert rest, "`import public` says nothing"
            assert ORDER.index(rest[0]) <= place, f"{name} lies behind {path.relative_to(PACKAGE)}"


def test_no_detector_imports_a_siblings_inside() -> None:
    """What detectors share lies beside their folders; of another's folder one may take a public class, to build on."""
    folder = PACKAGE / "detectors"
    kinds = [path.name for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert len(kinds) >= 5
    for path in FILES:
        if path.is_relative_to(folder) and path.parent != folder:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                for name in imported_by(node):
                    parts = name.split(".")
                    if parts[:2] == ["public", "detectors"] and parts[2] in kinds and parts[2] != path.parent.name:
                        assert isinstance(node, ast.ImportFrom), f"{path}: {name} as a module"
                        assert all(alias.name[0].isupper() and not alias.name.isupper() for alias in node.names), (
                            f"{path} imports {[alias.name for alias in node.names]} of {node.module}"
                        )


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_import_of_ours_hides_in_a_function(path: Path) -> None:
    """An import in a function is a cycle put off; other packages may be slow enough to wait for."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            hidden = [name for node in ast.walk(function) for name in imported_by(node) if name.startswith("public")]
            assert not hidden, f"{function.name} imports {hidden}"


def test_what_draws_is_imported_by_what_draws() -> None:
    """A third of a second of matplotlib and TensorBoard, in every start and every --help."""
    at_the_top = re.compile(r"^(?:from|import) (?:matplotlib|torch\.utils\.tensorboard)", re.MULTILINE)
    assert [name for name, path in zip(NAMES, FILES, strict=True) if at_the_top.search(path.read_text("utf-8"))] == []


def test_there_is_no_cycle() -> None:
    """Modules can be put in an order in which each imports only what comes before; a cycle would be named."""
    graph = {name: set(imports_of(path)) & set(NAMES) for name, path in zip(NAMES, FILES, strict=True)}
    assert sum(map(len, graph.values())) >= 80
    assert len(list(TopologicalSorter(graph).static_order())) == len(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_module_says_what_it_is(path: Path) -> None:
    """A docstring at the top."""
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_experiments_import_their_config_and_public_alone() -> None:
    """Never each other, whatever third parties they need."""
    files = sorted(ROOT.glob("*_experiments/*/*.py"))
    assert len(files) >= 8
    for path in files:
        for name in imports_of(path):
            assert not name.startswith("."), f"{path}: {name}"
            assert not name.split(".")[0].endswith("experiments"), f"{path}: {name}"
            assert name.split(".")[0] not in ("tests", "benchmarks"), f"{path}: {name}"


FORMATS = ("coco", "voc", "yolo", "imagenet", "cifar100")
NAMED_BY = (
    *(f"datasets/{name}.py" for name in FORMATS),
    *(f"evaluation/{name}.py" for name in ("coco", "voc")),  # the rules, which are called as the formats are
    "config/upgrade.py",  # what older records called them
)
"""The files that may name a format: each names its own."""


def formats_named_in(path: Path) -> list[str]:
    """Every string that is a format's name and nothing else: compared, a key, within a Literal, an argument."""
    nodes = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant))
    return [f"{node.lineno}: {node.value}" for node in nodes if node.value in FORMATS]


@pytest.mark.slow
def test_nothing_else_asks_which_format_it_is() -> None:
    """What depends on a data set's format stands in its file; everything else asks its row in the table."""
    places = {path.relative_to(PACKAGE).as_posix(): formats_named_in(path) for path in FILES}
    assert {name for name in NAMED_BY if places[name]} == set(NAMED_BY), "the sweep finds what is there"
    found = {name: lines for name, lines in places.items() if lines and name not in NAMED_BY}
    assert found == {}


RECORD_READERS = ("config/record.py", "config/upgrade.py")
"""The files that know how a config lies in config.json and in checkpoints."""


def looked_up_in(node: ast.AST) -> tuple[ast.expr, str] | None:
    """`x` and "key" of x["key"] and x.get("key"); None for anything else."""
    if isinstance(node, ast.Subscript):
        of, key = node.value, node.slice
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
        of, key = node.func.value, node.args[0]
    else:
        return None
    return (of, key.value) if isinstance(key, ast.Constant) and isinstance(key.value, str) else None


def looks_into_records(source: str) -> list[str]:
    """Every expression that looks up a setting in a record: state["config"]["seed"], record["data"]["folder"]."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match looked_up_in(node):
            case (ast.Name(id="config"), _):
                found.append(ast.unparse(node))
            case (of, _) if (within := looked_up_in(of)) is not None:
                if within[1] == "config" or "record" in ast.unparse(within[0]):
                    found.append(ast.unparse(node))
    return found


@pytest.mark.slow
def test_nothing_else_looks_into_a_record() -> None:
    """A record becomes a config first, whatever its format: so no other file depends on how it lies."""
    places = {path.relative_to(PACKAGE).as_posix(): looks_into_records(path.read_text("utf-8")) for path in FILES}
    assert set(RECORD_READERS) <= set(places)
    assert places["config/upgrade.py"], "the sweep finds what is there"
    assert {name: lines for name, lines in places.items() if lines and name not in RECORD_READERS} == {}
    seen = ('a["config"]["data"]', 'b.get("config").get("x")', 'record["data"]["folder"]', 'config["seed"]')
    assert [len(looks_into_records(one)) for one in seen] == [1] * 4
    assert [looks_into_records(one) for one in ('c["model"]["x"]', 'd["config"]', "config.data.folder")] == [[]] * 3


def test_the_config_names_later_folders_in_records_alone() -> None:
    """The folder that everything builds on imports nothing but itself; what a record names is imported by name."""
    for path in FILES:
        if path.parent != PACKAGE / "config":
            continue
        ours = {name for name in imports_of(path) if name.startswith("public.")}
        assert {name for name in ours if not name.startswith("public.config")} == set(), path
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
        named = {text for text in texts if isinstance(text, str) and re.fullmatch(r"public(\.\w+)+", text)}
        assert not named or f"config/{path.name}" in RECORD_READERS, f"{path} names {named}"
