"""A folder of GLUE files with text made up here, in the forms the official ones have."""

from __future__ import annotations

from pathlib import Path

WORDS = ("rain", "river", "stone", "light", "winter", "road", "garden", "letter", "window", "silence", "harbour")


def sentence(number: int) -> str:
    """A sentence of its own for each number, none a part of another."""
    first, second = WORDS[number % len(WORDS)], WORDS[number // len(WORDS) % len(WORDS)]
    return f"the {first} and the {second} of chapter {number} ."


def sst2_rows(count: int, start: int = 0) -> list[list[str]]:
    """A sentence and a phrase of it by turns, each with the label of its sentence."""
    rows = []
    for number in range(start, start + count):
        label = str(number % 2)
        rows += [[sentence(number) + " ", label], [f"of chapter {number}", label]]
    return rows


def write_glue(folder: Path, examples: int = 60) -> Path:
    """Write SST-2, QQP, MNLI (both dev files), MRPC, RTE, QNLI, WNLI and CoLA as their official files look."""
    write(folder / "SST-2" / "train.tsv", ["sentence", "label"], sst2_rows(examples))
    write(folder / "SST-2" / "dev.tsv", ["sentence", "label"], sst2_rows(examples // 2, start=10_000)[::2])
    for split, start, count in (("train", 0, examples), ("dev", 10_000, examples // 2)):
        numbers = range(start, start + count)
        pairs = [(n, sentence(n), sentence(n + 1)) for n in numbers]
        write(
            folder / "QQP" / f"{split}.tsv",
            ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
            [[str(n), "1", "2", f'"why ""{a}"""', b, str(n % 2)] for n, a, b in pairs],
        )
        write(
            folder / "MRPC" / f"{split}.tsv",
            ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
            [[str(n % 2), "1", "2", a, b] for n, a, b in pairs],
            start="\ufeff",
        )
        for task, columns in (("RTE", ("sentence1", "sentence2")), ("QNLI", ("question", "sentence"))):
            rows = [[str(n), a, b, ("entailment", "not_entailment")[n % 2]] for n, a, b in pairs]
            write(folder / task / f"{split}.tsv", ["index", *columns, "label"], rows)
        wnli = [[str(n), a, b, str(n % 2)] for n, a, b in pairs]
        write(folder / "WNLI" / f"{split}.tsv", ["index", "sentence1", "sentence2", "label"], wnli)
        write(folder / "CoLA" / f"{split}.tsv", [], [["gj04", str(n % 2), "*", a] for n, a, _ in pairs])
    for name, start in (("train", 0), ("dev_matched", 10_000), ("dev_mismatched", 20_000)):
        numbers = range(start, start + (examples if name == "train" else examples // 2))
        classes = ("entailment", "neutral", "contradiction")
        write(
            folder / "MNLI" / f"{name}.tsv",
            ["index", "genre", "sentence1", "sentence2", "label1", "gold_label"],
            [
                [str(n), "fiction", f'"{sentence(n)}"', f"{WORDS[n % 3]} {sentence(n + 1)}", "x", classes[n % 3]]
                for n in numbers
            ],
        )
    return folder


def write(path: Path, header: list[str], rows: list[list[str]], start: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(row) for row in ([header] if header else []) + rows]
    path.write_text(start + "\n".join(lines) + "\n", encoding="utf-8")
