"""The tools that draw pictures as a user types them, within this process."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmsagan.apis import init_model, sample
from mmsagan.registry import MODELS
from mmsagan.visualization import class_grid


@pytest.fixture(scope='module')
def experiment(tmp_path_factory, gan_config, settle):
    """A config without data of a model of 12 classes, and its checkpoint."""
    folder = tmp_path_factory.mktemp('experiment')
    config = gan_config(num_classes=12)
    (folder / 'config.py').write_text(f'model = {config!r}\n')
    torch.manual_seed(0)
    torch.save(dict(state_dict=settle(MODELS.build(config)).state_dict()), folder / 'model.pth')
    return str(folder / 'config.py'), str(folder / 'model.pth')


@pytest.fixture
def run(run_here):
    """Runs a tool: run(tool, argument, ...) -> exit code, and what it said, of an error the last line."""

    def tool(name, *arguments) -> tuple[int, str]:
        code, out, err = run_here(name, *arguments)
        return code, err.strip().splitlines()[-1] if code else out.strip()

    return tool


def read(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == 'PNG' and image.mode == 'RGB'
        return np.array(image)


GRIDS = 'analysis_tools/class_grids.py'
CURVES = 'analysis_tools/plot_metrics.py'


def test_class_grids_with_intra_fid(tmp_path, experiment, run):
    names = [f'class {number}' for number in range(12)]
    results = {'FID/fid': 3.0, 'IntraFID/per_class': dict(zip(names, range(12)))}
    (tmp_path / 'results.json').write_text(json.dumps(results))
    arguments = ['--labels', '3,7', '--num-per-class', 3, '--seed', 2, '--intra-fid', tmp_path / 'results.json']
    code, said = run(GRIDS, *experiment, *arguments, '--out', tmp_path / 'grid.png', '--device', 'cpu')
    assert code == 0 and said.endswith(f'3 samples of 2 classes written to {tmp_path}/grid.png')
    images = sample(init_model(*experiment), labels=[3, 3, 3, 7, 7, 7], seed=2)
    expected = class_grid(images, ['class 3', 'class 7'], ['IntraFID 3.0', 'IntraFID 7.0'])
    assert np.array_equal(read(tmp_path / 'grid.png'), expected)


@pytest.fixture
def logs(tmp_path):
    """The work dirs of two runs; only the first has been evaluated."""
    for name in ('baseline', 'ttur'):
        file = tmp_path / name / '20260101_000000' / 'vis_data' / 'scalars.json'
        file.parent.mkdir(parents=True)
        records = [dict(loss_gen=1 / step, iter=step, step=step) for step in range(1, 5)]
        records += [{'FID-digits/fid': 7.5, 'step': 4}] if name == 'baseline' else []
        file.write_text(''.join(json.dumps(record) + '\n' for record in records))
    return tmp_path / 'baseline', tmp_path / 'ttur'


def test_curves(tmp_path, logs, run):
    out = tmp_path / 'curves.svg'
    code, said = run(CURVES, *logs, '--keys', 'fid', 'loss_gen', '--smooth', 2, '--out', out)
    assert code == 0 and f'FID-digits/fid, loss_gen written to {out}' in said and 'nothing logged by ttur' in said
    content = out.read_text()
    assert all(f'<!-- {text} -->' in content for text in ('baseline', 'ttur', 'FID-digits/fid', 'iterations'))


@pytest.mark.parametrize(
    'arguments, key',
    [
        (['--keys', 'IS'], "'IS'"),
        (['no_log', '--keys', 'FID'], 'no_log'),
    ],
)
def test_curves_with_wrong_arguments(logs, run, tmp_path, arguments, key):
    code, said = run(CURVES, *logs, '--out', tmp_path / 'curves.png', *arguments)
    assert code == 2 and 'error: ' in said and key in said
    assert not (tmp_path / 'curves.png').exists()
