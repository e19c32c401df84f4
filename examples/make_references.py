"""Make `defectnet/references/hosts.parquet`: densities of states of pristine hosts from DFT force constants.

python examples/make_references.py phonondb_parents.parquet
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datagen.dos import choose_bins, pristine_dos
from datagen.parents import from_row
from datagen.samples import storage_schema
from defectnet.binning import IMAGINARY_THZ
from defectnet.errors import SimulationError
from defectnet.io.tables import write_table

TARGET = Path(__file__).parents[1] / "defectnet" / "references" / "hosts.parquet"
# Small cells: the crystals that most people dope, and a library of one or two megabytes.
MAX_BASIS = 5


def main() -> None:
    """Read the parents, keep the stable ones, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parents", help="Parquet of DFT phonon calculations")
    source = pq.read_table(parser.parse_args().parents, filters=[("n_atoms_primitive", "<=", MAX_BASIS)])
    rows = []
    for row in source.to_pylist():
        try:
            parent = from_row(row)
            if parent.lowest_thz() < IMAGINARY_THZ:
                continue
            dos = pristine_dos(parent, choose_bins(parent.top_thz()))
        except SimulationError as error:
            print(error)  # noqa: T201
            continue
        used = np.flatnonzero(dos.total > 0)[-1] + 1
        rows.append(
            {
                # Space group and parent tell polymorphs apart.
                "sample_id": f"{row['material_id']} (space group {row['spacegroup']})",
                "parent_id": row["material_id"],
                "host": parent.host.formula,
                "defects": [],
                "frequency_step_thz": dos.bins.step_thz,
                "dos": dos.total[:used].astype(np.float16),
                "partial_dos": [
                    {"element": e, "dos": d[:used].astype(np.float16)} for e, d in sorted(dos.partial.items())
                ],
                "kind": "vibrational",
                "origin": {"method": "pristine", "potential": "DFT (PBEsol)", "n_atoms": len(parent.primitive)},
            }
        )
    rows.sort(key=lambda row: (row["host"], row["origin"]["n_atoms"], row["parent_id"]))
    write_table(pa.Table.from_pylist(rows, schema=storage_schema(True)), TARGET)
    print(f"{len(rows)} of {source.num_rows} crystals")  # noqa: T201


if __name__ == "__main__":
    main()
