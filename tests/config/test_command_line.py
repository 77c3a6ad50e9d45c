"""The command line: rows, settings, and what it says to mistakes."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from public.backbones.catalog import NETWORK_KIND
from public.config.classification import ClassificationConfig
from public.config.command_line import choose_row, describe_rate, fail, in_present_folder, parse_config, with_kinds
from public.config.run import RuntimeConfig
from public.datasets.cifar100 import Cifar100Data
from public.datasets.imagenet import ImageFolderData
from public.optim.options import AdamWOptions, CosineOptions, MultistepOptions, SGDOptions
from public.recipes.classification import ClassificationTask

Rows = dict[str, ClassificationConfig]
KINDS = ClassificationTask.kinds


@pytest.fixture
def rows(config: ClassificationConfig) -> Rows:
    """Two rows, the first of which is the default."""
    config = with_kinds(config, KINDS)  # the network's options of its family's kind, as the parser makes them
    return {"tiny": config, "wide": replace(config, name="wide", network="resnet34cifar", batch_size=32)}


def refusal(rows: Rows, line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What stderr says when the line is refused with exit code 2, without tyro's box."""
    with pytest.raises(SystemExit) as stop:
        parse_config(rows, line.split(), KINDS, prog="train.py")
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return " ".join(word for word in captured.err.split() if not set(word) <= set("│╭╮╰╯─"))


def test_no_arguments_mean_the_first_row(rows: Rows) -> None:
    """The row comes back as it is written, and the run is not a fresh one."""
    assert parse_config(rows, [], KINDS) == (rows["tiny"], False)


def test_row_and_settings(rows: Rows) -> None:
    """A row's name, then settings of any section; everything else stays the row's."""
    line = "wide --optimizer.lr 0.05 --schedule.milestones 2.5 7 --runtime.num-workers 0 --precision bf16 --fresh"
    config, fresh = parse_config(rows, line.split(), KINDS)
    assert fresh
    wide = rows["wide"]
    assert config == replace(
        wide,
        optimizer=replace(wide.optimizer, lr=0.05),
        schedule=replace(wide.schedule, milestones=(2.5, 7.0)),
        runtime=replace(wide.runtime, num_workers=0),
        precision="bf16",
    )


@pytest.mark.parametrize(
    ("option", "section", "name", "expected"),
    [
        ("--data.published-archive False", "data", "published_archive", False),
        ("--optimizer.nesterov", "optimizer", "nesterov", True),
        ("--optimizer.no-decay-norm-and-bias", "optimizer", "decay_norm_and_bias", False),
        ("--runtime.processes None", "runtime", "processes", None),
        ("--data.mean 0 0.5 1", "data", "mean", (0.0, 0.5, 1.0)),
    ],
)
def test_values_are_typed(rows: Rows, option: str, section: str, name: str, expected: object) -> None:
    """Booleans are booleans, None is None, tuples have their length."""
    assert getattr(getattr(parse_config(rows, option.split(), KINDS)[0], section), name) == expected


@pytest.mark.parametrize("flag", ["--compile", "--channels-last", "--sync-batch-norm"])
def test_flags(rows: Rows, flag: str) -> None:
    """A setting that is off by default is switched on by its name."""
    name = flag.removeprefix("--").replace("-", "_")
    assert parse_config(rows, [flag], KINDS)[0] == replace(rows["tiny"], **{name: True})


@pytest.mark.parametrize("option", ["--local-rank=1", "--local_rank=1"])
def test_the_launchers_local_rank_is_passed_over(rows: Rows, option: str) -> None:
    """torch.distributed.launch puts it before the script's own arguments."""
    assert parse_config(rows, [option, "wide"], KINDS) == (rows["wide"], False)


@pytest.mark.parametrize("line", ["--epochs 25", "--epochs=25", "tiny --epochs 25 --optimizer.lr 0.1"])
def test_epochs_stretch_milestones_and_warmup(rows: Rows, line: str) -> None:
    """10 -> 25 epochs: milestones 4, 8 become 10, 20 and the warm-up of 1 epoch 2.5."""
    schedule: Any = parse_config(rows, line.split(), KINDS)[0].schedule
    assert (schedule.milestones, schedule.warmup_epochs) == ((10.0, 20.0), 2.5)


def test_a_schedule_field_given_beside_epochs_is_taken_as_given(rows: Rows) -> None:
    """Only what the command line leaves alone is stretched."""
    line = "--epochs 25 --schedule.milestones 12 --schedule.gamma 0.5"
    schedule: Any = parse_config(rows, line.split(), KINDS)[0].schedule
    assert (schedule.milestones, schedule.gamma, schedule.warmup_epochs) == ((12.0,), 0.5, 2.5)


