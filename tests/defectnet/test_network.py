import numpy as np
import pytest
import torch

from defectnet.elements import VOCABULARY
from defectnet.features import FrequencyGrid, element_index, host_vector
from defectnet.host import Host
from defectnet.network import DefectNetwork, NetworkSettings

SMALL = NetworkSettings(width=32, encoder_layers=1, decoder_layers=1, stem_channels=8)
GRID = FrequencyGrid()


@pytest.fixture(scope="module")
def network() -> DefectNetwork:
    torch.manual_seed(0)
    return DefectNetwork(SMALL, GRID).eval()


def inputs(n: int, seed: int = 0, host: str = "GaAs") -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    sample, reference = (rng.dirichlet(np.full(GRID.n_bins, 0.2), n).astype(np.float32) for _ in range(2))
    hosts = np.repeat(host_vector(Host(host))[None], n, axis=0)
    asked = np.ones((n, len(VOCABULARY)), dtype=bool)
    return [torch.from_numpy(a) for a in (sample, reference, np.ones(n, dtype=bool), hosts, asked)]


def test_only_candidates_outside_the_host_are_answered(network: DefectNetwork) -> None:
    sample, reference, known, host, asked = inputs(2)
    asked[:] = False
    asked[0, [element_index("Al"), element_index("Ga")]] = True
    answer = network(sample, reference, known, host, asked)
    finite = torch.isfinite(answer.presence_logit)
    assert finite.nonzero().tolist() == [[0, element_index("Al")]]  # Ga is the host's own; row 1 asks for nothing
    assert torch.isfinite(answer.log_concentration).all()
    assert torch.isfinite(answer.pooled).all()


def test_a_row_does_not_depend_on_its_batch(network: DefectNetwork) -> None:
    batch = inputs(4)
    batch[4][0, 20:] = False  # fewer queries than the others: padding must not show
    together, alone = network(*batch), network(*(tensor[:1] for tensor in batch))
    torch.testing.assert_close(together.presence_logit[:1], alone.presence_logit, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.log_concentration[:1], alone.log_concentration, atol=1e-5, rtol=1e-4)


def test_an_absent_reference_is_not_read(network: DefectNetwork) -> None:
    sample, reference, _, host, asked = inputs(1)
    absent = torch.zeros(1, dtype=torch.bool)
    one = network(sample, reference, absent, host, asked)
    other = network(sample, reference.flip(1), absent, host, asked)
    torch.testing.assert_close(one.presence_logit, other.presence_logit)


def test_the_host_is_read(network: DefectNetwork) -> None:
    one, other = inputs(1, host="GaAs"), inputs(1, host="GaP")
    al = element_index("Al")
    assert network(*one).presence_logit[0, al] != network(*other).presence_logit[0, al]


def test_every_weight_gets_a_gradient() -> None:
    network = DefectNetwork(SMALL, GRID)
    batch = inputs(2)
    batch[2][0] = False
    answer = network(*batch)
    asked = torch.isfinite(answer.presence_logit)
    (answer.presence_logit[asked].sum() + answer.log_concentration.sum() + answer.log_spread.sum()).backward()
    # DDP waits for ever for a parameter that takes no part.
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_default_size_fits_the_budget() -> None:
    assert sum(p.numel() for p in DefectNetwork(NetworkSettings(), GRID).parameters()) < 1_500_000


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of heads"):
        NetworkSettings(width=30, heads=4)
    with pytest.raises(ValueError, match="multiple of patch_bins"):
        DefectNetwork(NetworkSettings(patch_bins=7), GRID)
