"""Folders of images: classes, lists, decoding of whatever file there is, and what happens without a readable one."""

import os
import struct
import warnings
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch.utils.data import DataLoader

from mmsagan.datasets import ImageFolder, ImageNet, LoadImageFromFile, UnreadableImageError, image_folder
from mmsagan.datasets.image_folder import find_images, open_image, read_rgb
from mmsagan.engine.config import config_errors
from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import open_images

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
    assert find_images(folder)[0] == [str(folder / name) for name in NAMES]
    sample = dataset[0]
    assert sample['inputs'].shape == (3, 32, 32) and sample['labels'] == 0
    assert np.array_equal(sample['inputs'][:, 5, 5], [200, 30, 10]), 'RGB'


@pytest.fixture
def foreign(folder, tmp_path_factory):
    """What people's folders contain, besides the images of ``folder``."""
    elsewhere = tmp_path_factory.mktemp('elsewhere')
    names = ('cat/a.jfif', 'cat/b.jpe', 'cat/bag.jpg/c.png', 'beside.png')
    ignored = ('cat/._a.png', '__MACOSX/cat/a.png', 'cat/.ipynb_checkpoints/a.png', 'cat/deep/lost+found/a.png')
    for path in (*(folder / name for name in (*names, *ignored)), elsewhere / 'x/y.png', elsewhere / 'bird/z.png'):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (40, 30), (200, 30, 10)).save(path, format='JPEG' if path.suffix[1] == 'j' else None)
    for name in ('cat/Thumbs.db', 'cat/1.heic', 'dog/2.HEIC', 'dog/extensionless'):
        (folder / name).touch()
    (folder / 'bird').symlink_to(elsewhere / 'bird')
    (folder / 'cat/more').symlink_to(elsewhere / 'x')
    (folder / 'cat/file.png').symlink_to(elsewhere / 'x/y.png')
    (elsewhere / 'x/loop').symlink_to(elsewhere / 'x')
    (folder / 'cat/around').symlink_to(folder.parent)
    (folder / 'cat/all_dogs').symlink_to(folder / 'dog')
    (folder / 'cat/gone.png').symlink_to(elsewhere / 'gone.png')
    (folder / 'dog/itself').symlink_to(folder / 'dog/itself')
    os.mkfifo(folder / 'dog/pipe.png')
    return folder


def test_which_files_are_images_and_what_is_left_out(foreign, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(image_folder, 'print_log', lambda message, logger: said.append(message))
    cats = (
        'cat/a.jfif',
        'cat/a.png',
        'cat/b.JPG',
        'cat/b.jpe',
        'cat/bag.jpg/c.png',
        'cat/deep/c.webp',
        'cat/file.png',
        'cat/more/y.png',
    )
    expected = [str(foreign / name) for name in ('bird/z.png', *cats, 'dog/d.png', 'dog/e.bmp', 'dog/f.png')]
    dataset = ImageFolder(data_root=str(foreign))
    assert [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))] == expected
    assert dataset.metainfo['classes'] == ('bird', 'cat', 'dog')
    assert {reason: len(paths) for reason, paths in dataset.left_out.items()} == {
        '.heic': 2, '.txt': 1, 'files without a suffix': 2, 'images beside the class folders': 1,
        'links to folders that are searched anyway': 3, 'links to nothing': 2, 'pipes or devices': 1,
    }  # fmt: skip
    flat = open_images(foreign)
    assert {flat.get_data_info(index)['img_path'] for index in range(len(flat))} == {*expected, str(foreign / 'beside.png')}
    assert len(said) == 2 and all('left out: 2 .heic, 1 .txt, ' in message for message in said)


@pytest.mark.parametrize('link', ['dog', 'cat/deep', '..'])
def test_one_folder_is_one_class(folder, link):
    (folder / 'bird').symlink_to(folder / link)
    with pytest.raises(DataError, match='bird'):
        ImageFolder(data_root=str(folder))


