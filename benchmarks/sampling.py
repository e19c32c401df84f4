"""How well does a supercell of N atoms sample the density of states, in a cube and in a cell without symmetry?

The pristine packaged parents, on the 2×2×2 mesh of their supercells, beside the converged density: half the L1 distance
is the share of modes in the wrong place. It needs no potential and runs in a minute.

    make bench-sampling
"""

import json

import matplotlib
import numpy as np
from writing import RESULTS, write_result

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from datagen.dos import choose_bins, mesh_error, pristine_dos
from datagen.parents import list_parents, load_parents
from datagen.supercells import Supercell, choose_matrix, low_symmetry_matrices

SIZES = (64, 128, 216, 432)
# As the simulator chooses: the best of four by this very error.
TRIES = 4


def main() -> None:
    """Measure, print, and write `results/sampling.json` and `.png`."""
    errors: dict[str, dict[int, list[float]]] = {"cube": {n: [] for n in SIZES}, "low symmetry": {n: [] for n in SIZES}}
    for _, load in load_parents("packaged", list_parents("packaged")):
        parent = load()
        dense = pristine_dos(parent, choose_bins(parent.top_thz()))
        for n_atoms in SIZES:
            cube = Supercell(parent.primitive, choose_matrix(parent.primitive, n_atoms))
            errors["cube"][n_atoms].append(mesh_error(parent, cube, dense))
            matrices = low_symmetry_matrices(parent.primitive, n_atoms, np.random.default_rng(n_atoms), TRIES)
            tried = [mesh_error(parent, Supercell(parent.primitive, matrix), dense) for matrix in matrices]
            errors["low symmetry"][n_atoms].append(min(tried))
    medians = {
        kind: {n: round(float(np.median(values)), 4) for n, values in sizes.items()} for kind, sizes in errors.items()
    }
    ratio = {n: round(medians["cube"][n] / medians["low symmetry"][n], 2) for n in SIZES}
    result = {"l1_median": medians, "ratio": ratio, "parents": len(list_parents("packaged"))}
    write_result("sampling", result)
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    for kind, values in medians.items():
        axes.loglog(list(values), list(values.values()), "o-", label=kind)
    axes.set(xlabel="atoms in the cell", ylabel="L1 distance to the converged DOS", xticks=SIZES, xticklabels=SIZES)
    axes.legend(frameon=False)
    figure.savefig(RESULTS / "sampling.png", dpi=120)
    print(json.dumps(result, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
