"""Google Kubernetes Engine: a JobSet for each element, queued by Kueue.

A JobSet has a Job for each slice and a pod for each machine; GKE tells the pods who they are
(TPU_WORKER_ID, TPU_WORKER_HOSTNAMES, MEGASCALE_*). Training is synchronous, so when one pod ends
badly all of them start again. A pod that leaves with `AGAIN`, or is taken away with its machine,
does so for free; other failures count. A time limit ends the element.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml

from launch import job, tpu, variables
from launch.job import Backend, JobSpec, call, option
from research.errors import AGAIN, UserError

NAME_LABEL = "app.kubernetes.io/name"
SET_LABEL = "app.kubernetes.io/part-of"
SLICE = "slice"  # the replicated job; its pods are NAME-slice-<slice>-<host>-<random>
# A slice of several machines is a node pool, which it has to itself.
EXCLUSIVE = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
# libtpu's own, and those by which slices find each other.
PORTS = (8471, 8080)


@dataclass(frozen=True)
class Gke(Backend):
    """The cluster that kubectl talks to; it has JobSet (0.9 or newer) and Kueue."""

    ID: ClassVar[job.Form] = job.Form(rf"({job.NAME.pattern})-\d+", "the name of a JobSet")

    queue: str = option(
        "", "Kueue's LocalQueue; by default none, and Kubernetes alone decides", job.LABEL
    )
    namespace: str = option("default", "namespace of the cluster", job.LABEL)
    context: str = option("", "kubectl's context; by default the current one", job.ADDRESS)
    spot: bool = option(False, "on spot machines, cheaper and taken away at will")
    grace: int = option(120, "seconds a pod has to save its state")
    service_account: str = option(
        "", "service account of the cluster that may use the bucket", job.LABEL
    )

    def check(self, spec: JobSpec) -> None:
        """Raise UserError unless there are an image, and a slice that GKE has."""
        if not spec.image:
            raise UserError(
                "--image is missing: the container that holds this code (launch/README.md)"
            )
        tpu.kind(spec.accelerator)
        if spec.slices > 1 and spec.hosts == 1:
            raise UserError(
                f"--slices {spec.slices}: GKE joins slices of several machines only; "
                f"{spec.accelerator}:{spec.topology} is one machine"
            )

    def render(self, spec: JobSpec) -> str:
        """Return the manifests, a YAML document for each element and each one's variables."""
        return self._documents(spec, dict.fromkeys(spec.env, variables.MASK))

    def submit(self, spec: JobSpec, env: Mapping[str, str]) -> list[str]:
        """Create the JobSets; return their names. Values of variables go as Secrets, over stdin."""
        self._kubectl("create", "--filename=-", input=self._documents(spec, env))
        return [spec.element(index) for index in range(len(spec.array))]

    def _documents(self, spec: JobSpec, env: Mapping[str, str]) -> str:
        every = range(len(spec.array))
        secrets = [self.secret(spec, index, env) for index in every] if env else []
        documents = [*secrets, *(self.manifest(spec, index) for index in every)]
        return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=100)

    def states(self, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return {name: (state, restarts)} of the JobSets that are there."""
        found = json.loads(self._kubectl("get", "jobsets", "--output=json"))["items"]
        by_name = {each["metadata"]["name"]: each for each in found}
        return {id: _state(by_name[id]) for id in ids if id in by_name}

    def logs(self, id: str) -> str:
        """Return what the first pod of the first slice printed."""
        first = f"batch.kubernetes.io/job-name={id}-{SLICE}-0"
        selector = f"--selector={first},batch.kubernetes.io/job-completion-index=0"
        return self._kubectl("logs", selector, "--tail=-1")

    def cancel(self, ids: Sequence[str]) -> None:
        """Delete the JobSets, all they run, and the Secrets that hold their variables."""
        self._kubectl("delete", "jobsets,secrets", "--ignore-not-found", "--wait=false", *ids)

    def secret(self, spec: JobSpec, index: int, env: Mapping[str, str]) -> dict[str, Any]:
        """Return the Secret with the variables of element `index`, of the same name as it."""
        about = {"name": spec.element(index), "namespace": self.namespace}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": about, "stringData": dict(env)}

    def manifest(self, spec: JobSpec, index: int) -> dict[str, Any]:
        """Return the JobSet of element `index` (jobset.x-k8s.io/v1alpha2)."""
        name = spec.element(index)
        labels = {NAME_LABEL: name, SET_LABEL: spec.name}
        again = {"containerName": "train", "operator": "In", "values": [AGAIN]}
        taken = [{"type": "DisruptionTarget", "status": "True"}]  # with its machine
        one_slice = {
            "parallelism": spec.hosts,
            "completions": spec.hosts,
            "completionMode": "Indexed",
            "backoffLimit": 0,
            "podFailurePolicy": {
                "rules": [
                    {"action": "FailJob", "onExitCodes": again},
                    {"action": "FailJob", "onPodConditions": taken},
                ]
            },
            "template": {"metadata": {"labels": labels}, "spec": self._pod(spec, index)},
        }
        if spec.timeout:
            one_slice["activeDeadlineSeconds"] = spec.timeout * 60
        queue = {"kueue.x-k8s.io/queue-name": self.queue} if self.queue else {}
        return {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": {**labels, **queue},
                **({"annotations": EXCLUSIVE} if spec.hosts > 1 else {}),
            },
            "spec": {
                "failurePolicy": {
                    "maxRestarts": spec.restarts,
                    "rules": [
                        _rule("again", "RestartJobSetAndIgnoreMaxRestarts", "PodFailurePolicy"),
                        _rule("timeout", "FailJobSet", "DeadlineExceeded"),
                    ],
                },
                "replicatedJobs": [
                    {"name": SLICE, "replicas": spec.slices, "template": {"spec": one_slice}}
                ],
            },
        }

    def _pod(self, spec: JobSpec, index: int) -> dict[str, Any]:
        chips = tpu.chips_a_host(spec.accelerator, spec.topology)
        spot = {"cloud.google.com/gke-spot": "true"} if self.spot else {}
        account = {"serviceAccountName": self.service_account} if self.service_account else {}
        source = {"secretRef": {"name": spec.element(index)}}
        return {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": self.grace,
            **account,
            # The machine's own network: the slow one between slices is faster so.
            "hostNetwork": True,
            "dnsPolicy": "ClusterFirstWithHostNet",
            "nodeSelector": {
                "cloud.google.com/gke-tpu-accelerator": tpu.kind(spec.accelerator).label,
                "cloud.google.com/gke-tpu-topology": spec.topology,
                **spot,
            },
            "containers": [
                {
                    "name": "train",
                    "image": spec.image,
                    # Kubernetes reads $(NAME) as a variable's value, and $$ as $.
                    "command": [w.replace("$", "$$") for w in ("python", *spec.command(index))],
                    **({"envFrom": [source]} if spec.env else {}),
                    "ports": [{"containerPort": port} for port in PORTS],
                    "securityContext": {"privileged": True},  # libtpu locks memory
                    "resources": {
                        kind: {"google.com/tpu": chips} for kind in ("requests", "limits")
                    },
                }
            ],
        }

    def _kubectl(self, *words: str, input: str | None = None) -> str:
        context = [f"--context={self.context}"] if self.context else []
        return call("kubectl", *context, f"--namespace={self.namespace}", *words, input=input)


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that kubectl, unlike PyYAML, takes for numbers or truth values: 1e3, y."""


def _text(dumper: _Dumper, text: str) -> yaml.Node:
    style = "'" if re.match(r"[-+.]?\d|[yYnN]$", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _rule(name: str, action: str, reason: str) -> dict[str, Any]:
    return {"name": name, "action": action, "onJobFailureReasons": [reason]}


def _state(found: dict[str, Any]) -> tuple[str, str]:
    """What a JobSet's status says: the newest condition that holds."""
    status = found.get("status", {})
    holds = {each["type"] for each in status.get("conditions", []) if each["status"] == "True"}
    where = f"restarts {status['restarts']}" if status.get("restarts") else ""
    if "Completed" in holds:
        return job.FINISHED, where
    if "Failed" in holds:
        return job.FAILED, where
    active = any(each.get("active") for each in status.get("replicatedJobsStatus", []))
    return (job.RUNNING if active and "Suspended" not in holds else job.WAITING), where
