import io
import pickle
import random
import struct
import zipfile

import pytest
import safetensors.torch
import torch

from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.checkpoints.io import check_integrity
from mmsagan.errors import CheckpointError

CONTENT = dict(state_dict=dict(a=torch.arange(20.0), b=torch.tensor(3)), meta=dict(iter=5))


@pytest.fixture
def whole(tmp_path) -> bytes:
    torch.save(CONTENT, tmp_path / 'whole.pth')
    return (tmp_path / 'whole.pth').read_bytes()


def is_the_original(loaded) -> bool:
    same = all(torch.equal(tensor, CONTENT['state_dict'][key]) for key, tensor in loaded['state_dict'].items())
    return same and list(loaded['state_dict']) == ['a', 'b'] and loaded['meta'] == CONTENT['meta'] and len(loaded) == 2


def rezipped(whole: bytes, **changes) -> bytes:
    """The archive written anew by the standard library, with other properties of its tensors' records."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(buffer, 'w') as new:
        for record in old.infolist():
            info = zipfile.ZipInfo(record.filename)
            for key, value in changes.items() if '/data/' in record.filename else ():
                setattr(info, key, value)
            new.writestr(info, old.read(record))
    return buffer.getvalue()


def test_formats(tmp_path, whole):
    assert check_integrity(tmp_path / 'whole.pth') == check_integrity(str(tmp_path / 'whole.pth')) == 'zip'
    torch.save(CONTENT, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    assert check_integrity(tmp_path / 'old.pth') == 'pickle' and is_the_original(load_checkpoint_file(tmp_path / 'old.pth'))
    safetensors.torch.save_file(dict(a=torch.ones(2)), tmp_path / 'file.safetensors')
    assert check_integrity(tmp_path / 'file.safetensors') == 'safetensors'


def test_references_files_are_whole(reference):
    assert check_integrity(reference.path) == check_integrity(reference.folder / reference.path.name) == 'zip'


def test_a_flipped_bit_is_found_or_harmless(tmp_path, whole):
    """Anywhere in the file: in tensors, in their sums, in the archive's own bookkeeping."""
    path, refused = tmp_path / 'flipped.pth', 0
    for place in random.Random(0).sample(range(8 * len(whole)), 500):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            loaded = load_checkpoint_file(path)
        except CheckpointError as error:
            assert 'flipped.pth' in str(error), place
            refused += 1
        else:
            assert is_the_original(loaded), f'bit {place} is not noticed'
    assert refused > 200


def test_damaged_tensors_are_named(tmp_path, whole):
    """PyTorch's own reader would load them."""
    place = whole.index(CONTENT['state_dict']['a'].numpy().tobytes())
    damaged = bytearray(whole)
    damaged[place + 5] ^= 1
    path = tmp_path / 'damaged.pth'
    path.write_bytes(damaged)
    assert not is_the_original(torch.load(path, weights_only=True))
    for read in (check_integrity, load_checkpoint_file):
        with pytest.raises(CheckpointError, match='damaged.pth is damaged.*/data/0'):
            read(path)


def test_cut_off_files(tmp_path, whole):
    path = tmp_path / 'cut.pth'
    for size in [*range(1, 40), *range(40, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match='cut.pth'):
            check_integrity(path)


def test_an_archive_by_other_hands(tmp_path, whole):
    path = tmp_path / 'file.pth'
    path.write_bytes(rezipped(whole))
    assert is_the_original(load_checkpoint_file(path))
    path.write_bytes(rezipped(whole, compress_type=zipfile.ZIP_DEFLATED))
    with pytest.raises(CheckpointError, match='file.pth is damaged.*/data/0 is compressed'):
        check_integrity(path)
    path.write_bytes(rezipped(whole, external_attr=0x10))
    with pytest.raises(CheckpointError, match='data/0 is marked'):
        check_integrity(path)
    path.write_bytes(bytes(100) + whole)
    with pytest.raises(CheckpointError, match='file.pth is no checkpoint'):
        check_integrity(path)
    path.write_bytes(whole[:4] + bytes(100) + whole)
    with pytest.raises(CheckpointError, match='file.pth is damaged.*first record'):
        check_integrity(path)


def test_records_that_share_their_bytes(tmp_path):
    """So a small file could claim any amount of memory: the directory at the archive's end, once more for each claim."""
    torch.save(dict(weight=torch.ones(5000)), tmp_path / 'whole.pth')
    whole = (tmp_path / 'whole.pth').read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        start = archive.start_dir
    directory = whole[start : whole.index(b'PK\x06\x06')]
    many = whole[:start] + 50 * directory
    end = struct.pack('<4s4H2LH', b'PK\x05\x06', 0, 0, 0, 0, 50 * len(directory), start, 0)
    path = tmp_path / 'bomb.pth'
    path.write_bytes(many + end)
    with pytest.raises(CheckpointError, match='bomb.pth is damaged'):
        check_integrity(path)


def test_an_archive_without_sums(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(CONTENT, tmp_path / 'file.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    assert is_the_original(load_checkpoint_file(tmp_path / 'file.pth'))


def test_safetensors_that_are_cut_off(tmp_path):
    safetensors.torch.save_file(dict(a=torch.ones(100)), tmp_path / 'whole.safetensors')
    data = (tmp_path / 'whole.safetensors').read_bytes()
    for size in (9, 50, len(data) - 1):
        (tmp_path / 'cut.safetensors').write_bytes(data[:size])
        with pytest.raises(CheckpointError, match='cut.safetensors is damaged'):
            check_integrity(tmp_path / 'cut.safetensors')


@pytest.mark.parametrize(
    'data, message',
    [(None, 'does not exist'), (b'', 'is empty'), (b'text', 'is no checkpoint'), (bytes(1000), 'is no checkpoint')],
)
def test_what_is_no_checkpoint(tmp_path, data, message):
    path = tmp_path / 'file.pth'
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(CheckpointError, match=f'file.pth {message}'):
        check_integrity(path)
    with pytest.raises(CheckpointError, match='is a folder'):
        check_integrity(tmp_path)


def test_other_pickles_are_for_the_loader_to_refuse(tmp_path):
    (tmp_path / 'file.pth').write_bytes(pickle.dumps(print))
    assert check_integrity(tmp_path / 'file.pth') == 'pickle'
