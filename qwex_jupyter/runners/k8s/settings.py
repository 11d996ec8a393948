"""Which cluster the settings of kubectl choose, and how it is called: the kubernetes client's part.

The client knows kubeconfigs, contexts, credentials, plugins and certificates; this is the only
room that imports it.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from qwex_jupyter.errors import RunnerUnavailable
from qwex_jupyter.model.text import one_line, without_secrets
from qwex_jupyter.runners.container import clients, proxies
from qwex_jupyter.runners.container.times import moment
from qwex_jupyter.system import windows

# Streams and calls that share the connections.
_CONNECTIONS = 16
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
OTHERS = "or take another place: --runner=docker" + ("" if windows.HERE else ", --runner=local")
# What took the place of the logins that kubectl has no more.
_INSTEAD = {
    "gcp": "gke-gcloud-auth-plugin (gcloud container clusters get-credentials NAME)",
    "azure": "kubelogin (az aks get-credentials, then kubelogin convert-kubeconfig)",
}
# RFC 1123, as the API server asks for it.
_NAMESPACE = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


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
    def shown(self) -> str:
        """The server's address as a text has it: without what logs in there."""
        return without_secrets(self.host)

    @property
    def identity(self) -> str:
        """The text that stands in ``spec.json``."""
        return f"k8s://{self.namespace}@{self.shown}#{self.authority}"


def made_of() -> tuple[Any, ...]:
    """What the settings are made of: when it changes, they are read again."""
    files = []
    for path in _kubeconfigs():
        try:
            files.append((path, os.stat(path).st_mtime_ns))
        except OSError:
            continue  # it is being replaced, and read again with the next call
    names = ("KUBERNETES_SERVICE_HOST", *proxies.NAMES)
    return (*files, *map(os.environ.get, names))


@dataclass(frozen=True)
class Access:
    """How a cluster is called, and as whom.

    Attributes:
        configuration: The client's configuration.
        pool: Its connections.
        where: Which cluster and namespace.
        acts_as: The headers by which somebody else is acted as (``as`` of a kubeconfig's user).
        expires: When a plugin's credentials run out, seconds since the epoch.
    """

    configuration: Any = None
    pool: Any = None
    where: Where = Where()
    acts_as: tuple[tuple[str, str], ...] = ()
    expires: float = math.inf

    def headers(self) -> Any:
        """Who this is: urllib3's headers, of which one name may stand there several times.

        As kubectl has it, a server elsewhere that is asked without TLS is shown no login.

        Raises:
            RunnerUnavailable: The token is none.
        """
        from urllib3 import HTTPHeaderDict

        if not self.where.host.startswith("https:") and not proxies.is_here(self.where.host):
            return HTTPHeaderDict()
        found = HTTPHeaderDict(authorization(self.configuration))
        for name, value in self.acts_as:
            found.add(name, value)
        return found


def opened(context: str, namespace: str) -> Access:
    """Access to the cluster that the settings of kubectl choose.

    Args:
        context: A context of the kubeconfig; "" for the current one, or the service account of
            this pod.
        namespace: Where runs go; "" for the context's.

    Raises:
        RunnerUnavailable: The settings say nothing that can be used.
    """
    clients.load("kubernetes", OTHERS)
    from kubernetes import client, config

    configuration = client.Configuration()
    configuration.connection_pool_maxsize = _CONNECTIONS
    files = _kubeconfigs()
    try:
        if context or files or not os.environ.get("KUBERNETES_SERVICE_HOST"):
            access = _by_kubeconfig(config.kube_config, configuration, files, context, namespace)
        else:
            config.load_incluster_config(client_configuration=configuration)
            with open(f"{_ACCOUNT}/namespace") as file:
                own = file.read().strip()
            _choose_proxy(configuration, "")
            where = _where(configuration, namespace or own, "this pod's service account")
            access = Access(where=where)
        pool = client.ApiClient(configuration).rest_client.pool_manager
    except RunnerUnavailable:
        raise
    except Exception as error:
        # What is wrong with a file of settings, the client says in many ways.
        raise RunnerUnavailable(
            f"The settings of kubectl can't be used ({words_of(error)}): mend KUBECONFIG or "
            f"name a --context, {OTHERS}."
        ) from error
    if not configuration.verify_ssl:
        clients.unwarned(access.where.host)
    return replace(access, configuration=configuration, pool=pool)


