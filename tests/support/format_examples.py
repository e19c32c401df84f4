"""The example files of `tests/data/formats`: one invented spectrum, or one invented crystal, in every format.

`python tests/support/format_examples.py` writes them again.
"""

import gzip
import io
import json
import lzma
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from defectnet.units import thz_per

__all__ = ["ERROR", "EXAMPLES", "FOLDER", "THZ", "VALUES", "crystal", "write_examples"]

FOLDER = Path(__file__).resolve().parents[1] / "data" / "formats"
THZ = np.round(np.arange(1, 81) * 0.2, 6)
MEV, CM = thz_per("meV"), thz_per("cm-1")
EV_THZ = MEV * 1e3
_SHAPE = np.exp(-0.5 * ((THZ - 5.0) / 0.8) ** 2) + 1.5 * np.exp(-0.5 * ((THZ - 13.0) / 0.6) ** 2)
# Densities per THz, 3 modes for each atom.
VALUES = np.round(3.0 * _SHAPE / _SHAPE.sum() / 0.2, 5)
ERROR = np.round(0.02 * VALUES + 0.002, 5)
# The parts of two elements.
HEAVY = np.round(np.where(THZ < 9.0, 0.8, 0.3) * VALUES, 5)
_SPRINGS = (9.0, 2.0)  # eV/Å², along a bond and across it


