"""How good the served answers are, proved from few labels, and which labels to buy next.

Every answer has a P(correct) (`correctness`, `opinion`); labels correct it (`estimate`), weighted by how
they came (`design`); the result is an interval that may be looked at after every label (`interval`). `buying`
draws the rows whose labels tell the most, with known probabilities.
Sources: Angelopoulos et al. (2023), prediction-powered inference; PPRM (arXiv 2602.02229); Zrnic and Candès
(2024), active statistical inference.
"""

from monitor.quality.measure import Quality, read_quality
from monitor.quality.requests import LabelRequest, next_labels

__all__ = ["LabelRequest", "Quality", "next_labels", "read_quality"]
