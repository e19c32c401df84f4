"""Rows of made-up hosts for the tests of the comparison."""

import pytest
from support.responses import made_up_library, made_up_rows

from training.comparison.rows import ComparisonRows, RowHost


@pytest.fixture(scope="session")
def rows() -> ComparisonRows:
    return ComparisonRows.from_table(made_up_rows(), made_up_library())


@pytest.fixture(scope="session")
def in_training(rows: ComparisonRows) -> ComparisonRows:
    """The same rows, all in the training split: three formulas need not fall into it."""
    hosts = {
        name: RowHost(host.vibrational, host.neutron, host.ratio, "train", host.rows)
        for name, host in rows.hosts.items()
    }
    return ComparisonRows(**{**vars(rows), "hosts": hosts})
