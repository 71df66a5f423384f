"""Safe handling of text, paths and files that come from outside the program.

File names, patient ids and category names are untrusted text. A path in a label file, a manifest,
a recipe or a zip must stay inside its root. A file is only parsed up to a stated size. An output
file is written completely or not at all. Unusable input raises `SpherodetectError`, or the subclass
that the caller passes as `error`.

Modules: `text` (names and text for messages and tables), `paths`, `reading`, `workbook`, `writing`,
`archives`, `hashes`.
"""

from spherodetect.safety.archives import (
    MAX_ZIP_BYTES,
    MAX_ZIP_MEMBERS,
    MAX_ZIP_RATIO,
    extract_zip,
    zip_names,
)
from spherodetect.safety.hashes import file_sha256, sha256
from spherodetect.safety.paths import inside
from spherodetect.safety.reading import (
    MAX_JSON_BYTES,
    MAX_TEXT_BYTES,
    MAX_YAML_ALIASES,
    MAX_YAML_BYTES,
    MAX_YAML_DEPTH,
    read_bytes,
    read_csv,
    read_json,
    read_text,
    read_yaml,
)
from spherodetect.safety.text import csv_cell, quoted, safe_name
from spherodetect.safety.workbook import is_workbook, read_workbook
from spherodetect.safety.writing import atomic_write, naming, sync_folder, system_reason, write_json

__all__ = [
    "MAX_JSON_BYTES",
    "MAX_TEXT_BYTES",
    "MAX_YAML_ALIASES",
    "MAX_YAML_BYTES",
    "MAX_YAML_DEPTH",
    "MAX_ZIP_BYTES",
    "MAX_ZIP_MEMBERS",
    "MAX_ZIP_RATIO",
    "atomic_write",
    "csv_cell",
    "extract_zip",
    "file_sha256",
    "inside",
    "is_workbook",
    "naming",
    "quoted",
    "read_bytes",
    "read_csv",
    "read_json",
    "read_text",
    "read_workbook",
    "read_yaml",
    "safe_name",
    "sha256",
    "sync_folder",
    "system_reason",
    "write_json",
    "zip_names",
]
