"""Errors of the model's room. The message of each is a full sentence that a user may read and that says what to do
next.
"""


class MlError(Exception):
    """Base of every error that ``ml`` raises on purpose; ``str(error)`` may be shown to the user as it stands."""


class ImageError(MlError):
    """The file given cannot be taken as one CT slice."""


class UnreadableImageError(ImageError):
    """The bytes are missing, cut short, damaged or not what they claim to be."""


class UnsupportedImageError(ImageError):
    """A sound file, but not one slice of a kind this system reads (format, animation, photograph, DICOM of another
    kind).
    """


class ImageTooLargeError(ImageError):
    """More bytes or more pixels than are accepted."""


class ImageTooSmallError(ImageError):
    """Too few pixels for a slice to be read."""


class ModelFileError(MlError):
    """The model's folder is missing, incomplete, or its files are not those that ``model.json`` names."""


class RegistryError(MlError):
    """A version of the model cannot be registered, promoted, rolled back or challenged as asked."""


class PromotionRefusedError(RegistryError):
    """A version's figures are worse than the champion's, or missing; ``objections`` are the sentences about each."""

    def __init__(self, sentence: str, *, objections: tuple[str, ...]) -> None:
        super().__init__(sentence)
        self.objections = objections


class TrainingDataError(MlError):
    """A folder of training or evaluation data is missing or not laid out as expected."""


class PreparationError(MlError):
    """The base model cannot be prepared: the weights to start from could not be fetched."""


class DivergedError(MlError):
    """Training stopped because the loss is no longer a number or no longer improves."""


class NotANumberError(DivergedError):
    """The loss of a training is no longer a number."""


class NoImprovementError(DivergedError):
    """The loss of a training does not fall."""


class EvaluationError(MlError):
    """An evaluation cannot be made, or its outcome cannot be right."""


class OutOfBandError(EvaluationError):
    """A figure of an evaluation lies outside the band in which it is expected."""


class MissingDependencyError(MlError):
    """A package that only training machines install is needed for what was asked."""


class TrackingError(MlError):
    """The store of training runs cannot be reached or refuses what it is given."""


class TrainingRunError(MlError):
    """A training cannot be asked for or stopped now."""
