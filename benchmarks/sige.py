"""Si1-xGex, simulated: the composition series as a chopper spectrometer would see it, read by the released model.

On DFT force constants of silicon, with Nequix's change for each germanium atom (`alloy_series`), seen with neutron
weights, the resolution of ARCS at 100 meV and 2 % counting noise. No numeric measured curves were available; the
published positions of the three bands are held against the simulated ones.

    make bench-sige PARENTS=…/phonondb_parents.parquet
"""

import argparse
import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from alloy_series import as_measured, pristine_parts, read_series, simulate_series
from bands import Panel, draw_bands
from writing import write_result

from datagen.parents import from_row
from defectnet.neutron import ARCS
from defectnet.spectrum import Spectrum
from defectnet.units import thz_per

WORK = Path("runs/sige")
SILICON = "mp-149"
FRACTIONS = [0.02, 0.05, 0.08, 0.10, 0.15, 0.20, 0.25, 0.30, 0.40]
# What a grower of silicon would ask for.
CANDIDATES = ("Ge", "Sn", "C", "B", "Al", "Ga", "P", "As", "Sb", "N", "O")
NOISE = 0.02
# Windows, cm-1, in which the three bands of the alloy lie (Alonso and Winer, PRB 39, 10056), and their positions.
BANDS = {"Ge-Ge": (250, 330, 300), "Si-Ge": (360, 440, 400), "Si-Si": (460, 530, 500)}


def main() -> None:
    """Simulate, ask, print, and write `results/sige.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parents", help="Parquet of DFT phonon calculations")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    (row,) = pq.read_table(arguments.parents, filters=[("material_id", "=", SILICON)]).to_pylist()
    silicon, path = from_row(row), WORK / "series.parquet"
    table = simulate_series(silicon, "Ge", "Si", FRACTIONS, path)
    picture(table)
    seen = as_measured(table, path, ARCS, NOISE, seed=1)
    result = {
        "data": "simulated; measured curves were not available",
        "engine": "embedded, Nequix, 216 to 240 atoms",
        "instrument": "ARCS, 100 meV",
        "noise": NOISE,
        **read_series(silicon, seen, CANDIDATES, "Ge", WORK / "responses"),
        "bands_cm1": _bands(table),
    }
    write_result("sige", result)
    print(json.dumps({mode: result[mode]["summary"] for mode in ("listed", "free")}, indent=1))  # noqa: T201


def picture(table: pa.Table) -> None:
    """The series, and germanium's part of it, beside the published bands: `results/sige_bands.png`."""
    panels = [
        Panel("Si(1-x)Ge(x): DFT silicon, changes by Nequix", table, pristine_parts(WORK / "series.parquet")),
        Panel("germanium's part, for one atom", table, None, "Ge"),
    ]
    draw_bands("sige_bands", panels, "cm-1", {band: position for band, (_, _, position) in BANDS.items()})


def _bands(table: pa.Table) -> list[dict[str, object]]:
    """The highest point of each band's window in the vibrational density, beside the published position.

    Ge-Ge and Si-Ge vibrations are looked for in germanium's part of the density: silicon has bands of its own there.
    """
    rows = []
    for row in table.to_pylist():
        parts = {part["element"]: np.array(part["dos"]) for part in row["partial_dos"]}
        axis = Spectrum.from_bins(row["dos"], row["frequency_step_thz"]).frequency_thz / thz_per("cm-1")
        positions = {}
        for band, (low, high, _) in BANDS.items():
            density = np.where((axis >= low) & (axis <= high), parts["Si" if band == "Si-Si" else "Ge"], 0.0)
            positions[band] = round(float(axis[density.argmax()]), 1)
        rows.append({"x": round(row["defects"][0]["concentration"], 4), **positions})
    published = {band: position for band, (_, _, position) in BANDS.items()}
    return [{"x": "published, near", **published}, *rows]


if __name__ == "__main__":
    main()
