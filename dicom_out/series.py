"""What every result object shares: its new series, equipment, time stamps and file meta data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from importlib.metadata import version

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from dicom_out import codes
from dicom_out.model_result import ModelDescription
from dicom_out.patient import LONG_STRING, copy_identity, read_element, read_text
from dicom_out.uids import derive_uid
from ledger.product import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, PRODUCT

_OFFSET = re.compile(r"([+-])(0\d|1[0-4])([0-5]\d)")  # -1200 to +1400, PS3.3 C.12.1
_ACQUISITION_KEYWORDS = (
    "Manufacturer",
    "InstitutionName",
    "StationName",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
)

_LENGTHS = {"StationName": 16}  # SH


@dataclass(frozen=True, slots=True)
class ResultSeries:
    """A new series; its UIDs follow from the seed, so a repeated run writes the same ones.

    ``variant`` is :meth:`dicom_out.profile.Profile.variant`: other content has other UIDs.
    """

    seed: str
    kind: str
    now: datetime
    variant: str = ""

    @property
    def series_instance_uid(self) -> str:
        """Series Instance UID."""
        return derive_uid(self._root, self.kind, "series")

    @property
    def dimension_organization_uid(self) -> str:
        """Dimension Organization UID (0020,9164) of a multi-frame object."""
        return derive_uid(self._root, self.kind, "dimensions")

    def sop_instance_uid(self, number: int) -> str:
        """Return the SOP Instance UID of instance ``number`` (from 1)."""
        return derive_uid(self._root, self.kind, "instance", str(number))

    @property
    def _root(self) -> str:
        return f"{self.seed}/{self.variant}" if self.variant else self.seed


def finish(
    ds: Dataset,
    *,
    source: Dataset,
    identity: Dataset,
    model: ModelDescription,
    series: ResultSeries,
) -> None:
    """Fill in what all results share: identity, equipment, dates, qualification, file meta data.

    Parameters
    ----------
    ds
        The result; SOP Class and Instance UID are set.
    source
        Header of an image that it is about.
    identity, model, series
        As for the writers.
    """
    copy_identity(identity, ds)
    ds.StudyInstanceUID = source.StudyInstanceUID
    ds.SeriesInstanceUID = series.series_instance_uid
    _set_equipment(ds, model)
    ds.SoftwareVersions = [model.identity.version, f"pacsight {version('pacsight')}"]
    ds.ContentQualification = model.content_qualification
    ds.ContributingEquipmentSequence = ItemSequence(
        [*_acquisition_equipment(source), _algorithm_equipment(model)]
    )
    _set_times(ds, source, series.now)
    ds.file_meta = file_meta_of(ds)


def file_meta_of(ds: Dataset) -> FileMetaDataset:
    """Return the file meta information of an uncompressed object (PS3.10 section 7.1)."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


def code_item(code: Code) -> Dataset:
    """Return a coded concept as a sequence item (PS3.3 section 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code.value, code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def _set_equipment(ds: Dataset, model: ModelDescription) -> None:
    ds.Manufacturer = PRODUCT
    ds.ManufacturerModelName = model.name
    ds.DeviceSerialNumber = model.identity.digest[:LONG_STRING]
    ds.SoftwareVersions = model.identity.version
    ds.DeviceUID = model.device_uid


def _algorithm_equipment(model: ModelDescription) -> Dataset:
    """Return the item that names the algorithm; its Device UID follows the weights.

    Purpose and attributes as IHE AI Results Rev. 1.3, section 6.5.3.1, asks for.
    """
    item = Dataset()
    _set_equipment(item, model)
    licence = f" Licence: {model.licence}." if model.licence else ""
    item.ContributionDescription = f"Analysis by a machine-learning model.{licence}"[:1024]
    item.PurposeOfReferenceCodeSequence = ItemSequence([code_item(codes.PROCESSING_EQUIPMENT)])
    return item


def _acquisition_equipment(source: Dataset) -> list[Dataset]:
    """Return an item for the device that made the source image, if it says who it is."""
    if not read_text(source, "Manufacturer"):
        return []
    item = Dataset()
    for keyword in _ACQUISITION_KEYWORDS:
        text = read_text(source, keyword)
        if text:
            setattr(item, keyword, text[: _LENGTHS.get(keyword, LONG_STRING)])
    item.ContributionDescription = "Acquisition of the source image"
    item.PurposeOfReferenceCodeSequence = ItemSequence([code_item(codes.ACQUISITION_EQUIPMENT)])
    return [item]


def _set_times(ds: Dataset, source: Dataset, now: datetime) -> None:
    """Stamp the object in the time zone that the copied study date and time are in."""
    zone = _OFFSET.fullmatch(read_text(source, "TimezoneOffsetFromUTC"))
    element = read_element(source, "TimezoneOffsetFromUTC")
    if zone is not None and element is not None:
        offset = timedelta(hours=int(zone[2]), minutes=int(zone[3]))
        now = now.astimezone(timezone(-offset if zone[1] == "-" else offset))
        ds.TimezoneOffsetFromUTC = element.value
    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S.%f")
    ds.InstanceCreationDate = ds.SeriesDate = ds.ContentDate = date
    ds.InstanceCreationTime = ds.SeriesTime = ds.ContentTime = time
