"""The loops that evaluate a GAN while it trains, and afterwards."""

from collections.abc import Callable

from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop

from mmsagan.errors import ConfigError
from mmsagan.evaluation import Evaluator, RealImages
from mmsagan.models.gan import unwrap
from mmsagan.registry import EVALUATOR, LOOPS


class EvaluationInterrupted(Exception):
    """An evaluation was broken off, see :attr:`GANValLoop.is_interrupted`."""


@LOOPS.register_module()
class GANValLoop(BaseLoop):
    """Evaluates the runner's model by an :class:`~mmsagan.evaluation.Evaluator`.

    The data loader's data set are the real images. It is built when a metric needs them, so that published statistics can be
    used without the data.

    Args:
        runner: The runner.
        dataloader: Config: ``batch_size`` of sampling and extracting, ``num_workers`` and ``dataset`` of the real images.
        evaluator: The evaluator, its config, or the configs of its metrics.

    Attributes:
        is_interrupted: Asked after each batch whether to break the evaluation off, which raises
            :class:`EvaluationInterrupted`.
    """

    mode = 'val'

    def __init__(self, runner: Runner, dataloader: dict, evaluator: Evaluator | dict | list):
        self._runner = runner
        self.evaluator = build_evaluator(evaluator)
        dataset = dataloader.get('dataset')
        num_workers = dataloader.get('num_workers', 0)
        self.real_images = RealImages(dataset, num_workers, self.evaluator.seed) if dataset else None
        self.results: dict = {}  # of the newest evaluation
        self.is_interrupted: Callable[[], bool] = lambda: False
        self.batch_size = dataloader.get('batch_size', 1)
        if self.batch_size < 1:
            raise ConfigError(f'{self.mode}_dataloader.batch_size={self.batch_size}; it must be at least 1')

    @property
    def dataloader(self) -> range:
        """Stands for the batches of samples: MMEngine's hooks ask for their number."""
        return range(self.evaluator.num_batches(unwrap(self.runner.model), self.batch_size))

    def prepare(self) -> None:
        """Extracts the real images and finds what an evaluation would fail on, see :meth:`Evaluator.prepare`."""
        model = unwrap(self.runner.model)
        self.evaluator.prepare(model.device, self.batch_size, self.real_images, model)

    def run(self) -> dict:
        """Evaluates.

        Returns:
            Results by name.
        """
        self._call('before_{}')
        self._call('before_{}_epoch')
        model = unwrap(self.runner.model)
        results = self.evaluator.evaluate_model(model, self.real_images, self.batch_size, self._batch_hook())
        self.results = results
        self._call('after_{}_epoch', metrics=results)
        self._call('after_{}')
        return results

    def _batch_hook(self) -> Callable[[], None]:
        """Tells the hooks of every batch; they time and log it."""
        batch_idx = 0
        self._call('before_{}_iter', batch_idx=0, data_batch=None)

        def after_batch() -> None:
            nonlocal batch_idx
            self._call('after_{}_iter', batch_idx=batch_idx, data_batch=None, outputs=None)
            if self.is_interrupted():
                raise EvaluationInterrupted
            batch_idx += 1
            self._call('before_{}_iter', batch_idx=batch_idx, data_batch=None)

        return after_batch

    def _call(self, hook: str, **kwargs) -> None:
        self.runner.call_hook(hook.format(self.mode), **kwargs)


@LOOPS.register_module()
class GANTestLoop(GANValLoop):
    """The same under the runner's ``test``."""

    mode = 'test'


def build_evaluator(evaluator: Evaluator | dict | list) -> Evaluator:
    """The evaluator that a config describes: its arguments, or its metrics alone.

    Raises:
        ConfigError: It describes none.
    """
    if isinstance(evaluator, Evaluator):
        return evaluator
    config = dict(evaluator) if isinstance(evaluator, dict) and 'metrics' in evaluator else dict(metrics=evaluator)
    built = EVALUATOR.build(dict(config, type=config.get('type', 'Evaluator')))
    if not isinstance(built, Evaluator):
        raise ConfigError(f'the evaluator must be an mmsagan.evaluation.Evaluator, not a {type(built).__name__}')
    return built
