import pytest
import torch

from mmsagan.analysis.benchmarks.attention import CHANNELS, attention_pass, attention_workload
from mmsagan.analysis.benchmarks.sides import Setup
from mmsagan.models import SelfAttentionBlock
from mmsagan.models.layers import run_power_iterations


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_workload(precision):
    workload = attention_workload(8, precision, 2, Setup(torch.device('cpu')))
    assert (workload.what, workload.config, workload.precision, workload.images) == ('attention', 'feat8', precision, 2)
    # At the least the products of queries and keys and with the values: forward, and two of each backward.
    assert workload.flops > 3 * 2 * 2 * 64 * 16 * (CHANNELS // 8 + CHANNELS // 2)
    workload.fast(), workload.reference()
    assert attention_workload(8, precision, 2, Setup(torch.device('cpu'), against_reference=False)).reference is None


def test_both_sides_do_the_same():
    block, features = SelfAttentionBlock(16).eval(), torch.randn(2, 16, 8, 8)
    run_power_iterations(block)
    gradients = []
    for fused in (True, False):
        block.zero_grad()
        attention_pass(block, features, 'fp32', fused)()
        gradients.append(
            {
                name: parameter.grad.clone()
                for name, parameter in block.named_parameters()
                if name != 'gamma' and parameter.grad is not None
            }
        )
    assert gradients[0].keys() == gradients[1].keys() == {f'{name}.weight_orig' for name in ('theta', 'phi', 'g')}
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-4)
