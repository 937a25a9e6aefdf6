#!/usr/bin/env bash
# Starts one of the tools in several processes; dist_train.sh, dist_test.sh, dist_sample.sh and dist_evaluate.sh are the ways in.
#
#   tools/dist_run.sh TOOL "NAMES OF ITS FIRST ARGUMENTS" [these arguments] PROCESSES [further arguments]
#
# NNODES, NODE_RANK, MASTER_ADDR and PORT are read from the environment. On one node, the processes meet at a free port unless
# PORT is set. What each process would report, such as missing data, is reported before they start. Without GPUs the processes
# run on CPUs, over gloo.
set -euo pipefail

TOOL=$1
NAMES=$2
shift 2
COUNT=$(wc -w <<< "$NAMES")

if [ $# -le "$COUNT" ]; then
    SCRIPT="$(dirname "$0")/dist_${TOOL%%[_.]*}.sh"
    echo "usage: [NNODES=N NODE_RANK=R MASTER_ADDR=HOST PORT=P] $SCRIPT $NAMES GPUS [arguments of tools/$TOOL]" >&2
    exit 2
fi
FIRST=("${@:1:COUNT}")
PROCESSES=${*:COUNT+1:1}
shift $((COUNT + 1))

python -m mmsagan.cli.launch "$(dirname "$0")/$TOOL" "$PROCESSES" "${FIRST[@]}" "$@"

MEETING=(--standalone --local_addr=127.0.0.1)
if [ "${NNODES:-1}" != 1 ] || [ -n "${PORT:-}" ]; then
    MEETING=(--nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}")
    MEETING+=(--master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}")
fi
exec python -m torch.distributed.run "${MEETING[@]}" --nproc_per_node="$PROCESSES" \
    "$(dirname "$0")/$TOOL" "${FIRST[@]}" "$@" --launcher pytorch
