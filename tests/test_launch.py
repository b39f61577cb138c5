"""The launch scripts: what they ask of a cluster, and whether their processes join."""

from __future__ import annotations

import json
import os
import pathlib
import random
import shutil
import stat
import subprocess
import sys

import pytest
import yaml

LAUNCH = pathlib.Path(__file__).parents[1] / "launch"
SCRIPTS = sorted(path for path in LAUNCH.iterdir() if path.suffix in (".sh", ".sbatch"))
BESIDE = str(pathlib.Path(sys.executable).parent)


def program(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_shell_finds_no_fault(path):
    checker = shutil.which("shellcheck", path=f"{BESIDE}:{os.environ['PATH']}")
    command = [checker, path] if checker else ["bash", "-n", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# --- Slurm --------------------------------------------------------------------------------------

# Tasks of one node each, as `srun` starts them, all on this machine.
SRUN = """#!/usr/bin/env bash
echo "srun $*" >>"$CALLS"
while [[ $1 == --* ]]; do shift; done
export SLURM_STEP_NODELIST=127.0.0.1 SLURM_NTASKS=$SLURM_JOB_NUM_NODES SLURM_LOCALID=0
export SLURM_STEP_NUM_TASKS=$SLURM_NTASKS SLURM_STEP_TASKS_PER_NODE="1(x$SLURM_NTASKS)"
failed=0 pids=()
for ((i = 0; i < SLURM_NTASKS; i++)); do SLURM_PROCID=$i "$@" & pids[i]=$!; done
for pid in "${pids[@]}"; do wait "$pid" || failed=$?; done
exit "$failed"
"""
JOINED = """#!{python}
import json, os, sys
import jax
from jaxattack import distributed, workdir
from jaxattack.errors import UserError
distributed.initialize()
workdir.SHARED = 0.5
root = sys.argv[1].replace("INDEX", str(jax.process_index()))
try:
    workdir.open_workdir(root)
    seen = "shared"
except UserError as error:
    seen = str(error)
visible = jax.config.values["jax_cuda_visible_devices"]
facts = dict(index=jax.process_index(), count=jax.process_count(), devices=jax.device_count(),
             visible=visible, arguments=sys.argv[2:], seen=seen)
os.write(1, f"{{json.dumps(facts)}}\\n".encode())  # at once: both write into one pipe
if seen != "shared":
    distributed.leave(2)
"""


def submitted(folder: pathlib.Path, nodes: int, *arguments: str) -> tuple[list[dict], str]:
    """What the processes of a job say, and how `srun` was called."""
    program(folder / "bin" / "srun", SRUN)
    program(folder / ".venv" / "bin" / "jaxattack", JOINED.format(python=sys.executable))
    environment = {name: value for name, value in os.environ.items() if "SLURM" not in name} | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(LAUNCH.parent),
        "CALLS": str(folder / "calls"),
        "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_CPUS_PER_TASK": "3",
        "SLURM_JOB_ID": str(random.SystemRandom().randrange(1, 4096)),  # of it jax makes a port
        "JAX_NUM_CPU_DEVICES": "2",
        "JAXATTACK_TIMEOUT": "60",
    }
    done = subprocess.run(
        ["bash", LAUNCH / "slurm.sbatch", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr
    return sorted(lines, key=lambda line: line["index"]), (folder / "calls").read_text()


def test_slurms_nodes_join_and_each_process_has_its_nodes_devices(tmp_path):
    found, call = submitted(tmp_path, 2, str(tmp_path / "run"), "--config.mesh=(1,-1,1)", "a b")
    assert len(found) == 2
    for index, one in enumerate(found):
        assert (one["index"], one["count"], one["devices"]) == (index, 2, 4)
        assert one["visible"] == "all"  # jax itself would leave one GPU to each process
        assert one["arguments"] == ["--config.mesh=(1,-1,1)", "a b"]
        assert one["seen"] == "shared"
    assert "--cpus-per-task=3 --kill-on-bad-exit=1" in call
    assert not list((tmp_path / "run").glob(".shared*"))


def test_one_node_is_one_process_alone(tmp_path):
    found, _ = submitted(tmp_path, 1, str(tmp_path / "run"))
    assert (found[0]["count"], found[0]["devices"]) == (1, 2)


@pytest.mark.slow
def test_hosts_that_share_no_directory_are_told_so(tmp_path):
    found, _ = submitted(tmp_path, 2, str(tmp_path / "runINDEX"))
    [other] = [one for one in found if one["index"]]  # the first has waited for it in vain
    assert "give a directory that all hosts share" in other["seen"]


def test_a_job_asks_for_one_task_a_node_with_its_gpus_and_a_word_before_the_end():
    asked = [
        line.removeprefix("#SBATCH --").partition("=")[::2]
        for line in (LAUNCH / "slurm.sbatch").read_text().splitlines()
        if line.startswith("#SBATCH")
    ]
    options = dict(asked)
    assert len(options) == len(asked)
    assert options["ntasks-per-node"] == "1"
    assert "ntasks" not in options  # else --nodes=2 would start one task
    assert options["signal"] == "TERM@300"
    assert "requeue" in options


# --- TPU VMs ------------------------------------------------------------------------------------

GCLOUD = """#!{python}
import json, os, sys
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
"""


def test_every_host_of_a_tpu_slice_gets_the_code_and_one_process(tmp_path):
    program(tmp_path / "bin" / "gcloud", GCLOUD.format(python=sys.executable))
    program(tmp_path / "bin" / "git", "#!/bin/sh\necho archive\n")
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "TMPDIR": str(tmp_path),
    }
    arguments = ["--config.seeds=(0,1)", "--workdir=/mnt/my runs", "it's"]
    subprocess.run(
        [LAUNCH / "tpu_vm.sh", "slice", "us-west4-a", *arguments],
        env=environment,
        check=True,
        capture_output=True,
    )
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    assert [call[:4] for call in calls] == [
        ["compute", "tpus", "tpu-vm", verb] for verb in ("scp", "ssh", "ssh")
    ]
    for call in calls:
        assert "slice" in call or "slice:jaxattack.tar.gz" in call
        assert {"--zone=us-west4-a", "--worker=all"} <= set(call)
    commands = [
        argument.removeprefix("--command=")
        for call in calls
        for argument in call
        if argument.startswith("--command=")
    ]
    assert "pip install --quiet -e '.[tpu,gcs]'" in commands[0]
    assert not list(tmp_path.glob("jaxattack.*"))  # the archive
    # What a host's shell makes of the second: tmux is given one word, and its shell the rest.
    home = tmp_path / "home"
    (home / "jaxattack").mkdir(parents=True)
    program(tmp_path / "bin" / "tmux", '#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    program(
        home / "jaxattack" / ".venv" / "bin" / "jaxattack",
        f"#!{sys.executable}\nimport json, os, sys\n"
        "print(json.dumps([os.environ['JAXATTACK_DISTRIBUTED'], *sys.argv[1:]]))\n",
    )
    subprocess.run(["bash", "-c", commands[1]], cwd=home, env=environment, check=True)
    assert json.loads((home / "jaxattack" / "run.log").read_text()) == ["1", *arguments]


# --- Kubernetes ---------------------------------------------------------------------------------

# The fields of jobset.x-k8s.io/v1alpha2 (its published CustomResourceDefinition), and of batch/v1
# and core/v1 beneath, that a manifest of ours may have; True is any value.
PERHAPS = {"nodeSelector": True, "annotations": True, "resources": True, "emptyDir": True}
POD = {
    "restartPolicy": str,
    "terminationGracePeriodSeconds": int,
    "serviceAccountName": str,
    "containers": [
        {
            "name": str,
            "image": str,
            "command": [str],
            "env": [
                {"name": str, "value": str, "valueFrom": {"fieldRef": {"fieldPath": str}}},
            ],
            "volumeMounts": [{"name": str, "mountPath": str}],
            **PERHAPS,
        }
    ],
    "volumes": [{"name": str, "persistentVolumeClaim": {"claimName": str}, **PERHAPS}],
    **PERHAPS,
}
JOB = {
    "parallelism": int,
    "completions": int,
    "completionMode": str,
    "backoffLimit": int,
    "template": {"spec": POD},
}
JOBSET = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str, **PERHAPS},
    "spec": {
        "failurePolicy": {"maxRestarts": int},
        "network": {"enableDNSHostnames": bool, "subdomain": str},
        "replicatedJobs": [{"name": str, "replicas": int, "template": {"spec": JOB}}],
    },
}


