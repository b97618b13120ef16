"""Teachers, students and baselines: one file per family, one catalogue.

Importing the package registers every family; ``registry.register_model`` adds one of your own.
"""

from myodistill.models import (
    closed_form,
    cnn,
    cnnlstm,
    covariance,
    densenet,
    inception,
    log_covariance,
    logpower,
    p3d,
    recurrent,
    representations,
    tcn,
    vgg,
)

__all__ = [
    "closed_form",
    "cnn",
    "cnnlstm",
    "covariance",
    "densenet",
    "inception",
    "log_covariance",
    "logpower",
    "p3d",
    "recurrent",
    "representations",
    "tcn",
    "vgg",
]
