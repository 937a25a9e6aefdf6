#!/usr/bin/env bash
# Makes samples on several GPUs, of one node or of several.
#
#   tools/dist_sample.sh CONFIG CHECKPOINT GPUS [arguments of tools/sample.py]
#
# Several nodes: as with dist_train.sh. Without GPUs the processes run on CPUs, over gloo.
set -euo pipefail

exec "$(dirname "$0")/dist_run.sh" sample.py "CONFIG CHECKPOINT" "$@"
