import numpy as np
import pytest
from mmengine.dataset import InfiniteSampler
from PIL import Image
from torch.utils.data import DataLoader

from mmsagan.datasets import ImageFolder, ImageNet
from mmsagan.errors import ConfigError, DataError

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCropLongEdge'),
    dict(type='Resize', scale=(32, 32), backend='pillow'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]


@pytest.fixture
def folder(tmp_path):
    """Two classes of three images, the last one nested; other files lie about."""
    for name in ('cat/a.png', 'cat/b.JPG', 'cat/deep/c.webp', 'dog/d.png', 'dog/e.bmp', 'dog/f.png'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (40, 30), (len(name), 0, 0)).save(path)
    (tmp_path / 'cat' / 'notes.txt').write_text('no image')
    (tmp_path / 'README').write_text('no class')
    return tmp_path


def test_folders_are_classes(folder):
    dataset = ImageFolder(data_root=str(folder), pipeline=PIPELINE)
    assert dataset.metainfo['classes'] == ('cat', 'dog') and dataset.num_classes == 2
    assert [dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))] == [0, 0, 0, 1, 1, 1]
    sample = dataset[0]
    assert sample['inputs'].shape == (3, 32, 32) and sample['labels'] == 0


@pytest.mark.parametrize('with_list', [True, False])
def test_imagenet_with_and_without_its_list(imagenet_root, with_list):
    dataset = ImageNet(data_root=str(imagenet_root), ann_file='meta/train.txt' if with_list else 'meta/none.txt')
    assert dataset.metainfo['classes'] == ('n01440764', 'n01443537', 'n01484850')
    entries = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [entry['gt_label'] for entry in entries] == [0] * 6 + [1] * 6 + [2] * 6
    assert all(entry['img_path'].startswith(str(imagenet_root / 'train')) for entry in entries)


def test_a_list_may_order_the_classes(folder):
    (folder / 'list.txt').write_text('dog/d.png 0\ncat/a.png 1\n\ncat/b.JPG 1\n')
    dataset = ImageFolder(data_root=str(folder), ann_file='list.txt')
    assert dataset.metainfo['classes'] == ('dog', 'cat') and len(dataset) == 3


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match='no folder .*nowhere.*data_root'):
        ImageFolder(data_root=str(tmp_path / 'nowhere'))


def test_no_images(tmp_path):
    with pytest.raises(DataError, match='no images'):
        ImageFolder(data_root=str(tmp_path))


def test_empty_class(folder):
    (folder / 'bird').mkdir()
    with pytest.raises(DataError, match='no images in 1 of 3 classes: bird'):
        ImageFolder(data_root=str(folder))


@pytest.mark.parametrize(
    'line, message',
    [
        ('cat/a.png', 'line 2'),
        ('cat/a.png one', 'line 2'),
        ('cat/a.png -1', 'line 2'),
        ('dog/d.png 7', 'label 7, but only 2 images'),
        ('cat/a.png 1', 'cat/a.png has the label 0 in line 1 and 1 in line 2'),
        ('dog/d.png 9999999999', 'line 2'),
        ('. 0', 'line 2'),
        ('cat/a.png ²', 'line 2'),
    ],
)
def test_broken_list(folder, line, message):
    (folder / 'list.txt').write_text(f'cat/a.png 0\n{line}\n')
    with pytest.raises(DataError, match=message):
        ImageFolder(data_root=str(folder), ann_file='list.txt')


@pytest.mark.parametrize('num_workers', [0, 1])
def test_truncated_images_are_named_and_skipped_up_to_a_share(folder, num_workers):
    path = folder / 'dog' / 'd.png'
    path.write_bytes(path.read_bytes()[:40])
    dataset = ImageFolder(data_root=str(folder), pipeline=PIPELINE, max_unreadable_share=0.2)
    if num_workers == 0:
        with pytest.warns(UserWarning, match=r'unreadable image skipped: .*d\.png'):
            dataset[3]
    loader = DataLoader(dataset, batch_size=6, num_workers=num_workers)
    assert next(iter(loader))['inputs'].shape == (6, 3, 32, 32)
    (folder / 'dog' / 'e.bmp').unlink()
    with pytest.raises(DataError, match=r'2 of 6 images cannot be read.*max_unreadable_share=0\.2.*dog/e\.bmp'):
        list(DataLoader(dataset, batch_size=6, num_workers=num_workers))


def test_unreadable_images_are_an_error_in_evaluation(folder):
    (folder / 'dog' / 'd.png').write_bytes(b'')
    dataset = ImageFolder(data_root=str(folder), pipeline=PIPELINE, max_unreadable_share=1.0, test_mode=True)
    with pytest.raises(DataError, match=r'd\.png'), pytest.warns(UserWarning):
        dataset[3]


def test_infinite_sampler_covers_the_data(folder):
    dataset = ImageFolder(data_root=str(folder), pipeline=PIPELINE)
    indices = iter(InfiniteSampler(dataset, shuffle=True, seed=1))
    first, second = [sorted(next(indices) for _ in range(6)) for _ in range(2)]
    assert first == second == list(range(6))


def test_pixels_arrive_as_rgb(tmp_path):
    (tmp_path / 'red').mkdir()
    Image.new('RGB', (32, 32), (200, 30, 10)).save(tmp_path / 'red' / 'a.png')
    sample = ImageFolder(data_root=str(tmp_path), pipeline=PIPELINE)[0]['inputs']
    assert np.array_equal(sample[:, 5, 5], [200, 30, 10])


def test_a_list_of_images_that_are_not_there(folder):
    """Told from damaged images after some in a row, whatever share may be unreadable."""
    (folder / 'list.txt').write_text('\n'.join(f'cat/gone_{i}.png 0' for i in range(100_000)))
    dataset = ImageFolder(data_root=str(folder), ann_file='list.txt', pipeline=PIPELINE)
    with pytest.warns(UserWarning), pytest.raises(DataError, match='20 in a row.*gone_'):
        dataset[0]


def test_a_list_that_is_not_there_or_no_text(folder):
    with pytest.raises(DataError, match="no file .*gone.txt; without a list of images set ann_file=''"):
        ImageFolder(data_root=str(folder), ann_file='gone.txt')
    (folder / 'list.txt').write_bytes(b'cat/a.png 0\n\xff\xfe 1\n')
    with pytest.raises(DataError, match='cannot be read as a list'):
        ImageFolder(data_root=str(folder), ann_file='list.txt')


def test_images_that_are_listed_again(folder):
    (folder / 'list.txt').write_text('cat/a.png 0\ndog/d.png 1\ncat/a.png 0\n\ncat/a.png 0\n')
    with pytest.warns(UserWarning, match=r'list.txt: 2 lines name an image that is listed before: cat/a.png, cat/a.png'):
        assert len(ImageFolder(data_root=str(folder), ann_file='list.txt')) == 4


@pytest.mark.parametrize('serialize', [True, False])
def test_indices_leave_images_of_every_class_or_say_so(folder, serialize, recwarn):
    options = dict(data_root=str(folder), serialize_data=serialize)
    assert len(ImageFolder(indices=[0, 5], **options)) == 2 and not recwarn
    with pytest.warns(UserWarning, match='of the images that indices leave, there are no images in 1 of 2 classes: dog'):
        assert len(ImageFolder(indices=2, **options)) == 2
    for indices in ([6], ['cat'], 0, [], 1.5):
        with pytest.raises(ConfigError, match='indices'):
            ImageFolder(indices=indices, **options)
