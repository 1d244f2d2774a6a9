"""Where the model looks when it decides."""

import json
import logging
import time
from typing import TYPE_CHECKING, Any

from tasks.contract import BadInput
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext

if TYPE_CHECKING:
    import pandas as pd

    from tasks.data import Arranged
    from tasks.trust.explain_figure import Explained
    from tasks.trust.explanations import Explainer, Region

log = logging.getLogger("tasks")

_LINE_EVERY_SECONDS = 5.0

_TITLES = {
    "gradient_shap": "What each class rests on, pixel by pixel (SHAP, expected gradients)",
    "partition_shap": "What each class rests on, by halves of halves (SHAP, Owen values)",
}


class ExplainStage(Stage):
    """Explain predictions of test images by heat maps (LIME, SHAP).

    Images are chosen from every class, rightly and wrongly classified ones, the same for every
    method. The class explained is the one predicted; SHAP's picture shows the other classes beside
    it. Where masks of the relevant region exist, the share of the positive explanation mass inside
    is told beside the region's share of the image: a model that looks elsewhere has about as much
    mass inside as area, or less. Where images are aligned, the same is told of named parts of them.

    LIME's figures are ``explain.NAME``, those of another method ``explain.METHOD.NAME``.
    """

    name = "explain"
    uses_tensorflow = True
    reads = ("arrange", "train", "evaluate")
    produces = {
        "explanations.json": "LIME: weight of every segment of every image explained",
        "explanations.png": "LIME: images beside their heat maps",
        "explanations_parts.png": "aligned images: mean heat map, and the focus on each part",
        "explanations_<method>.json": "SHAP: what was found of every image explained",
        "explanations_<method>.png": "SHAP: images beside a heat map of each class",
        "explanations_<method>_parts.png": "SHAP: as LIME's",
    }

    def config(self, pipeline: Pipeline) -> Any:
        """Return the section and the intervals' settings."""
        return {
            "explain": pipeline.explain.model_dump(mode="json"),
            "evaluate": {
                "bootstrap": pipeline.evaluate.bootstrap,
                "confidence": pipeline.evaluate.confidence,
            },
        }

    def run(self, context: StageContext) -> Outcome:
        """Explain a stratified choice of test images."""
        from tasks.data import Arranged
        from tasks.trust.parts import part_masks
        from tasks.trust.predictions import join_predictions
        from tasks.trust.sampling import stratified

        options = context.pipeline.explain
        arranged = Arranged(context.input("arrange"))
        rows = join_predictions(
            arranged.table("test"), context.input("evaluate").read("predictions.parquet")
        )
        if rows.empty:
            raise BadInput("explain: the arrangement holds no test images to explain")
        rows["has_region"] = rows["region_path"].notna()
        chosen = stratified(
            rows,
            by=["class_index", "correct"],
            count=options.images,
            seed=options.seed,
            first="has_region",
        )
        masks = part_masks(options.parts, _model(context)["image_size"])
        outcome = Outcome(rows_in=len(rows), rows_out=len(chosen))
        for method, explained in _explain(context, arranged, chosen).items():
            _tell(context, outcome, method, explained, classes=arranged.classes, masks=masks)
        return outcome


def _tell(
    context: StageContext,
    outcome: Outcome,
    method: str,
    explained: "list[Explained]",
    *,
    classes: list[str],
    masks: "dict[str, Region]",
) -> None:
    """Add a method's figures to the outcome, write its document and its picture."""
    from tasks.figures import save_figure
    from tasks.trust.class_figure import draw_by_class
    from tasks.trust.explain_figure import draw_explanations
    from tasks.trust.focus import focus_metrics
    from tasks.trust.parts import part_metrics
    from tasks.trust.parts_figure import draw_parts

    options = context.pipeline.explain
    evaluate = context.pipeline.evaluate
    intervals: dict[str, Any] = {"draws": evaluate.bootstrap, "confidence": evaluate.confidence}
    metrics, notes, warnings = focus_metrics(explained, method=method, **intervals)
    of_parts, said, dropped = part_metrics(explained, masks, **intervals)
    metrics |= of_parts
    notes |= said
    warnings += dropped
    outcome.metrics |= {_metric_name(method, name): value for name, value in metrics.items()}
    outcome.notes |= {_metric_name(method, name): text for name, text in notes.items()}
    outcome.warnings.extend(warnings)
    document = {
        "method": method,
        "samples": options.samples,
        "seed": options.seed,
        "metrics": metrics,
        "images": [_describe(item, classes) for item in explained],
    }
    stem = "explanations" if method == "lime" else f"explanations_{method}"
    text = json.dumps(document, indent=1)
    (context.out / f"{stem}.json").write_text(text, encoding="utf-8")
    figure = (
        draw_explanations(explained)
        if method == "lime"
        else draw_by_class(explained, classes=classes, title=_TITLES[method])
    )
    save_figure(figure, context.out / f"{stem}.png")
    if masks:
        save_figure(draw_parts(explained, masks), context.out / f"{stem}_parts.png")


