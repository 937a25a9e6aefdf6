"""Whether the data fits the model, before the first iteration."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mmsagan.errors import DataError
from mmsagan.registry import HOOKS


@HOOKS.register_module()
class DataCheckHook(Hook):
    """Compares the data set's number of classes and image size with the model's.

    Raises:
        DataError: They differ; the message says which config key to change.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        dataset = runner.train_dataloader.dataset
        self._check_classes(getattr(model, 'num_classes', None), getattr(dataset, 'metainfo', {}).get('classes'))
        self._check_size(getattr(getattr(model, 'discriminator', None), 'input_scale', None), dataset)

    @staticmethod
    def _check_classes(num_classes: int | None, classes) -> None:
        if num_classes and classes and num_classes != len(classes):
            raise DataError(
                f'the data set has {len(classes)} classes, the model {num_classes}; set model.num_classes={len(classes)}'
            )

    @staticmethod
    def _check_size(size: int | None, dataset) -> None:
        if size is None or not len(dataset):
            return
        shape = tuple(dataset[0]['inputs'].shape)
        if shape != (3, size, size):
            raise DataError(
                f'the pipeline gives images of shape {shape}, the discriminator takes (3, {size}, {size}); resize them '
                'in train_dataloader.dataset.pipeline, or choose another model'
            )
