"""From `sys.argv` to a config: the row's name first, then any setting of it.

    python train.py                                        the first row
    python train.py resnet101 --epochs 2 --optimizer.lr 0.05
    python train.py --optimizer.name adamw                 another kind, with its own settings and defaults
    python train.py --fresh                                start over, keeping the old run folder aside

A mistake ends with exit code 2 and one message that names the nearest correct spelling.
"""

import argparse
import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import tyro

from public.config.names import nearest_names
from public.config.options import Kind, carried_over
from public.config.run import RunConfig
from public.config.upgrade import renamed_option

Config = TypeVar("Config", bound=RunConfig)


def fail(message: str) -> NoReturn:
    """Ends the program as a wrong command line does: the message on stderr, exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def choose_row(configs: Mapping[str, Config], args: Sequence[str]) -> tuple[Config, list[str]]:
    """Takes the row's name off the front of the arguments; without one the first row is meant."""
    if not args or args[0].startswith("-"):
        return next(iter(configs.values())), list(args)
    if args[0] not in configs:
        fail(f"this experiment has no row {args[0]!r}; {nearest_names(args[0], configs)}")
    return configs[args[0]], list(args[1:])


def parse_config(
    configs: Mapping[str, Config], argv: Sequence[str], kinds: Sequence[Kind], prog: str | None = None
) -> tuple[Config, bool]:
    """Reads a command line.

    Changing `--epochs` keeps the schedule's shape: milestones and warm-up are stretched with the run, unless the
    command line sets them too. Changing `--batch-size` takes the learning rate along (`OptimizerOptions.for_batch`),
    unless `--optimizer.lr` sets it. Changing a kind (`--optimizer.name`) gives its section that kind's defaults;
    settings that the row made, and that the new kind has too, carry over. A folder of data that is typed means the one
    below the present folder, where there is such a one.

    Args:
        configs: the experiment's rows, the first of which is the default.
        argv: the arguments after the program's name.
        kinds: the task's, whose options the command line has beside the settings.
        prog: the program's name in messages.

    Returns:
        The config, and whether `--fresh` was given.

    Raises:
        SystemExit: code 2 and a message for a wrong argument; code 0 after --help.
    """
    # torch.distributed.launch still passes --local-rank; LOCAL_RANK in the environment says the same.
    args = [a for a in argv if not a.startswith(("--local-rank=", "--local_rank="))]
    refuse_renamed(args)
    row, args = choose_row(configs, args)
    description = f"Rows: {', '.join(configs)} (the first is the default). The defaults below are those of {row.name}."
    try:
        row = _with_rate_for_batch(_as_kinds(_with_epochs_of(row, args), kinds, args), args)
        command: Any = tyro.cli(_command_type(row, kinds), args=args, prog=prog, description=description)
    except ValueError as error:  # a config's own cross-check
        fail(str(error))
    except SystemExit as ended:
        if ended.code == 2 and args and args[-1] in configs:
            fail(f"{args[-1]} is a row, which stands before all options: train.py {args[-1]} --epochs 1, for example.")
        raise
    config: Any = command.config
    return replace(config, data=in_present_folder(config.data, args)), command.fresh


def refuse_renamed(args: Sequence[str], renamed: Mapping[str, str] = {}) -> None:
    """Ends the program at an option that is called otherwise now, in every program or by `renamed` in one."""
    for arg in args:
        option = arg.partition("=")[0].removeprefix("--")
        new = renamed.get(option.replace("_", "-")) or renamed_option(option)
        if arg.startswith("--") and new is not None:
            fail(f"--{option} is called --{new} now; see --help for what it takes.")


def with_kinds(row: Config, kinds: Sequence[Kind], args: Sequence[str] = ()) -> Config:
    """The row with each section of the kind that the command line asks for, or else of its own.

    Raises:
        ValueError: there is no such kind, or it does not take what the row gave to the former one.
    """
    row = _as_kinds(row, kinds, args)
    return replace(row, **{kind.section: replace(getattr(row, kind.section)) for kind in kinds})  # checks them


