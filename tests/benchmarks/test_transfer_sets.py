"""What the lists of `make bench-transfer` may tell of their dopants: nothing."""

from pathlib import Path

import pytest
from transfer import list_of
from transfer_sets import plans, source_of

from defectnet.io.response_library import ResponseLibrary
from defectnet.model.comparison.comparer import SOURCES
from defectnet.model.comparison.hosts import HostOnAxis, source_class
from defectnet.responses import response_library

LIBRARY = response_library(Path(__file__).parents[2] / "data" / "responses")
# CsF and NaErO2 have more elements by Nequix than by end members, DyTlSe2 fewer; RbCdCl3 has springs alone.
HOSTS = {"mp-1784": "potential", "mp-11601": "potential", "mp-568062": "endmember", "mp-23390": "springs"}


@pytest.fixture(scope="module")
def library() -> ResponseLibrary:
    assert LIBRARY is not None
    return LIBRARY


@pytest.mark.parametrize("host_id", HOSTS)
def test_no_element_of_a_list_has_a_better_source_than_another(host_id: str, library: ResponseLibrary) -> None:
    host = HostOnAxis(library.host(host_id))
    source, _ = source_of(host)
    assert source == HOSTS[host_id]
    for sample_id, plan in plans(host_id, library):
        named, listed = list_of(library, host_id, sample_id, [one.element for one, _ in plan.dopants])
        sources = [{source_class(entry.source) for entry in host.chosen([element])} for element in listed]
        assert named == source
        assert {min(of, key=SOURCES.index) for of in sources} == {source}


@pytest.mark.parametrize("host_id", HOSTS)
def test_dopants_are_among_the_elements_of_their_list(host_id: str, library: ResponseLibrary) -> None:
    asked = plans(host_id, library)
    assert asked
    for sample_id, plan in asked:
        dopants = {one.element for one, _ in plan.dopants}
        _, listed = list_of(library, host_id, sample_id, sorted(dopants))
        assert dopants < set(listed)
