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


def test_streaming_equals_the_whole():
    moments = accumulated(np.array_split(FEATURES, 7))
    for _ in range(2):
        assert moments.size == len(FEATURES)
        np.testing.assert_allclose(moments.mean, FEATURES.mean(0), rtol=1e-12)
        np.testing.assert_allclose(moments.cov, np.cov(FEATURES, rowvar=False), rtol=1e-9)
        moments.finish()  # which adds nothing where there is one process


def test_float64_sums_of_float32_features():
    features = torch.rand(1000, 1) + 1000
    moments = Moments(1)
    for _ in range(1000):
        moments.update(features)
    assert float(moments.cov) == pytest.approx(float(features.double().var(correction=0)), rel=1e-5)


@pytest.fixture
def statistics() -> Statistics:
    moments = accumulated([FEATURES])
    return Statistics(moments.mean.numpy(), moments.cov.numpy(), moments.size, 'an extractor', 'a set')


@pytest.mark.parametrize('suffix', ['.pkl', '.npz'])
def test_files(tmp_path, statistics, suffix):
    path = tmp_path / 'folder' / f'statistics{suffix}'
    save_statistics(statistics, path)
    loaded = load_statistics(path)
    assert (loaded.size, loaded.extractor, loaded.name) == (103, 'an extractor', 'a set')
    np.testing.assert_array_equal(loaded.mean, statistics.mean)
    np.testing.assert_array_equal(loaded.cov, statistics.cov)
    assert [file.name for file in path.parent.iterdir()] == [path.name], 'no temporary files stay'


def test_pickles_for_mmgeneration_and_mmagic(tmp_path, statistics):
    save_statistics(statistics, tmp_path / 'statistics.pkl')

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
    content = {keys[0]: FEATURES.mean(0), keys[1]: np.cov(FEATURES, rowvar=False).astype('>f4'), 'extra': 'text'}
    path = tmp_path / f'theirs{suffix}'
    if suffix == '.npz':
        np.savez(path, **content)
    else:
        path.write_bytes(pickle.dumps(content))
    loaded = load_statistics(path)
    assert loaded.size == 0 and loaded.extractor == '' and loaded.name == 'theirs'
    np.testing.assert_array_equal(loaded.mean, FEATURES.mean(0))
    np.testing.assert_allclose(loaded.cov, np.cov(FEATURES, rowvar=False), rtol=1e-6)
    assert loaded.mean.dtype == loaded.cov.dtype == np.float64


def test_paths_that_are_refused(tmp_path, statistics):
    (tmp_path / 'file').write_text('')
    for path in (tmp_path / 'file' / 'statistics.pkl', tmp_path, tmp_path / 'statistics.txt'):
        with pytest.raises((ConfigError, DataError), match=str(path)):
            save_statistics(statistics, path)
    with pytest.raises(DataError, match='gone.pkl'):
        load_statistics(tmp_path / 'gone.pkl')
