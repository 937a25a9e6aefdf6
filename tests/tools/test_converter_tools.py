"""The converter as a user types it: any format in, and out again."""

import pytest
import torch
import yaml

from mmsagan.apis import init_model
from mmsagan.checkpoints import load_checkpoint_file

pytestmark = pytest.mark.slow


@pytest.fixture
def convert(run_here):

    def run(*arguments) -> str:
        code, output, errors = run_here('model_converters/convert.py', *arguments)
        assert code == 0, errors
        return output

    return run


@pytest.mark.parametrize('name', ['mmagic_32_woReLUinplace', 'studiogan_legacy_32'])
def test_there_and_back(fixture_of, name, tmp_path, convert):
    reference = fixture_of(name)
    out = tmp_path / 'out.pth'
    output = convert(reference.path, '--out', out)
    assert 'base_channels=32' in output and 'attention after block 2' in output and f'written to {out}' in output
    assert ('channel order bgr' in output) == reference.is_bgr
    reference.check(init_model(None, out))
    output = convert(out, '--to', 'studiogan', '--out', tmp_path / 'studio')
    assert ('logits will differ' in output) == (reference.folder.name == 'mmagic_32_woReLUinplace')
    settings = yaml.safe_load(output.partition('config needs:\n')[2])
    # What the fixtures were made with.
    assert settings['MODEL']['g_conv_dim'] == settings['MODEL']['d_conv_dim'] == 8
    assert settings['DATA'] == dict(img_size=32, num_classes=10)
    (generator,) = (tmp_path / 'studio').glob('model=G-best-weights-step=*.pth')
    assert load_checkpoint_file(generator)['state_dict']['blocks.0.0.bn1.gain.weight_orig'].shape == (32, 10)
    convert(generator, '--out', tmp_path / 'back.safetensors')
    first, back = (load_checkpoint_file(path)['state_dict'] for path in (out, tmp_path / 'back.safetensors'))
    assert set(first) == set(back) and all(torch.equal(first[key], back[key]) for key in first if key != 'iteration')
