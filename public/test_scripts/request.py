"""What a test script is asked to evaluate: which weights, with which config, and what of it is to be different.

    ./test.sh [row]                          the row's runs/<row>/checkpoints/best.pth
    ./test.sh --weights FILE                 any checkpoint of ours: it brings network, data and transforms with it
    ./test.sh row --weights FILE             weights of another kind, which fit the row's network
    ... --data.folder /data/other --precision fp32        anything of the data, and how it is computed

Without an experiment's folder (test.sh gives its own), --experiment FOLDER names one whose own classes are needed.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import field, make_dataclass
from os.path import isfile
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import torch
import tyro

from public.config.checks import require_file
from public.config.command_line import choice_of, choose_row, fail, given, refuse_renamed, with_kinds
from public.config.experiment import Experiment, load_configs
from public.config.options import Kind
from public.config.record import class_summary
from public.datasets.batches import DataError
from public.recipes.task import Task
from public.runtime.accidents import Remedies, end_by
from public.runtime.checkpoint import load_checkpoint, read_torch_file
from public.runtime.distributed import DistributedContext, is_first_to_fail, join_process_group
from public.runtime.launch import raised_by_us
from public.runtime.run_folder import log_to_console
from public.weights.trained import Trained, trained_of

OptionsT = TypeVar("OptionsT")

RENAMED = {
    "data": "data.folder",
    "decoder": "data.decoder",
    "published-archive": "data.published-archive",
    "backbone": "detector.backbone",
    "soft-nms": "detector.soft-nms",
}
"""Options that the test scripts called otherwise until commit 20741d7."""


REMEDIES = Remedies(
    workers="fewer data workers (--num-workers)",
    too_much="a batch in a forward pass",
    less="a smaller --batch-size needs less",
)
"""What helps an evaluation."""


class Request(NamedTuple):
    """The weights and the config to evaluate, before what the command line changes."""

    weights: str
    """A file, torchvision:<model>[.<weights>] or timm:<model>."""
    config: Any
    """The checkpoint's, or the row's, or the script's own."""
    trained: Trained | None
    """The checkpoint, where the weights are one of ours."""
    experiment: Experiment | None
    output: Path | None
    """Where results go: test/ in the run folder in which the checkpoint lies; None for weights of another kind."""
    args: list[str]
    """The rest of the command line."""

    @property
    def names_network(self) -> bool:
        """Whether the command line may say which network the weights fit: a checkpoint knows its own."""
        return self.trained is None

    @property
    def precision(self) -> str:
        """What a checkpoint of ours was trained in; fp32, as published numbers are, of other weights."""
        return "fp32" if self.weights and self.trained is None else self.config.precision

    def task(self, usual: type[Task]) -> type[Task]:
        """The recipe's task, or the experiment's own that trained the weights.

        Raises:
            ValueError: the experiment has none of that name, or it is no kind of the recipe's.
        """
        if self.trained is None or self.trained.task is None:
            return usual
        name, path = self.trained.task, self.trained.path
        if self.experiment is None:
            raise ValueError(
                f"{path} was trained by {name}, a task of its experiment's own: run that experiment's test.sh, or give "
                "--experiment FOLDER."
            )
        found = self.experiment.find(name)
        if not issubclass(found, usual):
            raise ValueError(f"{path} was trained by {name}, which is no {usual.__name__}.")
        return found


def read_request(
    argv: Sequence[str] | None,
    kinds: Sequence[Kind],
    default: Callable[[str | None], Any],
    config_type: type[Any],
    opened: Trained | None = None,
) -> Request:
    """Reads what comes before the settings; a mistake ends the program with code 2.

    Args:
        argv: the arguments, of which the first may be an experiment's folder and the second a row; None: the program's.
        kinds: of the task.
        default: the config where neither an experiment nor a checkpoint states one, by the --network that was given.
        config_type: of the task.
        opened: the checkpoint that the arguments name, where the caller has it already.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    refuse_renamed(args, RENAMED)
    first = args.pop(0) if args and not args[0].startswith("-") else None
    named_folder = given("experiment", args) or first
    folder = None if named_folder is None else Path(named_folder)
    experiment, row, is_named = None, None, False
    if folder is not None:
        is_named = bool(args) and not args[0].startswith("-")
        row, args = choose_row(load_configs(folder), args)
        experiment = Experiment(folder if folder.is_dir() else folder.parent)
    try:
        weights, asks_help = given("weights", args), not {"-h", "--help"}.isdisjoint(args)
        path = weights
        if weights is None and experiment is not None and row is not None:
            path = str(experiment.folder / "runs" / row.name / "checkpoints" / "best.pth")
        trained = opened
        asks_before = asks_help and path is not None and not isfile(path)  # help is there before any training
        if trained is None and path is not None and not asks_before:
            trained = open_ours(path, experiment)
        if trained is not None:
            _check_task(trained, config_type)
            if row is not None and is_named and weights is not None:
                _check_row(trained, row)
        elif path is not None and not asks_help:
            _check_bare(path, row, given("network", args), is_rows=weights is None)
        stated = trained.config if trained is not None else row
        if stated is None:
            stated = default(given("network", args))
        config = with_kinds(stated, kinds[:1], () if trained is not None else args)
        config = with_kinds(config, kinds[1:], args)
    except (ValueError, FileNotFoundError) as error:
        if not raised_by_us(error):
            raise
        fail(str(error))
    return Request(
        path or "", config, trained, experiment, None if trained is None else run_test_folder(trained.path), args
    )


def parse_options(args: Sequence[str], options: OptionsT, kind: Kind) -> OptionsT:
    """The options with what the rest of the command line changes; a mistake ends the program with code 2.

    Args:
        args: what is left of it.
        options: the defaults, whose section of that kind is already the one that the command line asks for.
        kind: of the data; its option is shown, and not unknown.
    """
    own: list[tuple[str, Any, Any]] = [
        ("options", Annotated[type(options), tyro.conf.arg(name="")], field(default=options)),
        ("kind", choice_of(kind), field(default=getattr(options, kind.section).kind)),
    ]
    command: Any = make_dataclass("Command", own, frozen=True)
    try:
        return tyro.cli(command, args=args, description=type(options).__doc__).options
    except ValueError as error:  # the options' own checks
        fail(str(error))


def run_test_folder(checkpoint: Path) -> Path | None:
    """Where the results of a checkpoint go: test/ beside the run's checkpoints/; None for one that lies elsewhere."""
    folder = checkpoint.absolute().parent
    return folder.parent / "test" if folder.name == "checkpoints" else None


