"""`eat predict`: rows keep their order and their other cells, a killed run goes on, bad input is one line."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import tiny
from exported import exported, saved_model

from eat import progress
from eat.cli import main
from eat.errors import EatError
from eat.files import write_json
from eat.predict.options import NAMES
from eat.prepare.sources.tables import column_of, read_rows, strings
from eat.runtime import AdaptiveClassifier
from eat.text_files.form import TextForm
from eat.text_files.reading import Reading

ROOT = Path(__file__).resolve().parent.parent
POINT = {"rule": ["confidence"], "tau": 0.7, "temperatures": {1: 1.3, 2: 0.7, 4: 2.0}}
TEXTS = [row["text"] for row in tiny.table(40).to_dict("records")]
ADDED = ",".join(NAMES)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an export in `out` and the model it is of in `model`."""
    folder = tmp_path_factory.mktemp("exported")
    exported(folder, point=POINT, exits=[1, 2])
    return folder


@pytest.fixture
def place(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder the command runs in, with the export `m` and the model `model`, which is not exported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "EVERY_SECONDS", 3600.0)
    (tmp_path / "m").symlink_to(models / "out")
    (tmp_path / "model").symlink_to(models / "model")
    return tmp_path


def cells(texts: list[Any], **options: Any) -> list[list[str]]:
    """The four cells that the runner's answers to these texts give."""
    answers = AdaptiveClassifier.load("m", **options)(texts)
    return [[a.label, str(round(a.probability, 6)), str(a.depth), a.exit_reason] for a in answers]


def table(path: Path, texts: list[str]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "text"], *enumerate(texts)])


