"""Evaluating a checkpoint from a config."""

from mmengine.config import Config

from mmsagan.apis.running import config_mistakes, runner_of
from mmsagan.engine.config import complete_evaluation
from mmsagan.engine.config_check import check_config
from mmsagan.errors import ConfigError


def evaluate_from_config(cfg: Config, checkpoint: str) -> dict:
    """Evaluates a checkpoint by the config's ``test_evaluator``.

    Args:
        cfg: The experiment, with ``work_dir`` and ``launcher``. It may lack everything that only training needs.
        checkpoint: File or URL.

    Returns:
        Results by name.

    Raises:
        MMSAGANError: Something that the user can mend.
    """
    if not complete_evaluation(cfg, 'test'):
        raise ConfigError('the config has no test_evaluator; inherit one from a file in configs/_base_/metrics')
    complete_evaluation(cfg, 'val')
    check_config(cfg, training=False)
    cfg.resume, cfg.load_from = False, checkpoint
    if cfg.get('visualizer', {}).get('track'):
        cfg.visualizer.track = None  # they are told of trainings, and a test has nothing for them
    with runner_of(cfg) as runner:
        with config_mistakes():
            _ = runner.test_loop
        return runner.test()
