import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import remove_spectral_norm as torch_remove_spectral_norm
from torch.nn.utils import spectral_norm as torch_spectral_norm

from mmsagan.engine.optim import has_fast_bfloat16
from mmsagan.models.layers.spectral_norm import (
    NetworkSpectralNorm,
    fold_spectral_norm,
    run_power_iterations,
    sigma,
    spectral_norm,
)
from mmsagan.registry import MODELS

# Without its instructions, PyTorch's convolutions round otherwise in another memory format.
NEEDS_BFLOAT16 = pytest.mark.skipif(not has_fast_bfloat16(), reason='needs a CPU with bfloat16')


def layers():
    return [nn.Conv2d(4, 6, 3), nn.Linear(10, 7), nn.Embedding(5, 8)]


def call(layer):
    inputs = {nn.Conv2d: torch.ones(2, 4, 5, 5), nn.Linear: torch.ones(2, 10), nn.Embedding: torch.tensor([0, 3])}
    return layer(inputs[type(layer)])


@pytest.mark.parametrize('index', range(3))
def test_sigma_is_the_largest_singular_value(index):
    layer = spectral_norm(layers()[index])
    for _ in range(200):
        call(layer)
    expected = torch.linalg.matrix_norm(layer.weight_orig.detach().flatten(1), 2)
    torch.testing.assert_close(sigma(layer), expected, rtol=1e-4, atol=0)
    folded = fold_spectral_norm(copy.deepcopy(layer))
    torch.testing.assert_close(folded.weight.detach(), layer.weight_orig.detach() / expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('index', range(3))
def test_equals_torch_with_gradients_and_buffers(index):
    plain = layers()[index]
    ours, theirs = spectral_norm(copy.deepcopy(plain)), torch_spectral_norm(copy.deepcopy(plain), eps=1e-12)
    theirs.load_state_dict(ours.state_dict())
    for _ in range(3):
        for layer in (ours, theirs):
            # Two forwards before the backward, as in a step of D.
            (call(layer).sum() + call(layer).square().sum()).backward()
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value)
    torch.testing.assert_close(ours.weight_orig.grad, theirs.weight_orig.grad)


class Network(nn.Module):
    """Layers of several shapes; the head computes in float32, and the frozen layer is in evaluation mode."""

    def __init__(self, normalize):
        super().__init__()
        self.body = nn.Sequential(normalize(nn.Conv2d(3, 6, 3)), nn.ReLU(), normalize(nn.Conv2d(6, 5, 1)))
        self.frozen, self.unused = normalize(nn.Conv2d(5, 5, 3)), normalize(nn.Linear(2, 2))
        self.head, self.classes = normalize(nn.Linear(5, 4)), normalize(nn.Embedding(7, 4))

    def train(self, mode: bool = True):
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, x, label):
        features = self.frozen(self.body(x)).sum((2, 3))
        with torch.autocast('cpu', enabled=False):
            return (self.head(features.to(self.head.bias)) * self.classes(label)).sum(1)


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('amp', [False, pytest.param(True, marks=NEEDS_BFLOAT16)])
def test_a_network_at_once_equals_its_layers_one_by_one(amp, channels_last):
    torch.manual_seed(0)
    ours = Network(spectral_norm)
    theirs = Network(lambda layer: layer if amp else torch_spectral_norm(layer, eps=1e-12))
    theirs = copy.deepcopy(ours) if amp else theirs  # autocast rounds otherwise within torch's
    theirs.load_state_dict(ours.state_dict())
    NetworkSpectralNorm(ours)
    if channels_last:
        ours.to(memory_format=torch.channels_last)
    x, label = torch.randn(4, 3, 6, 6), torch.tensor([0, 2, 2, 6])
    if not amp:
        ours, theirs, x = ours.double(), theirs.double(), x.double()
    for _ in range(2):
        outputs = []
        for network in (ours.train(), theirs.train()):
            with torch.autocast('cpu', torch.bfloat16, enabled=amp):
                first, second = (network(inputs, label) for inputs in (x, x.flip(0)))
            (first.square().sum() + second.sum()).backward()
            outputs.append(first)
        torch.testing.assert_close(*outputs)
    close = dict(rtol=1e-4, atol=1e-4) if amp else {}
    unused = {'unused.weight_u', 'unused.weight_v'}  # those of the whole network run
    for key in ours.state_dict().keys() - unused:
        torch.testing.assert_close(ours.state_dict()[key], theirs.state_dict()[key], **close)
    for (name, weight), other in zip(ours.named_parameters(), theirs.parameters()):
        assert (weight.grad is None) == (other.grad is None) == name.startswith('unused')
        if weight.grad is not None:
            torch.testing.assert_close(weight.grad, other.grad, **close)


def test_a_layer_that_runs_twice_in_a_network():
    """Each run has a power iteration of its own, as torch's."""
    outputs, networks = [], [nn.Sequential(nn.Linear(6, 6)).double() for _ in range(2)]
    ours, theirs = spectral_norm(networks[0][0]), torch_spectral_norm(networks[1][0], eps=1e-12)
    theirs.load_state_dict(ours.state_dict())
    networks = [nn.Sequential(layer, nn.ReLU(), layer) for layer in (ours, theirs)]
    NetworkSpectralNorm(networks[0])
    for network in networks:
        outputs.append(network(torch.ones(2, 6, dtype=torch.double)))
        outputs[-1].square().sum().backward()
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(ours.weight_u, theirs.weight_u)
    torch.testing.assert_close(ours.weight_orig.grad, theirs.weight_orig.grad)


