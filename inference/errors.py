"""Errors of models and images.

::

    InferenceError
    ├── ModelPackageError              a folder in checkpoints/ can't be used
    │   ├── ManifestMissingError       no manifest.yaml, or it can't be read
    │   ├── ManifestInvalidError       a value is missing or wrong
    │   ├── UnknownKeyError            a key that no manifest has
    │   ├── PathEscapeError            a file outside the model's folder is named
    │   ├── WeightsMissingError        the weights file is not there
    │   ├── WeightsDigestError         its sha256 is not the manifest's
    │   ├── WeightsUnreadableError     it is not a safetensors file
    │   ├── WeightsMismatchError       its tensors are not those of the network
    │   ├── GateMissingError           the file of its gate is not there
    │   ├── GateDigestError            its sha256 is not the manifest's
    │   ├── GateUnreadableError        it is not the file of a gate
    │   ├── NetworkUnknownError        the network is not on the list
    │   └── NetworkArgumentError       the network has no such argument
    ├── ModelsFolderError              the folder of all models can't be read
    ├── ModelNotFoundError             no model of this id is installed
    ├── ImageError                     an image can't be used
    │   ├── NotAnImageError            neither DICOM, PNG nor JPEG
    │   ├── TruncatedError             the file ends too early
    │   ├── MissingPixelDataError      a DICOM object without an image
    │   ├── TransferSyntaxError        no decoder for this compression
    │   ├── PixelsUnreadableError      the pixels can't be decoded
    │   ├── ImageTooSmallError         less than the model's minimum
    │   ├── ImageTooLargeError         more than can be decoded safely
    │   ├── NotAVolumeError            no even block of voxels
    │   │   ├── TooFewSlicesError      fewer than two slices
    │   │   ├── GeometryMissingError   a slice doesn't say where it lies
    │   │   ├── OtherFrameOfReferenceError  ... or not in the patient, as ultrasound volumes
    │   │   ├── SizesDifferError       slices of different size
    │   │   ├── FramesOfReferenceDifferError  slices of different frames of reference
    │   │   ├── OrientationsDifferError  slices that aren't parallel
    │   │   ├── PixelSpacingsDifferError  slices with pixels of different size
    │   │   ├── DoubledPositionError   two slices at one place
    │   │   ├── SliceGapError          a slice is missing
    │   │   ├── UnevenSlicesError      the distance of slices changes
    │   │   └── GantryTiltError        a sheared stack
    │   ├── VolumeTooLargeError        more voxels than can be handled
    │   ├── QualityError               the model's gate refuses it
    │   │   ├── EmptyImageError        it shows nothing
    │   │   ├── ClippedImageError      too much of it is plain black or white
    │   │   ├── BlurredImageError      it has no fine detail
    │   │   └── UnknownKindError       it doesn't look like what the model was made for
    │   └── WrongSourceError           an image for a model of series, or the reverse
    └── BackendError                   the inference engine can't run
"""

from ledger.errors import PacsightError


class InferenceError(PacsightError):
    """Base of the errors of models and images."""

    code = "INFERENCE_FAILED"


class ModelPackageError(InferenceError):
    """A model folder can't be used; the others still can."""

    code = "MODEL_BROKEN"


class ManifestMissingError(ModelPackageError):
    """There is no readable ``manifest.yaml``."""

    code = "MODEL_MANIFEST_MISSING"


class ManifestInvalidError(ModelPackageError):
    """A value of the manifest is missing or wrong."""

    code = "MODEL_MANIFEST_INVALID"


class UnknownKeyError(ModelPackageError):
    """The manifest has a key that no manifest has."""

    code = "MODEL_UNKNOWN_KEY"


class PathEscapeError(ModelPackageError):
    """The manifest names a file outside its folder."""

    code = "MODEL_PATH_ESCAPES"


class WeightsMissingError(ModelPackageError):
    """The weights file is not in the folder."""

    code = "MODEL_WEIGHTS_MISSING"


class WeightsDigestError(ModelPackageError):
    """The weights are not the ones the manifest was written for."""

    code = "MODEL_WEIGHTS_DIGEST"


class WeightsUnreadableError(ModelPackageError):
    """The weights file is not a complete safetensors file."""

    code = "MODEL_WEIGHTS_UNREADABLE"


class WeightsMismatchError(ModelPackageError):
    """The weights are not those of the manifest's network."""

    code = "MODEL_WEIGHTS_MISMATCH"


class GateMissingError(ModelPackageError):
    """The file of the model's gate is not in the folder."""

    code = "MODEL_GATE_MISSING"


class GateDigestError(ModelPackageError):
    """The gate is not the one the manifest was written for."""

    code = "MODEL_GATE_DIGEST"


