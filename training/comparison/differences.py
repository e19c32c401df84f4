"""How the responses of two sources differ, measured on training hosts, and done to other responses.

A potential relaxes around one dopant where an end member has all sites taken, and springs are fitted; so peaks move,
widen and shrink. Of each substitution that two sources tell of, the difference is written as a sum of what moves and
widens the host's density and the response itself, and of a rest. Drawn for another host, it gives responses as wrong
as that source's, for elements of which only one source is known.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defectnet.model.comparison.axis import CENTRES, EVEN_TO, WIDTHS, smoothing
from defectnet.model.comparison.hosts import Entry
from training.comparison.rows import ComparisonRows

__all__ = ["Difference", "Differences", "SourceErrors", "host_parts", "sizes_of"]

Floats = NDArray[np.float32]

# Keeps the parts of a sum from growing against each other, where they are much alike.
_RIDGE = 0.02
# Smoothing (sigma, units of the axis) that tells what widening does.
_WIDENINGS = (0.0167, 0.05)
_WITHIN = np.minimum(CENTRES, EVEN_TO)
# Factors that stretch an axis: evenly, and bent once and twice.
_BENDS = np.stack([np.ones_like(CENTRES), np.sin(np.pi * _WITHIN), np.sin(2 * np.pi * _WITHIN)])
_ROOTS = np.sqrt(WIDTHS)
_TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Difference:
    """One drawn difference.

    Attributes:
        parts: shape (3, n_parts), for each of a response's three concentrations, in units of the response's size.
        rest: shape (3,), size of what the parts leave.
    """

    parts: Floats
    rest: Floats

    def added_to(self, curves: Floats, host: NDArray[np.floating], rest: Floats) -> Floats:
        """Responses as the other source might tell them, shape (3, N_BINS).

        Args:
            curves: shape (3, N_BINS).
            host: of `host_parts`.
            rest: shape (N_BINS,), any other curve: it gives the rest its shape.
        """
        own = _own_parts(curves)
        change = np.einsum("cp,cpn->cn", self.parts[:, : own.shape[1]], own) + self.parts[:, own.shape[1] :] @ host
        change += self.rest[:, None] * _units(rest)
        return np.asarray(curves + sizes_of(curves) * change / _ROOTS, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Differences:
    """Differences of one source from another.

    Attributes:
        parts: shape (n, 3, n_parts).
        rest: shape (n, 3).
    """

    parts: Floats
    rest: Floats

    def __len__(self) -> int:
        return len(self.parts)

    @classmethod
    def measured(cls, rows: ComparisonRows, of: str, other: str) -> "Differences":
        """What has to be added to responses by `of` to have those by `other`, on the training hosts of `rows`."""
        parts, rest = [], []
        for density, one, two in _pairs(rows, of, other):
            host, own = host_parts(density), _own_parts(one.curves)
            away = (two.curves - one.curves) * _ROOTS / np.maximum(sizes_of(one.curves), _TINY)
            for basis, wanted in zip(own, away, strict=True):
                every = np.concatenate([basis, host])
                shares = np.linalg.solve(every @ every.T + _RIDGE * np.eye(len(every)), every @ wanted)
                parts.append(shares)
                rest.append(np.linalg.norm(wanted - shares @ every))
        if not parts:
            return cls(np.zeros((0, 3, 0), dtype=np.float32), np.zeros((0, 3), dtype=np.float32))
        of_concentrations = (-1, len(one.curves), len(parts[0]))
        return cls(
            np.array(parts, dtype=np.float32).reshape(of_concentrations),
            np.array(rest, dtype=np.float32).reshape(of_concentrations[:2]),
        )

    def drawn(self, rng: np.random.Generator) -> Difference:
        """One of them; the sign of its rest is drawn too."""
        place = int(rng.integers(len(self)))
        return Difference(self.parts[place], self.rest[place] * rng.choice((-1.0, 1.0)))


class SourceErrors:
    """The differences that training draws from, of one set of rows, each measured when it is first asked for."""

    def __init__(self, rows: ComparisonRows) -> None:
        self._rows = rows
        self._measured: dict[tuple[str, str], Differences] = {}

    def drawn(self, of: str, other: str, rng: np.random.Generator) -> Difference | None:
        """What might have to be added to a response by `of` to have it by `other`; None where nothing tells."""
        if (of, other) not in self._measured:
            self._measured[of, other] = Differences.measured(self._rows, of, other)
        known = self._measured[of, other]
        return known.drawn(rng) if len(known) else None


def _pairs(rows: ComparisonRows, of: str, other: str) -> Iterator[tuple[NDArray[np.float64], Entry, Entry]]:
    for name in sorted(rows.hosts):
        host = rows.hosts[name]
        if host.split != "train":
            continue
        seen = host.vibrational
        second = {(one.element, one.replaces): one for one in seen.chosen(seen.elements, other)}
        for one in seen.chosen(seen.elements, of):
            if (one.element, one.replaces) in second:
                yield seen.density, one, second[one.element, one.replaces]


def host_parts(density: NDArray[np.floating]) -> NDArray[np.float64]:
    """What moves and what widens a host's density (N_BINS,): shape (7, N_BINS), each of size 1."""
    moved = np.gradient(density * CENTRES * _BENDS, CENTRES, axis=-1)
    widened = np.stack([density - density @ smoothing(sigma).numpy() for sigma in _WIDENINGS])
    return _units(np.concatenate([moved, widened, widened * _WITHIN]))


def _own_parts(curves: Floats) -> NDArray[np.float64]:
    """Responses (3, N_BINS), and what moves them: shape (3, 4, N_BINS), each of size 1."""
    moved = np.gradient(curves[:, None] * CENTRES * _BENDS, CENTRES, axis=-1)
    return _units(np.concatenate([curves[:, None], moved], axis=1))


def _units(curves: NDArray[np.floating]) -> NDArray[np.float64]:
    """Curves (..., N_BINS) of size 1, times the root of the bins' widths: their plain products are integrals."""
    return np.asarray(curves * _ROOTS / np.maximum(sizes_of(curves), _TINY))


def sizes_of(curves: NDArray[np.floating]) -> NDArray[np.float64]:
    """Root of the integral of the square, shape (..., 1)."""
    return np.asarray(np.linalg.norm(curves * _ROOTS, axis=-1, keepdims=True))
