"""Workers that a cluster runs: submitted by submitit, or printed."""

import json
import shlex
import subprocess
import sys

import pytest
import yaml

from jaxattack import cluster

ARGUMENTS = ["--config=quickstart", "--workdir=/data/mine", "--config.seeds=(0, 1)"]


def printed(capsys, *flags, behind=()):
    code = cluster.run(["jaxattack-cluster", *flags, "--", *ARGUMENTS, *behind])
    out, error = capsys.readouterr()
    assert code == 0, error
    return yaml.safe_load(out)


def check_job(spec, workers):
    """An indexed Job, every index of it a worker."""
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == workers
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    assert container["image"] == "registry/jaxattack:1"
    assert container["command"] == ["jaxattack"]
    (index,) = container["env"]
    assert index["name"] == "JOB_COMPLETION_INDEX"
    assert "batch.kubernetes.io/job-completion-index" in json.dumps(index["valueFrom"])
    return container


IMAGE, SHARED = "--image=registry/jaxattack:1", "--volume=pvc:/data"


def test_a_job_of_kueue(capsys):
    flags = ("--print=kueue", "--workers=5", IMAGE, "--queue=lab", "--gpus=2", SHARED)
    found = printed(capsys, *flags)
    assert (found["apiVersion"], found["kind"]) == ("batch/v1", "Job")
    assert found["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "lab"}
    assert found["spec"]["suspend"] is True
    container = check_job(found["spec"], 5)
    assert container["args"] == ARGUMENTS
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 2}}
    (volume,) = found["spec"]["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"] == {"claimName": "pvc"}
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/data"}]


def test_a_jobset_and_shares(capsys):
    behind = ["--share={index}/{workers}", "--config.data.pairs=jsonl:$(HOME)/x"]
    found = printed(capsys, "--print=jobset", "--workers=3", IMAGE, SHARED, behind=behind)
    assert (found["apiVersion"], found["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert "labels" not in found["metadata"]
    (workers,) = found["spec"]["replicatedJobs"]
    assert workers["replicas"] == 1
    container = check_job(workers["template"]["spec"], 3)
    assert container["args"][-2:] == [
        "--share=$(JOB_COMPLETION_INDEX)/3",
        "--config.data.pairs=jsonl:$$(HOME)/x",  # as it was written: Kubernetes fills in no other
    ]


def test_a_task_of_skypilot(capsys):
    flags = ("--print=skypilot", "--workers=4", IMAGE, "--accelerators=H100:1")
    found = printed(
        capsys, *flags, "--volume=s3://mine:/data", behind=["--share={index}/{workers}"]
    )
    assert found["num_nodes"] == 4
    assert found["resources"] == {
        "image_id": "docker:registry/jaxattack:1",
        "accelerators": "H100:1",
    }
    assert found["file_mounts"] == {"/data": {"source": "s3://mine", "mode": "MOUNT"}}
    line = f"SKYPILOT_NODE_RANK=2; for one in {found['run'].strip()}; do echo $one; done"
    said = subprocess.run(["sh", "-c", f"set -f; IFS=; {line}"], capture_output=True, text=True)
    assert said.stdout.splitlines() == ["jaxattack", *ARGUMENTS, "--share=2/4"]
    assert shlex.split(found["run"])[0] == "jaxattack"


@pytest.mark.parametrize("share", ["0/2", "{index}/3", "1/{workers}"])
def test_a_share_without_a_worker_is_a_line(capsys, share):
    command = ["jaxattack-cluster", "--workers=2", "--", *ARGUMENTS, f"--share={share}"]
    assert cluster.run(command) == 2
    assert "every share needs its worker" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--print=kueue", "--workers=2", IMAGE, SHARED], "--print=kueue: name the queue"),
        (["--print=job", "--workers=2", SHARED], "name a container with jaxattack, --image=NAME"),
        (["--print=job", "--workers=2", IMAGE, "--volume=x"], "--volume=x: write NAME:/PATH"),
        (["--print=job", "--workers=2", IMAGE, SHARED, "--name=A_b"], "--name=A_b: small letters"),
        (["--print=job", "--workers=2", IMAGE], "name what workers share, --volume=NAME:/PATH"),
        (["--print=job", "--workers=2", IMAGE, "--volume=x:/other"], "is not on the volume"),
        (["--print=skypilot", "--workers=2", IMAGE, SHARED], "leases are no locks: add --share"),
        (["--print=job", "--workers=2", IMAGE, "--slurm.x=1"], "--slurm.NAME goes with"),
        (["--workers=0"], "--workers=0: between 1 and"),
        (["--workers=two"], "invalid int value: 'two'; see jaxattack-cluster --help"),
        ([], "the following arguments are required: --workers"),
        (["--workers=2", "--slurm.partition"], "--slurm.partition has no value"),
        (["--workers=2", "--slurm.partition=x"], "goes with --executor=slurm"),
    ],
)
def test_what_cannot_be_is_a_line(capsys, flags, says):
    assert cluster.run(["jaxattack-cluster", *flags, "--", *ARGUMENTS]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("behind", [[], ["--workdir=x"], ["--config=x", "--workdir=x", "--nope"]])
def test_what_jaxattack_would_refuse_is_not_submitted(capsys, behind):
    assert cluster.run(["jaxattack-cluster", "--workers=2", "--", *behind]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- Submitted ----------------------------------------------------------------------------------


@pytest.fixture
def submitted(tmp_path):
    """A function from flags to what a process says that submits workers: shell lines."""
    pytest.importorskip("submitit")

    def submit(lines, *flags):
        worker = tmp_path / "worker"
        worker.write_text(f"#!/bin/sh\n{lines}\n")
        worker.chmod(0o755)
        script = (
            "import sys\nfrom jaxattack import cluster, jobs\n"
            f"jobs.command = lambda arguments: [{str(worker)!r}, *arguments]\n"
            "sys.exit(cluster.run(sys.argv))"
        )
        behind = ["--config=quickstart", f"--workdir={tmp_path}", "--share={index}/{workers}"]
        words = [sys.executable, "-c", script, *flags, "--", "jaxattack", *behind]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    return submit


@pytest.mark.parametrize("executor", ["debug", "local"])
def test_workers_are_submitted_and_waited_for(tmp_path, submitted, executor):
    done = submitted(
        'echo "$@" >> $(dirname $0)/said', f"--executor={executor}", "--workers=2", "--wait"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["job", "job", "2"]
    assert lines[-1] == "2 of 2 workers came to the end"
    assert sorted((tmp_path / "said").read_text().splitlines()) == [
        f"--config=quickstart --workdir={tmp_path} --share={number}/2" for number in (0, 1)
    ]
    for line in lines[:-1]:
        assert str(tmp_path / "logs") in line


def test_workers_that_fail_are_named(submitted):
    flags = ("--executor=local", "--workers=2", "--wait")
    done = submitted("case $3 in *=1/2) echo no disk >&2; exit 2;; esac", *flags)
    assert done.returncode == 0, done.stderr  # the other one finished the study
    assert done.stdout.splitlines()[-1] == "1 of 2 workers came to the end"
    assert done.stderr.count(" failed:\n") == 1
    assert "  no disk" in done.stderr
    done = submitted("exit 2", *flags)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "0 of 2 workers came to the end"
