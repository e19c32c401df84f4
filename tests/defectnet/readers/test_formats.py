"""Round trips on files written by the packages themselves, and refusals of broken ones."""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import phonopy
import pytest

from datagen.parents import from_phonopy, packaged_folder
from defectnet.errors import InputError, SpectrumError, UnitError
from defectnet.readers import read_file
from defectnet.spectrum import Spectrum
from defectnet.units import thz_per

AXIS = np.arange(1, 61) * 0.4
SI, C = 1.0 + np.sin(AXIS) ** 2, 1.5 + np.cos(0.7 * AXIS)


def same(found: Spectrum, frequency_thz: np.ndarray, dos: np.ndarray, rtol: float = 1e-6) -> None:
    np.testing.assert_allclose(found.frequency_thz, frequency_thz, rtol=rtol, atol=1e-9)
    np.testing.assert_allclose(found.dos, dos, rtol=rtol, atol=1e-6 * float(np.max(dos)))


# phonopy


@pytest.fixture(scope="module")
def phonons(tmp_path_factory: pytest.TempPathFactory) -> tuple[phonopy.Phonopy, Path]:
    """Silicon carbide, and a folder with every file that phonopy writes of it."""
    folder = tmp_path_factory.mktemp("phonopy")
    here = Path.cwd()
    os.chdir(folder)
    try:
        made = phonopy.load(packaged_folder() / "SiC" / "phonopy_params.yaml", log_level=0)
        made.save("phonopy.yaml", settings={"force_constants": True, "force_sets": False})
        made.save("empty.yaml", settings={"force_constants": False, "force_sets": False, "displacements": False})
        made.run_mesh([9, 9, 9])
        made.write_yaml_mesh()
        Path("mesh.yaml").rename("reduced.yaml")
        made.run_total_dos(freq_pitch=0.1)
        made.write_total_dos()
        made.run_mesh([9, 9, 9], with_eigenvectors=True, is_mesh_symmetry=False)
        made.write_yaml_mesh()
        made.run_projected_dos(freq_pitch=0.1)
        made.write_projected_dos()
        made.run_band_structure([np.linspace([0, 0, 0], [0.5, 0.5, 0], 9)])
        made.write_yaml_band_structure()
    finally:
        os.chdir(here)
    return made, folder


def test_phonopy_densities(phonons: tuple[phonopy.Phonopy, Path]) -> None:
    made, folder = phonons
    total, projected = made.total_dos, made.projected_dos
    assert total is not None
    assert projected is not None
    same(read_file(folder / "total_dos.dat", "THz").spectrum, total.frequency_points, total.dos)
    summed = projected.projected_dos.sum(axis=0)
    same(read_file(folder / "projected_dos.dat", "THz").spectrum, projected.frequency_points, summed)
    for name in ("total_dos.dat", "projected_dos.dat", "mesh.yaml"):
        with pytest.raises(UnitError, match=r"does not say its unit \(phonopy's default is THz\); say"):
            read_file(folder / name)


def test_phonopy_modes(phonons: tuple[phonopy.Phonopy, Path]) -> None:
    _, folder = phonons
    parent = from_phonopy(phonopy.load(folder / "phonopy.yaml", log_level=0), "SiC")
    files = [("phonopy.yaml", None), ("mesh.yaml", "THz"), ("reduced.yaml", "THz")]
    readings = [read_file(folder / name, unit) for name, unit in files]
    for reading in readings:
        assert reading.spectrum.modes == pytest.approx(3.0, rel=1e-6)
        assert reading.spectrum.top_thz() == pytest.approx(parent.top_thz(), rel=0.03)
    for reading in readings[:2]:
        np.testing.assert_allclose(sum(reading.partial.values()), reading.spectrum.dos, atol=1e-6)
        for density in reading.partial.values():  # each atom has three modes of its own
            assert Spectrum(reading.spectrum.frequency_thz, density).modes == pytest.approx(1.5, rel=1e-3)
    assert not readings[2].partial
    # The same crystal on two meshes: less than a tenth of the modes lie elsewhere.
    one, other = (reading.spectrum.resampled(0.5, 60).dos for reading in readings[:2])
    assert 0.5 * np.abs(one - other).sum() * 0.5 / 3.0 < 0.1