@pytest.mark.slow
@pytest.mark.parametrize("spelled", ["--batch-size 32", "--batch_size 32", "--batch-size=32"])
def test_the_learning_rate_follows_the_batch_size(rows: Rows, spelled: str) -> None:
    """0.1 at 16 images: 0.2 at 32, and adamw's by the square root of 2, with the rate that the row has; what is typed,
    and what stays, is taken as it is."""
    row, lines = rows["tiny"], [spelled, f"{spelled} --optimizer.name adamw", f"{spelled} --optimizer.lr 0.1"]
    configs = [parse_config(rows, line.split(), KINDS)[0] for line in lines]
    assert [config.optimizer.lr for config in configs] == [0.2, 0.141421, 0.1]
    assert [config.batch_size for config in configs] == [32] * 3
    notes = [describe_rate(row, config, line.split()) for line, config in zip(lines, configs, strict=True)]
    assert notes == [
        "the learning rate follows the batch size linearly: 0.2 at 32 images for 0.1 at 16 (--optimizer.lr sets "
        "another)",
        "the learning rate follows the batch size by its square root: 0.141421 at 32 images for 0.1 at 16 "
        "(--optimizer.lr sets another)",
        None,
    ]
    assert parse_config(rows, ["--batch-size", "16"], KINDS) == (row, False)
    assert describe_rate(row, row, ["--batch-size", "16"]) is None


def test_unknown_row(rows: Rows, capsys: pytest.CaptureFixture[str]) -> None:
    """The nearest row is named; with none near, all of them."""
    assert refusal(rows, "wid", capsys) == "error: this experiment has no row 'wid'; the nearest: wide"
    assert "no row 'xxx'; there are: tiny, wide" in refusal(rows, "xxx", capsys)


