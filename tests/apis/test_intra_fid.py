import json

import pytest

from mmsagan.apis.intra_fid import read_intra_fid
from mmsagan.errors import DataError


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
