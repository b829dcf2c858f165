#!/usr/bin/env bash
# The GPU kit on a machine without a network.
#
# On a machine with one, in this repository:       benchmarks/gpu_check_offline.sh fetch WHEELS
# Then carry this repository and WHEELS over, and: benchmarks/gpu_check_offline.sh run WHEELS REPORT
#
# `fetch` takes one more argument where the GPU is of the kind that TensorRT for RTX does not run on (Hopper, SM 10.x):
# the extras, `gpu,cuda,export` for ONNX Runtime. `run` needs an NVIDIA driver, and python3 of the version that fetched.
# It installs into a folder of its own, and ends inside ten minutes on one GPU: `timeout` ends it there, and REPORT holds
# the steps up to then (the comparison with PyTorch comes last). It has not run on a GPU yet.
set -euo pipefail
usage() { sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2; }
[ $# -ge 2 ] || usage
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$2"
wheels=$(cd "$2" && pwd)
case $1 in
  fetch)
    extras=${3:-tensorrt-rtx,cuda,export}
    # Wheels of everything: TensorRT for RTX comes as source archives, whose tools the other machine could not fetch.
    python3 -m pip wheel --quiet --wheel-dir "$wheels" "$here[$extras]"
    echo "$extras" > "$wheels/extras"
    echo "$(find "$wheels" -name '*.whl' | wc -l) wheels, $(du -sh "$wheels" | cut -f1)" ;;
  run)
    [ $# -eq 3 ] || usage
    venv=$(mktemp -d)
    trap 'rm -rf "$venv"' EXIT
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --no-index --find-links "$wheels" \
      "glass-rt[$(cat "$wheels/extras")]"
    timeout 600 "$venv/bin/python" -m glass_bench.gpu.check --output "$3" --soak 10000 ;;
  *) usage ;;
esac
