"""StudioGAN's checkpoints: two generations of one format, one file a network.

A file is a dict with ``state_dict`` and training state. Since January 2022 the class-conditional scale and shift are linear
layers on the one-hot label (``gain``, ``bias``), before that they were embeddings (``embed0``, ``embed1``). Images are RGB,
activations work in place.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from mmsagan.checkpoints.architecture import Architecture
from mmsagan.checkpoints.rules import SCALAR, TRANSPOSED, KeyTable, Rule
from mmsagan.errors import CheckpointError


def _residual_block(foreign: str, ours: str) -> tuple[Rule, ...]:
    return (
        Rule(f'{foreign}.conv2d0.{{layer}}', f'{ours}.shortcut.{{layer}}'),
        Rule(f'{foreign}.conv2d1.{{layer}}', f'{ours}.conv_1.{{layer}}'),
        Rule(f'{foreign}.conv2d2.{{layer}}', f'{ours}.conv_2.{{layer}}'),
    )


def _attention(foreign: str, ours: str) -> tuple[Rule, ...]:
    return (
        Rule(f'{foreign}.sigma', f'{ours}.gamma', SCALAR),
        Rule(f'{foreign}.conv1x1_theta.{{layer}}', f'{ours}.theta.{{layer}}'),
        Rule(f'{foreign}.conv1x1_phi.{{layer}}', f'{ours}.phi.{{layer}}'),
        Rule(f'{foreign}.conv1x1_g.{{layer}}', f'{ours}.g.{{layer}}'),
        Rule(f'{foreign}.conv1x1_attn.{{layer}}', f'{ours}.o.{{layer}}'),
    )


def _linear_on_one_hot(foreign: str, ours: str) -> tuple[Rule, ...]:
    """(C, classes) there, (classes, C) here, so that u and v change places, too."""
    return (
        Rule(f'{foreign}.weight', f'{ours}.weight', TRANSPOSED),
        Rule(f'{foreign}.weight_orig', f'{ours}.weight_orig', TRANSPOSED),
        Rule(f'{foreign}.weight_u', f'{ours}.weight_v'),
        Rule(f'{foreign}.weight_v', f'{ours}.weight_u'),
    )


_BLOCK, _OUR_BLOCK = 'blocks.{block}.0', 'conv_blocks.{block}'
_NORM, _OUR_NORM = f'{_BLOCK}.bn{{number}}', f'{_OUR_BLOCK}.norm_{{number}}'

_GENERATOR = (
    Rule('linear0.{layer}', 'noise2feat.{layer}'),
    *_residual_block(_BLOCK, _OUR_BLOCK),
    *_attention(_BLOCK, _OUR_BLOCK),
    Rule(f'{_NORM}.bn.{{norm}}', f'{_OUR_NORM}.norm.{{norm}}'),
    Rule(f'{_NORM}.{{norm}}', f'{_OUR_NORM}.{{norm}}'),  # of an unconditional generator
    Rule('bn4.{norm}', 'to_rgb.bn.{norm}'),
    Rule('conv2d5.{layer}', 'to_rgb.conv.{layer}'),
)
GENERATOR = KeyTable(
    (
        *_GENERATOR,
        *_linear_on_one_hot(f'{_NORM}.gain', f'{_OUR_NORM}.weight_embedding'),
        *_linear_on_one_hot(f'{_NORM}.bias', f'{_OUR_NORM}.bias_embedding'),
    )
)
LEGACY_GENERATOR = KeyTable(
    (
        *_GENERATOR,
        Rule(f'{_NORM}.embed0.{{layer}}', f'{_OUR_NORM}.weight_embedding.{{layer}}'),
        Rule(f'{_NORM}.embed1.{{layer}}', f'{_OUR_NORM}.bias_embedding.{{layer}}'),
    )
)
DISCRIMINATOR = KeyTable(
    (
        *_residual_block('blocks.0.0', 'from_rgb'),
        *_residual_block('blocks.{block+1}.0', _OUR_BLOCK),
        *_attention('blocks.{block+1}.0', _OUR_BLOCK),
        Rule('linear1.{layer}', 'decision.{layer}'),
        Rule('embedding.{layer}', 'proj_y.{layer}'),
    )
)


def is_generator(keys: Mapping[str, Tensor]) -> bool:
    """Whether a state dict looks like a generator's."""
    return any(re.match(r'(module\.)?linear0\.weight', key) for key in keys)


def is_discriminator(keys: Mapping[str, Tensor]) -> bool:
    """Whether a state dict looks like a discriminator's."""
    return any(re.match(r'(module\.)?linear1\.weight', key) for key in keys)


