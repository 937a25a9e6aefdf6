#!/usr/bin/env bash
# Trains under SLURM.
#
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG GPUS [arguments of tools/train.py]
#
# GPUS_PER_NODE (8), CPUS_PER_TASK (5), PORT (follows from the job's number) and SRUN_ARGS are read from the environment. With
# GPUS_PER_NODE=0 the GPUS tasks run on CPUs, over gloo.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [PORT=P] [SRUN_ARGS=...]" \
        "$0 PARTITION JOB_NAME CONFIG GPUS [arguments of tools/train.py]" >&2
    exit 2
fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
GPUS=$4
shift 4

GPUS_PER_NODE=${GPUS_PER_NODE:-8}
ON_NODE=()
if [ "$GPUS_PER_NODE" -gt 0 ]; then
    ON_NODE=(--gres="gpu:$((GPUS < GPUS_PER_NODE ? GPUS : GPUS_PER_NODE))"
        --ntasks-per-node="$((GPUS < GPUS_PER_NODE ? GPUS : GPUS_PER_NODE))")
fi

if [ -n "${PORT:-}" ]; then
    export MASTER_PORT=$PORT
fi
# SRUN_ARGS is meant to be split into words.
# shellcheck disable=SC2086
exec srun -p "$PARTITION" --job-name="$JOB_NAME" --ntasks="$GPUS" "${ON_NODE[@]}" --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    python -u "$(dirname "$0")/train.py" "$CONFIG" --launcher slurm "$@"
