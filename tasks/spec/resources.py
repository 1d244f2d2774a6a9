"""What a stage asks of a cluster, where stages are pods."""

import re
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from tasks.spec.base import Section

MODEL_STAGES = ("train", "evaluate", "explain", "robustness")
"""Stages that run the model, and so use a GPU."""

StageName = Literal[
    "ingest", "transform", "filter", "arrange", "validate", "train", "evaluate", "fairness",
    "explain", "robustness", "bless", "publish", "reject", "publish_data", "report",
]  # fmt: skip
"""Stages that run as pods of their own; ``deploy`` is done by Airflow itself on a cluster."""

Cpu = Annotated[str, StringConstraints(pattern=r"^(?:[1-9]\d*(?:\.\d+)?|0\.\d*[1-9]|[1-9]\d*m)$")]
Memory = Annotated[str, StringConstraints(pattern=r"^[1-9]\d*(?:\.\d+)?(?:Ki|Mi|Gi|Ti|k|M|G|T)$")]
LabelKey = Annotated[
    str,
    StringConstraints(
        pattern=r"^(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?"
        r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
    ),
]
LabelValue = Annotated[
    str, StringConstraints(pattern=r"^(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")
]
ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$")]

_FACTORS: dict[str, int | Decimal] = {
    "": 1, "m": Decimal("0.001"), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip


def quantity(text: str) -> Decimal:
    """Return the value of a Kubernetes quantity, in bytes or CPUs.

    Parameters
    ----------
    text : str
        Such as ``500m``, ``1.5`` or ``16Gi``.

    Raises
    ------
    ValueError
        It is not a number with one of the suffixes.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(m|[kMGT]|[KMGT]i)?", text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity such as 500m, 2 or 16Gi")
    return Decimal(match[1]) * _FACTORS[match[2] or ""]


class Toleration(Section):
    """A taint of nodes that a pod does not mind, as Kubernetes writes it."""

    key: LabelKey | None = None
    """Key of the taint; left out, with ``Exists``: every taint."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """Whether any value will do."""
    value: LabelValue | None = None
    """Value of the taint, with ``Equal``."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; left out: any."""
    tolerationSeconds: Annotated[int, Field(ge=0)] | None = None
    """How long the pod stays on a node that gets the taint, with ``NoExecute``; left out: on."""

    @model_validator(mode="after")
    def _consistent(self) -> "Toleration":
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("a toleration with operator Exists takes no value")
        if self.key is None and self.operator != "Exists":
            raise ValueError("a toleration without a key needs operator Exists")
        if self.tolerationSeconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds goes with effect NoExecute only")
        return self


class Requests(Section):
    """What one pod asks for. Memory and disk are request and limit in one; CPU has no limit."""

    gpu: Annotated[int, Field(ge=0, le=16)]
    """GPUs."""
    cpu: Cpu
    """CPUs, such as ``2`` or ``500m``; more are used while nobody else asks for them."""
    memory: Memory
    """Memory, such as ``16Gi``; a stage that takes more is killed."""
    ephemeral_storage: Memory
    """Disk for scratch files; a pod that takes more is evicted."""
    shared_memory: Memory
    """Size of ``/dev/shm``, which is part of the memory."""

    @model_validator(mode="after")
    def _fits(self) -> "Requests":
        if quantity(self.shared_memory) > quantity(self.memory):
            raise ValueError(
                f"shared_memory {self.shared_memory} is part of memory and must not be more than "
                f"its {self.memory}"
            )
        return self


class StageRequests(Section):
    """What the pod of one stage asks for instead; what is left out is as for its kind."""

    gpu: Annotated[int, Field(ge=0, le=16)] | None = None
    """GPUs."""
    cpu: Cpu | None = None
    """CPUs."""
    memory: Memory | None = None
    """Memory."""
    ephemeral_storage: Memory | None = None
    """Disk for scratch files."""
    shared_memory: Memory | None = None
    """Size of ``/dev/shm``."""
    node_selector: dict[LabelKey, LabelValue] | None = None
    """Labels of the nodes; left out: the pipeline's."""
    tolerations: list[Toleration] | None = None
    """Taints not minded; left out: the pipeline's."""
    priority_class: ObjectName | None = None
    """Priority class; left out: the pipeline's."""
    spot: bool | None = None
    """Whether it may run on spot capacity; left out: as the pipeline."""


class Resources(Section):
    """What stages ask of the cluster where they are pods; without effect where they are processes.

    Every stage is placed on the GPU pool. Those that run the model (``train``, ``evaluate``,
    ``explain``, ``robustness``) ask for a card; the others do not hold one.
    """

    model: Requests = Requests(
        gpu=1, cpu="4", memory="16Gi", ephemeral_storage="20Gi", shared_memory="2Gi"
    )
    """Stages that run the model."""
    data: Requests = Requests(
        gpu=0, cpu="1", memory="4Gi", ephemeral_storage="10Gi", shared_memory="256Mi"
    )
    """All other stages."""
    stages: dict[StageName, StageRequests] = {}
    """Stage to what it asks for instead."""
    node_selector: dict[LabelKey, LabelValue] | None = None
    """Labels of the nodes; left out: the installation's setting, its GPU pool."""
    tolerations: list[Toleration] | None = None
    """Taints not minded; left out: the installation's setting."""
    spread: Literal["node", "zone", "none"] = "node"
    """What pods are spread over as far as there is room."""
    spot: bool = False
    """Whether stages may run on spot capacity, which is cheaper and may be taken away."""
    priority_class: ObjectName | None = None
    """Priority class; left out: the installation's setting."""
    queue: ObjectName | None = None
    """Kueue's local queue that admits the pods; left out: the installation's setting."""
    cost_center: LabelValue = ""
    """Who pays: the label ``trusted-retraining/cost-center``."""

    def requests(self, stage: str) -> Requests:
        """Return what the pod of a stage asks for.

        Parameters
        ----------
        stage : str
            Name of the stage.
        """
        kind = self.model if stage in MODEL_STAGES else self.data
        own = self.stage(stage)
        changed = {
            name: value
            for name in Requests.model_fields
            if (value := getattr(own, name)) is not None
        }
        return Requests.model_validate(kind.model_dump() | changed)

    def stage(self, stage: str) -> StageRequests:
        """Return what the file says about a stage; empty when it says nothing."""
        return {str(name): own for name, own in self.stages.items()}.get(stage, StageRequests())

    @model_validator(mode="after")
    def _every_stage_fits(self) -> "Resources":
        for name in self.stages:
            self.requests(name)
        return self
