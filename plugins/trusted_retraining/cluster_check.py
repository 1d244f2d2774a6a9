"""Says before the first deployment whether a cluster's KServe can serve here.

``python -m trusted_retraining.cluster_check``, with the rights of whoever installed KServe, for it
reads kinds of the whole cluster. Exit code: 0 when models can be served, 78 when they cannot.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

from tasks.contract import EX_CONFIG, BadConfig, StageError
from tasks.spec import Pipeline
from trusted_retraining.hooks.kserve import KServeHook
from trusted_retraining.serving.kserve import KServeRollout
from trusted_retraining.serving.plan import Plan
from trusted_retraining.settings import Settings

LEVEL = "pod-security.kubernetes.io/enforce"
CONTAINERS = "/apis/serving.kserve.io/v1alpha1/clusterstoragecontainers"
CONFIG = "/api/v1/namespaces/{}/configmaps/inferenceservice-config"
RESTRICTED: dict[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
"""What Pod Security wants of each container; a model's pod has the rest of it."""


def main(arguments: list[str] | None = None) -> int:
    """Check, say what is wrong, and return the exit code."""
    settings = Settings.read()
    options = _options(arguments, settings)
    hook = KServeHook(
        conn_id=None,
        in_cluster=False,
        config_file=options.kubeconfig or None,
        cluster_context=options.context or None,
    )
    try:
        found = list(problems(hook, options))
    except StageError as error:
        found = [str(error)]
    for each in found:
        sys.stderr.write(f"cluster: {each}\n")
    if not found:
        sys.stdout.write(f"cluster: KServe can serve in namespace {options.namespace}\n")
    return EX_CONFIG if found else 0


def problems(hook: KServeHook, options: argparse.Namespace) -> Iterator[str]:
    """Yield what keeps KServe from serving a model.

    Parameters
    ----------
    hook : KServeHook
        The cluster.
    options : argparse.Namespace
        ``mode``, ``namespace``, ``kserve_namespace`` and ``model_uri``.
    """
    try:
        KServeRollout(hook, _plan(options)).check_schema()
    except BadConfig as error:
        yield str(error)
    if hook.read(CONFIG.format(options.kserve_namespace)) is None:
        yield (
            f"no ConfigMap inferenceservice-config in namespace {options.kserve_namespace}: is "
            "KServe's controller there? --kserve-namespace names another"
        )
    namespace = hook.read(f"/api/v1/namespaces/{options.namespace}")
    if namespace is None:
        yield f"no namespace {options.namespace}: apply docker/kubernetes first"
        return
    if (namespace["metadata"].get("labels") or {}).get(LEVEL) == "restricted":
        yield from _refused_initializer(hook, options)


def _refused_initializer(hook: KServeHook, options: argparse.Namespace) -> Iterator[str]:
    """Yield why Pod Security will refuse the container that fetches a model's files."""
    # KServe takes any that takes the address
    able = [
        each
        for each in (hook.read(CONTAINERS) or {}).get("items", [])
        if not each.get("disabled") and _takes(each["spec"], options.model_uri)
    ]
    if not able:
        yield (
            f"no ClusterStorageContainer takes {options.model_uri}, so KServe fetches models with "
            "one of its own, which has no securityContext and is refused by Pod Security "
            f"(restricted) in {options.namespace}: make one, see docs/kubernetes.md"
        )
    for each in able:
        name, server = each["metadata"]["name"], each["spec"]["container"]
        context = server.get("securityContext") or {}
        missing = {key: value for key, value in RESTRICTED.items() if context.get(key) != value}
        if missing:
            patch = {"spec": {"container": {**server, "securityContext": context | missing}}}
            yield (
                f"ClusterStorageContainer {name}: its container lacks {', '.join(sorted(missing))} "
                "in securityContext, so Pod Security (restricted) refuses every pod in "
                f"{options.namespace}: kubectl patch clusterstoragecontainer {name} --type merge "
                f"-p '{json.dumps(patch)}'"
            )


def _takes(spec: dict[str, Any], uri: str) -> bool:
    if spec.get("workloadType", "initContainer") != "initContainer":
        return False
    for each in spec.get("supportedUriFormats") or []:
        prefix, pattern = each.get("prefix"), each.get("regex")
        if (prefix and uri.startswith(prefix)) or (pattern and re.search(pattern, uri)):
            return True
    return False


def _plan(options: argparse.Namespace) -> Plan:
    pipeline = Pipeline.model_validate(
        {
            "name": "check",
            "source": {"kind": "synthetic"},
            "label": {"column": "label"},
            "deploy": {"target": "kserve", "mode": options.mode},
        }
    )
    return Plan(
        model=pipeline.model_name,
        version="1",
        digest="",
        model_uri=options.model_uri,
        run_uri="",
        pipeline=pipeline,
        settings=Settings.read(),
    )


def _options(arguments: list[str] | None, settings: Settings) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trusted_retraining.cluster_check", description=__doc__
    )
    parser.add_argument("--mode", choices=("knative", "standard"), default="knative")
    parser.add_argument("--namespace", default=settings.serving.namespace, help="of the models")
    parser.add_argument("--kserve-namespace", default="kserve")
    parser.add_argument(
        "--model-uri",
        default="s3://bucket/retraining/models/demo/1",
        help="address of a published model: its kind decides what fetches it",
    )
    parser.add_argument("--kubeconfig", default=os.environ.get("KUBECONFIG", ""))
    parser.add_argument("--context", default="")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
