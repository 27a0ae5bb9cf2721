"""The name of a document for a wire that knows its kind by the name: OpenAI refuses (400) a file without one.

Above it: the writers of OpenAI's dialects. Below it: `conversation`.
"""

from pipelines.conversation import File

_ENDINGS = {
    "application/pdf": ".pdf",
    "application/json": ".json",
    "application/msword": ".doc",
    "application/rtf": ".rtf",
    "application/xml": ".xml",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.ms-powerpoint": ".ppt",
    "application/vnd.oasis.opendocument.text": ".odt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "text/css": ".css",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/xml": ".xml",
}


def file_name(file: File) -> str:
    """The file's own name, or one made of its media type; text of any other kind is `.txt`."""
    if file.name:
        return file.name
    kind = file.media_type.partition(";")[0].strip().lower()
    return "file" + _ENDINGS.get(kind, ".txt" if kind.startswith("text/") else "")
