"""Manifests against Kubernetes' own schemas, made strict; kubectl's part against a stand-in."""

import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from launch import job
from launch.gke import Gke
from launch.job import JobSpec
from research.errors import UserError

SPEC = JobSpec(
    "lm-0a1b",
    ("-m", "launch.run", "--group"),
    accelerator="v5p",
    topology="2x2x2",
    hosts=2,
    slices=2,
    image="registry/isoflop:1",
    timeout=90,
    restarts=4,
    array=("a", "b"),
)


def keys(required: str, **properties) -> dict:
    """A schema of an object that has these keys and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


# What we use of jobset.x-k8s.io/v1alpha2, after the resource definition of JobSet v0.9; the Job
# inside has a schema of its own.
WORD, NUMBER = {"type": "string"}, {"type": "integer", "minimum": 0}
ACTION = {
    "enum": [
        *("FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"),
        *("RestartJob", "RestartJobAndIgnoreMaxRestarts"),
    ]
}
NAMES = {"type": "object", "additionalProperties": WORD}
RULE = keys(
    "action name",
    action=ACTION,
    name={"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
    onJobFailureReasons={
        "type": "array",
        "items": {"enum": ["PodFailurePolicy", "DeadlineExceeded", "BackoffLimitExceeded"]},
    },
)
POLICY = keys("maxRestarts", maxRestarts=NUMBER, rules={"type": "array", "items": RULE})
REPLICATED = keys(
    "name template", name=WORD, replicas=NUMBER, template=keys("spec", spec={"type": "object"})
)
JOBSET = keys(
    "apiVersion kind metadata spec",
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata=keys("name", name=WORD, namespace=WORD, labels=NAMES, annotations=NAMES),
    spec=keys(
        "replicatedJobs",
        failurePolicy=POLICY,
        replicatedJobs={"type": "array", "items": REPLICATED, "minItems": 1},
    ),
)


def check(manifest: dict) -> None:
    jsonschema.validate(manifest, JOBSET)
    for replicated in manifest["spec"]["replicatedJobs"]:
        one = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "one"}}
        kubernetes_validate.validate(one | replicated["template"], "1.30", strict=True)


@pytest.mark.parametrize(
    "backend", [Gke(), Gke("tpus", "lab", spot=True, service_account="runner")]
)
def test_manifests_are_valid(backend):
    documents = list(yaml.safe_load_all(backend.render(SPEC)))
    assert [each["metadata"]["name"] for each in documents] == ["lm-0a1b-0", "lm-0a1b-1"]
    for document in documents:
        check(document)


@pytest.mark.parametrize(
    "path",
    [
        "spec failurePolicy",
        "spec replicatedJobs 0",
        "spec replicatedJobs 0 template spec",
        "spec replicatedJobs 0 template spec podFailurePolicy rules 0 onExitCodes",
        "spec replicatedJobs 0 template spec template spec",
        "spec replicatedJobs 0 template spec template spec containers 0",
    ],
)
def test_a_word_that_kubernetes_does_not_know_is_found(path):
    manifest = Gke().manifest(SPEC, 0)
    place: Any = manifest
    for word in path.split():
        place = place[int(word) if word.isdigit() else word]
    place["nosuch"] = 1
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check(manifest)


def test_slices_machines_and_chips():
    """2 slices of 2x2x2 v5p are 2 x 2 pods of 4 chips."""
    (replicated,) = Gke().manifest(SPEC, 1)["spec"]["replicatedJobs"]
    one = replicated["template"]["spec"]
    pod = one["template"]["spec"]
    assert (replicated["replicas"], one["completions"], one["parallelism"]) == (2, 2, 2)
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": 4}
    assert pod["containers"][0]["command"] == ["python", "-m", "launch.run", "--group", "b"]
    assert one["activeDeadlineSeconds"] == 90 * 60


def test_the_longest_names_stay_below_kubernetes_limit():
    """A pod is called JOBSET-slice-<slice>-<host>-<five letters>, of 63 letters at most."""
    name = job.label("x" * 100, "0a1b")
    spec = JobSpec(**{**SPEC.__dict__, "name": name, "array": tuple(map(str, range(1000)))})
    assert len(f"{spec.element(999)}-slice-99-999-abcde") <= 63


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": ""}, "--image is missing"),
        ({"accelerator": "h100", "topology": "8"}, "--topology h100: not a TPU"),
        ({"topology": "2x2x1", "hosts": 1}, "GKE joins slices of several machines only"),
    ],
)
def test_what_it_has_not(changes, message):
    with pytest.raises(UserError, match=message):
        Gke().check(JobSpec(**{**SPEC.__dict__, **changes}))


KUBECTL = """\
import json, sys
from pathlib import Path

