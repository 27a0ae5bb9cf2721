"""What was learned before the first request: the shipped weights, and the reference models that new ones start from.

`weights.bin` is made by `bench.routing.train` from a file of questions with their subjects and with whether a weak
and a strong model answered them rightly; `Weights.source` says which. It is read once, at import: nothing here
touches a file at call time.

Above it: `features`, `regression`. Below it: numpy, msgspec. Outside it: training.
"""

import zlib
from functools import cached_property
from importlib.resources import files

import msgspec
import numpy
from numpy.typing import NDArray

Vector = NDArray[numpy.float32]
"""One value a feature."""


class Weights(msgspec.Struct, frozen=True, dict=True):
    """Trained numbers.

    topics: names. table: for each hashed word (`buckets` rows) its evidence for each topic, as int8 in units of
    `unit`; weak, strong: coefficients (float32, one a feature) of the expected quality of two reference models,
    weak_quality and strong_quality their averages. features: the names that coefficients belong to.
    source: what it was trained on; rows: how many questions.
    """

    topics: tuple[str, ...]
    buckets: int
    unit: float
    table: bytes
    features: tuple[str, ...]
    weak: bytes
    strong: bytes
    weak_quality: float
    strong_quality: float
    source: str = ""
    rows: int = 0

    @cached_property
    def evidence(self) -> NDArray[numpy.int8]:
        """`table` with a row a bucket and a column a topic."""
        return numpy.frombuffer(self.table, numpy.int8).reshape(self.buckets, len(self.topics))

    @cached_property
    def references(self) -> tuple[Vector, Vector]:
        """The coefficients of the weak and of the strong reference model."""
        return numpy.frombuffer(self.weak, numpy.float32), numpy.frombuffer(self.strong, numpy.float32)

    def prior(self, quality: float) -> Vector:
        """Coefficients to begin with for a model whose average quality (0 to 1) is all that is known.

        Between the two references they are mixed; beyond them only the level moves, for nothing is known there of
        which questions make the difference. The first feature is constant, so that its coefficient is the level.
        """
        weak, strong = self.references
        gap = self.strong_quality - self.weak_quality
        share = min(1.0, max(0.0, (quality - self.weak_quality) / gap)) if gap > 0 else 0.5
        coefficients = weak + numpy.float32(share) * (strong - weak)
        coefficients[0] += quality - (self.weak_quality + share * gap)
        return coefficients


def encode(weights: Weights) -> bytes:
    """The bytes of `weights.bin`."""
    return zlib.compress(msgspec.msgpack.encode(weights), 9)


def decode(data: bytes) -> Weights:
    """The weights in the bytes of `weights.bin`. Raises msgspec.DecodeError or zlib.error if they are none."""
    return msgspec.msgpack.decode(zlib.decompress(data), type=Weights)


SHIPPED = decode(files("pipelines.routing.learning").joinpath("weights.bin").read_bytes())
"""The weights that come with the code."""
