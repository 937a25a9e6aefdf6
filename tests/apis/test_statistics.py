"""Statistics of images from anywhere say what they are of, and each difference is named."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmsagan.apis.statistics import image_statistics, score_images
from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import DigitsExtractor, RealImages, open_images, save_statistics
from mmsagan.registry import EXTRACTORS

DIGITS, PLAIN = dict(inception_style='digits'), dict(extractor=dict(type='ResizingExtractor'))


class ResizingExtractor(DigitsExtractor):
    name = 'resizing'
    resize_modes = ('plain', 'other')

    def __init__(self, resize='plain', **kwargs):
        super().__init__(**kwargs)


@pytest.fixture(autouse=True)
def resizing(monkeypatch):
    monkeypatch.setitem(EXTRACTORS.module_dict, 'ResizingExtractor', ResizingExtractor)


@pytest.fixture
def photos(tmp_path) -> Path:
    for number in range(70):
        path = tmp_path / 'photos' / f'{number:02d}.bmp'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.RandomState(number).randint(256, size=(8, 8, 3)).astype(np.uint8)).save(path)
    return path.parent


def resized(**options) -> dict:
    return dict(extractor=dict(type='ResizingExtractor', **options))


@pytest.mark.parametrize(
    'named, options',
    [
        ('', {}),
        ('', dict(kind='zip')),
        ('', dict(kind='tar')),
        ('images=', dict(change=lambda photos: (photos / '03.bmp').unlink())),
        ('other names', dict(change=lambda photos: (photos / '03.bmp').rename(photos / '99.bmp'))),
        ('other contents', dict(change=lambda photos: shutil.copy(photos / '03.bmp', photos / '04.bmp'))),
        ('other contents', dict(kind='zip', change=lambda photos: shutil.copy(photos / '03.bmp', photos / '04.bmp'))),
        ('image_size=', dict(size=6)),
        ('transforms=', dict(size=8)),
        ('extractor=.*digits', dict(inception=DIGITS)),
        ("extractor=.*'other'", dict(inception=resized(resize='other'))),
        ('extractor=.*trained', dict(inception=resized(trained=False))),
        ('70 images', dict(num_images=66)),
        ('66 images', dict(before=dict(num_images=66))),
        ('seed=', dict(num_images=66, before=dict(num_images=66), seed=1)),
    ],
)
def test_statistics_of_something_else_are_not_overwritten(photos, tmp_path, named, options):
    def compute(size=None, kind=None, seed=0, num_images=-1, inception=PLAIN, replaces=(), **_):
        source = shutil.make_archive(tmp_path / 'packed', kind, photos) if kind else photos
        return image_statistics(RealImages(open_images(source, size), seed=seed), num_images, 32, inception, replaces)

    path = tmp_path / 'real.pkl'
    save_statistics(compute(**options.get('before', {})), path)
    options.get('change', lambda photos: None)(photos)
    if not named:
        assert compute(replaces=[path], **options).content == compute().content
    else:
        with pytest.raises(ConfigError, match=f'real.pkl is of .*({named})'):
            compute(replaces=[path], **options)


def test_scores_by_statistics_of_something_else(photos, tmp_path):
    """Those of a random choice are taken as they are."""
    for count in (-1, 66):
        save_statistics(
            image_statistics(RealImages(open_images(photos)), count, inception=resized()), tmp_path / f'{count}.npz'
        )

    def score(path, inception=PLAIN, size=None):
        return score_images(RealImages(open_images(photos, size)), ['fid', 'fid-infinity'], path, inception=inception)

    assert list(score(tmp_path / '-1.npz').values())[0] < 1e-6 < list(score(tmp_path / '66.npz').values())[0]
    for options, named in (
        (dict(size=6), r'image_size=\[8, 8\], not \[6, 6\]'),
        (dict(inception=DIGITS), "'resizing'.*'digits'"),
        (dict(inception=resized(resize='other')), "'resizing'.*'resizing other'"),
        (dict(inception=resized(trained=False)), 'extractor=.*trained'),
    ):
        with pytest.raises(ConfigError, match=rf'66\.npz is of .*{named}'):
            score(tmp_path / '66.npz', **options)


def test_a_class_of_one_image_has_no_fid(photos, tmp_path):
    for side, counts in (('fake', (5, 1)), ('real', (5, 5))):
        for name, count in zip('ab', counts):
            for number in range(count):
                path = tmp_path / side / name / f'{number}.bmp'
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(photos / f'{number:02d}.bmp', path)
    with pytest.raises(DataError, match="IntraFID.*'b' has 1 sample"):
        score_images(RealImages(open_images(tmp_path / 'fake')), ['intra-fid'], tmp_path / 'real', inception=DIGITS)
