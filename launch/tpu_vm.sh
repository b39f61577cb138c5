#!/usr/bin/env bash
# A TPU VM slice with all its chips, one process on each of its hosts (v5litepod-8 has one,
# v5litepod-64 sixteen): copies this checkout to every host, installs it, and runs jaxattack in
# tmux sessions that outlive the connection.
#
#   launch/tpu_vm.sh NAME ZONE --config=configs/quickstart.py --workdir=runs/mine \
#       --mirror=gs://bucket/mine ...
#
# Several hosts need a work directory that all of them see, on a mounted Filestore for example. The
# mirror, in a bucket, is what a slice that is taken away leaves. EXTRAS=tpu,gcs is what is
# installed.
set -euo pipefail
name=${1:?name of the TPU VM}; zone=${2:?zone}; shift 2
cd "$(dirname "$0")/.."
on_hosts() {
    gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$1"
}

archive=$(mktemp "${TMPDIR:-/tmp}/jaxattack.XXXXXX")
trap 'rm -f "$archive"' EXIT
git --no-optional-locks archive --format=tar.gz HEAD >"$archive"
gcloud compute tpus tpu-vm scp "$archive" "$name":jaxattack.tar.gz --zone="$zone" --worker=all
on_hosts "mkdir -p jaxattack && tar -xzf jaxattack.tar.gz -C jaxattack && cd jaxattack &&
    python3 -m venv .venv && .venv/bin/pip install --quiet -e '.[${EXTRAS:-tpu,gcs}]'"
printf -v arguments '%q ' "$@"
on_hosts "cd jaxattack && tmux new-session -d -s jaxattack \
    $(printf '%q' "JAXATTACK_DISTRIBUTED=1 .venv/bin/jaxattack $arguments 2>&1 | tee run.log")"
echo "running; follow its first process with:"
echo "  gcloud compute tpus tpu-vm ssh $name --zone=$zone --worker=0" \
    "--command='tail -f jaxattack/run.log'"
