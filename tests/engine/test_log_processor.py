import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace

from mmengine.logging import MessageHub

from mmsagan.apis import train_from_config
from mmsagan.engine.log_processor import IterationLine, LogProcessor, iteration_numbers

VALUES = dict(
    loss_disc=1.5671,
    loss_disc_real=1.1,
    loss_disc_fake=0.4671,
    loss_gen=-0.48281,
    loss_gen_class=0.2,
    logits_real=0.31942,
    logits_fake=-10.3681,
    logits_gap=10.6875,
    images_per_second=2310.4,
    memory=11571,
    time=0.1,
    data_time=0.005,
)


def test_what_a_line_says():
    assert list(iteration_numbers(VALUES, 87).values()) == [
        'loss D 1.567 G -0.483',
        'logits real 0.319 fake -10.368',
        '2310 images/s',
        '11.3 GB',
        'eta 0:01:27',
    ]


def test_what_a_line_says_if_there_is_reason_to():
    values = dict(VALUES, skipped_steps=3, diversity=0.634, data_time=0.04, loss_perceptual=0.5)
    numbers = iteration_numbers(values, None)
    assert numbers['loss'] == 'loss D 1.567 G -0.483 perceptual 0.500'
    assert list(numbers)[-3:] == ['skipped', 'diversity', 'waiting'] and 'eta' not in numbers
    assert [numbers[name] for name in ('skipped', 'diversity', 'waiting')] == [
        'skipped updates 3',
        'diversity 0.63',
        '40 % of the time waiting for data',
    ]
    assert iteration_numbers({}) == {}


def test_a_line_of_a_long_training_fits():
    """In 160 columns, with what the logger puts before it, and losses and logits in 120."""
    line = '  '.join(['[1000000/1000000]', *iteration_numbers(VALUES, 3 * 86400).values()])
    line = '2026/11/22 19:42:31 - mmengine - INFO - ' + line
    assert len(line) <= 160 and 'logits real 0.319 fake -10.368' in line[:120]


def test_the_line_of_an_evaluation():
    """Results of other programs' metrics, and those that are no numbers, are in it; times and held-out real images are not."""
    hub = MessageHub.get_instance('line-of-an-evaluation')
    for name, value in {'FID/fid': 3.14159, 'accuracy': 0.5, 'held_out/FID/fid': 0.1, 'time': 7.0, 'data_time': 7.0}.items():
        hub.update_scalar(f'val/{name}', value)
    hub.update_info('val/FID/per_class', dict(cat=1.0))
    runner = SimpleNamespace(message_hub=hub, iter=600, max_iters=900, val_loop=SimpleNamespace(dataloader=range(3)))
    _, line = LogProcessor(by_epoch=False).get_log_after_epoch(runner, 3, 'val')
    assert line == "[600/900]  evaluated:  FID/fid 3.1416  accuracy 0.5000  FID/per_class {'cat': 1.0}"


def test_lines_and_numbers_of_a_training(tiny_run, monkeypatch):
    """The log has a line an iteration and one an evaluation; scalars.json has all numbers that MMEngine would give, and two."""
    messages = []
    original = logging.Logger.info
    monkeypatch.setattr(
        logging.Logger, 'info', lambda self, message, *rest, **kwargs: (messages.append(message), original(self, message))[1]
    )
    cfg = tiny_run(
        max_iters=3,
        custom_hooks=[],
        val_evaluator=dict(metrics=[dict(type='FrechetInceptionDistance', fake_nums=70, inception_style='digits')]),
        **{'train_cfg.val_interval': 3, 'model.discriminator_steps': 1},
    )
    runner = train_from_config(cfg)
    log = next(Path(cfg.work_dir).glob('*/*.log')).read_text()
    lines = re.findall(
        r'- INFO - (\[[123]/3\]  loss D \S+ G \S+  logits real \S+ fake \S+  \S+ images/s  [\d.]+ [MG]B  eta 0:00:\d\d)', log
    )
    assert len(lines) == 3
    score = runner.val_loop.results['FID-digits/fid']
    assert re.search(rf'- INFO - \[3/3\]  evaluated:  FID-digits/fid {score:.4f}\n', log)
    assert [message.split()[0] for message in messages if isinstance(message, IterationLine)][:3] == ['[1/3]', '[2/3]', '[3/3]']
    records = [json.loads(line) for line in next(Path(cfg.work_dir).glob('*/vis_data/scalars.json')).read_text().splitlines()]
    expected = {'loss_disc', 'loss_disc_real', 'loss_disc_fake', 'loss_gen', 'logits_real', 'logits_fake', 'logits_gap'}
    expected |= {'time', 'data_time', 'generator.lr', 'discriminator.lr', 'images_per_second', 'memory', 'iter', 'step'}
    assert all(set(record) == expected for record in records[:3])
    assert records[0]['memory'] > 50
