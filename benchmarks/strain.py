"""Fit the volumes of atoms again (defectnet/chemistry/volumes.json), and what strain adds to a response by springs.

    make strain

From the end members of the response library, training formulas alone; judged on the others: R² of the strain, and the
cosine and size of springs beside end members, at the smoothing under which answers are given, without strain and with.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from writing import write_result

from defectnet.chemistry import strain
from defectnet.elements import VOCABULARY, element
from defectnet.host import Host
from defectnet.io.response_library import ResponseLibrary
from defectnet.model.comparison.axis import COARSE, FINE, WIDTHS, smoothing
from defectnet.model.comparison.hosts import SWELLING, HostOnAxis, swollen
from defectnet.model.features import element_index
from training.dataset import split_of

DATA = Path(__file__).parents[1] / "data"
TARGET = Path(__file__).parents[1] / "defectnet" / "chemistry" / "volumes.json"
# Pulls the logarithms of volumes towards those of Slater's atoms, by so much of a pair's strain.
PULL = 0.05
# Elements without a radius, Å, and the cube of lengths (Å) that is added to Slater's, which are those of bare atoms.
RADIUS, ADDED = 1.5, 2.0
STEPS = 12  # of the fit of two factors, each pair weighted by its size and the answer's

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """A substitution of which an end member tells.

    Attributes:
        strain: for each unit of concentration.
        springs, end, swelling: shape (N_BINS,), responses, and what a strain of 1 does.
    """

    train: bool
    host: Host
    element: str
    replaces: str
    strain: float
    springs: Array
    end: Array
    swelling: Array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--responses", default=str(DATA / "responses"), help="a response library")
    arguments = parser.parse_args()
    pairs = _pairs(ResponseLibrary.read(arguments.responses))
    train, others = [one for one in pairs if one.train], [one for one in pairs if not one.train]
    volumes = _fitted(train)
    TARGET.write_text(json.dumps(volumes, indent=0) + "\n", encoding="utf-8")
    strain.atomic_volumes.cache_clear()
    told = np.array([one.strain for one in others])
    away = told - [strain.strain_per_concentration(one.host.fractions, one.element, one.replaces) for one in others]
    result = {
        "n_pairs": len(pairs),
        "n_left_out": len(others),
        "r2_strain": round(1 - float(away @ away / (told @ told)), 3),
        "factors": dict(zip(("springs", "swelling"), _factors(train), strict=True)),
        "factor_in_use": SWELLING,
        "without": _beside(others, 0.0),
        "with": _beside(others, SWELLING),
    }
    write_result("strain", result)
    print(json.dumps(result, indent=2))  # noqa: T201


def _pairs(library: ResponseLibrary) -> list[Pair]:
    pairs = []
    for name in library:
        responses = library.host(name)
        # Bare springs: without the strain that is to be found.
        seen, host = HostOnAxis(responses, swelling=0.0), Host(responses.formula)
        swelling = swollen(seen.density)
        strains = {
            (one.element, one.replaces): one.strain / one.concentration
            for one in responses.responses
            if one.source == "endmember" and one.concentration > 0
        }
        ends, springs = (
            {(one.element, one.replaces): one.curves[1].astype(float) for one in seen.chosen(seen.elements, source)}
            for source in ("endmember", "springs")
        )
        pairs += [
            Pair(split_of(host) == "train", host, *key, strains[key], springs[key], ends[key], swelling)
            for key in sorted(ends.keys() & springs.keys() & strains.keys())
        ]
    return pairs


def _fitted(pairs: list[Pair]) -> dict[str, float]:
    """Volumes by least squares of the pairs' strains."""
    held, swapped = np.zeros((2, len(pairs), len(VOCABULARY)))
    for row, one in enumerate(pairs):
        for symbol, share in one.host.fractions.items():
            held[row, element_index(symbol)] = share
        swapped[row, element_index(one.element)] += 1
        swapped[row, element_index(one.replaces)] -= 1
    told = np.array([one.strain for one in pairs])
    start = np.log([(element(symbol).radius_angstrom or RADIUS) ** 3 + ADDED for symbol in VOCABULARY])

    def away(logs: Array) -> Array:
        volumes = np.exp(logs)
        return np.concatenate([swapped @ volumes / (3 * (held @ volumes)) - told, PULL * (logs - start)])

    found = np.exp(least_squares(away, start).x)
    return dict(zip(VOCABULARY, found.round(3).tolist(), strict=True))


def _factors(pairs: list[Pair]) -> list[float]:
    """By what springs and the swelling are multiplied to be most like end members."""
    smooth, roots = smoothing(FINE).double().numpy(), np.sqrt(WIDTHS)
    made = [np.stack([one.springs, _expected(one) * one.swelling]) @ smooth * roots for one in pairs]
    wanted = [one.end @ smooth * roots for one in pairs]
    factors = np.ones(2)
    for _ in range(STEPS):
        square, product = np.zeros((2, 2)), np.zeros(2)
        for curves, end in zip(made, wanted, strict=True):
            weight = 1 / (np.linalg.norm(end) * np.linalg.norm(factors @ curves) + 1e-9)
            square += weight * curves @ curves.T
            product += weight * curves @ end
        factors = np.linalg.solve(square, product)
    return [round(float(factor), 3) for factor in factors]


def _beside(pairs: list[Pair], factor: float) -> dict[str, dict[str, list[float]]]:
    """Deciles 1, 5 and 9 of the cosine with end members, and of the end member's size over that of springs."""
    found = {}
    for name, sigma in (("fine", FINE), ("coarse", COARSE)):
        smooth, roots = smoothing(sigma).double().numpy(), np.sqrt(WIDTHS)
        made = np.stack([one.springs + factor * _expected(one) * one.swelling for one in pairs]) @ smooth * roots
        ends = np.stack([one.end for one in pairs]) @ smooth * roots
        sizes = np.linalg.norm(made, axis=1), np.linalg.norm(ends, axis=1)
        cosines = (made * ends).sum(axis=1) / np.maximum(sizes[0] * sizes[1], 1e-12)
        found[name] = {
            "cosine": np.quantile(cosines, (0.1, 0.5, 0.9)).round(3).tolist(),
            "size": np.quantile(sizes[1] / np.maximum(sizes[0], 1e-12), (0.1, 0.5, 0.9)).round(3).tolist(),
        }
    return found


def _expected(one: Pair) -> float:
    return strain.strain_per_concentration(one.host.fractions, one.element, one.replaces)


if __name__ == "__main__":
    main()
