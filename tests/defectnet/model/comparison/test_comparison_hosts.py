import numpy as np
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
