"""Reading off a network's tensors what config it is of."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isqrt

import torch
from torch import Tensor

from mmsagan.checkpoints.behaviour import Behaviour
from mmsagan.errors import CheckpointError
from mmsagan.models import ProjDiscriminator, SAGANGenerator

State = Mapping[str, Tensor]


@dataclass
class Architecture:
    """The config that a set of tensors is of.

    Args:
        num_classes: Number of classes.
        generator: Arguments of the generator.
        discriminator: Arguments of the discriminator; if the tensors have none, those that its siblings have.
        notes: What the tensors leave open, and how it was decided.
    """

    num_classes: int
    generator: dict
    discriminator: dict
    notes: list[str] = field(default_factory=list)

    @property
    def model(self) -> dict:
        """The model's config."""
        return dict(
            type='SAGAN',
            num_classes=self.num_classes,
            generator=dict(type='SAGANGenerator', **self.generator),
            discriminator=dict(type='ProjDiscriminator', **self.discriminator),
        )

    def options(self, base: Mapping | None = None) -> dict:
        """The ``cfg_options`` that make a config's model this one.

        Args:
            base: The config's model; None for all options.

        Returns:
            Dotted keys and values: those in which the config's model, with the defaults of its networks, differs.
        """
        wanted = {'model.num_classes': self.num_classes}
        has = {'model.num_classes': (base or {}).get('num_classes')}
        for name, arguments in (('generator', self.generator), ('discriminator', self.discriminator)):
            wanted.update({f'model.{name}.{key}': value for key, value in arguments.items()})
            stated = {} if base is None else _with_defaults(name, base.get(name, {}))
            has.update({f'model.{name}.{key}': value for key, value in stated.items()})
        return {key: value for key, value in wanted.items() if key not in has or not _equal(has[key], value)}


def _with_defaults(name: str, stated: Mapping) -> dict:
    """A network's arguments with its defaults, tables looked up."""
    network = dict(generator=SAGANGenerator, discriminator=ProjDiscriminator)[name]
    defaults = {key: value.default for key, value in inspect.signature(network).parameters.items()}
    arguments = {**defaults, **stated}
    scale = arguments['output_scale' if name == 'generator' else 'input_scale']
    for key, table in (('channels_cfg', 'default_channels'), ('downsample_cfg', 'default_downsample')):
        if arguments.get(key, 0) is None:
            arguments[key] = getattr(network, table).get(scale)
    if arguments.get('with_embedding_spectral_norm', 0) is None:
        arguments['with_embedding_spectral_norm'] = arguments['with_spectral_norm']
    if arguments['attention_cfg'] is None or arguments['attention_after_nth_block'] in (-1, 0, []):
        arguments.update(attention_cfg=None, attention_after_nth_block=0)
    return arguments


def _equal(stated, value) -> bool:
    """Whether a config states a value; in a dict, what is off need not be stated."""
    if isinstance(stated, Mapping) and isinstance(value, Mapping):
        stated, value = ({k: v for k, v in cfg.items() if v is not False} for cfg in (stated, value))
    return type(stated) is type(value) and stated == value


def describe(state: State, behaviour: Behaviour, downsample_table: Callable[[int], list[bool] | None]) -> Architecture:
    """Finds the architecture of a model's tensors.

    Args:
        state: Tensors under our names.
        behaviour: What they do not show.
        downsample_table: Gives, for a size in pixels, which of D's blocks after the first halve it; asked where the tensors
            leave it open. None: not known.

    Raises:
        CheckpointError: There is no generator, or a tensor that must be there is missing or of an impossible shape.
    """
    generator = part_of(state, 'generator') or part_of(state, 'generator_ema')
    if not generator:
        raise CheckpointError('the file has no generator')
    try:
        g = describe_generator(generator, behaviour)
        num_classes = g.pop('num_classes')
        discriminator = part_of(state, 'discriminator')
        notes: list[str] = []
        if discriminator:
            d, notes = describe_discriminator(discriminator, g['output_scale'], behaviour, downsample_table)
        else:
            d = _usual_discriminator(g, behaviour)
    except KeyError as error:
        raise CheckpointError(f'the file is no whole SAGAN or SNGAN: {error.args[0]} is missing') from error
    except (ValueError, ArithmeticError, IndexError) as error:
        raise CheckpointError(f'the file is no SAGAN or SNGAN: {error}') from error
    return Architecture(num_classes, g, d, notes)


