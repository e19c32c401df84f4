"""A pristine crystal against itself: unequal smoothing, weighting and resolution are made good, refused or said."""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from datagen.parents import packaged_folder
from defectnet.errors import InputError
from defectnet.host import Host
from defectnet.model.predictor import Predictor
from defectnet.query import Query
from defectnet.readers import Pair, Reading, compatible, load_phonopy, read_file
from defectnet.readers.broadening import unequal_broadening, widened
from defectnet.readers.reading import Broadening
from defectnet.references import find_hosts
from defectnet.released import released_model
from defectnet.spectrum import Spectrum

CRYSTALS = ("AlAs", "BP", "GaAs", "GaP", "Ge", "Li2O", "MgO", "Si", "SiC", "ZnSe")


def reading(width_thz: float = 0.2, kind: str | None = None, **more: object) -> Reading:
    """Two peaks of one area and of a Gaussian's width (sigma) on an even axis, above a weak continuum."""
    f = np.arange(0.0, 20.0, 0.05)
    dos = sum(np.exp(-0.5 * ((f - peak) / width_thz) ** 2) for peak in (6.0, 12.0)) / width_thz + 1e-3 * f
    made = Reading(Spectrum(f, dos * (f < 15)), kind=kind)
    return replace(made, **more)


def test_a_weighting_that_one_file_says_counts() -> None:
    plain, neutron = reading(kind="vibrational"), reading(kind="neutron", weighting="coherent")
    silent = reading()
    assert compatible(silent, silent).kind == "vibrational"
    assert compatible(silent, plain).notes == ()
    with pytest.raises(InputError, match=r"coherent.*does not say that it is; give --kind neutron if it is"):
        compatible(silent, neutron)
    assert compatible(silent, neutron, kind="neutron").kind == "neutron"
    with pytest.raises(InputError, match=r"is weighted by neutron cross-sections .*, and the sample is not"):
        compatible(plain, neutron)
    with pytest.raises(InputError, match="is not weighted by neutron cross-sections, and the sample is"):
        compatible(neutron, plain)
    found = compatible(neutron, silent)
    assert found.kind == "neutron"
    assert "does not say how it is weighted" in found.notes[0]
    # A crystal of one element is weighted as a whole.
    assert compatible(neutron, plain, n_elements=1).notes == ()
    (note,) = compatible(neutron, silent, kind="vibrational").notes
    assert "says that it is weighted by neutron cross-sections, but was read as vibrational" in note


def test_a_reference_with_its_parts_is_weighted() -> None:
    plain = reading(kind="vibrational")
    f, dos = plain.spectrum.frequency_thz, plain.spectrum.dos
    parts = replace(plain, partial={"Mg": dos * (f < 9), "O": dos * (f >= 9)})
    found = compatible(reading(kind="neutron"), parts)
    assert "was weighted by neutron cross-sections" in found.notes[0]
    heavier = found.reference.spectrum.cumulative([9.0])[0] / found.reference.spectrum.modes
    # σ/m of Mg is 0.153 barn/u, of O 0.264: the lower peak shrinks.
    assert heavier == pytest.approx(0.153 / (0.153 + 0.264), abs=0.02)


def test_known_widths_are_matched() -> None:
    sharp, broad = reading(0.1), reading(0.3)
    sharp = replace(sharp, broadening=Broadening("Gaussian", 0.1))
    broad = replace(broad, broadening=Broadening("Gaussian", 0.3))
    for pair in (compatible(sharp, broad), compatible(broad, sharp)):
        assert "was broadened to its FWHM of 0.706 THz" in pair.notes[0]
        assert len(pair.notes) == 1
        assert unequal_broadening(pair.sample.spectrum, pair.reference.spectrum).difference < 0.005
    assert compatible(sharp, sharp).notes == ()


def test_unknown_widths_are_warned_of() -> None:
    for pair in (compatible(reading(0.1), reading(0.3)), compatible(reading(0.3), reading(0.1))):
        (note,) = pair.notes
        # √(0.3² − 0.1²) · 2.355 = 0.67 THz
        assert "FWHM of 0.6" in note or "FWHM of 0.7" in note
        assert "unequal resolution or smearing is read as doping" in note


