"""The models that are served, each with its queue."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np

from fastdigit.errors import UnsupportedError
from fastdigit.model import Model
from fastdigit.serve.batching import Batcher
from fastdigit.serve.errors import RequestError
from fastdigit.serve.metrics import Metrics
from fastdigit.serve.protocol import VERSION, Head, Signature
from fastdigit.serve.settings import Settings

__all__ = ["Models", "Served"]

# A batch with more multiply-adds (tens of milliseconds) is run beside the event loop. A smaller one
# is done sooner than another thread would have begun.
INLINE_MULTIPLY_ADDS: Final = 1_000_000_000


class Served:
    """A model, its queue, and what is said and counted about it."""

    def __init__(self, name: str, model: Model, settings: Settings, metrics: Metrics) -> None:
        facts = model.info()
        if len(model.inputs) > 1:
            raise UnsupportedError(
                f"model {name} has {len(model.inputs)} inputs; the server takes models of one"
            )
        ends = ("has_softmax", "has_sigmoid", "has_log_softmax")
        probable = any(facts[end] for end in ends)
        heads = tuple(Head(*head) for head in model.outputs.items())
        run: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, np.dtype[np.float32]]]
        run = model.predict_proba if probable else model.logits
        if len(heads) > 1:
            run = self._run_all
        self.model = model
        self.signature = Signature(
            name=name,
            shape=model.input_shape,
            outputs=facts["outputs"],
            values="probabilities" if probable else "logits",
            accepts_bytes=facts["accepts_u8"],
            range=facts["range"],
            labels=model.has_labels,
            heads=heads if len(heads) > 1 else (),
        )
        self.metrics = metrics.of_model(name)
        work = facts["multiply_adds"] * settings.max_batch_size
        self.batcher = Batcher(
            run,
            max_batch_size=settings.max_batch_size,
            max_queue_delay_microseconds=settings.max_queue_delay_microseconds,
            max_queue_size=settings.max_queue_size,
            timeout=settings.timeout,
            executor=None
            if work <= INLINE_MULTIPLY_ADDS
            else ThreadPoolExecutor(1, f"fastdigit-{name}"),
            observe=self.metrics.batch,
        )
        metrics.watch_depth(name, lambda: self.batcher.depth)

    async def infer(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
        if not len(images):
            return np.empty((0, self.signature.values_of_image), np.float32)
        return await self.batcher.submit(images)

    def _run_all(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """All outputs of each image, one after the other."""
        n = len(images)
        results = self.model.run(images).values()
        return np.concatenate([result.reshape(n, -1) for result in results], axis=1)


class Models(dict[str, Served]):
    """Models by the name they are served as.

    Parameters
    ----------
    settings
        What to serve.
    metrics
        Where they count.
    open_model
        Opens each.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, open_model: Callable[..., Model]
    ) -> None:
        options = {"threads": settings.threads, "limits": settings.model_limits}
        super().__init__(
            (name, Served(name, open_model(path, **options), settings, metrics))
            for name, path in settings.paths().items()
        )

    def find(self, name: str, version: str | None = None) -> Served:
        """Return a model; :class:`RequestError` (404) if there is none of that name or version."""
        served = self.get(name)
        if served is None:
            raise RequestError(404, f"there is no model {name[:80]!r}; there are {', '.join(self)}")
        if version not in (None, VERSION):
            raise RequestError(404, f"model {name!r} has no version but {VERSION}")
        return served
