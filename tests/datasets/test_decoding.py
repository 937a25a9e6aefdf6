import runpy
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from mmsagan.datasets import ImageFolder, UnreadableImageError, decoding
from mmsagan.datasets.image_folder import MAX_PIXELS, open_image, read_rgb, size_of
from mmsagan.datasets.packed import pack_dataset
from mmsagan.errors import DataError
from mmsagan.evaluation.images import FlatImageFolder

EPS = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n'


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>2I5B', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b'')


def gif(width: int, height: int) -> bytes:
    frame = b'\x2c' + struct.pack('<4HB', 0, 0, width, height, 0) + b'\x02\x02\x44\x01\x00'
    return b'GIF89a' + struct.pack('<2H3B', width, height, 0x80, 0, 0) + bytes(6) + frame + b'\x3b'


def tiff(width: int, height: int) -> bytes:
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 9}
    entries = b''.join(struct.pack('<2H2I', tag, 4, 1, value) for tag, value in tags.items())
    return b'II*\0' + struct.pack('<IH', 8, len(tags)) + entries + bytes(4)


def bmp(width: int, height: int) -> bytes:
    header = struct.pack('<IiiHHIIiiII', 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b'BM' + struct.pack('<IHHI', 54, 0, 0, 54) + header


def ppm(width: int, height: int) -> bytes:
    return f'P6 {width} {height} 255\n'.encode()


BOMBS = {'.png': png, '.gif': gif, '.tif': tiff, '.bmp': bmp, '.ppm': ppm}


@pytest.mark.parametrize('suffix', BOMBS)
def test_a_few_bytes_that_claim_billions_of_pixels(tmp_path, suffix):
    path = tmp_path / f'bomb{suffix}'
    path.write_bytes(BOMBS[suffix](60_000, 60_000))
    for read in (read_rgb, size_of):
        with pytest.raises(UnreadableImageError, match='decompression bomb|claims 60000x60000 pixels') as info:
            read(path)
        assert info.value.path == str(path)
    with pytest.raises(DataError, match=f'bomb{suffix}: not an image'):
        FlatImageFolder(tmp_path)


def test_the_bound_is_ours_and_not_pillows(tmp_path, monkeypatch):
    """Also where somebody has taken Pillow's away."""
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)
    (tmp_path / 'bomb.png').write_bytes(png(60_000, 60_000))
    with pytest.raises(UnreadableImageError, match=f'claims 60000x60000 pixels: not any, or more than {MAX_PIXELS}'):
        read_rgb(tmp_path / 'bomb.png')


def test_large_images_are_opened_without_a_warning_each(tmp_path):
    """pytest puts back the filters that importing the module has set; so it is run anew here."""
    (tmp_path / 'large.png').write_bytes(png(12_000, 14_000))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        module = runpy.run_path(decoding.__file__)
        assert module['size_of'](tmp_path / 'large.png') == (12_000, 14_000)
    assert not caught


@pytest.mark.parametrize('data', [EPS, gif(0, 0), ppm(0, 5), png(0, 0)])
def test_other_formats_and_no_pixels(tmp_path, data):
    """Pillow hands PostScript to Ghostscript, which is a language to write programs in."""
    (tmp_path / 'image.jpg').write_bytes(data)
    with pytest.raises(UnreadableImageError):
        read_rgb(tmp_path / 'image.jpg')


@pytest.mark.parametrize('suffix', ['.gif', '.tif', '.webp', '.png'])
def test_of_several_frames_the_first(tmp_path, suffix):
    frames = [Image.new('RGB', (8, 6), color) for color in ('red', 'blue')]
    path = tmp_path / f'frames{suffix}'
    frames[0].save(path, save_all=True, append_images=frames[1:], **({'lossless': True} if suffix == '.webp' else {}))
    with open_image(path) as image:
        assert image.n_frames == 2
    assert (read_rgb(path) == (255, 0, 0)).all() and size_of(path) == (8, 6)


def test_an_mpo_of_a_camera(tmp_path):
    """Two JPEGs in one file, under the suffix of one."""
    frames = [Image.new('RGB', (16, 8), color) for color in ('red', 'blue')]
    frames[0].save(tmp_path / 'image.jpg', format='MPO', save_all=True, append_images=frames[1:])
    red, green, blue = np.moveaxis(read_rgb(tmp_path / 'image.jpg').astype(int), -1, 0)
    assert red.min() > 240 and max(green.max(), blue.max()) < 15


def test_a_data_set_goes_on_without_a_bomb(tmp_path):
    (tmp_path / 'images' / 'cat').mkdir(parents=True)
    for index in range(3):
        Image.new('RGB', (8, 8), (index, 0, 0)).save(tmp_path / 'images' / 'cat' / f'{index}.png')
    (tmp_path / 'images' / 'cat' / 'bomb.png').write_bytes(png(60_000, 60_000))
    dataset = ImageFolder(
        data_root=str(tmp_path / 'images'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
        max_unreadable_share=0.3,
    )
    with pytest.warns(UserWarning, match=r'unreadable image skipped: .*bomb\.png'):
        assert [dataset[index]['inputs'].shape for index in range(4)] == [(3, 8, 8)] * 4
    packed = ImageFolder(data_root=str(tmp_path / 'images'), max_unreadable_share=0.3)
    with pytest.warns(UserWarning, match=r'bomb\.png'):
        assert pack_dataset(packed, tmp_path / 'packed', 8).skipped == ['cat/bomb.png']
