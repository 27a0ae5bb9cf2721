"""The router's sums outlive it: counters go on where they were, and no scrape sees them fall."""

from pathlib import Path

import msgspec
import pytest

from actors.checked_file import ASIDE
from actors.routing.meters import FILE, SAVING, Meters
from pipelines.metering import instruments
from pipelines.metering.cluster import SETTLING, Snapshot
from pipelines.metering.meter import Meter


class World:
    """A clock, a file, and a meter that has counted one retry."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = 1000.0
        self.meter = Meter("a", "gateway")
        self.count()

    def count(self) -> None:
        self.meter.counter(instruments.RETRIES, "p", "m").value += 1

    def meters(self) -> Meters:
        return Meters(str(self.directory), lambda: self.now)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def read(meters: Meters) -> tuple[bool, float]:
    snapshot = msgspec.msgpack.decode(meters.snapshot(), type=Snapshot)
    return snapshot.settled, sum(one.values[0] for one in snapshot.series)


async def test_counters_go_on_with_the_next_router(world: World) -> None:
    first = world.meters()
    first.take(world.meter.changes().encoded)
    assert read(first) == (True, 1.0)
    await first.save()
    world.count()  # told, and never written down
    first.take(world.meter.changes().encoded)
    second = world.meters()
    assert read(second) == (False, 1.0)
    world.meter.forget()
    second.take(world.meter.changes().encoded)
    world.now += SETTLING
    assert read(second) == (True, 2.0)


async def test_they_are_written_every_few_seconds_where_something_was_counted(world: World) -> None:
    meters, file = world.meters(), world.directory / FILE
    await meters.step()
    assert not file.exists()
    meters.take(world.meter.changes().encoded)
    await meters.step()
    assert file.stat().st_mode & 0o777 == 0o600
    file.unlink()
    world.count()
    meters.take(world.meter.changes().encoded)
    await meters.step()
    assert not file.exists()
    world.now += SAVING
    await meters.step()
    assert file.exists()


async def test_a_disk_that_fails_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    meters = world.meters()
    meters.take(world.meter.changes().encoded)
    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        await meters.save()
    assert not list(world.directory.iterdir())
    await meters.save()
    assert (world.directory / FILE).exists()


async def test_a_corrupt_file_is_put_aside(world: World) -> None:
    (world.directory / FILE).write_bytes(b"nonsense")
    assert read(world.meters()) == (True, 0.0)
    assert (world.directory / (FILE + ASIDE)).exists()
