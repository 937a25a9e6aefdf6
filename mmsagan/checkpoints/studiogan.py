"""StudioGAN's checkpoints: two generations of one format, one file per network.

Since January 2022 the class-conditional scale and shift are linear layers on the one-hot label (``gain``, ``bias``), before
that they were embeddings (``embed0``, ``embed1``). Images are RGB, activations work in place.
"""

import re
from collections.abc import Iterable, Mapping

from mmsagan.checkpoints.rules import KeyTable, Rule
from mmsagan.errors import CheckpointError

_BLOCK, _OUR_BLOCK = 'blocks.{block}.0', 'conv_blocks.{block}'
_NORM, _OUR_NORM = f'{_BLOCK}.bn{{number}}', f'{_OUR_BLOCK}.norm_{{number}}'
_CONVOLUTIONS = {'conv2d0': 'shortcut', 'conv2d1': 'conv_1', 'conv2d2': 'conv_2'}
_PROJECTIONS = {'conv1x1_theta': 'theta', 'conv1x1_phi': 'phi', 'conv1x1_g': 'g', 'conv1x1_attn': 'o'}

_BLOCKS = (
    *(
        Rule(f'{_BLOCK}.{foreign}.{{layer}}', f'{_OUR_BLOCK}.{ours}.{{layer}}')
        for foreign, ours in {**_CONVOLUTIONS, **_PROJECTIONS}.items()
    ),
    Rule(f'{_BLOCK}.sigma', f'{_OUR_BLOCK}.gamma', lambda tensor: tensor.reshape(() if tensor.ndim else 1)),
)
_GENERATOR = (
    Rule('linear0.{layer}', 'noise2feat.{layer}'),
    *_BLOCKS,
    Rule(f'{_NORM}.bn.{{norm}}', f'{_OUR_NORM}.norm.{{norm}}'),
    Rule(f'{_NORM}.{{norm}}', f'{_OUR_NORM}.{{norm}}'),  # of an unconditional generator
    Rule('bn4.{norm}', 'to_rgb.bn.{norm}'),
    Rule('conv2d5.{layer}', 'to_rgb.conv.{layer}'),
)
# A linear layer on a one-hot vector is the transpose of an embedding: (C, classes) there and (classes, C) here, so u and v are
# exchanged, too.
_LINEAR_LAYERS = tuple(
    Rule(f'{_NORM}.{foreign}.{there}', f'{_OUR_NORM}.{ours}.{here}', change)
    for foreign, ours in (('gain', 'weight_embedding'), ('bias', 'bias_embedding'))
    for there, here, change in (
        ('weight', 'weight', lambda tensor: tensor.t().contiguous()),
        ('weight_orig', 'weight_orig', lambda tensor: tensor.t().contiguous()),
        ('weight_u', 'weight_v', None),
        ('weight_v', 'weight_u', None),
    )
)
_EMBEDDINGS = (
    Rule(f'{_NORM}.embed0.{{layer}}', f'{_OUR_NORM}.weight_embedding.{{layer}}'),
    Rule(f'{_NORM}.embed1.{{layer}}', f'{_OUR_NORM}.bias_embedding.{{layer}}'),
)
# Written as linear layers, which come first.
GENERATOR = KeyTable((*_GENERATOR, *_LINEAR_LAYERS, *_EMBEDDINGS))
DISCRIMINATOR = KeyTable(
    (
        *(Rule(f'blocks.0.0.{foreign}.{{layer}}', f'from_rgb.{ours}.{{layer}}') for foreign, ours in _CONVOLUTIONS.items()),
        *_BLOCKS,
        Rule('linear1.{layer}', 'decision.{layer}'),
        Rule('embedding.{layer}', 'proj_y.{layer}'),
    ),
    block_offset=1,
)


def find_network(keys: Iterable[str]) -> str | None:
    """Returns whether keys look like those of a ``'generator'`` or a ``'discriminator'``; None for neither."""
    first = next((match[1] for match in (re.match(r'linear([01])\.weight', key) for key in keys) if match), None)
    return {'0': 'generator', '1': 'discriminator'}.get(first) if first else None


