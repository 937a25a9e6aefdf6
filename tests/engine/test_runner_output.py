import logging
from pathlib import Path

from mmsagan.apis import train_from_config
from mmsagan.engine.runner import _is_worth_showing


def test_what_is_long_is_in_the_log_only(tiny_run, capsys):
    cfg = tiny_run(max_iters=1, custom_hooks=[], val_evaluator=None, **{'default_hooks.logger.interval': 1})
    train_from_config(cfg)
    log = next(Path(cfg.work_dir).glob('*/*.log'))
    text, shown = log.read_text(), capsys.readouterr().out
    for long in ('System environment', 'default_hooks = dict(', 'Hooks will be executed', '"FileClient" will be deprecated'):
        assert long in text and long not in shown
    assert f'the environment, the config and the hooks are in {log}' in shown and '[1/1]  loss D' in shown
    assert len(shown.splitlines()) < 20


def test_warnings_are_shown_however_long():
    report = dict(msg='line\n' * 50)
    assert _is_worth_showing(logging.makeLogRecord(dict(report, levelno=logging.WARNING)))
    assert not _is_worth_showing(logging.makeLogRecord(dict(report, levelno=logging.INFO)))
