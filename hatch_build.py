"""Make the package's description of README.md, whose links to files beside it become their names: it is shown alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class PackagedReadme(MetadataHookInterface):
    """Sets `readme` of the package's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in the description; absolute links and links within the page stay."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = re.sub(r"!?\[([^\]]*)\]\((?!https?://|#)[^)]*\)", r"\1", text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
