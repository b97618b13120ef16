"""Teachers, students and baselines: one file per family, one catalogue.

Importing the package registers every family; ``catalogue.register`` adds one of your own.
"""

from myodistill.models import cnn, cnnlstm, densenet, inception, p3d, recurrent, tcn, vgg

__all__ = ["cnn", "cnnlstm", "densenet", "inception", "p3d", "recurrent", "tcn", "vgg"]
