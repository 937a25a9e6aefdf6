#!/usr/bin/env bash
# Scores images from any source on several GPUs, of one node or of several.
#
#   tools/dist_evaluate.sh IMAGES GPUS [arguments of tools/evaluate_images.py]
#
# Several nodes: as with dist_train.sh. Without GPUs the processes run on CPUs, over gloo.
set -euo pipefail

exec "$(dirname "$0")/dist_run.sh" evaluate_images.py "IMAGES" "$@"
