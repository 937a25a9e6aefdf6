"""Sample grids while training."""

from collections.abc import Sequence

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook

from mmsagan.errors import ConfigError
from mmsagan.models import ConditionalGAN, to_uint8
from mmsagan.registry import HOOKS
from mmsagan.utils.modules import unwrap
from mmsagan.visualization import image_grid


@HOOKS.register_module()
class VisualizationHook(Hook):
    """Draws a grid of samples every ``interval`` iterations and at the end: classes as columns, one noise a row.

    The pictures go to the runner's visualizer, and from there to its backends.

    Args:
        interval: Iterations between two grids.
        fixed_input: Whether every grid has the same noise, so that the grids show one row's development.
        vis_kwargs_list: A dict a grid, or a list of them: ``name`` of the picture; ``sample_model``, 'orig', 'ema', or
            'ema/orig' for both; ``type``, 'GAN' or 'Noise', which mean the same here; MMagic's ``target_keys`` is not needed.
        num_rows: Rows of a grid.
        classes: The classes shown; None takes the first ten.
        seed: Of the fixed noise.
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
    ):
        self.interval = interval
        self.fixed_input = fixed_input
        self.grids = [vis_kwargs_list] if isinstance(vis_kwargs_list, dict) else list(vis_kwargs_list)
        self.num_rows = num_rows
        self.classes = classes
        self.noise_source = torch.Generator().manual_seed(seed)
        self._noise: torch.Tensor | None = None
        for grid in self.grids:
            self._check_grid(grid)

    @staticmethod
    def _check_grid(grid: dict) -> None:
        unknown = set(grid) - {'type', 'name', 'sample_model', 'target_keys'}
        if unknown:
            raise ConfigError(f'VisualizationHook: unknown key {sorted(unknown)[0]!r} in vis_kwargs_list')
        if grid.get('type', 'GAN') not in ('GAN', 'Noise'):
            raise ConfigError(f"VisualizationHook: type must be 'GAN' or 'Noise', got {grid['type']!r}")
        if not set((grid.get('sample_model') or 'orig').split('/')) <= {'orig', 'ema'}:
            raise ConfigError(f"VisualizationHook: sample_model must be 'orig', 'ema' or both, got {grid['sample_model']!r}")

    def before_train(self, runner) -> None:
        """Finds at once what would otherwise fail at the first grid."""
        model = unwrap(runner.model)
        for grid in self.grids:
            for sample_model in self._models_of(grid, model):
                model.sampled_network(sample_model)
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
        noise, label, columns = self._input(model)
        for grid in self.grids:
            models = self._models_of(grid, model)
            for sample_model in models:
                images = torch.cat(
                    [
                        model.sample(n, y, sample_model=sample_model)
                        for n, y in zip(noise.split(64), label.split(64) if label is not None else [None] * len(noise))
                    ]
                )
                name = grid.get('name', 'fake_img') + (f'_{sample_model}' if len(models) > 1 else '')
                runner.visualizer.add_image(name, image_grid(to_uint8(images), columns), step=runner.iter + 1)

    @staticmethod
    def _models_of(grid: dict, model: ConditionalGAN) -> list[str]:
        return (grid.get('sample_model') or ('orig' if model.generator_ema is None else 'ema')).split('/')

    def _input(self, model: ConditionalGAN) -> tuple[torch.Tensor, torch.Tensor | None, int]:
        classes = self.classes if self.classes is not None else range(min(10, model.num_classes))
        columns = len(classes) or 10
        if self._noise is None or not self.fixed_input:
            # From a generator of its own, so that drawing pictures does not change the training's random numbers.
            rows = self.num_rows if classes else self.num_rows * columns
            self._noise = torch.randn(rows, model.noise_size, generator=self.noise_source)
        if not classes:
            return self._noise, None, columns
        return self._noise.repeat_interleave(columns, 0), torch.tensor(list(classes)).repeat(self.num_rows), columns
