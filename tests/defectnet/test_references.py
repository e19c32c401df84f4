"""The packaged library of pristine hosts, and what a measurement would make of them."""

import numpy as np
import pytest

from defectnet.errors import InputError
from defectnet.host import Host
from defectnet.references import find_hosts, library_reference


def test_the_library_knows_polymorphs_and_elements() -> None:
    known = find_hosts(Host("ZnS"))
    assert len(known) > 1
    assert all("space group" in one.description for one in known)
    salt = find_hosts(Host("NaCl"))[0]
    np.testing.assert_allclose(sum(salt.partial.values()), salt.spectrum.dos, atol=0.01 * salt.spectrum.dos.max())
    assert salt.spectrum.modes == pytest.approx(3.0, rel=0.01)


def test_a_reference_says_how_it_was_made_and_what_else_there_is() -> None:
    silicon = library_reference(Host("Si"))
    assert (silicon.parent_id, silicon.host) == ("mp-149", Host("Si"))
    assert silicon.note.startswith("the reference is computed, not measured: mp-149")
    sulphide = library_reference(Host("ZnS"))
    assert "also crystallises as" in sulphide.note
    other = find_hosts(Host("ZnS"))[1].parent_id
    assert library_reference(Host("ZnS"), other).parent_id == other
    with pytest.raises(InputError, match="Si9Ge is not in the library"):
        library_reference(Host("Si0.9Ge0.1"))
    with pytest.raises(InputError, match="is NaCl, not Si"):
        library_reference(Host("Si"), "mp-22862")


def test_a_computed_density_is_weighted_and_broadened_as_the_sample_was_measured() -> None:
    salt = library_reference(Host("NaCl"))
    plain, seen = salt.as_measured("vibrational"), salt.as_measured("neutron")
    assert np.abs(plain.normalised().dos - seen.dos).max() > 0.05 * seen.dos.max()
    broad = salt.as_measured("neutron", lambda f: np.full_like(f, 1.0))
    assert broad.dos.max() < 0.8 * seen.dos.max()
