"""Building a model for inference from a config and a checkpoint."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader

from mmsagan.apis.running import config_mistakes
from mmsagan.apis.zoo import resolve_config, resolve_weights
from mmsagan.checkpoints.architecture import (
    ModelSettings,
    check_compatibility,
    get_downsample_table,
    infer_architecture,
)
from mmsagan.checkpoints.convert import get_meta, get_state_dict
from mmsagan.engine.config import load_config
from mmsagan.errors import CheckpointError, ConfigError
from mmsagan.models import ConditionalGAN
from mmsagan.registry import MODELS
from mmsagan.utils import register_all_modules


def init_model(
    config: str | Path | Config | None,
    checkpoint: str | Path | None = None,
    device: str | torch.device = 'cpu',
    cfg_options: Mapping | None = None,
) -> ConditionalGAN:
    """Builds the model of a config and loads a checkpoint into it.

    Args:
        config: A config, its file, or its name in the model zoo. None takes the architecture from the checkpoint, which can
            tell it if it is of another project, or was trained here with the usual components.
        checkpoint: File or URL of a checkpoint of ours, MMGeneration, MMagic or StudioGAN, which is recognized by its content.
            Of StudioGAN give the generator's file; the discriminator's and the averaged generator's are found beside it by
            their names. ``'zoo'`` fetches the published weights of the config. None leaves the weights as they were
            initialized.
        device: Where the model goes.
        cfg_options: Dotted config keys and their new values, as ``--cfg-options`` takes them.

    Returns:
        The model in evaluation mode; ``model.cfg`` is its config. It takes and makes RGB images, whatever the checkpoint's did.

    Raises:
        MMSAGANError: Something that the user can mend.

    Example:
        >>> model = init_model('sagan_32_woReLUinplace_cifar10_b64x1', 'zoo')  # doctest: +SKIP
        >>> images = sample(model, 16)  # doctest: +SKIP
    """
    register_all_modules()
    if checkpoint == 'zoo':
        if not isinstance(config, (str, Path)):
            raise ConfigError("checkpoint='zoo' goes with the name or file of a config")
        checkpoint = resolve_weights(config)
    loaded = CheckpointLoader.load_checkpoint(str(checkpoint), 'cpu') if checkpoint is not None else None
    cfg = _load(config, loaded, dict(cfg_options or {}))
    if not isinstance(cfg.get('model'), Mapping):
        raise ConfigError('the config has no model')
    with config_mistakes():
        model = MODELS.build(cfg.model)
    if checkpoint is None:
        model.init_weights()
    else:
        _load_weights(model, loaded, checkpoint)
    model.cfg = cfg
    try:
        return model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f'device {device} cannot be used: {error}') from error


def _load(config: str | Path | Config | None, loaded: dict | None, options: dict) -> Config:
    if config is None:
        cfg = Config(dict(default_scope='mmsagan', model=_model_of(loaded)))
    elif isinstance(config, Config):
        cfg = config.copy()
    else:
        return load_config(resolve_config(config), options)
    cfg.merge_from_dict(options)
    return cfg


def _model_of(loaded: dict | None) -> dict:
    """The model's config, from a checkpoint that says what its tensors do not show. Only numbers and flags of it are taken."""
    if loaded is None:
        raise ConfigError('give a config, or a checkpoint to take the architecture from')
    meta = get_meta(loaded)
    behaviour = ModelSettings.from_meta(meta)
    if behaviour is None:
        raise ConfigError('the checkpoint does not say all that its config does; give the config that it was trained with')
    state = get_state_dict(loaded)
    return infer_architecture(state, behaviour, get_downsample_table(meta)).model


def _load_weights(model: ConditionalGAN, loaded: Any, checkpoint: str | Path) -> None:
    try:
        warnings = check_compatibility(model, loaded)
    except CheckpointError as error:
        raise CheckpointError(f'{checkpoint}: {error}') from error
    for warning in warnings:
        print_log(f'{checkpoint}: {warning}', 'current', logging.WARNING)
    model.load_state_dict(get_state_dict(loaded), strict=False)
