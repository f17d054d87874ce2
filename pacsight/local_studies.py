"""Files on this machine, put together as studies: DICOM by its UIDs, pictures and volumes alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_out.delivery import walk
from inference.manifest import Manifest
from inference.nifti import NIFTI_SUFFIXES, read_nifti
from inference.reading import read_image
from ledger.domain import InstanceFacts, Refusal
from ledger.errors import PacsightError


@dataclass(frozen=True, slots=True)
class LocalStudy:
    """Files of one study, or one picture, or one file that can't be read.

    Attributes
    ----------
    name
        The file, or the folder that holds the study's files.
    files
        Where each image lies, by SOP Instance UID (``""`` for a picture or a NIfTI volume).
    refusal
        Why the file can't be used; then there are no images.
    """

    name: str
    study_instance_uid: str = ""
    files: Mapping[str, Path] | None = None
    facts: tuple[InstanceFacts, ...] = ()
    refusal: Refusal | None = None

    @property
    def folder_name(self) -> str:
        """A name of its own for what is written of it: many files are called ``0001.dcm``."""
        key = self.study_instance_uid or str(Path(self.name).absolute())
        return f"{Path(self.name).stem}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"

    @property
    def is_upload(self) -> bool:
        """Whether it is a PNG, JPEG or NIfTI file, which says nothing of its kind."""
        return self.refusal is None and not self.study_instance_uid

    @property
    def is_nifti(self) -> bool:
        """Whether it is a NIfTI volume."""
        return self.is_upload and self.name.lower().endswith(NIFTI_SUFFIXES)


def collect_studies(paths: Sequence[Path]) -> list[LocalStudy]:
    """Read every file below `paths` and put the images of one study together."""
    studies: dict[str, list[tuple[Path, InstanceFacts]]] = {}
    found: list[LocalStudy] = []
    for path in walk(paths):
        try:
            if path.name.lower().endswith(NIFTI_SUFFIXES):
                found.append(LocalStudy(str(path), files={"": path}, facts=_nifti_facts(path)))
                continue
            facts = read_image(path).facts
        except PacsightError as error:
            found.append(LocalStudy(str(path), refusal=Refusal(error.code, str(error))))
            continue
        if facts.study_instance_uid:
            studies.setdefault(facts.study_instance_uid, []).append((path, facts))
        else:
            found.append(LocalStudy(str(path), files={"": path}, facts=(facts,)))
    return found + [_study(uid, images) for uid, images in studies.items()]


def _nifti_facts(path: Path) -> tuple[InstanceFacts, ...]:
    """Return what headers of the volume's slices would say."""
    slices, rows, columns = read_nifti(path).array.shape
    return tuple(
        InstanceFacts(
            study_instance_uid="",
            series_instance_uid="",
            sop_instance_uid=str(number),
            sop_class_uid="",
            transfer_syntax_uid="",
            rows=rows,
            columns=columns,
            has_pixel_data=True,
        )
        for number in range(slices)
    )


def _study(uid: str, images: Sequence[tuple[Path, InstanceFacts]]) -> LocalStudy:
    chosen = {facts.sop_instance_uid: (path, facts) for path, facts in images}  # copies count once
    paths = [path for path, _ in chosen.values()]
    return LocalStudy(
        name=str(paths[0] if len(paths) == 1 else paths[0].parent),
        study_instance_uid=uid,
        files=dict(zip(chosen, paths, strict=True)),
        facts=tuple(facts for _, facts in chosen.values()),
    )


def as_chosen(study: LocalStudy, manifest: Manifest) -> LocalStudy:
    """Return an upload as what the model expects, because somebody chose the model for it.

    A PNG, JPEG or NIfTI file says nothing of modality, body part or view; its size counts. Many
    grey pictures are saved in colour, some with coloured marks: a model's gate looks at that.
    """
    accepts = manifest.accepts[0]
    facts = tuple(
        replace(
            item,
            modality=accepts.modality[0],
            sop_class_uid=next(iter(accepts.sop_class), ""),
            body_part_examined=next(iter(accepts.body_part_examined), ""),
            view_position=next(iter(accepts.view_position), ""),
            photometric_interpretation=_photometric(item, manifest),
        )
        for item in study.facts
    )
    return replace(study, facts=facts)


def _photometric(item: InstanceFacts, manifest: Manifest) -> str:
    accepted = manifest.accepts[0].photometric_interpretation
    is_open = not item.photometric_interpretation or manifest.gate is not None
    if accepted and is_open and item.photometric_interpretation not in accepted:
        return accepted[0]
    return item.photometric_interpretation
