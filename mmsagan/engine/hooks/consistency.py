"""Whether data, checkpoint and model fit together, before the first iteration."""

from collections.abc import Sequence

import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import IterBasedTrainLoop

from mmsagan.checkpoints.architecture import check_compatibility
from mmsagan.engine.loops import GANValLoop
from mmsagan.errors import CheckpointError, ConfigError, DataError
from mmsagan.models.gan import unwrap
from mmsagan.registry import HOOKS


@HOOKS.register_module()
class ConsistencyHook(Hook):
    """Compares the data set and a loaded checkpoint with the model, and finds what a later evaluation would fail on.

    A training shorter than ``val_interval`` is not evaluated at its end: it is a trial, and 50 000 samples would take longer.

    Raises:
        DataError: The number of classes or the image size differs; the message says which config key to change.
        CheckpointError: The checkpoint is of another architecture.
        ConfigError: The best checkpoints are to be chosen by a result that there is not.
        MMSAGANError: What an evaluation needs is missing.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner) -> None:
        model = unwrap(runner.model)
        dataset = runner.train_dataloader.dataset
        self._check_classes(getattr(model, 'num_classes', None), getattr(dataset, 'metainfo', {}).get('classes'))
        self._check_size(unwrap(getattr(model, 'discriminator', None)), dataset)
        self._prepare_evaluation(runner)

    @staticmethod
    def _prepare_evaluation(runner) -> None:
        loop, train_loop = runner.val_loop, runner.train_loop
        if not isinstance(loop, GANValLoop):
            return
        if isinstance(train_loop, IterBasedTrainLoop) and train_loop.max_iters < shortest_interval(train_loop):
            runner.logger.info(
                f'no evaluation in this run: its {train_loop.max_iters} iterations are fewer than '
                f'train_cfg.val_interval={shortest_interval(train_loop)}'
            )
            train_loop.val_begin = train_loop.max_iters + 1
            return
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook) and hook.save_best:
                check_best_keys(hook.key_indicators, loop.evaluator.result_names)
        loop.prepare()

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume and 'optimizer' not in checkpoint:
            raise CheckpointError(
                f'{runner._load_from} has no training state to resume from (it was published or converted); to begin a '
                'training with its weights, set load_from'
            )
        if runner._resume:
            self._check_optimizers(runner, checkpoint['optimizer'])
        try:
            warnings = check_compatibility(unwrap(runner.model), checkpoint)
        except CheckpointError as error:
            raise CheckpointError(f'{runner._load_from or runner.work_dir}: {error}') from error
        for warning in warnings:
            runner.logger.warning(warning)
        if not runner._resume:
            # A new training counts its own iterations, on which updates of G and the average's start depend.
            state = checkpoint.get('state_dict', checkpoint)
            if 'iteration' in state:
                state['iteration'] = torch.zeros_like(state['iteration'])

    @staticmethod
    def _check_optimizers(runner, saved) -> None:
        wrapper = runner.optim_wrapper
        if not isinstance(saved, dict) or (isinstance(wrapper, OptimWrapperDict) and set(saved) != set(wrapper.keys())):
            raise CheckpointError(
                f'{runner._load_from} has optimizers of {", ".join(map(str, saved))}, the config has them of '
                f'{", ".join(wrapper.keys())}'
            )

    @staticmethod
    def _check_classes(num_classes: int | None, classes) -> None:
        if num_classes and classes and num_classes != len(classes):
            raise DataError(
                f'the data set has {len(classes)} classes, the model {num_classes}; set model.num_classes={len(classes)}'
            )

    @staticmethod
    def _check_size(discriminator, dataset) -> None:
        size = getattr(discriminator, 'input_scale', None)
        if size is None or not len(dataset):
            return
        sample = dataset[0]
        if not isinstance(sample, dict) or not {'inputs', 'labels'} <= set(sample):
            raise DataError("the pipeline must end with dict(type='PackInputs'), see train_dataloader.dataset.pipeline")
        shape = tuple(sample['inputs'].shape)
        expected = (getattr(discriminator, 'input_channels', 3), size, size)
        if shape != expected:
            raise DataError(
                f'the pipeline gives images of shape {shape}, the discriminator takes {expected}; resize them in '
                'train_dataloader.dataset.pipeline, or choose another model'
            )


def shortest_interval(loop: IterBasedTrainLoop) -> int:
    """The shortest of the intervals between evaluations that the training gets to."""
    dynamic = zip(loop.dynamic_milestones or (), loop.dynamic_intervals or ())
    return min([loop.val_interval, *(interval for milestone, interval in dynamic if milestone <= loop.max_iters)])


def check_best_keys(keys: Sequence[str], results: Sequence[str]) -> None:
    """Raises a ConfigError if a best checkpoint is to be chosen by a result that the evaluation does not have."""
    unknown = [key for key in keys if key not in results]
    if unknown:
        raise ConfigError(
            f'default_hooks.checkpoint.save_best: no metric gives {unknown[0]!r}; the evaluation has {", ".join(results)}'
        )
