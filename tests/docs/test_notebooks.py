"""The notebooks of the documentation, executed in an empty folder as by a reader."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent.parent / 'docs' / 'notebooks'


@pytest.mark.slow
@pytest.mark.parametrize('path', sorted(FOLDER.glob('*.ipynb')), ids=lambda path: path.stem)
def test_notebook(path, tmp_path, monkeypatch):
    """Its commands succeed, and its cells show pictures; git has it without outputs."""
    monkeypatch.setenv('PATH', f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}')
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    # `!` raises nothing: the end of a command that fails is turned into an error.
    check = '\nassert not globals().get("_exit_code"), f"exit code {_exit_code}"'
    for cell in cells:
        cell.source += check if cell.source.startswith('!') else ''
    NotebookClient(notebook, timeout=900, resources=dict(metadata=dict(path=str(tmp_path)))).execute()
    shown = [output.get('data', {}) for cell in cells for output in cell.outputs]
    pictures = [data for data in shown if any(kind.startswith('image/') for kind in data)]
    ends = [cell.source.splitlines()[-1] for cell in cells]
    assert len(pictures) == sum('Image.' in end and not end[0].isspace() for end in ends) > 3
