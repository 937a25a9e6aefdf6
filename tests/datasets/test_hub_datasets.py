"""Data sets by the library ``datasets``, from Parquet files that the tests make: nothing is downloaded."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from mmsagan.apis import train_from_config
from mmsagan.datasets import HuggingFaceDataset
from mmsagan.engine.config import load_config
from mmsagan.errors import DataError

datasets = pytest.importorskip('datasets')
PACK = [dict(type='PackInputs')]
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray, mode: str = 'RGB') -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, 'PNG')
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, 'HF_DATASETS_CACHE', tmp_path / 'cache')


def write(path, images: list[bytes], labels: list, kind=None, **names) -> str:
    features = {names.get('image', 'image'): datasets.Image(), names.get('label', 'label'): kind or datasets.Value('int64')}
    columns = dict(zip(features, ([dict(bytes=image, path=None) for image in images], labels)))
    path.parent.mkdir(exist_ok=True, parents=True)
    datasets.Dataset.from_dict(columns, features=datasets.Features(features)).to_parquet(path)
    return str(path)


def test_a_parquet_file_with_names_of_classes(tmp_path):
    kind = datasets.ClassLabel(names=['cat', 'dog', 'ship'])
    path = write(tmp_path / 'a.parquet', list(map(encoded, PIXELS)), [2, 0, 1, 1, 0, 2], kind, image='img', label='fine')
    dataset = HuggingFaceDataset(path, image='img', label='fine', pipeline=PACK)
    assert dataset.metainfo['classes'] == ('cat', 'dog', 'ship')
    assert [dataset[number]['labels'] for number in range(6)] == [2, 0, 1, 1, 0, 2]
    images = torch.stack([dataset[number]['inputs'] for number in range(6)])
    assert torch.equal(images, torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    part = HuggingFaceDataset(path, split='train[:50%]', image='img', label='fine', pipeline=PACK)
    assert len(part) == 3 and torch.equal(part[1]['inputs'], images[1])
    subset = dataset.get_subset([4, 2])
    assert [sample['labels'] for sample in subset] == [0, 1] and torch.equal(subset[0]['inputs'], images[4])


def test_labels_without_names_and_images_of_other_modes(tmp_path):
    images = [
        encoded(PIXELS[0, ..., 0]),
        encoded(PIXELS[1], 'P'),
        encoded(np.dstack([PIXELS[2], np.zeros((32, 32), np.uint8)]), 'RGBA'),
    ]
    path = write(tmp_path / 'a.parquet', images, ['owl', 'ant', 'owl'], datasets.Value('string'))
    dataset = HuggingFaceDataset(path, pipeline=PACK)
    assert dataset.metainfo['classes'] == ('ant', 'owl') and [sample['labels'] for sample in dataset] == [1, 0, 1]
    assert all(np.array_equal(dataset[0]['inputs'][channel], PIXELS[0, ..., 0]) for channel in range(3))
    assert (dataset[2]['inputs'] == 255).all(), 'transparent on white'


def test_a_folder_of_files(tmp_path):
    """As a downloaded repository is."""
    kind = datasets.ClassLabel(names=['a', 'b'])
    for split, labels in (('train', [0, 1, 1]), ('test', [1, 0])):
        write(
            tmp_path / 'repo' / 'data' / f'{split}-00000-of-00001.parquet',
            list(map(encoded, PIXELS[: len(labels)])),
            labels,
            kind,
        )
    found = [HuggingFaceDataset(str(tmp_path / 'repo'), split=split, pipeline=PACK) for split in ('train', 'test')]
    assert [[sample['labels'] for sample in dataset] for dataset in found] == [[0, 1, 1], [1, 0]]


def test_an_image_that_cannot_be_read(tmp_path):
    path = write(tmp_path / 'a.parquet', [encoded(PIXELS[0]), b'no image'], [0, 1])
    dataset = HuggingFaceDataset(path, pipeline=PACK, max_unreadable_share=1.0, test_mode=True)
    with pytest.raises(DataError, match=r'a.parquet, image 1 cannot be read'), pytest.warns(UserWarning, match='image 1'):
        dataset[1]


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(image='img'), "no column 'img'.* image, label"),
        (dict(label='fine_label'), "no column 'fine_label'"),
        (dict(image='label'), "the column 'label' has no images"),
        (dict(split='train[x]'), 'cannot be loaded'),
    ],
)
def test_mistakes(options, message, tmp_path):
    path = write(tmp_path / 'a.parquet', [encoded(PIXELS[0])], [0])
    with pytest.raises(DataError, match=f'HuggingFaceDataset .*a.parquet.*{message}'):
        HuggingFaceDataset(path, **options)


def test_a_data_set_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, 'HF_HUB_OFFLINE', True)
    with pytest.raises(DataError, match='HuggingFaceDataset .*nowhere.* cannot be loaded'):
        HuggingFaceDataset(str(tmp_path / 'nowhere'))


@pytest.mark.parametrize('name', ['cifar10_hf', 'cifar100_hf', 'tiny_imagenet_hf'])
def test_configs(name, tmp_path, tiny_run):
    """A training with the config's data set, whose repository is a Parquet file here."""
    config = tmp_path / 'config.py'
    root = tiny_run().filename.rpartition('/configs/')[0]
    config.write_text(f"_base_ = '{root}/configs/_base_/datasets/{name}.py'\n")
    found = load_config(config).train_dataloader.dataset
    assert found.type == 'HuggingFaceDataset' and [step['type'] for step in found.pipeline] == ['RandomFlip', 'PackInputs']
    path = write(
        tmp_path / 'a.parquet',
        list(map(encoded, PIXELS)),
        [0, 1, 1, 0, 1, 0],
        image=found.get('image', 'image'),
        label=found.get('label', 'label'),
    )
    cfg = tiny_run(max_iters=1, **{'default_hooks.checkpoint.interval': 1, 'custom_hooks': [], 'model.num_classes': 2})
    cfg.train_dataloader.dataset = dict(found, path=path)
    train_from_config(cfg)
