"""The two sides of a comparison: a GAN computed the fast way, and the same one computed the plain way."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from mmengine.config import Config

from mmsagan.analysis.flops import build_counted, check_networks, image_shape
from mmsagan.analysis.measuring import Action
from mmsagan.engine.config import config_errors
from mmsagan.errors import ConfigError
from mmsagan.models import ConditionalGAN
from mmsagan.registry import MODELS
from mmsagan.utils.memory import keep_freed_memory, return_freed_memory

# By the names that the command line uses.
ALLOCATORS = dict(default=return_freed_memory, kept=keep_freed_memory)
CPU_BATCH_SIZE, LARGE_CPU_BATCH_SIZE, SMALL_IMAGES = 64, 16, 32


@dataclass(frozen=True)
class Setup:
    """What all measurements of a run have in common.

    Args:
        device: Where the networks are.
        against_reference: Whether there is a reference side.
        reference_allocator: How the reference side takes memory on a CPU in steps and in sampling, a name from
            :data:`ALLOCATORS`; all else keeps what it has freed, as it does in the tools.
    """

    device: torch.device
    against_reference: bool = True
    reference_allocator: str = 'default'

    def allocators(self) -> dict[str, Action]:
        """What sets how each side takes memory: arguments of a workload. On a GPU, PyTorch keeps its memory for both."""
        if self.device.type != 'cpu':
            return {}
        return dict(before_fast=keep_freed_memory, before_reference=ALLOCATORS[self.reference_allocator])


@dataclass(frozen=True)
class Sides:
    """A GAN of the same weights twice, on the device and in training mode.

    Args:
        fast: Computed the fast way.
        reference: Computed the plain way; None: no comparison.
    """

    fast: ConditionalGAN
    reference: ConditionalGAN | None


def build_sides(model: Mapping, setup: Setup) -> Sides:
    """Builds a config's GAN on both sides.

    Raises:
        ConfigError: The config describes no GAN that can be built.
    """
    fast = _build(switch_fast(model, True)).to(setup.device)
    fast.init_weights()
    reference = None
    if setup.against_reference:
        reference = _build(switch_fast(model, False)).to(setup.device)
        reference.load_state_dict(fast.state_dict())
    return Sides(fast, reference)


def _build(model: dict) -> ConditionalGAN:
    with config_errors():
        gan = MODELS.build(model)
    if not isinstance(gan, ConditionalGAN):
        raise ConfigError(f'model.type: a {type(gan).__name__} cannot be measured, it is no ConditionalGAN')
    return gan.train()


def switch_fast(model: Mapping, fast: bool) -> dict:
    """A GAN's config with every fast path, or with none.

    The plain side is not compiled either.

    Raises:
        ConfigError: It does not name both networks.
    """
    check_networks(model)
    options = {**model, 'fast': fast}
    if not fast:
        options.pop('compile_cfg', None)
    return options


def default_batch_size(cfg: Config, device: torch.device) -> int:
    """The batch size where none is given: on a GPU the config's, on a CPU at most what a step of it takes seconds for.

    Raises:
        ConfigError: The config does not say.
    """
    size = (cfg.get('train_dataloader') or {}).get('batch_size')
    if size is None:
        raise ConfigError(f'{cfg.filename} has no train_dataloader.batch_size; give --batch-size')
    if device.type != 'cpu':
        return size
    is_small = image_shape(build_counted(cfg.model))[-1] <= SMALL_IMAGES
    return min(size, CPU_BATCH_SIZE if is_small else LARGE_CPU_BATCH_SIZE)
