"""What is exported: a model, its operating point, and the length of its texts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eat.errors import EatError, listed
from eat.export.given import require_folder
from eat.export.stock import load_stock
from eat.export.study_row import Place, StudyRow
from eat.model.cascade import Cascade, load_system
from eat.model.checkpoints import STOCK, read_config
from eat.model.exit_policy import ExitPolicy
from eat.model.hugging_face import EatForSequenceClassification, load_model
from eat.model.products_onnx import PRODUCTS
from eat.runtime.classifier import SHORTEST

Model = EatForSequenceClassification | Cascade

FORMATS = ("onnx", "transformers")


@dataclass(frozen=True)
class ExportOptions:
    """The options of `eat export`.

    model: a study's model folder, or one of `save_pretrained`. to: the folder to write. precision: `int8` or
    `float32`. tau: the threshold; default: the saved one, or the study's. system: the study's row whose parts and
    operating point are used; default: the system that the folder belongs to. config: the study's configuration;
    default: the file in `config/` with the study's name. max_length: the tokens of the longest text; default: the
    study's, or the model's positions. format: `onnx`, or `transformers` for a folder of `from_pretrained` and the hub.
    """

    model: Path
    to: Path
    precision: str = "int8"
    tau: float | None = None
    system: str | None = None
    config: Path | None = None
    max_length: int | None = None
    format: str = "onnx"

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise EatError(f"--format: found {self.format!r}; allowed: {listed(FORMATS)}")
        if self.format == "transformers" and self.precision != "float32":
            raise EatError(
                f"--precision: found {self.precision!r}; --format transformers is written in float32: give a dtype "
                "when the model is loaded"
            )
        if self.precision not in PRODUCTS:
            raise EatError(f"--precision: found {self.precision!r}; allowed: {listed(PRODUCTS)}")
        if self.tau is not None and not 0.0 < self.tau <= 1.0:
            raise EatError(f"--tau: found {self.tau}; give a threshold above 0, at most 1 (no early exits)")
        if self.max_length is not None and self.max_length < SHORTEST:
            raise EatError(f"--max-length: found {self.max_length}; give a whole number from {SHORTEST} on")
        require_folder(self.model)


@dataclass(frozen=True)
class Source:
    """A model with its operating point.

    folders: of the weights; a cascade has several. origin: where the operating point comes from: `option`, `saved`,
    `study`, or `dense` for a model without early exits. row: the study's row that these parts and this rule are of, if
    there is one.
    """

    name: str
    folders: list[Path]
    model: Model
    policy: ExitPolicy
    origin: str
    max_length: int
    row: StudyRow | None = None

    @property
    def labels(self) -> list[str]:
        """The names of the classes."""
        return labels_of(self.model)


def labels_of(model: Model) -> list[str]:
    """The names of a model's classes, in their order."""
    names: dict[int, str] = model.config.id2label
    return [names[number] for number in range(len(names))]


def require_distinct_labels(model: Model, folder: Path) -> None:
    """Refuse a model of whose classes two have the same name: an answer is given by its name."""
    labels = labels_of(model)
    if len(set(labels)) < len(labels):
        raise EatError(f"{folder}: two classes have the same name ({labels}); change id2label in config.json")


def find_source(options: ExportOptions) -> Source:
    """Load the model, and find its operating point: the option's, else the saved one, else the study's.

    Raises `EatError` if the model is of another architecture, there is no operating point, or an option does not fit,
    `DamagedFile` if a file is missing or broken.
    """
    config = read_config(options.model)
    if config["model_type"] in STOCK:
        return _stock_source(options)
    place = Place.of(options.model)
    study = place.find_study(options.config) if place else None
    if (options.system is not None or options.config is not None) and study is None:
        reason = "--system and --config are for a study's model folder" if place is None else _without_study(place)
        raise EatError(f"{options.model}: {reason}")
    row = StudyRow.of(place, study, options.system) if place and study else None
    saved = bool(config.get("operating_point")) and options.system is None
    # a saved operating point is of the weights as they were trained
    measured = None if saved else row
    model, policy, origin = _saved(options) if measured is None else _of_row(options, measured)
    if origin == "":
        reason = "" if place is None else f" or {_without_study(place)}"
        raise EatError(
            f"{options.model}: has exits after {listed(model.config.exits)} and no operating point; give --tau T "
            f"(confidence, in (0, 1]; at 1 no text exits early), save one with set_operating_point{reason}"
        )
    longest = row.max_length if row else model.encoder.shape.positions
    name = options.model.name if place is None else f"{place.task} {row.system if row else place.system}"
    folders = [options.model] if measured is None else measured.folders
    return Source(name, folders, model, policy, origin, _max_length(options, model, longest), measured)


def _stock_source(options: ExportOptions) -> Source:
    given = [f"--{name}" for name in ("tau", "system", "config") if getattr(options, name) is not None]
    if given:
        raise EatError(f"{options.model}: a dense model of transformers; leave {listed(given)} out")
    model = load_stock(options.model)
    length = _max_length(options, model, model.encoder.shape.positions)
    return Source(options.model.name, [options.model], model, ExitPolicy(), "dense", length)


def _saved(options: ExportOptions) -> tuple[Model, ExitPolicy, str]:
    """The model with its saved operating point, or that of the option; the origin is empty if there is neither."""
    model = load_model(options.model)
    exits = model.config.exits
    policy: ExitPolicy = model.policy
    if options.tau is not None:
        rule = policy.rule or ("confidence",)
        return model, _checked(replace(policy, rule=rule, tau=options.tau), exits), "option"
    if model.config.operating_point:
        return model, policy, "saved"
    return model, policy, "dense" if len(exits) == 1 else ""


def _of_row(options: ExportOptions, row: StudyRow) -> tuple[Model, ExitPolicy, str]:
    """The model with the parts of a study's row, at its operating point."""
    model = load_system(row.folders, row.parts)
    policy = _checked(row.policy(options.tau), model.config.exits)
    if options.tau is not None:
        return model, policy, "option"
    return model, policy, "study" if policy.rule else "dense"


def _checked(policy: ExitPolicy, exits: Any) -> ExitPolicy:
    """The same operating point. Raises `EatError` if the model cannot apply it."""
    return ExitPolicy.of(policy.as_point(), exits)


def _without_study(place: Place) -> str:
    return f"give the configuration of the study {place.study!r} with --config FILE"


def _max_length(options: ExportOptions, model: Model, default: int) -> int:
    positions = model.encoder.shape.positions
    length = default if options.max_length is None else options.max_length
    if length > positions:
        raise EatError(f"--max-length: found {length}, but {options.model} has {positions} positions; lower it")
    return int(length)
