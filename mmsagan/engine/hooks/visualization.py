"""Pictures of a training: sample grids, attention figures, and the visualizer that records them."""

import importlib.util
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import ceil, sqrt

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.visualization import Visualizer
from torch import Tensor

from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import SampleInputs
from mmsagan.evaluation.images import deterministic_float32
from mmsagan.models import ConditionalGAN, to_uint8
from mmsagan.models.attention_maps import attention_layers, sample_attention
from mmsagan.models.gan import unwrap
from mmsagan.registry import HOOKS, VISUALIZERS
from mmsagan.visualization import attention_figure, image_grid, salient_queries

# The backends that ``track`` knows by the names of the packages that they need.
TRACKERS = dict(
    tensorboard=dict(type='TensorboardVisBackend'),
    wandb=dict(
        type='WandbVisBackend',
        init_kwargs=dict(project='mmsagan'),
        define_metric_cfg=[dict(name='*', step_metric='iter')],
    ),
)


@VISUALIZERS.register_module()
class SampleVisualizer(Visualizer):
    """MMEngine's visualizer with trackers by name. Whatever fails in a backend is a warning.

    Args:
        name: Name of the instance; set by the runner.
        vis_backends: Configs of the backends.
        track: ``'tensorboard'``, ``'wandb'``, the config of another backend, or a list of these. Trackers whose package is not
            installed are left out.
        **kwargs: See ``mmengine.visualization.Visualizer``.

    Raises:
        ConfigError: ``track`` names an unknown tracker.
    """

    def __init__(self, name: str = 'visualizer', vis_backends: Sequence[dict] = (), track=None, **kwargs):
        backends = list(vis_backends or ())
        for tracker in track if isinstance(track, (list, tuple)) else [track] if track else []:
            if isinstance(tracker, dict):
                backends.append(tracker)
            elif tracker not in TRACKERS:
                raise ConfigError(f'visualizer.track={tracker!r} must be tensorboard, wandb or the config of a backend')
            elif importlib.util.find_spec(tracker) is None:
                print_log(f'visualizer.track: {tracker} is not installed and is left out', 'current')
            else:
                backends.append(TRACKERS[tracker])
        super().__init__(name=name, vis_backends=backends or None, **kwargs)

    def add_image(self, *args, **kwargs) -> None:
        """Records a picture, see ``mmengine.visualization.Visualizer.add_image``."""
        with _warn_on_failure():
            super().add_image(*args, **kwargs)

    def add_scalars(self, *args, **kwargs) -> None:
        """Records numbers, see ``mmengine.visualization.Visualizer.add_scalars``."""
        with _warn_on_failure():
            super().add_scalars(*args, **kwargs)


@contextmanager
def _warn_on_failure() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of a full disk, or of a tracker's network
        reason = f'{type(error).__name__}: {error}'
        print_log(f'the visualizer cannot record, and the training continues: {reason}', 'current', logging.WARNING)


class PictureHook(Hook):
    """Base class of hooks that ``draw`` every ``interval`` iterations and after the last one."""

    interval: int | None
    classes: Sequence[int] | None
    max_classes: int
    draw: Callable

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if self.every_n_train_iters(runner, self.interval or 0) or self.is_last_train_iter(runner):
            self.draw(runner)

    def get_classes(self, model: ConditionalGAN) -> list[int]:
        """The classes to draw: those of the config, or the first ones; none for an unconditional model."""
        wrong = [label for label in self.classes or () if not 0 <= label < model.num_classes]
        if wrong:
            raise ConfigError(f'{type(self).__name__}: class {wrong[0]} is out of range, the model has {model.num_classes}')
        return list(self.classes or range(min(self.max_classes, model.num_classes)))


@dataclass(frozen=True)
class SampleGrid:
    """A picture of samples, by MMagic's keys.

    Args:
        name: Name of the picture.
        type: ``'GAN'`` or ``'Noise'``, which are the same.
        sample_model: ``'orig'``, ``'ema'``, or ``'ema/orig'`` for a picture of each. Defaults to the moving average if there
            is one.
        target_keys: Pictures to draw: ``'ema.fake_img'``, ``'orig.fake_img'``, a list, or ``'fake_img'`` for all.
        n_samples: Number of samples of random classes. Defaults to a grid of classes.
        n_row: Samples per row. Defaults to a square; without ``n_samples`` there are 64 samples, as in MMagic.
        fixed_input: Whether every picture is made from the same noise.
    """

    name: str = 'fake_img'
    type: str = 'GAN'
    sample_model: str | None = None
    target_keys: str | Sequence[str] = 'fake_img'
    n_samples: int | None = None
    n_row: int | None = None
    fixed_input: bool = True

    def pictures(self, model: ConditionalGAN) -> dict[str, str]:
        """The names of the pictures, and the network that makes each, 'orig' or 'ema'."""
        networks = (self.sample_model or ('orig' if model.generator_ema is None else 'ema')).split('/')
        keys = [self.target_keys] if isinstance(self.target_keys, str) else self.target_keys or ['fake_img']
        chosen = [network for network in networks if {'fake_img', f'{network}.fake_img'} & set(keys)]
        if self.type not in ('GAN', 'Noise') or not chosen or not set(keys) <= {'fake_img', 'ema.fake_img', 'orig.fake_img'}:
            raise ConfigError(f'VisualizationHook: nothing can be drawn for {self}')
        return {f'{self.name}_{network}' if len(networks) > 1 else self.name: network for network in chosen}


