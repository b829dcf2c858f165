#!/usr/bin/env bash
# The GPU kit on a machine without a network.
#
# On a machine with one, in this repository:  benchmarks/gpu_check_offline.sh fetch WHEELS [EXTRAS [PACKAGE ...]]
# Then carry this script and WHEELS over, and: gpu_check_offline.sh run WHEELS REPORT [OPTION ...]
#
# EXTRAS are those of glass-rt: tensorrt-rtx,cuda,jpeg,export unless they are given; gpu,cuda,jpeg,export for ONNX Runtime
# where the GPU is of the kind that TensorRT for RTX does not run on (Hopper, SM 10.x); cuda,jpeg where the other machine
# has PyTorch and ONNX, for the steps 0 to 7. PACKAGEs come along, such as 'nvidia-nvimgcodec-cu13[nvjpeg]' for step 5.
# JPEG files in WHEELS/photographs are what steps 5 to 7 read.
#
# `run` needs an NVIDIA driver, and python3 of the version that fetched. It installs into a folder of its own. Steps that
# do not fit into ten minutes are left for a second command, with the same REPORT and the option --resume; every step's
# result is in REPORT as soon as it is there. Options are those of `python -m glass_bench.gpu.check`.
set -euo pipefail
usage() { sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 2; }
[ $# -ge 2 ] || usage
mkdir -p "$2"
wheels=$(cd "$2" && pwd)
case $1 in
  fetch)
    here=$(cd "$(dirname "$0")/.." && pwd)
    extras=${3:-tensorrt-rtx,cuda,jpeg,export}
    packages=("${@:4}")
    # Wheels of everything: TensorRT for RTX comes as source archives, whose tools the other machine could not fetch.
    python3 -m pip wheel --quiet --wheel-dir "$wheels" "$here[$extras]" "${packages[@]}"
    printf '%s\n' "glass-rt[$extras]" "${packages[@]}" > "$wheels/packages"
    echo "$(find "$wheels" -name '*.whl' | wc -l) wheels, $(du -sh "$wheels" | cut -f1)" ;;
  run)
    [ $# -ge 3 ] || usage
    venv=$(mktemp -d)
    trap 'rm -rf "$venv"' EXIT
    seen=$(python3 -c 'import torch' 2> /dev/null && echo --system-site-packages || true)
    python3 -m venv $seen "$venv"
    "$venv/bin/python" -m pip install --quiet --no-index --find-links "$wheels" --requirement "$wheels/packages"
    if [ -d "$wheels/photographs" ]; then export GPU_KIT_PHOTOS=$wheels/photographs; fi
    "$venv/bin/python" -m glass_bench.gpu.check --output "$3" --seconds 600 "${@:4}" ;;
  *) usage ;;
esac
