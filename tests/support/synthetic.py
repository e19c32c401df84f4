"""A toy spectra table: bands that follow the masses, fast to make and easy to learn; no physics is claimed.

A host has one band per element at a frequency that falls with its mass; a dopant takes modes from the bands in
proportion to its concentration and puts them into a local mode of its own.
"""

import itertools

import numpy as np
import pyarrow as pa

from defectnet.elements import atomic_mass
from defectnet.host import Host
from defectnet.io.tables import SPECTRA_SCHEMA
from defectnet.spectrum import bin_centres_thz

STEP_THZ, N_BINS = 0.1, 300
HOST_ELEMENTS = ("Mg", "Al", "Si", "Zn", "Ga", "Ge", "Cd", "In", "O", "S", "Se", "N")
DOPANTS = ("Li", "B", "C", "P", "Ti", "Mn", "Cu", "As", "Zr", "Sn", "Te", "Pb")


def band(element: str, width_thz: float) -> np.ndarray:
    centres = bin_centres_thz(N_BINS, STEP_THZ)
    middle = 60.0 / np.sqrt(atomic_mass(element)) + 3.0
    density = np.exp(-0.5 * ((centres - middle) / width_thz) ** 2)
    return 3.0 * density / density.sum() / STEP_THZ


def pristine(host: Host) -> np.ndarray:
    return sum(fraction * band(element, 1.5) for element, fraction in host.fractions.items())


def doped(host: Host, defects: dict[str, float]) -> np.ndarray:
    total = sum(defects.values())
    return (1 - total) * pristine(host) + sum(c * band(element, 0.4) for element, c in defects.items())


def hosts(n: int) -> list[Host]:
    pairs = itertools.combinations(HOST_ELEMENTS, 2)
    formulas = [f"{a}{b}" for a, b in pairs] + [f"{a}2{b}3" for a, b in itertools.combinations(HOST_ELEMENTS, 2)]
    return [Host(formula) for formula in formulas[:n]]


def synthetic_table(n_rows: int, *, n_hosts: int = 60, seed: int = 0, max_dopants: int = 3) -> pa.Table:
    rng = np.random.default_rng(seed)
    pool = hosts(n_hosts)
    rows = []
    for index in range(n_rows):
        host = pool[index % len(pool)]
        elements = rng.choice(DOPANTS, size=rng.integers(0, max_dopants + 1), replace=False)
        defects = {str(element): float(np.exp(rng.uniform(np.log(0.005), np.log(0.1)))) for element in elements}
        rows.append(
            {
                "sample_id": f"row-{seed}-{index}",
                "host": host.formula,
                "defects": [
                    {"element": e, "replaces": host.elements[0], "concentration": c} for e, c in defects.items()
                ],
                "frequency_step_thz": STEP_THZ,
                "dos": doped(host, defects),
                "reference_dos": pristine(host),
                "kind": "vibrational",
            }
        )
    return pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA)
