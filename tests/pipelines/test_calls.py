"""An answer is closed as a whole, whatever of it fails."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from pipelines.calls import Answer


class Rest:
    """A source that fails where it is told to, or takes a while."""

    def __init__(self, log: list[str], error: BaseException | None = None) -> None:
        self.log = log
        self.error = error

    async def close(self) -> None:
        self.log.append("source")
        if self.error is not None:
            raise self.error


async def frames(error: BaseException | None) -> AsyncGenerator[bytes, None]:
    try:
        yield b"a"
    finally:
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [ValueError("of the frames"), asyncio.CancelledError()])
async def test_all_is_closed_and_the_first_failure_is_raised(error: BaseException) -> None:
    log: list[str] = []

    def failing() -> None:
        log.append("closer")
        raise OverflowError

    answer = Answer(frames=frames(error))
    assert answer.frames is not None
    await anext(answer.frames)
    answer.hold(Rest(log, TypeError()))
    answer.hold(Rest(log))
    answer.on_close(failing)
    answer.on_close(lambda: log.append("place"))
    with pytest.raises(type(error)):
        await answer.close()
    assert log == ["source", "source", "closer", "place"]
    await answer.close()
    assert len(log) == 4
