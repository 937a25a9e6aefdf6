import torch

from mmsagan.models import DataPreprocessor, to_uint8


def test_range_and_types():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None, None].expand(3, 3, 2, 2)
    out = DataPreprocessor()(dict(inputs=images, labels=torch.tensor([1, 2, 3])))
    torch.testing.assert_close(out['inputs'][:, 0, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))
    assert out['labels'].dtype == torch.long and out['labels'].tolist() == [1, 2, 3]


def test_batches_of_lists_are_stacked():
    images = [torch.zeros(3, 4, 4, dtype=torch.uint8) for _ in range(2)]
    assert DataPreprocessor()(dict(inputs=images, labels=[0, 1]))['inputs'].shape == (2, 3, 4, 4)


def test_to_uint8_undoes_it_and_clips():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    back = to_uint8(DataPreprocessor()(dict(inputs=levels, labels=[0]))['inputs'])
    assert torch.equal(back, levels)
    assert to_uint8(torch.tensor([-1.5, 1.5, 0.0])).tolist() == [0, 255, 128]