def part_of(state: State, network: str) -> dict[str, Tensor]:
    """One network's tensors, without its name."""
    return {key.removeprefix(f'{network}.'): tensor for key, tensor in state.items() if key.startswith(f'{network}.')}


def describe_generator(state: State, behaviour: Behaviour) -> dict:
    """The generator's arguments, and ``num_classes``. Raises a KeyError or ValueError for tensors of something else."""
    blocks, attention = _blocks(state)
    widths = [_shape(state, f'conv_blocks.{place}.conv_1')[1] for place in blocks]
    base_channels = _shape(state, 'to_rgb.conv')[1]
    features, noise_size = _shape(state, 'noise2feat')
    input_scale = isqrt(features // widths[0])
    if widths[0] * input_scale**2 != features:
        raise ValueError(f'noise2feat makes {features} features, which are no square of {widths[0]} channels')
    scale = input_scale * 2 ** len(blocks)
    first_norm = f'conv_blocks.{blocks[0]}.norm_1'
    conditional = any(key.startswith(f'{first_norm}.weight_embedding.') for key in state)
    normalized = 'noise2feat.weight_orig' in state
    embeddings_normalized = f'{first_norm}.weight_embedding.weight_orig' in state if conditional else normalized
    return dict(
        num_classes=_shape(state, f'{first_norm}.weight_embedding')[0] if conditional else 0,
        output_scale=scale,
        noise_size=noise_size,
        input_scale=input_scale,
        base_channels=base_channels,
        channels_cfg=_factors(widths, base_channels),
        out_channels=_shape(state, 'to_rgb.conv')[0],
        attention_cfg=_attention_cfg(state, attention),
        attention_after_nth_block=_numbers(blocks, attention),
        use_cbn=conditional,
        with_spectral_norm=normalized,
        with_embedding_spectral_norm=embeddings_normalized,
        norm_eps=behaviour.norm_eps,
        sn_eps=behaviour.sn_eps,
        act_cfg=dict(type='ReLU', inplace=behaviour.inplace),
        init_cfg=dict(type=behaviour.init),
    )


def describe_discriminator(
    state: State, scale: int, behaviour: Behaviour, downsample_table: Callable[[int], list[bool] | None]
) -> tuple[dict, list[str]]:
    """The discriminator's arguments and notes. Raises a KeyError or ValueError for tensors of something else."""
    blocks, attention = _blocks(state)
    base_channels, input_channels = _shape(state, 'from_rgb.conv_1')[:2]
    widths = [_shape(state, f'conv_blocks.{place}.conv_1')[0] for place in blocks]
    downsample, notes = _downsample(state, blocks, downsample_table(scale))
    return dict(
        input_scale=scale,
        base_channels=base_channels,
        channels_cfg=_factors(widths, base_channels),
        downsample_cfg=downsample,
        input_channels=input_channels,
        attention_cfg=_attention_cfg(state, attention),
        attention_after_nth_block=_numbers([-1, *blocks], attention),
        with_spectral_norm='decision.weight_orig' in state,
        sn_eps=behaviour.sn_eps,
        act_cfg=dict(type='ReLU', inplace=behaviour.inplace),
        init_cfg=dict(type=behaviour.init),
    ), notes


def _usual_discriminator(generator: dict, behaviour: Behaviour) -> dict:
    """A discriminator for a generator that came alone: the published one, or one that halves the size down to 4 pixels."""
    scale = generator['output_scale']
    halvings = range(1, scale.bit_length() - 3)
    return dict(
        input_scale=scale,
        base_channels=128 if scale == 32 else 64,
        channels_cfg=ProjDiscriminator.default_channels.get(scale, [2**number for number in halvings]),
        downsample_cfg=ProjDiscriminator.default_downsample.get(scale, [True for _ in halvings]),
        input_channels=generator['out_channels'],
        attention_cfg=generator['attention_cfg'],
        attention_after_nth_block=1,
        with_spectral_norm=True,
        sn_eps=behaviour.sn_eps,
        act_cfg=dict(type='ReLU', inplace=behaviour.inplace),
        init_cfg=dict(type=behaviour.init),
    )


def _blocks(state: State) -> tuple[list[int], list[int]]:
    """The places in the chain that hold residual blocks, and those that hold attention."""
    places = {int(match[1]) for match in (re.match(r'conv_blocks\.(\d+)\.', key) for key in state) if match}
    attention = {place for place in places if f'conv_blocks.{place}.gamma' in state}
    if places != set(range(len(places))) or not places - attention:
        raise KeyError(f'conv_blocks.{next(i for i in range(len(places) + 1) if i not in places)}')
    return sorted(places - attention), sorted(attention)


def _shape(state: State, layer: str) -> torch.Size:
    """The shape of a layer's weight, spectrally normalized or not."""
    weight = state.get(f'{layer}.weight_orig', state.get(f'{layer}.weight'))
    if weight is None:
        raise KeyError(f'{layer}.weight')
    if weight.dim() < 2:
        raise ValueError(f'{layer} has a weight of shape {tuple(weight.shape)}')
    return weight.shape


def _factors(widths: list[int], base_channels: int) -> list[int]:
    if any(width % base_channels for width in widths):
        raise ValueError(f'its blocks have {widths} channels, which are no multiples of {base_channels}')
    return [width // base_channels for width in widths]


def _numbers(blocks: list[int], attention: list[int]) -> int | list[int]:
    """After which block, counted from 1, attention follows; 0 for none."""
    numbers = [sum(place < where for place in blocks) for where in attention]
    return numbers[0] if len(numbers) == 1 else numbers or 0


def _attention_cfg(state: State, places: list[int]) -> dict | None:
    if not places:
        return None
    layer = f'conv_blocks.{places[0]}'
    if any(key.startswith(f'{layer}.reduce.') for key in state):
        return _substitute_cfg(state, layer)
    query, channels = _shape(state, f'{layer}.theta')[:2]
    value = _shape(state, f'{layer}.g')[0]
    cfg: dict[str, str | int] = dict(type='SelfAttentionBlock')
    if channels != query * 8:
        cfg['query_key_reduction'] = channels // query
    if channels != value * 2:
        cfg['value_reduction'] = channels // value
    return cfg


def _substitute_cfg(state: State, layer: str) -> dict:
    """Of the residual block in attention's place. Its width tells the sum of the reductions only, so others are not known."""
    hidden, channels = _shape(state, f'{layer}.reduce')[:2]
    if channels != hidden * 8:
        raise ValueError(f'{layer} is a ResidualAttentionSubstitute of other than the default reductions, 8 and 2')
    return dict(type='ResidualAttentionSubstitute')


def _downsample(state: State, blocks: list[int], table: list[bool] | None) -> tuple[list[bool], list[str]]:
    """Which blocks halve the size. A shortcut convolution is there if they do, or if the channels change."""
    found, notes = [], []
    for number, place in enumerate(blocks):
        out_channels, in_channels = _shape(state, f'conv_blocks.{place}.conv_1')[:2]
        has_shortcut = any(key.startswith(f'conv_blocks.{place}.shortcut.') for key in state)
        if in_channels == out_channels:
            found.append(has_shortcut)
        elif table is not None and len(table) == len(blocks):
            found.append(table[number])
        else:
            found.append(number < len(blocks) - 1)
            notes.append(
                f"whether the discriminator's block {number + 2} halves the size cannot be seen; "
                f'assumed {found[-1]}; if that is wrong, set model.discriminator.downsample_cfg'
            )
    return found, notes
