"""Telling Weights & Biases of a training."""

import os
import secrets
import sys
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.visualization import WandbVisBackend as MMEngineWandbVisBackend
from mmengine.visualization.vis_backend import force_init_env

from mmsagan.registry import VISBACKENDS
from mmsagan.utils.files import write_atomically

RUN_ID = 'wandb_run_id'  # in the work dir: the file with the run's id
_STEP = 'iteration'


@VISBACKENDS.register_module()
class WandbVisBackend(MMEngineWandbVisBackend):
    """MMEngine's backend of the same name, which draws against iterations and goes on with the run of a resumed training.

    * MMEngine's counts its calls, whatever iteration they are of. Here each entry has its ``iteration``, the x axis of all
      charts; so a training that goes back to a checkpoint, or has been resumed from one, is drawn where it belongs.
    * The run's id is kept in the work dir. A training with ``resume`` goes on with that run, one that begins anew has its own.
    * The project is ``mmsagan`` and the run is called like the work dir, unless ``init_kwargs`` or W&B's variables in the
      environment say something else.
    * Your source code is uploaded only if ``log_code_name`` is given.

    Args:
        save_dir: ``<work dir>/<time>/vis_data``; the visualizer sets it.
        **kwargs: See ``mmengine.visualization.WandbVisBackend``.
    """

    def __init__(self, save_dir: str, **kwargs):
        super().__init__(save_dir, **kwargs)
        self._goes_on = False

    def add_config(self, config: Config, **kwargs) -> None:
        """Starts the run, or goes on with the one of the training that is resumed, and records the config."""
        self._goes_on = bool(config.get('resume'))
        run = self.experiment.run
        # Another number of iterations, for instance, which W&B takes for a mistake otherwise.
        run.config.update(config.to_dict(), allow_val_change=True)
        if self._log_code_name is not None:
            run.log_code(name=self._log_code_name)

    def _init_env(self) -> None:
        work_dir = Path(self._save_dir).parent.parent
        # W&B lets arguments go before its variables in the environment, which are the user's, though.
        values = dict(project='mmsagan', name=work_dir.resolve().name, resume='allow')
        values = {key: value for key, value in values.items() if f'WANDB_{key.upper()}' not in os.environ}
        if 'WANDB_RUN_ID' not in os.environ:
            values['id'] = self._run_id(work_dir)
        self._init_kwargs = {**values, **(self._init_kwargs or {})}
        super()._init_env()
        self._wandb.define_metric(_STEP)
        self._wandb.define_metric('*', step_metric=_STEP)

    def _run_id(self, work_dir: Path) -> str:
        file = work_dir / RUN_ID
        if self._goes_on and file.is_file():
            return file.read_text().strip()
        run_id = secrets.token_hex(4)
        write_atomically(file, run_id.encode())
        return run_id

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs) -> None:
        """Records a picture (H, W, 3) uint8 RGB."""
        self._wandb.log({name: self._wandb.Image(image), _STEP: step}, commit=self._commit)

    @force_init_env
    def add_scalar(self, name: str, value: float, step: int = 0, **kwargs) -> None:
        """Records a number."""
        self._wandb.log({name: value, _STEP: step}, commit=self._commit)

    @force_init_env
    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs) -> None:
        """Records numbers by name."""
        self._wandb.log({**scalar_dict, _STEP: step}, commit=self._commit)

    def close(self) -> None:
        """Ends the run: as failed, if this is called while an error is on its way."""
        if hasattr(self, '_wandb'):
            self._wandb.finish(exit_code=0 if sys.exc_info()[1] is None else 1)
