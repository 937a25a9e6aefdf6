#!/usr/bin/env bash
# Trains on several GPUs, of one node or of several.
#
#   tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
#
# Several nodes: the same command on each, with NNODES, NODE_RANK (0 on the first), MASTER_ADDR (the first node's address) and
# PORT in the environment. Without GPUs the processes run on CPUs, over gloo.
set -euo pipefail

exec "$(dirname "$0")/dist_run.sh" train.py "CONFIG" "$@"
