#!/usr/bin/env bash
# Trains on several processes of one machine (or of several: set NNODES, NODE_RANK, MASTER_ADDR on each).
#   bash tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,3p' "$0" >&2; exit 2; }
config=$1 processes=$2
[ "${NNODES:-1}" = 1 ] || : "${MASTER_ADDR:?must be the address of the machine with NODE_RANK=0}"
python -m torch.distributed.run --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$processes" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
  "$(dirname "$0")/train.py" "$config" --launcher pytorch "${@:3}"
