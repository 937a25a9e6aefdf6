import pytest
from mmengine.runner import Runner

from mmsagan.errors import DataError


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(model__num_classes=7), r'the data set has 10 classes, the model 7; set model\.num_classes=10'),
        (dict(train_dataloader__dataset__image_size=40), r'shape \(3, 40, 40\), the discriminator takes \(3, 32, 32\)'),
    ],
)
def test_data_that_does_not_fit_the_model(tiny_run, options, message):
    with pytest.raises(DataError, match=message):
        Runner.from_cfg(tiny_run(**options)).train()


def test_a_pipeline_without_packing(tiny_run):
    cfg = tiny_run()
    cfg.train_dataloader.dataset.pipeline = []
    with pytest.raises(DataError, match='PackInputs'):
        Runner.from_cfg(cfg).train()
