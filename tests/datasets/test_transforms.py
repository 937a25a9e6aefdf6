import numpy as np
import pytest
from PIL import Image

from mmsagan.datasets import CenterCropLongEdge, LoadImageFromFile, PackInputs, RandomCropLongEdge, UnreadableImageError


def load(path) -> np.ndarray:
    return LoadImageFromFile()(dict(img_path=str(path)))['img']


@pytest.mark.parametrize(
    'mode, color, expected',
    [
        ('L', 77, (77, 77, 77)),
        ('1', 1, (255, 255, 255)),
        ('RGBA', (200, 100, 0, 255), (200, 100, 0)),
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


def test_palette(tmp_path):
    image = Image.new('P', (6, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30] + [0] * 762)
    image.save(tmp_path / 'image.png')
    assert (load(tmp_path / 'image.png') == (10, 200, 30)).all()


def test_cmyk(tmp_path):
    Image.new('CMYK', (16, 16), (0, 255, 255, 0)).save(tmp_path / 'image.jpg', quality=100)
    red, green, blue = load(tmp_path / 'image.jpg')[8, 8]
    assert red > 240 and green < 15 and blue < 15


def test_exif_rotation(tmp_path):
    """Orientation 6: the picture is to be turned clockwise, so its left half comes out on top."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20] = (255, 255, 255)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / 'image.jpg', quality=100, exif=exif)
    loaded = load(tmp_path / 'image.jpg')
    assert loaded.shape == (40, 20, 3)
    assert loaded[:18].min() > 240 and loaded[22:].max() < 15


@pytest.mark.parametrize('data', [b'', b'not an image', None])
def test_unreadable(tmp_path, data):
    path = tmp_path / 'image.png'
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UnreadableImageError) as info:
        load(path)
    assert info.value.path == str(path)


def test_damaged_exif(tmp_path):
    """Pillow raises a struct.error when it turns an image whose width, by its Exif, is a text."""
    image = Image.new('RGB', (8, 4))
    exif = image.getexif()
    exif[0x0112], exif[0x010F] = 6, 'maker'
    image.save(tmp_path / 'image.jpg', exif=exif)
    data = (tmp_path / 'image.jpg').read_bytes()
    (tmp_path / 'image.jpg').write_bytes(data.replace(b'\x01\x0f\x00\x02', b'\x01\x00\x00\x02'))
    with pytest.raises(UnreadableImageError, match='not an integer'):
        load(tmp_path / 'image.jpg')


def test_want_of_memory_is_not_the_files_fault(tmp_path, monkeypatch):
    Image.new('RGB', (8, 4)).save(tmp_path / 'image.png')

    def too_much(image):
        raise MemoryError

    monkeypatch.setattr('mmsagan.datasets.image_folder.to_rgb', too_much)
    with pytest.raises(MemoryError):
        load(tmp_path / 'image.png')


@pytest.mark.parametrize('shape', [(10, 30, 3), (30, 10, 3)])
def test_center_crop(shape):
    image = np.arange(np.prod(shape)).reshape(shape)
    cropped = CenterCropLongEdge()(dict(img=image))['img']
    assert np.array_equal(cropped, image[:, 10:20] if shape[1] == 30 else image[10:20])


def test_random_crop_is_uniform_and_reaches_both_ends():
    image = np.broadcast_to(np.arange(13)[None, :, None], (10, 13, 3))
    starts = [int(RandomCropLongEdge()(dict(img=image))['img'][0, 0, 0]) for _ in range(400)]
    counts = np.bincount(starts, minlength=4)
    assert len(counts) == 4 and counts.min() > 60


def test_square_images_are_not_cropped():
    image = np.random.rand(8, 8, 3)
    assert RandomCropLongEdge()(dict(img=image))['img'].shape == (8, 8, 3)


def test_packing():
    image = np.random.randint(0, 256, (4, 5, 3), dtype=np.uint8)
    packed = PackInputs()(dict(img=image[:, ::-1], gt_label=3, path='x'))
    assert set(packed) == {'inputs', 'labels'} and packed['labels'] == 3
    assert np.array_equal(packed['inputs'].numpy(), image[:, ::-1].transpose(2, 0, 1))