def parsed(text: str, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


def process(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """The command as a process of its own."""
    program = "import sys; sys.path.insert(0, sys.argv.pop(1)); from eat.cli import main; main()"
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([sys.executable, "-c", program, str(ROOT), "predict", *arguments], **pipes)


# --- what is written ----------------------------------------------------------------------------------------------


def test_a_csv_file_keeps_its_order_and_its_characters(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    odd = ["  one, two  ", 'she said ""good3""', "two\r\nlines bad4", "word1"]
    rows = [f'{number},"{text}",  x ,"q"' for number, text in enumerate(odd)]
    Path("in.csv").write_bytes(("id,text,c,d\r\n" + "\r\n".join(rows) + "\r\n").encode())
    main(["predict", "m", "in.csv", "--to", "out.csv", "--batch", "3", "--workers", "2"])
    texts = [text.replace('""', '"') for text in odd]
    expected = [f"id,text,c,d,{ADDED}", *(f"{row},{','.join(c)}" for row, c in zip(rows, cells(texts), strict=True))]
    assert Path("out.csv").read_bytes() == ("\r\n".join(expected) + "\r\n").encode()
    assert sorted(path.name for path in place.iterdir()) == ["in.csv", "m", "model", "out.csv"]
    line = capfd.readouterr().err.strip()
    assert line.startswith("4 rows, ") and "of 4 layers on average" in line and "0 rows without a text" in line


@pytest.mark.parametrize("batch", ["1", "7", "1000"])
@pytest.mark.parametrize("workers", ["1", "3"])
def test_neither_chunks_nor_workers_change_the_answers(place: Path, batch: str, workers: str) -> None:
    table(Path("in.csv"), TEXTS)
    main(["predict", "m", "in.csv", "--to", "out.csv", "--batch", batch, "--workers", workers])
    found = parsed(Path("out.csv").read_text())
    assert [row[1] for row in found[1:]] == TEXTS
    for row, (label, probability, *rest) in zip(found[1:], cells(TEXTS), strict=True):
        assert [row[2], *row[4:]] == [label, *rest]
        assert float(row[3]) == pytest.approx(float(probability), abs=2e-6)  # threads change the last digits


def test_json_lines_keep_their_characters(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = ['{"a": {"b": "good1 word2"}, "n": 1.50}', "", '{ "n" : 1e3, "a": {"b":"bad2"} } ', '{"a": {}, "é": "é"}']
    Path("in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    main(["predict", "m", "in.jsonl", "--text", "a.b"])
    out = capfd.readouterr().out
    first, second, third = (json.loads(line) for line in out.split("\n") if line)
    assert out.startswith(lines[0][:-1] + ', "label": ') and '\n\n{ "n" : 1e3, "a": {"b":"bad2"}, "label"' in out
    assert [str(first[name]) for name in NAMES] == cells(["good1 word2"])[0]
    assert [str(second[name]) for name in NAMES] == cells(["bad2"])[0]
    assert third == {"a": {}, "é": "é", **dict.fromkeys(NAMES)}


def test_parquet_is_read_by_chunks_and_keeps_its_types(place: Path) -> None:
    given = pd.DataFrame({"text": [*TEXTS, None], "n": range(41), "when": pd.Timestamp("2026-01-02")})
    given.to_parquet("in.parquet", row_group_size=9)
    main(["predict", "m", "in.parquet", "--to", "out.parquet", "--batch", "6"])
    found = pd.read_parquet("out.parquet")
    pd.testing.assert_frame_equal(found[["text", "n", "when"]], pd.read_parquet("in.parquet"))
    assert [[str(value) for value in row] for row in found[list(NAMES)][:40].astype({"depth": int}).values] == cells(
        TEXTS
    )
    assert found[list(NAMES)].iloc[40].isna().all()
    assert not Path("out.parquet.partial").exists()


def test_plain_text_becomes_csv(place: Path) -> None:
    Path("in.txt").write_text('good1, "word2"\n\nbad1\n')
    main(["predict", "m", "in.txt", "--to", "out.csv"])
    one, two = cells(['good1, "word2"', "bad1"])
    expected = [["text", *NAMES], ['good1, "word2"', *one], ["", "", "", "", ""], ["bad1", *two]]
    assert parsed(Path("out.csv").read_text()) == expected


FORMS: dict[str, tuple[str, bytes, list[str], str, str]] = {
    "semicolons": ("in.csv", b"id;text\n1;good1\n", ["--delimiter", ";"], "utf-8", f"id;text;{ADDED}\n1;good1"),
    "tabs": ("in.tsv", b"id\ttext\n1\tgood1\n", [], "utf-8", f"id\ttext\t{ADDED}\n1\tgood1"),
    "no header": ("in.csv", b"1,good1\n", ["--header", "none", "--text", "2"], "utf-8", "1,good1"),
    "number": ("in.csv", b"a,b\n1,good1\n", ["--text", "2"], "utf-8", f"a,b,{ADDED}\n1,good1"),
    "latin-1": ("in.csv", b"text,\xe9\ngood1,\xe9\n", ["--encoding", "latin-1"], "latin-1", f"text,é,{ADDED}\ngood1,é"),
    "mark": ("in.csv", b"\xef\xbb\xbftext\ngood1\n", [], "utf-8", f"\ufefftext,{ADDED}\ngood1"),
    "no quotes": ("in.csv", b'text\n"good1\n', ["--quote", "none"], "utf-8", f'text,{ADDED}\n"good1'),
    "no last break": ("in.csv", b"text\ngood1", [], "utf-8", f"text,{ADDED}\ngood1"),
    "prefix": ("in.csv", b"text,label\ngood1,x\n", ["--prefix", "eat_"], "utf-8", "text,label,eat_label,eat_p"),
    "other ending": ("in.dat", b"text\ngood1\n", ["--format", "csv"], "utf-8", f"text,{ADDED}\ngood1"),
}


@pytest.mark.parametrize(("name", "content", "options", "encoding", "begin"), FORMS.values(), ids=FORMS.keys())
def test_what_the_input_looks_like_is_what_the_output_looks_like(
    name: str, content: bytes, options: list[str], encoding: str, begin: str, place: Path
) -> None:
    Path(name).write_bytes(content)
    to = f"out{Path(name).suffix}"
    main(["predict", "m", name, "--to", to, *options])
    found = Path(to).read_bytes().decode(encoding)
    begin = begin.replace(
        ADDED, ADDED.replace(",", "\t" if name.endswith("tsv") else options[1] if ";" in options else ",")
    )
    assert found.startswith(begin)
    assert found.endswith("\n")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig"])
def test_an_encoding_with_a_mark_is_written_with_one_mark(encoding: str, place: Path) -> None:
    Path("in.csv").write_bytes("text\ngood1 é\nbad1\n".encode(encoding))
    main(["predict", "m", "in.csv", "--to", "out.csv", "--encoding", encoding, "--batch", "1"])
    assert [row[0] for row in parsed(Path("out.csv").read_bytes().decode(encoding))] == ["text", "good1 é", "bad1"]


def test_compressed_files_are_read_and_written(place: Path) -> None:
    table(Path("in.csv"), TEXTS)
    main(["predict", "m", "in.csv", "--to", "out.csv"])
    Path("in.csv.gz").write_bytes(gzip.compress(Path("in.csv").read_bytes()))
    main(["predict", "m", "in.csv.gz", "--to", "out.csv.gz", "--batch", "9"])
    assert gzip.decompress(Path("out.csv.gz").read_bytes()) == Path("out.csv").read_bytes()


def test_pairs_and_the_options_of_the_model(place: Path) -> None:
    Path("in.csv").write_text("a,b\ngood1,bad2\nword1 word2,word3\n")
    main(["predict", "m", "in.csv", "--text", "a", "--text", "b", "--tau", "1", "--to", "out.csv"])
    found = parsed(Path("out.csv").read_text())[1:]
    assert [row[2:] for row in found] == cells([("good1", "bad2"), ("word1 word2", "word3")], tau=1.0)
    assert {row[4] for row in found} == {"4"}


def test_standard_input_is_csv_unless_told(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for options, content in (([], b"text\ngood1\n"), (["--format", "jsonl"], b'{"text": "good1"}\n')):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        main(["predict", "m", "-", *options])
        assert "good1" in capfd.readouterr().out


# --- texts without an answer --------------------------------------------------------------------------------------


def test_an_empty_text_has_empty_cells_and_is_counted(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table(Path("in.csv"), ["good1", " ", "\u200b", "bad1"])
    main(["predict", "m", "in.csv"])
    printed = capfd.readouterr()
    assert [row[2] != "" for row in parsed(printed.out)[1:]] == [True, False, False, True]
    assert "4 rows, " in printed.err and "2 rows without a text" in printed.err


def test_a_text_that_is_not_truncated_has_empty_cells(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table(Path("in.csv"), ["good1", "word1 " * 20])
    main(["predict", "m", "in.csv", "--max-length", "8"])
    assert parsed(capfd.readouterr().out)[2][2:] == cells(["word1 " * 20], max_length=8)[0]
    main(["predict", "m", "in.csv", "--max-length", "8", "--no-truncate"])
    printed = capfd.readouterr()
    assert parsed(printed.out)[2][2:] == [""] * 4
    assert "1 texts too long" in printed.err


# --- interrupted runs ---------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Ends a run as SIGKILL does: nothing is cleaned up."""


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run the command until some chunks are answered; then it is gone without cleaning up."""

    def run(arguments: list[str], chunks: int = 3) -> None:
        from eat.predict.output import PartialFile

        calls = iter(range(chunks))
        with monkeypatch.context() as patch:
            whole = AdaptiveClassifier.__call__

            def call(self: Any, *given: Any, **options: Any) -> Any:
                if next(calls, None) is None:
                    raise Killed
                return whole(self, *given, **options)

            patch.setattr(AdaptiveClassifier, "__call__", call)
            patch.setattr(PartialFile, "close", lambda self, is_whole: self._file.close())
            with pytest.raises(Killed):
                main(["predict", *arguments])

    return run


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "in.parquet", "in.csv.gz", "in.txt"])
def test_a_killed_run_goes_on_and_gives_the_same_file(
    name: str, place: Path, killed: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame({"text": TEXTS})
    writers: dict[str, Callable[[], Any]] = {
        "in.csv": lambda: frame.to_csv("in.csv", index=False),
        "in.csv.gz": lambda: frame.to_csv("in.csv.gz", index=False),
        "in.jsonl": lambda: frame.to_json("in.jsonl", orient="records", lines=True),
        "in.parquet": lambda: frame.to_parquet("in.parquet"),
        "in.txt": lambda: Path("in.txt").write_text("\n".join(TEXTS)),
    }
    writers[name]()
    to, whole = name.replace("in.", "out.").replace("txt", "csv"), name.replace("in.", "whole.").replace("txt", "csv")
    main(["predict", "m", name, "--to", whole, "--batch", "7"])
    line = capfd.readouterr().err
    killed(["m", name, "--to", to, "--batch", "7"])
    assert not Path(to).exists()
    partial = Path(f"{to}.partial")
    with open(partial, "ab") as file:
        file.write(b"half a chunk")
    main(["predict", "m", name, "--to", to, "--resume", "--batch", "5"])
    assert not partial.exists() and not Path(f"{to}.partial.json").exists()
    assert capfd.readouterr().err.split(", ")[2:] == line.split(", ")[2:]  # of all rows, but for the rate
    if to.endswith(".parquet"):
        pd.testing.assert_frame_equal(pd.read_parquet(to), pd.read_parquet(whole))
    else:
        unpacked = gzip.decompress if to.endswith(".gz") else bytes
        assert unpacked(Path(to).read_bytes()) == unpacked(Path(whole).read_bytes())


def test_resume_without_an_interrupted_run_begins(place: Path) -> None:
    table(Path("in.csv"), TEXTS[:3])
    main(["predict", "m", "in.csv", "--to", "out.csv", "--resume"])
    assert len(parsed(Path("out.csv").read_text())) == 4


CHANGED: dict[str, tuple[list[str], Callable[[], Any] | None, str]] = {
    "another input": (
        [],
        lambda: table(Path("in.csv"), TEXTS[1:]),
        "was written with another input; repeat its command",
    ),
    "another threshold": (["--tau", "0.5"], None, "was written with another --tau"),
    "another column": (["--text", "id"], None, "was written with another --text"),
    "another prefix": (["--prefix", "p"], None, "was written with another --prefix"),
    "another output": ([], lambda: Path("out.csv.partial").write_bytes(b"x" * 900), "is not as it was written"),
    "cut output": ([], lambda: os.truncate("out.csv.partial", 20), "is not as it was written"),
    "damaged record": ([], lambda: Path("out.csv.partial.json").write_text("{"), "not a whole JSON file"),
    "foreign record": (
        [],
        lambda: Path("out.csv.partial.json").write_text("[]"),
        "not the record of an interrupted run",
    ),
}


@pytest.mark.parametrize(("options", "change", "reason"), CHANGED.values(), ids=CHANGED.keys())
def test_a_run_that_changed_does_not_go_on(
    options: list[str],
    change: Callable[[], Any] | None,
    reason: str,
    place: Path,
    killed: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    table(Path("in.csv"), TEXTS)
    killed(["m", "in.csv", "--to", "out.csv", "--batch", "10", "--text", "text"])
    if change is not None:
        change()
    there = Path("out.csv.partial").read_bytes()
    given = options if "--text" in options else ["--text", "text", *options]
    assert reason in refused(["m", "in.csv", "--to", "out.csv", "--resume", *given], capfd)
    assert Path("out.csv.partial").read_bytes() == there
    assert "go on with --resume, or begin again" in refused(["m", "in.csv", "--to", "out.csv"], capfd)
    main(["predict", "m", "in.csv", "--to", "out.csv", "--overwrite"])
    assert Path("out.csv").exists() and not Path("out.csv.partial").exists()


def test_two_runs_do_not_write_one_file(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import fcntl

    table(Path("in.csv"), TEXTS)
    with open("out.csv.partial", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "another run is writing it" in refused(["m", "in.csv", "--to", "out.csv", "--overwrite"], capfd)


@pytest.fixture(params=["1", "2"])
def long_run(place: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """A run that has written its first chunks and has many to go."""
    table(Path("in.csv"), TEXTS * 2000)
    command = process("m", "in.csv", "--to", "out.csv", "--batch", "20", "--workers", request.param)
    try:
        until = time.monotonic() + 120
        while not Path("out.csv.partial.json").exists():
            assert command.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        yield command
    finally:
        command.kill()
        command.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_one_line_that_names_resume(
    number: signal.Signals, long_run: subprocess.Popen[bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    long_run.send_signal(number)
    _, error = long_run.communicate(timeout=60)
    assert long_run.returncode == 130
    *progress, line = error.decode().splitlines()
    assert all("classified" in each for each in progress)  # on a machine that is slow enough for them
    rows = json.loads(Path("out.csv.partial.json").read_text())["tally"]["rows"]
    assert line == f"interrupted; out.csv.partial holds {rows} rows; the same command with --resume goes on"
    assert not Path("out.csv").exists()


def test_an_interrupt_counts_the_rows_of_the_record(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eat.predict import output

    def written_and_interrupted(path: Path, content: object) -> None:
        write_json(path, content)
        raise KeyboardInterrupt

    written = output.PartialFile(Path("out.csv"), {}, resume=False, overwrite=False)
    written.add(b"a\n", output.Tally(rows=20))
    monkeypatch.setattr(output, "write_json", written_and_interrupted)
    with pytest.raises(KeyboardInterrupt):
        written.add(b"b\n", output.Tally(rows=40))
    assert written.interrupted() == "out.csv.partial holds 40 rows; the same command with --resume goes on"
    written.close(is_whole=False)


@pytest.mark.slow
def test_a_closed_pipe_ends_quietly(place: Path) -> None:
    table(Path("in.csv"), TEXTS * 100)
    command = process("m", "in.csv", "--batch", "10")
    assert command.stdout is not None and command.stderr is not None
    assert command.stdout.readline().decode().strip() == f"id,text,{ADDED}"
    command.stdout.close()
    assert command.wait(timeout=120) == 141
    assert command.stderr.read() == b""


@pytest.mark.slow
def test_an_interrupt_of_standard_input_leaves_nothing(place: Path) -> None:
    command = process("m", "-", "--to", "out.csv", "--batch", "1", stdin=subprocess.PIPE)
    assert command.stdin is not None
    command.stdin.write(b"text\n" + b"good1\n" * 3)
    command.stdin.flush()
    until = time.monotonic() + 120
    while not (Path("out.csv.partial").exists() and Path("out.csv.partial").stat().st_size):
        assert command.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    command.terminate()
    _, error = command.communicate(timeout=60)
    assert (command.returncode, error) == (130, b"interrupted; nothing was written\n")
    assert sorted(path.name for path in place.iterdir()) == ["m", "model"]


# --- bad input ----------------------------------------------------------------------------------------------------


def refused(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """The error line of a command that must end with status 1 and print nothing else."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["predict", *arguments])
    printed = capfd.readouterr()
    assert ended.value.code == 1 and printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def damaged() -> None:
    """An export in `d` with a model that is cut off."""
    Path("d").mkdir()
    for file in Path("m").iterdir():
        Path("d", file.name).write_bytes(file.read_bytes())
    os.truncate("d/model.onnx", 1000)


def taken(pairs: int) -> Callable[[], None]:
    """An export in `d` whose manifest says that an example has so many texts."""

    def change() -> None:
        Path("d").mkdir()
        for file in Path("m").iterdir():
            Path("d", file.name).write_bytes(file.read_bytes())
        manifest = json.loads(Path("d/manifest.json").read_text())
        Path("d/manifest.json").write_text(json.dumps(manifest | {"texts": pairs}))

    return change


def swallowing() -> None:
    Path("in.csv").write_text('text,n\n"good1,1\n' + "bad1,2\n" * 5)


OUT = ["--to", "out.csv"]
TWICE = ["--text", "a", "--text", "b"]

# what is in the file `in.csv` or what makes it, the arguments, and a part of the line
BAD: dict[str, tuple[bytes | Callable[[], Any] | None, list[str], str]] = {
    # the file
    "no such file": (None, ["m", "in.csv", *OUT], "in.csv: no such file; the path is relative to"),
    "a folder": (lambda: Path("in.csv").mkdir(), ["m", "in.csv", *OUT], "in.csv: no such file"),
    "empty file": (b"", ["m", "in.csv", *OUT], "in.csv: an empty file; give a file with text in it"),
    "only a header": (b"text\n", ["m", "in.csv", *OUT], "in.csv: no rows; give a file with text in it"),
    "only blank lines": (b"\n\n", ["m", "in.csv", *OUT], "in.csv: no rows"),
    "ending": (
        b"x",
        ["m", "in.xlsx", *OUT],
        "in.xlsx: ending '.xlsx' is not one of .csv, .tsv, .parquet, .jsonl, .txt",
    ),
    "not UTF-8": (
        b"text\n" + b"good1\n" * 3000 + b"caf\xe9\n",
        ["m", "in.csv", *OUT],
        "in.csv: not UTF-8 text (invalid continuation byte at byte 18008, in line 3002)",
    ),
    "cut UTF-8": (
        b"text\ngood1\xc3",
        ["m", "in.csv", *OUT],
        "not UTF-8 text (unexpected end of data at byte 10, in line 2)",
    ),
    "UTF-16": (
        "text\ngood1\n".encode("utf-16"),
        ["m", "in.csv", *OUT],
        "it looks like utf-16; save it as UTF-8, or give",
    ),
    "UTF-16 without a mark": (
        "text\ngood1\n".encode("utf-16-le"),
        ["m", "in.csv", *OUT],
        "line 1: a NUL character; it looks like utf-16-le",
    ),
    "NUL": (b"text\ngood1\nbad\0\n", ["m", "in.csv", *OUT], "line 3: a NUL character"),
    "unknown encoding": (
        b"text\nx\n",
        ["m", "in.csv", *OUT, "--encoding", "utf-7000"],
        "encoding 'utf-7000' is unknown",
    ),
    "long row": (b"text,n\ngood1,1\nbad1,2,3\n", ["m", "in.csv", *OUT], "line 3: 3 cells, and 2 before; quote cells"),
    "short row": (b"text,n\ngood1,1\n\nbad1\n", ["m", "in.csv", *OUT], "line 4: 1 cells, and 2 before"),
    "open quote": (
        swallowing,
        ["m", "in.csv", *OUT],
        "in.csv: not a whole CSV file (line 2: 1 cells, and 2 before; a quot",
    ),
    "open quote at the end": (b'text\n"good1\n', ["m", "in.csv", *OUT], "line 2: a quotation mark is not closed"),
    "damaged gz": (
        lambda: Path("in.csv.gz").write_bytes(b"\x1f\x8bno"),
        ["m", "in.csv.gz", *OUT],
        "not a whole CSV file",
    ),
    "broken JSON": (
        b'{"text": "good1"}\n{"text": "bad',
        ["m", "in.jsonl", "--to", "out.jsonl"],
        "in.jsonl: not a whole JSONL file (line 2:",
    ),
    "JSON list": (b'{"text": "x"}\n[1]\n', ["m", "in.jsonl", "--to", "out.jsonl"], "line 2: list, not an object"),
    "surrogate": (b'{"text": "\\ud800"}\n', ["m", "in.jsonl", "--to", "out.jsonl"], "line 1: half of a surrogate pair"),
    "JSON object": (
        b'{"text": {"en": "x"}}\n',
        ["m", "in.jsonl", "--to", "out.jsonl"],
        "in.jsonl, line 1: column 'text' holds dict; give it text or plain values; name a value within it: text.en",
    ),
    "no Parquet": (b"PAR1 and no more", ["m", "in.parquet", "--to", "out.parquet"], "not a whole PARQUET file"),
    # its columns
    "no column": (b"txt,n\nx,1\n", ["m", "in.csv", *OUT, "--text", "text"], "no column 'text'; there are: txt, n"),
    "which column": (b"a,b\nx,1\n", ["m", "in.csv", *OUT], "several columns (a, b); name one with --text"),
    "no column in JSON": (
        b'{"a": "x"}\n{"b": 1}\n',
        ["m", "in.jsonl", "--to", "out.jsonl", "--text", "c.d"],
        "no column 'c.d'; there are: a, b",
    ),
    "semicolons": (
        b"text;n\ngood1;1\n",
        ["m", "in.csv", *OUT, "--text", "text"],
        "no column 'text'; there are: text;n; cells are separated by commas, not ';': give the delimiter ';'",
    ),
    "two of a name": (
        b"text,text\nx,y\n",
        ["m", "in.csv", *OUT],
        "2 columns have the name 'text'; give the number of one",
    ),
    "column exists": (
        b"text,label\nx,1\n",
        ["m", "in.csv", *OUT],
        "has the column label already; give a prefix for the new columns",
    ),
    "prefixed column exists": (
        b"text,xlabel\ny,1\n",
        ["m", "in.csv", *OUT, "--prefix", "x"],
        "the column xlabel already",
    ),
    "key exists": (
        b'{"text": "x"}\n{"text": "y", "depth": 1}\n',
        ["m", "in.jsonl", "--to", "out.jsonl"],
        "line 2: has the column depth",
    ),
    "one column twice": (b"a,b\nx,y\n", ["m", "in.csv", *OUT, "--text", "a", "--text", "a"], "--text: found 'a' twice"),
    "three columns": (b"a,b\nx,y\n", ["m", "in.csv", *OUT, *TWICE, "--text", "c"], "--text: found 3 columns"),
    "empty text": (b'text\nx\n""\n', ["m", "in.csv", *OUT, "--strict"], "in.csv, line 3: an empty text"),
    "long text": (
        b"text\n" + b"word1 " * 99,
        ["m", "in.csv", *OUT, "--strict", "--no-truncate"],
        "line 2: a text of more tokens than",
    ),
    # the model
    "no such model": (
        b"text\nx\n",
        ["none", "in.csv", *OUT],
        "none: no manifest.json; give a folder that `eat export` wrote",
    ),
    "not exported": (
        b"text\nx\n",
        ["model", "in.csv", *OUT],
        "model: a model that is not exported (config.json, but no",
    ),
    "damaged model": (
        lambda: (damaged(), table(Path("in.csv"), TEXTS)),
        ["d", "in.csv", *OUT],
        "copy all files of one export",
    ),
    "pairs, one column": (
        lambda: (taken(2)(), Path("in.csv").write_text("a,b\nx,y\n")),
        ["d", "in.csv", *OUT, "--text", "a"],
        "d: a model of pairs of texts; give the second column with --text",
    ),
    "single texts, two columns": (
        lambda: (taken(1)(), Path("in.csv").write_text("a,b\nx,y\n")),
        ["d", "in.csv", *OUT, *TWICE],
        "d: a model of single texts, and --text is given twice",
    ),
    # the output
    "output exists": (
        lambda: (table(Path("in.csv"), TEXTS), Path("out.csv").write_text("mine")),
        ["m", "in.csv", *OUT],
        "--to: out.csv exists; give another name, or --overwrite",
    ),
    "output is input": (b"text\nx\n", ["m", "in.csv", "--to", "./in.csv", "--overwrite"], "is the file that is read"),
    "output of another kind": (b"text\nx\n", ["m", "in.csv", "--to", "out.jsonl"], "does not end in .csv or .csv.gz"),
    "output is a device": (
        b"text\nx\n",
        ["m", "in.csv", "--to", "/dev/full"],
        "is not an ordinary file; leave --to out",
    ),
    "output below a file": (b"text\nx\n", ["m", "in.csv", "--to", "in.csv/out.csv"], "is a file, not a folder"),
    "Parquet printed": (b"PAR1", ["m", "in.parquet"], "Parquet is not printed: give the file to write with --to"),
    # the options
    "tau": (b"text\nx\n", ["m", "in.csv", *OUT, "--tau", "1.5"], "tau: found 1.5; give a number above 0, at most 1"),
    "workers": (
        b"text\nx\n",
        ["m", "in.csv", *OUT, "--workers", "0"],
        "--workers: found 0; give a whole number from 1 on",
    ),
    "batch": (b"text\nx\n", ["m", "in.csv", *OUT, "--batch", "-1"], "--batch: found -1; give a whole number from 1 on"),
    "length": (b"text\nx\n", ["m", "in.csv", *OUT, "--max-length", "100"], "give a whole number from 4 to 64"),
    "format": (b"text\nx\n", ["m", "in.csv", *OUT, "--format", "xml"], "--format: found 'xml'; allowed: csv, tsv"),
    "delimiter": (
        b"text\nx\n",
        ["m", "in.csv", *OUT, "--delimiter", "ab"],
        "--delimiter: found 'ab'; give one character",
    ),
    "header": (
        b"text\nx\n",
        ["m", "in.csv", *OUT, "--header", "no"],
        "--header: found 'no'; allowed: first_line, none",
    ),
    "resume of a pipe": (b"text\nx\n", ["m", "-", *OUT, "--resume"], "--resume needs a FILE to read"),
    "no such option": (b"text\nx\n", ["m", "in.csv", "--threads", "2"], "unrecognized arguments"),
}


@pytest.mark.parametrize(("content", "arguments", "reason"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_line_and_nothing_is_written(
    content: bytes | Callable[[], Any] | None,
    arguments: list[str],
    reason: str,
    place: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if callable(content):
        content()
    elif content is not None:
        Path(arguments[1] if arguments[1] != "-" else "in.csv").write_bytes(content)
    before = {path: path.is_file() and path.read_bytes() for path in sorted(place.rglob("*"))}
    assert reason in refused(arguments, capfd)
    assert {path: path.is_file() and path.read_bytes() for path in sorted(place.rglob("*"))} == before


def test_parquet_without_pyarrow_names_what_to_install(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame({"text": TEXTS}).to_parquet("in.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    line = refused(["m", "in.parquet", "--to", "out.parquet"], capfd)
    assert line == "in.parquet: Parquet files need pyarrow: pip install pyarrow"


def test_a_file_that_changes_meanwhile_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    table(Path("in.csv"), TEXTS)
    whole = AdaptiveClassifier.__call__

    def call(self: Any, *given: Any, **options: Any) -> Any:
        with open("in.csv", "a") as file:
            file.write("99,good1\n")
        return whole(self, *given, **options)

    monkeypatch.setattr(AdaptiveClassifier, "__call__", call)
    assert "in.csv: changed while it was read" in refused(["m", "in.csv", "--to", "out.csv"], capfd)
    assert not Path("out.csv").exists()


def test_a_guess_helps_the_message_and_is_not_applied(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("charset_normalizer", reason="the guess of the encoding is optional")
    sentences = "text\n" + "Le café à Besançon était déjà fermé, hélas.\n".replace(",", "") * 20
    Path("in.csv").write_bytes(sentences.encode("cp1252"))
    assert "; it looks like cp125" in refused(["m", "in.csv"], capfd)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_under_standard_output_is_one_line(place: Path) -> None:
    table(Path("in.csv"), TEXTS)
    with open("/dev/full", "wb") as full:
        command = process("m", "in.csv", stdout=full)
        _, error = command.communicate(timeout=120)
    assert command.returncode == 1
    assert error.decode() == f"error: standard output: {os.strerror(errno.ENOSPC)}; 40 rows were read\n"


@pytest.mark.slow
def test_a_full_disk_keeps_whole_chunks_and_the_run_goes_on(place: Path) -> None:
    table(Path("in.csv"), TEXTS)
    most = 2500  # a limit on the size of a file fails as a full disk does
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))  # noqa: E731
    command = process("m", "in.csv", "--to", "out.csv", "--batch", "5", preexec_fn=limit)
    _, error = command.communicate(timeout=120)
    assert command.returncode == 1
    assert error.decode() == (
        f"error: out.csv.partial: {os.strerror(errno.EFBIG)}; free some space and repeat the command with --resume\n"
    )
    rows = json.loads(Path("out.csv.partial.json").read_text())["tally"]["rows"]
    assert 0 < rows < 40 and rows % 5 == 0
    main(["predict", "m", "in.csv", "--to", "out.csv", "--resume"])
    assert [row[1] for row in parsed(Path("out.csv").read_text())[1:]] == TEXTS


# --- what it needs ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_runs_without_torch_transformers_and_pandas(place: Path) -> None:
    table(Path("in.csv"), TEXTS)
    absent = [
        "torch",
        "transformers",
        "pandas",
        "pydantic",
        "psutil",
        "scipy",
        "onnx",
        "pyarrow",
        "charset_normalizer",
        "yaml",
    ]
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules.update(dict.fromkeys({absent}))"
    program += "; from eat.cli import main; main(sys.argv[1:])"
    for arguments in (["--help"], ["predict", "m", "in.csv", "--to", "out.csv"]):
        ended = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
    assert len(parsed(Path("out.csv").read_text())) == 41


def test_memory_does_not_grow_with_the_file(place: Path) -> None:
    """Rows are read one at a time: of a file, no more than a chunk is held."""
    rows = 0

    class Counted(io.BytesIO):
        def readline(self, *_: Any) -> bytes:  # pragma: no cover, the wrapper reads blocks
            raise AssertionError

        def read1(self, size: int = -1) -> bytes:
            nonlocal rows
            rows += 1000
            return b"good1,x\n" * 1000 if rows <= 100_000 else b""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", SimpleNamespace(buffer=Counted()))
        reading = Reading(None, "csv", TextForm(header="none"))
        for number, _ in enumerate(reading, start=1):
            assert rows - number <= 3000
        reading.close()
    assert number == 100_000


# --- one reader ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "in.txt"])
def test_tables_in_memory_are_read_by_the_same_reader(name: str, place: Path) -> None:
    Path("in.csv").write_text('text,n\n"a, b",1\n\n" c ",2\n')
    Path("in.jsonl").write_text('{"text": "a, b", "n": 1}\n\n{"text": " c "}\n')
    Path("in.txt").write_text("a, b\n c \n")
    frame = read_rows(Path(name))
    assert strings(Path(name), "text", column_of(Path(name), frame, "text")) == ["a, b", " c "]
    with Reading(Path(name), name[3:], TextForm()) as reading:
        given = [row.cells["text"] if isinstance(row.cells, dict) else row.cells[0] for row in reading]
    assert given == ["a, b", " c "]


def test_a_model_of_single_texts_is_exported_as_one(place: Path, tmp_path: Path) -> None:
    saved_model(tmp_path / "again", point=POINT, exits=[1, 2])
    assert json.loads(Path("m/manifest.json").read_text())["texts"] is None  # no study says it
    with pytest.raises(EatError, match="allowed"):
        TextForm(header="second_line")
