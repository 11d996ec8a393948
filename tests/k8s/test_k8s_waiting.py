"""Why a pod doesn't run yet, in the words of a real Kubernetes 1.34, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from qwex_jupyter.model.status import Reason, RunStatus, Snapshot, StopCause
from qwex_jupyter.model.verdict import conclude
from qwex_jupyter.runners.k8s import objects, state
from qwex_jupyter.runners.k8s import waiting as k8s_waiting
from qwex_jupyter.runners.k8s.seen import Seen
from qwex_jupyter.runners.k8s.waiting import Event

NOW = 1_795_500_100.0
AT = "2026-11-24T06:00:%02dZ"
JOB: dict[str, Any] = {"metadata": {"name": "qwex-r", "uid": "j"}, "spec": {}, "status": {}}


def pod(*, image: str = "nope:1", waiting: dict[str, Any] | None = None, **more: Any) -> Any:
    """A pod that waits; its node took it 100 s ago."""
    statuses = [{"name": "main", "state": {"waiting": waiting}}] if waiting else []
    return objects.kept_pod(
        {
            "metadata": {"name": "qwex-r-x1", "uid": "p", "creationTimestamp": AT % 0},
            "spec": {"containers": [{"name": "main", "image": image}], **more.pop("spec", {})},
            "status": {
                "phase": "Pending",
                "startTime": AT % 0,
                "containerStatuses": statuses,
                **more,
            },
        }
    )


def event(reason: str, message: str = "", second: int = 0, *, about: str = "qwex-r-x1") -> Event:
    """An event, a warning unless all is well."""
    fine = reason in ("Pulling", "Pulled", "Scheduled", "BackOff")
    found = {
        "involvedObject": {"name": about},
        "reason": reason,
        "message": message,
        "type": "Normal" if fine else "Warning",
        "lastTimestamp": AT % second,
    }
    return Event.of(found)


def seen(pod: Any, *events: Event, job: Any = JOB, patient: bool = False) -> Snapshot:
    """What is said of a run that waits."""
    there = Seen(job, pod, int(pod is not None), events)
    return state.snapshot(there, None, NOW, lambda: patient)


def is_sentence(text: str) -> None:
    """A sentence with one full stop, that begins like one unless it begins with a name."""
    assert text.endswith(".")
    assert not text.endswith("..")
    assert ".;" not in text and "  " not in text and "{" not in text.replace("{disk", "")
    first = text.split()[0]
    assert first[0].isupper() or not first.isalpha()


def final(found: Snapshot) -> str:
    """The last word on a run that was given up."""
    assert found.never_starts is not None
    stop = {
        "why": str(StopCause.NEVER_STARTS),
        "reason": str(found.never_starts.reason),
        "detail": found.never_starts.detail,
    }
    ended = conclude(state.End(after_stop=True), stop, {"handle": "k3x9qd"})
    assert (ended.status, ended.reason) == (RunStatus.FAILED, found.reason)
    assert ended.message == found.message
    return ended.message


PULL = 'failed to pull and unpack image "docker.io/library/nope:1": '
RESOLVE = PULL + 'failed to resolve reference "docker.io/library/nope:1": '
HEAD = RESOLVE + 'failed to do request: Head "https://registry-1.docker.io/v2/library/nope": '
DENIED = (
    "pull access denied, repository does not exist or may require authorization: server message: "
    "insufficient_scope: authorization failed"
)
NO_ACCESS = (
    "The cluster has no access to nope:1, or it doesn't exist: check its name, or name the Secret "
    "with the login, --pull-secret NAME."
)

CONTAINER = [
    (
        "InvalidImageName",
        (
            'Failed to apply default image tag "nope:1": couldn\'t parse image name "nope:1": '
            "invalid reference format"
        ),
        Reason.IMAGE_NOT_FOUND,
        "nope:1 isn't the name of an image.",
        True,
    ),
    (
        "ErrImageNeverPull",
        'Container image "nope:1" is not present with pull policy of Never',
        Reason.IMAGE_NOT_FOUND,
        "The node doesn't have nope:1, and --pull=never forbids to get it.",
        True,
    ),
    (
        "ImagePullBackOff",
        RESOLVE + "docker.io/library/nope:1: not found",
        Reason.IMAGE_NOT_FOUND,
        "There is no image nope:1: check its name and tag.",
        True,
    ),
    ("ImagePullBackOff", RESOLVE + DENIED, Reason.IMAGE_PULL_FAILED, NO_ACCESS, True),
    (
        "ImagePullBackOff",
        RESOLVE + "unexpected status from HEAD request to https://ghcr.io/v2/: 403 Forbidden",
        Reason.IMAGE_PULL_FAILED,
        NO_ACCESS,
        True,
    ),
    (
        "ErrImagePull",
        HEAD + "dial tcp: lookup registry-1.docker.io on 10.255.255.53:53: no such host",
        Reason.IMAGE_PULL_FAILED,
        (
            "nope:1 can't be pulled yet: the node finds no host docker.io. Check its name; "
            "Kubernetes tries again."
        ),
        False,
    ),
    (
        "ImagePullBackOff",
        HEAD + "dial tcp 10.0.0.1:443: i/o timeout",
        Reason.IMAGE_PULL_FAILED,
        "nope:1 can't be pulled yet",
        False,
    ),
    (
        "ImagePullBackOff",
        HEAD + "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        Reason.IMAGE_PULL_FAILED,
        (
            "nope:1 can't be pulled: the node doesn't trust docker.io. Who runs the cluster can "
            "change that."
        ),
        False,
    ),
    (
        "ImagePullBackOff",
        RESOLVE + "unexpected status from HEAD request: 429 Too Many Requests",
        Reason.IMAGE_PULL_FAILED,
        (
            "The registry gives the cluster no more images for a while: wait, or name a Secret "
            "with a login, --pull-secret NAME."
        ),
        False,
    ),
    (
        "ImagePullBackOff",
        PULL + "no match for platform in manifest: not found",
        Reason.IMAGE_PULL_FAILED,
        "There is no variant of nope:1 for the node's kind of processor: choose another tag.",
        True,
    ),
    (
        "CreateContainerConfigError",
        (
            "container has runAsNonRoot and image will run as root (pod: "
            '"p_qwex(344e3a07-6dab-4073-87a9-28fff2ee3ac7)", container: main)'
        ),
        Reason.ADMISSION_REFUSED,
        "The image runs as root, which its pod may not: give a user by number, --user 1000.",
        True,
    ),
    (
        "CreateContainerConfigError",
        'secret "nope" not found',
        Reason.UNSCHEDULABLE,
        'It waits for something that isn\'t there: secret "nope" not found.',
        False,
    ),
    (
        "CreateContainerConfigError",
        "couldn't find key k in Secret qwex/nope",
        Reason.UNSCHEDULABLE,
        "Its container can't be made: couldn't find key k in Secret qwex/nope.",
        False,
    ),
]


@pytest.mark.parametrize(("word", "text", "reason", "message", "never"), CONTAINER)
def test_what_a_container_waits_for(
    word: str, text: str, reason: Reason, message: str, never: bool
) -> None:
    """Each word of a kubelet is a reason and a sentence, and says whether it will ever come."""
    found = seen(pod(waiting={"reason": word, "message": text}))
    assert (found.status, found.reason) == (RunStatus.PENDING, reason)
    assert found.message.startswith(message)
    is_sentence(found.message)
    assert bool(found.never_starts) == never
    if never:
        assert final(found).startswith(message)
    assert text[:40] in found.backend_message


# Every reason that the source of Kubernetes 1.34 has: pkg/kubelet.
@pytest.mark.parametrize(
    "word",
    [
        "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed",
        "RunContainerError",
        "CreateContainerError", "PreCreateHookError", "PreStartHookError", "PostStartHookError",
        "CrashLoopBackOff", "KillContainerError", "CreatePodSandboxError", "ResizePodInPlaceError",
        "SomethingOfTomorrow",
    ],
)  # fmt: skip
@pytest.mark.parametrize("text", ["", "rpc error: {braces} and $signs."])
def test_no_word_of_a_kubelet_is_too_much(word: str, text: str) -> None:
    """A reason that no row knows is said in its own words, and nothing is given up for it."""
    found = seen(pod(waiting={"reason": word, "message": text}))
    assert found.reason in (Reason.UNSCHEDULABLE, Reason.IMAGE_PULL_FAILED)
    assert found.never_starts is None
    assert (text.rstrip(".") or word) in found.message


def test_a_pull_is_given_up_when_it_was_tried_twice() -> None:
    """An image that isn't there is tried for 15 s, and as long as --start-timeout where given."""
    gone = RESOLVE + "docker.io/library/nope:1: not found"
    for word, started, patient, never_starts in (
        ("ErrImagePull", 0, False, False),  # it may be the first try
        ("ImagePullBackOff", 90, False, False),
        ("ImagePullBackOff", 0, False, True),
        ("ImagePullBackOff", 0, True, False),
    ):
        waits = pod(waiting={"reason": word, "message": gone})
        waits["status"]["startTime"] = f"2026-11-24T06:01:{started % 60:02}Z" if started else AT % 0
        found = seen(waits, patient=patient)
        assert bool(found.never_starts) == never_starts
        assert found.reason is Reason.IMAGE_NOT_FOUND


