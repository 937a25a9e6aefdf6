"""The architecture of a checkpoint: inferred from its tensors and its metadata, and compared with a model."""

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmsagan.errors import CheckpointError, ConfigError
from mmsagan.models import ProjDiscriminator
from mmsagan.models.layers.blocks import ConditionalBatchNorm2d, DiscriminatorBlock
from mmsagan.models.layers.init import INIT_SCHEMES
from mmsagan.registry import MODELS

State = Mapping[str, Tensor]
# Which of D's blocks after the first halve the size, by the size of the image in pixels; None if unknown.
DownsampleTable = Callable[[int], list[bool] | None]
TRAINING_ONLY = ('augment.', 'regularizers.')  # parts of a model that inference and other trainings do without


@dataclass(frozen=True)
class ModelSettings:
    """Settings of a model that its tensors do not show."""

    inplace: bool = False  # whether activations work in place, see DiscriminatorBlock
    norm_eps: float = 1e-4
    sn_eps: float = 1e-12  # matters in training only
    init: str = 'studio'  # the scheme also decides whether 1 is added to the scales of conditional norms

    @classmethod
    def from_config(cls, model: Mapping) -> 'ModelSettings':
        """Reads the settings from the config of a model."""
        g, d = model['generator'], model['discriminator']
        return cls(
            inplace=(d.get('act_cfg') or {}).get('inplace', cls.inplace),
            norm_eps=g.get('norm_eps', cls.norm_eps),
            sn_eps=g.get('sn_eps', cls.sn_eps),
            init=(g.get('init_cfg') or {}).get('type', cls.init),
        )

    @classmethod
    def from_meta(cls, meta: Mapping) -> 'ModelSettings | None':
        """Reads the settings from the config in a checkpoint's ``meta``; None if it is missing, invalid or of unusual parts."""
        try:
            model = read_model_config(meta.get('cfg'))
            settings, networks = cls.from_config(model), [model['generator'], model['discriminator']]
            components = [network.get(key) or {} for network in networks for key in ('act_cfg', 'attention_cfg')]
            is_usual = (
                networks[0].get('type') in ('SAGANGenerator', 'SNGANGenerator')
                and networks[1].get('type') in ('ProjDiscriminator', 'SAGANDiscriminator')
                and not any({'blocks_cfg', 'from_rgb_cfg'} & set(network) for network in networks)
                and all(cfg.get('type', 'ReLU') in ('ReLU', 'SelfAttentionBlock') for cfg in components)
                and all(cfg.get('pool', True) is True for cfg in components)
                and all(type(getattr(settings, each.name)) is type(each.default) for each in fields(cls))
            )
        except (KeyError, TypeError, AttributeError):  # something other than a dict where there should be one
            return None
        return settings if is_usual and settings.init in INIT_SCHEMES else None


def read_model_config(config) -> dict:
    """Reads ``model`` from the text of a config without executing it; returns an empty dict if it is not of plain values."""
    model = read_config_text(config)[0].get('model')
    return model if isinstance(model, dict) else {}


def read_config_text(config) -> tuple[dict, list[str]]:
    """Reads the text of a config without executing it; returns the values, and the names of those that are not plain data."""
    values, unreadable = {}, []
    try:
        body = ast.parse(config).body
    except (SyntaxError, TypeError, ValueError, MemoryError, RecursionError):
        return {}, ['the whole text']
    for node in body:
        for name in node.targets if isinstance(node, ast.Assign) else ():
            try:
                values[ast.unparse(name)] = read_literal(node.value)
            except (SyntaxError, TypeError, ValueError, MemoryError, RecursionError):
                unreadable.append(ast.unparse(name)[:100])
    return values, unreadable


