#!/usr/bin/env bash
# Makes samples on several GPUs, of one node or of several.
#
#   tools/dist_sample.sh CONFIG CHECKPOINT GPUS [arguments of tools/sample.py]
#
# Several nodes: as with dist_train.sh. Without GPUs the processes run on CPUs, over gloo.
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: [NNODES=N NODE_RANK=R MASTER_ADDR=HOST PORT=P] $0 CONFIG CHECKPOINT GPUS [arguments of tools/sample.py]" >&2
    exit 2
fi
CONFIG=$1
CHECKPOINT=$2
GPUS=$3
shift 3

exec "$(dirname "$0")/dist_run.sh" "$GPUS" sample.py "$CONFIG" "$CHECKPOINT" "$@"
