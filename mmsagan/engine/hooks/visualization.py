"""Sample grids while training."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import ceil, sqrt

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from torch import Tensor

from mmsagan.errors import ConfigError
from mmsagan.models import ConditionalGAN, to_uint8
from mmsagan.registry import HOOKS
from mmsagan.utils.modules import unwrap
from mmsagan.visualization import image_grid


@dataclass(frozen=True)
class SampleGrid:
    """What one entry of ``vis_kwargs_list`` asks for, by MMagic's keys.

    Args:
        name: Of the picture.
        type: 'GAN' or 'Noise', which mean the same.
        sample_model: 'orig', 'ema', or 'ema/orig' for a picture of each; None: the moving average if there is one.
        target_keys: Which of these pictures: 'ema.fake_img', 'orig.fake_img', or a list of them; None or 'fake_img' for all.
        n_samples: So many samples of random classes, in place of the grid of classes.
        n_row: How many of these in a row; None for a square. Without ``n_samples`` there are 64 of them, as in MMagic.
        fixed_input: Whether every picture has the same noise.
    """

    name: str = 'fake_img'
    type: str = 'GAN'
    sample_model: str | None = None
    target_keys: str | Sequence[str] | None = None
    n_samples: int | None = None
    n_row: int | None = None
    fixed_input: bool = True

    def __post_init__(self):
        if self.type not in ('GAN', 'Noise'):
            raise ConfigError(f"VisualizationHook: type must be 'GAN' or 'Noise', got {self.type!r}")
        if not set((self.sample_model or 'orig').split('/')) <= {'orig', 'ema'}:
            raise ConfigError(f"VisualizationHook: sample_model must be 'orig', 'ema' or both, got {self.sample_model!r}")
        unknown = [key for key in self._targets if key not in ('fake_img', 'ema.fake_img', 'orig.fake_img')]
        if unknown:
            raise ConfigError(
                f'VisualizationHook: target_keys={unknown[0]!r} cannot be drawn, only fake_img, ema.fake_img and orig.fake_img'
            )
        if any(number is not None and number < 1 for number in (self.n_samples, self.n_row)):
            raise ConfigError(
                f'VisualizationHook: n_samples and n_row must be at least 1, got {self.n_samples} and {self.n_row}'
            )

    @classmethod
    def of(cls, config: dict, **defaults) -> 'SampleGrid':
        """The grid of an entry; ``defaults`` holds where the entry says nothing."""
        unknown = set(config) - {field.name for field in fields(cls)}
        if unknown:
            raise ConfigError(f'VisualizationHook: unknown key {sorted(unknown)[0]!r} in vis_kwargs_list')
        return cls(**{**defaults, **config})

    @property
    def _targets(self) -> list[str]:
        return [self.target_keys] if isinstance(self.target_keys, str) else list(self.target_keys or ['fake_img'])

    @property
    def num_samples(self) -> int | None:
        """How many samples of random classes; None: the grid of classes."""
        return 64 if self.n_samples is None and self.n_row is not None else self.n_samples

    def pictures(self, model: ConditionalGAN) -> dict[str, str]:
        """Names of the pictures, and which network makes each, 'orig' or 'ema'."""
        networks = (self.sample_model or ('orig' if model.generator_ema is None else 'ema')).split('/')
        chosen = [network for network in networks if {'fake_img', f'{network}.fake_img'} & set(self._targets)]
        if not chosen:
            raise ConfigError(
                f'VisualizationHook: target_keys={self.target_keys!r} names nothing that '
                f'sample_model={"/".join(networks)!r} makes'
            )
        return {f'{self.name}_{network}' if len(networks) > 1 else self.name: network for network in chosen}


@HOOKS.register_module()
class VisualizationHook(Hook):
    """Draws a grid of samples every ``interval`` iterations and at the end: classes as columns, one noise a row.

    The pictures go to the runner's visualizer, and from there to its backends.

    Args:
        interval: Iterations between two grids.
        fixed_input: Whether every grid has the same noise, so that the grids show one row's development.
        vis_kwargs_list: What to draw: the arguments of a :class:`SampleGrid`, or a list of such dicts.
        num_rows: Rows of a grid.
        classes: The classes shown; None takes the first ten.
        seed: Of the fixed noise.
        n_samples: Of every grid that states none.
        n_row: Of every grid that states none.

    Example:
        >>> both = dict(type='Noise', name='fake_img', sample_model='ema/orig', n_samples=16)
        >>> hook = VisualizationHook(interval=5000, vis_kwargs_list=both)  # draws fake_img_ema and fake_img_orig, 4 x 4 samples
    """

    priority = 'NORMAL'

    def __init__(
        self,
        interval: int = 5000,
        fixed_input: bool = True,
        vis_kwargs_list: dict | Sequence[dict] = dict(type='GAN', name='fake_img'),
        num_rows: int = 10,
        classes: Sequence[int] | None = None,
        seed: int = 2022,
        n_samples: int | None = None,
        n_row: int | None = None,
    ):
        self.interval = interval
        self.num_rows = num_rows
        self.classes = classes
        self.noise_source = torch.Generator().manual_seed(seed)
        configs = [vis_kwargs_list] if isinstance(vis_kwargs_list, dict) else vis_kwargs_list
        self.grids = [SampleGrid.of(config, fixed_input=fixed_input, n_samples=n_samples, n_row=n_row) for config in configs]
        # By how many samples: grids of the same layout show the same noise.
        self._fixed_inputs: dict[int | None, tuple[Tensor, Tensor | None]] = {}

    def before_train(self, runner) -> None:
        """Finds at once what would otherwise fail at the first grid."""
        model = unwrap(runner.model)
        for grid in self.grids:
            for network in grid.pictures(model).values():
                model.sampled_network(network)
        wrong = [label for label in self.classes or () if not 0 <= label < model.num_classes]
        if wrong:
            raise ConfigError(f'VisualizationHook: class {wrong[0]} is out of range, the model has {model.num_classes}')

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner):
            self.draw(runner)

    @master_only
    def draw(self, runner) -> None:
        """Samples and hands the grids to the visualizer."""
        model = unwrap(runner.model)
        new_inputs: dict[int | None, tuple[Tensor, Tensor | None]] = {}
        for grid in self.grids:
            inputs = self._fixed_inputs if grid.fixed_input else new_inputs
            if grid.num_samples not in inputs:
                inputs[grid.num_samples] = self._draw_inputs(grid.num_samples, model)
            noise, label = inputs[grid.num_samples]
            for name, network in grid.pictures(model).items():
                picture = image_grid(_samples(model, noise, label, network), self._columns(grid, model))
                runner.visualizer.add_image(name, picture, step=runner.iter + 1)

    def _shown_classes(self, model: ConditionalGAN) -> Sequence[int]:
        return self.classes if self.classes is not None else range(min(10, model.num_classes))

    def _columns(self, grid: SampleGrid, model: ConditionalGAN) -> int:
        if grid.num_samples is not None:
            return min(grid.n_row or ceil(sqrt(grid.num_samples)), grid.num_samples)
        return len(self._shown_classes(model)) or 10

    def _draw_inputs(self, num_samples: int | None, model: ConditionalGAN) -> tuple[Tensor, Tensor | None]:
        """Noise and labels: of so many samples of random classes, or for None of the grid of classes."""
        # From a generator of its own, so that drawing pictures does not change the training's random numbers.
        classes = self._shown_classes(model)
        if num_samples is None and classes:
            noise = torch.randn(self.num_rows, model.noise_size, generator=self.noise_source)
            return noise.repeat_interleave(len(classes), 0), torch.tensor(list(classes)).repeat(self.num_rows)
        count = 10 * self.num_rows if num_samples is None else num_samples
        noise = torch.randn(count, model.noise_size, generator=self.noise_source)
        among = torch.tensor(list(self.classes or range(model.num_classes)))
        label = among[torch.randint(len(among), (count,), generator=self.noise_source)] if len(among) else None
        return noise, label


def _samples(model: ConditionalGAN, noise: Tensor, label: Tensor | None, network: str) -> Tensor:
    labels = [None] * len(noise) if label is None else label.split(64)
    return to_uint8(torch.cat([model.sample(n, y, sample_model=network) for n, y in zip(noise.split(64), labels)]))