def test_numbers_in_names_and_digests_are_no_answers() -> None:
    """An image whose digest, tag or port holds 403 or 429 isn't one without access."""
    for image in ("nope@sha256:a403b429", "registry.example:4290/app:403"):
        text = f'failed to pull and unpack image "{image}": dial tcp 10.0.0.1:443: i/o timeout'
        found = seen(pod(image=image, waiting={"reason": "ImagePullBackOff", "message": text}))
        assert found.never_starts is None
        assert found.message.startswith(f"{image} can't be pulled yet (")


def test_an_older_kubelet_says_why_only_in_an_event() -> None:
    """Where a container's own words don't say why, the last event of its pull does."""
    waits = pod(
        waiting={"reason": "ImagePullBackOff", "message": 'Back-off pulling image "nope:1"'}
    )
    assert k8s_waiting.wants_events(JOB, waits) == "qwex-r-x1"
    told = event("Failed", f'Failed to pull image "nope:1": {RESOLVE}nope:1: not found')
    found = seen(waits, event("Failed", "Error: ErrImagePull"), told, event("Failed", "Error: x"))
    assert (found.reason, bool(found.never_starts)) == (Reason.IMAGE_NOT_FOUND, True)
    assert seen(waits).never_starts is None


def test_the_registry_of_an_image_is_named() -> None:
    """The host in front of an image's name is its registry, else it is Docker's."""
    text = 'failed to do request: Head "https://x/v2": dial tcp: lookup x: no such host'
    for image, registry in (
        ("ghcr.io/a/b:1", "ghcr.io"),
        ("localhost/b", "localhost"),
        ("reg:5000/b", "reg:5000"),
        ("a/b", "docker.io"),
    ):
        found = seen(pod(image=image, waiting={"reason": "ErrImagePull", "message": text}))
        assert f"finds no host {registry}. " in found.message