@pytest.mark.parametrize("line", ["--epochs 1 wide", "--fresh wide", "tiny --epochs 1 wide"])
def test_a_row_behind_options(rows: Rows, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Is told where it stands."""
    assert "error: wide is a row, which stands before all options: train.py wide --epochs 1" in refusal(
        rows, line, capsys
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--optimizer.lrr 0.1", ("--optimizer.lrr", "Perhaps you meant: --optimizer.lr FLOAT")),
        ("--epoch 3", ("--epoch, 3", "Perhaps you meant: --epochs INT")),
        ("--batchsize 3", ("--batchsize", "--batch-size INT")),
        ("--data.train-transforms x", ("--data.train-transforms",)),
        ("--batch-size many", ("--batch-size", "invalid literal for int() with base 10: 'many'")),
        ("--batch-size 1.5", ("--batch-size", "'1.5'")),
        ("--epochs x", ("--epochs", "'x'")),
        ("--epochs 0", ("epochs=0 must be 1 or more",)),
        ("--optimizer.name adam", ("error: --optimizer.name adam: there is no such one; the nearest: adamw",)),
        ("--precision fp8", ("'fp8'", "--precision", "('auto', 'fp32', 'bf16', 'fp16')")),
        ("--data.mean 0 0", ("--data.mean",)),
        ("--accumulation-steps 3", ("batch_size=16 must be divisible by", "1 x 3 = 3")),
        ("--schedule.milestones 4 10", ("[10.0] would never be reached in epochs=10",)),
        ("--schedule.final-factor 0.1", ("--schedule.final-factor",)),
        ("--schedule.kind step", ("--schedule.kind step: there is no such one; the nearest: multistep",)),
        ("--optimizer.name adamw --optimizer.momentum 0.8", ("--optimizer.momentum",)),
        ("--network resnet18cifr", ("--network resnet18cifr: there is no such one; the nearest: resnet18cifar",)),
        ("--network-options.negative-slope 0.2", ("--network-options.negative-slope",)),
        ("--parallel data_parallel --runtime.processes 2", ("runs one process: runtime.processes=2",)),
        ("--data.decoder pil", ("--data.decoder",)),
        ("--data.dataset imagnet", ("--data.dataset imagnet: there is no such one; the nearest: imagenet",)),
        (
            "--data.dataset voc",
            ("it is for data with boxes, see detection_experiments/own_data_finetune; there are: imagenet, cifar100",),
        ),
        ("--input-size 48", ("error: --input-size is called --data.input-size now",)),
        ("--canvas_size=3", ("error: --canvas_size is called --data.input-size now",)),
        ("--seed 99999999999999999999", ("seed=99999999999999999999 must lie within 0..9223372036854775807",)),
        ("--data.input-size 0", ("data.input_size=0 must lie within 1..8192 pixels",)),
        ("--data.mean 0 nan 0", ("data.mean=(0.0, nan, 0.0) must be finite",)),
        ("--optimizer.weight-decay inf", ("optimizer.weight_decay=inf must be finite",)),
        ("--parallel data_parallel --sync-batch-norm", ("sync_batch_norm=True has no effect",)),
        ("tiny wide", ("wide",)),
    ],
)
def test_refused_with_exit_code_2(
    rows: Rows, line: str, expected: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """One message on stderr that names the option, the value and what is allowed."""
    message = refusal(rows, line, capsys)
    for part in expected:
        assert part in message


def test_help_shows_every_setting_with_its_text(rows: Rows, capsys: pytest.CaptureFixture[str]) -> None:
    """All fields of all sections but the transforms, the options that choose kinds, and the rows; exit code 0."""
    with pytest.raises(SystemExit) as stop:
        parse_config(rows, ["wide", "--help"], KINDS, prog="train.py")
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    sections = {"data": Cifar100Data, "optimizer": SGDOptions, "schedule": MultistepOptions, "runtime": RuntimeConfig}
    names = [f"--{f.name}" for f in fields(ClassificationConfig) if f.name not in sections]
    names += [f"--{section}.{f.name}" for section, kind in sections.items() for f in fields(kind)]
    names += [f"--{kind.option}" for kind in KINDS]
    shown = [name for name in names if name.replace("_", "-") in text]
    assert sorted(set(names) - set(shown)) == ["--data.train_transforms", "--data.val_images", "--data.val_transforms"]
    assert "Rows: tiny, wide (the first is the default). The defaults below are those of wide." in text
    assert "Images per optimizer step, over all processes" in text
    assert "--optimizer.betas" not in text, "settings of another kind are not shown"


@pytest.mark.parametrize("spelled", ["--optimizer.name adamw", "--optimizer.name=adamw"])
def test_another_kind_brings_its_own_settings(rows: Rows, spelled: str) -> None:
    """Its defaults, with what the row stated under the same names."""
    row = replace(rows["tiny"], optimizer=SGDOptions(lr=0.1, weight_decay=5e-4, momentum=0.8, lookahead_steps=5))
    config, _ = parse_config({"tiny": row}, f"{spelled} --optimizer.betas 0.8 0.99".split(), KINDS)
    assert config.optimizer == AdamWOptions(lr=0.1, weight_decay=5e-4, lookahead_steps=5, betas=(0.8, 0.99))


def test_kinds_of_schedules_and_networks(rows: Rows) -> None:
    """A cosine keeps the warm-up; a network of another family has that family's options."""
    line = "--schedule.kind cosine --schedule.final-factor 0.1 --network darknet53 --network-options.negative-slope 0.2"
    config, _ = parse_config(rows, line.split(), KINDS)
    assert config.schedule == CosineOptions(warmup_epochs=1, final_factor=0.1)
    assert config.network == "darknet53"
    assert type(config.network_options) is NETWORK_KIND.type_of("darknet53")
    assert config.network_options.negative_slope == 0.2  # pyright: ignore[reportAttributeAccessIssue]


def test_what_another_kind_needs_comes_from_the_command_line(
    config: ClassificationConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """Milestones have no default, and a cosine has none to carry over."""
    rows = {"tiny": replace(config, schedule=CosineOptions(warmup_epochs=1))}
    line = "--schedule.kind multistep --schedule.milestones 3 6"
    schedule = parse_config(rows, line.split(), KINDS)[0].schedule
    assert schedule == MultistepOptions(warmup_epochs=1, milestones=(3.0, 6.0))
    assert "--schedule.milestones" in refusal(rows, "--schedule.kind multistep", capsys)


def test_another_format_of_data(config: ClassificationConfig) -> None:
    """Folder, size and transforms carry over, what is CIFAR's own does not."""
    folders = with_kinds(config, KINDS, ["--data.dataset", "imagenet"])
    transforms = config.data.train_transforms
    assert folders.data == ImageFolderData(folder="CIFAR100", input_size=32, train_transforms=transforms)


def test_choose_row_leaves_the_settings(rows: Rows) -> None:
    """A first argument with a dash belongs to the default row."""
    assert choose_row(rows, ["--fresh"]) == (rows["tiny"], ["--fresh"])
    assert choose_row(rows, ["wide", "--fresh"]) == (rows["wide"], ["--fresh"])


def test_fail(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and one line on stderr."""
    with pytest.raises(SystemExit) as stop:
        fail("no such thing.")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: no such thing.\n"


@pytest.mark.parametrize("line", ["--epochs", "--epochs --fresh"])
def test_epochs_without_a_number(config: ClassificationConfig, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused like any other option without its value."""
    with pytest.raises(SystemExit) as stop:
        parse_config({"tiny": config}, line.split(), KINDS, prog="train.py")
    assert stop.value.code == 2
    assert "--epochs" in capsys.readouterr().err


def test_a_folder_that_is_typed(config: ClassificationConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies below the present folder is meant, where it is typed: not the row's own, which is below DATA_ROOT."""
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    data = replace(config.data, folder="photos")
    assert in_present_folder(data, ["--epochs", "2"]) is data
    assert in_present_folder(data, ["--data.folder", "photos"]).folder == str(tmp_path / "photos")
    elsewhere = replace(data, folder="ILSVRC2012")
    assert in_present_folder(elsewhere, ["--data.folder=ILSVRC2012"]) is elsewhere
    row = with_kinds(replace(config, data=data), KINDS)
    assert parse_config({"tiny": row}, [], KINDS)[0].data.folder == "photos"
    assert parse_config({"tiny": row}, ["--data.folder", "photos"], KINDS)[0].data.folder == str(tmp_path / "photos")