def _by_kubeconfig(
    kube_config: Any, configuration: Any, files: list[str], context: str, namespace: str
) -> Access:
    """Fills the client's configuration by the rules of kubectl."""
    if not files:
        raise RunnerUnavailable(
            "No Kubernetes here: there is no ~/.kube/config, and this is no pod. Point "
            f"KUBECONFIG at the file that kubectl uses, {OTHERS}."
        )
    # By name: the client remembers what KUBECONFIG was when it was imported.
    merger = kube_config.KubeConfigMerger(os.pathsep.join(files))
    # A current one that isn't there matters to nobody who names another.
    merged = merger.config
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
    chosen = found["context"]
    cluster = _named(merged, "cluster", chosen.get("cluster"), named)
    user = _named(merged, "user", chosen["user"], named) if chosen.get("user") else None
    if not cluster.safe_get("server"):
        raise RunnerUnavailable(
            f"The cluster {chosen['cluster']!r} of the kubeconfig has no server: kubectl config "
            f"set-cluster {chosen['cluster']} --server=https://..., or choose another --context."
        )
    server = str(cluster["server"])
    if not proxies.has_a_port(server):
        raise RunnerUnavailable(
            f"The cluster {chosen['cluster']!r} of the kubeconfig has a server whose address is "
            f"none ({without_secrets(server)}): write https://HOST:PORT, with what logs in under "
            f"its user, {OTHERS}."
        )
    expires = math.inf
    persist = merger.save_changes
    if user is not None:
        _refuse_provider(user, chosen["user"])
        if "exec" in user and not {"token", "tokenFile"} & set(user.value):
            # In memory alone: what a plugin gave belongs into no file.
            persist = None
            expires = _log_in(user, cluster, chosen["user"])
    kube_config.KubeConfigLoader(
        merged, active_context=named, config_base_path=None, config_persister=persist
    ).load_and_set(configuration)
    if user is not None and "auth-provider" in user and not authorization(configuration):
        raise RunnerUnavailable(
            f"The login of the kubeconfig's user {chosen['user']!r} (auth-provider oidc) can't be "
            f"used or renewed: log in again as for kubectl, {OTHERS}."
        )
    _choose_proxy(configuration, str(cluster.safe_get("proxy-url") or ""))
    space = namespace or chosen.get("namespace") or "default"
    where = _where(configuration, space, f"the context {named}")
    return Access(where=where, acts_as=_acts_as(user.value if user else {}), expires=expires)


def _named(merged: Any, kind: str, name: Any, context: str) -> Any:
    """The part of that name which a context chooses.

    Raises:
        RunnerUnavailable: There is none. kubectl refuses that too, the client would go without.
    """
    found = (
        merged[f"{kind}s"].get_with_name(name, safe=True) if merged.safe_get(f"{kind}s") else None
    )
    if found is None:
        raise RunnerUnavailable(
            f"The context {context} names the {kind} {name!r}, which the kubeconfig doesn't have: "
            f"kubectl config set-context {context} --{kind}=NAME, or choose another --context."
        )
    return found[kind]


def _refuse_provider(user: Any, name: str) -> None:
    """Refuses what kubectl took out with 1.26; of the client some is left."""
    provider = (user.safe_get("auth-provider") or {}).get("name")
    if provider in (None, "oidc"):
        return
    instead = _INSTEAD.get(provider, "a plugin of the tool that wrote the kubeconfig")
    raise RunnerUnavailable(
        f"The kubeconfig's user {name!r} logs in by the auth-provider {provider}, which kubectl "
        f"has no more since 1.26: use {instead}, {OTHERS}."
    )


