"""What a conversion found, in words, and which config its result goes with."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import yaml
from mmengine.config import Config

from mmsagan.apis.zoo import resolve_config
from mmsagan.checkpoints.architecture import format_options, get_network
from mmsagan.checkpoints.convert import Conversion

_BIGGAN = 'sagan_128_woReLUinplace_noaug_bigGAN_imagenet1k_b32x8'
# By the size of the images and whether activations work in place.
_CONFIGS = {
    (32, True): 'sagan_32_cvt_studioGAN',
    (32, False): 'sagan_32_woReLUinplace_cifar10_b64x1',
    (128, True): 'sagan_128_cvt_studioGAN',
    (128, False): 'sagan_128_woReLUinplace_imagenet1k_b64x4',
}


def matching_config(conversion: Conversion) -> tuple[Path, dict]:
    """The config of ours that is nearest to a converted model, and the ``cfg_options`` that make it just this one."""
    behaviour, scale = conversion.settings, conversion.architecture.generator['output_scale']
    name = _BIGGAN if behaviour.init == 'BigGAN' else _CONFIGS.get((scale, behaviour.inplace), _CONFIGS[128, behaviour.inplace])
    path = resolve_config(name)
    return path, conversion.architecture.options(Config.fromfile(path).model)


def conversion_summary(conversion: Conversion, out: str | Path) -> str:
    """What was found, dropped and assumed, and how the result is used."""
    architecture = conversion.architecture
    g, d = architecture.generator, architecture.discriminator
    lines = [
        f'found: {conversion.format}',
        f'  {g["output_scale"]} pixels, {architecture.num_classes} classes, noise of length {g["noise_size"]}',
        f'  generator: {_in_words(g)}',
    ]
    if get_network(conversion.state_dict, 'generator_ema'):
        lines.append('  moving average of the generator')
    if get_network(conversion.state_dict, 'discriminator'):
        lines.append(f'  discriminator: {_in_words(d)}')
    lines.append('  ' + ', '.join(f'{key}={value}' for key, value in asdict(conversion.settings).items()))
    lines += [f'dropped: {key}' for key in conversion.dropped]
    lines += [f'note: {note}' for note in conversion.notes]
    config, options = matching_config(conversion)
    arguments = f' --cfg-options {format_options(options)}' if options else ''
    lines += [
        f'written to {out}',
        f'sample it: mmsagan sample {_short(config)} {shlex.quote(str(out))} --out samples.png{arguments}',
    ]
    return '\n'.join(lines)


def export_summary(paths: Sequence[Path], settings: Mapping, notes: Sequence[str]) -> str:
    """What :func:`~mmsagan.checkpoints.convert.export_studiogan` has written, and what StudioGAN needs to use it."""
    lines = [
        *(f'written to {path}' for path in paths),
        *(f'note: {note}' for note in notes),
        'note: optimizers are not converted; StudioGAN can sample, evaluate and fine-tune from these files, not resume',
        "StudioGAN's config needs:",
    ]
    return '\n'.join(lines) + f'\n{yaml.safe_dump(dict(settings), sort_keys=False, default_flow_style=None).rstrip()}'


def _short(path: Path) -> str:
    """A config's file from here, or its name alone, which the tools take as well."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.stem


def _in_words(network: Mapping) -> str:
    attention = network['attention_after_nth_block']
    return (
        f'base_channels={network["base_channels"]}, channels_cfg={network["channels_cfg"]}, '
        + (f'attention after block {attention}, ' if network['attention_cfg'] else 'no attention, ')
        + ('spectral norm' if network['with_spectral_norm'] else 'no spectral norm')
    )
