"""Errors of the web app, each with the HTTP status it is answered with.

::

    PacsightError
    └── WebError
        ├── SignInNeededError        nobody is signed in
        ├── SignInFailedError        wrong login or password, or the login is locked
        ├── TooManyAttemptsError     one address tries too often
        ├── NotAllowedError          the role or the token's scope doesn't allow it
        ├── FormExpiredError         the CSRF token is missing or of another session
        ├── PageNotFoundError        no such page, study, upload or user
        ├── ImagesRemovedError       retention has removed images and files of results
        ├── NotAcceptableError       none of the forms that the client takes can be given
        ├── UnsupportedMediaError    what was sent is of a kind that isn't taken
        ├── MalformedError           the body of a request isn't what its headers say
        ├── BusyError                too much is asked for at once
        ├── InputError               a field has no usable value
        │   ├── QueryError           a parameter of DICOMweb has no usable value
        │   ├── WeakPasswordError    too short, or the login itself
        │   └── LoginTakenError      another user has this login
        ├── OidcError                the identity provider's answer can't be used
        │   └── OidcRoleError        it gives this person no role here
        └── UploadError              a file, or a whole upload, is not taken
            ├── UploadTooLargeError
            ├── TooManyFilesError
            ├── FileKindError        neither DICOM, PNG, JPEG, NIfTI nor zip
            ├── ZipRefusedError      encrypted, damaged, nested, or a bomb
            ├── KindNeededError      nobody said, and nothing tells, what a picture shows
            └── UploadClosedError    it is finished already
"""

from __future__ import annotations

from typing import ClassVar

from ledger.errors import PacsightError


class WebError(PacsightError):
    """Base of everything a browser is told."""

    code = "WEB_FAILED"
    status: ClassVar[int] = 400


class SignInNeededError(WebError):
    """There is no session, or it has ended."""

    code = "SIGN_IN_NEEDED"
    status = 401


class SignInFailedError(WebError):
    """Login or password is wrong, or the login is locked; which one is not told."""

    code = "SIGN_IN_FAILED"
    status = 401


class TooManyAttemptsError(WebError):
    """One address tries too often."""

    code = "TOO_MANY_ATTEMPTS"
    status = 429


class NotAllowedError(WebError):
    """The role, or the token's scope, doesn't allow it."""

    code = "NOT_ALLOWED"
    status = 403


class FormExpiredError(WebError):
    """The CSRF token is missing or belongs to another session."""

    code = "FORM_EXPIRED"
    status = 403


class PageNotFoundError(WebError):
    """There is no such page, study, upload or user."""

    code = "NOT_FOUND"
    status = 404


class ImagesRemovedError(WebError):
    """They were here, and the rules of retention have removed them."""

    code = "IMAGES_REMOVED"
    status = 410

    def __init__(self) -> None:
        super().__init__(
            "Images and files of results were removed here by the rules of retention; "
            "look for them in the PACS."
        )


class NotAcceptableError(WebError):
    """None of the forms that the client takes can be given."""

    code = "NOT_ACCEPTABLE"
    status = 406


class UnsupportedMediaError(WebError):
    """What was sent is of a kind that isn't taken."""

    code = "MEDIA_TYPE_UNSUPPORTED"
    status = 415


class MalformedError(WebError):
    """The body of a request isn't what its headers say."""

    code = "BODY_MALFORMED"
    status = 400


class BusyError(WebError):
    """Too much is being decoded at this moment."""

    code = "BUSY"
    status = 503
    retryable = True


class InputError(WebError):
    """A field has no usable value."""

    code = "INPUT_INVALID"
    status = 422


class QueryError(InputError):
    """A parameter of a DICOMweb address has no usable value."""

    code = "QUERY_INVALID"
    status = 400


class WeakPasswordError(InputError):
    """The password is too short or easily guessed."""

    code = "PASSWORD_WEAK"


class LoginTakenError(InputError):
    """Another user has this login."""

    code = "LOGIN_TAKEN"


class OidcError(WebError):
    """The identity provider's answer can't be used."""

    code = "OIDC_FAILED"
    status = 401


class OidcRoleError(OidcError):
    """The identity provider gives this person no role here."""

    code = "OIDC_ROLE_MISSING"
    status = 403


class UploadError(WebError):
    """A file, or a whole upload, is not taken."""

    code = "UPLOAD_REFUSED"
    status = 422


class UploadTooLargeError(UploadError):
    """More bytes than allowed, as sent or unpacked."""

    code = "UPLOAD_TOO_LARGE"
    status = 413


class TooManyFilesError(UploadError):
    """More files than allowed."""

    code = "TOO_MANY_FILES"
    status = 413


class FileKindError(UploadError):
    """The content is neither DICOM, PNG, JPEG, NIfTI nor zip."""

    code = "FILE_KIND_UNKNOWN"
    status = 415


class ZipRefusedError(UploadError):
    """An archive that is encrypted, damaged or nested, or unpacks to too much."""

    code = "ZIP_REFUSED"


class KindNeededError(UploadError):
    """Nobody said, and nothing tells, what a picture or a volume shows."""

    code = "KIND_NEEDED"


class UploadClosedError(UploadError):
    """The upload is finished and takes no further file."""

    code = "UPLOAD_CLOSED"
    status = 409
