import pytest
from torch.utils.data import DataLoader, Dataset

from mmsagan.apis.cli import message_of, run_tool
from mmsagan.errors import DataError


class Broken(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise DataError('the file x.png: cannot be read')


@pytest.mark.parametrize('num_workers', [0, 1])
def test_the_message_is_the_same_from_a_loader_process(num_workers):
    with pytest.raises(DataError) as info:
        next(iter(DataLoader(Broken(), num_workers=num_workers)))
    assert message_of(info.value) == 'the file x.png: cannot be read'


def test_exit_codes(capsys):
    def user_error():
        raise DataError('no data')

    def bug():
        raise RuntimeError('a bug')

    for main, code in ((lambda: None, None), (lambda: 3, 3), (user_error, 2)):
        with pytest.raises(SystemExit) as info:
            run_tool(main)
        assert info.value.code == code
    assert capsys.readouterr().err == 'error: no data\n'
    with pytest.raises(RuntimeError):
        run_tool(bug)
