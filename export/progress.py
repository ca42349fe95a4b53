"""How training shows that it is alive: bars with an ETA on a terminal, a line an epoch in a log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

__all__ = ["TrainingProgress"]


class TrainingProgress:
    """Context manager that shows epochs, and batches within the epoch.

    Parameters
    ----------
    epochs, first_epoch
        Epochs in all, and how many of them an earlier run has done.
    steps
        Batches an epoch.
    """

    def __init__(self, epochs: int, first_epoch: int, steps: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console = Console()
        self._steps = steps
        self._epochs = epochs
        self._first_epoch = first_epoch
        self._begin = time.monotonic()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._epoch_bar = self._bars.add_task(
            "epochs", total=epochs, completed=first_epoch, note=""
        )
        self._batch_bar = self._bars.add_task("batches", total=steps, note="")

    def __enter__(self) -> Self:
        self._begin = time.monotonic()
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def epoch_begins(self) -> None:
        self._bars.reset(self._batch_bar, total=self._steps, note="")

    def batch_ends(self, step: int, loss: float) -> None:
        """Report that `step` batches of the epoch are done."""
        self._bars.update(self._batch_bar, completed=step, note=f"loss {loss:.4f}")

    def epoch_ends(self, epoch: int, metrics: dict[str, float]) -> None:
        """Report that `epoch` epochs are done."""
        self._bars.update(self._epoch_bar, completed=epoch)
        values = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        elapsed = time.monotonic() - self._begin
        left = elapsed / (epoch - self._first_epoch) * (self._epochs - epoch)
        # print() of a live rich console goes above the bars; elsewhere it is a plain line.
        self._console.print(
            f"epoch {epoch:3d}/{self._epochs}  {values}  ETA {left / 60:.1f} min",
            highlight=False,
            soft_wrap=True,
        )