# By image size: input channels of G's blocks and output channels of D's later ones, as multiples of g_conv_dim and d_conv_dim.
_WIDTHS = {
    32: ([4, 4, 4], [2, 2, 2]),
    64: ([16, 8, 4, 2], [2, 4, 8, 16]),
    128: ([16, 16, 8, 4, 2], [2, 4, 8, 16, 16]),
    256: ([16, 16, 8, 8, 4, 2], [2, 4, 8, 8, 16, 16]),
    512: ([16, 16, 8, 8, 4, 2, 1], [1, 2, 4, 8, 8, 16, 16]),
}


def get_downsample_cfg(scale: int) -> list[bool] | None:
    """Returns which of D's blocks after the first halve images of ``scale`` pixels; None for a size that StudioGAN lacks."""
    if scale == 32:
        return [True, False, False]
    return [True] * (len(_WIDTHS[scale][1]) - 1) + [False] if scale in _WIDTHS else None


def make_config(model: Mapping) -> dict:
    """Makes the sections of StudioGAN's config file that the config of a model needs.

    Raises a CheckpointError that says what StudioGAN lacks if it has no such network.
    """
    g, d = model['generator'], model['discriminator']
    scale = g['output_scale']
    conv_dims = [g['base_channels'] // (4 if scale == 32 else 1), d['base_channels'] // (2 if scale == 32 else 1)]
    has_widths = [
        [factor * network['base_channels'] for factor in network['channels_cfg']] == [width * conv_dim for width in widths]
        for network, widths, conv_dim in zip((g, d), _WIDTHS.get(scale, ([], [])), conv_dims)
    ]
    attention_cfgs = g['attention_cfg'], d['attention_cfg']
    requirements = [
        (scale in _WIDTHS and g['input_scale'] == 4, f'images of {scale} pixels that begin with {g["input_scale"]}'),
        (g['out_channels'] == 3, f'images of {g["out_channels"]} channels'),
        (has_widths[0], 'generator with blocks of these widths'),
        (has_widths[1], 'discriminator with blocks of these widths'),
        (d['downsample_cfg'] == get_downsample_cfg(scale), f'discriminator that halves the size by {d["downsample_cfg"]}'),
        (all(cfg in (None, dict(type='SelfAttentionBlock')) for cfg in attention_cfgs), 'attention of these widths'),
        (g['with_embedding_spectral_norm'] == g['with_spectral_norm'], 'spectral norm in some of the layers only'),
        (d['with_spectral_norm'], 'discriminator without spectral norm and without batch norm'),
        (g['init_cfg']['type'] in ('studio', 'BigGAN'), 'class embeddings that are used without adding 1'),
        (g['norm_eps'] == 1e-4, f'batch norms with an epsilon of {g["norm_eps"]:g}, only 1e-4'),
    ]
    for is_met, feature in requirements:
        if not is_met:
            raise CheckpointError(f'StudioGAN cannot express this model: it has no {feature}')
    locations = [network['attention_after_nth_block'] or [] for network in (g, d)]
    g_location, d_location = ([blocks] if isinstance(blocks, int) else blocks for blocks in locations)
    return dict(
        DATA=dict(img_size=scale, num_classes=model['num_classes']),
        MODEL=dict(
            backbone='resnet',
            g_cond_mtd='cBN' if g['use_cbn'] else 'W/O',
            d_cond_mtd='PD' if model['num_classes'] else 'W/O',
            apply_g_sn=g['with_spectral_norm'],
            apply_d_sn=True,
            apply_attn=g['attention_cfg'] is not None,
            attn_g_loc=g_location,
            attn_d_loc=d_location,
            z_dim=g['noise_size'],
            g_conv_dim=conv_dims[0],
            d_conv_dim=conv_dims[1],
        ),
    )
