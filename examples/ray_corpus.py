"""Classify a corpus on a Ray cluster: python examples/ray_corpus.py FOLDER CORPUS OUT --text COLUMN

CORPUS is a file or a folder of Parquet, CSV or JSON Lines; OUT becomes a folder of Parquet files with four more
columns. Each worker loads the model once and has one core; one core of each node is left to what reads and writes. What
a worker did that dies is given to another one. Rows keep no order: give the corpus a column that numbers them. Every
node needs `ray[data]`, this package, and FOLDER and CORPUS under the same path. Without RAY_ADDRESS, the address of a
cluster, Ray starts on this machine.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import ray

from eat.runtime import AdaptiveClassifier
from eat.text_files.columns import is_empty

READERS = {".parquet": ray.data.read_parquet, ".csv": ray.data.read_csv, ".jsonl": ray.data.read_json}


class Worker:
    """Adds the answers to a batch: a mapping of names of columns to arrays. An empty text gets none."""

    def __init__(self, folder: str, column: str) -> None:
        self.classify = AdaptiveClassifier.load(folder, threads=1)
        self.column = column

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The batch with the answers."""
        texts = ["" if text is None else str(text) for text in batch[self.column]]
        rows = [row for row, text in enumerate(texts) if not is_empty(text)]
        answers = dict(zip(rows, self.classify([texts[row] for row in rows]), strict=True))
        found = [answers.get(row) for row in range(len(texts))]
        return batch | {
            "label": np.array([answer and answer.label for answer in found], dtype=object),
            "probability": np.array([answer.probability if answer else np.nan for answer in found]),
            "depth": np.array([answer.depth if answer else 0 for answer in found]),
            "exit_reason": np.array([answer and answer.exit_reason for answer in found], dtype=object),
        }


def main() -> None:
    """Classify the corpus and count the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--text", required=True, metavar="COLUMN")
    parser.add_argument("--batch", type=int, default=1000)
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out} exists; give another folder")

    ray.init()
    cores = int(ray.cluster_resources()["CPU"])
    nodes = sum(node["Alive"] for node in ray.nodes())
    sample = options.corpus if options.corpus.is_file() else next(options.corpus.glob("*.*"))
    corpus = READERS[sample.suffix](str(options.corpus.resolve()))
    rows = corpus.count()
    began = time.monotonic()
    # Ray reads small files as one block, and a block goes to one worker; a dead worker's block is done anew
    corpus.repartition(target_num_rows_per_block=10 * options.batch).map_batches(
        Worker,
        fn_constructor_args=[str(options.folder.resolve()), options.text],
        batch_size=options.batch,
        num_cpus=1,
        scheduling_strategy="SPREAD",
        # one core of each node is left to the tasks that list, read and write, which would wait for ever without one
        compute=ray.data.ActorPoolStrategy(size=max(cores - nodes, 1)),
    ).write_parquet(str(options.out.resolve()))
    seconds = time.monotonic() - began
    written = ray.data.read_parquet(str(options.out.resolve())).count()
    print(f"{written} of {rows} rows on {nodes} nodes with {cores} cores: {written / seconds:.0f} texts/s")
    if written != rows:
        raise SystemExit("error: rows are missing")


if __name__ == "__main__":
    main()
