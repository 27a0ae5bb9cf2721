"""The expected quality of every model for a vector of features, from what was seen of all of them.

A hierarchical Bayesian linear regression. For model m and features x, the quality seen is

    y = x . (prior_m + common + own_m) + noise        common ~ N(0, s2 / COMMON), own_m ~ N(0, s2 / OWN)

with noise of variance s2 = NOISE. `prior_m` is where the model starts (`Weights.prior`); `common` says which requests
are harder or easier for every model than was thought, `own_m` what this one is better or worse at. Only the answer of
the model that was chosen is ever seen; `common` lets it teach about the others. `own` is held tighter than `common`:
models differ less from each other than questions do.

The posterior is exact: with A_m the sum of w x x' and r_m the sum of w x (y - x . prior_m), own_m is eliminated from
the joint normal equations (the Schur complement; A. Gelman et al., "Bayesian Data Analysis", 3rd ed., chapter 15):

    (COMMON + sum_m A_m - A_m S_m A_m) common = sum_m r_m - A_m S_m r_m          S_m = (A_m + OWN)^-1
    own_m = S_m (r_m - A_m common)

Above it: `state`. Below it: `weights`, numpy. Outside it: randomness (standard normal numbers are an argument).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy
from numpy.typing import NDArray

from pipelines.routing.learning.weights import Vector

Matrix = NDArray[numpy.float64]
Normals = Callable[[int], NDArray[numpy.float64]]
"""So many independent standard normal numbers."""

NOISE = 0.17
"""Variance of one answer's quality about its expectation: p (1 - p) for the usual p of 0.8."""


class Sums(msgspec.Struct, frozen=True):
    """One model's evidence: the sums of w x x' (`products`, row by row), w x y (`moments`) and w, in float32."""

    products: bytes = b""
    moments: bytes = b""
    weight: float = 0.0

    def add(self, x: Vector, y: float, weight: float) -> "Sums":
        """With one more observation."""
        products, moments = self.arrays(len(x))
        products = products + numpy.float32(weight) * numpy.outer(x, x)
        moments = moments + numpy.float32(weight * y) * x
        return Sums(products.tobytes(), moments.tobytes(), self.weight + weight)

    def scaled(self, factor: float) -> "Sums":
        """With everything counting only `factor` as much."""
        if not self.weight or factor == 1.0:
            return self
        scale = numpy.float32(factor)
        products = numpy.frombuffer(self.products, numpy.float32) * scale
        moments = numpy.frombuffer(self.moments, numpy.float32) * scale
        return Sums(products.tobytes(), moments.tobytes(), self.weight * factor)

    def arrays(self, width: int) -> tuple[NDArray[numpy.float32], Vector]:
        """The sums as a matrix and a vector."""
        if not self.weight:
            return numpy.zeros((width, width), numpy.float32), numpy.zeros(width, numpy.float32)
        products = numpy.frombuffer(self.products, numpy.float32).reshape(width, width)
        return products, numpy.frombuffer(self.moments, numpy.float32)


class Precision(NamedTuple):
    """How tightly `common` and `own` are held at zero, in observations a feature."""

    common: Matrix
    own: Matrix


class Fit(NamedTuple):
    """Coefficients by model, a row each: their expectation, and one draw from their posterior."""

    mean: Matrix
    draw: Matrix


class _Own(NamedTuple):
    """One model's own part: root has root' root = S, the inverse of A + OWN; moments is r."""

    products: Matrix
    moments: Matrix
    root: Matrix
    inverse: Matrix


def fit(models: Sequence[tuple[Sums, Vector]], precision: Precision, normals: Normals) -> Fit:
    """The posterior of all models together, from each one's sums and prior coefficients."""
    width, own = len(precision.common), precision.own
    parts = [_own(sums, prior, own) if sums.weight else None for sums, prior in models]
    total, information = numpy.diag(precision.common), numpy.zeros(width)
    for part in parts:
        if part is None:
            continue
        # A - A S A and r - A S r, without cancellation: both follow from A = (A + OWN) - OWN.
        total += numpy.diag(own) - own[:, None] * part.inverse * own
        information += own * (part.inverse @ part.moments)
    root = _root(total)
    common = root.T @ (root @ information)
    spread = math.sqrt(NOISE)
    drawn = common + spread * (root.T @ normals(width))
    mean, draw = numpy.empty((len(models), width)), numpy.empty((len(models), width))
    for index, ((_, prior), part) in enumerate(zip(models, parts, strict=True)):
        mean[index], draw[index] = prior + common, prior + drawn
        if part is None:
            draw[index] += spread * normals(width) / numpy.sqrt(own)
        else:
            mean[index] += part.inverse @ (part.moments - part.products @ common)
            draw[index] += part.inverse @ (part.moments - part.products @ drawn)
            draw[index] += spread * (part.root.T @ normals(width))
    return Fit(mean, draw)


def _own(sums: Sums, prior: Vector, own: Matrix) -> _Own:
    single, moments = sums.arrays(len(own))
    products = single.astype(numpy.float64)
    root = _root(products + numpy.diag(own))
    return _Own(products, moments - products @ prior, root, root.T @ root)


def _root(precision: Matrix) -> Matrix:
    """R with R' R the inverse of `precision`: R' times standard normal numbers is a draw with that covariance."""
    return numpy.linalg.inv(numpy.linalg.cholesky(precision))
