"""Hooks of MkDocs (mkdocs.yml): pages made from the code, and pages of files that lie outside docs/."""

from typing import TYPE_CHECKING

from reference_pages import PAGES
from repository_links import ROOT, linked_files, repository_path, shown_file, site_links, site_path

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "cluster/README.md")  # of the navigation


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the pages that are made from the code, and those of files that others link to."""
    from mkdocs.structure.files import File

    for page, make in PAGES.items():
        files.append(File.generated(config, page, content=make()))
    waiting = list(OUTSIDE)
    for file in files.documentation_pages():
        if file.src_uri not in PAGES:
            waiting += linked_files(file.src_uri, file.content_string)
    while waiting:
        path = waiting.pop(0)
        place = site_path(path)
        if place is None or files.get_file_from_path(place):
            continue
        if path.endswith(".md"):
            content = (ROOT / path).read_text(encoding="utf-8")
            waiting += linked_files(place, content)
        else:
            content = shown_file(path)
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Turn links to files of the repository into links within the site."""
    if page.file.src_uri in PAGES or not (ROOT / repository_path(page.file.src_uri)).exists():
        return markdown
    return site_links(page.file.src_uri, markdown)
