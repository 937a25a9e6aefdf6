import pickle

import numpy as np
import pytest
import torch

from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import Moments, Statistics, load_statistics, save_statistics

FEATURES = np.random.RandomState(0).randn(103, 5) * 3 + 10


def accumulated(parts) -> Moments:
    moments = Moments(5)
    for part in parts:
        moments.update(torch.tensor(part))
    return moments


def assert_moments_of(features, moments):
    assert moments.size == len(features)
    np.testing.assert_allclose(moments.mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.cov, np.cov(features, rowvar=False), rtol=1e-9)


def test_streaming_equals_the_whole():
    assert_moments_of(FEATURES, accumulated(np.array_split(FEATURES, 7)))


def test_finishing_alone_adds_nothing():
    moments = accumulated([FEATURES])
    moments.finish()
    assert_moments_of(FEATURES, moments)


def test_float64_sums_of_float32_features():
    """In float32 the sum of a million squares would lose the variance."""
    features = torch.rand(1000, 1) + 1000
    moments = Moments(1)
    for _ in range(1000):
        moments.update(features)
    assert float(moments.cov) == pytest.approx(float(features.double().var(correction=0)), rel=1e-5)


def statistics() -> Statistics:
    return Statistics.of(accumulated([FEATURES]), 'an extractor', 'a set')


@pytest.mark.parametrize('suffix', ['.pkl', '.npz'])
def test_files(tmp_path, suffix):
    path = tmp_path / 'folder' / f'statistics{suffix}'
    save_statistics(statistics(), path)
    loaded = load_statistics(path)
    assert (loaded.size, loaded.extractor, loaded.name) == (103, 'an extractor', 'a set')
    np.testing.assert_array_equal(loaded.mean, statistics().mean)
    np.testing.assert_array_equal(loaded.cov, statistics().cov)
    assert [file.name for file in path.parent.iterdir()] == [path.name], 'no temporary files stay'


def test_pickles_for_mmgeneration_and_mmagic(tmp_path):
    """Both read by pickle.load; their numpy has no module numpy._core."""
    save_statistics(statistics(), tmp_path / 'statistics.pkl')

    class OldUnpickler(pickle.Unpickler):
        def find_class(self, module, name):
            assert module in ('numpy', 'numpy.core.multiarray', '_codecs'), module
            return super().find_class(module, name)

    with open(tmp_path / 'statistics.pkl', 'rb') as file:
        content = OldUnpickler(file).load()
    for mean, cov in (('mean', 'cov'), ('real_mean', 'real_cov')):
        np.testing.assert_allclose(content[mean], FEATURES.mean(0), rtol=1e-12)
        np.testing.assert_allclose(content[cov], np.cov(FEATURES, rowvar=False), rtol=1e-9)
    assert content['size'] == 103 and content['name'] == 'a set'


@pytest.mark.parametrize('keys', [('mean', 'cov'), ('real_mean', 'real_cov'), ('mu', 'sigma')])
@pytest.mark.parametrize('suffix', ['.pkl', '.npz'])
def test_files_of_others(tmp_path, keys, suffix):
    content = {keys[0]: FEATURES.mean(0), keys[1]: np.cov(FEATURES, rowvar=False), 'extra': 'text'}
    path = tmp_path / f'theirs{suffix}'
    if suffix == '.npz':
        np.savez(path, **content)
    else:
        path.write_bytes(pickle.dumps(content))
    loaded = load_statistics(path)
    assert loaded.size == 0 and loaded.extractor == '' and loaded.name == 'theirs'
    np.testing.assert_array_equal(loaded.mean, FEATURES.mean(0))


class Attack:
    def __reduce__(self):
        return exec, ('raise SystemExit("executed")',)


@pytest.mark.parametrize(
    'content, message',
    [
        (pickle.dumps(Attack()), 'builtins.exec, and only numpy arrays'),
        (pickle.dumps(dict(mean=np.zeros(2), cov=Attack())), 'builtins.exec'),
        (pickle.dumps(dict(mean=np.zeros(2))), 'no statistics'),
        (pickle.dumps([1, 2]), 'no statistics'),
        (pickle.dumps(dict(mean=np.zeros(2), cov=np.eye(3))), 'do not belong together'),
        (pickle.dumps(dict(mean=np.zeros(2), cov=np.eye(2) * np.nan)), 'NaN or Inf'),
        (pickle.dumps(dict(mean='text', cov=np.eye(2))), 'is no array of numbers'),
        (pickle.dumps(dict(mean=np.zeros(9), cov=np.eye(9)))[:-200], 'cannot be read'),
        (b'PK\x03\x04 truncated', 'cannot be read'),
        (b'\x89PNG\r\n', 'cannot be read'),
        (b'', 'cannot be read'),
    ],
)
def test_damaged_and_hostile_files(tmp_path, content, message):
    path = tmp_path / 'statistics.pkl'
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_statistics(path)


@pytest.mark.parametrize(
    'content, message',
    [
        (dict(mean=np.zeros(0), cov=np.zeros((0, 0))), 'do not belong together'),
        (dict(mean=np.zeros(2), cov=np.array([[1.0, 5.0], [0.0, 1.0]])), 'symmetric'),
        (dict(mean=np.zeros(2), cov=-np.eye(2)), 'no negative variances'),
        (dict(mean=np.zeros(2), cov=np.eye(2), size=-5), 'negative size'),
        (dict(mean=np.zeros(2), cov=np.eye(2), size=np.inf), 'the size is no number'),
        (dict(mean=np.zeros(2) * 1j, cov=np.eye(2)), 'is complex'),
    ],
)
def test_numbers_that_are_no_statistics(tmp_path, content, message):
    np.savez(tmp_path / 'statistics.npz', **content)
    with pytest.raises(DataError, match=message):
        load_statistics(tmp_path / 'statistics.npz')


def test_other_types_of_numbers(tmp_path):
    np.savez(tmp_path / 'statistics.npz', mu=FEATURES.mean(0).astype('>f4'), sigma=np.cov(FEATURES, rowvar=False).astype('f4'))
    loaded = load_statistics(tmp_path / 'statistics.npz')
    assert loaded.mean.dtype == loaded.cov.dtype == np.float64
    np.testing.assert_allclose(loaded.mean, FEATURES.mean(0), rtol=1e-6)


@pytest.mark.parametrize('position', [0.3, 0.6])
def test_a_damaged_compressed_archive(tmp_path, position):
    path = tmp_path / 'statistics.npz'
    np.savez_compressed(path, mean=FEATURES.mean(0), cov=np.random.RandomState(0).rand(50, 50))
    data = bytearray(path.read_bytes())
    at = int(position * len(data))
    data[at : at + 20] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(DataError):
        load_statistics(path)


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    for path in (tmp_path / 'file' / 'statistics.pkl', tmp_path):
        with pytest.raises((ConfigError, DataError)):
            save_statistics(statistics(), path)


def test_arrays_of_objects_in_an_archive(tmp_path):
    np.savez(tmp_path / 'hostile.npz', mean=np.array([Attack()]), cov=np.eye(1))
    with pytest.raises(DataError, match='cannot be read'):
        load_statistics(tmp_path / 'hostile.npz')


def test_missing_file_and_unknown_format(tmp_path):
    with pytest.raises(DataError, match='mmsagan statistics makes them'):
        load_statistics(tmp_path / 'gone.pkl')
    with pytest.raises(DataError, match='written as .pkl or .npz'):
        save_statistics(statistics(), tmp_path / 'statistics.txt')
