"""What `index` refuses or fails with: pictures, generations, snapshots. The tree's root is `model.errors`."""

from model.errors import CorruptFolder, Failure, InvalidInput, NotFound, Unavailable, UnsupportedMedia


class UnsupportedPictureFormat(UnsupportedMedia):
    """Not a JPEG, PNG or WebP."""

    code, title = "unsupported_picture_format", "Unsupported picture format"


class PictureCorrupt(InvalidInput):
    """Starts like a picture, cannot be decoded."""

    code, title = "picture_corrupt", "Corrupt picture"


class PictureTooManyPixels(InvalidInput):
    """More than 20 million pixels."""

    code, title = "picture_too_many_pixels", "Too many pixels"


class PictureBadDimensions(InvalidInput):
    """A side or the ratio of sides is out of bounds."""

    code, title = "picture_bad_dimensions", "Bad picture dimensions"


class PictureAnimated(InvalidInput):
    """More than one frame."""

    code, title = "picture_animated", "Animated picture"


class PictureNotFound(NotFound):
    """No picture of that id."""

    code, title = "picture_not_found", "Picture not found"


class IndexFileCorrupt(CorruptFolder):
    """A generation's files differ from what was registered."""

    code, title = "index_file_corrupt", "Index file corrupt"


class IndexInconsistent(Failure):
    """Vectors and ids of a generation do not fit each other."""

    code, title = "index_inconsistent", "Index inconsistent"


class IndexVersionMismatch(Failure):
    """A generation made by another model."""

    code, title = "index_version_mismatch", "Index of another model"


class IndexUnavailable(Unavailable):
    """No verified snapshot serves yet."""

    code, title = "index_unavailable", "Index unavailable"


class OutOfMemory(Failure):
    """No room for a second snapshot; the old one goes on serving."""

    code, title = "out_of_memory", "Out of memory"