def read_literal(node: ast.expr):
    """Evaluates an expression of literals, ``dict(key=value)`` and ``dict({...})``. Raises an error for anything else."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        keywords = {keyword.arg: read_literal(keyword.value) for keyword in node.keywords}
        return {**dict(*map(read_literal, node.args)), **keywords}
    if isinstance(node, ast.Dict):
        # literal_eval refuses None, the key of `**`.
        return {ast.literal_eval(key): read_literal(value) for key, value in zip(node.keys, node.values)}  # type: ignore[arg-type]
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [read_literal(item) for item in node.elts]
        return tuple(items) if isinstance(node, ast.Tuple) else items
    return ast.literal_eval(node)


def get_downsample_table(meta: Mapping) -> DownsampleTable:
    """Returns which of D's blocks halve the size: as a checkpoint's ``meta`` says, else the default of each size."""
    discriminator = read_model_config(meta.get('cfg')).get('discriminator')
    stated = discriminator.get('downsample_cfg') if isinstance(discriminator, Mapping) else None
    if isinstance(stated, (list, tuple)):
        return lambda scale: [bool(halves) for halves in stated]
    return ProjDiscriminator.default_downsample.get


def get_cfg_options(model: Mapping, base: Mapping | None = None) -> dict:
    """Returns the ``cfg_options`` that turn the model of a config, ``base``, into an inferred one; without it, all of them."""
    networks = ('generator', 'discriminator')
    options = {f'model.{name}.{key}': value for name in networks for key, value in model[name].items() if key != 'type'}
    options['model.num_classes'] = model['num_classes']
    if base is None:
        return options
    with torch.device('meta'):
        state = MODELS.build(base).state_dict()
    table = get_downsample_table(dict(cfg=f'model = {base!r}'))
    stated = get_cfg_options(infer_architecture(state, ModelSettings.from_config(base), table))
    return {key: value for key, value in options.items() if key not in stated or stated[key] != value}


def infer_architecture(state: State, settings: ModelSettings, downsample_table: DownsampleTable) -> dict:
    """Infers the config of a model from its tensors under our names, and from what they do not show.

    Raises a CheckpointError if there is no generator, or if the tensors are not exactly those of whole networks.
    """
    average = get_network(state, 'generator_ema')
    generator = get_network(state, 'generator') or average
    if not generator:
        raise CheckpointError('the file has no generator')
    discriminator = get_network(state, 'discriminator')
    activation = dict(type='ReLU', inplace=settings.inplace)
    shared = dict(sn_eps=settings.sn_eps, act_cfg=activation, init_cfg=dict(type=settings.init))
    try:
        blocks, attention = _find_blocks(generator, has_head=False)
        widths = [_get_shape(generator, f'conv_blocks.{index}.conv_1')[1] for index in blocks]
        out_channels, base_channels = _get_shape(generator, 'to_rgb.conv')[:2]
        features, noise_size = _get_shape(generator, 'noise2feat')
        input_scale = isqrt(features // widths[0])
        embedding = f'conv_blocks.{blocks[0]}.norm_1.weight_embedding'
        is_conditional = any(key.startswith(f'{embedding}.') for key in generator)
        is_normalized = 'noise2feat.weight_orig' in generator
        num_classes, scale = _get_shape(generator, embedding)[0] if is_conditional else 0, input_scale * 2 ** len(blocks)
        g = dict(
            output_scale=scale,
            noise_size=noise_size,
            input_scale=input_scale,
            base_channels=base_channels,
            channels_cfg=[width // base_channels for width in widths],
            out_channels=out_channels,
            use_cbn=is_conditional,
            noise_in_norms=f'conv_blocks.{blocks[0]}.norm_1.weight_noise.weight' in generator,
            with_spectral_norm=is_normalized,
            with_embedding_spectral_norm=f'{embedding}.weight_orig' in generator if is_conditional else is_normalized,
            **attention,
            norm_eps=settings.norm_eps,
            **shared,
        )
        if discriminator:
            blocks, attention = _find_blocks(discriminator, has_head=True)
            base_channels, input_channels = _get_shape(discriminator, 'from_rgb.conv_1')[:2]
            widths, downsample, default = [], [], downsample_table(scale)
            for number, index in enumerate(blocks):
                out_channels, in_channels = _get_shape(discriminator, f'conv_blocks.{index}.conv_1')[:2]
                widths.append(out_channels)
                # There is a shortcut convolution if the block halves the size, or if the channels change.
                if in_channels == out_channels:
                    downsample.append(any(key.startswith(f'conv_blocks.{index}.shortcut.') for key in discriminator))
                elif default is not None and len(default) == len(blocks):
                    downsample.append(default[number])
                else:  # nothing shows it; most discriminators do so
                    downsample.append(number < len(blocks) - 1)
            factors = [width // base_channels for width in widths]
        else:  # the published one, or one that halves the size down to 4 pixels
            halvings = range(1, scale.bit_length() - 3)
            base_channels, input_channels = 128 if scale == 32 else 64, g['out_channels']
            factors = ProjDiscriminator.default_channels.get(scale, [2**number for number in halvings])
            downsample = ProjDiscriminator.default_downsample.get(scale, [True for _ in halvings])
            attention = dict(attention_cfg=g['attention_cfg'], attention_after_nth_block=1)
        d = dict(
            base_channels=base_channels,
            channels_cfg=factors,
            downsample_cfg=downsample,
            input_channels=input_channels,
            with_spectral_norm=not discriminator or 'decision.weight_orig' in discriminator,
            **attention,
        )
        model = dict(
            type='SAGAN',
            num_classes=num_classes,
            generator=dict(type='SAGANGenerator', **g),
            discriminator=dict(type='ProjDiscriminator', **d, input_scale=scale, **shared),
            ema_config=dict(momentum=0.999) if average else None,
        )
        with torch.device('meta'):
            own = MODELS.build(model).state_dict()
        networks = {key.partition('.')[0] for key in state}
        check_tensor_shapes(
            {key: tensor for key, tensor in own.items() if key.partition('.')[0] in networks},
            {key: tensor for key, tensor in state.items() if not key.startswith(TRAINING_ONLY)},
        )
        return model
    except KeyError as error:
        raise CheckpointError(f'the file is no whole SAGAN or SNGAN: {error.args[0]} is missing') from error
    except (ValueError, ArithmeticError, IndexError, CheckpointError, ConfigError) as error:
        raise CheckpointError(f'the file is no whole SAGAN or SNGAN: {error}') from error


def get_network(state: State, network: str) -> dict[str, Tensor]:
    """Returns the tensors of one network, without its name as a prefix."""
    return {key.removeprefix(f'{network}.'): tensor for key, tensor in state.items() if key.startswith(f'{network}.')}


def _get_shape(state: State, layer: str) -> torch.Size:
    """Returns the shape of a layer's weight, spectrally normalized or not."""
    return state[f'{layer}.weight_orig' if f'{layer}.weight_orig' in state else f'{layer}.weight'].shape


