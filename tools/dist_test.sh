#!/usr/bin/env bash
# Evaluates on several processes of one machine (or of several: set NNODES, NODE_RANK, MASTER_ADDR on each).
#   bash tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,3p' "$0" >&2; exit 2; }
config=$1 checkpoint=$2 processes=$3
[ "${NNODES:-1}" = 1 ] || : "${MASTER_ADDR:?must be the address of the machine with NODE_RANK=0}"
python -m torch.distributed.run --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$processes" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
  "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "${@:4}"