folder = Path(__file__).parent
words = [word for word in sys.argv[1:]]
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps(words) + "\\n")
if "create" in words:
    (folder / "created").write_text(sys.stdin.read())
elif "get" in words:
    print((folder / "answer").read_text())
elif "logs" in words:
    print("said so")
elif "nosuch" in words:
    sys.exit('Error from server: no such thing\\n')
"""


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    """A stand-in for kubectl, in the folder where it notes what it was asked."""
    (tmp_path / "kubectl.py").write_text(KUBECTL)
    script = tmp_path / "kubectl"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/kubectl.py "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_values_of_variables_go_as_secrets(kubectl):
    """Over stdin; what is shown has none, and their Secrets go with the JobSets."""
    env = {"TOKEN": "hunter2", "SEED": "1e3", "YES": "y"}
    spec = dataclasses.replace(SPEC, env=tuple(env))
    backend = Gke()
    backend.submit(spec, env)
    documents = list(yaml.safe_load_all((kubectl / "created").read_text()))
    secrets = [each for each in documents if each["kind"] == "Secret"]
    for secret in secrets:
        kubernetes_validate.validate(secret, "1.30", strict=True)
        assert secret["stringData"] == env
    text = (kubectl / "created").read_text()
    assert "SEED: '1e3'" in text and "'YES': 'y'" in text  # kubectl reads a number and a truth
    assert [each["metadata"]["name"] for each in secrets] == ["lm-0a1b-0", "lm-0a1b-1"]
    for jobset in documents[len(secrets) :]:
        check(jobset)
        (replicated,) = jobset["spec"]["replicatedJobs"]
        (container,) = replicated["template"]["spec"]["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": jobset["metadata"]["name"]}}]
    assert "hunter" not in backend.render(spec) + (kubectl / "calls").read_text()


def test_submitting(kubectl):
    backend = Gke(namespace="lab", context="pods")
    assert backend.submit(SPEC, {}) == ["lm-0a1b-0", "lm-0a1b-1"]
    assert (kubectl / "created").read_text() == backend.render(SPEC)
    assert backend.logs("lm-0a1b-0") == "said so\n"
    backend.cancel(["lm-0a1b-0"])
    with pytest.raises(UserError, match="kubectl delete: Error from server: no such thing"):
        backend.cancel(["nosuch"])
    asked = [json.loads(line) for line in (kubectl / "calls").read_text().splitlines()]
    assert all(words[:2] == ["--context=pods", "--namespace=lab"] for words in asked)
    assert asked[1][3:] == [
        "--selector=batch.kubernetes.io/job-name=lm-0a1b-0-slice-0,"
        "batch.kubernetes.io/job-completion-index=0",
        "--tail=-1",
    ]


def test_states(kubectl):
    def jobset(name, conditions, active=0, restarts=0):
        holds = [{"type": each, "status": "True"} for each in conditions]
        gone = [{"type": "Suspended", "status": "False"}] if active else []
        status = {
            "conditions": gone + holds,
            "replicatedJobsStatus": [{"name": "slice", "active": active}],
        }
        status |= {"restarts": restarts} if restarts else {}
        return {"metadata": {"name": name}, "status": status}

    items = [
        jobset("queued", ["Suspended"]),
        jobset("starting", []),
        jobset("runs", [], active=2, restarts=3),
        jobset("done", ["Completed"]),
        jobset("broken", ["Failed"], restarts=4),
        jobset("another", []),
        {"metadata": {"name": "new"}},
    ]
    (kubectl / "answer").write_text(json.dumps({"items": items}))
    names = ["queued", "starting", "runs", "done", "broken", "new", "gone"]
    assert Gke().states(names) == {
        "queued": (job.WAITING, ""),
        "starting": (job.WAITING, ""),
        "runs": (job.RUNNING, "restarts 3"),
        "done": (job.FINISHED, ""),
        "broken": (job.FAILED, "restarts 4"),
        "new": (job.WAITING, ""),
    }


def test_kubectl_itself_knows_the_options(tmp_path):
    """Where the real one is: it has no cluster, and says so only once it has read its options."""
    found = [
        path for path in os.environ["PATH"].split(":") if os.access(f"{path}/kubectl", os.X_OK)
    ]
    if not found:
        pytest.skip("no kubectl here to parse its options")
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path)}
    for words in (
        ["create", "--filename=-"],
        ["get", "jobsets", "--output=json"],
        ["logs", "--selector=a=b,c=d", "--tail=-1"],
        ["delete", "jobsets,secrets", "--ignore-not-found", "--wait=false", "one"],
    ):
        done = subprocess.run(
            ["kubectl", "--namespace=lab", *words], env=environment, input=Gke().render(SPEC),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1 and "unknown" not in done.stderr, done.stderr
        assert "localhost:8080" in done.stderr or "refused" in done.stderr, done.stderr
