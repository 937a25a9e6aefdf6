"""The connection to MMEngine: configs, runner, loops, optimizers, hooks. Importing it registers all of them."""

from mmsagan.engine import hooks, loops, optim, runner
