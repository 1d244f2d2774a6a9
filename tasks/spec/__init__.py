"""The pipeline file as typed models: the one source for YAML validation, command line, trigger form
and MLflow parameters."""

from tasks.spec.annotations import CloudAnnotations, Coco
from tasks.spec.base import Section, SpecError
from tasks.spec.custom import Custom
from tasks.spec.data import Label, Split, Transform, Validate
from tasks.spec.database import Sql
from tasks.spec.extra import ExtraStage, after_verdict, in_order
from tasks.spec.gate import Blessing, ChampionComparison, Deploy, Rule
from tasks.spec.overrides import Change, changes, override
from tasks.spec.pipeline import Pipeline, apply_overrides, load_pipeline, parse_overrides
from tasks.spec.publishing import Publish, PublishDataset, PublishReport
from tasks.spec.resources import MODEL_STAGES, Requests, Resources, Toleration
from tasks.spec.sources import (
    Cifar10,
    ClassFolders,
    CsvImages,
    FairFace,
    Idx,
    Parquet,
    Source,
    Synthetic,
    TFRecord,
)
from tasks.spec.training import Augmentation, Evaluate, Head, Privacy, Train
from tasks.spec.trigger import Trigger
from tasks.spec.trust import Explain, Fairness, ProtectedAttribute, Robustness

__all__ = [
    "MODEL_STAGES",
    "Augmentation",
    "Blessing",
    "ChampionComparison",
    "Change",
    "Cifar10",
    "ClassFolders",
    "CloudAnnotations",
    "Coco",
    "CsvImages",
    "Custom",
    "Deploy",
    "Evaluate",
    "Explain",
    "ExtraStage",
    "FairFace",
    "Fairness",
    "Head",
    "Idx",
    "Label",
    "Parquet",
    "Pipeline",
    "Privacy",
    "ProtectedAttribute",
    "Publish",
    "PublishDataset",
    "PublishReport",
    "Requests",
    "Resources",
    "Robustness",
    "Rule",
    "Section",
    "Source",
    "SpecError",
    "Split",
    "Sql",
    "Synthetic",
    "TFRecord",
    "Toleration",
    "Train",
    "Transform",
    "Trigger",
    "Validate",
    "after_verdict",
    "apply_overrides",
    "changes",
    "in_order",
    "load_pipeline",
    "override",
    "parse_overrides",
]
