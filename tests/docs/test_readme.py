"""Somebody who follows the README, command by command, gets what it promises."""

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
    for picture in ('digits.png', 'attention.png', 'curves.png', 'studiogan.png', 'samples.png'):
        assert (folder / picture).read_bytes().startswith(b'\x89PNG'), picture
    for checkpoint in ('studiogan.pth', 'mmagic.pth', 'work_dirs/demo/iter_2.pth', 'work_dirs/photos/iter_2.pth'):
        assert (folder / checkpoint).is_file(), checkpoint
    assert len(list(folder.glob('back_to_studiogan/model=*.pth'))) == 2
    assert set(json.loads((folder / 'metrics.json').read_text())) >= {'IS-digits/is', 'FID-digits/fid'}
    assert len(list(folder.glob('samples/*/*.png'))) == 500
    assert (folder / 'work_dirs/inception_pkl/mine.pkl').is_file()
    assert 'FID-thumbnails/fid' in said and 'MeanDistance-thumbnails/distance' in said
    assert 'nothing is wrong with it' in said


def test_a_command_that_no_test_knows(newcomer):
    with pytest.raises(AssertionError, match='no test knows how to run: conda install mmsagan'):
        newcomer.run(Command.of(['conda', 'install', 'mmsagan']))