END = ". no new claims to deallocate, preemption: 0/%s nodes are available: %s."
VICTIMS = "1 No preemption victims found for incoming pod"
HELPFUL = "1 Preemption is not helpful for scheduling"
NODES = [
    ("1", "1 Insufficient cpu", HELPFUL, "It waits for CPUs: 0 of 1 nodes have enough free."),
    ("3", "1 Insufficient memory, 2 Insufficient cpu", VICTIMS,
     "It waits for memory and CPUs: 0 of 3 nodes have enough free."),
    ("1", "1 Too many pods", VICTIMS, "None of 1 nodes takes it: 1 Too many pods."),
    ("1", "1 Insufficient nvidia.com/gpu", HELPFUL,
     "It waits for a GPU: 0 of 1 nodes have nvidia.com/gpu free."),
    ("1", "1 Insufficient ephemeral-storage", HELPFUL,
     "It waits for ephemeral-storage: 0 of 1 nodes have enough free."),
    ("1", "1 node(s) didn't match Pod's node affinity/selector", HELPFUL,
     "None of 1 nodes takes it: 1 node(s) didn't match Pod's node affinity/selector."),
    ("2", "2 node(s) had untolerated taint {dedicated: gpu}", HELPFUL,
     "None of 2 nodes takes it: 2 node(s) had untolerated taint {dedicated: gpu}."),
    ("1", "pod has unbound immediate PersistentVolumeClaims", HELPFUL,
     "It waits for a volume: pod has unbound immediate PersistentVolumeClaims."),
]  # fmt: skip


