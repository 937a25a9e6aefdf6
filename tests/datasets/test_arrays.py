import numpy as np
import pytest

from mmsagan.datasets import ArrayDataset
from mmsagan.errors import ConfigError, DataError


def dataset_of(images, labels, classes=('cat', 'dog'), **kwargs) -> ArrayDataset:
    class Given(ArrayDataset):
        def load_arrays(self):
            return images, labels, classes

    return Given(**kwargs)


IMAGES = np.arange(4 * 6 * 5 * 3, dtype=np.uint8).reshape(4, 6, 5, 3) * 7


@pytest.mark.parametrize(
    'labels, message',
    [
        ([0, 1, 1, 2], 'label 2 is out of range, there are 2 classes'),
        ([0, 1, -1, 1], 'label -1 is out of range'),
        (np.array([0, 1, 1, 255], np.uint8), 'label 255 is out of range'),
        (np.array([0, 1, 1, 2**64 - 1], np.uint64), f'label {2**64 - 1} is out of range'),
        ([0, 1, 1, 2**70], r'whole number an image, these are \(4,\) object'),
        ([0, 1, 1, 0.5], r'whole number an image, these are \(4,\) float64'),
        ([0, 1, 1, None], 'whole number'),
        (['0', '1', '1', '0'], 'whole number'),
        ([[0], [1], [1], [0]], 'whole number'),
        ([0, 0, 0, 0], 'no images in 1 of 2 classes: dog; add images or take the class out'),
        ([0, 1, 1], '4 images but 3 labels'),
    ],
)
def test_labels_that_do_not_fit(labels, message):
    with pytest.raises(DataError, match=message):
        dataset_of(IMAGES, labels)


@pytest.mark.parametrize('images', [IMAGES / 255, IMAGES.transpose(0, 3, 1, 2), IMAGES[0, 0], IMAGES[..., :2], IMAGES[None]])
def test_images_that_do_not_fit(images):
    with pytest.raises(DataError, match=r'images are \(N, H, W\) or \(N, H, W, 3\) uint8'):
        dataset_of(images, [0, 1, 1, 0])


def test_images_that_are_there_twice(recwarn):
    images = IMAGES.copy()
    dataset_of(images, [0, 1, 1, 0])
    assert not recwarn
    images[3] = images[1]
    with pytest.warns(UserWarning, match='Given: 1 image is there more than once: 1 and 3$'):
        dataset_of(images, [0, 1, 0, 1])
    with pytest.warns(UserWarning, match='1 image is there more than once, 1 of them in several classes: 1 and 3$'):
        dataset_of(images, [0, 1, 0, 0])


def test_indices(recwarn):
    assert dataset_of(IMAGES, [0, 1, 1, 0], indices=2).labels[1] == 1 and not recwarn
    with pytest.warns(UserWarning, match='no images in 1 of 2 classes: cat'):
        assert dataset_of(IMAGES, [0, 1, 1, 0], indices=[1, 2])[1]['gt_label'] == 1
    with pytest.raises(ConfigError, match='do not choose among 4 images'):
        dataset_of(IMAGES, [0, 1, 1, 0], indices=[4])
