"""Which cluster the settings of kubectl choose, and how it is called: the kubernetes client's part.

The client knows kubeconfigs, contexts, credentials, plugins and certificates; this is the only
room that imports it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any

from qwex_jupyter.errors import RunnerUnavailable

# Streams and calls that share the connections.
_CONNECTIONS = 16
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_OTHERS = "or take another place: --runner=docker, --runner=local"


@dataclass(frozen=True)
class Where:
    """Which cluster and namespace.

    Attributes:
        host: The server's address.
        namespace: Where runs go.
        authority: A hash of the certificate authority that the server is known by.
        why: What chose it, in words.
    """

    host: str = ""
    namespace: str = ""
    authority: str = ""
    why: str = ""

    @property
    def identity(self) -> str:
        """The text that stands in ``spec.json``."""
        return f"k8s://{self.namespace}@{self.host}#{self.authority}"


def made_of() -> tuple[Any, ...]:
    """What the settings are made of: when it changes, they are read again."""
    files = []
    for path in _kubeconfigs():
        try:
            files.append((path, os.stat(path).st_mtime_ns))
        except OSError:
            continue  # it is being replaced, and read again with the next call
    return (*files, os.environ.get("KUBERNETES_SERVICE_HOST"))


def opened(context: str, namespace: str) -> tuple[Any, Any, Where]:
    """The client's configuration, its pool of connections, and which place that is.

    Args:
        context: A context of the kubeconfig; "" for the current one, or the service account of
            this pod.
        namespace: Where runs go; "" for the context's.

    Raises:
        RunnerUnavailable: The settings say nothing that can be used.
    """
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise RunnerUnavailable(
            f"The Python package kubernetes can't be imported ({error}): "
            f"pip install -U kubernetes, {_OTHERS}."
        ) from error
    configuration = client.Configuration()
    configuration.connection_pool_maxsize = _CONNECTIONS
    try:
        where = _load(config, configuration, context, namespace)
        pool = client.ApiClient(configuration).rest_client.pool_manager
    except RunnerUnavailable:
        raise
    except Exception as error:
        # What is wrong with a file of settings, the client says in many ways.
        raise RunnerUnavailable(
            f"The settings of kubectl can't be used ({words_of(error)}): mend KUBECONFIG or "
            f"name a --context, {_OTHERS}."
        ) from error
    return configuration, pool, where


def _load(config: Any, configuration: Any, context: str, namespace: str) -> Where:
    """Fills the client's configuration by the rules of kubectl."""
    files = _kubeconfigs()
    if not context and not files and os.environ.get("KUBERNETES_SERVICE_HOST"):
        config.load_incluster_config(client_configuration=configuration)
        with open(f"{_ACCOUNT}/namespace") as file:
            own = file.read().strip()
        why = "this pod's service account"
    elif not files:
        raise RunnerUnavailable(
            "No Kubernetes here: there is no ~/.kube/config, and this is no pod. Point "
            f"KUBECONFIG at the file that kubectl uses, {_OTHERS}."
        )
    else:
        # By name: the client remembers what KUBECONFIG was when it was imported.
        named_files = os.pathsep.join(files)
        # A current one that isn't there matters to nobody who names another.
        merged = config.kube_config.KubeConfigMerger(named_files).config
        settings = (merged.value if merged is not None else None) or {}
        contexts = [node.value for node in settings.get("contexts") or []]
        named = context or settings.get("current-context") or ""
        found = next((one for one in contexts if one["name"] == named), None)
        if found is None:
            known = ", ".join(str(one["name"]) for one in contexts) or "none"
            what = f"There is no context {named!r} in" if named else "No context is chosen in"
            raise RunnerUnavailable(
                f"{what} the kubeconfig (there is {known}): choose one with --context or "
                "kubectl config use-context."
            )
        config.load_kube_config(named_files, context=named, client_configuration=configuration)
        own = found["context"].get("namespace") or "default"
        why = f"the context {named}"
    authority = "system"
    if configuration.ssl_ca_cert:
        with open(configuration.ssl_ca_cert, "rb") as file:
            authority = hashlib.sha256(file.read().strip()).hexdigest()[:12]
    return Where(configuration.host.rstrip("/"), namespace or own, authority, why)


def authorization(configuration: Any) -> dict[str, str]:
    """The header by which the client would show who this is; asks plugins when it ran out.

    Releases of the client differ in the name under which they keep it, and 36.0.0 sent
    requests without it.
    """
    for setting in configuration.auth_settings().values():
        if setting.get("in") == "header" and setting.get("value"):
            return {str(setting["key"]): str(setting["value"])}
    for name in ("authorization", "BearerToken"):
        if configuration.api_key.get(name):
            return {"authorization": str(configuration.api_key[name])}
    return {}


def _kubeconfigs() -> list[str]:
    """The files of kubectl's settings that are there."""
    named = os.environ.get("KUBECONFIG") or "~/.kube/config"
    paths = [os.path.expanduser(path) for path in named.split(os.pathsep) if path]
    return [path for path in paths if os.path.exists(path)]


def words_of(error: BaseException) -> str:
    """The last words of an error of the network: what a person needs of it."""
    while error.__cause__ or error.__context__:
        inner = error.__cause__ or error.__context__
        if not isinstance(inner, Exception) or not str(inner):
            break
        error = inner
    return " ".join(str(error).split())[-200:] or type(error).__name__