@pytest.mark.parametrize(("count", "why", "more", "message"), NODES)
@pytest.mark.parametrize("tail", [END, ". preemption: 0/%s nodes are available: %s.", "."])
def test_why_no_node_takes_it(count: str, why: str, more: str, message: str, tail: str) -> None:
    """The scheduler's reasons are said, and not what it thought of pushing others away."""
    text = f"0/{count} nodes are available: {why}" + (tail % (count, more) if "%" in tail else tail)
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    found = seen(pod(conditions=[{**condition, "message": text}]))
    assert (found.reason, found.message, found.never_starts) == (
        Reason.UNSCHEDULABLE,
        message,
        None,
    )
    assert not k8s_waiting.wants_events(JOB, pod(conditions=[{**condition, "message": text}]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '0/1 nodes are available: persistentvolumeclaim "nope" not found. not found',
            'It waits for a volume: persistentvolumeclaim "nope" not found.',
        ),
        (
            "Scheduling is blocked due to non-empty scheduling gates",
            "No node takes it yet: Scheduling is blocked due to non-empty scheduling gates.",
        ),
        ("no nodes available to schedule pods", "No node takes it yet: no nodes available"),
        ("", "It waits for a node."),
    ],
)
def test_other_words_of_the_scheduler(text: str, message: str) -> None:
    """What doesn't begin with a count of nodes is said as it is."""
    condition = {"type": "PodScheduled", "status": "False", "message": text}
    found = seen(pod(conditions=[condition]))
    assert found.message.startswith(message)
    is_sentence(found.message)


