import json

import pytest
from mmengine.config import Config

from mmsagan.apis.class_names import class_names
from mmsagan.apis.intra_fid import read_intra_fid
from mmsagan.errors import DataError


def names(num_classes=2, **dataset) -> list[str]:
    return class_names(Config(dict(train_dataloader=dict(dataset=dataset))), num_classes)


def test_names_that_the_data_set_knows_without_its_files():
    assert names(10, type='CIFAR10', data_root='gone')[:2] == ['airplane', 'automobile']


def test_names_from_the_files(imagenet_root):
    assert names(3, type='ImageNet', data_root=str(imagenet_root)) == ['n01440764', 'n01443537', 'n01484850']


@pytest.mark.parametrize(
    'dataset', [dict(type='ImageNet', data_root='gone'), dict(type='CIFAR10'), dict(type='Unknown'), dict(data_root='x'), {}]
)
def test_numbers_where_there_are_no_names(dataset):
    assert names(2, **dataset) == ['0', '1']
    for loader in (None, 5, dict(dataset=5), dict(dataset=dict(type=5))):
        assert class_names(Config(dict(train_dataloader=loader)), 2) == ['0', '1']


def test_the_data_set_of_an_evaluation_serves_as_well():
    cfg = Config(dict(train_dataloader=None, test_dataloader=dict(dataset=dict(type='FashionMNIST'))))
    assert class_names(cfg, 10)[0] == 'T-shirt/top'


def test_intra_fid_of_an_evaluation(tmp_path):
    path = tmp_path / 'results.json'
    path.write_text(json.dumps({'FID/fid': 3.0, 'IntraFID-digits/intra_fid': 1.5, 'IntraFID-digits/per_class': dict(b=1, a=2)}))
    metric, table = read_intra_fid(path, 2)
    assert metric == 'IntraFID-digits' and list(table.items()) == [('b', 1), ('a', 2)]


@pytest.mark.parametrize(
    'content, message',
    [
        ('{"FID/fid": 3.0}', 'no results by class; evaluate with one IntraFID'),
        ('{"A/per_class": {}, "B/per_class": {}}', r'several results by class \(A/per_class, B/per_class\)'),
        ('{"A/per_class": {"cat": 1.0}}', 'A/per_class is of 1 classes, but the model has 2'),
        ('[]', 'no results by class'),
        ('{"A/per_class": [1.0, 2.0]}', 'A/per_class must hold a number by class'),
        ('{"A/per_class": {"a": 1.0, "b": "2"}}', 'A/per_class must hold a number by class'),
        ('{"A/per_class": 7}', 'A/per_class must hold a number by class'),
        ('{', 'cannot be read as results of tools/test.py'),
        (None, 'cannot be read as results of tools/test.py'),
    ],
)
def test_files_without_intra_fid(tmp_path, content, message):
    path = tmp_path / 'results.json'
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_intra_fid(path, 2)
