"""Mg1-xAlxB2 and Mg(B1-xCx)2, simulated: composition series as a chopper spectrometer would see them.

The host is computed with Nequix from MgB2's structure (it is in no data set at hand), and so is each dopant's change
(`alloy_series`); neutron weights, the resolution of ARCS at 130 meV and 2 % counting noise. Everything here
is simulated: measured curves were not available, only the positions of the bands.

    make bench-mgb2
"""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from alloy_series import POTENTIAL, as_measured, pristine_parts, read_series, simulate_series
from ase.spacegroup import crystal
from bands import Panel, draw_bands
from writing import write_result

from datagen.dos import choose_bins, pristine_dos
from datagen.parents import Parent
from datagen.potentials import load_potential
from datagen.structures import from_atoms
from defectnet.neutron import ARCS
from defectnet.spectrum import Spectrum, bin_centres_thz
from defectnet.units import thz_per

WORK = Path("runs/mgb2")
# Å; AlB2 type, P6/mmm.
LATTICE = (3.086, 3.086, 3.524, 90, 90, 120)
AL_FOR_MG = [0.05, 0.10, 0.15, 0.20, 0.25, 0.35, 0.50]
C_FOR_B = [0.01, 0.02, 0.035, 0.05, 0.075, 0.10, 0.125]
CANDIDATES = ("Al", "C", "Li", "Na", "Ca", "Sc", "Ti", "Zn", "Si", "N", "Be")
NOISE = 0.02
INSTRUMENT = replace(ARCS, incident_mev=130.0)
# Measured bands of MgB2, meV (cond-mat/0103064).
PUBLISHED_MEV = [36, 54, 78, 89, 97]
# Where aluminium moved them most (Yokoo et al. 2004), meV.
MOVED_MEV = (70, 89)


def main() -> None:
    """Simulate, ask, print, and write `results/mgb2.json`."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    structure = crystal(["Mg", "B"], [(0, 0, 0), (1 / 3, 2 / 3, 0.5)], spacegroup=191, cellpar=LATTICE)
    parent = from_atoms(structure, "MgB2", load_potential(POTENTIAL))
    al = simulate_series(parent, "Al", "Mg", [x / 3 for x in AL_FOR_MG], WORK / "al.parquet")
    c = simulate_series(parent, "C", "B", [2 * x / 3 for x in C_FOR_B], WORK / "c.parquet")
    picture(al, c)
    result: dict[str, object] = {
        "data": "simulated; measured curves were not available",
        "x": "share of all atoms: Al on a share 3x of the Mg sites, C on a share 1.5x of the B sites",
        "engine": "embedded, 216 to 240 atoms, host and changes by Nequix",
        "instrument": "ARCS, 130 meV",
        "noise": NOISE,
        "host": _host(parent),
    }
    for name, table, element in (("Al", al, "Al"), ("C", c, "C")):
        seen: pa.Table = as_measured(table, WORK / f"{name.lower()}.parquet", INSTRUMENT, NOISE, seed=2)
        result[name] = read_series(parent, seen, CANDIDATES, element, WORK / "responses")
    write_result("mgb2", result)
    for name in ("Al", "C"):
        print(name, json.dumps({mode: result[name][mode]["summary"] for mode in ("listed", "free")}))  # type: ignore[index]  # noqa: T201


def picture(al: pa.Table, c: pa.Table) -> None:
    """The two series beside the measured bands of the host: `results/mgb2_bands.png`."""
    panels = [
        Panel("MgB2 with Al on Mg, by Nequix", al, pristine_parts(WORK / "al.parquet")),
        Panel("MgB2 with C on B, by Nequix", c, pristine_parts(WORK / "c.parquet")),
    ]
    draw_bands("mgb2_bands", panels, "meV", {f"{mev}": mev for mev in PUBLISHED_MEV}, MOVED_MEV)


def _host(parent: Parent) -> dict[str, object]:
    """Where the computed host has its bands, beside the measured ones: how far the potential is off."""
    dos = pristine_dos(parent, choose_bins(parent.top_thz()))
    spectrum = Spectrum.from_bins(dos.total, dos.bins.step_thz)
    energy = bin_centres_thz(dos.total.size, dos.bins.step_thz) / thz_per("meV")
    smooth = spectrum.broadened(sigma_thz=0.5).dos
    peaks = np.flatnonzero((smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] > smooth[2:])) + 1
    strong = [round(float(energy[peak]), 1) for peak in peaks if smooth[peak] > 0.15 * smooth.max()]
    cell = parent.primitive.cell.cellpar()
    return {
        "a_angstrom": round(float(cell[:3].min()), 4),
        "c_angstrom": round(float(cell[:3].max()), 4),
        "peaks_mev": strong,
        "measured_bands_mev": PUBLISHED_MEV,
        "lowest_thz": round(parent.lowest_thz(), 3),
    }


if __name__ == "__main__":
    main()
