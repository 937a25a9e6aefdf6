#!/usr/bin/env bash
# Starts one of the tools in several processes; dist_train.sh and dist_test.sh are the ways in.
#
#   tools/dist_run.sh PROCESSES TOOL [arguments]
#
# NNODES, NODE_RANK, MASTER_ADDR and PORT are read from the environment. Without GPUs the processes run on CPUs, over gloo.
set -euo pipefail

PROCESSES=$1
TOOL=$2
shift 2

exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$PROCESSES" \
    "$(dirname "$0")/$TOOL" "$@" --launcher pytorch
