"""Checks that others leave out: fairness across groups, explanations, adversarial robustness."""