def crystal() -> "object":
    """A phonopy calculation of a diamond lattice held by springs between neighbours."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = 2.715 * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    atoms = PhonopyAtoms(symbols=["Si", "Si"], cell=cell, scaled_positions=[[0.0] * 3, [0.25] * 3])
    phonons = Phonopy(atoms, 2 * np.eye(3, dtype=int), primitive_matrix=np.eye(3), log_level=0)
    large = phonons.supercell
    constants = np.zeros((len(large), len(large), 3, 3))
    for i, one in enumerate(large.scaled_positions):
        away = large.scaled_positions - one
        bonds = (away - np.rint(away)) @ large.cell
        for j in np.flatnonzero((lengths := np.linalg.norm(bonds, axis=1)) < 2.5):
            if i != j:
                along = np.outer(bonds[j], bonds[j]) / lengths[j] ** 2
                constants[i, j] = -(_SPRINGS[0] * along + _SPRINGS[1] * (np.eye(3) - along))
        constants[i, i] = -constants[i].sum(axis=0)
    phonons.force_constants = constants
    return phonons


def _phonopy_yaml() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "phonopy.yaml"
        crystal().save(path, settings={"force_constants": True})  # type: ignore[attr-defined]
        return lzma.compress(path.read_bytes())


def _mesh(suffix: str) -> bytes:
    phonons = crystal()
    phonons.run_mesh([6, 6, 6], with_eigenvectors=suffix == "yaml", is_gamma_center=True)  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"mesh.{suffix}"
        getattr(phonons.mesh, f"write_{suffix}")(filename=path)  # type: ignore[attr-defined]
        return lzma.compress(path.read_bytes()) if suffix == "yaml" else path.read_bytes()


def _columns(header: str, *columns: NDArray[np.float64], separator: str = " ", fmt: str = "%.6f") -> bytes:
    rows = [separator.join(fmt % value for value in row) for row in np.transpose(columns)]
    return "\n".join([header, *rows, ""]).encode()


def _hdf5(fill: Callable[[h5py.File], None]) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        fill(file)
    return stream.getvalue()


def _nexus(file: h5py.File) -> None:
    data = file.create_group("entry").create_group("data")
    file["entry"].attrs["NX_class"] = "NXentry"
    data.attrs.update({"NX_class": "NXdata", "signal": "dos", "axes": "energy"})
    data["energy"], data["dos"], data["dos_errors"] = THZ / MEV, VALUES * MEV, ERROR * MEV
    data["energy"].attrs["units"] = "meV"


def _mantid(file: h5py.File) -> None:
    group = file.create_group("mantid_workspace_1").create_group("workspace")
    edges = np.append(THZ - 0.1, THZ[-1] + 0.1) / MEV
    group["values"], group["errors"] = (values[None, :] * MEV for values in (VALUES, ERROR))
    group["axis1"] = edges
    group["axis1"].attrs.update({"units": "DeltaE", "distribution": "1"})


def _tdep(file: h5py.File) -> None:
    file["frequencies"], file["dos"] = THZ, VALUES


def _excel() -> bytes:
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(["Energy (meV)", "DOS (1/meV)", "error"])
    for row in np.transpose([THZ / MEV, VALUES * MEV, ERROR * MEV]):
        book.active.append([round(float(value), 6) for value in row])
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def _netcdf() -> bytes:
    from scipy.io import netcdf_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.nc"
        with netcdf_file(path, "w") as file:
            for name, size in (("n", THZ.size), ("kinds", 2), ("letters", 2)):
                file.createDimension(name, size)
            file.createVariable("wmesh", "d", ("n",))[:] = THZ / EV_THZ
            file.createVariable("phdos", "d", ("n",))[:] = VALUES * EV_THZ
            file.createVariable("pjdos_type", "d", ("kinds", "n"))[:] = np.array([HEAVY, VALUES - HEAVY]) * EV_THZ
            file.createVariable("chemical_symbols", "c", ("kinds", "letters"))[:] = np.array([["G", "e"], ["S", "i"]])
        return path.read_bytes()


def _euphonic() -> bytes:
    made = {
        "__euphonic_class__": "Spectrum1DCollection",
        "__euphonic_version__": "1.4.0",
        "x_data": THZ.tolist(),
        "x_data_unit": "terahertz",
        "y_data": [HEAVY.tolist(), (VALUES - HEAVY).round(5).tolist()],
        "y_data_unit": "1 / terahertz",
        "metadata": {"weighting": "None", "line_data": [{"species": "Ge"}, {"species": "Si"}]},
    }
    return json.dumps(made).encode()


def _pymatgen() -> bytes:
    made = {"@class": "PhononDos", "frequencies": THZ.tolist(), "densities": VALUES.tolist()}
    return gzip.compress(json.dumps(made).encode(), mtime=0)


def _api() -> bytes:
    asked = {"id": "a", "host": "Si", "unit": "meV", "frequency": (THZ / MEV).tolist(), "dos": (VALUES * MEV).tolist()}
    return json.dumps(asked).encode()


def _castep_header(n_atoms: int) -> list[str]:
    return [
        " BEGIN header",
        f" Number of ions         {n_atoms}",
        f" Number of branches     {3 * n_atoms}",
        " Unit cell vectors (A)",
        *("    0.000000    2.715000    2.715000",) * 3,
        " Fractional Co-ordinates",
        "     1     0.000000    0.000000    0.000000   Si        28.085500",
        "     2     0.250000    0.250000    0.250000   Si        28.085500",
        " END header",
    ]


def _castep_dos() -> bytes:
    rows = [f"  {x:12.5f} {y:12.7f} {y:12.7f}" for x, y in zip(THZ / CM, VALUES * CM, strict=True)]
    lines = [*_castep_header(2), " BEGIN DOS   Freq (cm-1)  g(f)   Si", *rows, " END DOS", ""]
    return "\n".join(lines).encode()


def _castep_modes() -> bytes:
    phonons = crystal()
    phonons.run_mesh([6, 6, 6], with_eigenvectors=True, is_gamma_center=True)  # type: ignore[attr-defined]
    mesh = phonons.mesh  # type: ignore[attr-defined]
    lines = _castep_header(2)
    lines.insert(3, " Frequencies in         cm-1")
    total = mesh.weights.sum()
    for number, (q, weight) in enumerate(zip(mesh.qpoints, mesh.weights, strict=True), start=1):
        lines.append(f"     q-pt={number:5d}  " + " ".join(f"{x:12.8f}" for x in q) + f" {weight / total:14.10f}")
        lines += [f"  {i:5d}  {f / CM:14.6f}" for i, f in enumerate(mesh.frequencies[number - 1], start=1)]
        lines += ["                        Phonon Eigenvectors", "Mode Ion                X                 Y"]
        for mode, vector in enumerate(mesh.eigenvectors[number - 1].T, start=1):
            for ion, part in enumerate(vector.reshape(-1, 3), start=1):
                parts = " ".join(f"{v.real:16.12f} {v.imag:16.12f}" for v in part)
                lines.append(f" {mode:4d} {ion:4d} {parts}")
    return lzma.compress("\n".join([*lines, ""]).encode())


def _ncmat() -> bytes:
    words = " ".join(f"{value:.5f}" for value in VALUES)
    return "\n".join([
        "NCMAT v4", "@CELL", "  cubic 5.43", "@SPACEGROUP", "  227", "@ATOMPOSITIONS", "  Si 0 0 0", "@DYNINFO",
        "  element Si", "  fraction 1", "  type vdos",
        f"  vdos_egrid {THZ[0] / EV_THZ:.9f} {THZ[-1] / EV_THZ:.9f}", f"  vdos_density {words}", "",
    ]).encode()  # fmt: skip


def _dave() -> bytes:
    lines = ["# Number of x values", f"{THZ.size}", "# Number of y values", "1", "# Energy transfer (meV)"]
    lines += [f"{x:.6f}" for x in THZ / MEV] + ["# Q (1/A)", "3.0", "# Group 1"]
    lines += [f"{y:.6f} {e:.6f}" for y, e in zip(VALUES * MEV, ERROR * MEV, strict=True)]
    return "\n".join([*lines, ""]).encode()


def _numpy() -> bytes:
    sink = io.BytesIO()
    np.savez(sink, frequency_thz=THZ, dos=VALUES, error=ERROR)
    return sink.getvalue()


def _grace() -> bytes:
    head = ["# Grace project file", "@version 50123", '@    xaxis  label "Frequency (THz)"', "@target G0.S0"]
    rows = [f"{x:.4f} {y:.6f} {e:.6f}" for x, y, e in zip(THZ, VALUES, ERROR, strict=True)]
    return "\n".join([*head, "@type xydy", *rows, "&", ""]).encode()


def _abinit() -> bytes:
    head = "# Phonon density of states and partial DOS\n# Energy in cm-1, DOS in states/cm-1, PHDOS smeared"
    return _columns(head, THZ / CM, VALUES * CM, np.cumsum(VALUES) * 0.2, separator="  ", fmt="%.7e")


# Name of the file → how it is made.
EXAMPLES: dict[str, Callable[[], bytes]] = {
    "columns.csv": lambda: _columns("frequency (THz),dos,error", THZ, VALUES, ERROR, separator=","),
    "total_dos.dat": lambda: _columns("# Tetrahedron method", THZ, VALUES, separator="  "),
    "phonopy.yaml.xz": _phonopy_yaml,
    "mesh.yaml.xz": lambda: _mesh("yaml"),
    "mesh.hdf5": lambda: _mesh("hdf5"),
    "abinit_PHDOS": _abinit,
    "abinit_PHDOS.nc": _netcdf,
    "tdep.hdf5": lambda: _hdf5(_tdep),
    "nexus.nxs": lambda: _hdf5(_nexus),
    "mantid.nxs": lambda: _hdf5(_mantid),
    "columns.xlsx": _excel,
    "columns.npz": _numpy,
    "euphonic.json": _euphonic,
    "pymatgen.json.gz": _pymatgen,
    "api.json": _api,
    "castep.phonon_dos": _castep_dos,
    "castep.phonon.xz": _castep_modes,
    "ncrystal.ncmat": _ncmat,
    "dave.grp": _dave,
    "grace.agr": _grace,
    "dos.out": lambda: _columns(f"{0.0:.6f} 0.0 0.0 0.0", 2 * np.pi * THZ, *[VALUES / (2 * np.pi) / 3] * 3, fmt="%.6f"),
}


def write_examples(folder: Path) -> None:
    """Write every example into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in EXAMPLES.items():
        (folder / name).write_bytes(make())


if __name__ == "__main__":
    write_examples(FOLDER)
