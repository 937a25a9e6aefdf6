import numpy as np
import pytest
import torch

from mmsagan.apis import attention_maps, sample
from mmsagan.apis.attention import parse_queries
from mmsagan.errors import ConfigError
from mmsagan.registry import MODELS
from mmsagan.visualization import salient_queries


@pytest.fixture(scope='module')
def model(gan_config, settle):
    torch.manual_seed(0)
    return settle(MODELS.build(gan_config())).eval()


@pytest.mark.parametrize('arguments', [dict(num_samples=3), dict(labels=[2, 0]), dict(labels=1, truncation=0.5, num_samples=2)])
def test_the_images_are_those_of_sample(model, arguments):
    result = attention_maps(model, [(1, 2), (30, 5)], seed=4, **arguments)
    assert torch.equal(result.images, sample(model, seed=4, **arguments))
    count = len(result.images)
    assert result.queries.tolist() == [[[1, 2], [30, 5]]] * count
    assert {name: maps.shape for name, maps in result.maps.items()} == {'feat16': (count, 2, 32, 32)}


def test_batches_change_nothing(model):

    queries = np.random.default_rng(0).integers(0, 32, (5, 3, 2))
    expected = attention_maps(model, queries, 5, seed=1)
    result = attention_maps(model, queries, 5, seed=1, batch_size=2)
    assert torch.equal(result.queries, torch.from_numpy(queries))
    torch.testing.assert_close(result.maps['feat16'], expected.maps['feat16'], rtol=1e-5, atol=1e-9)
    result = attention_maps(model, 3, 5, seed=0, batch_size=2)
    assert torch.equal(result.queries, salient_queries(result.images, 3))
    assert result.maps['feat16'].shape == (5, 3, 32, 32)


@pytest.mark.parametrize(
    'argument, arguments',
    [
        ('query 32,0', dict(queries=[(32, 0)])),
        ('queries', dict(queries=[(0.5, 0)])),
        ('queries', dict(queries=[[(0, 0)]] * 3)),
        ('batch_size', dict(batch_size=0)),
    ],
)
def test_wrong_arguments(model, argument, arguments):
    with pytest.raises(ConfigError, match=argument):
        attention_maps(model, **arguments)


def test_queries_on_the_command_line():
    assert parse_queries('auto') is None
    assert parse_queries('16,16; 4,20') == [(16, 16), (4, 20)]
    for text in ('', '1,2;', '-1,2', 'auto;1,2', '1.5,2'):
        with pytest.raises(ConfigError, match='queries'):
            parse_queries(text)