def test_phonopy_refusals(phonons: tuple[phonopy.Phonopy, Path], tmp_path: Path) -> None:
    _, folder = phonons
    text = (folder / "mesh.yaml").read_text()
    (tmp_path / "cut.yaml").write_text(text[: len(text) // 2])
    (tmp_path / "cut-phonopy.yaml").write_text((folder / "phonopy.yaml").read_text()[:3000])
    coarse = text.replace("nqpoint: 729", "nqpoint: 1  ").split("- q-position")
    (tmp_path / "coarse.yaml").write_text("- q-position".join(coarse[:2]))
    for path, words in [
        (folder / "band.yaml", "band structure, not a density of states; give a mesh"),
        (folder / "empty.yaml", "gives no force constants; save phonopy with force_constants"),
        (tmp_path / "cut-phonopy.yaml", "gives no force constants"),
        (tmp_path / "cut.yaml", "is not a whole mesh.yaml of phonopy; write or copy it again"),
        (tmp_path / "coarse.yaml", "holds 6 modes, too few for a density; give a denser mesh"),
    ]:
        with pytest.raises(SpectrumError, match=words):
            read_file(path, "THz")


# Euphonic


def test_euphonic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    euphonic = pytest.importorskip("euphonic")
    ureg = euphonic.ureg
    path = tmp_path / "spectrum.json"
    for unit, name in (("meV", "meV"), ("THz", "THz"), ("1/cm", "cm-1")):
        factor = thz_per(name)
        euphonic.Spectrum1D(AXIS * ureg(unit), SI * ureg(f"1/({unit})")).to_json_file(path)
        reading = read_file(path)
        same(reading.spectrum, AXIS * factor, SI / factor)
        assert reading.kind is None
        same(read_file(path, name).spectrum, AXIS * factor, SI / factor)
        with pytest.raises(UnitError, match="is said to be in"):
            read_file(path, "meV" if name != "meV" else "THz")
    # Bins are given by their edges.
    euphonic.Spectrum1D(np.arange(61) * 0.4 * ureg("THz"), SI * ureg("1/THz")).to_json_file(path)
    same(read_file(path).spectrum, AXIS - 0.2, SI)
    euphonic.Spectrum1D(AXIS * ureg("angstrom"), SI * ureg("1/THz")).to_json_file(path)
    with pytest.raises(UnitError, match="is in angstrom; convert it to THz, meV or cm-1"):
        read_file(path)


def test_euphonic_collections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    euphonic = pytest.importorskip("euphonic")
    ureg = euphonic.ureg
    path = tmp_path / "collection.json"

    def write(lines: list[np.ndarray], metadata: dict[str, object]) -> None:
        collection = euphonic.Spectrum1DCollection(AXIS * ureg("THz"), np.array(lines) * ureg("1/THz"), None, metadata)
        collection.to_json_file(path)

    write([SI, C], {"line_data": [{"species": "Si"}, {"species": "C"}]})
    reading = read_file(path)
    same(reading.spectrum, AXIS, SI + C)
    np.testing.assert_allclose(reading.partial["C"], C)
    assert reading.kind is None
    write([SI + C, SI], {"weighting": "coherent", "line_data": [{"label": "Total"}, {"species": "Si"}]})
    reading = read_file(path)
    same(reading.spectrum, AXIS, SI + C)
    assert reading.kind == "neutron"
    write([SI, C], {"line_data": [{"label": "5 K"}, {"label": "300 K"}]})
    with pytest.raises(SpectrumError, match=r"holds 2 spectra that are not the parts of one .*; give a single one"):
        read_file(path)


# pymatgen


def test_pymatgen(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pymatgen.core import Lattice, Structure
        from pymatgen.phonon.dos import CompletePhononDos, PhononDos

    structure = Structure(Lattice.cubic(4.36), ["Si", "Si", "C"], [[0, 0, 0], [0, 0.5, 0.5], [0.25, 0.25, 0.25]])
    simple = PhononDos(AXIS, 2 * SI + C)
    parts = {structure[0]: SI, structure[1]: SI, structure[2]: C}
    path = tmp_path / "dos.json"
    path.write_text(json.dumps(simple.as_dict()))
    same(read_file(path).spectrum, AXIS, 2 * SI + C)
    with pytest.raises(UnitError, match="is said to be in THz and in meV; make them agree"):
        read_file(path, "meV")
    path.write_text(json.dumps(CompletePhononDos(structure, simple, parts).as_dict()))
    reading = read_file(path)
    same(reading.spectrum, AXIS, 2 * SI + C)
    np.testing.assert_allclose(reading.partial["Si"], 2 * SI)
    np.testing.assert_allclose(reading.partial["C"], C)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "x.json is not JSON; write or copy it again"),
        ("[" * 100_000, "x.json is not JSON"),
        ("[1, 2]", "x.json holds no spectrum; give one of Euphonic"),
        ('{"a": 1}', "x.json is JSON of an unknown kind; give one of"),
        ('{"@class": "Structure"}', "x.json is a Structure; give one of"),
        ('{"@class": "PhononDos"}', "x.json is not a whole PhononDos; write it again"),
        ('{"@class": "PhononDos", "frequencies": [1, 2], "densities": [1]}', "1 densities for 2 frequencies in"),
        ('{"__euphonic_class__": "Spectrum1D", "x_data_unit": "meV"}', "x.json is not a whole Spectrum1D"),
    ],
)
def test_broken_json(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(SpectrumError, match=words):
        read_file(tmp_path / "x.json")


# CASTEP: the program cannot be had, so the files are laid out by its format and read by Euphonic beside.

HEADER = """ BEGIN header
 Number of ions         2
{counts}
 Frequencies in         cm-1
 IR intensities in      (D/A)**2/amu
 Raman activities in    A**4 amu**(-1)
 Unit cell vectors (A)
    0.000000    2.180000    2.180000
    2.180000    0.000000    2.180000
    2.180000    2.180000    0.000000
 Fractional Co-ordinates
     1     0.000000    0.000000    0.000000   Si        28.085500
     2     0.250000    0.250000    0.250000   C         12.010700
 END header
"""


def write_phonon(path: Path, n: int = 200) -> None:
    rng = np.random.default_rng(0)
    counts = f" Number of branches     6\n Number of wavevectors   {n}"
    lines = [HEADER.format(counts=counts)]
    for number in range(1, n + 1):
        q = rng.random(3)
        lines.append(f"     q-pt={number:5d}   {q[0]:10.6f} {q[1]:10.6f} {q[2]:10.6f}     {1 / n:.10f}\n")
        lines += [f"    {mode + 1:5d}   {300.0 * (mode + rng.random()):15.6f}\n" for mode in range(6)]
        lines.append("                        Phonon Eigenvectors\nMode Ion                X  Y  Z\n")
        vectors, _ = np.linalg.qr(rng.normal(size=(6, 6)))
        for mode in range(6):
            for ion in range(2):
                x, y, z = vectors[mode, 3 * ion : 3 * ion + 3]
                cells = f"{x:16.12f} {0:16.12f}    {y:16.12f} {0:16.12f}    {z:16.12f} {0:16.12f}"
                lines.append(f"{mode + 1:4d}{ion + 1:4d} {cells}\n")
    path.write_text("".join(lines))


def test_castep_phonon(tmp_path: Path) -> None:
    path = tmp_path / "SiC.phonon"
    write_phonon(path)
    reading = read_file(path)
    assert reading.spectrum.modes == pytest.approx(3.0)
    np.testing.assert_allclose(reading.partial["Si"] + reading.partial["C"], reading.spectrum.dos, atol=1e-9)
    euphonic = pytest.importorskip("euphonic")
    modes = euphonic.QpointPhononModes.from_castep(str(path))
    assert reading.spectrum.frequency_thz[-1] > modes.frequencies.to("THz").magnitude.max()
    edges = np.linspace(0.0, 60.0, 13)
    dos = modes.calculate_dos(edges * euphonic.ureg("THz")).y_data.to("1/THz").magnitude
    found = np.diff(reading.spectrum.cumulative(edges)) / 5.0
    assert np.abs(found - dos / dos.sum() * found.sum()).max() < 0.04 * found.max()
    text = path.read_text()
    (tmp_path / "cut.phonon").write_text(text[: len(text) // 2])
    with pytest.raises(SpectrumError, match=r"cut.phonon is cut short or not laid out as CASTEP does; write or copy"):
        read_file(tmp_path / "cut.phonon")
    write_phonon(tmp_path / "few.phonon", n=4)
    with pytest.raises(SpectrumError, match="holds 24 modes, too few for a density"):
        read_file(tmp_path / "few.phonon")


def test_castep_phonon_dos(tmp_path: Path) -> None:
    counts = f" Number of species      2\n Number of branches     6\n Number of bins         {AXIS.size}"
    gradients = " BEGIN GRADIENTS\n     q-pt=    1    0.000000  0.000000  0.000000      1.0000000000\n"
    gradients += "".join(f"     {mode:5d}   {100.0 * mode:15.6f}   {1.0:10.4f}\n" for mode in range(1, 7))
    rows = "".join(f"   {30 * x:.6f}   {a + b:.8f}   {a:.8f}   {b:.8f}\n" for x, a, b in zip(AXIS, SI, C, strict=True))
    text = HEADER.format(counts=counts) + gradients + " END GRADIENTS\n BEGIN DOS   Freq (cm-1)  g(f)   Si   C\n" + rows
    path = tmp_path / "SiC.phonon_dos"
    path.write_text(text + " END DOS\n")
    reading = read_file(path)
    factor = thz_per("cm-1")
    same(reading.spectrum, 30 * AXIS * factor, (SI + C) / factor)
    np.testing.assert_allclose(reading.partial["C"], C / factor, rtol=1e-6)
    euphonic = pytest.importorskip("euphonic")
    other = euphonic.Spectrum1DCollection.from_castep_phonon_dos(str(path))
    same(reading.spectrum, other.get_bin_centres().to("THz").magnitude, (SI + C) / factor)
    with pytest.raises(UnitError, match="is said to be in THz and in cm-1"):
        read_file(path, "THz")
    path.write_text(text)
    with pytest.raises(SpectrumError, match="is cut short"):
        read_file(path)
    # The files of the program itself say it above the columns alone.
    path.write_text(text.replace("Frequencies in", "Frequencies") + " END DOS\n")
    same(read_file(path).spectrum, 30 * AXIS * factor, (SI + C) / factor)
    path.write_text(text.replace("Frequencies in", "Frequencies").replace("(cm-1)", "") + " END DOS\n")
    with pytest.raises(UnitError, match=r"does not say its unit .CASTEP's default is cm-1.; say"):
        read_file(path)


# NeXus

Change = Callable[[h5py.File], None]


def write_nexus(path: Path, change: Change | None = None, **units: str) -> None:
    """NXdata by the standard: the file's default entry and data group, errors beside the signal."""
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs.update({"NX_class": "NXentry", "default": "dos"})
        data = entry.create_group("dos")
        data.attrs.update({"NX_class": "NXdata", "signal": "density", "axes": ["energy"]})
        data["energy"] = AXIS
        data["energy"].attrs.update(units)
        data["density"] = SI
        data["density_errors"] = 0.1 * SI
        if change is not None:
            change(file)


def test_nexus(tmp_path: Path) -> None:
    path = tmp_path / "dos.nxs"
    write_nexus(path, units="meV")
    reading = read_file(path)
    factor = thz_per("meV")
    same(reading.spectrum, AXIS * factor, SI / factor)
    assert reading.error is not None
    np.testing.assert_allclose(reading.error, 0.1 * SI / factor)
    write_nexus(path, lambda file: file.attrs.pop("default") and file["entry"].attrs.pop("default"), units="THz")
    same(read_file(path).spectrum, AXIS, SI)  # the only NXdata is found without being named
    write_nexus(path)
    with pytest.raises(UnitError, match="does not say its unit"):
        read_file(path)
    same(read_file(path, "THz").spectrum, AXIS, SI)


def test_mantid(tmp_path: Path) -> None:
    path = tmp_path / "mantid.nxs"
    with h5py.File(path, "w") as file:
        workspace = file.create_group("mantid_workspace_1/workspace")
        workspace["values"], workspace["errors"] = SI[None, :], np.zeros((1, SI.size))
        workspace["axis1"] = np.arange(61) * 0.4
        workspace["axis1"].attrs["units"] = "DeltaE_inWavenumber"
    reading = read_file(path)
    same(reading.spectrum, (AXIS - 0.2) * thz_per("cm-1"), SI / thz_per("cm-1"))
    assert reading.error is None  # zeros are no errors


@pytest.mark.parametrize(
    ("change", "units", "words"),
    [
        (lambda file: file.pop("entry/dos"), "meV", "has no NXdata group; give an NXdata"),
        (lambda file: file.pop("entry/dos/density"), "meV", "holds no whole NeXus spectrum"),
        (lambda file: file["entry/dos"].attrs.pop("signal"), "meV", "holds no whole NeXus spectrum"),
        (lambda file: None, "furlong", "is in furlong; convert it to THz, meV or cm-1"),
        (lambda file: None, "rad/ps", "has an angular frequency on its axis"),
        (lambda file: None, "eV", "the axis ends at 5803 THz"),
        (
            lambda file: (
                file.pop("entry/dos/density"),
                file["entry/dos"].create_dataset("density", data=np.ones((3, 60))),
            ),
            "meV",
            r"has 60 points for densities of shape \(3, 60\); reduce it",
        ),
    ],
)
def test_broken_nexus(tmp_path: Path, change: Change, units: str, words: str) -> None:
    write_nexus(tmp_path / "x.nxs", change, units=units)
    with pytest.raises(InputError, match=words):
        read_file(tmp_path / "x.nxs")


def test_a_cut_nexus_file(tmp_path: Path) -> None:
    write_nexus(tmp_path / "x.nxs", units="meV")
    (tmp_path / "x.nxs").write_bytes((tmp_path / "x.nxs").read_bytes()[:600])
    with pytest.raises(SpectrumError, match="is not a readable HDF5 file"):
        read_file(tmp_path / "x.nxs")