def open_ours(weights: str, experiment: Experiment | None) -> Trained | None:
    """The checkpoint, where the weights are one of ours; None for other kinds, of which `load_weights` judges.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is one of ours, and its config cannot be made again.
    """
    path = Path(weights)
    if weights.startswith(("torchvision:", "timm:")):
        return None
    remedy = " yet: train the row first, or give --weights FILE" if path.name == "best.pth" else ""
    require_file(weights, f"there is no {path}{remedy}.")
    try:
        state = load_checkpoint(path)
    except ValueError:
        return None
    return trained_of(path, state, experiment)


def _check_bare(path: str, row: Any, network: str | None, *, is_rows: bool) -> None:
    """Refuses weights that are no checkpoint of ours, where a run's best.pth is expected or nothing says what they fit.

    Raises:
        ValueError: see above.
    """
    if is_rows:
        load_checkpoint(Path(path))  # says what is wrong with it
    if row is None and network is None:
        if path.endswith((".pth", ".pt")) and isfile(path):
            _check_whole(path)
        raise ValueError(
            f"{path} is not a checkpoint of one of our runs, so it does not say what it fits: run an experiment's "
            "test.sh with it, or give --network and what else differs from the defaults, see --help."
        )


def _check_whole(path: str) -> None:
    """Refuses a file that is cut off or damaged, of which nobody can say what it was."""
    try:
        read_torch_file(Path(path))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as a checkpoint: {error}.") from error


def _check_task(trained: Trained, config_type: type[Any]) -> None:
    """Refuses a detector's checkpoint where a classifier's is expected, and the other way round."""
    if not isinstance(trained.config, config_type):
        raise ValueError(
            f"{trained.path} is the checkpoint of {trained.config.network}, a {type(trained.config).__name__}; this "
            f"script evaluates a {config_type.__name__}."
        )


def _check_row(trained: Trained, row: Any) -> None:
    """Refuses a checkpoint of another network than the row's, whose result would be taken for the row's."""
    received, expected = named(trained.config), named(row)
    if received != expected:
        raise ValueError(
            f"{trained.path} is a checkpoint of {received}, and the row {row.name} is {expected}: give weights of this "
            "row, or no row: a checkpoint brings its own network with it."
        )


def check_classes(trained: Trained | None, class_names: list[str], source: str | Path) -> None:
    """Refuses data of other classes than a checkpoint was trained on.

    Raises:
        DataError: see above; the message begins with the checkpoint and names the source of the data.
    """
    if trained is not None and trained.class_names != class_names:
        raise DataError(
            f"{trained.path} was trained on {class_summary(trained.class_names)}, and {source} has "
            f"{class_summary(class_names)}: they must be the same, in the same order."
        )


def named(config: Any) -> str:
    """The network of a config; of a detector also its backbone."""
    detector = getattr(config, "detector", None)
    return config.network if detector is None else f"{config.network} on {detector.backbone}"


def describe_precision(dtype: torch.dtype) -> str:
    """A dtype, and what numbers that are computed in it may be held against."""
    if dtype == torch.float32:
        return "float32, as published numbers are (--precision auto: as training computes)"
    return f"{str(dtype).removeprefix('torch.')}, where published numbers are in float32 (--precision fp32)"


def evaluate_distributed(device: str, evaluate: Callable[[DistributedContext], Any]) -> None:
    """Runs an evaluation in this process's place among those of a launcher.

    A user's mistake ends with code 2, an accident (`public.runtime.accidents`) with 1.
    """
    try:
        with join_process_group(device) as context:
            log_to_console(context.is_main)
            evaluate(context)
    except (ValueError, FileNotFoundError) as error:
        if not raised_by_us(error):
            raise
        if is_first_to_fail():
            fail(str(error))
        raise SystemExit(2) from error
    except (RuntimeError, MemoryError, KeyboardInterrupt) as error:
        end_by(error, REMEDIES)
