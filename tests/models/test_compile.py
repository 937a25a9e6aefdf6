"""Compiled networks compute what the others do, and keep nothing that CUDA graphs would overwrite."""

import copy
import gc
import os
import shutil

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from mmsagan.engine.optim import BFloat16OptimWrapper, has_fast_bfloat16
from mmsagan.models.layers.blocks import GeneratorBlock, LayerFactory
from mmsagan.models.layers.spectral_norm import NetworkSpectralNorm
from mmsagan.registry import MODELS

N = 4
CONFIG = dict(
    type='SAGAN',
    num_classes=3,
    generator=dict(type='SAGANGenerator', output_scale=8, base_channels=8, noise_size=4, with_spectral_norm=True),
    discriminator=dict(type='ProjDiscriminator', input_scale=8, base_channels=8),
    ema_config=dict(momentum=0.9),
)
CONFIG['generator'].update(channels_cfg=[1], attention_after_nth_block=1)
CONFIG['discriminator'].update(channels_cfg=[1], downsample_cfg=[False], attention_after_nth_block=0)


class Backend:
    """Runs the graphs that Dynamo finds as they are; notes the shapes of each one's inputs, and the results of all."""

    def __init__(self):
        self.graphs, self.results = [], []

    def __call__(self, graph, inputs):
        self.graphs.append([each.shape if isinstance(each, torch.Tensor) else None for each in inputs])

        def run(*args):
            results = graph(*args)
            given = {StorageWeakRef(each.untyped_storage()).cdata for each in args if isinstance(each, torch.Tensor)}
            made = [StorageWeakRef(each.untyped_storage()) for each in results if isinstance(each, torch.Tensor)]
            self.results += [each for each in made if each.cdata not in given]
            return results

        return run


def train(gan, kind):
    """Trains two iterations on random data, and returns all that is logged."""
    torch.manual_seed(1)
    wrappers = {
        name: kind(optimizer=torch.optim.Adam(getattr(gan, name).parameters(), lr=1e-3))
        for name in ('generator', 'discriminator')
    }
    batches = torch.randint(0, 256, (2, N, 3, 8, 8), dtype=torch.uint8)
    return [gan.train_step(dict(inputs=images, labels=torch.tensor([0, 1, 2, 0])), wrappers) for images in batches]


@pytest.fixture
def gan():
    """Attention in it takes part."""
    torch._dynamo.reset()  # a process has at most eight graphs of a function
    gan = MODELS.build(CONFIG)
    gan.init_weights()
    nn.init.constant_(gan.generator.conv_blocks[1].gamma, 0.7)
    return gan


def compile_copy(gan, **compile_cfg):
    compiled = MODELS.build(dict(CONFIG, compile_cfg=dict(fullgraph=True, **compile_cfg)))
    compiled.load_state_dict(gan.state_dict())
    return compiled


@pytest.mark.slow
@pytest.mark.parametrize('kind', [OptimWrapper, BFloat16OptimWrapper])
def test_compiled_networks_train_alike(gan, kind, monkeypatch):
    """In one graph for each of four passes: the fake images of D and of G, D's real and fake images, its fake ones for G."""
    backend, begins = Backend(), []
    compiled = compile_copy(gan, backend=backend)

    def begin():
        begins.append(len(backend.results))
        gc.collect()
        assert all(result.expired() for result in backend.results), 'a CUDA graph would overwrite it'
        assert all(parameter.grad is None for parameter in compiled.parameters())

    monkeypatch.setattr(torch.compiler, 'cudagraph_mark_step_begin', begin)
    torch.testing.assert_close(train(compiled, kind), train(gan, kind), rtol=1e-4, atol=1e-5)
    assert len(begins) == 4 and 0 < begins[1] < begins[2] < begins[3], 'once an update'
    assert len(backend.graphs) == 4
    sizes = [{shape[0] for shape in shapes if shape[1:] == (3, 8, 8)} for shapes in backend.graphs]
    assert sizes == [set(), {2 * N}, set(), {N}], 'specialized to both sizes: no input is a symbol'
    for key, value in gan.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[key], value, rtol=1e-4, atol=1e-5)
    for name in ('generator', 'discriminator'):  # CUDA graphs copy other inputs in each pass, and cannot change them
        network = getattr(compiled, name)
        assert all(hasattr(tensor, '_dynamo_static_input_type') for tensor in (*network.parameters(), *network.buffers()))
    count = len(backend.results)
    compiled.sample(num_samples=3, sample_model='orig')
    assert len(backend.results) == count, 'samples, which may be kept, come from no graph'


def test_the_config_decides_about_dynamic_shapes(gan):
    backend = Backend()
    compile_copy(gan, backend=backend, dynamic=True).discriminator(torch.randn(N, 3, 8, 8), torch.zeros(N, dtype=torch.long))
    assert any(shape is None for shapes in backend.graphs for shape in shapes)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which(os.environ.get('CXX', 'g++')), reason='needs a C++ compiler')
@pytest.mark.skipif(not has_fast_bfloat16(), reason='needs a CPU with bfloat16: elsewhere, PyTorch rounds otherwise')
def test_the_real_backend_computes_the_same():
    """Where it is told to round as PyTorch does: in bfloat16, gradients differ by 8 % from those in float32."""
    from torch._inductor import metrics

    network = nn.Sequential(GeneratorBlock(8, 8, LayerFactory()), nn.ReLU())
    networks = network, copy.deepcopy(network)
    x, direction, results = torch.randn(N, 8, 4, 4), torch.randn(N, 8, 8, 8), []
    metrics.reset()
    for network, is_compiled in zip(networks, (False, True)):
        NetworkSpectralNorm(network)
        if is_compiled:
            network.compile(fullgraph=True, dynamic=False, options=dict(emulate_precision_casts=True))
        with torch.autocast('cpu', dtype=torch.bfloat16):
            features = network(x)
        (features * direction).sum().backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        results.append(dict(gradients, features=features.detach(), **dict(network.named_buffers())))
    assert metrics.generated_kernel_count > 0
    largest = max(value.float().norm() for value in results[0].values())
    for key, value in results[0].items():
        difference = torch.dist(results[1][key].float(), value.float())
        assert difference <= 0.02 * value.float().norm() + 1e-3 * largest, key
        if key.endswith(('weight_u', 'weight_v')):  # in float32
            torch.testing.assert_close(results[1][key], value)
