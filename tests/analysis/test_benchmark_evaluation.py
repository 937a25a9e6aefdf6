"""Evaluation on both sides: the same numbers, by one pass and by two."""

import builtins

import numpy as np
import pytest
import torch

from mmsagan.analysis.benchmarks import evaluation
from mmsagan.analysis.benchmarks.evaluation import SquareRootFID, evaluation_workload
from mmsagan.analysis.benchmarks.sides import Setup
from mmsagan.engine.config import load_config
from mmsagan.errors import ConfigError
from mmsagan.evaluation import DigitsExtractor, Moments, Statistics, frechet_distance

CPU = Setup(torch.device('cpu'))
COUNT = 90


@pytest.fixture
def config(tmp_path, gan_config):
    path = tmp_path / 'config.py'
    path.write_text(f'model = {gan_config()!r}\ntrain_dataloader = dict(batch_size=40)\n')
    return load_config(path)


def test_both_sides(config, monkeypatch):
    pytest.importorskip('scipy')
    extracted = []
    forward = DigitsExtractor.forward

    def counted(self, images, outputs):
        extracted.append(len(images))
        return forward(self, images, outputs)

    monkeypatch.setattr(DigitsExtractor, 'forward', counted)
    workload = evaluation_workload(config, 'small', 'digits', COUNT, None, CPU)
    assert (workload.what, workload.precision, workload.images, workload.min_rounds) == ('eval', 'fp32', COUNT, 1)
    assert workload.before_fast is None and workload.before_reference is None, 'a pass is not done a second time untimed'

    extracted.clear()
    fast = workload.fast()
    assert extracted == [40, 40, 10], "one pass, in the config's batches"
    extracted.clear()
    reference = workload.reference()
    assert extracted == [40, 40, 10] * 2
    assert set(fast) == set(reference) == {'IS-digits/is', 'IS-digits/is_std', 'FID-digits/fid'}
    # The networks round differently, and images are rounded to 256 values.
    assert fast['IS-digits/is'] == pytest.approx(reference['IS-digits/is'], rel=1e-2)
    assert fast['FID-digits/fid'] == pytest.approx(reference['FID-digits/fid'], rel=1e-2)


def test_the_square_root_gives_the_same_distance():
    pytest.importorskip('scipy')
    features = torch.randn(200, 8, dtype=torch.float64) @ torch.randn(8, 8, dtype=torch.float64)
    moments = Moments(8)
    moments.update(features)
    real = np.random.RandomState(0).standard_normal((50, 8))
    metric = SquareRootFID(fake_nums=200, inception_style='digits')
    metric.statistics = Statistics(real.mean(0), np.cov(real, rowvar=False))
    expected = frechet_distance(moments.mean, moments.cov, metric.statistics.mean, metric.statistics.cov)
    assert metric.compute(moments)['fid'] == pytest.approx(expected, rel=1e-9) and expected > 1


def test_the_fast_side_alone_needs_no_scipy(config, monkeypatch):
    load = builtins.__import__

    def without_scipy(name, *args, **kwargs):
        if name.startswith('scipy'):
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', without_scipy)
    with pytest.raises(ConfigError, match='pip install scipy; or measure with --against none'):
        evaluation_workload(config, 'small', 'digits', COUNT, 40, CPU)
    alone = evaluation_workload(config, 'small', 'digits', COUNT, 40, Setup(torch.device('cpu'), against_reference=False))
    assert alone.reference is None and alone.fast()['FID-digits/fid'] > 0


def test_too_few_samples(config):
    with pytest.raises(ConfigError, match='--num-samples 64 is too few for FID by 64 features; take at least 65'):
        evaluation_workload(config, 'small', 'digits', 64, 32, CPU)


@pytest.mark.parametrize('style', evaluation.EXTRACTORS)
def test_extractors_are_as_wide_as_stated(style, tmp_path):
    """The random statistics are made for them before any of them is built."""
    arguments = evaluation._metric_arguments(style, 5000, tmp_path)
    metric = SquareRootFID(**arguments)
    extractor = metric.source.build()
    with torch.no_grad():
        features = extractor(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), ('features',))['features']
    assert features.shape == (1, evaluation.EXTRACTORS[style])
