"""The scores of the IEEE BioCAS 2022 challenge on SPRSound, event level.

Source: https://github.com/SJTU-YONGFU-RESEARCH-GRP/SPRSound (evaluation of Tasks 1-1 and 1-2);
Zhang et al., IEEE TBioCAS 2022.
"""

from math import isnan, nan

from torch import Tensor

TASKS = {"two_class": "1-1", "sprsound_seven": "1-2"}  # label set -> the challenge's task


def biocas_scores(confusion: Tensor) -> dict[str, float]:
    """Compute the challenge's five scores of a confusion matrix [K, K]; class 0 is normal.

    SP: the share of normal events predicted as normal. SE: the share of all adventitious events
    predicted as their exact type (not a mean over classes). AS = (SE + SP) / 2,
    HS = 2·SE·SP / (SE + SP), Score = (AS + HS) / 2. A score is nan without normal or without
    adventitious events; HS is 0 if SE and SP are 0. Task 1-1 has 2 classes, task 1-2 has 7.

    Examples:
        >>> import torch
        >>> biocas_scores(torch.tensor([[3, 1], [1, 1]]))
        {'SE': 0.5, 'SP': 0.75, 'AS': 0.625, 'HS': 0.6, 'Score': 0.6125}
    """
    correct, totals = confusion.diagonal().tolist(), confusion.sum(dim=1).tolist()
    specificity = correct[0] / totals[0] if totals[0] else nan
    sensitivity = sum(correct[1:]) / sum(totals[1:]) if sum(totals[1:]) else nan
    total = sensitivity + specificity
    average = total / 2
    harmonic = total if not total or isnan(total) else 2 * sensitivity * specificity / total
    score = (average + harmonic) / 2
    return {"SE": sensitivity, "SP": specificity, "AS": average, "HS": harmonic, "Score": score}
