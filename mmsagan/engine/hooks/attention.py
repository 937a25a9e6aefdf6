"""Attention figures while training."""

from collections.abc import Sequence
from functools import partial

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook

from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import SampleInputs
from mmsagan.evaluation.plan import exact_arithmetic
from mmsagan.models.attention_maps import AttentionMaps, attention_layers, sample_attention
from mmsagan.registry import HOOKS
from mmsagan.utils.modules import unwrap
from mmsagan.visualization import attention_figure, salient_queries


@HOOKS.register_module()
class AttentionVisualizationHook(Hook):
    """Draws what samples attend to, as in the paper's figure 1, at the end of the training and, if so wished, on the way.

    It is the picture that ``tools/visualize_attention.py`` draws for the same classes and seed. It goes to the runner's
    visualizer, and from there to its backends. The queries are salient pixels of each sample. A generator without attention is
    let be, so that a variant without it needs no other hooks.

    Args:
        interval: Iterations between two figures; None: only the last one.
        name: Of the picture.
        classes: The classes shown, a row each; None takes the first four.
        num_queries: Queries an image.
        layer: ``'last'``, ``'all'``, or a layer's name, see :class:`~mmsagan.models.attention_maps.AttentionMaps`.
        seed: Of the noise.
        sample_model: ``'ema'`` or ``'orig'``; None takes the moving average if there is one.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        interval: int | None = None,
        name: str = 'attention',
        classes: Sequence[int] | None = None,
        num_queries: int = 4,
        layer: str = 'last',
        seed: int = 0,
        sample_model: str | None = None,
    ):
        self.interval = interval
        self.name = name
        self.classes = classes
        self.num_queries = num_queries
        self.layer = layer
        self.seed = seed
        self.sample_model = sample_model
        self.has_work = True

    def before_train(self, runner) -> None:
        """Finds at once what would otherwise fail at the first figure."""
        model = unwrap(runner.model)
        try:
            self.has_work = bool(attention_layers(model.sampled_network(self.sample_model)))
            if self.has_work:
                self._look(model).select(self.layer)
            else:
                runner.logger.info('no attention figure: the generator has no attention layer')
        except ConfigError as error:
            raise ConfigError(f'AttentionVisualizationHook: {error}') from error
        except DataError:
            pass  # the weights may be such that nothing comes of them yet

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        due = self.interval is not None and self.every_n_train_iters(runner, self.interval)
        if self.has_work and (due or self.is_last_train_iter(runner)):
            self.draw(runner)

    @master_only
    def draw(self, runner) -> None:
        """Samples and hands the figure to the visualizer."""
        try:
            attention = self._look(unwrap(runner.model))
        except DataError as error:
            runner.logger.warning(f'no attention figure: {error}')
            return
        names = [str(name) for name in self._names(runner)]
        maps = attention.select(self.layer)
        figure = attention_figure(attention.images, attention.queries, maps, names)
        runner.visualizer.add_image(self.name, figure, step=runner.iter + 1)

    def _look(self, model) -> AttentionMaps:
        classes = self._classes(model)
        # The numbers of tools/visualize_attention.py, and not torch's, so that figures do not change the training.
        noise = SampleInputs(model.noise_size, model.num_classes, (self.seed, 0)).noise(0, len(classes) or 4)
        label = torch.tensor(classes) if classes else None
        queries = partial(salient_queries, count=self.num_queries)
        with exact_arithmetic():
            return sample_attention(model, noise, label, queries, sample_model=self.sample_model)

    def _classes(self, model) -> list[int]:
        return list(self.classes or range(min(4, model.num_classes)))

    def _names(self, runner) -> Sequence:
        classes = self._classes(unwrap(runner.model))
        names = getattr(runner.train_dataloader.dataset, 'metainfo', {}).get('classes')
        return [names[label] for label in classes] if names else classes