@HOOKS.register_module()
class VisualizationHook(PictureHook):
    """Draws grids of samples: by default one column per class and one noise vector per row.

    Args:
        interval: Iterations between two grids.
        fixed_input: Default of the grids.
        vis_kwargs_list: The arguments of a :class:`SampleGrid`, or a list of them.
        num_rows: Rows of a grid of classes.
        classes: Classes to draw. Defaults to the first ten.
        n_samples: Default of the grids.
        n_row: Default of the grids.

    Example:
        >>> both = dict(type='Noise', name='fake_img', sample_model='ema/orig', n_samples=16)
        >>> hook = VisualizationHook(interval=5000, vis_kwargs_list=both)  # draws fake_img_ema and fake_img_orig, 4 x 4 samples
    """

    max_classes = 10

    def __init__(
        self,
        interval: int = 5000,
        fixed_input: bool = True,
        vis_kwargs_list: dict | Sequence[dict] = dict(type='GAN', name='fake_img'),
        num_rows: int = 10,
        classes: Sequence[int] | None = None,
        n_samples: int | None = None,
        n_row: int | None = None,
    ):
        self.interval = interval
        self.num_rows = num_rows
        self.classes = classes
        defaults = dict(fixed_input=fixed_input, n_samples=n_samples, n_row=n_row)
        entries = [vis_kwargs_list] if isinstance(vis_kwargs_list, dict) else vis_kwargs_list
        self.grids = [SampleGrid(**{**defaults, **entry}) for entry in entries]
        # Of its own, so that drawing does not change the training's random numbers.
        self.noise_source = torch.Generator().manual_seed(2022)
        # By number of samples: grids of the same layout show the same noise.
        self._fixed_inputs: dict[int | None, tuple[Tensor, Tensor | None]] = {}

    def before_train(self, runner) -> None:
        """Raises the errors that would otherwise end the training at the first grid."""
        self.get_classes(unwrap(runner.model))
        for grid in self.grids:
            for network in grid.pictures(unwrap(runner.model)).values():
                unwrap(runner.model).get_generator(network)

    @master_only
    def draw(self, runner) -> None:
        """Samples and passes the grids to the visualizer."""
        model = unwrap(runner.model)
        new_inputs: dict[int | None, tuple[Tensor, Tensor | None]] = {}
        for grid in self.grids:
            count = 64 if grid.n_samples is None and grid.n_row is not None else grid.n_samples
            columns = len(self.get_classes(model)) or 10 if count is None else min(grid.n_row or ceil(sqrt(count)), count)
            inputs = self._fixed_inputs if grid.fixed_input else new_inputs
            if count not in inputs:
                inputs[count] = self._draw_inputs(count, model)
            noise, label = inputs[count]
            labels = [None] * len(noise) if label is None else label.split(64)
            for name, network in grid.pictures(model).items():
                samples = [model.sample(n, y, sample_model=network) for n, y in zip(noise.split(64), labels)]
                runner.visualizer.add_image(name, image_grid(to_uint8(torch.cat(samples)), columns), step=runner.iter + 1)

    def _draw_inputs(self, count: int | None, model: ConditionalGAN) -> tuple[Tensor, Tensor | None]:
        """Draws noise and labels of this many samples of random classes, or for None of a grid of classes."""
        classes = self.get_classes(model)
        if count is None and classes:
            noise = torch.randn(self.num_rows, model.noise_size, generator=self.noise_source)
            return noise.repeat_interleave(len(classes), 0), torch.tensor(classes).repeat(self.num_rows)
        count = 10 * self.num_rows if count is None else count
        noise = torch.randn(count, model.noise_size, generator=self.noise_source)
        among = torch.tensor(list(self.classes or range(model.num_classes)))
        return noise, among[torch.randint(len(among), (count,), generator=self.noise_source)] if len(among) else None


@HOOKS.register_module()
class AttentionVisualizationHook(PictureHook):
    """Draws what samples attend to, as in the paper's figure 1 and as ``tools/visualize_attention.py`` does.

    The queries are four salient pixels of each sample. Nothing is drawn if the generator has no attention layer.

    Args:
        interval: Iterations between two figures. Defaults to a figure after the last iteration only.
        classes: Classes to draw, one row each. Defaults to the first four.
    """

    max_classes = 4

    def __init__(self, interval: int | None = None, classes: Sequence[int] | None = None):
        self.interval = interval
        self.classes = classes

    def before_train(self, runner) -> None:
        """Raises the errors that would otherwise end the training at the first figure."""
        self.get_classes(unwrap(runner.model))

    @master_only
    def draw(self, runner) -> None:
        """Samples and passes the figure to the visualizer."""
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
