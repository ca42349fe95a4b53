"""Who comes next: clients in turn, each one's requests as they came, and no place is lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdigit.serve.turns import Turns


def test_a_client_waits_behind_its_own() -> None:
    async def main() -> list[str]:
        turns, order = Turns(1), []

        async def job(name: str) -> None:
            async with turns.turn(name[0], 60):
                order.append(name)
                await asyncio.sleep(0)

        await asyncio.gather(*map(job, ("a1", "a2", "a3", "a4", "b1", "b2", "c1")))
        return order

    assert asyncio.run(main()) == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


def test_who_waits_too_long_leaves_and_is_not_waited_for() -> None:
    async def main() -> None:
        turns = Turns(1)
        async with turns.turn("a", 60):
            with pytest.raises(TimeoutError):
                async with turns.turn("b", 0.01):
                    raise AssertionError
            assert not turns._waiting
        async with turns.turn("b", 0):
            pass
        assert turns._free == 1

    asyncio.run(main())


@settings(deadline=None)
@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.booleans()), min_size=1, max_size=25
    ),
)
def test_places_are_neither_lost_nor_given_twice(
    places: int, jobs: list[tuple[str, int, bool]]
) -> None:
    """Whoever is cancelled, and whenever."""

    async def main() -> None:
        turns, inside, most = Turns(places), 0, 0

        async def job(client: str, steps: int) -> None:
            nonlocal inside, most
            async with turns.turn(client, 60):
                inside += 1
                most = max(most, inside)
                try:
                    for _ in range(steps):
                        await asyncio.sleep(0)
                finally:
                    inside -= 1

        tasks = []
        for client, steps, cancelled in jobs:
            tasks.append(asyncio.create_task(job(client, steps)))
            if cancelled:
                await asyncio.sleep(0)
                tasks[len(tasks) // 2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert inside == 0 and most <= places
        assert turns._free == places and not turns._waiting

    asyncio.run(main())
