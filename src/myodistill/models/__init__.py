"""Teachers, students and baselines: one file per family, one catalogue."""

from myodistill.models import covariance, logpower, population

__all__ = ["covariance", "logpower", "population"]
