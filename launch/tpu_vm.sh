#!/usr/bin/env bash
# One TPU VM host with all its chips (for example v5litepod-8): copies this checkout there,
# installs it, and runs jaxattack in a tmux session that outlives the connection.
#
#   launch/tpu_vm.sh NAME ZONE --config=configs/quickstart.py --workdir=runs/mine ...
set -euo pipefail
name=${1:?name of the TPU VM}; zone=${2:?zone}; shift 2
cd "$(dirname "$0")/.."
on_vm() { gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --command="$1"; }

archive=$(mktemp "${TMPDIR:-/tmp}/jaxattack.XXXXXX")
trap 'rm -f "$archive"' EXIT
git --no-optional-locks archive --format=tar.gz HEAD >"$archive"
gcloud compute tpus tpu-vm scp "$archive" "$name":jaxattack.tar.gz --zone="$zone"
on_vm "mkdir -p jaxattack && tar -xzf jaxattack.tar.gz -C jaxattack && cd jaxattack &&
    python3 -m venv .venv && .venv/bin/pip install --quiet -e '.[tpu]'"
printf -v arguments '%q ' "$@"
on_vm "cd jaxattack && tmux new-session -d -s jaxattack \
    $(printf '%q' ".venv/bin/jaxattack $arguments 2>&1 | tee run.log")"
echo "running; follow it with:"
echo "  gcloud compute tpus tpu-vm ssh $name --zone=$zone --command='tail -f jaxattack/run.log'"
