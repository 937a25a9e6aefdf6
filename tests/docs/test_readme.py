"""Somebody who follows the README, or a tutorial, command by command, gets what it promises."""

import json

import pytest
from documentation import ROOT, Command
from newcomer import Newcomer


@pytest.fixture
def newcomer(tmp_path, imagenet_root, cifar_root, inception_file) -> Newcomer:
    return Newcomer(tmp_path, imagenet_root, cifar_root, inception_file)


@pytest.mark.slow
def test_the_readme_from_top_to_bottom(newcomer):
    said = '\n'.join(newcomer.follow(ROOT / 'README.md'))
    folder = newcomer.folder
    pictures = [f'work_dirs/{name}.png' for name in ('digits', 'attention', 'three', 'curves', 'studiogan')]
    for picture in (*pictures, 'samples.png'):
        assert (folder / picture).read_bytes().startswith(b'\x89PNG'), picture
    for checkpoint in ('studiogan', 'mmagic', 'demo/iter_2', 'photos/iter_2'):
        assert (folder / 'work_dirs' / f'{checkpoint}.pth').is_file(), checkpoint
    assert len(list(folder.glob('work_dirs/back_to_studiogan/model=*.pth'))) == 2
    assert set(json.loads((folder / 'work_dirs/metrics.json').read_text())) >= {'IS-digits/is', 'FID-digits/fid'}
    assert len(list(folder.glob('work_dirs/samples/*/*.png'))) == 500
    assert (folder / 'work_dirs/inception_pkl/mine.pkl').is_file()
    assert 'FID-thumbnails/fid' in said and 'MeanDistance-thumbnails/distance' in said
    assert 'nothing is wrong with it' in said


@pytest.mark.slow
def test_the_tutorial_on_components(newcomer):
    page = ROOT / 'docs' / 'tutorials' / 'component.md'
    said = '\n'.join(newcomer.follow(page, without=['tools/misc/run_series.py']))
    assert '3 passed' in said and (newcomer.folder / 'scaled.png').is_file()


def test_the_tutorial_on_converting(newcomer):
    said = '\n'.join(newcomer.follow(ROOT / 'docs' / 'tutorials' / 'convert.md'))
    page = (ROOT / 'docs' / 'tutorials' / 'convert.md').read_text()
    found = page.partition('```\nfound: ')[2].partition('```')[0]
    assert len(found.splitlines()) == 5 and found in said, 'the page shows what the tool says'


def test_the_tutorial_on_photos_up_to_the_training(newcomer):
    page = ROOT / 'docs' / 'tutorials' / 'your_images.md'
    slow = [f'tools/{name}.py' for name in ('train', 'test', 'sample', 'analysis_tools/get_flops')]
    said = newcomer.follow(page, without=slow)
    assert 'nothing is wrong with it' in said[0] and '20 images, 5 classes' in said[1]


def test_a_command_that_no_test_knows(newcomer):
    with pytest.raises(AssertionError, match='no test knows how to run: conda install mmsagan'):
        newcomer.run(Command.of(['conda', 'install', 'mmsagan']))
