"""One update of D on a global batch of 8, over the processes that torchrun has started; run by test_distributed.py.

Usage: torchrun --nproc-per-node N discriminator_step.py OUT
"""

import sys

import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel, MMSeparateDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import nn

from mmsagan.engine.distributed import prepare_distributed
from mmsagan.registry import MODELS
from mmsagan.utils import register_all_modules


@MODELS.register_module()
class LinearGenerator(nn.Module):
    """No batch norm, whose statistics would depend on the batch a process has."""

    noise_size = 4
    output_scale = 32

    def __init__(self, num_classes):
        super().__init__()
        self.linear = nn.Linear(4, 3 * 32 * 32)

    def forward(self, noise, label=None):
        return torch.tanh(self.linear(noise)).view(-1, 3, 32, 32)


def main() -> None:
    register_all_modules()
    cfg = Config(dict(model_wrapper_cfg=dict()))
    prepare_distributed(cfg, 'pytorch')
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    torch.manual_seed(0)
    gan = MODELS.build(
        dict(
            type='SAGAN',
            num_classes=3,
            generator=dict(type='LinearGenerator'),
            discriminator=dict(type='ProjDiscriminator', input_scale=32, base_channels=8, attention_after_nth_block=1),
            augment=dict(type='ADA', interval=2),  # which counts the logits of all processes, and changes nothing yet
            regularizers=dict(r1=dict(type='R1', gamma=1, interval=1), lecam=dict(type='LeCam', start_iter=-1)),
        )
    )
    images, noise = torch.rand(8, 3, 32, 32) * 2 - 1, torch.randn(8, 4)
    label, fake_label = torch.randint(3, (8,)), torch.randint(3, (8,))
    wrapped = MMSeparateDistributedDataParallel(gan, **cfg.model_wrapper_cfg)
    assert isinstance(gan.generator, MMDistributedDataParallel) and isinstance(gan.discriminator, MMDistributedDataParallel)
    mine = slice(rank * 8 // world, (rank + 1) * 8 // world)
    gan.draw_noise, gan.draw_label = lambda n: noise[mine], lambda n: fake_label[mine]
    # The runner initializes after wrapping: the init scheme must reach the networks, and the keys must not show the wrapper.
    keys = set(gan.state_dict())
    gan.init_weights()
    assert not any(value.any() for name, value in gan.discriminator.named_parameters() if name.endswith('.bias'))
    assert keys == set(gan.state_dict()) and 'discriminator.decision.bias' in keys and 'generator.linear.bias' in keys
    for value in gan.state_dict().values():
        torch.distributed.broadcast(value, 0)
    wrapped.train()
    # With lr 1 and plain SGD the weights move by the gradient.
    optimizer = OptimWrapper(torch.optim.SGD(gan.discriminator.parameters(), lr=1.0))
    before = {name: value.clone() for name, value in gan.discriminator.module.named_parameters()}
    gan.train_discriminator(images[mine], label[mine], optimizer)
    gradient = {name: before[name] - value for name, value in gan.discriminator.module.named_parameters()}
    results = dict(ada_signs=gan.augment.signs, anchors=gan.regularizers['lecam'].anchors)
    results.update({name: value.detach() for name, value in gradient.items()})
    torch.save(results, f'{sys.argv[1]}.{rank}')


if __name__ == '__main__':
    main()
