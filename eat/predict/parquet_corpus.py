"""A corpus in a Parquet file, read by row groups.

A Parquet file cannot be appended to. The answers of each row are lines of JSON until all are there; then the input is
read once more and written beside them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from eat.errors import EatError
from eat.files import replacing
from eat.predict.corpus import Chunk, Corpus, cells_of, example
from eat.predict.options import PredictOptions
from eat.progress import Progress
from eat.text_files.columns import Place, chosen_columns, locate, no_column, text_of, value_within
from eat.text_files.reading import no_rows, not_whole, require_file

if TYPE_CHECKING:
    from eat.runtime.classifier import Answer

ROWS_AT_ONCE = 10_000
"""The rows that are copied together when the output is written."""


class ParquetCorpus(Corpus):
    """A Parquet file. Raises `EatError` if pyarrow is not installed."""

    unit: ClassVar[str] = "row"

    def __init__(self, options: PredictOptions) -> None:
        assert options.path is not None
        self._path = options.path
        self.where = str(self._path)
        self.added = options.added
        require_file(self._path)
        try:
            import pyarrow.parquet  # noqa: F401
        except ModuleNotFoundError:
            raise EatError(f"{self.where}: Parquet files need pyarrow: pip install pyarrow") from None
        with self._open() as file:
            self._names = names = list(file.schema_arrow.names)
            self._rows: int = file.metadata.num_rows
        if not self._rows:
            raise no_rows(self.where)
        self.require_free(names)
        self._columns = chosen_columns(self.where, names, options.columns)
        self._places: list[Place] = []
        for column in self._columns:
            place = locate(self.where, names, column)
            if place is None:
                raise no_column(self.where, names, column)
            self._places.append(place)

    def scan(self) -> int | None:
        """As `Corpus`; the values of the text columns are read."""
        found: set[str] = set()
        with Progress(f"checking {self.where}"):
            for number, values in enumerate(self._values(ROWS_AT_ONCE), start=1):
                found |= {column for column, value in zip(self._columns, values, strict=True) if value is not None}
                self._cells(number, values)
        if missing := [column for column in self._columns if column not in found and "." in column]:
            raise no_column(self.where, self._names, missing[0])
        return self._rows

    def chunks(self, size: int, skip: int) -> Iterator[Chunk]:
        """As `Corpus`."""
        rows = itertools.islice(enumerate(self._values(size), start=1), skip, None)
        while taken := list(itertools.islice(rows, size)):
            numbers = [number for number, _ in taken]
            yield Chunk(numbers, [example(self._cells(number, values)) for number, values in taken], numbers)

    def head(self) -> bytes:
        """As `Corpus`."""
        return b""

    def lines(self, chunk: Chunk, answers: Sequence[Answer | None]) -> bytes:
        """As `Corpus`: a line of JSON for each row."""
        return b"".join(json.dumps(None if answer is None else cells_of(answer)).encode() + b"\n" for answer in answers)

    def check_labels(self, labels: Sequence[str]) -> None:
        """As `Corpus`: a Parquet file holds any label."""

    def finish(self, written: Path, to: Path) -> None:
        """As `Corpus`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = (pa.string(), pa.float64(), pa.int64(), pa.string())
        with self._open() as file, open(written, encoding="utf-8") as lines, replacing(to) as temporary:
            schema = file.schema_arrow
            for name, kind in zip(self.added, types, strict=True):
                schema = schema.append(pa.field(name, kind))
            with (
                pq.ParquetWriter(temporary, schema) as writer,
                Progress(f"writing {to}:", self._rows, "rows") as progress,
            ):
                for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
                    cells = [json.loads(line) or [None] * 4 for line in itertools.islice(lines, batch.num_rows)]
                    columns = zip(*cells, strict=True)
                    arrays = [pa.array(values, kind) for values, kind in zip(columns, types, strict=True)]
                    writer.write_batch(pa.RecordBatch.from_arrays([*batch.columns, *arrays], schema=schema))
                    progress.advance(batch.num_rows)
        written.unlink()

    def _open(self) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.ParquetFile(self._path)
        except (pa.ArrowException, OSError) as error:
            raise not_whole(self.where, "parquet", error) from None

    def _values(self, size: int) -> Iterator[list[Any]]:
        """The values of the text columns, row by row."""
        import pyarrow as pa

        names = list(dict.fromkeys(place.name for place in self._places))
        with self._open() as file:
            try:
                for batch in file.iter_batches(batch_size=size, columns=names):
                    read = [batch.column(place.name).to_pylist() for place in self._places]
                    for values in zip(*read, strict=True):
                        yield [
                            value_within(value, place.keys) for value, place in zip(values, self._places, strict=True)
                        ]
            except (pa.ArrowException, OSError) as error:
                raise not_whole(self.where, "parquet", error) from None

    def _cells(self, number: int, values: Sequence[Any]) -> list[str]:
        where = f"{self.where}, row {number}"
        return [text_of(where, column, value) for column, value in zip(self._columns, values, strict=True)]
