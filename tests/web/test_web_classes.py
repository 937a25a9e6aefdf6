import pytest
from mmengine.config import Config

from mmsagan.apis.zoo import resolve_config
from mmsagan.engine.config import load_config
from mmsagan.web import classes
from mmsagan.web.classes import class_choices

# As ILSVRC 2012 numbers them, in the order of their WordNet ids.
KNOWN = {0: 'tench', 1: 'goldfish', 207: 'golden retriever', 291: 'lion', 388: 'giant panda', 985: 'daisy', 999: 'toilet paper'}


def test_names_that_the_data_set_knows(experiment):
    choices = class_choices(load_config(experiment.config), 10)
    assert choices[3] == ('cat', 3) and [label for _, label in choices] == list(range(10))
    assert class_choices(Config({}), 3) == [('0', 0), ('1', 1), ('2', 2)]
    assert class_choices(Config({}), 0) == []


@pytest.mark.parametrize(
    'config', ['sagan_128_woReLUinplace_imagenet1k_b64x4', 'sagan_128_woReLUinplace_noaug_bigGAN_imagenet1k_b32x8']
)
def test_imagenet_by_name_and_number_without_its_files(config):
    choices = class_choices(load_config(resolve_config(config)), 1000)
    assert len(choices) == 1000 and len({text for text, _ in choices}) == 1000
    for label, name in KNOWN.items():
        assert choices[label][0].lower() == f'{name} ({label})' and choices[label][1] == label


def test_imagenet_by_folder_too(monkeypatch):
    folders = [f'n{number:08}' for number in range(1000)]
    folders[0], folders[-1] = 'n01440764', 'n15075141'
    monkeypatch.setattr(classes, 'class_names', lambda cfg, num_classes: folders)
    assert class_choices(Config({}), 1000)[1][0] == 'goldfish (1, n00000001)'
    folders[0] = 'n99999999'
    assert class_choices(Config({}), 1000)[1] == ('n00000001', 1), 'other 1000 folders'


def test_a_thousand_other_classes_keep_their_numbers(monkeypatch):
    folder, imagenet = (Config(dict(train_dataloader=dict(dataset=dict(type=kind)))) for kind in ('ImageFolder', 'ImageNet'))
    assert class_choices(folder, 1000)[5] == ('5', 5)
    monkeypatch.setattr(classes, '_imagenet_names', lambda: None)
    assert class_choices(imagenet, 1000)[5] == ('5', 5), 'a Gradio without the names'


def test_names_that_occur_twice_are_told_apart(monkeypatch):
    monkeypatch.setattr(classes, 'class_names', lambda cfg, num_classes: ['crane', 'crane', 'cat'])
    assert class_choices(Config({}), 3) == [('crane (0)', 0), ('crane (1)', 1), ('cat (2)', 2)]
