import numpy as np
import pytest
import torch

from defectnet.elements import VOCABULARY
from defectnet.host import Host
from defectnet.model.explain import attention_map
from defectnet.model.features import FrequencyGrid, element_index, host_vector
from defectnet.model.network import DefectNetwork, Inputs, NetworkSettings
from defectnet.model.prior import expectations

SMALL = NetworkSettings(width=32, encoder_layers=1, decoder_layers=1, stem_channels=8)
GRID = FrequencyGrid()


@pytest.fixture(scope="module")
def network() -> DefectNetwork:
    torch.manual_seed(0)
    return DefectNetwork(SMALL, GRID).eval()


def inputs(n: int, seed: int = 0, host: str = "GaAs") -> Inputs:
    rng = np.random.default_rng(seed)
    sample, reference = (rng.dirichlet(np.full(GRID.n_bins, 0.2), n).astype(np.float32) for _ in range(2))
    expected, site = expectations(Host(host))
    arrays = (
        sample,
        reference,
        np.ones(n, dtype=bool),
        np.zeros(n, dtype=bool),
        np.repeat(host_vector(Host(host))[None], n, axis=0),
        np.ones((n, len(VOCABULARY)), dtype=bool),
        np.repeat(expected[None], n, axis=0),
        np.repeat(site[None], n, axis=0),
        np.ones(n, dtype=bool),
    )
    return Inputs(*(torch.from_numpy(array) for array in arrays))


def test_only_candidates_outside_the_host_are_answered(network: DefectNetwork) -> None:
    given = inputs(2)
    given.asked[:] = False
    given.asked[0, [element_index("Al"), element_index("Ga")]] = True
    answer = network(*given)
    finite = torch.isfinite(answer.presence_logit)
    assert finite.nonzero().tolist() == [[0, element_index("Al")]]  # Ga is the host's own; row 1 asks for nothing
    assert torch.isfinite(answer.log_concentration).all()
    assert torch.isfinite(answer.pooled).all()


def test_a_row_does_not_depend_on_its_batch(network: DefectNetwork) -> None:
    batch = inputs(4)
    batch.asked[0, 20:] = False  # fewer queries than the others: padding must not show
    together, alone = network(*batch), network(*(tensor[:1] for tensor in batch))
    torch.testing.assert_close(together.presence_logit[:1], alone.presence_logit, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.log_concentration[:1], alone.log_concentration, atol=1e-5, rtol=1e-4)


def test_an_absent_reference_is_not_read(network: DefectNetwork) -> None:
    given = inputs(1)._replace(has_reference=torch.zeros(1, dtype=torch.bool))
    one = network(*given)
    other = network(*given._replace(reference=given.reference.flip(1)))
    torch.testing.assert_close(one.presence_logit, other.presence_logit)
    torch.testing.assert_close(one.signature, other.signature)


def test_a_prior_that_is_switched_off_is_not_read(network: DefectNetwork) -> None:
    given = inputs(1)._replace(has_prior=torch.zeros(1, dtype=torch.bool))
    other = given._replace(expected=given.expected + 1.0, site=given.site.flip(1))
    torch.testing.assert_close(network(*given).presence_logit, network(*other).presence_logit)
    assert not torch.equal(network(*inputs(1)).presence_logit, network(*given).presence_logit)


@pytest.mark.parametrize("name", ["host", "neutron"])
def test_host_and_kind_are_read(network: DefectNetwork, name: str) -> None:
    one = inputs(1, host="GaAs")
    other = one._replace(**{name: inputs(1, host="GaP").host if name == "host" else ~one.neutron})
    al = element_index("Al")
    assert network(*one).presence_logit[0, al] != network(*other).presence_logit[0, al]


def test_members_answer_with_their_mean_and_differ_in_training() -> None:
    torch.manual_seed(0)
    both = DefectNetwork(SMALL.model_copy(update={"members": 2}), GRID).eval()
    given = inputs(3)
    together = both(*given)
    parts = [member(given) for member in both.members]
    al = element_index("Al")
    torch.testing.assert_close(
        together.log_concentration[:, al], (parts[0].log_concentration + parts[1].log_concentration)[:, al] / 2
    )
    assert together.pooled.shape == (3, 2 * SMALL.width)
    # In training the first member sees the first two rows, the second the last one.
    trained = both.train()(*given)
    torch.testing.assert_close(trained.presence_logit[2], parts[1].presence_logit[2], atol=1e-5, rtol=1e-4)


def test_every_weight_gets_a_gradient() -> None:
    network = DefectNetwork(SMALL.model_copy(update={"members": 2}), GRID)
    answer = network(*inputs(2)._replace(has_reference=torch.tensor([False, True])))
    asked = torch.isfinite(answer.presence_logit)
    terms = (answer.presence_logit[asked], answer.log_concentration, answer.log_spread, answer.modes_logit)
    sum(term.sum() for term in terms).backward()
    # DDP waits for ever for a parameter that takes no part.
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_attention_is_where_the_queries_look(network: DefectNetwork) -> None:
    given = inputs(2)
    given.asked[1] = False
    looked = attention_map(network, given)
    al, ga = element_index("Al"), element_index("Ga")
    assert looked.shape == (2, len(VOCABULARY), GRID.n_bins // SMALL.patch_bins)
    assert 0.0 < looked[0, al].sum() < 1.0  # the rest goes to the host's tokens
    assert looked[0, ga].sum() == looked[1].sum() == 0.0


def test_default_size_fits_the_budget() -> None:
    assert sum(p.numel() for p in DefectNetwork(NetworkSettings(), GRID).parameters()) < 1_500_000


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of heads"):
        NetworkSettings(width=30, heads=4)
    with pytest.raises(ValueError, match="multiple of patch_bins"):
        DefectNetwork(NetworkSettings(patch_bins=7), GRID)


def test_half_the_digits_give_nearly_the_same_answer(network: DefectNetwork) -> None:
    """What a GPU is trained with, as far as a CPU can show it."""
    given = inputs(3)
    given.asked[:, 30:] = False
    exact = network(*given)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(*given)
    asked = torch.isfinite(exact.presence_logit)
    assert rough.presence_logit.dtype == torch.float32
    torch.testing.assert_close(rough.presence_logit[asked], exact.presence_logit[asked], atol=0.1, rtol=0.05)
    torch.testing.assert_close(rough.log_concentration[asked], exact.log_concentration[asked], atol=0.2, rtol=0.05)
    assert torch.isfinite(rough.owner_log).all()
