"""Whether data, checkpoint and model fit together, before the first iteration."""

from mmengine.hooks import Hook
from torch import Tensor

from mmsagan.errors import CheckpointError, DataError
from mmsagan.registry import HOOKS
from mmsagan.utils.modules import unwrap


@HOOKS.register_module()
class ConsistencyHook(Hook):
    """Compares the data set and a loaded checkpoint with the model.

    Raises:
        DataError: The number of classes or the image size differs; the message says which config key to change.
        CheckpointError: The checkpoint is of another architecture.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner) -> None:
        model = unwrap(runner.model)
        dataset = runner.train_dataloader.dataset
        self._check_classes(getattr(model, 'num_classes', None), getattr(dataset, 'metainfo', {}).get('classes'))
        self._check_size(unwrap(getattr(model, 'discriminator', None)), dataset)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        check_state_dict(unwrap(runner.model).state_dict(), checkpoint.get('state_dict', checkpoint))

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


def check_state_dict(own: dict[str, Tensor], loaded: dict[str, Tensor]) -> None:
    """Compares a checkpoint's names and shapes with a model's.

    A checkpoint may lack the moving average and the iteration count, which training begins anew.

    Raises:
        CheckpointError: Names the first tensor that is missing, unknown or of another shape.
    """
    prefixes = tuple({key.partition('.')[0] for key in own} - {'iteration', 'generator_ema'})
    missing = [key for key in own if key not in loaded and key.startswith(prefixes) and not key.startswith('generator_ema.')]
    unknown = [key for key in loaded if key not in own and not key.startswith('generator_ema.')]
    reshaped = [key for key in own if key in loaded and own[key].shape != loaded[key].shape]
    if reshaped:
        key = reshaped[0]
        what = f'{key} is {tuple(loaded[key].shape)} there and {tuple(own[key].shape)} in the model'
    elif missing:
        what = f'{missing[0]} is missing'
    elif unknown:
        what = f'{unknown[0]} is unknown to the model'
    else:
        return
    raise CheckpointError(
        f'the checkpoint is of another architecture: {what} ({len(reshaped)} tensors of another shape, {len(missing)} missing, '
        f'{len(unknown)} unknown); take the config that it was trained with'
    )
