"""What the paper compares with, and the paper's own two methods: one file each, with source and guarantee.

Each adds its noise in one of three ways: to the mean of local models, to the local objectives, or to mean gradients.
"""

from mpcdp.reproduce.baselines.local_gradient import LocalGradient
from mpcdp.reproduce.baselines.local_objective import LocalObjective, ObjectiveTerms
from mpcdp.reproduce.baselines.local_output import LocalOutput
from mpcdp.reproduce.baselines.noise import Noise
from mpcdp.reproduce.baselines.paper_gradient import PaperGradient
from mpcdp.reproduce.baselines.paper_output import PaperOutput
from mpcdp.reproduce.baselines.pathak import Pathak
from mpcdp.reproduce.baselines.rajkumar_agarwal import RajkumarAgarwal
from mpcdp.reproduce.baselines.setting import Calibration, Guarantee, Setting

__all__ = [
    "GRADIENT_METHODS",
    "OUTPUT_METHODS",
    "Calibration",
    "Guarantee",
    "LocalGradient",
    "LocalObjective",
    "LocalOutput",
    "Noise",
    "ObjectiveTerms",
    "PaperGradient",
    "PaperOutput",
    "Pathak",
    "RajkumarAgarwal",
    "Setting",
]

OUTPUT_METHODS = (Pathak(), LocalOutput(), PaperOutput())
"""Noise on the mean of local models."""

GRADIENT_METHODS = (LocalGradient(), PaperGradient())
"""Noise on mean gradients alone."""
