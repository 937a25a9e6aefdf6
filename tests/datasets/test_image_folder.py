"""Folders of images: classes, lists, decoding of whatever file there is, and what happens without a readable one."""

import struct
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from mmsagan.datasets import ImageFolder, ImageNet, LoadImageFromFile, UnreadableImageError, image_folder
from mmsagan.datasets.image_folder import find_images, open_image, read_rgb, size_of
from mmsagan.engine.config import config_errors
from mmsagan.errors import ConfigError, DataError

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCropLongEdge'),
    dict(type='Resize', scale=(32, 32), backend='pillow'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
NAMES = ('cat/a.png', 'cat/b.JPG', 'cat/deep/c.webp', 'dog/d.png', 'dog/e.bmp', 'dog/f.png')


@pytest.fixture
def folder(tmp_path):
    """Two classes of three images, one in a folder of its own, among other files."""
    for name in (*NAMES, '.hidden/a.png'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (40, 30), (200, 30, 10)).save(path)
    (tmp_path / 'cat' / 'notes.txt').write_text('no image')
    (tmp_path / 'README').write_text('no class')
    return tmp_path


def test_folders_are_classes(folder):
    dataset = ImageFolder(data_root=str(folder), pipeline=PIPELINE)
    assert dataset.metainfo['classes'] == ('cat', 'dog')
    entries = [dataset.get_data_info(index) for index in range(len(dataset))]
    assert [entry['img_path'] for entry in entries] == [str(folder / name) for name in NAMES]
    assert [entry['gt_label'] for entry in entries] == [0, 0, 0, 1, 1, 1]
    assert find_images(folder) == [folder / '.hidden/a.png', *(folder / name for name in NAMES)]
    sample = dataset[0]
    assert sample['inputs'].shape == (3, 32, 32) and sample['labels'] == 0
    assert np.array_equal(sample['inputs'][:, 5, 5], [200, 30, 10]), 'RGB'


@pytest.mark.parametrize('with_list', [True, False])
def test_imagenet_with_and_without_its_list(imagenet_root, with_list):
    dataset = ImageNet(data_root=str(imagenet_root), ann_file='meta/train.txt' if with_list else 'meta/none.txt')
    assert dataset.metainfo['classes'] == ('n01440764', 'n01443537', 'n01484850')
    entries = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [entry['gt_label'] for entry in entries] == [0] * 6 + [1] * 6 + [2] * 6
    assert all(entry['img_path'].startswith(str(imagenet_root / 'train')) for entry in entries)


def test_folders_without_images(folder):
    with pytest.raises(DataError, match='nowhere'):
        ImageFolder(data_root=str(folder / 'nowhere'))
    with pytest.raises(DataError, match='deep'):
        ImageFolder(data_root=str(folder / 'cat' / 'deep'))
    (folder / 'bird').mkdir()
    with pytest.raises(DataError, match='1 of 3 classes: bird'):
        ImageFolder(data_root=str(folder))
    assert len(ImageFolder(data_root=str(folder), allow_empty_classes=True)) == 6


def test_a_list_may_order_the_classes_and_repeat_images(folder):
    (folder / 'list.txt').write_text('dog/d.png 0\ncat/a.png 1\n\ncat/b.JPG 1\ncat/a.png 1\n')
    dataset = ImageFolder(data_root=str(folder), ann_file='list.txt')
    assert dataset.metainfo['classes'] == ('dog', 'cat') and len(dataset) == 4


def test_indices(folder):
    assert [ImageFolder(data_root=str(folder), indices=[0, 5])[number]['gt_label'] for number in (0, 1)] == [0, 1]
    for indices in ([6], ['cat'], 1.5):
        with pytest.raises(ConfigError), config_errors():
            ImageFolder(data_root=str(folder), indices=indices)


@pytest.mark.parametrize('num_workers', [0, 1])
def test_unreadable_images_are_named_and_skipped_up_to_a_share(folder, num_workers):
    path = folder / 'dog' / 'd.png'
    path.write_bytes(path.read_bytes()[:40])
    dataset = ImageFolder(data_root=str(folder), pipeline=PIPELINE, max_unreadable_share=0.2)
    if num_workers == 0:
        with pytest.warns(UserWarning, match=r'unreadable image skipped: .*d\.png'):
            dataset[3]
    [batch] = DataLoader(dataset, batch_size=6, num_workers=num_workers)
    assert batch['inputs'].shape == (6, 3, 32, 32)
    (folder / 'dog' / 'e.bmp').unlink()
    with pytest.raises(DataError, match=r'2 of 6 images cannot be read.*max_unreadable_share=0\.2.*dog/e\.bmp'):
        [dataset[index] for index in (3, 4)]


def test_unreadable_images_are_an_error_in_evaluation_and_if_there_is_no_other(folder):
    (folder / 'dog' / 'd.png').write_bytes(b'')
    dataset = ImageFolder(data_root=str(folder), pipeline=PIPELINE, max_unreadable_share=1.0, test_mode=True)
    with pytest.raises(DataError, match=r'd\.png'), pytest.warns(UserWarning):
        dataset[3]
    (folder / 'list.txt').write_text('\n'.join(f'cat/gone_{i}.png 0' for i in range(3_000)))
    dataset = ImageFolder(data_root=str(folder), ann_file='list.txt', pipeline=PIPELINE)
    with pytest.warns(UserWarning), pytest.raises(DataError, match='20 in a row.*gone_'):
        dataset[0]


def load(path) -> np.ndarray:
    return LoadImageFromFile()(dict(img_path=str(path)))['img']


@pytest.mark.parametrize(
    'mode, color, expected',
    [
        ('RGBA', (200, 100, 0, 0), (255, 255, 255)),
        ('LA', (50, 255), (50, 50, 50)),
        ('I;16', 256 * 77 + 5, (77, 77, 77)),
    ],
)
def test_modes_become_rgb(tmp_path, mode, color, expected):
    Image.new(mode, (6, 4), color).save(tmp_path / 'image.png')
    image = load(tmp_path / 'image.png')
    assert image.shape == (4, 6, 3) and image.dtype == np.uint8
    assert (image == expected).all()


def test_palette_and_cmyk(tmp_path):
    image = Image.new('P', (6, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30] + [0] * 762)
    image.save(tmp_path / 'image.png')
    assert (load(tmp_path / 'image.png') == (10, 200, 30)).all()
    Image.new('CMYK', (16, 16), (0, 255, 255, 0)).save(tmp_path / 'image.jpg', quality=100)
    red, green, blue = load(tmp_path / 'image.jpg')[8, 8]
    assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize('suffix', ['.jpg', '.tif', '.png'])
def test_exif_rotation(tmp_path, suffix):
    """Orientation 6: the picture is to be turned clockwise, so its left half comes out on top."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20] = (255, 255, 255)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / f'image{suffix}', quality=100, exif=exif)
    loaded = load(tmp_path / f'image{suffix}')
    assert loaded.shape == (40, 20, 3) and size_of(tmp_path / f'image{suffix}') == (20, 40)
    assert loaded[:18].min() > 240 and loaded[22:].max() < 15


@pytest.mark.parametrize('suffix', ['.gif', '.tif', '.jpg'])
def test_of_several_frames_the_first(tmp_path, suffix):
    """Some cameras write two JPEGs into one file (MPO)."""
    frames = [Image.new('RGB', (16, 8), color) for color in ('red', 'blue')]
    path = tmp_path / f'frames{suffix}'
    options = dict(format='MPO') if suffix == '.jpg' else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    with open_image(path) as image:
        assert image.n_frames == 2
    assert abs(read_rgb(path).astype(int) - (255, 0, 0)).max() < 15 and size_of(path) == (16, 8)


def test_a_few_bytes_that_claim_billions_of_pixels(tmp_path, monkeypatch):
    path = tmp_path / 'bomb.bmp'
    path.write_bytes(struct.pack('<2sIHHIIiiHHIIiiII', b'BM', 54, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0))
    for _ in range(2):
        for read in (read_rgb, size_of):
            with pytest.raises(UnreadableImageError) as info:
                read(path)
            assert info.value.path == str(path)
        monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)


def test_lack_of_memory_is_not_the_files_fault(tmp_path, monkeypatch):
    Image.new('RGB', (8, 4)).save(tmp_path / 'image.png')
    monkeypatch.setattr(image_folder, 'to_rgb', Mock(side_effect=MemoryError))
    with pytest.raises(MemoryError):
        load(tmp_path / 'image.png')