def is_legacy(keys: Mapping[str, Tensor]) -> bool:
    """Whether a generator's state dict is from before January 2022."""
    return any('.embed0.' in key for key in keys)


def table_of(network: str, state: Mapping[str, Tensor]) -> KeyTable:
    """The table for a state dict of the network ``'generator'``, ``'generator_ema'`` or ``'discriminator'``."""
    if network == 'discriminator':
        return DISCRIMINATOR
    return LEGACY_GENERATOR if is_legacy(state) else GENERATOR


# By image size: the channels that enter G's blocks and leave D's later ones, as multiples of g_conv_dim and d_conv_dim.
_GENERATOR_WIDTHS = {
    32: [4, 4, 4],
    64: [16, 8, 4, 2],
    128: [16, 16, 8, 4, 2],
    256: [16, 16, 8, 8, 4, 2],
    512: [16, 16, 8, 8, 4, 2, 1],
}
_DISCRIMINATOR_WIDTHS = {
    32: [2, 2, 2],
    64: [2, 4, 8, 16],
    128: [2, 4, 8, 16, 16],
    256: [2, 4, 8, 8, 16, 16],
    512: [1, 2, 4, 8, 8, 16, 16],
}


def downsample_table(scale: int) -> list[bool] | None:
    """Which of D's blocks after the first halve the size: at 32 pixels one, else all but the last; None: no such size."""
    if scale not in _DISCRIMINATOR_WIDTHS:
        return None
    return [True, False, False] if scale == 32 else [True] * (len(_DISCRIMINATOR_WIDTHS[scale]) - 1) + [False]


def settings_of(architecture: Architecture) -> dict:
    """The settings of StudioGAN's config file that an architecture needs, section by section.

    Raises:
        CheckpointError: StudioGAN has no such network; the message says what it lacks.
    """
    g, d = architecture.generator, architecture.discriminator
    scale = g['output_scale']
    smallest = (4, 2) if scale == 32 else (1, 1)
    g_conv_dim, d_conv_dim = (network['base_channels'] // factor for network, factor in zip((g, d), smallest))
    fits = [
        (scale in _GENERATOR_WIDTHS and g['input_scale'] == 4, f'images of {scale} pixels that begin with {g["input_scale"]}'),
        (g['out_channels'] == 3, f'images of {g["out_channels"]} channels'),
        (_has_widths(g, _GENERATOR_WIDTHS.get(scale), g_conv_dim), 'generator with blocks of these widths'),
        (_has_widths(d, _DISCRIMINATOR_WIDTHS.get(scale), d_conv_dim), 'discriminator with blocks of these widths'),
        (d['downsample_cfg'] == downsample_table(scale), f'discriminator that halves the size by {d["downsample_cfg"]}'),
        (_has_usual_attention(g) and _has_usual_attention(d), 'attention of these widths'),
        (g['with_embedding_spectral_norm'] == g['with_spectral_norm'], 'spectral norm in some of the layers only'),
        (d['with_spectral_norm'], 'discriminator without spectral norm and without batch norm'),
        (g['init_cfg']['type'] in ('studio', 'BigGAN'), 'class embeddings that are used without adding 1'),
        (g['norm_eps'] == 1e-4, f'batch norms with an epsilon of {g["norm_eps"]:g}, only 1e-4'),
    ]
    for is_there, what in fits:
        if not is_there:
            raise CheckpointError(f'StudioGAN cannot express this model: it has no {what}')
    return dict(
        DATA=dict(img_size=scale, num_classes=architecture.num_classes),
        MODEL=dict(
            backbone='resnet',
            g_cond_mtd='cBN' if g['use_cbn'] else 'W/O',
            d_cond_mtd='PD' if architecture.num_classes else 'W/O',
            apply_g_sn=g['with_spectral_norm'],
            apply_d_sn=True,
            apply_attn=g['attention_cfg'] is not None,
            attn_g_loc=_as_list(g['attention_after_nth_block']),
            attn_d_loc=_as_list(d['attention_after_nth_block']),
            z_dim=g['noise_size'],
            g_conv_dim=g_conv_dim,
            d_conv_dim=d_conv_dim,
        ),
    )


def _has_widths(network: Mapping, factors: list[int] | None, width: int) -> bool:
    wanted = [factor * width for factor in factors or ()]
    return [factor * network['base_channels'] for factor in network['channels_cfg']] == wanted


def _has_usual_attention(network: Mapping) -> bool:
    return network['attention_cfg'] in (None, dict(type='SelfAttentionBlock'))


def _as_list(numbers: int | list[int]) -> list[int]:
    return numbers if isinstance(numbers, list) else [numbers] if numbers else []
