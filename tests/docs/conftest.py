import pytest
from documentation import ROOT


@pytest.fixture(autouse=True)
def in_the_repository():
    """Pages link to sources, which a test of the wheel (`make test-wheel`) leaves out on purpose."""
    if not (ROOT / 'mmsagan').is_dir():
        pytest.skip('the pages are tested in the repository, and not beside an installed wheel')