BASE = 'Error creating: pods "qwex-r-x1" is forbidden: '
RESTRICTED = (
    'violates PodSecurity "%s:latest": runAsNonRoot != true (pod or container "main" must set '
    "securityContext.runAsNonRoot=true)"
)
CREATE = [
    (
        BASE + "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0",
        Reason.QUOTA_EXCEEDED,
        ("The namespace's quota is used up: q allows pods=0, pods=0 is in use, it asks for pods=1. "
        "It starts when there is room."),
        False,
    ),
    (
        BASE + "exceeded quota: q, requested: limits.memory=134217728, used: limits.memory=0, "
        "limited: limits.memory=64Mi",
        Reason.QUOTA_EXCEEDED,
        ("The namespace's quota is used up: q allows limits.memory=64Mi, limits.memory=0 is in "
        "use, it asks for limits.memory=128 MiB. It starts when there is room."),
        False,
    ),
    (
        BASE + "failed quota: q: must specify limits.memory for: main",
        Reason.QUOTA_EXCEEDED,
        ("The namespace's quota wants limits to be given: name them with --cpus and --memory "
        "(failed quota: q: must specify limits.memory for: main)."),
        True,
    ),
    (
        BASE + RESTRICTED % "restricted",
        Reason.ADMISSION_REFUSED,
        ("The namespace's Pod Security refuses its pod: set QWEX_POD_SECURITY=restricted and give "
        "--user 1000 (runAsNonRoot != true)"),
        True,
    ),
    (
        BASE + RESTRICTED % "baseline",
        Reason.ADMISSION_REFUSED,
        "The namespace's Pod Security refuses its pod: runAsNonRoot != true.",
        True,
    ),
    (
        BASE + "maximum memory usage per Container is 64Mi, but limit is 128Mi",
        Reason.QUOTA_EXCEEDED,
        ("The namespace's LimitRange refuses that much or that little: maximum memory usage per "
        "Container is 64Mi, but limit is 128Mi."),
        True,
    ),
    (
        BASE + "minimum memory usage per Container is 8Mi, but request is 4Mi",
        Reason.QUOTA_EXCEEDED,
        "The namespace's LimitRange refuses that much or that little: minimum",
        True,
    ),
    (
        'Error creating: admission webhook "validate.kyverno.svc-fail" denied the request: no.',
        Reason.ADMISSION_REFUSED,
        "A rule of the cluster refuses its pod: Error creating: admission webhook",
        True,
    ),
    (
        ('Error creating: pods "sa-" is forbidden: error looking up service account k8su/nope: '
        'serviceaccount "nope" not found'),
        Reason.ADMISSION_REFUSED,
        "The namespace has no such service account: error looking up service account k8su/nope",
        True,
    ),
    (
        BASE + 'error looking up service account new/default: serviceaccount "default" not found',
        Reason.STARTING,
        "The namespace has no service account yet: error looking up",
        False,
    ),
    (
        "Error creating: Internal error occurred: failed calling webhook \"x\": connection refused",
        Reason.UNSCHEDULABLE,
        "Its pod can't be made yet: Error creating: Internal error",
        False,
    ),
    (
        BASE + "unable to create new content in namespace x because it is being terminated",
        Reason.ADMISSION_REFUSED,
        "The cluster refuses its pod: unable to create new content",
        False,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason", "message", "never"), CREATE)
def test_why_a_job_has_no_pod(text: str, reason: Reason, message: str, never: bool) -> None:
    """Each refusal of a Job's pod is a reason and a sentence."""
    found = seen(None, event("FailedCreate", text, about="qwex-r"))
    assert (found.status, found.reason) == (RunStatus.PENDING, reason)
    assert found.message.startswith(message)
    is_sentence(found.message)
    assert bool(found.never_starts) == never
    if never:
        final(found)
    assert "event FailedCreate: " in found.backend_message


def test_a_job_without_pod_or_word_is_being_made() -> None:
    """Before any event, and while a queue holds a Job back, it waits and nothing is wrong."""
    assert k8s_waiting.wants_events(JOB, None) == "qwex-r"
    assert seen(None).message == "Its pod is being made."
    held = {**JOB, "spec": {"suspend": True}}
    assert "suspended: a queue of the cluster" in seen(None, job=held).message


MAKING = {"reason": "ContainerCreating"}
MOUNT = 'MountVolume.SetUp failed for volume "c" : configmap "nope" not found'


def test_what_a_container_that_is_made_waits_for() -> None:
    """Pulling, mounting and starting are told apart by what was told last."""
    waits = pod(waiting=MAKING, spec={"nodeName": "n1"})
    assert k8s_waiting.wants_events(JOB, waits) == "qwex-r-x1"
    mount, pulling = event("FailedMount", MOUNT, 5), event("Pulling", "", 10)
    for events, reason, message in (
        ([], Reason.STARTING, "Its container is made on n1."),
        ([mount], Reason.UNSCHEDULABLE, f"A volume can't be mounted yet: {MOUNT}."),
        ([mount, pulling], Reason.PULLING, "Its node gets nope:1 since 06:00:10 UTC."),
        ([pulling, event("Pulled", "", 12)], Reason.STARTING, "Its container is made on n1."),
        ([pulling, event("BackOff", "", 12)], Reason.STARTING, "Its container is made on n1."),
        (
            [event("Pulling", "", 1), event("Failed", "x", 2), event("Pulling", "", 20)],
            Reason.PULLING,
            "Its node gets nope:1 since 06:00:20 UTC.",
        ),
        (
            [event("FailedCreatePodSandBox", "Failed to create pod sandbox: rpc error.", 3)],
            Reason.UNSCHEDULABLE,
            "Its node can't make its sandbox yet: Failed to create pod sandbox: rpc error.",
        ),
    ):
        found = seen(waits, *events)
        assert (found.reason, found.message) == (reason, message)
        is_sentence(found.message)
    assert seen(pod()).message == "It waits for a node."


def test_an_event_of_any_form_is_read() -> None:
    """Times stand in three places of an event, and anything may be missing."""
    assert Event.of({}) == Event("", "", "", False, "")
    assert Event.of({"eventTime": AT % 1, "lastTimestamp": None}).at == AT % 1
    assert Event.of({"metadata": {"creationTimestamp": AT % 2}}).at == AT % 2


def test_a_run_that_is_stopped_while_it_waits_says_so() -> None:
    """After a stop nothing is given up any more, and files that don't come are ours to bring."""
    waits = pod(waiting={"reason": "InvalidImageName", "message": "x"})
    found = state.snapshot(Seen(JOB, waits, 1), {"why": "cancel"}, NOW)
    assert (found.reason, found.never_starts, found.queued_by_backend) == (
        Reason.STOPPING,
        None,
        True,
    )
    ours = {**JOB, "metadata": {**JOB["metadata"], "annotations": {objects.HANDOVER: "x"}}}
    assert not seen(waits, job=ours).queued_by_backend
    assert seen(
        waits, job={**JOB, "metadata": {"name": "j", "annotations": None}}
    ).queued_by_backend


@pytest.mark.parametrize(
    ("image", "message", "said"),
    [
        ("team/x509:1", "failed to pull {}: it is late", "tries again"),
        ("team/certificate:1", "failed to pull {}: 429 too many requests", "no more images"),
        ("team/app:1", "failed to pull {}: not found", "no image team/app:1"),
    ],
)
def test_the_name_of_an_image_is_no_cause(image: str, message: str, said: str) -> None:
    """The cause is read from the node's words, whatever the image is called."""
    waiting = {"reason": "ErrImagePull", "message": message.format(f'"{image}"')}
    assert said in seen(pod(image=image, waiting=waiting)).message