def test_layers_of_a_network_keep_no_weight_and_work_alone():
    network = Network(spectral_norm)
    hooks = NetworkSpectralNorm(network)
    with pytest.raises(RuntimeError):
        network(torch.randn(1, 9, 6, 6), torch.tensor([0]))
    network(torch.randn(1, 3, 6, 6), torch.tensor([0]))
    for layer in hooks.layers[:3]:
        assert layer.weight.data_ptr() == layer.weight_orig.data_ptr() and layer.weight.grad_fn is None
    copied = copy.deepcopy(network)
    before = copied.head.weight_u.clone()
    copied(torch.randn(1, 3, 6, 6), torch.tensor([0]))
    assert torch.equal(network.head.weight_u, before) and not torch.equal(copied.head.weight_u, before)
    alone = copied.head.weight_u.clone()
    call(copied.classes), copied.head(torch.ones(1, 5))
    assert not torch.equal(copied.head.weight_u, alone), 'a power iteration'
    folded = fold_spectral_norm(copy.deepcopy(copied).eval())
    torch.testing.assert_close(*(each(torch.ones(1, 3, 6, 6), torch.tensor([1])) for each in (folded, copied.eval())))


def test_evaluation_takes_the_stored_vectors():
    layer = spectral_norm(nn.Linear(10, 7)).eval()
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    x = torch.randn(3, 10)
    u, v, weight = before['weight_u'], before['weight_v'], before['weight_orig']
    torch.testing.assert_close(layer(x), x @ (weight / (u @ weight @ v)).t() + before['bias'])
    assert all(torch.equal(before[key], value) for key, value in layer.state_dict().items())


def test_gradient_of_an_evaluation_after_a_power_iteration():
    layer = spectral_norm(nn.Linear(10, 7).double()).eval()
    x, weight, bias = torch.randn(3, 10).double(), layer.weight_orig.detach().clone().requires_grad_(), layer.bias.detach()
    u, v = layer.weight_u.clone(), layer.weight_v.clone()
    (expected,) = torch.autograd.grad((x @ (weight / (u @ weight @ v)).t() + bias).square().sum(), weight)
    out = layer(x)
    layer.train()(x)  # moves u and v
    out.square().sum().backward()
    torch.testing.assert_close(layer.weight_orig.grad, expected)


def test_sigma_does_not_depend_on_autocast():
    layer = spectral_norm(nn.Linear(64, 64))
    used: list = []
    layer.register_forward_hook(lambda module, *_: used.append(module.weight), prepend=True)
    other = copy.deepcopy(layer)
    layer(torch.randn(1, 64))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        other(torch.randn(1, 64))
    assert torch.equal(layer.weight_u, other.weight_u) and torch.equal(sigma(layer), sigma(other))
    assert used[0].dtype == torch.float32 and torch.equal(used[1], used[0].bfloat16())


def test_embeddings_stay_precise_under_autocast():
    layer = spectral_norm(nn.Embedding(5, 8))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert layer(torch.tensor([1])).dtype == torch.float32


@pytest.mark.parametrize('training', [True, False])
def test_channels_last_weights(training):
    plain = nn.Conv2d(4, 6, 3)
    ours, theirs = spectral_norm(copy.deepcopy(plain)), torch_spectral_norm(copy.deepcopy(plain), eps=1e-12)
    theirs.load_state_dict(ours.state_dict())
    ours.to(memory_format=torch.channels_last)
    assert not ours.weight_orig.is_contiguous()
    for layer in (ours, theirs):
        layer.train(training)
        (call(layer).sum() + call(layer).square().sum()).backward()
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value)
    torch.testing.assert_close(ours.weight_orig.grad, theirs.weight_orig.grad, rtol=1e-4, atol=1e-4)
    assert ours.weight_orig.grad.stride() == ours.weight_orig.stride()


def test_gradient_of_the_gradient():
    layer = spectral_norm(nn.Linear(4, 3).double()).eval()

    def output(weight):
        return torch.func.functional_call(layer, {'weight_orig': weight}, torch.ones(1, 4, dtype=torch.double)).square()

    weight = layer.weight_orig.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(output, weight) and torch.autograd.gradgradcheck(output, weight)


def test_settling_makes_the_first_forward_right():
    network = nn.Sequential(spectral_norm(nn.Linear(50, 40)))
    run_power_iterations(network, iterations=300)
    expected = torch.linalg.matrix_norm(network[0].weight_orig.detach(), 2)
    torch.testing.assert_close(sigma(network[0]), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize('index', range(3))
def test_folding_leaves_a_plain_layer_with_torchs_weight(index):
    plain = layers()[index]
    ours, theirs = spectral_norm(copy.deepcopy(plain)), torch_spectral_norm(copy.deepcopy(plain), eps=1e-12)
    theirs.load_state_dict(ours.state_dict())
    for _ in range(2):
        call(ours), call(theirs)
    expected = call(ours.eval())
    assert fold_spectral_norm(ours) is ours
    assert torch.equal(call(ours), expected)
    assert ours.state_dict().keys() == plain.state_dict().keys() and isinstance(ours.weight, nn.Parameter)
    assert not ours._forward_pre_hooks and not ours._forward_hooks
    torch.testing.assert_close(ours.weight, torch_remove_spectral_norm(theirs.eval()).weight)


def test_folding_a_network_changes_no_image(gan_config):
    gan = MODELS.build(gan_config())
    gan.init_weights()
    network = gan.generator
    torch.nn.init.constant_(network.conv_blocks[2].gamma, 0.7)
    noise, label = torch.randn(4, 16), torch.tensor([0, 1, 2, 0])
    network(noise, label)
    expected = network.eval()(noise, label)
    assert torch.equal(fold_spectral_norm(network)(noise, label), expected)
    assert not any('weight_' in key for key in network.state_dict() if 'embedding' not in key)
    assert torch.equal(fold_spectral_norm(network)(noise, label), expected)  # a plain network stays as it is