def test_folders_that_cannot_be_read(folder, monkeypatch):
    def scandir(path):
        if str(path).endswith('deep'):
            raise PermissionError(13, 'Permission denied')
        return original(path)

    original = os.scandir
    monkeypatch.setattr(os, 'scandir', scandir)
    dataset = ImageFolder(data_root=str(folder))
    assert len(dataset) == 5 and dataset.left_out['folders that cannot be read'] == [str(folder / 'cat/deep')]


def test_splits_are_not_classes(tmp_path):
    for name in ('train/cat/a.png', 'train/dog/b.png', 'Val/cat/c.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8)).save(tmp_path / name)
    (tmp_path / 'test').mkdir()
    with pytest.raises(DataError, match="Val, train.*data_prefix='Val'"):
        ImageFolder(data_root=str(tmp_path))
    assert ImageFolder(data_root=str(tmp_path), data_prefix='train').metainfo['classes'] == ('cat', 'dog')
    Image.new('RGB', (8, 8)).save(tmp_path / 'test' / 'd.png')  # Kaggle's test images are without classes
    with pytest.raises(DataError, match='data_prefix'):
        ImageFolder(data_root=str(tmp_path))
    (tmp_path / 'train').rename(tmp_path / 'locomotive')
    assert len(ImageFolder(data_root=str(tmp_path)).metainfo['classes']) == 3


def test_classes_with_numbers_for_names(tmp_path):
    for name in map(str, range(12)):
        (tmp_path / name).mkdir()
        Image.new('RGB', (8, 8)).save(tmp_path / name / 'a.png')
    assert ImageFolder(data_root=str(tmp_path)).metainfo['classes'][:4] == ('0', '1', '10', '11')


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


@pytest.mark.parametrize(
    'text, classes',
    [
        ('\ufeffdog/d.png 0\r\ncat/a.png 1\r\n', ('dog', 'cat')),  # as Windows writes it
        ('a.png 0\nb.png 1\n', ('class 0', 'class 1')),
        ('cat/a.png 0\ndog/d.png 1\ncat/b.JPG 1\n', 'line 3.*cat.*line 1'),
        ('a.png 0\n./a.png 1\n', 'line 2.*a.png.*line 1'),
    ],
)
def test_lists_of_images(folder, text, classes):
    (folder / 'list.txt').write_text(text, encoding='utf-8', newline='')
    if isinstance(classes, tuple):
        assert ImageFolder(data_root=str(folder), ann_file='list.txt').metainfo['classes'] == classes
    else:
        with pytest.raises(DataError, match=classes):
            ImageFolder(data_root=str(folder), ann_file='list.txt')


def test_names_that_are_not_utf8(tmp_path):
    name = b'c\xff 50%d [x]/\xe9#.png'
    path = tmp_path / 'images' / os.fsdecode(name)
    path.parent.mkdir(parents=True)
    Image.new('RGB', (8, 8), 'white').save(path)  # a warning with such a name would end pytest's worker
    (tmp_path / 'list.txt').write_bytes(name + b' 0\n')
    for ann_file in ('', str(tmp_path / 'list.txt')):
        dataset = ImageFolder(data_root=str(tmp_path / 'images'), ann_file=ann_file, pipeline=PIPELINE)
        assert [dataset.get_data_info(0)['img_path'], *dataset.metainfo['classes']] == [str(path), path.parent.name]
        assert dataset[0]['inputs'].shape == (3, 32, 32)


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


@pytest.mark.parametrize('kind, sample_format', [(np.float32, 3), (np.int32, 2), (np.int16, 2), (np.uint32, 1), (np.uint8, 1)])
def test_values_of_an_unknown_range_are_refused(tmp_path, kind, sample_format):
    pixels = np.arange(24).reshape(4, 6).astype(kind)
    (tmp_path / 'image.tif').write_bytes(tiff(pixels, sample_format))
    if kind is np.uint8:
        assert np.array_equal(read_rgb(tmp_path / 'image.tif')[..., 0], pixels)
    else:
        with pytest.raises(UnreadableImageError, match='range is unknown'):
            read_rgb(tmp_path / 'image.tif')


def tiff(pixels: np.ndarray, sample_format: int) -> bytes:
    """A grey image of any type; Pillow writes few."""
    bits = 8 * pixels.itemsize
    height, width = pixels.shape
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 200), (278, height), (279, pixels.nbytes)]
    entries = b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in [*tags, (339, sample_format)])
    return (b'II*\0' + struct.pack('<IH', 8, 9) + entries + bytes(4)).ljust(200, b'\0') + pixels.tobytes()