def test_a_resolution_is_for_computed_references() -> None:
    def resolution(f: np.ndarray) -> np.ndarray:
        return np.full_like(f, 0.5)

    computed, measured = reading(0.1, origin="computed"), reading(0.1, origin="measured")
    # √(0.1² + (0.5 / 2.355)²) = 0.235 THz
    found = compatible(reading(0.235), computed, resolution=resolution)
    assert found.notes == ("the resolution was applied to the reference",)
    assert found.reference.spectrum.dos.max() < computed.spectrum.dos.max()
    with pytest.raises(InputError, match="does nothing to the reference, which was measured"):
        compatible(reading(0.1), measured, resolution=resolution)
    kept = compatible(reading(0.1), measured, resolution=resolution, resolution_used=True)
    np.testing.assert_array_equal(kept.reference.spectrum.dos, measured.spectrum.dos)


def doubted(pair: Pair, warnings: tuple[str, ...]) -> bool:
    """Whether what was found is doubted for the reason that there is: unequal smoothing, or a spectrum unlike any."""
    return any("is read as doping" in note for note in pair.notes) or any("unlike the training" in w for w in warnings)


@pytest.fixture(scope="module")
def ask() -> Callable[[str, Spectrum, Spectrum], tuple[list[str], tuple[str, ...]]]:
    """Which elements the released model finds, and its warnings."""
    predictor = Predictor.load(released_model())

    def answer(host: str, sample: Spectrum, reference: Spectrum) -> tuple[list[str], tuple[str, ...]]:
        (prediction,) = predictor.predict([Query("x", Host(host), sample, reference=reference)])
        return [e.element for e in prediction.elements if e.present], prediction.warnings

    return answer


@pytest.mark.physics
@pytest.mark.parametrize("crystal", CRYSTALS)
def test_pristine_against_itself_smeared_otherwise(
    crystal: str, tmp_path: Path, ask: Callable[..., tuple[list[str], tuple[str, ...]]]
) -> None:
    """phonopy's tetrahedron method and two Gaussians, its YAML, and a curve whose width nobody knows."""
    source = packaged_folder() / crystal / "phonopy_params.yaml"
    phonons = load_phonopy(source)
    phonons.run_mesh(100.0)
    for name, sigma in (("tetrahedron", None), ("fine", 0.1), ("coarse", 0.3)):
        phonons.run_total_dos(sigma=sigma, freq_pitch=0.05, use_tetrahedron_method=sigma is None)
        phonons.write_total_dos(filename=tmp_path / f"{name}.dat")
    files = {name: read_file(tmp_path / f"{name}.dat", "THz") for name in ("tetrahedron", "fine", "coarse")}
    files["yaml"] = read_file(source)
    unknown = widened(files["yaml"].spectrum, 0.02 * files["yaml"].spectrum.top_thz())
    files["unknown"] = Reading(unknown)
    for sample, reference in permutations(files, 2):
        pair = compatible(files[sample], files[reference])
        found, warnings = ask(crystal, pair.sample.spectrum, pair.reference.spectrum)
        assert not found or doubted(pair, warnings), f"{sample} beside {reference}: {found}"


@pytest.mark.physics
def test_hosts_of_the_library_broadened(ask: Callable[..., tuple[list[str], tuple[str, ...]]]) -> None:
    """Ten crystals of the packaged library, each beside itself broadened by a width that no file says."""
    for formula in ("NaCl", "MgO", "KBr", "CaF2", "LiF", "ZnO", "AlN", "CsI", "SrTiO3", "ZnS"):
        found = find_hosts(Host(formula))
        assert found, formula
        spectrum = found[0].spectrum
        for share in (0.005, 0.01, 0.02, 0.04):
            broad = widened(spectrum, share * spectrum.top_thz())
            for sample, reference in ((broad, spectrum), (spectrum, broad)):
                pair = compatible(Reading(sample), Reading(reference))
                elements, warnings = ask(formula, pair.sample.spectrum, pair.reference.spectrum)
                assert not elements or doubted(pair, warnings), f"{formula} {share}: {elements}"


def test_doping_is_not_taken_for_broadening(repository: Path) -> None:
    for name in ("Si", "CsF", "RbScO2"):
        pair = compatible(
            read_file(repository / f"examples/{name}.csv"), read_file(repository / f"examples/{name}-pristine.csv")
        )
        assert pair.notes == ()
