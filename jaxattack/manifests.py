"""Workers as Kubernetes jobs and SkyPilot tasks: YAML that is printed, and applied by others.

Kubernetes numbers the pods of an indexed Job; Kueue lets it begin when there is room; a JobSet
holds it where whole clusters run JobSets.
"""

from __future__ import annotations

import pathlib
import re
import shlex
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from jaxattack import jobs
from jaxattack.errors import UserError

QUEUE = "kueue.x-k8s.io/queue-name"
INDEX = "batch.kubernetes.io/job-completion-index"
RETRIES = 3  # of each worker


def job(options: Namespace, arguments: Sequence[str]) -> str:
    """An indexed Job."""
    return _yaml(
        {"apiVersion": "batch/v1", "kind": "Job", **_queued(options, _job(options, arguments))}
    )


def kueue(options: Namespace, arguments: Sequence[str]) -> str:
    """An indexed Job that waits in a queue of Kueue."""
    if not options.queue:
        raise UserError("--print=kueue: name the queue, --queue=NAME")
    return job(options, arguments)


def jobset(options: Namespace, arguments: Sequence[str]) -> str:
    """A JobSet of one indexed Job; with `--queue` it waits in Kueue's."""
    workers = {"name": "workers", "replicas": 1, "template": {"spec": _job(options, arguments)}}
    found = _queued(options, {"replicatedJobs": [workers]})
    return _yaml({"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", **found})


def skypilot(options: Namespace, arguments: Sequence[str]) -> str:
    """A task on as many nodes as there are workers."""
    rank = "JAXATTACK_RANK_OF_NODE"  # a word that no quoting touches
    words = ["jaxattack", *jobs.numbered(arguments, rank, options.workers)]
    resources: dict[str, Any] = {"image_id": f"docker:{_image(options)}"}
    if options.accelerators:
        resources["accelerators"] = options.accelerators
    task: dict[str, Any] = {
        "name": options.name,
        "num_nodes": options.workers,
        "resources": resources,
        "run": shlex.join(words).replace(rank, "${SKYPILOT_NODE_RANK}") + "\n",
    }
    source, path = _volume(options)
    task["file_mounts"] = {path: {"source": source, "mode": "MOUNT"}}
    return _yaml(task)


PRINTERS: dict[str, Callable[[Namespace, Sequence[str]], str]] = {
    "job": job,
    "kueue": kueue,
    "jobset": jobset,
    "skypilot": skypilot,
}


def check_shared(options: Namespace, workdir: str, share: Any) -> None:
    """See that workers can settle who computes what, and that what they find outlives them.

    Raises:
        UserError: the work directory is on no volume that all of them mount, or on a bucket, where
            leases are no locks, without shares.
    """
    if not options.volume:
        raise UserError(f"--print={options.print}: name what workers share, --volume=NAME:/PATH")
    _, path = _volume(options)
    if not pathlib.PurePosixPath(workdir).is_relative_to(path):
        raise UserError(f"--workdir={workdir} is not on the volume, which is mounted at {path}")
    if options.print == "skypilot" and share is None:
        raise UserError("on a mounted bucket leases are no locks: add --share={index}/{workers}")


def _job(options: Namespace, arguments: Sequence[str]) -> dict[str, Any]:
    """What an indexed Job is to do: every index is a worker."""
    literal = [argument.replace("$(", "$$(") for argument in arguments]
    annotation = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}
    claim, path = _volume(options)
    container: dict[str, Any] = {
        "name": "worker",
        "image": _image(options),
        "command": ["jaxattack"],
        "args": jobs.numbered(literal, "$(JOB_COMPLETION_INDEX)", options.workers),
        "env": [{"name": "JOB_COMPLETION_INDEX", "valueFrom": annotation}],
        "volumeMounts": [{"name": "shared", "mountPath": path}],
    }
    if options.gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": options.gpus}}
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "shared", "persistentVolumeClaim": {"claimName": claim}}],
    }
    return {
        "completionMode": "Indexed",
        "completions": options.workers,
        "parallelism": options.workers,
        "backoffLimit": RETRIES * options.workers,
        "template": {"spec": pod},
    }


def _queued(options: Namespace, spec: dict[str, Any]) -> dict[str, Any]:
    """Name and specification; in a queue it is suspended, and begins when Kueue says so."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?", options.name):
        raise UserError(f"--name={options.name}: small letters, digits and hyphens, at most 52")
    if not options.queue:
        return {"metadata": {"name": options.name}, "spec": spec}
    labels = {QUEUE: options.queue}
    return {"metadata": {"name": options.name, "labels": labels}, "spec": {"suspend": True, **spec}}


def _image(options: Namespace) -> str:
    if not options.image:
        raise UserError(f"--print={options.print}: name a container with jaxattack, --image=NAME")
    return options.image


def _volume(options: Namespace) -> tuple[str, str]:
    source, _, path = options.volume.rpartition(":")
    if not source or not path.startswith("/"):
        raise UserError(f"--volume={options.volume}: write NAME:/PATH")
    return source, path


def _yaml(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=100)