@pytest.mark.parametrize(
    'name, highest, is_odd',
    [('a.png', 4095, True), ('a.tif', 4095, True), ('a.pgm', 4095, True), ('a.png', 50000, False)],
)
def test_12_bits_in_a_file_of_16_bits(tmp_path, monkeypatch, name, highest, is_odd):
    monkeypatch.setattr(image_folder, '_warned', [])
    pixels = np.linspace(0, highest, 24).reshape(4, 6).astype(np.uint16)
    if name.endswith('pgm'):
        (tmp_path / name).write_bytes(b'P5 6 4 65535\n' + pixels.astype('>u2').tobytes())
    else:
        Image.fromarray(pixels).save(tmp_path / name)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        images = [read_rgb(tmp_path / name) for _ in range(2)]
    assert [name in str(warning.message) and 'range' in str(warning.message) for warning in said] == [True] * is_odd, 'once'
    np.testing.assert_array_equal(images[1], np.repeat((pixels >> 8)[..., None], 3, 2))


def test_the_size_of_profiles_and_texts_does_not_matter(tmp_path):
    text = PngInfo()
    for key in ('workflow', 'prompt'):
        text.add_text(key, 'node ' * 500_000, zip=True)
    text.add_itxt('more', 'node ' * 12_000_000, zip=True)
    Image.new('RGB', (6, 4), (200, 30, 10)).save(tmp_path / 'a.png', pnginfo=text, icc_profile=bytes(3_000_000))
    assert (read_rgb(tmp_path / 'a.png') == (200, 30, 10)).all()


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
    assert loaded.shape == (40, 20, 3)
    assert loaded[:18].min() > 240 and loaded[22:].max() < 15


@pytest.mark.parametrize('exif', [b'Exif\0\0garbage', b'Exif\0\0II*\0'])
def test_damaged_exif_data_does_not_matter(tmp_path, exif):
    for suffix in ('.png', '.jpg', '.webp'):
        Image.new('RGB', (6, 4), (200, 200, 200)).save(tmp_path / f'a{suffix}', exif=exif)
        assert abs(read_rgb(tmp_path / f'a{suffix}').astype(int) - 200).max() < 3


@pytest.mark.parametrize('suffix', ['.gif', '.tif', '.jpg'])
def test_of_several_frames_the_first(tmp_path, suffix):
    """Some cameras write two JPEGs into one file (MPO)."""
    frames = [Image.new('RGB', (16, 8), color) for color in ('red', 'blue')]
    path = tmp_path / f'frames{suffix}'
    options = dict(format='MPO') if suffix == '.jpg' else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    with open_image(path) as image:
        assert image.n_frames == 2
    assert abs(read_rgb(path).astype(int) - (255, 0, 0)).max() < 15


def test_a_few_bytes_that_claim_billions_of_pixels(tmp_path, monkeypatch):
    path = tmp_path / 'bomb.bmp'
    path.write_bytes(struct.pack('<2sIHHIIiiHHIIiiII', b'BM', 54, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0))
    for _ in range(2):
        with pytest.raises(UnreadableImageError) as info:
            read_rgb(path)
        assert info.value.path == str(path)
        monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)


def test_lack_of_memory_is_not_the_files_fault(tmp_path, monkeypatch):
    Image.new('RGB', (8, 4)).save(tmp_path / 'image.png')
    monkeypatch.setattr(image_folder.ImageOps, 'exif_transpose', Mock(side_effect=MemoryError))
    with pytest.raises(MemoryError):
        load(tmp_path / 'image.png')


def test_a_pipeline_that_does_not_load_the_images(imagenet_root):
    dataset = ImageFolder(data_root=str(imagenet_root / 'train'), pipeline=[dict(type='PackInputs')])
    with pytest.raises(ConfigError, match="PackInputs.*'img'.*LoadImageFromFile"):
        dataset[0]
