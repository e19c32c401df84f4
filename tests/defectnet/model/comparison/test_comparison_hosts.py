from dataclasses import replace

import numpy as np
import pytest
from support.responses import made_up_library

from defectnet.model.comparison.axis import WIDTHS
from defectnet.model.comparison.hosts import HostOnAxis

HOST = HostOnAxis(made_up_library().host("made-up-MgO"))


def test_the_best_source_stands_for_a_candidate():
    chosen = {entry.element: entry.source for entry in HOST.chosen(["Ca", "Al", "Xe"])}
    assert chosen == {"Ca": "endmember", "Al": "springs"}
    assert {entry.source for entry in HOST.chosen(HOST.elements, "springs")} == {"springs"}
    assert not HOST.chosen(HOST.elements, "potential")


def test_what_the_network_reads_of_an_entry():
    (entry,) = HOST.chosen(["Ca"])
    about = entry.about()
    assert about[3:7].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert about[7] == np.float32(5 * 0.2)
    assert abs(float(entry.curves[0] @ WIDTHS)) < 0.05  # modes are moved, none are made


def test_a_neutron_host_has_its_own_density():
    host = HostOnAxis(made_up_library().host("made-up-NaCl"), "neutron")
    assert host.density @ WIDTHS > 2.9
    assert host.entries


def test_one_response_stands_for_all_amounts_and_takes_the_memory_of_one():
    springs, computed = HOST.entries["Al", "Mg"]["springs"], HOST.entries["Ca", "Mg"]["endmember"]
    assert springs.curves.shape == computed.curves.shape
    assert springs.curves.strides[0] == 0
    assert springs.concentrations.tolist() == [0.0, 0.0, 0.0]
    assert computed.curves.strides[0] > 0
    assert computed.concentrations.tolist() == pytest.approx([0.01, 0.06, 0.2])


def test_a_dopant_that_no_chemist_expects_is_weighed_where_it_was_prepared():
    known = made_up_library().host("made-up-MgO")
    (springs,) = (one for one in known.responses if one.element == "Al" and one.source == "springs")
    unlikely = replace(springs, element="F", replaces="Mg")
    host = HostOnAxis(replace(known, responses=(*known.responses, unlikely)))
    assert [(one.element, one.replaces) for one in host.chosen(["F"])] == [("F", "Mg")]
    # Beside a likelier site it does not stand.
    both = HostOnAxis(replace(known, responses=(*known.responses, unlikely, replace(unlikely, replaces="O"))))
    assert [(one.element, one.replaces) for one in both.chosen(["F"])] == [("F", "O")]
