"""Training an image classifier: the whole story, from top to bottom.

An experiment's train.py calls `main` with the rows of its config.py. `train` builds data, network and optimizer,
goes on from a checkpoint if there is one, and loops over epochs. What it calls lies in the earlier folders of
`public/`.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from public.backbones.build import build_network
from public.backbones.catalog import check_backbone_name
from public.backbones.classifier import ImageClassifier
from public.config.classification import ClassificationConfig
from public.config.record import environment_record, to_record
from public.datasets.batches import EvalLoader
from public.datasets.classification import build_train_data
from public.evaluation.classification import evaluate
from public.evaluation.complexity import count
from public.losses.classification import cross_entropy
from public.optim.ema import AveragedWeights
from public.optim.optimizers import build_optimizer
from public.optim.train_state import TrainState
from public.optim.update import Updater
from public.recipes.preparation import preparation
from public.recipes.run import Run, evaluation_batches, log_start, run_epochs, run_experiment
from public.runtime.device import choose_precision, device_name, use_deterministic_kernels
from public.runtime.distributed import World
from public.runtime.interruption import Interruption
from public.runtime.parallel import check_data_parallel, check_sync_batch_norm, wrap
from public.runtime.run_folder import RunFolder
from public.runtime.seeding import seed_everything
from public.weights.loading import load_weights

logger = logging.getLogger(__name__)

PANELS = (("loss", ("train_loss", "loss")), ("learning rate", ("lr",)), ("accuracy", ("top1", "top5")))


def main(configs: Mapping[str, ClassificationConfig], script: str, argv: Sequence[str] | None = None) -> None:
    """Runs an experiment from its command line: see `run_experiment`."""
    run_experiment(configs, train, script, argv)


class ClassificationTask(nn.Module):
    """Network and loss in one module: what DDP, nn.DataParallel and torch.compile wrap."""

    def __init__(self, classifier: ImageClassifier, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.classifier, self.label_smoothing = classifier, label_smoothing

    def forward(self, images: torch.Tensor, *labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Images [B, 3, H, W], 0..255; int64 [B], or three tensors of mixed images -> the named losses, batch means."""
        loss = cross_entropy(self.classifier(images), *labels, label_smoothing=self.label_smoothing)
        return {"cross_entropy": loss}


def train(config: ClassificationConfig, path: Path, world: World, *, fresh: bool = False) -> int:
    """Trains one row.

    Args:
        config: the row.
        path: the run folder.
        world: this process's place.
        fresh: start over, keeping an old run folder aside.

    Returns:
        The exit code: 0 after the last epoch, 128 + the signal that stopped the run before it.

    Raises:
        ValueError: a setting, the data, the weights or the checkpoint do not fit; the message says which and how.
        NonFiniteLossError: a loss became infinite or NaN.
    """
    # ---- checks and data --------------------------------------------------------------------------------------------
    check_data_parallel(config.parallel, config.local_batch_size(world.size), world)
    check_sync_batch_norm(config.sync_batch_norm, world)
    check_backbone_name(config.network)
    data = build_train_data(config, world)

    # ---- network and optimizer --------------------------------------------------------------------------------------
    seed_everything(config.seed)
    if config.runtime.deterministic:
        use_deterministic_kernels()
    network = build_network(config.network, num_classes=len(data.class_names), **config.network_options.options())
    folder, loaded = RunFolder(path, world.is_main), None
    # A checkpoint holds all that the weights to start from gave; they may be gone by then.
    if config.initial_weights is not None and not folder.will_go_on(fresh):
        loaded = load_weights(network, config.initial_weights, allow_mismatched=network.classifier_prefix)
    dtype = choose_precision(config.precision, world.device)
    task = ClassificationTask(classifier_of(network, config, dtype), config.label_smoothing or 0.0)
    wrapped = wrap(
        task,
        world,
        sync_batch_norm=config.sync_batch_norm,
        parallel=config.parallel,
        compiled=config.compile,
        channels_last=config.channels_last,
    )
    prepare = preparation(config, network, data.train.steps_per_epoch)
    optimizer = build_optimizer(network, config.optimizer)
    ema = AveragedWeights(network, config.ema_decay) if config.ema_decay is not None else None
    updater = Updater(
        wrapped,
        network,
        optimizer,
        world,
        dtype=dtype,
        clip_grad_norm=config.clip_grad_norm,
        ema=ema,
        prepare=prepare,
    )
    evaluated = task.classifier if ema is None else classifier_of(ema.network, config, dtype).to(world.device)

    # ---- resume -----------------------------------------------------------------------------------------------------
    folder.open(fresh)  # only now: a mistake above moves no old run aside
    if loaded is not None:
        logger.info(f"initial weights {config.initial_weights}: {loaded}")
    world.barrier()  # nobody looks for latest.pth before an old folder is out of the way
    run = Run(
        config=config,
        world=world,
        loader=data.train,
        class_names=data.class_names,
        num_images=data.num_images,
        folder=folder,
        state=TrainState(network, optimizer, updater.scaler, ema),
        interruption=Interruption(world, config.runtime.save_every_minutes),
        best_metric=config.best_metric,
        panels=PANELS,
    )
    resumed = run.state.resume(folder.latest, world, run.identity)
    folder.write_history(run.state.history, run.global_step)
    folder.write_json("config.json", to_record(config))
    folder.write_json("environment.json", environment_record(device_name(world.device), world.size))
    if world.is_main:
        summary = f"{config.network}, {count(network, config.input_size)} at {config.input_size}x{config.input_size}"
        log_start(run, summary, data.val.num_images, str(dtype).removeprefix("torch."), resumed)

    # ---- the loop: see run_epochs ---------------------------------------------------------------------------------
    return run_epochs(run, wrapped, updater, lambda: evaluate_epoch(run, evaluated, data.val))


def classifier_of(network: nn.Module, config: ClassificationConfig, dtype: torch.dtype) -> ImageClassifier:
    """The network with the config's normalisation and layout around it."""
    mean, std = config.data.mean, config.data.std
    return ImageClassifier(network, mean=mean, std=std, dtype=dtype, channels_last=config.channels_last)


def evaluate_epoch(run: Run, classifier: ImageClassifier, loader: EvalLoader) -> dict[str, float]:
    """Evaluates, over all processes, with progress lines; gives top1, top5 and loss."""
    run.world.broadcast_buffers(classifier)
    batches, after_batch = evaluation_batches(run, loader)
    metrics = evaluate(classifier, batches, run.world, after_batch=after_batch)
    del metrics["num_images"]
    return metrics
