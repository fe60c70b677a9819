"""Small spreadsheets, as Excel and LibreOffice write them."""

import io
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OF_DOCUMENTS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_OF_PACKAGES = "http://schemas.openxmlformats.org/package/2006/relationships"
_OF_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
_OPEN = "urn:oasis:names:tc:opendocument:xmlns:"


def _pack(parts: dict[str, str]) -> bytes:
    with ZipFile(target := io.BytesIO(), "w", ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content, ZIP_STORED if name == "mimetype" else None)
    return target.getvalue()


def write_xlsx(rows: Sequence[Sequence[Any]], place: str = "") -> bytes:
    """Write a sheet with these rows, and a cell at `place`."""

    def write(cell: Any, at: str) -> str:
        if isinstance(cell, float):
            return f'<c r="{at}"><v>{cell}</v></c>'
        return f'<c r="{at}" t="inlineStr"><is><t>{escape(cell)}</t></is></c>' if cell else ""

    lines = [
        f'<row r="{n}">{"".join(write(cell, f"{chr(65 + k)}{n}") for k, cell in enumerate(row))}</row>'
        for n, row in enumerate(rows, 1)
    ]
    lines += [f'<row r="{place.lstrip("ABCDEFX")}">{write("x", place)}</row>'] if place else []
    sheet = "xl/worksheets/sheet1.xml"
    kind = f"{_OF_DOCUMENTS}/worksheet"
    return _pack(
        {
            "[Content_Types].xml": f'<Types xmlns="{_OF_TYPES}"/>',
            "_rels/.rels": f'<Relationships xmlns="{_OF_PACKAGES}"><Relationship Id="rId1" '
            f'Type="{_OF_DOCUMENTS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
            "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OF_DOCUMENTS}"><sheets>'
            '<sheet name="One" sheetId="1" r:id="rId1"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_OF_PACKAGES}">'
            f'<Relationship Id="rId1" Type="{kind}" Target="worksheets/sheet1.xml"/></Relationships>',
            sheet: f'<worksheet xmlns="{_MAIN}"><sheetData>{"".join(lines)}</sheetData></worksheet>',
        }
    )


def write_ods(rows: Sequence[Sequence[Any]]) -> bytes:
    def write(cell: Any) -> str:
        if isinstance(cell, float):
            return f'<table:table-cell office:value-type="float" office:value="{cell}"/>'
        text = f"<text:p>{escape(cell)}</text:p>" if cell else ""
        return f'<table:table-cell office:value-type="string">{text}</table:table-cell>'

    lines = "".join(f"<table:table-row>{''.join(map(write, row))}</table:table-row>" for row in rows)
    names = " ".join(f'xmlns:{name}="{_OPEN}{name}:1.0"' for name in ("office", "table", "text"))
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    manifest = f'<manifest:manifest xmlns:manifest="{_OPEN}manifest:1.0"/>'
    content = (
        f'<office:document-content {names}><office:body><office:spreadsheet><table:table table:name="One">{lines}'
        "</table:table></office:spreadsheet></office:body></office:document-content>"
    )
    return _pack({"mimetype": kind, "META-INF/manifest.xml": manifest, "content.xml": content})
