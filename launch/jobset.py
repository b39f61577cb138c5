#!/usr/bin/env python3
"""Prints a JobSet for Kubernetes: one pod for each host of a TPU slice, or of several GPU nodes.

    launch/jobset.py --name=mine --image=IMAGE --claim=filestore --tpu=tpu-v5-lite-podslice \\
        --topology=4x8 --chips=4 -- --config=fragility --workdir=/shared/x ... | kubectl apply -f -
    launch/jobset.py --name=mine --image=IMAGE --claim=filestore --gpu=nvidia-h100-80gb --chips=8 \\
        --hosts=2 -- --config=fragility --workdir=/shared/x ... | kubectl apply -f -

The image has jaxattack installed (`pip install "jaxattack[tpu,gcs]"`). The claim is of a disk that
many pods may write, with renames that happen at once, such as Filestore; it is mounted at /shared.
The cluster needs the JobSet controller, which restarts all pods when one is lost: the run goes on
from its finished steps.
"""

import argparse
import json
import math
import re
import sys
from typing import Any

PORT = 8476  # of the first pod, where the others join


def main(arguments: list[str]) -> None:
    """Print the manifest; JSON is YAML."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", required=True, help="of the JobSet: a-z, 0-9, -")
    parser.add_argument("--image", required=True, help="of the container")
    parser.add_argument(
        "--claim", required=True, help="PersistentVolumeClaim, for work directories"
    )
    parser.add_argument("--tpu", help="cloud.google.com/gke-tpu-accelerator of the nodes")
    parser.add_argument("--topology", help="of the TPU slice, such as 4x8; says how many hosts")
    parser.add_argument("--gpu", help="cloud.google.com/gke-accelerator of the nodes")
    parser.add_argument("--hosts", type=int, help="how many nodes with GPUs")
    parser.add_argument("--chips", type=int, required=True, help="TPU chips, or GPUs, of one node")
    parser.add_argument("--account", help="service account of the pods, for a mirror in a bucket")
    parser.add_argument("command", nargs="*", help="flags of jaxattack, after --")
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", options.name):
        parser.error("--name: a-z, 0-9 and -, at most 40 of them, the first a letter")
    if not (options.image.strip() and options.claim.strip() and options.command):
        parser.error("--image, --claim, or the flags of jaxattack behind -- are missing")
    if options.chips < 1 or (options.hosts is not None and options.hosts < 1):
        parser.error("--chips and --hosts: 1 or more")
    if options.topology and not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", options.topology):
        parser.error("--topology: such as 4x8 or 2x2x4")
    if bool(options.tpu) == bool(options.gpu):
        parser.error("give --tpu with --topology, or --gpu with --hosts")
    if not (options.topology if options.tpu else options.hosts):
        parser.error("--topology is missing" if options.tpu else "--hosts is missing")
    if options.tpu:
        chips = math.prod(int(side) for side in options.topology.split("x"))
        if chips % options.chips:
            parser.error(f"a slice of {chips} chips does not divide into hosts of {options.chips}")
        options.hosts = chips // options.chips
    print(json.dumps(jobset(options), indent=2))


def jobset(options: argparse.Namespace) -> dict[str, Any]:
    """The manifest: one job, a pod with an index for each host, a headless service for them."""
    annotations = {}
    if options.tpu:  # all pods on one slice
        annotations["alpha.jobset.sigs.k8s.io/exclusive-topology"] = "cloud.google.com/gke-nodepool"
    job = {
        "parallelism": options.hosts,
        "completions": options.hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # a pod alone cannot come back to the others
        "template": {"spec": pod(options)},
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": options.name, "annotations": annotations},
        "spec": {
            "failurePolicy": {"maxRestarts": 20},
            "network": {"enableDNSHostnames": True, "subdomain": options.name},
            "replicatedJobs": [{"name": "hosts", "replicas": 1, "template": {"spec": job}}],
        },
    }


def pod(options: argparse.Namespace) -> dict[str, Any]:
    """One process, with all the chips of its host."""
    nodes = {"cloud.google.com/gke-accelerator": options.gpu}
    if options.tpu:
        nodes = {
            "cloud.google.com/gke-tpu-accelerator": options.tpu,
            "cloud.google.com/gke-tpu-topology": options.topology,
        }
    chips = {"google.com/tpu" if options.tpu else "nvidia.com/gpu": options.chips}
    container = {
        "name": "jaxattack",
        "image": options.image,
        "command": ["jaxattack", *options.command],
        "env": joining(options) if options.hosts > 1 else [],
        "resources": {"requests": chips, "limits": chips},
        "volumeMounts": [
            {"name": "work", "mountPath": "/shared"},
            {"name": "memory", "mountPath": "/dev/shm"},  # exchanges between GPUs of a node
        ],
    }
    account = {"serviceAccountName": options.account} if options.account else {}
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 120,
        "nodeSelector": nodes,
        **account,
        "containers": [container],
        "volumes": [
            {"name": "work", "persistentVolumeClaim": {"claimName": options.claim}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
        ],
    }


def joining(options: argparse.Namespace) -> list[dict[str, Any]]:
    """How processes find each other: on TPUs jax knows, else by the name of the first pod."""
    switch = {"name": "JAXATTACK_DISTRIBUTED", "value": "1"}
    if options.tpu:
        return [switch]
    first = f"{options.name}-hosts-0-0.{options.name}:{PORT}"
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    return [
        switch,
        {"name": "JAXATTACK_COORDINATOR", "value": first},
        {"name": "JAXATTACK_PROCESSES", "value": str(options.hosts)},
        {"name": "JAXATTACK_PROCESS", "valueFrom": {"fieldRef": {"fieldPath": index}}},
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