def _find_blocks(state: State, has_head: bool) -> tuple[list[int], dict]:
    """Returns the indices of the residual blocks in ``conv_blocks``, and the network's arguments for attention."""
    indices = {int(match[1]) for match in (re.match(r'conv_blocks\.(\d+)\.', key) for key in state) if match}
    attention = sorted(index for index in indices if f'conv_blocks.{index}.gamma' in state)
    blocks = sorted(indices - set(attention))
    if indices != set(range(len(indices))) or not blocks:
        raise KeyError(f'conv_blocks.{next(index for index in range(len(indices) + 1) if index not in indices)}')
    if not attention:
        return blocks, dict(attention_cfg=None, attention_after_nth_block=0)
    layer = f'conv_blocks.{attention[0]}'
    cfg: dict[str, str | int] = dict(type='SelfAttentionBlock')
    if any(key.startswith(f'{layer}.reduce.') for key in state):
        # Its width shows only the sum of the reductions, which are taken to be the default ones.
        cfg = dict(type='ResidualAttentionSubstitute')
    else:
        query, channels = _get_shape(state, f'{layer}.theta')[:2]
        value = _get_shape(state, f'{layer}.g')[0]
        if channels != query * 8:
            cfg['query_key_reduction'] = channels // query
        if channels != value * 2:
            cfg['value_reduction'] = channels // value
    numbers = [sum(block < index for block in blocks) + has_head for index in attention]
    return blocks, dict(attention_cfg=cfg, attention_after_nth_block=numbers[0] if len(numbers) == 1 else numbers)


