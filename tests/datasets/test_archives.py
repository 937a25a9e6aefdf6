"""Images in archives are those of the folder that was packed, and what is wrong with an archive is said in one message."""

import gzip
import io
import os
import shutil
import tarfile
import zipfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmsagan.apis.sampling import SampleSet, sample, write_samples
from mmsagan.datasets import archives
from mmsagan.errors import DataError
from mmsagan.evaluation import RealImages, open_images
from mmsagan.registry import MODELS


def png(seed: int, size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.RandomState(seed).randint(256, size=(size, size, 3)).astype(np.uint8)).save(buffer, 'PNG')
    return buffer.getvalue()


def write_archive(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == '.zip':
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, 'w') as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


def read_all(images: RealImages) -> tuple[list, list]:
    batches = list(images.batches(len(images), 5, torch.device('cpu')))
    return torch.cat([batch.images for batch in batches]).tolist(), torch.cat([batch.label for batch in batches]).tolist()


@pytest.fixture
def tree(tmp_path) -> Path:
    for index in range(12):
        path = tmp_path / 'tree' / ('cat', 'dog', 'bird')[index % 3] / f'{index}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(index))
    return tmp_path / 'tree'


@pytest.mark.parametrize('kind, inside, workers', [('zip', '.', 2), ('zip', 'tree', 0), ('tar', '.', 2), ('gztar', 'tree', 2)])
def test_an_archive_is_as_good_as_its_folder(tree, tmp_path, kind, inside, workers):
    """With and without the folder itself in it."""
    root = tree if inside == '.' else tree.parent
    archive = shutil.make_archive(tmp_path / 'packed', kind, root, inside)
    folder, packed = (RealImages(open_images(source, 6), workers) for source in (tree, archive))
    assert read_all(packed) == read_all(folder) and packed.dataset.metainfo['classes'] == ('bird', 'cat', 'dog')
    assert packed.fingerprint == folder.fingerprint
    (tree / 'cat' / '0.png').write_bytes(png(99))
    shutil.make_archive(tmp_path / 'packed', kind, root, inside)
    os.utime(archive, (1, 1))
    assert RealImages(open_images(archive, 6)).fingerprint != packed.fingerprint, 'another archive of the same name'


@pytest.mark.parametrize('suffix', ['zip', 'tar'])
def test_names_in_archives_are_not_trusted(tmp_path, suffix):
    secret = tmp_path / 'secret.png'
    secret.write_bytes(png(5))
    files = {'a/0.png': png(0), './a/1.PNG': png(1), str(secret): png(2), f'../{secret.name}': png(3), '.a/4.png': png(4)}
    files |= {'__MACOSX/a/5.png': png(5), 'a/notes.txt': b'', 'a/b/../6.png': png(6)}
    path = write_archive(tmp_path / f'x.{suffix}', files)
    if suffix == 'tar':
        with tarfile.open(path, 'a') as archive:
            for name, kind in (('a/7.png', tarfile.SYMTYPE), ('a/8.png', tarfile.FIFOTYPE)):
                link = tarfile.TarInfo(name)
                link.type, link.linkname = kind, str(secret)
                archive.addfile(link)
    before = sorted(tmp_path.rglob('*'))
    images = RealImages(open_images(path), seed=None)
    expected = [np.asarray(Image.open(io.BytesIO(png(seed)))).transpose(2, 0, 1).tolist() for seed in (0, 1, 6, 2)]
    assert read_all(images)[0] == expected and sorted(tmp_path.rglob('*')) == before
    assert images.fingerprint['images'] == 4 and images.dataset.left_out == {'.txt': [f'{path}/a/notes.txt']}


def test_what_unpacks_to_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, '_MAX_BYTES', 5000)
    files = {f'{index}.png': png(index, 64 if index == 7 else 8) for index in range(100)}
    with pytest.warns(UserWarning, match=r'7\.png'):
        assert len(read_all(RealImages(open_images(write_archive(tmp_path / 'x.zip', files))))[0]) == 99
    packed = gzip.compress(write_archive(tmp_path / 'x.tar', files).read_bytes())
    (tmp_path / 'x.tar.gz').write_bytes(packed)
    with pytest.raises(DataError, match='gunzip'):
        open_images(tmp_path / 'x.tar.gz')


@pytest.mark.parametrize('suffix', ['zip', 'tar'])
def test_unreadable_images_in_archives_are_left_out_up_to_a_share(tmp_path, suffix):
    files = {f'{index}.png': png(index) for index in range(100)}
    for broken in (['7.png'], ['7.png', '8.png']):
        path = write_archive(tmp_path / f'{len(broken)}.{suffix}', files | {name: files[name][:99] for name in broken})
        with pytest.warns(UserWarning, match=r'7\.png'):
            with nullcontext() if len(broken) == 1 else pytest.raises(DataError, match='2 of 100'):
                assert len(read_all(RealImages(open_images(path)))[0]) == 99


@pytest.mark.parametrize('how', ['empty', 'garbage', 'cut off', 'without images', 'gone', 'of text'])
@pytest.mark.parametrize('suffix', ['.zip', '.tar', '.tar.gz', '.npz'])
def test_what_is_no_archive_of_images(tmp_path, suffix, how):
    path = tmp_path / f'x{".txt" if how == "of text" else suffix}'
    files = {'a.txt': b'a'} if how == 'without images' else {f'{index}.png': png(index, 64) for index in range(3)}
    packed = write_archive(tmp_path / f'packed{".zip" if suffix == ".npz" else suffix}', files).read_bytes()
    if how != 'gone':
        path.write_bytes({'empty': b'', 'garbage': b'garbage' * 999, 'cut off': packed[:20000]}.get(how, packed))
    with pytest.raises(DataError, match=path.name if how not in ('gone', 'of text') else rf'{path.name} .*\.zip.*\.tar.*\.npz'):
        open_images(path)


@pytest.mark.parametrize('classes', [3, 0])
def test_a_file_that_sample_has_written(tmp_path, gan_config, classes):
    model = MODELS.build(gan_config(num_classes=classes))
    samples = SampleSet(model, num_samples=9, seed=1)
    write_samples(samples, tmp_path, npz=True)
    images, labels = read_all(RealImages(open_images(tmp_path / 'samples.npz'), 2, seed=None))
    assert images == sample(model, 9, seed=1).tolist()
    assert labels == (samples.labels.tolist() if classes else [0] * 9)


@pytest.mark.parametrize(
    'arrays',
    [
        dict(arr_1=np.zeros((4, 8, 8, 3), np.uint8)),
        dict(arr_0=np.zeros((4, 8, 8, 3), np.float32)),
        dict(arr_0=np.zeros((4, 3, 8, 8), np.uint8)),
        dict(arr_0=np.zeros((4, 8, 8, 3), np.uint8), arr_1=np.zeros(3, np.int64)),
        dict(arr_0=np.zeros((4, 8, 8, 3), np.uint8), arr_1=np.zeros((4, 10), np.int64)),
        dict(arr_0=np.zeros((4, 8, 8, 3), np.uint8), arr_1=np.array([0, 1, 2, 1 << 60])),
        dict(arr_0=np.array([None] * 4)),
    ],
)
def test_wrong_arrays(tmp_path, arrays):
    np.savez(tmp_path / 'wrong.npz', **arrays)
    with pytest.raises(DataError, match='wrong.npz'):
        open_images(tmp_path / 'wrong.npz')
