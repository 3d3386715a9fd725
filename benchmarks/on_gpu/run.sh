#!/usr/bin/env bash
# On a machine with a GPU, torch and Triton, and no network:
#
#   benchmarks/on_gpu/run.sh install FOLDER     # the wheels of a folder of `prepare`, beside what is there
#   benchmarks/on_gpu/run.sh measure OUTPUT     # every part in order of importance; ends within 8 minutes
#   benchmarks/on_gpu/run.sh measure OUTPUT --pretend    # the same on a CPU, with tiny sizes
#
# Torch and Triton are those of the machine, never replaced.
set -euo pipefail
cd "$(dirname "$0")/../.."
SITE=${SITE:-/tmp/nnunet_rw_site}
export PYTHONPATH="$PWD:$SITE${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
# Compiled once for all trainings.
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-/tmp/nnunet_rw_inductor}
PYTHON=${PYTHON:-python3}

case ${1:-} in
install)
    "$PYTHON" -m pip install --quiet --no-deps --no-index --find-links "$2" --no-compile --no-cache-dir --upgrade \
        --target "$SITE" "$2"/*.whl
    ;;
measure)
    # An installation makes trainers/ a part of the package.
    "$PYTHON" -c "import nnunet_rw.trainers" 2>/dev/null || ln -sfn ../trainers nnunet_rw/trainers
    "$PYTHON" -m benchmarks.on_gpu.measure "${@:2}"
    ;;
*)
    sed -n '2,8p' "$0"
    exit 2
    ;;
esac
