"""What each metric means, which value is fair or good, and where its formula is from."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """A metric in words.

    Attributes
    ----------
    title : str
        Its name in the field.
    ideal : str
        The value that is fair or good, with the range.
    meaning : str
        One or two sentences for an auditor.
    """

    title: str
    ideal: str
    meaning: str


_AIF360 = "Bellamy et al. 2018, AI Fairness 360"
_FAIRLEARN = "Weerts et al. 2023, Fairlearn"

TERMS: dict[str, Term] = {
    "accuracy": Term("Accuracy", "1, in 0 to 1", "Share of test images that are classified right."),
    "balanced_accuracy": Term(
        "Balanced accuracy",
        "1; chance is 1 / classes",
        "Mean of the recalls of the classes that have test images, so that a rare class weighs as"
        " much as a common one.",
    ),
    "balanced_accuracy_above_chance": Term(
        "Balanced accuracy above chance",
        "1; 0 is guessing",
        "Balanced accuracy rescaled so that 0 is what guessing, or one answer for everything, gets:"
        " (b - 1/K) / (1 - 1/K) for K classes with test images.",
    ),
    "least_recall": Term(
        "Least recall",
        "1, in 0 to 1",
        "Recall of the class that is found worst. Near 0, the model has given up on a class.",
    ),
    "roc_auc": Term(
        "ROC AUC",
        "1; 0.5 is guessing",
        "Chance that a random positive image is scored above a random negative one (one class"
        " against the rest, averaged, when there are more than two).",
    ),
    "recall": Term(
        "Recall", "1, in 0 to 1", "Share of the images of a class that the model puts in it."
    ),
    "precision": Term(
        "Precision", "1, in 0 to 1", "Share of the images put in a class that belong to it."
    ),
    "f1": Term("F1", "1, in 0 to 1", "Harmonic mean of precision and recall."),
    "rows": Term("Test rows", "", "Images that the figures are computed on."),
    "images": Term("Images examined", "", "Test images chosen for this check."),
    "balanced_accuracy_difference": Term(
        "Challenger against champion, balanced accuracy",
        "above 0",
        "The challenger's balanced accuracy less the champion's, on the same test images.",
    ),
    "accuracy_difference": Term(
        "Challenger against champion, accuracy",
        "above 0",
        "The challenger's accuracy less the champion's, on the same test images.",
    ),
    "champion.accuracy": Term(
        "Champion's accuracy",
        "",
        "Accuracy on the same test images of the model that served when this one was judged.",
    ),
    "champion.balanced_accuracy": Term(
        "Champion's balanced accuracy",
        "",
        "Balanced accuracy on the same test images of the model that served when this one was"
        " judged.",
    ),
    "accuracy_logged": Term(
        "Accuracy, logged while training",
        "1, in 0 to 1",
        "As Keras reports it for the epoch whose weights are kept, with dropout and batch"
        " statistics in effect, while the weights still change.",
    ),
    "accuracy_inference": Term(
        "Accuracy, in inference mode",
        "1, near the logged one",
        "On the training images with the model as it will serve. Far from the logged figure, the"
        " model that was trained is not the one that answers.",
    ),
    "val_accuracy": Term(
        "Validation accuracy", "1, in 0 to 1", "On the part held out of training."
    ),
    "epochs": Term("Epochs", "", "Passes over the training images that were made."),
    "images_per_second": Term("Images a second", "", "Speed of training."),
    "dp.epsilon": Term(
        "Epsilon, privacy of the training images",
        "0; under 1 is strong, above 10 says little",
        "Bound on how much adding or removing one training image may change the (natural logarithm"
        " of the) probability of any model (Dwork et al. 2006; DP-SGD, Abadi et al. 2016). By the"
        " distribution of the privacy loss, of all steps that were planned.",
    ),
    "dp.epsilon_rdp": Term(
        "Epsilon by Rényi differential privacy",
        "0",
        "The same bound by the accountant of most publications, which is less tight (Mironov et al."
        " 2019).",
    ),
    "dp.epsilon_group": Term(
        "Epsilon for a whole group",
        "0",
        "The bound when all training images of the group (patient) with the most of them are added"
        " or removed at once (Ganesh 2024).",
    ),
    "dp.delta": Term(
        "Delta", "far below 1 / training images", "Probability with which epsilon may fail to hold."
    ),
    "dp.noise_multiplier": Term(
        "Noise multiplier",
        "",
        "Standard deviation of the noise on a step's sum of gradients, as a multiple of the largest"
        " norm that one image's gradient may have.",
    ),
    "dp.l2_norm_clip": Term("Gradient clip", "", "Largest norm of one image's gradient."),
    "dp.sampling_rate": Term(
        "Sampling rate", "", "Probability with which an image is in a step, whatever else is."
    ),
    "dp.steps": Term("Steps accounted for", "", "Steps of all epochs that were planned."),
    "dp.images_per_group": Term(
        "Images of the largest group", "1", "Most training images of one group (patient)."
    ),
    "statistical_parity_difference": Term(
        "Statistical parity difference",
        "0, in -1 to 1; within ±0.1 is usually called fair",
        "Share of the unprivileged group with the favourable outcome less that of the privileged"
        f" group. Below 0, the unprivileged group fares worse ({_AIF360}).",
    ),
    "disparate_impact": Term(
        "Disparate impact",
        "1, from 0 up; 0.8 to 1.25 is usually called fair",
        "The same two shares as a ratio. 0.8 is the four-fifths rule of the United States' EEOC"
        " (Feldman et al. 2015).",
    ),
    "equal_opportunity_difference": Term(
        "Equal opportunity difference",
        "0, in -1 to 1; within ±0.1 is usually called fair",
        "Difference of the true positive rates, unprivileged less privileged: whether those to whom"
        " the favourable outcome is due get it as often (Hardt et al. 2016). Where that outcome is"
        " to be classified correctly, it is due to all, and this is the difference of accuracy.",
    ),
    "average_odds_difference": Term(
        "Average odds difference",
        "0, in -1 to 1; within ±0.1 is usually called fair",
        "Mean of the differences in true positive and false positive rates, unprivileged less"
        f" privileged (Hardt et al. 2016; {_AIF360}).",
    ),
    "theil_index": Term(
        "Theil index",
        "0, from 0 up",
        "Inequality of the benefit over all individuals, a generalised entropy with alpha = 1;"
        " the benefit of a person is prediction - truth + 1 (Speicher et al. 2018). It does not"
        " compare the groups.",
    ),
    "fairlearn.accuracy_difference": Term(
        "Accuracy difference",
        "0, in 0 to 1",
        f"Largest accuracy of a group less the smallest ({_FAIRLEARN}).",
    ),
    "fairlearn.accuracy_ratio": Term(
        "Accuracy ratio", "1, in 0 to 1", "Smallest accuracy of a group, divided by the largest."
    ),
    "fairlearn.demographic_parity_difference": Term(
        "Demographic parity difference",
        "0, in 0 to 1",
        "Largest share of a group that is put in the class, less the smallest. Of two groups, the"
        " statistical parity difference without its sign.",
    ),
    "fairlearn.demographic_parity_ratio": Term(
        "Demographic parity ratio",
        "1, in 0 to 1; 0.8 by the four-fifths rule",
        "The smallest of these shares, divided by the largest.",
    ),
    "fairlearn.equal_opportunity_difference": Term(
        "Equal opportunity difference, between any two",
        "0, in 0 to 1",
        "Largest true positive rate of a group less the smallest (Hardt et al. 2016).",
    ),
    "fairlearn.equal_opportunity_ratio": Term(
        "Equal opportunity ratio",
        "1, in 0 to 1",
        "Smallest true positive rate of a group, divided by the largest.",
    ),
    "fairlearn.false_positive_rate_difference": Term(
        "False positive rate difference",
        "0, in 0 to 1",
        "Largest share of false alarms in a group less the smallest.",
    ),
    "fairlearn.false_positive_rate_ratio": Term(
        "False positive rate ratio",
        "1, in 0 to 1",
        "Smallest share of false alarms in a group, divided by the largest.",
    ),
    "fairlearn.equalized_odds_difference": Term(
        "Equalized odds difference",
        "0, in 0 to 1",
        "The larger of the differences in true and in false positive rate (Hardt et al. 2016)."
        " Fairlearn offers no interval for it.",
    ),
    "fairlearn.equalized_odds_ratio": Term(
        "Equalized odds ratio",
        "1, in 0 to 1",
        "The smaller of the ratios of true and of false positive rate.",
    ),
    "accuracy_gap": Term(
        "Accuracy gap", "0, in 0 to 1", "Largest difference in accuracy between any two groups."
    ),
    "true_positive_rate_gap": Term(
        "True positive rate gap",
        "0, in 0 to 1",
        "Largest difference between any two groups in the share of findings that are found.",
    ),
    "false_positive_rate_gap": Term(
        "False positive rate gap",
        "0, in 0 to 1",
        "Largest difference between any two groups in the share of false alarms.",
    ),
    "worst_group_accuracy": Term(
        "Accuracy of the worst-served group", "1, in 0 to 1", "Of the groups large enough to judge."
    ),
    "focus": Term(
        "Focus",
        "well above 1; 1 is looking everywhere alike",
        "Explanation mass inside the region, divided by the region's share of the area.",
    ),
    "fidelity": Term(
        "Fidelity of the explanations",
        "1; under 0.5 they tell little",
        "How well LIME's local linear model follows the model (coefficient of determination).",
    ),
    "mass_inside_region": Term(
        "Explanation mass inside the region",
        "1, and well above the region's share of the area",
        "Share of what speaks for the predicted class (LIME's positive weights, Ribeiro et al."
        " 2016; SHAP's positive attributions, Lundberg and Lee 2017) that falls on the relevant"
        " region."
        " No higher than the region's share of the area, the model looks elsewhere.",
    ),
    "mass_inside_part": Term(
        "Explanation mass in a part",
        "",
        "Share of what speaks for the predicted class that falls on a part which lies at the same"
        " place in every image.",
    ),
    "images_with_mass": Term(
        "Images in which something speaks for the class",
        "all that were explained",
        "What is told of parts is of these.",
    ),
    "part_focus": Term(
        "Focus on a part",
        "1 is as much as anywhere",
        "Explanation mass in the part, divided by the part's share of the area.",
    ),
    "additivity_gap": Term(
        "Gap of the sum",
        "0, in 0 to 2",
        "SHAP shares out how far the probability of the predicted class lies from what it is"
        " without the image: by how much the shares miss that sum, in the mean. 0 up to rounding"
        " for Owen values; for expected gradients it falls with the number of samples.",
    ),
    "region_area": Term(
        "Region's share of the area",
        "",
        "Mean share of the image that the relevant region covers: what explanations spread at"
        " random would reach.",
    ),
    "clean_accuracy": Term(
        "Accuracy without attack",
        "1, in 0 to 1",
        "On the images that are then attacked, the same number of every class as far as there are"
        " enough: not the accuracy on all test images.",
    ),
    "accuracy_at": Term(
        "Accuracy under attack",
        "the accuracy without attack",
        "On images whose pixels were each changed by at most this share of the pixel range, so as"
        " to mislead the model. FGSM takes one step (Goodfellow et al. 2015), PGD several (Madry et"
        " al. 2018).",
    ),
    "success_rate_at": Term(
        "Success rate of the attack", "0, in 0 to 1", "Share of right answers that it turned wrong."
    ),
}


def find_term(name: str) -> Term | None:
    """Return the term of a metric, looked up by its name without the stage, then by its last part.

    Parameters
    ----------
    name : str
        Such as ``balanced_accuracy``, ``recall.pneumonia``, ``sex.disparate_impact`` or
        ``gradient_shap.focus``.
    """
    part = re.search(r"(mass_inside_part|part_focus)\.", name)
    if part:
        # a part may be called as a metric is
        return TERMS[part[1]]
    attack = re.search(r"(accuracy|success_rate)_at_[\d.e-]+$", name)
    if attack:
        return TERMS[f"{attack[1]}_at"]
    if ".fairlearn." in name:
        return TERMS.get(f"fairlearn.{name.rpartition('.')[2]}")
    name = re.sub(r"^(gradient|partition)_shap\.", "", name)
    measure = name.partition(".")[0]
    for candidate in (name, name.rpartition(".")[2], measure, measure.removesuffix("_for")):
        if candidate in TERMS:
            return TERMS[candidate]
    return None
