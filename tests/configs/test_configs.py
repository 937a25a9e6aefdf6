"""Every config of the repository: without a mistake, and trained for two iterations from its own file."""

from pathlib import Path

import numpy as np
import pytest

from mmsagan.apis.experiment import train_from_config
from mmsagan.engine.config import check_config, complete_evaluation, load_config
from mmsagan.registry import MODELS

CONFIGS = Path(__file__).parent.parent.parent / 'configs'
LEAVES = sorted(path for path in CONFIGS.glob('*/*.py') if path.parent.name != '_base_')
TRAINED = [path for path in LEAVES if 'cvt_studioGAN' not in path.stem]


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: path.stem)
def test_leaves_are_sound_and_evaluate_the_training_set_without_augmentation(path):
    cfg = load_config(path)
    assert complete_evaluation(cfg, 'test')
    check_config(cfg, training=path in TRAINED)
    assert complete_evaluation(cfg, 'val')
    trained_on = cfg.train_dataloader.dataset
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        other = {key for key in {*trained_on, *loader.dataset} if trained_on.get(key) != loader.dataset.get(key)}
        assert other <= {'pipeline'}
        assert not {'RandomFlip', 'RandomCropLongEdge'} & {step.type for step in loader.dataset.pipeline}


@pytest.mark.parametrize('path', TRAINED, ids=lambda path: path.stem)
def test_two_iterations_from_its_own_file(path, small_run):
    cfg = small_run(path)
    runner = train_from_config(cfg)
    work_dir = Path(cfg.work_dir)
    assert runner.iter == 2 and (work_dir / 'iter_2.pth').is_file()
    assert list((work_dir / 'samples').glob('*_2.png'))
    assert np.isfinite(runner.message_hub.get_scalar('train/loss_gen').data[0]).all(), 'G has been updated, too'


@pytest.mark.parametrize('path', sorted((CONFIGS / '_base_' / 'datasets').glob('*.py')), ids=lambda path: path.stem)
def test_a_data_base_fits_into_an_experiment_and_evaluates_the_same_images_without_one(path, tmp_path):
    def load(*bases, rest='train_cfg = dict(max_iters=1)'):
        (tmp_path / 'config.py').write_text(
            f'_base_ = {[str(path), *(f"{CONFIGS}/_base_/{base}" for base in bases)]}\n{rest}\n'
        )
        return load_config(tmp_path / 'config.py')

    check_config(load('models/sagan/base_sagan_32x32.py', 'schedules/sagan_cifar10.py'))
    with_training, without = load('metrics/our_50k.py'), load('metrics/our_50k.py', rest='train_dataloader = None')
    assert complete_evaluation(with_training, 'test') and complete_evaluation(without, 'test')
    assert with_training.test_dataloader == without.test_dataloader and 'type' in without.test_dataloader.dataset


def test_all_regularizers_combine(tmp_path):
    bases = sorted((CONFIGS / '_base_' / 'regularizers').glob('*.py'))
    files = [str(path) for path in (CONFIGS / 'sagan_fashion/sagan_32_feat16_fashion_b64x1.py', *bases)]
    entries = ', '.join(f'{path.stem}=_base_.{path.stem}' for path in bases)
    (tmp_path / 'config.py').write_text(f'_base_ = {files}\nmodel = dict(regularizers=dict({entries}))\n')
    cfg = load_config(tmp_path / 'config.py')
    check_config(cfg)
    assert len(bases) == 7 and list(MODELS.build(cfg.model).regularizers) == [path.stem for path in bases]
