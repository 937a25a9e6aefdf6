import os

import pytest
import torch

from mmsagan.checkpoints.io import find_latest_checkpoint, list_checkpoints
from mmsagan.errors import CheckpointError


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of the iterations 5, 10 and 20, saved in this order, and the pointer."""
    for number, step in enumerate((5, 10, 20)):
        path = tmp_path / f'iter_{step}.pth'
        torch.save(dict(step=step, weights=torch.randn(100)), path)
        os.utime(path, ns=(number, number))
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_20.pth'))
    os.utime(tmp_path / 'last_checkpoint', ns=(3, 3))
    for name in ('iter_x.pth', 'best_fid_iter_30.pth', 'iter_40.pth.tmp', '.iter_50.pth.abcdefgh.unfinished', 'epoch_60.pth'):
        (tmp_path / name).write_bytes(b'')
    return tmp_path


def damage(path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def test_list_checkpoints(folder):
    assert list_checkpoints(folder) == [(step, folder / f'iter_{step}.pth') for step in (5, 10, 20)]
    assert find_latest_checkpoint(folder) == (folder / 'iter_20.pth', [])
    assert [step for step, _ in list_checkpoints(folder, 'epoch_{}.pth')] == [60]


def test_damaged_ones_are_passed_over(folder):
    damage(folder / 'iter_20.pth')
    content = (folder / 'iter_10.pth').read_bytes()
    (folder / 'iter_10.pth').write_bytes(content[: len(content) // 2])
    path, errors = find_latest_checkpoint(folder)
    named = [name in str(error) for name, error in zip(('iter_20', 'iter_10'), errors)]
    assert path == folder / 'iter_5.pth' and named == [1, 1]
    (folder / 'iter_5.pth').write_bytes(b'')
    with pytest.raises(CheckpointError, match=r'iter_20.*iter_10.*iter_5\.pth'):
        find_latest_checkpoint(folder)


def test_nothing_to_resume_from(tmp_path):
    assert find_latest_checkpoint(tmp_path) == (None, [])
    assert find_latest_checkpoint(tmp_path / 'not there') == (None, [])


def test_killed_between_checkpoint_and_pointer(folder):
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_10.pth'))
    os.utime(folder / 'last_checkpoint', ns=(1, 1))
    assert find_latest_checkpoint(folder)[0] == folder / 'iter_20.pth'


def test_a_longer_run_before_in_the_same_folder(folder):
    """A second run has got to iteration 10, and the first one's iteration 20 is none of its."""
    os.utime(folder / 'iter_10.pth', ns=(4, 4))
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_10.pth'))
    os.utime(folder / 'last_checkpoint', ns=(5, 5))
    assert find_latest_checkpoint(folder)[0] == folder / 'iter_10.pth'


@pytest.mark.parametrize('pointer', [None, b'', b'\xff\x00garbage', b'/somewhere/else/iter_7.pth'])
def test_without_a_useful_pointer(folder, pointer):
    (folder / 'last_checkpoint').unlink()
    if pointer is not None:
        (folder / 'last_checkpoint').write_bytes(pointer)
    assert find_latest_checkpoint(folder)[0] == folder / 'iter_20.pth'


def test_a_run_that_was_moved(folder, tmp_path_factory):
    """The pointer holds a path, of which only the name still says something."""
    moved = tmp_path_factory.mktemp('elsewhere') / 'run'
    (folder / 'last_checkpoint').write_text('/old/place/iter_20.pth')
    os.rename(folder, moved)
    assert find_latest_checkpoint(moved)[0] == moved / 'iter_20.pth'
