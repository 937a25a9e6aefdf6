import numpy as np
import torch

from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.checkpoints.content import plain_entries


def entries_of(value) -> tuple[dict, list[str]]:
    return plain_entries(dict(model=dict(state_dict={}, notes=value)))


def test_plain_values_are_kept_and_others_named():
    value = dict(best=np.float64(3), names=('a', None, [True]), array=np.zeros(2))
    assert entries_of(value) == (dict(notes=dict(best=3.0, names=['a', None, [True]])), [])
    assert entries_of([1, np.zeros(2)]) == ({}, ['notes (model)'])


def test_notes_that_would_never_end(tmp_path):
    """Lists that hold the one below ten times over, and one that holds itself: a file of some hundred bytes."""
    nested: list = []
    for _ in range(30):
        nested = [nested] * 10
    endless: list = []
    endless.append(endless)
    torch.save(dict(state_dict={}, nested=nested, endless=endless), tmp_path / 'file.pth')
    kept, dropped = plain_entries(dict(model=load_checkpoint_file(tmp_path / 'file.pth')))
    assert kept == {} and dropped == ['nested (model)', 'endless (model)']
