#!/usr/bin/env bash
# Evaluates a checkpoint on several GPUs, of one node or of several.
#
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
#
# Several nodes: as with dist_train.sh. Without GPUs the processes run on CPUs, over gloo.
set -euo pipefail

exec "$(dirname "$0")/dist_run.sh" test.py "CONFIG CHECKPOINT" "$@"
