"""Building a model for inference from a config and a checkpoint."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader

from mmsagan.apis.zoo import resolve_config, resolve_model
from mmsagan.checkpoints import check_compatibility
from mmsagan.checkpoints.architecture import ModelSettings, get_downsample_table, infer_architecture
from mmsagan.checkpoints.io import split_checkpoint
from mmsagan.engine.config import config_errors, load_config, merge_options
from mmsagan.engine.distributed import find_device
from mmsagan.errors import ConfigError
from mmsagan.models import ConditionalGAN
from mmsagan.registry import MODELS
from mmsagan.utils import register_all_modules
from mmsagan.utils.download import HUB


def init_model(
    config: str | Path | Config | None,
    checkpoint: str | Path | None = None,
    device: str | torch.device = 'cpu',
    cfg_options: Mapping | None = None,
) -> ConditionalGAN:
    """Builds the model of a config and loads a checkpoint into it; returns it in evaluation mode, with the config as ``cfg``.

    Its images are RGB, whatever the checkpoint's were.

    Args:
        config: A config, its file, or its name in the model zoo; or ``hf://user/repo``, a repository on the Hugging Face Hub
            with config and weights. None infers the architecture from the checkpoint, which works for other projects'
            checkpoints, and for those that were trained here with the usual components.
        checkpoint: File, URL or repository (``hf://``) of a checkpoint of ours, MMGeneration, MMagic or StudioGAN, which is
            recognized by its content. Of StudioGAN name the generator's file; the others are found beside it. ``'zoo'``
            downloads the published weights of the config. None leaves the weights as they were initialized, or takes those of
            the repository if the config is one.
        cfg_options: Dotted config keys and their new values, as in ``--cfg-options``.
    """
    register_all_modules()
    if checkpoint == 'zoo' or (checkpoint is None and str(config).startswith(HUB)):
        if not isinstance(config, (str, Path)):
            raise ConfigError("checkpoint='zoo' needs the name or the file of a config")
        checkpoint = resolve_model(config).weights
    loaded = CheckpointLoader.load_checkpoint(str(checkpoint), 'cpu') if checkpoint is not None else None
    if config is None:
        if loaded is None:
            raise ConfigError('give a config, or a checkpoint to infer the architecture from')
        state, meta = split_checkpoint(loaded)
        settings = ModelSettings.from_meta(meta)  # only numbers, flags and the init scheme's name
        if settings is None:
            raise ConfigError('the checkpoint does not say all that its config does; give the config it was trained with')
        inferred = infer_architecture(state, settings, get_downsample_table(meta))
        config = Config(dict(default_scope='mmsagan', model=inferred))
    options = dict(cfg_options or {})
    if isinstance(config, Config):
        cfg = config.copy()
        merge_options(cfg, options)
    else:
        cfg = load_config(resolve_config(config), options)
    if not isinstance(cfg.get('model'), Mapping):
        raise ConfigError('the config has no model')
    with config_errors():
        model = MODELS.build(cfg.model)
    if loaded is None:
        model.init_weights()
    else:
        for warning in check_compatibility(model, loaded, str(checkpoint)):
            print_log(f'{checkpoint}: {warning}', 'current', logging.WARNING)
        model.load_state_dict(split_checkpoint(loaded)[0], strict=False)
    model.cfg = cfg
    return model.to(find_device(device)).eval()
