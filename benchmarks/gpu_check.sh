#!/usr/bin/env bash
# How fast does Opportune's own loop train, score and write on this machine's GPU? No network; needs torch, transformers
# and peft; under nine minutes; see docs/scaling.md. `--toy` runs the same on a CPU, at a size that measures nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
exec "${PYTHON:-python3}" -m benchmarks.gpu_check "$@"
