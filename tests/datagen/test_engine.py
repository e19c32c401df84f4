"""The workbench: every mode is counted whatever the method, and a method may be named."""

from typing import get_args

import numpy as np
import pytest

from datagen.dopants import Replacement
from datagen.engine import Workbench
from datagen.methods import MethodName
from datagen.sampling import Plan

pytestmark = pytest.mark.physics


@pytest.mark.parametrize("method", ["embedded", "direct"])
def test_modes_are_counted(method: str, arsenide_bench: Workbench) -> None:
    share = 0.02 if method == "embedded" else 0.15
    plan = Plan(((Replacement("Al", "Ga", 1.0, False), share),))
    outcome = arsenide_bench.simulate(plan, np.random.default_rng(1))
    step = outcome.dos.bins.step_thz
    assert outcome.method == method
    assert outcome.dos.total.sum() * step == pytest.approx(3.0, rel=0.01)
    assert outcome.dos.total == pytest.approx(sum(outcome.dos.partial.values()))
    defect = outcome.defects[0]
    assert defect.concentration == pytest.approx(share, abs=0.5 / outcome.n_atoms)
    assert outcome.dos.partial["Al"].sum() * step == pytest.approx(3 * defect.concentration, rel=0.02)


@pytest.mark.parametrize("method", get_args(MethodName))
def test_a_named_method_is_the_one_that_is_used(method: MethodName, arsenide_bench: Workbench) -> None:
    plan = Plan(((Replacement("Al", "Ga", 1.0, False), 0.02),))
    outcome = arsenide_bench.simulate(plan, np.random.default_rng(1), method)
    assert outcome.method == method


def test_the_size_resolves_the_rarest_dopant(arsenide_bench: Workbench) -> None:
    sizes = {}
    for share in (0.01, 0.02, 0.2):
        plan = Plan(((Replacement("Al", "Ga", 1.0, False), share),))
        sizes[share] = arsenide_bench.choose_size(plan, "embedded")
    assert sizes[0.01] >= 1 / 0.01
    assert sizes[0.2] < sizes[0.02] <= sizes[0.01] <= 130  # the settings' largest