def check_compatibility(model: nn.Module, checkpoint: Mapping, name: str = 'the checkpoint') -> list[str]:
    """Compares a checkpoint with a model, and adds a moving average to it if only the model has one; returns warnings.

    The moving average, the iteration count, the discriminator and tensors of augmentation or regularizers may be missing; they
    start anew. Tensors of the last two that the model does not have are dropped from the checkpoint. If it, which is called
    ``name``, is of another architecture, a CheckpointError names the first tensor that differs.
    """
    own, loaded = model.state_dict(), checkpoint.get('state_dict', checkpoint)
    extra = {key: tensor.clone() for key, tensor in own.items() if key.startswith(TRAINING_ONLY)}
    for key in [key for key in loaded if key.startswith(TRAINING_ONLY)]:
        tensor = loaded.pop(key)
        if key in extra and extra[key].shape == tensor.shape:
            extra[key] = tensor
    loaded.update(extra)
    own_parts, loaded_parts = ({key.partition('.')[0] for key in state} for state in (own, loaded))
    may_be_missing = {'iteration', 'generator_ema', 'discriminator'} - loaded_parts
    ignored = {'generator_ema'} - own_parts
    try:
        check_tensor_shapes(
            {key: tensor for key, tensor in own.items() if key.partition('.')[0] not in may_be_missing},
            {key: tensor for key, tensor in loaded.items() if key.partition('.')[0] not in ignored},
        )
    except CheckpointError as error:
        remedy = 'use the config that it was trained with, or start a new training from what fits: model.init_from.checkpoint'
        raise CheckpointError(f'{name} is of another architecture: {error}; {remedy}') from error
    if 'iteration' in own:
        loaded.setdefault('iteration', torch.zeros_like(own['iteration']))
    warnings = []
    if 'generator_ema' in own_parts - loaded_parts:
        loaded.update({f'generator_ema.{key}': tensor.clone() for key, tensor in get_network(loaded, 'generator').items()})
        warnings.append('the checkpoint has no moving average, which starts as a copy of the generator')
    if 'generator_ema' in loaded_parts - own_parts:
        warnings.append('the moving average in the checkpoint is ignored: set model.ema_config to use it')
    if 'discriminator' in own_parts - loaded_parts:
        warnings.append('the checkpoint has no discriminator: the one of the model is untrained')
    meta = checkpoint.get('meta') if 'state_dict' in checkpoint else None
    settings = ModelSettings.from_meta(meta) if isinstance(meta, Mapping) else None
    if settings is None:
        return warnings
    differing = []
    blocks = [module for module in model.modules() if isinstance(module, DiscriminatorBlock)]
    if any(block.shortcut_of_activation != settings.inplace for block in blocks):
        differing.append(('logits will differ', f'model.discriminator.act_cfg.inplace={settings.inplace}'))
    offsets = {norm.weight_offset for norm in model.modules() if isinstance(norm, ConditionalBatchNorm2d)}
    if offsets - {INIT_SCHEMES[settings.init].cbn_weight_offset}:
        differing.append(('images will be wrong', f'model.generator.init_cfg.type={settings.init}'))
    if {norm.eps for norm in model.modules() if isinstance(norm, _BatchNorm)} - {settings.norm_eps}:
        differing.append(('images will differ slightly', f'model.generator.norm_eps={settings.norm_eps:g}'))
    return warnings + [f"the model differs from the checkpoint's, so {effect}; set {option}" for effect, option in differing]


def check_tensor_shapes(own: State, loaded: State) -> None:
    """Raises a CheckpointError unless two state dicts have the same keys and shapes; it names the first that differs."""
    reshaped = [key for key in own if key in loaded and own[key].shape != loaded[key].shape]
    differing = reshaped + [key for key in own if key not in loaded] + [key for key in loaded if key not in own]
    if differing:
        key = differing[0]
        theirs, ours = (f'of shape {tuple(state[key].shape)}' if key in state else 'missing' for state in (loaded, own))
        difference = f'{key[:200]} is {theirs} in the checkpoint and {ours} in the model'
        raise CheckpointError(f'{difference}, one of {len(differing)} differences')