def _as_kinds(row: Config, kinds: Sequence[Kind], args: Sequence[str]) -> Config:
    """As `with_kinds`, unchecked: what a kind needs may be on the command line, and is tyro.MISSING till then."""
    row = copy.copy(row)
    for kind in kinds:
        section, stated = getattr(row, kind.section), _stated(row, kind)
        name = given(kind.option, args) or stated
        if not kind.has(name):
            why = kind.elsewhere.get(name, "there is no such one")
            raise ValueError(f"--{kind.option} {name}: {why}; {nearest_names(name, kind.names)}.")
        type_ = kind.type_of(name)
        if type(section) is not type_:
            values = carried_over(section, type_)
            section = object.__new__(type_)
            for field_name, value in values.items():
                object.__setattr__(section, field_name, tyro.MISSING if value is MISSING else value)
        object.__setattr__(row, kind.section, section)
        if _is_field(row, kind):
            object.__setattr__(row, kind.option, name)
    return row


def given(option: str, args: Sequence[str]) -> str | None:
    """The value of `--option` on a command line; None where it is absent, or without a value (the parser says so)."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(f"--{option}", f"--{option.replace('-', '_')}", dest="value")
    try:
        return parser.parse_known_args([a for a in args if a not in ("-h", "--help")])[0].value
    except argparse.ArgumentError:
        return None


def in_present_folder(data: Any, args: Sequence[str]) -> Any:
    """The data with a folder that the command line gives, and that lies below the present one, made absolute.

    People type what they see. What a checkpoint or a row states lies below DATA_ROOT, wherever the command is typed.
    """
    folder = data.folder if given("data.folder", args) is None else in_present(data.folder)
    return data if folder == data.folder else replace(data, folder=folder)


def in_present(folder: str) -> str:
    """A folder that somebody typed, made absolute where there is such a one below the present one."""
    path = Path(folder).expanduser()
    return str(path.resolve()) if path.is_dir() else folder


def _is_field(row: RunConfig, kind: Kind) -> bool:
    """Whether the option is a setting itself: the network of a classification, which chooses its options' kind."""
    return kind.option in {f.name for f in fields(row)}


def _stated(row: RunConfig, kind: Kind) -> str:
    return getattr(row, kind.option) if _is_field(row, kind) else getattr(row, kind.section).kind


def _command_type(row: RunConfig, kinds: Sequence[Kind]) -> type:
    """The row's settings at the top level of the command line, and beside them what is not a setting."""
    config_type = Annotated[type(row), tyro.conf.arg(name="")]
    fresh_help = "Start over although a checkpoint is there; the old run folder is kept aside."
    fresh_type = Annotated[bool, tyro.conf.arg(help=fresh_help)]
    own: list[tuple[str, Any, Any]] = [
        ("config", config_type, field(default=row)),
        ("fresh", fresh_type, field(default=False)),
    ]
    for number, kind in enumerate(kinds):
        if not _is_field(row, kind):  # read already, by `with_kinds`: here it is shown, and not unknown
            own.append((f"kind_{number}", choice_of(kind), field(default=_stated(row, kind))))
    return make_dataclass("Command", own, frozen=True)


def choice_of(kind: Kind) -> Any:
    """The type of the option that chooses a section's kind, as tyro takes it."""
    help_text = f"Which kind of {kind.section}; its settings are below, under {kind.section}."
    return Annotated[Literal[tuple(kind.names)], tyro.conf.arg(name=kind.option, help=help_text)]  # pyright: ignore


def _with_epochs_of(row: Config, args: Sequence[str]) -> Config:
    """The row stretched to the number of epochs that the command line asks for."""
    value = given("epochs", args)
    # A missing or wrong number is left to the full parser, which says so.
    return row.with_epochs(int(value)) if value and value.isdecimal() and int(value) >= 1 else row


def _with_rate_for_batch(row: Config, args: Sequence[str]) -> Config:
    """The row, which is the parser's own, with the learning rate of the batch size that the command line asks for."""
    value = given("batch-size", args)
    if value and value.isdecimal() and int(value) >= 1 and given("optimizer.lr", args) is None:
        object.__setattr__(row, "optimizer", row.optimizer.for_batch(int(value), row.batch_size))
    return row


def describe_rate(row: RunConfig, config: RunConfig, args: Sequence[str]) -> str | None:
    """What the log says of a learning rate that followed `--batch-size`; None where none did.

    Args:
        row: as config.py has it.
        config: what a command line made of it.
        args: that command line.
    """
    if config.batch_size == row.batch_size or given("optimizer.lr", args) is not None:
        return None
    exponent = config.optimizer.lr_exponent
    rule = {1.0: "linearly", 0.5: "by its square root"}.get(exponent, f"to the power of {exponent:g}")
    return (
        f"the learning rate follows the batch size {rule}: {config.optimizer.lr:g} at {config.batch_size} images for "
        f"{row.optimizer.lr:g} at {row.batch_size} (--optimizer.lr sets another)"
    )
