"""Why a pod doesn't run yet: a cluster's words, our reason and sentence, and whether it never will.

Each table has its sources; the docs are made of them.
"""

from __future__ import annotations

from qwex_jupyter.model.status import Reason

# A text -> (reason, sentence without a full stop, whether it will never come). Sentences are
# made with {image} and {text}.
Row = tuple[str, Reason, str, bool]


# ``waiting.reason`` of a container and its message, as one text: pkg/kubelet/images/types.go,
# pkg/kubelet/kuberuntime; the messages are containerd's and the registries'.
CONTAINER: tuple[Row, ...] = (
    (
        "^InvalidImageName",
        Reason.IMAGE_NOT_FOUND,
        "{image} isn't the name of an image",
        True,
    ),
    (
        "^ErrImageNeverPull",
        Reason.IMAGE_NOT_FOUND,
        "the node doesn't have {image}, and {policy} forbids to get it",
        True,
    ),
    (
        "ImagePull.*(no match for platform|no matching manifest)",
        Reason.IMAGE_PULL_FAILED,
        "there is no variant of {image} for the node's kind of processor: choose another tag",
        True,
    ),
    (
        (
            "ImagePull.*(unauthorized|authentication required|no basic auth|forbidden|"
            "authorization failed|insufficient_scope|access denied|requested access)"
        ),
        Reason.IMAGE_PULL_FAILED,
        (
            "the cluster has no access to {image}, or it doesn't exist: check its name, or name "
            "the Secret with the login, --pull-secret NAME"
        ),
        True,
    ),
    (
        "ImagePull.*(no such host|server misbehaving)",
        Reason.IMAGE_PULL_FAILED,
        (
            "{image} can't be pulled yet: the node finds no host {registry}. Check its name; "
            "Kubernetes tries again"
        ),
        False,
    ),
    (
        "ImagePull.*(not found|manifest unknown|does not exist|name unknown)",
        Reason.IMAGE_NOT_FOUND,
        "there is no image {image}: check its name and tag",
        True,
    ),
    (
        "ImagePull.*(toomanyrequests|too many requests|rate limit)",
        Reason.IMAGE_PULL_FAILED,
        (
            "the registry gives the cluster no more images for a while: wait, or name a Secret "
            "with a login, --pull-secret NAME"
        ),
        False,
    ),
    (
        "ImagePull.*(x509|certificate|HTTPS client)",
        Reason.IMAGE_PULL_FAILED,
        (
            "{image} can't be pulled: the node doesn't trust {registry}. Who runs the cluster can "
            "change that"
        ),
        False,
    ),
    (
        "ImagePull|^RegistryUnavailable|^ImageInspectError|^SignatureValidationFailed",
        Reason.IMAGE_PULL_FAILED,
        "{image} can't be pulled yet ({text}); Kubernetes tries again",
        False,
    ),
    (
        "^CreateContainerConfigError.*runAsNonRoot",
        Reason.ADMISSION_REFUSED,
        "the image runs as root, which its pod may not: give a user by number, --user 1000",
        True,
    ),
    (
        '^CreateContainerConfigError.*(secret|configmap) "?([^" ]+)"? not found',
        Reason.UNSCHEDULABLE,
        "it waits for something that isn't there: {text}",
        False,
    ),
    (
        "^(CrashLoopBackOff|Error|OOMKilled|Completed|StartError|ContainerCannotRun)",
        Reason.UNSCHEDULABLE,
        "it fails again and again ({text}). kubectl logs {pod} -c {name} says more",
        False,
    ),
    ("", Reason.UNSCHEDULABLE, "its container can't be made: {text}", False),
)


# Messages of a Job's FailedCreate events, from the API server's admission:
# plugin/pkg/admission/resourcequota, limitranger, podsecurity, serviceaccount; webhooks.
CREATE: tuple[Row, ...] = (
    (
        "exceeded quota",
        Reason.QUOTA_EXCEEDED,
        "the namespace's quota is used up: {quota}. It starts when there is room",
        False,
    ),
    (
        "failed quota.*must specify",
        Reason.QUOTA_EXCEEDED,
        (
            "the namespace's quota wants limits to be given: name them with --cpus and --memory "
            "({text})"
        ),
        True,
    ),
    (
        'violates PodSecurity "restricted',
        Reason.ADMISSION_REFUSED,
        (
            "the namespace's Pod Security refuses its pod: set QWEX_POD_SECURITY=restricted and "
            "give --user 1000 ({text})"
        ),
        True,
    ),
    (
        "violates PodSecurity",
        Reason.ADMISSION_REFUSED,
        "the namespace's Pod Security refuses its pod: {text}",
        True,
    ),
    (
        "(maximum|minimum) .*(per (Container|Pod)|usage)",
        Reason.QUOTA_EXCEEDED,
        "the namespace's LimitRange refuses that much or that little: {sizes}",
        True,
    ),
    (
        "admission webhook .*denied",
        Reason.ADMISSION_REFUSED,
        "a rule of the cluster refuses its pod: {text}",
        True,
    ),
    (
        # A namespace that was made this moment gets its default one a moment later.
        'serviceaccount "default" not found',
        Reason.STARTING,
        "the namespace has no service account yet: {text}",
        False,
    ),
    (
        "serviceaccount .*not found",
        Reason.ADMISSION_REFUSED,
        "the namespace has no such service account: {text}",
        True,
    ),
    (
        "forbidden|denied|invalid",
        Reason.ADMISSION_REFUSED,
        "the cluster refuses its pod: {text}",
        False,
    ),
    ("", Reason.UNSCHEDULABLE, "its pod can't be made yet: {text}", False),
)


# Reasons of a pod's events while its container is being made: pkg/kubelet/events.
MAKING = {
    "FailedMount": "a volume can't be mounted yet",
    "FailedAttachVolume": "a volume can't be attached yet",
    "FailedCreatePodSandBox": "its node can't make its sandbox yet",
    "FailedPodSandBoxStatus": "its node can't make its sandbox yet",
    "NetworkNotReady": "its node's network isn't ready yet",
}