def _log_in(user: Any, cluster: Any, name: str) -> float:
    """Puts what a credentials plugin gives in its place; until when that is good.

    The client would log that a plugin failed, and go on as nobody.

    Args:
        user: The user's part of the settings, which is changed.
        cluster: The cluster's.
        name: What the user is called.

    Raises:
        RunnerUnavailable: It isn't there, or failed twice.
    """
    from kubernetes.config.exec_provider import ExecProvider

    called = user["exec"]
    folder = os.path.dirname(os.path.abspath(user.path)) if user.path else ""
    plugin = f"the plugin {called.safe_get('command')!r}"
    # The client of 29 can't tell a plugin about its cluster.
    about = (cluster,) if "cluster" in inspect.signature(ExecProvider).parameters else ()
    if called.safe_get("provideClusterInfo") and not about:
        raise RunnerUnavailable(
            f"The kubeconfig's user {name!r} logs in by {plugin}, which wants to know of its "
            "cluster (provideClusterInfo): pip install -U kubernetes."
        )
    status: dict[str, Any] = {}
    for last in (False, True):
        try:
            status = ExecProvider(called, folder, *about).run()
            break
        except OSError as error:
            hint = " ".join(str(called.safe_get("installHint") or "").split())
            raise RunnerUnavailable(
                f"The kubeconfig's user {name!r} logs in by {plugin}, which can't be executed here "
                f"({error.strerror}): install it, {OTHERS}. {hint}".strip()
            ) from error
        except Exception as error:
            if last:
                why = one_line(without_secrets(str(error)))
                raise RunnerUnavailable(
                    f"The kubeconfig's user {name!r} logs in by {plugin}, which failed ({why}): "
                    f"log in again as for kubectl, {OTHERS}."
                ) from error
    gives = {"token": status.get("token")}
    for ours, theirs in (("certificate", "Certificate"), ("key", "Key")):
        data = status.get(f"client{theirs}Data")
        gives[f"client-{ours}-data"] = base64.b64encode(data.encode()).decode() if data else None
    if not (gives["token"] or (gives["client-certificate-data"] and gives["client-key-data"])):
        raise RunnerUnavailable(
            f"The kubeconfig's user {name!r} logs in by {plugin}, which gave neither a token nor a "
            f"certificate with its key: log in again as for kubectl, {OTHERS}."
        )
    del user.value["exec"]
    user.value.update({key: value for key, value in gives.items() if value})
    return moment(status.get("expirationTimestamp")) or math.inf


def _acts_as(user: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The headers of ``as``, ``as-uid``, ``as-groups`` and ``as-user-extra``.

    See https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/.
    """
    found = [("Impersonate-User", user.get("as")), ("Impersonate-Uid", user.get("as-uid"))]
    found += [("Impersonate-Group", group) for group in user.get("as-groups") or ()]
    for key, values in (user.get("as-user-extra") or {}).items():
        found += [(f"Impersonate-Extra-{quote(key, safe='')}", value) for value in values]
    return tuple((name, _header(str(value), name)) for name, value in found if value)


def _header(value: str, what: str) -> str:
    """A value as it may stand in a header.

    Raises:
        RunnerUnavailable: It may not. It isn't shown: most such are secrets.
    """
    value = value.strip()
    if not value.isprintable():
        raise RunnerUnavailable(
            f"kubectl's settings give a value for {what} that no request can hold (there is a "
            f"line break in it, most likely): log in again as for kubectl, {OTHERS}."
        )
    return value.encode().decode("latin-1")  # as http.client writes it


def _choose_proxy(configuration: Any, named: str) -> None:
    """The cluster's own ``proxy-url`` holds for any address; the environment's as Go has it."""
    proxy = proxies.usable(named, "proxy-url") if named else proxies.proxy_for(configuration.host)
    configuration.proxy = proxy or None
    configuration.no_proxy = ""


def _where(configuration: Any, namespace: str, why: str) -> Where:
    if not _NAMESPACE.fullmatch(namespace):
        raise RunnerUnavailable(
            f"{namespace!r} can't be the name of a namespace (by --namespace, or else by {why}): "
            "that is made of small letters, digits and -, at most 63."
        )
    authority = "system"
    if configuration.ssl_ca_cert:
        with open(configuration.ssl_ca_cert, "rb") as file:
            authority = hashlib.sha256(file.read().strip()).hexdigest()[:12]
    return Where(configuration.host.rstrip("/"), namespace, authority, why)


def authorization(configuration: Any) -> dict[str, str]:
    """The header by which the client would show who this is; asks plugins when it ran out.

    Releases of the client differ in the name under which they keep it, and 36.0.0 sent
    requests without it.

    Raises:
        RunnerUnavailable: No request can hold it.
    """
    for setting in configuration.auth_settings().values():
        if setting.get("in") == "header" and setting.get("value"):
            return {str(setting["key"]): _header(str(setting["value"]), "the login")}
    for name in ("authorization", "BearerToken"):
        if configuration.api_key.get(name):
            return {"authorization": _header(str(configuration.api_key[name]), "the login")}
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
    text = without_secrets(" ".join(str(error).split()))
    return text[-200:] or type(error).__name__
