"""From `sys.argv` to a config: the row's name first, then any setting of it.

    python train.py                                        the first row
    python train.py resnet101 --epochs 2 --optimizer.lr 0.05
    python train.py --fresh                                start over, keeping the old run folder aside

A mistake ends with exit code 2 and one message that names the nearest correct spelling.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import field, make_dataclass
from typing import Annotated, Any, NoReturn, TypeVar

import tyro

from public.config.names import nearest_names
from public.config.sections import RunConfig

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


def parse_config(configs: Mapping[str, Config], argv: Sequence[str], prog: str | None = None) -> tuple[Config, bool]:
    """Reads a command line.

    Changing `--epochs` keeps the schedule's shape: milestones and warm-up are stretched with the run, unless the
    command line sets them too.

    Args:
        configs: the experiment's rows, the first of which is the default.
        argv: the arguments after the program's name.
        prog: the program's name in messages.

    Returns:
        The config, and whether `--fresh` was given.

    Raises:
        SystemExit: code 2 and a message for a wrong argument; code 0 after --help.
    """
    # torch.distributed.launch still passes --local-rank; LOCAL_RANK in the environment says the same.
    args = [a for a in argv if not a.startswith(("--local-rank=", "--local_rank="))]
    row, args = choose_row(configs, args)
    row = _with_epochs_of(row, args)
    description = f"Rows: {', '.join(configs)} (the first is the default). The defaults below are those of {row.name}."
    try:
        command: Any = tyro.cli(_command_type(row), args=args, prog=prog, description=description)
    except ValueError as error:  # a config's own cross-check
        fail(str(error))
    return command.config, command.fresh


def _command_type(row: RunConfig) -> type:
    """The row's settings at the top level of the command line, and beside them what is not a setting."""
    config_type = Annotated[type(row), tyro.conf.arg(name="")]
    fresh_help = "Start over although a checkpoint is there; the old run folder is kept aside."
    fresh_type = Annotated[bool, tyro.conf.arg(help=fresh_help)]
    fields = [("config", config_type, field(default=row)), ("fresh", fresh_type, field(default=False))]
    return make_dataclass("Command", fields, frozen=True)


def _with_epochs_of(row: Config, args: Sequence[str]) -> Config:
    """The row stretched to the number of epochs that the command line asks for."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--epochs")
    try:
        value = parser.parse_known_args([a for a in args if a not in ("-h", "--help")])[0].epochs
    except argparse.ArgumentError:
        return row
    # A missing or wrong number is left to the full parser, which says so.
    return row.with_epochs(int(value)) if value and value.isdecimal() and int(value) >= 1 else row
