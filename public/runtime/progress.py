"""How far a loop is: a bar in a terminal, plain lines elsewhere; images per second, waiting for data, time left."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Batch = TypeVar("Batch")

logger = logging.getLogger(__name__)


class Progress:
    """Reports on one pass over batches, and measures it.

    Args:
        title: what the lines begin with, "epoch 3/200" for instance.
        total_steps: steps of the whole pass.
        first_step: steps done before (a resumed epoch).
        every: steps between two reports.
        shown: False in all processes but the main one, which still measure.
    """

    def __init__(self, title: str, total_steps: int, first_step: int, every: int, shown: bool) -> None:
        self.title, self.total_steps, self.every, self.shown = title, total_steps, every, shown
        self.first_step = self.step = first_step
        self.start = time.perf_counter()
        self.wait_seconds = 0.0
        self.num_images = 0
        in_terminal = shown and sys.stderr.isatty()
        self.bar = (
            tqdm(
                total=total_steps,
                initial=first_step,
                desc=title,
                unit="step",
                leave=False,
                dynamic_ncols=True,
            )
            if in_terminal
            else None
        )

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Passes the batches on and counts the time spent waiting for them."""
        iterator = iter(batches)
        while True:
            start = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.wait_seconds += time.perf_counter() - start
            yield batch

    def advance(self, num_images: int, describe: Callable[[], str] = str) -> None:
        """Counts one step of `num_images`; `describe` is only called when a report is due (it may wait for a GPU)."""
        self.step += 1
        self.num_images += num_images
        if self.bar is not None:
            self.bar.update()
        if self.shown and (self.step % self.every == 0 or self.step == self.total_steps):
            self._report(describe())

    def _report(self, text: str) -> None:
        text = f"{text}  {self.images_per_second:.0f} images/s  waiting for data {self.wait_share:.0%}".strip()
        if self.bar is not None:
            self.bar.set_postfix_str(text)
            return
        per_step = self.seconds / (self.step - self.first_step)
        eta = clock(per_step * (self.total_steps - self.step))
        logger.info(f"{self.title}  step {self.step}/{self.total_steps}  {text}  eta {eta}")

    def measured(self) -> dict[str, float]:
        """Speed, share of the time spent waiting for data, and time of this pass, for metrics.jsonl."""
        return {
            "images_per_second": round(self.images_per_second, 1),
            "data_wait_share": round(self.wait_share, 4),
            "train_seconds": round(self.seconds, 1),
        }

    @property
    def seconds(self) -> float:
        """Time since the start of this pass."""
        return time.perf_counter() - self.start

    @property
    def images_per_second(self) -> float:
        """Images of all processes per second of this pass."""
        return self.num_images / max(self.seconds, 1e-9)

    @property
    def wait_share(self) -> float:
        """Part of the time that was spent waiting for data, 0..1."""
        return self.wait_seconds / max(self.seconds, 1e-9)

    def close(self) -> None:
        """Removes the bar."""
        if self.bar is not None:
            self.bar.close()


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, second = divmod(int(seconds + 0.5), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}"
