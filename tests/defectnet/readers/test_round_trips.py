"""Files of the programs' own Python packages, and our files read by those packages: the same numbers.

Those of Euphonic, pymatgen and phonopy 4 are in `test_formats.py`.
"""

from pathlib import Path

import numpy as np
import pytest
from support.format_examples import FOLDER

from defectnet.errors import SpectrumError
from defectnet.readers import read_file
from defectnet.units import thz_per

DATA = FOLDER.parent
CRYSTALS = ("Al_sg225", "Si_sg227", "Ge_sg227", "MgO_sg225_Periclase", "AlN_sg186_AluminumNitride", "Ar_Gas_STP")


def test_castep_outputs_reads_the_same(tmp_path: Path) -> None:
    parser = pytest.importorskip("castep_outputs")
    path = FOLDER / "castep.phonon_dos"
    with path.open(encoding="utf-8") as file:
        (other,) = parser.parse_phonon_dos_file(file)["dos"]
    reading = read_file(path)
    f, dos = reading.spectrum.in_unit("cm-1")
    n = len(other["freq"])  # castep-outputs 0.3.3 leaves the last line out
    assert n >= f.size - 1
    np.testing.assert_allclose(f[:n], other["freq"], rtol=1e-6)
    np.testing.assert_allclose(dos[:n], other["g"], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(reading.partial["Si"][:n] * thz_per("cm-1"), other["Si"], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", CRYSTALS)
def test_ncrystals_own_materials(tmp_path: Path, name: str) -> None:
    ncrystal = pytest.importorskip("NCrystal")
    path = tmp_path / f"{name}.ncmat"
    path.write_text(ncrystal.createTextData(path.name).rawData, encoding="utf-8")
    info = ncrystal.createInfo(path.name)  # its parts live as long as it does
    parts = info.dyninfos
    if any(not isinstance(part, ncrystal.Info.DI_VDOS) for part in parts):
        with pytest.raises(SpectrumError, match="does not give each element a density of states"):
            read_file(path)
        return
    reading = read_file(path)
    assert reading.kind == "vibrational"
    assert reading.modes == pytest.approx(3.0, rel=5e-3)
    for part in parts:
        element = part.atomData.elementName()
        energy, density = part.vdosOrigEgrid(), part.vdosOrigDensity()
        grid = np.linspace(energy[0], energy[-1], len(density)) if len(energy) == 2 else np.asarray(energy)
        expected = np.interp(reading.spectrum.frequency_thz, grid * thz_per("meV") * 1e3, density, left=0.0, right=0.0)
        found = reading.partial[element]
        scale = float(found @ expected / (expected @ expected))
        assert np.abs(found - scale * expected).max() < 5e-3 * found.max()
        share = float(np.trapezoid(found, reading.spectrum.frequency_thz)) / 3.0
        assert share == pytest.approx(part.fraction, rel=0.01)


@pytest.mark.parametrize("version", ["2.34"])
def test_an_older_phonopy_wrote_the_same_crystal(version: str) -> None:
    """`phonopy.yaml` and `mesh.yaml` that phonopy 2.34.1 wrote of the crystal of the examples, which 4.10 wrote."""
    for name, unit in (("phonopy", None), ("mesh", "THz"), ("total_dos", "THz")):
        suffix = "dat" if name == "total_dos" else "yaml"
        old = read_file(DATA / f"phonopy-{version}" / f"{name}.{suffix}.xz", unit)
        if name == "total_dos":
            assert old.broadening is not None
            assert old.broadening.sigma_thz == 0.0
            assert old.modes == pytest.approx(6.0, rel=0.02)
            continue
        new = read_file(FOLDER / f"{name}.yaml.xz", unit)
        np.testing.assert_allclose(old.spectrum.frequency_thz, new.spectrum.frequency_thz, rtol=1e-6)
        np.testing.assert_allclose(old.spectrum.dos, new.spectrum.dos, atol=2e-3 * new.spectrum.dos.max())
        assert list(old.partial) == list(new.partial)