def _model(context: StageContext) -> dict[str, Any]:
    """Return what is written beside the model about it."""
    folder = context.input("train").path("model/")
    return dict(json.loads((folder / "model.json").read_text(encoding="utf-8")))


def _metric_name(method: str, name: str) -> str:
    # the images are the same whatever the method; LIME's names are as old as the stage
    return name if method == "lime" or name == "images" else f"{method}.{name}"


def _explain(
    context: StageContext, arranged: "Arranged", chosen: "pd.DataFrame"
) -> "dict[str, list[Explained]]":
    """Explain the chosen images by every method."""
    from tasks.training.images import sees_upright
    from tasks.trust.explain_figure import Explained
    from tasks.trust.explanations import resize_region
    from tasks.trust.sampling import decode_images

    model = _model(context)
    size, channels = tuple(model["image_size"]), model["channels"]
    images = decode_images(
        arranged.read_bytes(chosen),
        image_size=size,
        channels=channels,
        upright=sees_upright(context.input("train").path("model/")),
    )
    masks = [arranged.region(row) for _, row in chosen.iterrows()]
    regions = [None if mask is None else resize_region(mask, size) for mask in masks]
    found: dict[str, list[Explained]] = {}
    for method in context.pipeline.explain.methods:
        explainer = _explainer(method, context, arranged)
        progress = _Progress(method, len(images), context.pipeline.explain.samples)
        found[method] = []
        for image, region, (_, row) in zip(images, regions, chosen.iterrows(), strict=True):
            explanation = explainer.explain(image)
            found[method].append(
                Explained(
                    image_id=row["image_id"],
                    image=image,
                    explanation=explanation,
                    true_class=arranged.classes[row["class_index"]],
                    predicted_class=arranged.classes[explanation.class_index],
                    region=region,
                )
            )
            progress.one_more()
    return found


def _explainer(method: str, context: StageContext, arranged: "Arranged") -> "Explainer":
    """Return a method's explainer of the model that would be served."""
    from tasks.trust.masked_copies import load_tensors_signature

    options = context.pipeline.explain
    folder = context.input("train").path("model/")
    classify = load_tensors_signature(folder)
    if method == "lime":
        from tasks.trust.lime_images import LimeExplainer

        return LimeExplainer(
            classify, samples=options.samples, segments=options.segments, seed=options.seed
        )
    if method == "partition_shap":
        from tasks.trust.partition_shap import PartitionShapExplainer

        return PartitionShapExplainer(classify, samples=options.samples, seed=options.seed)
    from tasks.training.images import sees_upright
    from tasks.trust.gradient_shap import GradientShapExplainer
    from tasks.trust.sampling import decode_images, stratified

    model = _model(context)
    rows = arranged.table("train")
    if rows.empty:
        raise BadInput(
            "explain.methods: gradient_shap compares with training images, and the arrangement "
            "holds none"
        )
    chosen = stratified(rows, by=["class_index"], count=options.background, seed=options.seed)
    background = decode_images(
        arranged.read_bytes(chosen),
        image_size=tuple(model["image_size"]),
        channels=model["channels"],
        upright=sees_upright(context.input("train").path("model/")),
    )
    return GradientShapExplainer(
        classify, background=background, samples=options.samples, seed=options.seed
    )


class _Progress:
    """Says now and then how far a method has come."""

    def __init__(self, method: str, images: int, samples: int) -> None:
        self._method, self._images, self._samples = method, images, samples
        self._done = 0
        self._started = self._spoken = time.monotonic()

    def one_more(self) -> None:
        """Count an image."""
        self._done += 1
        now = time.monotonic()
        if now - self._spoken > _LINE_EVERY_SECONDS or self._done == self._images:
            self._spoken = now
            speed = self._done * self._samples / (now - self._started)
            log.info(
                "explain: %s: %d of %d images explained (%.0f samples/s)",
                self._method,
                self._done,
                self._images,
                speed,
            )


def _describe(item: "Explained", classes: list[str]) -> dict[str, Any]:
    explanation = item.explanation
    described: dict[str, Any] = {
        "image_id": item.image_id,
        "true_class": item.true_class,
        "predicted_class": item.predicted_class,
        "correct": item.correct,
        "probability": round(explanation.probability, 6),
        "mass_inside_region": item.inside,
        "region_area": item.area,
    }
    if explanation.fidelity is not None:
        described["fidelity"] = round(explanation.fidelity, 6)
    if explanation.additivity_gap is not None and explanation.expected is not None:
        described["expected"] = round(explanation.expected, 6)
        described["additivity_gap"] = round(explanation.additivity_gap, 6)
        described["sums"] = {
            classes[number]: round(float(heat.sum()), 6)
            for number, heat in explanation.by_class.items()
        }
    if explanation.weights is not None:
        described["weights"] = [round(float(weight), 8) for weight in explanation.weights]
    return described


STAGE = ExplainStage()
