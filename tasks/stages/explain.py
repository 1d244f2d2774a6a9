"""Where the model looks when it decides."""

import json
import logging
import math
import time
from typing import TYPE_CHECKING, Any

from tasks.contract import BadInput
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext

if TYPE_CHECKING:
    import pandas as pd

    from tasks.data import Arranged
    from tasks.trust.explain_figure import Explained

log = logging.getLogger("tasks")

_LINE_EVERY_SECONDS = 5.0


class ExplainStage(Stage):
    """Explain predictions of test images by heat maps (LIME).

    Images are chosen from every class, rightly and wrongly classified ones. The class explained is
    the one predicted. Where masks of the relevant region exist, the share of the positive
    explanation mass inside is told beside the region's share of the image: a model that looks
    elsewhere has about as much mass inside as area, or less.
    """

    name = "explain"
    uses_tensorflow = True
    reads = ("arrange", "train", "evaluate")
    produces = {
        "explanations.json": "weight of every segment of every image explained",
        "explanations.png": "images beside their heat maps",
    }

    def config(self, pipeline: Pipeline) -> Any:
        """Return the section and the intervals' settings."""
        return {
            "explain": pipeline.explain.model_dump(mode="json"),
            "bootstrap": pipeline.evaluate.bootstrap,
            "confidence": pipeline.evaluate.confidence,
        }

    def run(self, context: StageContext) -> Outcome:
        """Explain a stratified choice of test images."""
        from tasks.data import Arranged
        from tasks.figures import save_figure
        from tasks.trust.explain_figure import draw_explanations
        from tasks.trust.focus import focus_metrics
        from tasks.trust.predictions import join_predictions
        from tasks.trust.sampling import stratified

        options = context.pipeline.explain
        arranged = Arranged(context.input("arrange"))
        rows = join_predictions(
            arranged.table("test"), context.input("evaluate").path("predictions.parquet")
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
        explained = _explain(context, arranged, chosen)
        metrics, notes, warnings = focus_metrics(
            explained,
            draws=context.pipeline.evaluate.bootstrap,
            confidence=context.pipeline.evaluate.confidence,
        )
        document = {
            "method": "lime",
            "samples": options.samples,
            "seed": options.seed,
            "metrics": metrics,
            "images": [_describe(item) for item in explained],
        }
        (context.out / "explanations.json").write_text(
            json.dumps(document, indent=1), encoding="utf-8"
        )
        save_figure(draw_explanations(explained), context.out / "explanations.png")
        return Outcome(
            metrics=metrics,
            notes=notes,
            warnings=warnings,
            rows_in=len(rows),
            rows_out=len(explained),
        )


def _explain(
    context: StageContext, arranged: "Arranged", chosen: "pd.DataFrame"
) -> "list[Explained]":
    from tasks.trust.explain_figure import Explained
    from tasks.trust.explanations import mass_inside, resize_region
    from tasks.trust.lime_images import LimeExplainer, load_tensors_signature
    from tasks.trust.sampling import decode_images

    options = context.pipeline.explain
    folder = context.input("train").path("model/")
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    height, width = description["image_size"]
    images = decode_images(
        arranged.read_bytes(chosen), image_size=(height, width), channels=description["channels"]
    )
    explainer = LimeExplainer(
        load_tensors_signature(folder),
        samples=options.samples,
        segments=options.segments,
        seed=options.seed,
    )
    explained = []
    started = spoken = time.monotonic()
    for number, (image, (_, row)) in enumerate(zip(images, chosen.iterrows(), strict=True), 1):
        explanation = explainer.explain(image)
        mask = arranged.region(row)
        region = None if mask is None else resize_region(mask, (height, width))
        explained.append(
            Explained(
                image_id=row["image_id"],
                image=image,
                explanation=explanation,
                true_class=arranged.classes[row["class_index"]],
                predicted_class=arranged.classes[explanation.class_index],
                region=region,
                inside=None if region is None else mass_inside(explanation.heat, region),
                area=None if region is None else float(region.mean()),
            )
        )
        if time.monotonic() - spoken > _LINE_EVERY_SECONDS or number == len(images):
            spoken = time.monotonic()
            speed = number * options.samples / (spoken - started)
            log.info(
                "explain: %d of %d images explained (%.0f samples/s)", number, len(images), speed
            )
    return explained


def _describe(item: "Explained") -> dict[str, Any]:
    explanation = item.explanation
    return {
        "image_id": item.image_id,
        "true_class": item.true_class,
        "predicted_class": item.predicted_class,
        "correct": item.correct,
        "probability": round(explanation.probability, 6),
        "fidelity": round(explanation.fidelity, 6),
        # not a number, which JSON does not know, where nothing speaks for the class
        "mass_inside_region": item.inside if math.isfinite(item.inside or 0.0) else None,
        "region_area": item.area,
        "weights": [round(float(weight), 8) for weight in explanation.weights],
    }


STAGE = ExplainStage()
