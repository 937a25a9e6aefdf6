"""Trainings that start from another model: StudioGAN's of ten classes becomes one of three."""

import copy
import re
import shutil
from pathlib import Path

import pytest
import torch

from mmsagan.apis import init_model
from mmsagan.apis.experiment import evaluate_from_config, train_from_config
from mmsagan.apis.zoo import list_models
from mmsagan.checkpoints.convert import load_checkpoint
from mmsagan.errors import CheckpointError, ConfigError

OPTIONS = {'model.generator.base_channels': 32, 'model.discriminator.base_channels': 16, 'model.discriminator_steps': 1}
OPTIONS |= {'model.discriminator.act_cfg.inplace': True, 'custom_hooks': [], 'val_evaluator': None}
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(32, 32)), dict(type='PackInputs')]


@pytest.fixture
def source(fixture_of, tmp_path) -> Path:
    """A copy of StudioGAN's files; the generator's."""
    path = fixture_of('studiogan_current_32').path
    return Path(shutil.copytree(path.parent, tmp_path / 'source'), path.name)


@pytest.fixture
def finetuning(tiny_run, imagenet_root, source):
    """Makes the config of a training on three classes: finetuning(checkpoint, max_iters, **options)."""

    def make(checkpoint=source, max_iters=1, **options):
        options = {**OPTIONS, 'model.num_classes': 3, 'model.init_from.checkpoint': str(checkpoint), **options}
        cfg = tiny_run(max_iters=max_iters, **options)
        cfg.train_dataloader.dataset = dict(type='ImageFolder', data_root=str(imagenet_root / 'train'), pipeline=PIPELINE)
        return cfg

    return make


@pytest.mark.slow
def test_from_start_to_inference(finetuning, source, inception_file):
    """With the first blocks of D, and the attention between them, frozen; resumed, sampled and scored without the source."""
    theirs, start = load_checkpoint(str(source))['state_dict'], {}
    options = {'model.init_from.class_embeddings': {0: 7, 'n01443537': 7, 2: 2}, 'model.ema_config': dict(momentum=0.9)}
    options['model.discriminator.freeze_blocks'] = 2
    note = dict(type='NotingHook', function=lambda runner, _: start or start.update(copy.deepcopy(runner.model.state_dict())))
    whole = finetuning(max_iters=4, **options, custom_hooks=[note], default_hooks__checkpoint__interval=2)
    model = train_from_config(whole).model
    assert source.name + '; as initialized: none' in next(Path(whole.work_dir).glob('*/*.log')).read_text()
    same = [key for key in start if key in theirs and start[key].shape == theirs[key].shape and not key.endswith('weight_v')]
    assert len(same) > 100 and all(torch.equal(start[key], theirs[key]) for key in same if key != 'iteration')
    for key in ('generator.conv_blocks.0.norm_1.bias_embedding.weight_orig', 'discriminator.proj_y.weight_orig'):
        assert torch.equal(start[key], theirs[key][[7, 7, 2]])
    assert all(torch.equal(start[f'generator_ema.{key}'], start[f'generator.{key}']) for key in model.generator.state_dict())
    end, weights = model.state_dict(), {key for key, _ in model.named_parameters() if 'generator_ema' not in key}
    frozen = {key for key in weights if re.match(r'discriminator\.(from_rgb|conv_blocks\.[01])\.', key)}
    assert len(frozen) > 10 and all(torch.equal(end[key], theirs[key]) for key in frozen)
    assert len(weights - frozen) > 50 and not any(torch.equal(end[key], start[key]) for key in weights - frozen)

    shutil.rmtree(source.parent)
    resumed = finetuning(max_iters=4, **options)
    resumed.update(work_dir=whole.work_dir + '_resumed', resume=True, load_from=str(Path(whole.work_dir, 'iter_2.pth')))
    again, checkpoint = train_from_config(resumed).model.state_dict(), str(Path(resumed.work_dir, 'iter_4.pth'))
    assert again.keys() == end.keys() and all(torch.equal(again[key], end[key]) for key in end)
    noise, label = torch.randn(3, 128), torch.arange(3)
    for config in (next(Path(resumed.work_dir).glob('*.py')), None):
        assert torch.equal(init_model(config, checkpoint).sample(noise, label), model.eval().sample(noise, label))
    score = dict(type='InceptionScore', fake_nums=8, splits=1, inception_style='StyleGAN', inception_path=inception_file)
    assert evaluate_from_config(finetuning(**options, test_evaluator=dict(_delete_=True, metrics=[score])), checkpoint)


def test_the_name_of_a_published_model_stands_for_its_file(finetuning, source, monkeypatch):
    files = []
    monkeypatch.setattr('mmsagan.checkpoints.convert.cached_file', lambda url, *_, **__: files.append(url) or source)
    cfg = finetuning(list_models()[0].name, **{'model.generator.attention_after_nth_block': 1})
    train_from_config(cfg)
    assert files == [list_models()[0].weights]
    assert 'as initialized: generator.conv_blocks.1.gamma' in next(Path(cfg.work_dir).glob('*/*.log')).read_text()


@pytest.mark.parametrize('options', [{'load_from': 'other.pth'}, {'model.init_from': dict(class_embeddings='mean')}])
def test_what_is_refused(finetuning, options):
    with pytest.raises(ConfigError, match=r"load_from and model.init_from|model.init_from.* 'checkpoint'"):
        train_from_config(finetuning(**options))


def test_the_advice_for_weights_of_other_classes_helps(tiny_run, finetuning):
    first = tiny_run(max_iters=1, **OPTIONS)
    train_from_config(first)
    cfg = finetuning(checkpoint := str(Path(first.work_dir, 'iter_1.pth')))
    cfg.update(model={**cfg.model, 'init_from': None}, load_from=checkpoint)
    with pytest.raises(CheckpointError, match=r'model\.init_from\.checkpoint'):
        train_from_config(cfg)
    assert train_from_config(finetuning(checkpoint)).iter == 1
