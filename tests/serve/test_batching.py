"""The queue: every answer comes, to whoever asked, whatever else is going on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdigit.errors import InputError
from fastdigit.serve.batching import Batcher
from fastdigit.serve.errors import RequestError

pytestmark = pytest.mark.filterwarnings("error")


class Engine:
    """Stands in for a model: the outputs of an image are its number and twice that."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.gate: threading.Event | None = None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        if self.gate is not None:
            assert self.gate.wait(30)
        self.batches.append(len(images))
        if np.isnan(images.astype(float)).any():
            raise InputError("NaN")
        numbers = images.reshape(len(images), -1)[:, 0].astype(np.float32)
        if (numbers == 13).any():
            raise RuntimeError("the engine broke")
        return np.stack([numbers, 2 * numbers], axis=1)


def batcher(engine: Callable[[np.ndarray], np.ndarray], **changes: Any) -> Batcher:
    options: dict[str, Any] = {
        "max_batch_size": 8,
        "max_queue_delay_microseconds": 0,
        "max_queue_size": 1000,
        "timeout": 30.0,
    }
    return Batcher(engine, **{**options, **changes})


def images(*numbers: float, dtype: Any = np.float32) -> np.ndarray:
    return np.array(numbers, dtype)[:, None]


def right(answer: np.ndarray, asked: np.ndarray) -> bool:
    numbers = asked[:, 0].astype(np.float32)
    return bool((answer == np.stack([numbers, 2 * numbers], axis=1)).all())


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 20),
            st.sampled_from([np.uint8, np.float32]),
            st.booleans(),
            st.booleans(),
        ),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 16),
    st.sampled_from([0, 1000]),
    st.booleans(),
)
def test_no_answer_is_lost_or_swapped(
    requests: list[tuple[int, Any, bool, bool]], size: int, delay: int, threaded: bool
) -> None:
    """Whatever comes together, of both kinds, with some wrong and some given up."""

    async def main(executor: ThreadPoolExecutor | None) -> None:
        engine = Engine()
        queue = batcher(
            engine, max_batch_size=size, max_queue_delay_microseconds=delay, executor=executor
        )
        number = 20.0
        asked = []
        for rows, dtype, wrong, cancelled in requests:
            batch = images(*(number + i for i in range(rows)), dtype=dtype)
            wrong = wrong and dtype is np.float32
            if wrong:
                batch[-1] = np.nan
            number = (number + rows) % 200 + 20
            future = queue.submit(batch)
            asked.append((batch, future, wrong, cancelled))
            if cancelled:
                future.cancel()
            elif rows % 3 == 0:
                await asyncio.sleep(0)
        for batch, future, wrong, cancelled in asked:
            if cancelled:
                assert future.cancelled() or future.done()
            elif wrong:
                with pytest.raises(InputError, match="NaN"):
                    await future
            else:
                assert right(await future, batch)
        while queue.depth:  # those that were given up are dropped when their turn comes
            await asyncio.sleep(0.001)
        assert max(engine.batches, default=0) <= size

    with ThreadPoolExecutor(1) as executor:
        run(main(executor if threaded else None))


def test_what_comes_together_runs_together_without_delay() -> None:
    async def main() -> None:
        engine = Engine()
        queue = batcher(engine)
        await asyncio.gather(*(queue.submit(images(i)) for i in range(20, 40)))
        assert engine.batches == [8, 8, 4]

    run(main())


def test_what_comes_while_the_engine_is_busy_runs_together() -> None:
    async def main(executor: ThreadPoolExecutor) -> None:
        engine = Engine()
        engine.gate = threading.Event()
        queue = batcher(engine, executor=executor)
        first = queue.submit(images(1))
        while queue.depth:
            await asyncio.sleep(0)
        others = [queue.submit(images(i)) for i in range(20, 25)]
        engine.gate.set()
        await asyncio.gather(first, *others)
        assert engine.batches == [1, 5]

    with ThreadPoolExecutor(1) as executor:
        run(main(executor))


def test_delay_collects_but_a_full_batch_does_not_wait() -> None:
    async def main() -> None:
        engine = Engine()
        queue = batcher(engine, max_queue_delay_microseconds=20_000)
        one = queue.submit(images(1))
        await asyncio.sleep(0.002)
        two = queue.submit(images(2))
        await asyncio.gather(one, two)
        assert engine.batches == [2]

        patient = batcher(engine, max_queue_delay_microseconds=3_600_000_000)
        early = patient.submit(images(3))
        await asyncio.sleep(0.002)
        await asyncio.gather(early, *(patient.submit(images(i)) for i in range(20, 27)))
        assert engine.batches == [2, 8]

    run(main())


def test_a_long_request_is_run_in_parts_and_others_come_between() -> None:
    async def main() -> None:
        engine = Engine()
        queue = batcher(engine)
        numbers = images(*range(20, 120))
        long = queue.submit(numbers)
        short = queue.submit(images(7))
        assert right(await short, images(7))
        assert not long.done() and engine.batches == [8] * 2
        later = queue.submit(images(8))
        assert right(await later, images(8))
        assert not long.done() and len(engine.batches) <= 4
        assert right(await long, numbers)
        assert engine.batches == [8] * 12 + [6]

    run(main())


def test_the_queue_is_bounded() -> None:
    async def main() -> None:
        queue = batcher(Engine(), max_queue_size=10)
        with pytest.raises(RequestError) as error:
            queue.submit(images(*range(11)))
        assert error.value.status == 413
        waiting = [queue.submit(images(*range(20, 25))) for _ in range(2)]
        with pytest.raises(RequestError) as error:
            queue.submit(images(1))
        assert error.value.status == 429
        await asyncio.gather(*waiting)
        assert right(await queue.submit(images(1)), images(1))

    run(main())


def test_a_request_times_out_and_makes_room() -> None:
    async def main(executor: ThreadPoolExecutor) -> None:
        engine = Engine()
        engine.gate = threading.Event()
        queue = batcher(engine, timeout=0.05, executor=executor, max_queue_size=5)
        running = queue.submit(images(1))
        while queue.depth:
            await asyncio.sleep(0)
        waiting = queue.submit(images(*range(20, 25)))
        for future in (running, waiting):
            with pytest.raises(RequestError) as error:
                await future
            assert error.value.status == 504
        assert queue.depth == 0
        engine.gate.set()
        assert right(await queue.submit(images(2)), images(2))
        assert engine.batches == [1, 1]

    with ThreadPoolExecutor(1) as executor:
        run(main(executor))


@pytest.mark.parametrize("threaded", [False, True])
def test_an_engine_that_fails_fails_the_requests_and_goes_on(
    threaded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(executor: ThreadPoolExecutor | None) -> None:
        queue = batcher(Engine(), executor=executor)
        long = queue.submit(images(*range(100)))
        with pytest.raises(RuntimeError, match="broke"):
            await long
        assert queue.depth == 0
        assert right(await queue.submit(images(1)), images(1))

    with ThreadPoolExecutor(1) as executor:
        run(main(executor if threaded else None))
    assert "failed" in caplog.text


def test_batches_are_observed() -> None:
    async def main() -> None:
        seen: list[tuple[int, float]] = []
        queue = batcher(Engine(), observe=lambda size, seconds: seen.append((size, seconds)))
        await asyncio.gather(queue.submit(images(20, 21)), queue.submit(images(22)))
        assert [size for size, _ in seen] == [3] and seen[0][1] >= 0

    run(main())
