"""The report on paper: one PDF, from plain values, for the PACS and for the web app."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    Flowable,
    Image,
    KeepTogether,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
)

from dicom_out.fonts import REGULAR, marked_up, register_fonts
from dicom_out.model_result import ModelDescription
from dicom_out.words import Statement, percent
from ledger.domain import PatientFacts
from ledger.product import PRODUCT

NOT_REVIEWED = "AI result - not reviewed by a physician"

MAX_PICTURES = 6
"""Pictures in a report at most; the series of pictures holds all."""

_MARGIN = 18 * mm
_PADDING = 6  # points that reportlab keeps within a frame
_WIDTH = A4[0] - 2 * _MARGIN
_INK, _GREY, _RULE = (colors.HexColor(value) for value in ("#1a1a1a", "#5c5c5c", "#c4ccd4"))
_SHADE, _BLUE = colors.HexColor("#eef2f6"), colors.HexColor("#00507a")
_WARNING, _WARNING_SHADE = colors.HexColor("#7a3d00"), colors.HexColor("#fff3df")


@dataclass(frozen=True, slots=True)
class ReportPicture:
    """A picture with its caption; uint8 [rows, columns, 3]."""

    array: NDArray[np.uint8]
    caption: str


def report_pdf(
    patient: PatientFacts,
    model: ModelDescription,
    rows: Sequence[tuple[str, Statement]],
    pictures: Sequence[ReportPicture],
    *,
    created: datetime,
) -> bytes:
    """Return the report as a PDF file. The same values give the same bytes.

    Parameters
    ----------
    patient
        Whose study it is; names in any script, ideographic and phonetic groups included.
    model
        Who says it: its card's summary is printed.
    rows
        Where ("" if there is one place only, else such as "Image 2") and what was said.
    pictures
        At most the first `MAX_PICTURES` are printed.
    created
        When the results were made, in the time zone to print.
    """
    register_fonts()
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=_MARGIN - _PADDING,
        rightMargin=_MARGIN - _PADDING,
        topMargin=22 * mm,
        bottomMargin=20 * mm,
        title=f"AI report: {model.name}",
        author=PRODUCT,
        subject=NOT_REVIEWED,
        creator=PRODUCT,
        invariant=1,
    )
    story = [
        *_head(patient, model, created),
        *_findings(rows),
        *_pictures(pictures),
        *_about_model(model),
        _signature(),
    ]
    document.build(story, canvasmaker=_paged(patient))
    return buffer.getvalue()


def readable_name(name: str) -> str:
    """Return a DICOM person name for people: "Hong Gildong (洪 吉洞, 홍 길동)"; PS3.5 6.2.1.1."""
    groups = [" ".join(group.replace("^", " ").split()) for group in name.split("=")]
    first, *others = [group for group in groups if group] or ["no name"]
    return f"{first} ({', '.join(others)})" if others else first


def readable_date(value: str) -> str:
    """Return a DICOM date as 2026-03-04; other text as it is."""
    if len(value) == 8 and value.isdigit():
        return f"{value[:4]}-{value[4:6]}-{value[6:]}"
    return value or "-"


def _style(size: float, **more: Any) -> ParagraphStyle:
    base = {"fontName": REGULAR, "textColor": _INK, "leading": size * 1.35, "wordWrap": "LTR"}
    return ParagraphStyle("", fontSize=size, **{**base, **more})


def _text(text: str, size: float = 9, *, bold: bool = False, **more: Any) -> Paragraph:
    return Paragraph(marked_up(text, bold=bold), _style(size, **more))


def _heading(text: str) -> Paragraph:
    return _text(text, 11, bold=True, textColor=_BLUE, spaceBefore=10, spaceAfter=4)


def _head(patient: PatientFacts, model: ModelDescription, created: datetime) -> list[Flowable]:
    """Return title, warning and patient header."""
    title = _text(model.name, 16, bold=True)
    version = f"Version {model.identity.version} · sha256 {model.identity.digest[:12]}"
    warning = Table([[_text(_warning(model), 9, bold=True, textColor=_WARNING)]], [_WIDTH])
    warning.setStyle(
        [("BACKGROUND", (0, 0), (-1, -1), _WARNING_SHADE), ("BOX", (0, 0), (-1, -1), 0.6, _WARNING)]
    )
    fields = [
        ("Patient", readable_name(patient.patient_name)),
        ("Patient ID", patient.patient_id or "-"),
        ("Born", readable_date(patient.patient_birth_date)),
        ("Sex", patient.patient_sex or "-"),
        ("Study", patient.study_description or "-"),
        ("Study date", readable_date(patient.study_date)),
        ("Accession number", patient.accession_number or "-"),
        ("Report made", created.strftime("%Y-%m-%d %H:%M %Z").strip()),
    ]
    return [title, _text(version, 8, textColor=_GREY), Spacer(0, 6), warning, Spacer(0, 8),
            _fields(fields)]  # fmt: skip


def _warning(model: ModelDescription) -> str:
    return f"{NOT_REVIEWED}. {model.research_statement.rstrip('.')}."


def _fields(fields: Sequence[tuple[str, str]]) -> Table:
    """Return name and value pairs, two pairs a row."""
    cells = [
        (_text(name, 8, textColor=_GREY), _text(value, 9.5, bold=number == 0))
        for number, (name, value) in enumerate(fields)
    ]
    rows = [[*left, *right] for left, right in zip(cells[::2], cells[1::2], strict=True)]
    label = 31 * mm
    table = Table(rows, [label, _WIDTH * 0.54 - label, label, _WIDTH * 0.46 - label])
    table.setStyle([
        ("BACKGROUND", (0, 0), (-1, -1), _SHADE), ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("TOPPADDING", (0, 0), (-1, -1), 2.5), ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
    ])  # fmt: skip
    return table


def _findings(rows: Sequence[tuple[str, Statement]]) -> list[Flowable]:
    """Return the table of what was said; its head is repeated on each page."""
    has_places = any(place for place, _ in rows)
    head = ["Finding", "Result", "Probability", "Threshold", "Size"]
    widths = [0.27, 0.3, 0.13, 0.12, 0.18]
    if has_places:
        head, widths = ["Image", *head], [0.1, 0.25, 0.26, 0.12, 0.11, 0.16]
    lines = [[_text(name, 8, bold=True, textColor=colors.white) for name in head]]
    for place, said in rows:
        cells = [_text(said.about, 9, bold=True), _result(said), *_shares(said), _sizes(said)]
        lines.append([_text(place), *cells] if has_places else cells)
    table = Table(lines, [share * _WIDTH for share in widths], repeatRows=1)
    table.setStyle([
        ("BACKGROUND", (0, 0), (-1, 0), _BLUE), ("LINEBELOW", (0, 1), (-1, -1), 0.4, _RULE),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("TOPPADDING", (0, 0), (-1, -1), 3), ("BOTTOMPADDING", (0, 0), (-1, -1), 4),
    ])  # fmt: skip
    return [_heading("Findings"), table]


def _result(said: Statement) -> Paragraph:
    is_found = said.verdict not in ("negative", "not found")
    note = f" ({said.note})" if said.note else ""
    return _text(f"{said.verdict}{note}", 9, bold=is_found)


def _shares(said: Statement) -> list[Paragraph]:
    return [
        _text("-" if share is None else percent(share))
        for share in (said.probability, said.threshold)
    ]


def _sizes(said: Statement) -> Paragraph:
    lines = [f"{size.name.meaning.lower()} {size.text}" for size in said.sizes] or ["-"]
    return Paragraph("<br/>".join(marked_up(line) for line in lines), _style(8.5))


def _pictures(pictures: Sequence[ReportPicture]) -> list[Flowable]:
    if not pictures:
        return []
    shown = pictures[:MAX_PICTURES]
    parts = [_picture(item, is_large=number == 0) for number, item in enumerate(shown)]
    story: list[Flowable] = [KeepTogether([_heading("Pictures"), *parts[0]])]
    for place in range(1, len(parts), 2):
        pair = parts[place : place + 2]
        table = Table([[*pair, *[""] * (2 - len(pair))]], [_WIDTH / 2] * 2)
        table.setStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)])
        story.append(table)
    if len(pictures) > len(shown):
        more = f"{len(pictures) - len(shown)} more pictures are in the series of pictures."
        story.append(_text(more, 8, textColor=_GREY))
    return story


def _picture(item: ReportPicture, *, is_large: bool) -> list[Flowable]:
    rows, columns = item.array.shape[:2]
    width, height = (_WIDTH, 125 * mm) if is_large else (_WIDTH / 2 - 4 * mm, 90 * mm)
    scale = min(width / columns, height / rows)
    data = io.BytesIO()
    Picture.fromarray(item.array).convert("RGB").save(data, "JPEG", quality=90, subsampling=0)
    image = Image(data, columns * scale, rows * scale, hAlign="LEFT")
    return [image, _text(item.caption, 8, textColor=_GREY, spaceAfter=6)]


def _about_model(model: ModelDescription) -> list[Flowable]:
    """Return the summary of the model card, and its limits."""
    facts = [("Intended use", model.intended_use), *model.facts]
    if model.calibration:
        facts.append(("Calibration", model.calibration))
    if model.licence:
        facts.append(("Licence", model.licence))
    facts.append(("Weights", f"sha256 {model.identity.digest}"))
    lines = [[_text(name, 8, textColor=_GREY), _text(value, 8.5)] for name, value in facts]
    table = Table(lines, [34 * mm, _WIDTH - 34 * mm])
    table.setStyle([
        ("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (0, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 1.5), ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
    ])  # fmt: skip
    story: list[Flowable] = [KeepTogether([_heading("About the model"), table])]
    if model.limits:
        limits = [
            Paragraph(marked_up(text), _style(8.5, leftIndent=9, bulletIndent=0), bulletText="•")
            for text in model.limits
        ]
        story += [KeepTogether([_heading("Limits"), limits[0]]), *limits[1:]]
    return story


def _signature() -> Flowable:
    """Return the place where the reader signs."""
    names = ("Reviewed by", "Date and time", "Signature")
    table = Table(
        [["", "", ""], [_text(name, 8, textColor=_GREY) for name in names]],
        [_WIDTH / 3] * 3,
        [13 * mm, None],
    )
    table.setStyle([
        ("LINEBELOW", (0, 0), (0, 0), 0.6, _INK), ("LINEBELOW", (1, 0), (1, 0), 0.6, _INK),
        ("LINEBELOW", (2, 0), (2, 0), 0.6, _INK), ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ])  # fmt: skip
    said = "This result has no signature until a physician has reviewed it."
    return KeepTogether([_heading("Review"), _text(said, 8.5), table])


def _paged(patient: PatientFacts) -> Callable[..., Canvas]:
    """Return a canvas that puts patient, warning and "page 1 of 2" on each page."""
    whose = f"{readable_name(patient.patient_name)[:48]}, ID {patient.patient_id[:24] or '-'}"

    class Paged(Canvas):
        """Keeps its pages until their number is known."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._pages: list[dict[str, Any]] = []

        def showPage(self) -> None:
            """Keep the page."""
            self._pages.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            """Write all pages."""
            pages = self._pages
            for number, page in enumerate(pages, 1):
                self.__dict__.update(page)
                _margins(self, whose, f"page {number} of {len(pages)}")
                super().showPage()
            super().save()

    return Paged


def _margins(canvas: Canvas, whose: str, page: str) -> None:
    width, height = A4
    canvas.setStrokeColor(_RULE)
    canvas.line(_MARGIN, height - 16 * mm, width - _MARGIN, height - 16 * mm)
    canvas.line(_MARGIN, 14 * mm, width - _MARGIN, 14 * mm)
    half = _WIDTH / 2
    for text, left, bottom, more in (
        (whose, 0.0, height - 15 * mm, {}),
        (f"{PRODUCT} · AI report", half, height - 15 * mm, {"alignment": TA_RIGHT}),
        (NOT_REVIEWED, 0.0, 8 * mm, {}),
        (page, half, 8 * mm, {"alignment": TA_RIGHT}),
    ):
        line = _text(text, 7.5, textColor=_GREY, **more)
        line.wrap(half, 10 * mm)
        line.drawOn(canvas, _MARGIN + left, bottom)
