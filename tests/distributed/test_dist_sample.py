"""Sampling on several processes: the files must be those of one."""

import sys
from pathlib import Path

import pytest
import torch
from launching import run_tools
from sample_thrice import sample_thrice


@pytest.fixture(scope='module')
def experiment(tmp_path_factory, experiment_of):
    return experiment_of(tmp_path_factory.mktemp('sampling'), 10)


@pytest.fixture
def one_thread():
    """As the processes that torchrun starts have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.slow
def test_two_processes_write_the_files_of_one(tmp_path, experiment, one_thread, monkeypatch):
    """33 samples divide neither by the batch size nor by the number of processes."""
    arguments = [*experiment, '--labels', '0-2', '--num-per-class', '11', '--batch-size', '4', '--device', 'cpu']
    monkeypatch.setattr(sys, 'argv', [])
    sample_thrice(str(tmp_path / 'one'), *arguments)
    script = Path(__file__).parent / 'sample_thrice.py'
    ends = run_tools(script, tmp_path / 'two', *arguments, '--launcher', 'pytorch', processes=2)
    assert [end.returncode for end in ends] == [0, 0], ends
    assert [end.stdout.count('33 samples written to') for end in ends] == [3, 0], 'one process speaks, once a run'
    one, two = files_in(tmp_path / 'one'), files_in(tmp_path / 'two')
    assert len(one) == 33 + 2 and one.keys() == two.keys() and len(set(one.values())) == 35
    assert [name for name in one if one[name] != two[name]] == []


def test_dist_sample_starts_the_tool(started_by):
    said = started_by('dist_sample.sh', 'config.py', 'model.pth', '3', '--out', 'a folder')
    assert '--nproc_per_node=3' in said
    assert said.endswith('/tools/sample.py config.py model.pth --out a folder --launcher pytorch')
