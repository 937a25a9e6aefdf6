"""Evaluating and sampling on several processes: the numbers and the files must be those of one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from launching import ROOT, run_tools
from PIL import Image
from test_training import CONFIG

from mmsagan.apis.statistics import METRIC_NAMES
from mmsagan.engine.config import load_config
from mmsagan.registry import MODELS

pytestmark = pytest.mark.slow

METRICS = """[
    dict(type='InceptionScore', fake_nums=150, resize=False, inception_style='digits'),
    dict(type='FrechetInceptionDistance', fake_nums=150, inception_style='digits'),
    dict(type='IntraFID', fake_nums=1100, inception_style='digits'),
    dict(type='KernelInceptionDistance', fake_nums=100, subset_size=30, num_subsets=10, inception_style='digits'),
    dict(type='PrecisionRecall', fake_nums=100, real_nums=90, inception_style='digits'),
    dict(type='FIDInfinity', fake_nums=150, inception_style='digits'),
    dict(type='AuthPct', fake_nums=100, inception_style='digits'),
]"""


@pytest.fixture(scope='module')
def experiment(tmp_path_factory, cifar_root):
    """A config with seven metrics, and a checkpoint of a generator that uses its whole range of colours."""
    folder = tmp_path_factory.mktemp('evaluation')
    config = folder / 'config.py'
    config.write_text(f"""
_base_ = {str(CONFIG)!r}
model = dict(generator=dict(base_channels=8), discriminator=dict(base_channels=8))
train_dataloader = dict(dataset=dict(data_root={str(cifar_root)!r}))
test_dataloader = dict(batch_size=32, num_workers=0)
test_evaluator = dict(_delete_=True, metrics={METRICS})
""")
    torch.manual_seed(0)
    model = MODELS.build(load_config(config).model)
    for parameter in model.generator.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    torch.save(dict(state_dict=model.state_dict()), folder / 'model.pth')
    return config, folder / 'model.pth'


def run(tool: str, *arguments, processes: int) -> None:
    ends = run_tools(ROOT / 'tools' / tool, *arguments, '--launcher', 'pytorch', processes=processes)
    assert [end.returncode for end in ends] == [0] * processes, ends
    assert [end.stdout.count('written to') for end in ends] == [1] + [0] * (processes - 1), 'one process speaks'


def evaluate(experiment, folder, processes: int, *options: str) -> dict:
    files = ['--out', folder / 'metrics.json', '--work-dir', folder / 'run']
    run('test.py', *experiment, *files, *options, processes=processes)
    return json.loads((folder / 'metrics.json').read_text())


@pytest.fixture(scope='module')
def one_process(experiment, tmp_path_factory):
    return evaluate(experiment, tmp_path_factory.mktemp('one'), 1)


@pytest.mark.parametrize('processes, batch_size', [(3, 32), (2, 17)])
def test_the_same_numbers_on_any_number_of_processes(experiment, one_process, tmp_path, processes, batch_size):
    """Neither 150 samples nor 100 real images divide by the number of processes or the batch size."""
    results = evaluate(experiment, tmp_path, processes, '--cfg-options', f'test_dataloader.batch_size={batch_size}')
    assert len(results) == 13 and results.keys() == one_process.keys()
    for name, value in one_process.items():
        assert results[name] == pytest.approx(value, rel=1e-6), name


def test_more_processes_than_batches(experiment, one_process, tmp_path):
    fid = "[{'type':'FrechetInceptionDistance','fake_nums':150,'inception_style':'digits'}]"
    options = ['test_evaluator.standing_steps=2', 'test_evaluator.standing_batch_size=8', f'test_evaluator.metrics={fid}']
    one = evaluate(experiment, tmp_path, 1, '--cfg-options', *options)
    three = evaluate(experiment, tmp_path, 3, '--cfg-options', *options, 'test_dataloader.batch_size=600')
    assert three['FID-digits/fid'] == pytest.approx(one['FID-digits/fid'], rel=1e-6)
    assert one['FID-digits/fid'] != pytest.approx(one_process['FID-digits/fid'], rel=1e-3)


def test_the_same_samples_on_two_processes(experiment, tmp_path):
    """33 samples divide neither by the batch size nor by the number of processes."""
    arguments = ['--labels', '0-2', '--num-per-class', '11', '--batch-size', '4', '--device', 'cpu']
    for processes in (1, 2):
        run('sample.py', *experiment, *arguments, '--out', tmp_path / str(processes), processes=processes)
    one, two = ({path.name: path.read_bytes() for path in Path(tmp_path, name).rglob('*.png')} for name in '12')
    assert len(one) == 33 == len(set(one.values())) and one == two


def test_images_from_anywhere_on_two_processes(tmp_path):
    """Of 151 and 149 images, in an archive and in class folders, one of which cannot be read."""
    sources = [tmp_path / side for side in ('fake', 'real')]
    for seed, folder in enumerate(sources):
        random = np.random.RandomState(seed)
        for number in range(151 - 2 * seed):
            path = folder / 'abc'[number % 3] / f'{number}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.randint(256, size=(8, 8, 3)).astype(np.uint8)).save(path)
    (sources[1] / 'a' / '0.png').write_bytes(b'')
    archive = shutil.make_archive(tmp_path / 'fake', 'zip', sources[0])
    results = []
    for processes, batch_size in ((1, 64), (2, 17)):
        out = tmp_path / f'{processes}.json'
        metrics = ['--metrics', *(METRIC_NAMES.keys() - {'sfid'}), '--inception-style', 'digits', '--batch-size', batch_size]
        run('evaluate_images.py', archive, '--real', sources[1], *metrics, '--out', out, processes=processes)
        results.append(json.loads(out.read_text()))
    one, two = results
    assert two.keys() == one.keys() and len(one) >= 11
    for name in one:
        assert two[name] == pytest.approx(one[name], rel=1e-6, abs=1e-8), name
