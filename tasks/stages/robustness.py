"""How little it takes to make the model err on purpose."""

import json
from typing import TYPE_CHECKING, Any

from tasks.contract import BadInput
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext

if TYPE_CHECKING:
    from tasks.trust.robustness import Attacked


class RobustnessStage(Stage):
    """Attack test images with FGSM and PGD over a list of strengths (ART).

    Accuracy at a strength counts the images that are classified correctly before and after the
    attack; the success rate counts, among those classified correctly before, the ones that no
    longer are.
    """

    name = "robustness"
    uses_tensorflow = True
    reads = ("arrange", "train", "evaluate")
    produces = {
        "robustness.json": "counts and rates of every attack at every strength",
        "accuracy_by_strength.png": "accuracy against strength, with intervals",
        "adversarial_examples.png": "original, amplified noise and adversarial image",
    }

    def config(self, pipeline: Pipeline) -> Any:
        """Return the section and the confidence of its intervals."""
        section = pipeline.robustness.model_dump(mode="json")
        confidence = pipeline.evaluate.confidence
        return {"robustness": section, "evaluate": {"confidence": confidence}}

    def run(self, context: StageContext) -> Outcome:
        """Attack a stratified choice of test images."""
        from tasks.data import Arranged
        from tasks.training.images import sees_upright
        from tasks.trust.attacks import CHUNK, CompiledClassifier, load_classifier, logits_model
        from tasks.trust.predictions import join_predictions
        from tasks.trust.robustness import attack_all
        from tasks.trust.sampling import decode_images, stratified

        options = context.pipeline.robustness
        arranged = Arranged(context.input("arrange"))
        rows = join_predictions(
            arranged.table("test"), context.input("evaluate").read("predictions.parquet")
        )
        chosen = stratified(rows, by=["class_index"], count=options.images, seed=options.seed)
        if chosen.empty:
            raise BadInput("robustness: the arrangement holds no test images to attack")
        model = load_classifier(
            context.input("train").path("model.keras"),
            architecture=context.pipeline.train.architecture,
        )
        height, width, channels = model.input_shape[1:]
        images = decode_images(
            arranged.read_bytes(chosen),
            image_size=(height, width),
            channels=channels,
            upright=sees_upright(context.input("train").path("model/")),
        )
        true_index = chosen["class_index"].to_numpy(dtype="int64")
        classifier = CompiledClassifier(
            logits_model(model), classes=len(arranged.classes), chunk=min(CHUNK, len(chosen))
        )
        clean, results = attack_all(
            classifier,
            images,
            true_index,
            attacks=list(options.attacks),
            strengths=list(options.strengths),
            steps=options.steps,
            seed=options.seed,
        )
        outcome = Outcome(rows_in=len(rows), rows_out=len(chosen))
        differing = int((clean != chosen["predicted_index"].to_numpy()).sum())
        if differing:
            outcome.warnings.append(
                f"robustness: model.keras and the evaluated model disagree on {differing} of "
                f"{len(chosen)} images"
            )
        was_right = clean == true_index
        documents = _tell(context, outcome, was_right, results)
        _draw(context, outcome, documents, images, clean, true_index, results, arranged.classes)
        return outcome


def _tell(
    context: StageContext, outcome: Outcome, was_right: Any, results: "list[Attacked]"
) -> list[dict[str, Any]]:
    """Add the metrics to the outcome, write the document, return its list of attacks."""
    from tasks.trust.intervals import wilson
    from tasks.trust.robustness import as_document

    confidence = context.pipeline.evaluate.confidence
    right, rows = int(was_right.sum()), len(was_right)
    low, high = wilson(right, rows, confidence=confidence)
    clean = {"accuracy": right / rows, "low": low, "high": high, "right": right, "images": rows}
    outcome.metrics |= {
        "clean_accuracy": right / rows,
        "clean_accuracy.low": low,
        "clean_accuracy.high": high,
        "images": rows,
    }
    outcome.notes["clean_accuracy"] = f"{right} of the {rows} images attacked are right before"
    documents = []
    for result in results:
        interval = wilson(int(result.right.sum()), rows, confidence=confidence)
        document = as_document(result, was_right=right, interval=interval)
        documents.append(document)
        name = f"{result.attack}.accuracy_at_{result.strength:g}"
        outcome.metrics |= {
            name: document["accuracy"],
            f"{name}.low": interval[0],
            f"{name}.high": interval[1],
        }
        note = (
            f"{document['right']} of {rows} images right under {result.attack.upper()} that "
            f"changes a pixel by at most {result.strength:g} of its range, {right} without it"
        )
        outcome.notes[name] = note
        if document["success_rate"] is not None:
            success = f"{result.attack}.success_rate_at_{result.strength:g}"
            outcome.metrics[success] = document["success_rate"]
            outcome.notes[success] = f"{document['fooled']} of {right} right answers turned wrong"
    options = context.pipeline.robustness
    whole = {
        "images": rows,
        "clean": clean,
        "steps": options.steps,
        "seed": options.seed,
        "confidence": confidence,
        "attacks": documents,
    }
    (context.out / "robustness.json").write_text(json.dumps(whole, indent=1), encoding="utf-8")
    return documents


def _draw(
    context: StageContext,
    outcome: Outcome,
    documents: list[dict[str, Any]],
    images: Any,
    clean: Any,
    true_index: Any,
    results: "list[Attacked]",
    classes: list[str],
) -> None:
    from tasks.figures import save_figure
    from tasks.trust.robustness_figure import choose_examples, draw_accuracy, draw_examples

    start = {
        "accuracy": outcome.metrics["clean_accuracy"],
        "low": outcome.metrics["clean_accuracy.low"],
        "high": outcome.metrics["clean_accuracy.high"],
    }
    curve = draw_accuracy(
        start,
        documents,
        chance=1 / len(classes),
        confidence=context.pipeline.evaluate.confidence,
    )
    save_figure(curve, context.out / "accuracy_by_strength.png")
    examples = choose_examples(clean, true_index, results)
    figure = draw_examples(images, clean, true_index, examples, classes=classes)
    save_figure(figure, context.out / "adversarial_examples.png")


STAGE = RobustnessStage()