def fits(value, fields, where="jobset"):
    """See that a manifest has no field that the definition has not."""
    if isinstance(fields, dict):
        assert isinstance(value, dict), where
        assert set(value) <= set(fields), f"{where}: {set(value) - set(fields)}"
        for name, part in value.items():
            fits(part, fields[name], f"{where}.{name}")
    elif isinstance(fields, list):
        assert isinstance(value, list), where
        for part in value:
            fits(part, fields[0], where)
    elif fields is not True:
        assert type(value) is fields, f"{where}: {value!r}"


def printed(*options: str) -> tuple[dict, dict]:
    """A manifest, read as YAML, and its pod."""
    command = [sys.executable, LAUNCH / "jobset.py", "--name=mine", "--image=image:1"]
    command += ["--claim=disk", *options, "--", "--config=fragility", "--config.seeds=(0,1)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = yaml.safe_load(done.stdout)
    fits(found, JOBSET)
    assert (found["apiVersion"], found["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    [job] = found["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["command"] == ["jaxattack", "--config=fragility", "--config.seeds=(0,1)"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    return found, pod


@pytest.mark.parametrize(
    ("topology", "chips", "hosts"), [("4x8", 4, 8), ("2x4", 8, 1), ("2x2x4", 4, 4)]
)
def test_a_tpu_slice_has_a_pod_for_each_host(topology, chips, hosts):
    given = f"--tpu=tpu-v5-lite-podslice --topology={topology} --chips={chips}".split()
    found, pod = printed(*given)
    job = found["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["parallelism"] == job["completions"] == hosts
    assert job["completionMode"] == "Indexed"
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": topology,
    }
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": chips}
    switch = [{"name": "JAXATTACK_DISTRIBUTED", "value": "1"}]
    assert pod["containers"][0]["env"] == (switch if hosts > 1 else [])


def test_nodes_with_gpus_join_at_the_first_pods_name(monkeypatch):
    from jaxattack import distributed

    found, pod = printed("--gpu=nvidia-h100-80gb", "--chips=8", "--hosts=3", "--account=runner")
    assert pod["serviceAccountName"] == "runner"
    job = found["spec"]["replicatedJobs"][0]
    first = f"{found['metadata']['name']}-{job['name']}-0-0.{found['spec']['network']['subdomain']}"
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    for variable in pod["containers"][0]["env"]:
        if "valueFrom" in variable:
            assert variable["valueFrom"]["fieldRef"]["fieldPath"] == index
        monkeypatch.setenv(variable["name"], variable.get("value", "2"))  # of the last pod
    joins, told = distributed.check_environment()
    assert joins
    assert told["coordinator_address"] == f"{first}:8476"
    assert (told["num_processes"], told["process_id"]) == (3, 2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--chips=4", "give --tpu with --topology, or --gpu with --hosts"),
        ("--chips=4 --tpu=a --gpu=b", "give --tpu with --topology, or --gpu with --hosts"),
        ("--chips=4 --tpu=a", "--topology is missing"),
        ("--chips=8 --gpu=a", "--hosts is missing"),
        ("--chips=8 --tpu=a --topology=2x2", "4 chips does not divide into hosts of 8"),
        ("--chips=0 --tpu=a --topology=4x8", "1 or more"),
        ("--chips=4 --tpu=a --topology=4xq", "such as 4x8"),
        ("--chips=4 --gpu=a --hosts=2 --name=Ü", "--name: a-z"),
        ("--chips=4 --gpu=a --hosts=2 --image=", "--image, --claim"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(options, says):
    command = [sys.executable, LAUNCH / "jobset.py", "--name=a", "--image=b", "--claim=c"]
    command += [*options.split(), "--", "--config=fragility"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert says in done.stderr


def test_what_is_to_be_started_can_be():
    for path in (*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.py")):
        assert path.stat().st_mode & stat.S_IXUSR, path
