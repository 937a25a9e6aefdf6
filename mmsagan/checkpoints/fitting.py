"""Whether a loaded checkpoint fits a model, and what to tell the user if it only nearly does."""

import shlex
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmsagan.checkpoints.architecture import describe
from mmsagan.checkpoints.behaviour import Behaviour
from mmsagan.checkpoints.content import meta_of
from mmsagan.errors import CheckpointError
from mmsagan.models import ProjDiscriminator
from mmsagan.models.initializers import INIT_SCHEMES
from mmsagan.models.layers import ConditionalBatchNorm2d, DiscriminatorBlock


def fit_checkpoint(model: nn.Module, checkpoint: Mapping) -> list[str]:
    """Compares a checkpoint with a model, and completes its moving average.

    A checkpoint may lack the moving average, the iteration count and the whole discriminator, which begin anew.

    Args:
        model: A GAN.
        checkpoint: As loaded, under our names; its state dict gets a moving average if the model keeps one and it has none.

    Returns:
        What the user should know, one sentence each.

    Raises:
        CheckpointError: The checkpoint is of another architecture.
    """
    own, loaded = model.state_dict(), checkpoint.get('state_dict', checkpoint)
    check_state_dict(own, loaded)
    if 'iteration' in own:
        loaded.setdefault('iteration', torch.zeros_like(own['iteration']))
    warnings = []
    if begin_moving_average(own, loaded):
        warnings.append('the checkpoint has no moving average: it begins as a copy of the generator')
    if _has(loaded, 'generator_ema') and not _has(own, 'generator_ema'):
        warnings.append(
            'the checkpoint has a moving average of the generator, and the config none: the plain generator is used; '
            'set model.ema_config to use the average'
        )
    if _has(own, 'discriminator') and not _has(loaded, 'discriminator'):
        warnings.append('the checkpoint has no discriminator: the one here is untrained')
    behaviour = Behaviour.from_meta(meta_of(checkpoint))
    return warnings + (_differences(model, behaviour) if behaviour else [])


def compare(own: Mapping[str, Tensor], loaded: Mapping[str, Tensor]) -> tuple[list[str], list[str], list[str]]:
    """The keys that are missing in a checkpoint, that a model does not know, and whose shapes differ."""
    missing = [key for key in own if key not in loaded]
    unknown = [key for key in loaded if key not in own]
    return missing, unknown, [key for key in own if key in loaded and own[key].shape != loaded[key].shape]


def check_state_dict(own: Mapping[str, Tensor], loaded: Mapping[str, Tensor]) -> None:
    """Compares a checkpoint's names and shapes with a model's.

    Raises:
        CheckpointError: Names the first tensor that is missing, unknown or of another shape.
    """
    may_lack = ('iteration', *(f'{part}.' for part in ('generator_ema', 'discriminator') if not _has(loaded, part)))
    may_have = () if _has(own, 'generator_ema') else ('generator_ema.',)
    missing, unknown, reshaped = compare(own, loaded)
    missing = [key for key in missing if not key.startswith(may_lack)]
    unknown = [key for key in unknown if not key.startswith(may_have)]
    if reshaped:
        key = reshaped[0]
        what = f'{key} is {tuple(loaded[key].shape)} there and {tuple(own[key].shape)} in the model'
    elif missing:
        what = f'{missing[0]} is missing'
    elif unknown:
        what = f'{unknown[0]} is unknown to the model'
    else:
        return
    raise CheckpointError(
        f'the checkpoint is of another architecture: {what} ({len(reshaped)} tensors of another shape, {len(missing)} missing, '
        f'{len(unknown)} unknown); take the config that it was trained with{_options_that_fit(own, loaded)}'
    )


def begin_moving_average(own: Mapping[str, Tensor], loaded: dict[str, Tensor]) -> bool:
    """Gives a checkpoint without a moving average its generator as one, if the model keeps one. Returns whether it did."""
    average = [key for key in own if key.startswith('generator_ema.')]
    if not average or any(key in loaded for key in average):
        return False
    for key in average:
        loaded[key] = loaded[key.replace('generator_ema.', 'generator.', 1)].clone()
    return True


def _has(state: Mapping[str, Tensor], network: str) -> bool:
    return any(key.startswith(f'{network}.') for key in state)


def _options_that_fit(own: Mapping[str, Tensor], loaded: Mapping[str, Tensor]) -> str:
    """The options that would make the model the checkpoint's, if both are SAGANs."""
    try:
        wanted, has = (
            describe(state, Behaviour(), ProjDiscriminator.default_downsample.get).options() for state in (loaded, own)
        )
    except CheckpointError:
        return ''
    options = as_arguments({key: value for key, value in wanted.items() if has.get(key, value) != value})
    return f', or set {options}' if options else ''


def as_arguments(options: Mapping) -> str:
    """Options as one types them after ``--cfg-options`` in a shell."""
    return ' '.join(shlex.quote(f'{key}={value!r}'.replace(' ', '')) for key, value in options.items())


def _differences(model: nn.Module, behaviour: Behaviour) -> list[str]:
    """What a model does otherwise than the networks that its weights are from, though all tensors fit."""
    differences = []
    blocks = [module for module in model.modules() if isinstance(module, DiscriminatorBlock)]
    if any(block.shortcut_of_activation != behaviour.inplace for block in blocks):
        differences.append(
            f'the checkpoint is from networks {"with" if behaviour.inplace else "without"} in-place ReLU, unlike the config: '
            f'logits will differ; set model.discriminator.act_cfg.inplace={behaviour.inplace}'
        )
    offsets = {norm.weight_offset for norm in model.modules() if isinstance(norm, ConditionalBatchNorm2d)}
    if offsets - {INIT_SCHEMES[behaviour.init].cbn_weight_offset}:
        differences.append(
            f'the checkpoint is from a generator of the init scheme {behaviour.init}, whose class embeddings mean something '
            f'else than those of the config: images will be wrong; set model.generator.init_cfg.type={behaviour.init}'
        )
    epsilons = {norm.eps for norm in model.modules() if isinstance(norm, _BatchNorm)} - {behaviour.norm_eps}
    if epsilons:
        differences.append(
            f'the checkpoint is from a generator with a batch-norm epsilon of {behaviour.norm_eps:g}, the config has '
            f'{epsilons.pop():g}: images will differ a little; set model.generator.norm_eps={behaviour.norm_eps:g}'
        )
    return differences
