import pytest
import torch
from support.responses import made_up_library

from defectnet.model.comparison.batches import flags_of, most_promising, stacked
from defectnet.model.comparison.comparer import Comparer, ComparerSettings
from defectnet.model.comparison.features import compute_features, response_at
from defectnet.model.comparison.hosts import HostOnAxis


@pytest.fixture(scope="module")
def host():
    return HostOnAxis(made_up_library().host("made-up-MgO"))


def asked(host, amounts, source="endmember"):
    """The inputs of one spectrum in which the first dopants have these amounts."""
    entries = host.chosen(host.elements, source)
    by_name = {entry.element: entry for entry in entries}
    change = sum(c * by_name[e].curves[1] for e, c in amounts.items())
    flags = flags_of(computed=False, neutron=False, prior=True)[None]
    return entries, stacked(change[None], host.density[None].astype("float32"), [entries], flags)


def test_amounts_of_exact_responses_are_found(host):
    truth = {"Ca": 0.05, "Ni": 0.02}
    entries, given = asked(host, truth)
    seen = compute_features(given.change, given.pristine, given.responses)
    found = {entry.element: float(seen.log_amount[0, k].exp()) for k, entry in enumerate(entries)}
    for element, amount in truth.items():
        assert found[element] == pytest.approx(amount, rel=0.1)
    assert float(seen.whole[0, 3]) < 0.01  # nothing is left unexplained


def test_features_are_computed_where_the_change_is(host):
    """On torch's pretended device, which refuses to compute with what lies elsewhere, as a GPU does."""
    _, given = asked(host, {"Ca": 0.05})
    r = given.responses
    moved = type(r)(*(x.to("meta") for x in (r.curves, r.concentrations, r.mask, r.log_prior)))
    seen = compute_features(given.change.to("meta"), given.pristine.to("meta"), moved)
    assert {value.device.type for value in vars(seen).values()} == {"meta"}


def test_a_response_is_read_between_its_concentrations():
    curves = torch.tensor([[[[1.0], [2.0], [4.0]]]])
    nodes = torch.tensor([[[0.01, 0.05, 0.2]]])
    for amount, expected in ((0.0, 1.0), (0.03, 1.5), (0.05, 2.0), (0.125, 3.0), (0.4, 4.0)):
        assert float(response_at(curves, nodes, torch.tensor([[amount]]))) == pytest.approx(expected, abs=1e-4)


def test_padding_changes_nothing(host):
    entries, given = asked(host, {"Zn": 0.04})
    network = Comparer(ComparerSettings(width=16, layers=1, heads=2)).eval()
    with torch.no_grad():
        alone = network(given)
        both = stacked(
            given.change.repeat(2, 1).numpy(),
            given.pristine.repeat(2, 1).numpy(),
            [entries[:2], entries],
            given.flags.repeat(2, 1).numpy(),
        )
        together = network(both)
    assert together.logit[1] == pytest.approx(alone.logit[0], abs=1e-4)
    assert together.logit[0, 2:].tolist() == [-30.0] * (len(entries) - 2)


def test_the_order_of_candidates_means_nothing(host):
    entries, given = asked(host, {"Zn": 0.04})
    network = Comparer(ComparerSettings(width=16, layers=1, heads=2)).eval()
    turned = stacked(given.change.numpy(), given.pristine.numpy(), [entries[::-1]], given.flags.numpy())
    with torch.no_grad():
        assert network(turned).logit[0].flip(0) == pytest.approx(network(given).logit[0], abs=1e-4)


def test_nothing_measured_and_nothing_asked_are_finite(host):
    _, given = asked(host, {"Ca": 0.0})
    network = Comparer(ComparerSettings(width=16, layers=1, heads=2)).eval()
    with torch.no_grad():
        said = network(given)
    assert all(bool(torch.isfinite(part).all()) for part in said)


def test_the_sieve_keeps_what_explains(host):
    entries, given = asked(host, {"Al": 0.05}, "springs")
    smaller, kept = most_promising(given, 2)
    assert "Al" in {entries[k].element for k in kept[0].tolist()}
    assert smaller.responses.curves.shape[1] == smaller.about.shape[1] == 2
