"""Publishing a model as a repository of the Hugging Face Hub: weights, config, model card, and a web page."""

import json
import pprint
import re
from collections.abc import Mapping
from pathlib import Path

from mmsagan import __version__
from mmsagan.apis.inference import init_model
from mmsagan.apis.sampling import SampleSet, write_samples
from mmsagan.apis.zoo import TRAINING_KEYS, check_hub_config
from mmsagan.checkpoints.architecture import read_config_text
from mmsagan.checkpoints.convert import load_checkpoint
from mmsagan.checkpoints.io import save_checkpoint_file
from mmsagan.checkpoints.publish import strip_checkpoint
from mmsagan.engine.loops import EVALUATED
from mmsagan.errors import CheckpointError, ConfigError, DownloadError
from mmsagan.utils import import_optional
from mmsagan.utils.download import HUB, split_repository
from mmsagan.utils.files import write_output

CARD = """---
library_name: mmsagan
license: {license}
pipeline_tag: unconditional-image-generation
tags: [gan, sagan, image-generation]
sdk: gradio
app_file: app.py
---

# {title}

![Samples, one class in each row](samples.png)

A {kind} for {size}x{size} pixels{classes}, trained with `mmsagan` {version}.

```python
from mmsagan.apis import init_model, sample

images = sample(init_model('{source}'), num_samples=8, seed=0)  # uint8 RGB (8, 3, {size}, {size})
```

On the command line: `mmsagan sample {source} zoo --out samples.png`.

## Data

{data}

## Scores

{scores}

## License

{license_note}
"""
APP = """import sys

from mmsagan.cli.main import main

sys.argv = ['mmsagan', 'web', 'config.json', 'model.safetensors', '--host', '0.0.0.0', '--port', '7860']
main()
"""
FILES = ('README.md', 'app.py', 'config.json', 'model.safetensors', 'requirements.txt', 'samples.png')


def write_repository(
    checkpoint: str | Path,
    folder: str | Path,
    source: str | None = None,
    weights: str = 'both',
    with_discriminator: bool = True,
    license: str | None = None,
) -> list[Path]:
    """Writes the files of a repository into a folder, from a checkpoint that was trained here; returns them.

    These are ``model.safetensors``, ``config.json`` (of the model alone), ``README.md`` (data, scores of the last evaluation
    and how they were measured, how to load the model), ``samples.png``, and for a Space ``app.py`` and ``requirements.txt``.
    ``weights`` and ``with_discriminator`` are those of :func:`~mmsagan.checkpoints.publish.publish`.

    Args:
        source: Where the repository will be, for the model card; defaults to ``hf://user/<name of the folder>``.
        license: Identifier of a license on the Hub, such as ``cc-by-4.0``.
    """
    folder = Path(folder)
    source = source or f'{HUB}user/{folder.absolute().name}'
    content = load_checkpoint(str(checkpoint))
    meta = content.get('meta', {})
    training, _ = read_config_text(meta.get('cfg'))
    stripped, _ = strip_checkpoint(content, weights, with_discriminator)
    model = training.get('model')
    if not model:
        raise CheckpointError(f'{checkpoint} has no config of its model; publish a checkpoint that a training here has written')
    model = {key: value for key, value in model.items() if key not in TRAINING_KEYS}
    if weights == 'ema':
        model['ema_config'] = None
    names = list((meta.get('dataset_meta') or {}).get('classes') or ())
    config = dict(library_name='mmsagan', mmsagan_version=__version__, model=model, dataset_meta=dict(classes=names))
    save_checkpoint_file(stripped, folder / 'model.safetensors')
    write_output(folder / 'config.json', json.dumps(config, indent=2).encode())
    gan = init_model(check_hub_config(folder / 'config.json', source), folder / 'model.safetensors')
    write_samples(SampleSet(gan, range(min(10, gan.num_classes)) if gan.num_classes else None), folder / 'samples.png')
    dataset = (training.get('train_dataloader') or {}).get('dataset') or {}
    count = f'{meta["training_images"]} images. ' if 'training_images' in meta else ''
    card = CARD.format(
        title=source.rpartition('/')[2].partition('@')[0],
        kind=model.get('type', 'GAN'),
        size=gan.generator.output_scale,
        classes=f' and {gan.num_classes} classes ({", ".join(map(str, names[:10]))}{", …" if len(names) > 10 else ""})'
        if gan.num_classes and names
        else '',
        version=__version__,
        source=source,
        license=license or 'unknown',
        license_note=license or 'Not stated.',
        data=count + (f'`{dataset["type"]}` of mmsagan.' if 'type' in dataset else 'Not stated.'),
        scores=_describe_scores(training, content),
    )
    for name, text in (('README.md', card), ('app.py', APP), ('requirements.txt', f'mmsagan[demo]=={__version__}\n')):
        write_output(folder / name, text.encode())
    return [folder / name for name in FILES]


def _describe_scores(training: Mapping, content: Mapping) -> str:
    """A table of the last evaluation during training, and the config of its metrics: a score means little without it."""
    hub = content.get('message_hub') or {}
    logs, info = (hub.get(key) or {} for key in ('log_scalars', 'runtime_info'))
    scores = {name: values.data[0][-1] for name, values in logs.items() if re.fullmatch('val/.+/.+', name)}
    if not scores:
        return 'Not measured.'
    rows = [f'| {name.removeprefix("val/")} | {float(value):.4g} |' for name, value in scores.items()]
    evaluator = training.get('val_evaluator') or {}
    metrics = evaluator.get('metrics') if isinstance(evaluator, Mapping) else evaluator
    protocol = re.sub(r"'[^'\s]*/([^'/]+)'", r"'\1'", pprint.pformat(metrics, width=100, sort_dicts=False))  # no paths
    table = '\n'.join(['| score | value |', '|---|---|', *rows])
    when = f'Measured after {info[EVALUATED]} iterations' if EVALUATED in info else 'Measured during the training'
    return f'{when}:\n\n{table}\n\nBy\n\n```python\n{protocol}\n```'


def check_target(source: str) -> str:
    """Returns the ``user/repo`` that can be pushed to as ``hf://user/repo``; a revision is a ConfigError."""
    name, revision = split_repository(source)
    if revision:
        raise ConfigError(f'{source}: cannot push to a revision; use hf://{name}')
    return name


def push_repository(folder: str | Path, source: str, private: bool = False) -> str:
    """Uploads a folder to ``hf://user/repo``, which is created if it does not exist, and returns the URL of the commit."""
    huggingface_hub, name = import_optional('huggingface_hub', 'hub'), check_target(source)
    try:
        hub = huggingface_hub.HfApi(library_name='mmsagan', library_version=__version__)
        hub.create_repo(name, private=private, exist_ok=True)
        message = f'Model of mmsagan {__version__}'
        done = hub.upload_folder(repo_id=name, folder_path=folder, allow_patterns=[*FILES], commit_message=message)
        return done.commit_url
    except Exception as error:  # also those of the HTTP library beneath
        reason = ' '.join(str(error).split())[:300]
        raise DownloadError(f'{source} cannot be written ({reason}); log in by `hf auth login`, or set HF_TOKEN') from error
