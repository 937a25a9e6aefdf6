"""Pictures of a training: sample grids, attention figures, and the visualizer that records them."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.visualization import LocalVisBackend as MMEngineLocalVisBackend
from mmengine.visualization import Visualizer
from mmengine.visualization.vis_backend import force_init_env

from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import SampleInputs
from mmsagan.evaluation.images import deterministic_float32
from mmsagan.models import ConditionalGAN, to_uint8
from mmsagan.models.attention_maps import attention_layers, sample_attention
from mmsagan.models.gan import unwrap
from mmsagan.registry import HOOKS, VISBACKENDS, VISUALIZERS
from mmsagan.utils.files import write_atomically
from mmsagan.visualization import attention_figure, image_grid, salient_queries
from mmsagan.visualization.figures import encode_png


@VISUALIZERS.register_module()
class SampleVisualizer(Visualizer):
    """MMEngine's visualizer. If a backend cannot record numbers or pictures, it logs a warning, and the training continues."""

    def add_image(self, *args, **kwargs) -> None:
        self._record(super().add_image, *args, **kwargs)

    def add_scalars(self, *args, **kwargs) -> None:
        self._record(super().add_scalars, *args, **kwargs)

    def _record(self, method: Callable, *args, **kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:  # of a full disk, or of a tracker's network
            reason = f'{type(error).__name__}: {error}'
            print_log(f'the visualizer cannot record, and the training continues: {reason}', 'current', logging.WARNING)


@VISBACKENDS.register_module()
class LocalVisBackend(MMEngineLocalVisBackend):
    """MMEngine's backend for files. It writes a picture completely or not at all, whatever the work dir is called.

    OpenCV, which MMEngine's writes with, crashes if a path is not UTF-8, and says nothing if the disk is full.
    """

    @force_init_env
    def add_image(self, name: str, image, step: int = 0, **kwargs) -> None:
        write_atomically(Path(self._img_save_dir, f'{name}_{step}.png'), encode_png(image))


@HOOKS.register_module()
class VisualizationHook(Hook):
    """Draws grids of samples, every ``interval`` iterations and after the last one.

    A grid has one column per class, or ten without classes, and one noise vector per row.

    Args:
        interval: Iterations between two grids.
        fixed_input: Whether every picture of a grid is made from the same noise.
        vis_kwargs_list: A grid, or a list of them, with MMagic's keys: its ``name``; ``type``, ``'GAN'`` or ``'Noise'``, which
            are the same; ``sample_model``, ``'orig'``, ``'ema'`` or, for a picture of each, ``'ema/orig'`` (default: the moving
            average if there is one); ``target_keys``, the pictures to draw: ``'ema.fake_img'``, ``'orig.fake_img'``, a list, or
            ``'fake_img'`` for all; and ``fixed_input``.
        num_rows, classes: Rows of a grid, and classes to draw, by default the first ten.
    """

    max_classes = 10

    def __init__(
        self,
        interval: int | None = 5000,
        fixed_input: bool = True,
        vis_kwargs_list: dict | Sequence[dict] = dict(type='GAN', name='fake_img'),
        num_rows: int = 10,
        classes: Sequence[int] | None = None,
    ):
        self.interval = interval
        self.num_rows = num_rows
        self.classes = classes
        defaults = dict(name='fake_img', type='GAN', sample_model=None, target_keys='fake_img', fixed_input=fixed_input)
        entries = [vis_kwargs_list] if isinstance(vis_kwargs_list, dict) else vis_kwargs_list
        self.grids = [SimpleNamespace(**{**defaults, **entry}) for entry in entries]
        for unknown in set().union(*entries) - set(defaults):
            raise ConfigError(f'VisualizationHook: vis_kwargs_list has no key {unknown!r}; its keys are {", ".join(defaults)}')
        # Of its own, so that drawing does not change the training's random numbers.
        self.noise_source = torch.Generator().manual_seed(2022)

    def before_train(self, runner) -> None:
        """Raises the errors that would otherwise end the training at the first picture."""
        model = unwrap(runner.model)
        self.get_classes(model)
        for network in [network for grid in self.grids for network in self._networks(grid, model)]:
            model.get_generator(network)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if self.every_n_train_iters(runner, self.interval or 0) or self.is_last_train_iter(runner):
            self.draw(runner)

    def get_classes(self, model: ConditionalGAN) -> list[int]:
        """The classes to draw: those of the config, or the first ones; none for an unconditional model."""
        wrong = [label for label in self.classes or () if not 0 <= label < model.num_classes]
        if wrong:
            raise ConfigError(f'{type(self).__name__}: class {wrong[0]} is out of range, the model has {model.num_classes}')
        return list(self.classes or range(min(self.max_classes, model.num_classes)))

    def _networks(self, grid: SimpleNamespace, model: ConditionalGAN) -> list[str]:
        """The networks that each make a picture of a grid, 'orig' or 'ema'."""
        networks = (grid.sample_model or ('orig' if model.generator_ema is None else 'ema')).split('/')
        keys = {grid.target_keys} if isinstance(grid.target_keys, str) else set(grid.target_keys or ['fake_img'])
        chosen = [network for network in networks if {'fake_img', f'{network}.fake_img'} & keys]
        if grid.type not in ('GAN', 'Noise') or not chosen or not keys <= {'fake_img', 'ema.fake_img', 'orig.fake_img'}:
            raise ConfigError(f'VisualizationHook: nothing can be drawn for {vars(grid)}')
        return chosen

    @master_only
    def draw(self, runner) -> None:
        model = unwrap(runner.model)
        classes = self.get_classes(model)
        for grid in self.grids:
            source = torch.Generator().manual_seed(2022) if grid.fixed_input else self.noise_source
            if classes:
                noise = torch.randn(self.num_rows, model.noise_size, generator=source).repeat_interleave(len(classes), 0)
                labels = torch.tensor(classes).repeat(self.num_rows).split(64)
            else:
                noise = torch.randn(10 * self.num_rows, model.noise_size, generator=source)
                labels = [None] * len(noise)
            for network in self._networks(grid, model):
                name = f'{grid.name}_{network}' if '/' in (grid.sample_model or '') else grid.name
                samples = [model.sample(n, y, sample_model=network) for n, y in zip(noise.split(64), labels)]
                picture = image_grid(to_uint8(torch.cat(samples)), len(classes) or 10)
                runner.visualizer.add_image(name, picture, step=runner.iter + 1)


@HOOKS.register_module()
class AttentionVisualizationHook(VisualizationHook):
    """Draws what samples attend to, as in the paper's figure 1 and as ``tools/visualize_attention.py`` does.

    The queries are four salient pixels of each sample. Nothing is drawn if the generator has no attention layer. Without an
    ``interval``, there is a figure after the last iteration only. Each of the ``classes``, by default four, has a row.
    """

    max_classes = 4

    def __init__(self, interval: int | None = None, classes: Sequence[int] | None = None):
        super().__init__(interval, vis_kwargs_list=(), classes=classes)

    @master_only
    def draw(self, runner) -> None:
        model = unwrap(runner.model)
        if not attention_layers(model.get_generator()):
            return
        classes = self.get_classes(model)
        # As in tools/visualize_attention.py; torch's random numbers would be missing in the training.
        noise = SampleInputs(model.noise_size, seed=(0, 0)).noise(0, len(classes) or 4)
        label = torch.tensor(classes) if classes else None
        try:
            with deterministic_float32():
                attention = sample_attention(model, noise, label, partial(salient_queries, count=4))
        except DataError as error:
            runner.logger.warning(f'no attention figure: {error}')
            return
        class_names = getattr(runner.train_dataloader.dataset, 'metainfo', {}).get('classes')
        names = [str(class_names[label] if class_names else label) for label in classes]
        figure = attention_figure(attention.images, attention.queries, attention.select('last'), names)
        runner.visualizer.add_image('attention', figure, step=runner.iter + 1)