class GateUnreadableError(ModelPackageError):
    """The gate's file is not a complete safetensors file of a gate."""

    code = "MODEL_GATE_UNREADABLE"


class NetworkUnknownError(ModelPackageError):
    """The network's name is not on the list of ``inference.networks``."""

    code = "MODEL_NETWORK_UNKNOWN"


class NetworkArgumentError(ModelPackageError):
    """The network has no such argument, or not with this value."""

    code = "MODEL_NETWORK_ARGUMENT"


class ModelsFolderError(InferenceError):
    """The folder of the model packages can't be read."""

    code = "MODELS_FOLDER_UNREADABLE"


class ModelNotFoundError(InferenceError):
    """No usable model of this id is installed."""

    code = "MODEL_NOT_FOUND"


class ImageError(InferenceError):
    """An image can't be used."""

    code = "IMAGE_UNUSABLE"


class NotAnImageError(ImageError):
    """The file is neither DICOM nor PNG nor JPEG."""

    code = "NOT_AN_IMAGE"


class TruncatedError(ImageError):
    """The DICOM file ends before its data do."""

    code = "DICOM_TRUNCATED"


class MissingPixelDataError(ImageError):
    """The DICOM object holds no image."""

    code = "NO_PIXEL_DATA"


class TransferSyntaxError(ImageError):
    """No decoder is installed for the object's transfer syntax."""

    code = "TRANSFER_SYNTAX_UNSUPPORTED"


class PixelsUnreadableError(ImageError):
    """The pixels can't be decoded."""

    code = "PIXELS_UNREADABLE"


class ImageTooSmallError(ImageError):
    """The image is smaller than the model accepts."""

    code = "IMAGE_TOO_SMALL"


class ImageTooLargeError(ImageError):
    """The image is larger than can be decoded safely."""

    code = "IMAGE_TOO_LARGE"


class NotAVolumeError(ImageError):
    """Slices or a file that make no even block of voxels."""

    code = "NOT_A_VOLUME"


class TooFewSlicesError(NotAVolumeError):
    """Fewer slices than a volume needs."""

    code = "TOO_FEW_SLICES"


class GeometryMissingError(NotAVolumeError):
    """A slice doesn't say, or not validly, where it lies or how large its pixels are."""

    code = "GEOMETRY_MISSING"


class OtherFrameOfReferenceError(NotAVolumeError):
    """Frames lie in a frame of their own, as those of ultrasound volumes, not in the patient's."""

    code = "GEOMETRY_NOT_OF_PATIENT"


class SizesDifferError(NotAVolumeError):
    """Slices of different numbers of rows or columns."""

    code = "SLICE_SIZES_DIFFER"


class FramesOfReferenceDifferError(NotAVolumeError):
    """Slices whose positions count from different origins."""

    code = "FRAMES_OF_REFERENCE_DIFFER"


class OrientationsDifferError(NotAVolumeError):
    """Slices that aren't parallel."""

    code = "ORIENTATIONS_DIFFER"


class PixelSpacingsDifferError(NotAVolumeError):
    """Slices with pixels of different size."""

    code = "PIXEL_SPACINGS_DIFFER"


class DoubledPositionError(NotAVolumeError):
    """Two slices at one place."""

    code = "SLICE_POSITION_DOUBLED"


class SliceGapError(NotAVolumeError):
    """One slice or more is missing."""

    code = "SLICE_GAP"


class UnevenSlicesError(NotAVolumeError):
    """The distance of neighbouring slices changes."""

    code = "SLICES_UNEVEN"


class GantryTiltError(NotAVolumeError):
    """The slices are shifted against each other."""

    code = "GANTRY_TILT"


class VolumeTooLargeError(ImageError):
    """The volume has more voxels than can be handled."""

    code = "VOLUME_TOO_LARGE"


class WrongSourceError(ImageError):
    """An image for a model of series, or the other way round."""

    code = "WRONG_SOURCE"


class QualityError(ImageError):
    """The model's gate doesn't let the image through."""

    code = "QUALITY"


class EmptyImageError(QualityError):
    """The image shows nothing."""

    code = "QUALITY_EMPTY"


class ClippedImageError(QualityError):
    """More of the image is plain black or white than of any the model was made for."""

    code = "QUALITY_CLIPPED"


class BlurredImageError(QualityError):
    """The image has less fine detail than those that the model was made for."""

    code = "QUALITY_BLURRED"


class UnknownKindError(QualityError):
    """The image doesn't look like those that the model was made for."""

    code = "OUT_OF_DISTRIBUTION"


class BackendError(InferenceError):
    """The inference engine is not installed or can't run this model."""

    code = "BACKEND_UNAVAILABLE"
