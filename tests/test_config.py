"""A configuration is understood whole or refused in a line that names the key, what was found and what is allowed."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from studies import studies

from eat.errors import EatError
from eat.model.options import Attention, Layers, Parts
from eat.model.reducers.registry import (
    ContributionPredictor,
    FixedRatio,
    LearnedRetention,
    LearnedThreshold,
    TokenMerging,
    TokenPolicy,
)
from eat.study import keys
from eat.study.ablation import Ablation
from eat.study.backbones import FolderBackbone, HubBackbone, PackagedBackbone
from eat.study.calibration import Calibration
from eat.study.exits import Choice, Exits, Promise
from eat.study.loading import load_study, study_of_json
from eat.study.recipes import Annealing, Distillation, LayerDistillation, PolicyTraining, Stage, WidthTraining
from eat.study.schema import schema_text
from eat.study.specs.calibrate import CalibrationSpec
from eat.study.specs.finetune import TrainingSpec
from eat.study.specs.spec import Spec
from eat.study.stock import Rival
from eat.study.study import A_VIEW, Study
from eat.study.systems import System
from eat.study.tasks import (
    FileSource,
    FileTexts,
    GlueDirSource,
    HubSource,
    PackagedSource,
    PackagedTexts,
    RestTexts,
    Splits,
    Task,
    Triage,
)
from eat.study.timing import Timing, Tracing
from eat.study.training import Training
from eat.validation import Strict, canonical_json

ROOT = Path(__file__).resolve().parent.parent
# keys that are merged into another study, which is given before it
SEEDS = ROOT / "config" / "embedded_seeds.yaml"
# another kind of study (test_tagging_study.py)
TAGGING = ROOT / "config" / "tagging.yaml"
SHIPPED = sorted(set((ROOT / "config").glob("*.yaml")) - {SEEDS, TAGGING})

STUDY = """\
study: small
reference: dense
seeds: [1, 2]
accuracy_budget: 0.01
backbones:
  packed: {kind: packaged, name: all-minilm-l6-v2}
  mine: {kind: folder, path: models/mine}
  fetched: {kind: hub, name: someone/bert, revision: 0123456789abcdef0123456789abcdef01234567}
tasks:
  movies:
    source: {kind: packaged, name: rotten_tomatoes}
    splits: {calibration: 0.15, dev: 0.2}
    max_length: 64
  tickets:
    source: {kind: file, path: tickets.csv, text: [subject, body], label: urgent, labels: [low, high]}
  pairs:
    source: {kind: glue_dir, task: mrpc}
    learning_rate: 5.0e-5
    epochs_scale: 1.5
  fetched:
    source: {kind: hub, task: rte, revision: 0123456789abcdef0123456789abcdef01234567}
systems:
  dense: {backbone: packed, last_head: bert}
  student:
    backbone: packed
    layers: {every: 2}
    last_head: distilbert
    recipe:
      - {from: dense, epochs: 2, distill: {teacher: dense, mu: 0.5}}
  eat:
    backbone: packed
    reducer: {kind: norm, after: [2, 4], ratio: 0.3}
    attention: {kind: window, left: 16}
    exits: {after: [3, 4], rule: [confidence], tau: [0.8, 0.9]}
    recipe:
      - {epochs: 3, anneal: {start_epoch: 1, end_epoch: 3}, exit_weights: {3: 0.3, 6: 1.0}}
      - {name: heads, epochs: 1, train_heads: [3]}
training: {batch_size: 32, learning_rate: 1.0e-4}
calibration: {bins: 15}
timing: {texts: 100, batch_sizes: [1, 32]}
ablation: {kind: retrained, base: eat, variants: [student]}
"""


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(yaml.safe_load(STUDY))


def changed(*keys: Any, to: Any) -> Study:
    """The small study with one value changed."""
    value = yaml.safe_load(STUDY)
    node = value
    for key in keys[:-1]:
        node = node.setdefault(key, {}) if isinstance(node, dict) else node[key]
    node[keys[-1]] = to
    return load_study(value)


def refusal(path: Path) -> str:
    """The line with which a file is refused, after its name."""
    with pytest.raises(EatError) as caught:
        load_study(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


# --- what is shipped ----------------------------------------------------------------------------------------------


def test_the_schema_is_that_of_the_models() -> None:
    stored = (ROOT / "config" / "schema.json").read_text(encoding="utf-8")
    remedy = "config/schema.json is not that of eat.study.study; run: make schema"
    assert stored == schema_text(), remedy


def test_the_command_that_mends_the_schema_prints_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "eat.study.schema"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == schema_text()


def test_every_option_says_what_it_is() -> None:
    for name, part in json.loads(schema_text())["$defs"].items():
        assert part.get("description"), name


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_study_is_valid_and_follows_the_schema(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")
    load_study(path)
    value = json.loads(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8"))))
    jsonschema.validate(value, json.loads(schema_text()))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_dvc_can_read_every_parameter_of_a_shipped_study(path: Path) -> None:
    """Its `params diff` merges keys one by one, which fails on keys that are not text within a list."""
    reader = pytest.importorskip("dvc.dependency.param").read_param_file
    from dvc.fs import localfs

    value = yaml.safe_load(path.read_text(encoding="utf-8"))
    keys = [
        *(key for key in value if key != "systems"),
        *(f"systems.{name}.{key}" for name, row in value["systems"].items() for key in row),
    ]
    assert reader(localfs, str(path), keys) == value


def test_shipped_studies_have_folders_of_their_own() -> None:
    names = [load_study(path).study for path in SHIPPED]
    assert len(set(names)) == len(names) >= 3


def test_three_seeds_of_the_embedded_study_differ_from_it_in_nothing_else() -> None:
    one = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    more = yaml.safe_load(SEEDS.read_text(encoding="utf-8"))
    assert list(more) == ["seeds"]
    assert Study.model_validate(one | more).seeds == [1, 2, 3]


# --- unknown keys -------------------------------------------------------------------------------------------------

LEVELS: list[tuple[tuple[Any, ...], type[BaseModel]]] = [
    ((), Study),
    (("tasks", "movies"), Task),
    (("tasks", "movies", "source"), PackagedSource),
    (("tasks", "tickets", "source"), FileSource),
    (("tasks", "pairs", "source"), GlueDirSource),
    (("tasks", "fetched", "source"), HubSource),
    (("tasks", "movies", "splits"), Splits),
    (("backbones", "packed"), PackagedBackbone),
    (("backbones", "mine"), FolderBackbone),
    (("backbones", "fetched"), HubBackbone),
    (("systems", "eat"), System),
    (("systems", "student", "layers"), Layers),
    (("systems", "eat", "reducer"), FixedRatio),
    (("systems", "eat", "attention"), Attention),
    (("systems", "eat", "exits"), Exits),
    (("systems", "eat", "recipe", 1), Stage),
    (("systems", "eat", "recipe", 0, "anneal"), Annealing),
    (("systems", "student", "recipe", 0, "distill"), Distillation),
    (("training",), Training),
    (("calibration",), Calibration),
    (("trace",), Tracing),
    (("timing",), Timing),
    (("ablation",), Ablation),
]


@pytest.mark.parametrize(("level", "model"), LEVELS, ids=lambda value: getattr(value, "__name__", None))
def test_an_unknown_key_is_refused_at_every_level_with_those_that_are_known(
    level: tuple[Any, ...], model: type[BaseModel]
) -> None:
    with pytest.raises(EatError) as caught:
        changed(*level, "treshold", to=1)
    known = ", ".join(field.alias or name for name, field in model.model_fields.items())
    key = ".".join(map(str, (*level, "treshold")))
    assert str(caught.value) == f"configuration: {key}: unknown key; known here: {known}"


OPTIONS: list[tuple[tuple[Any, ...], dict[str, Any], type[BaseModel]]] = [
    (("systems", "eat", "reducer"), {"kind": "threshold", "after": [2]}, LearnedThreshold),
    (("systems", "eat", "reducer"), {"kind": "retention", "after": [2]}, LearnedRetention),
    (("systems", "eat", "reducer"), {"kind": "predictor", "after": [2]}, ContributionPredictor),
    (("systems", "eat", "reducer"), {"kind": "merging", "after": [2]}, TokenMerging),
    (("systems", "eat", "reducer"), {"kind": "policy", "after": [2]}, TokenPolicy),
    (("systems", "student", "recipe", 0, "distill", "layers"), {"hidden": 2.0}, LayerDistillation),
    (("systems", "student", "recipe", 0, "policy"), {"by": "reinforce"}, PolicyTraining),
    (("systems", "student", "recipe", 0, "widths"), {"train": [1.0, 0.5]}, WidthTraining),
    (("systems", "eat", "exits", "promise"), {"epsilon": 0.1}, Promise),
    (("systems", "eat", "exits", "choose"), {"by": "disagreement"}, Choice),
    (("tasks", "tickets", "triage"), {"alarm": "high", "costs": {"low": 1, "high": 5}}, Triage),
]
UNLABELLED: list[tuple[dict[str, Any], type[BaseModel]]] = [
    ({"kind": "rest"}, RestTexts),
    ({"kind": "packaged", "name": "imdb"}, PackagedTexts),
    ({"kind": "file", "path": "a.txt", "text": ["text"]}, FileTexts),
]
RIVAL = (("timing", "stock"), [{"engine": "onnx", "treshold": 1}], Rival)


@pytest.mark.parametrize(("level", "options", "model"), OPTIONS, ids=lambda value: getattr(value, "__name__", None))
def test_an_unknown_option_of_a_part_is_refused_with_those_that_are_known(
    level: tuple[Any, ...], options: dict[str, Any], model: type[BaseModel]
) -> None:
    with pytest.raises(EatError) as caught:
        changed(*level, to=options | {"treshold": 1})
    key = ".".join(map(str, (*level, "treshold")))
    assert str(caught.value) == f"configuration: {key}: unknown key; known here: {', '.join(model.model_fields)}"


@pytest.mark.parametrize(("options", "model"), UNLABELLED, ids=lambda value: getattr(value, "__name__", None))
def test_an_unknown_key_of_unlabelled_texts_is_refused(options: dict[str, Any], model: type[BaseModel]) -> None:
    assert changed("tasks", "movies", "unlabelled", to=[options]).tasks["movies"].unlabelled[0].kind == options["kind"]
    with pytest.raises(EatError, match=r"^configuration: tasks\.movies\.unlabelled\.0\.treshold: unknown key;"):
        changed("tasks", "movies", "unlabelled", to=[options | {"treshold": 1}])


def test_an_unknown_key_of_a_rival_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(EatError) as caught:
        changed(*RIVAL[0], to=RIVAL[1])
    assert str(caught.value) == "configuration: timing.stock.0.treshold: unknown key; known here: engine, precision"


def test_every_part_of_a_study_stands_among_the_levels() -> None:
    def last(model: type[Strict]) -> set[type[Strict]]:
        return set().union(*map(last, below)) if (below := model.__subclasses__()) else {model}

    # a specification is made of the study, and no part of it; nor is what the report reads, or another kind of study
    others = ("eat.report.", "eat.study.tagging")
    found = {part for part in last(Strict) if not part.__module__.startswith(others)}
    parts = {part for part in found if part is not Parts and not issubclass(part, Spec)}
    assert parts == {model for _, model in LEVELS} | {model for _, _, model in OPTIONS} | {RIVAL[2]} | {
        model for _, model in UNLABELLED
    }


# --- one broken value, one line -----------------------------------------------------------------------------------

QUOTE = (
    "input should be a valid string; put quotes around it: without quotes YAML reads yes, no, on and off as truth "
    "values, and numbers, dates and null as themselves"
)
DASH = "it must not contain a slash, brace or line break, begin with a dash, or be `..`"

BROKEN: dict[str, tuple[str, str, str]] = {  # what -> (in place of this, this, the line it must give)
    # wrong types
    "word for number": (
        "max_length: 64",
        "max_length: long",
        "tasks.movies.max_length: found 'long'; input should be a valid integer, unable to parse string as an integer",
    ),
    "fraction for number": (
        "max_length: 64",
        "max_length: 64.5",
        "tasks.movies.max_length: found 64.5; input should be a valid integer, got a number with a fractional part",
    ),
    "number for list": ("seeds: [1, 2]", "seeds: 1", "seeds: found 1; input should be a valid list"),
    "list for mapping": (
        "timing: {texts: 100, batch_sizes: [1, 32]}",
        "timing: [100]",
        "timing: found [100]; input should be a valid dictionary or instance of Timing",
    ),
    "nothing for a system": (
        "dense: {backbone: packed, last_head: bert}",
        "dense:",
        "systems.dense: found None; input should be a valid dictionary or instance of System",
    ),
    "truth value for number": (
        "epochs: 2",
        "epochs: yes",
        "systems.student.recipe.0.epochs: found True; no key has a truth value (in YAML yes, no, on, off)",
    ),
    "truth value in a list": (
        "seeds: [1, 2]",
        "seeds: [1, off]",
        "seeds.1: found False; no key has a truth value (in YAML yes, no, on, off)",
    ),
    "number for a name": ("  movies:", "  2024:", f"tasks.2024: found 2024; {QUOTE}"),
    "word for a layer": (
        "exit_weights: {3: 0.3",
        "exit_weights: {three: 0.3",
        "systems.eat.recipe.0.exit_weights.three: found 'three'; input should be a valid integer, unable to parse "
        "string as an integer",
    ),
    # choices
    "unknown rule": (
        "rule: [confidence]",
        "rule: [certainty]",
        "systems.eat.exits.rule.0: found 'certainty'; input should be 'confidence', 'entropy', 'agreement', 'margin' "
        "or 'risk_controlled'",
    ),
    "unknown reader of heads": (
        "after: [3, 4], rule",
        "after: [3, 4], read: maximum, rule",
        "systems.eat.exits.read: found 'maximum'; input should be 'cls', 'mean', 'max', 'cls_mean_max' or 'attention'",
    ),
    "a kind of last heads before the last": (
        "after: [3, 4], rule",
        "after: [3, 4], head: electra, rule",
        "systems.eat.exits.head: found 'electra'; input should be 'linear', 'mlp' or 'bert'",
    ),
    "a kind of early heads at the last": (
        "last_head: distilbert",
        "last_head: mlp",
        "systems.student.last_head: found 'mlp'; input should be 'bert', 'distilbert', 'electra' or 'linear'",
    ),
    "unknown reducer": (
        "kind: norm",
        "kind: topk",
        "systems.eat.reducer: found {'kind': 'topk', 'after': [2, 4], 'ratio': 0.3}; input tag 'topk' found using "
        "'kind' does not match any of the expected tags: 'none', 'norm', 'received', 'random', 'threshold', "
        "'retention', 'predictor', 'policy', 'merging'",
    ),
    "unknown kind of backbone": (
        "{kind: folder, path: models/mine}",
        "{kind: web}",
        "backbones.mine: found {'kind': 'web'}; input tag 'web' found using 'kind' does not match any of the expected "
        "tags: 'packaged', 'folder', 'hub'",
    ),
    "unknown package": (
        "name: rotten_tomatoes",
        "name: rotten_apples",
        "tasks.movies.source.name: found 'rotten_apples'; input should be 'rotten_tomatoes', 'imdb' or 'bbc_news'",
    ),
    # numbers out of range
    "threshold of 0": (
        "tau: [0.8, 0.9]",
        "tau: [0.0, 0.9]",
        "systems.eat.exits.tau.0: found 0.0; input should be greater than 0",
    ),
    "threshold below 0": (
        "tau: [0.8, 0.9]",
        "tau: [0.8, -0.9]",
        "systems.eat.exits.tau.1: found -0.9; input should be greater than 0",
    ),
    "threshold above 1": (
        "tau: [0.8, 0.9]",
        "tau: [80]",
        "systems.eat.exits.tau.0: found 80; input should be less than or equal to 1",
    ),
    "threshold NaN": (
        "tau: [0.8, 0.9]",
        "tau: [.nan]",
        "systems.eat.exits.tau.0: found NaN; input should be a finite number",
    ),
    "learning rate NaN": (
        "learning_rate: 1.0e-4",
        "learning_rate: .NaN",
        "training.learning_rate: found NaN; input should be a finite number",
    ),
    "learning rate infinite": (
        "learning_rate: 1.0e-4",
        "learning_rate: .inf",
        "training.learning_rate: found inf; input should be a finite number",
    ),
    "layer 0": (
        "after: [2, 4]",
        "after: [0]",
        "systems.eat.reducer.after.0: found 0; input should be greater than or equal to 1",
    ),
    "ratio of 1": ("ratio: 0.3", "ratio: 1.0", "systems.eat.reducer.ratio: found 1.0; input should be less than 1"),
    "nothing left to train on": (
        "{calibration: 0.15, dev: 0.2}",
        "{calibration: 0.5, dev: 0.5}",
        "tasks.movies.splits: calibration + dev is 1; the sum must be below 1, so that training text remains",
    ),
    "a dev part of text that brings its own": (
        "learning_rate: 5.0e-5",
        "splits: {dev: 0.3}",
        "tasks.pairs: splits.dev is 0.3, but the source (glue_dir) has its own dev text; omit splits.dev",
    ),
    "a branch for a commit": (
        "task: rte, revision: 0123456789abcdef0123456789abcdef01234567",
        "task: rte, revision: main",
        "tasks.fetched.source.revision: found 'main'; string should match pattern '^[0-9a-f]{40}$'",
    ),
    "models of a task that is not there": (
        "task: mrpc}",
        "task: mrpc}\n    models_of: mnli",
        "tasks.pairs.models_of: 'mnli' trains no models here; known: movies, tickets, fetched",
    ),
    "longer text than models were trained on": (
        "task: mrpc}",
        "task: mrpc}\n    models_of: movies",
        "tasks.pairs.max_length: found 128; movies has 64",
    ),
    "unknown task of GLUE": (
        "task: mrpc",
        "task: sst",
        "tasks.pairs.source.task: found 'sst'; input should be 'cola', 'sst2', 'mrpc', 'qqp', 'mnli', 'mnli-mm', "
        "'qnli', 'rte' or 'wnli'",
    ),
    "annealing that ends before it starts": (
        "start_epoch: 1, end_epoch: 3",
        "start_epoch: 2, end_epoch: 1",
        "systems.eat.recipe.0.anneal: annealing ends at epoch 1, before it starts at 2",
    ),
    "annealing that is cut off": (
        "start_epoch: 1, end_epoch: 3",
        "start_epoch: 1, end_epoch: 4",
        "systems.eat.recipe.0: anneal.end_epoch is 4, but the stage has 3 epochs: the full pruning ratio would never "
        "be reached; use a smaller end_epoch",
    ),
    "agreement with nobody": (
        "after: [3, 4], rule: [confidence]",
        "after: [4], rule: [confidence, agreement]",
        "systems.eat.exits: rule agreement with exits after [4]; it compares an exit with the previous one, so name at "
        "least two layers",
    ),
    # duplicates
    "seed twice": ("seeds: [1, 2]", "seeds: [1, 2, 1]", "seeds: contains duplicates: 1, 2, 1"),
    "threshold twice": ("tau: [0.8, 0.9]", "tau: [0.8, 0.80]", "systems.eat.exits.tau: contains duplicates: 0.8, 0.8"),
    "exit twice": ("after: [3, 4]", "after: [4, 4]", "systems.eat.exits.after: contains duplicates: 4, 4"),
    "removal twice": ("after: [2, 4]", "after: [2, 2]", "systems.eat.reducer.after: contains duplicates: 2, 2"),
    "batch size twice": (
        "batch_sizes: [1, 32]",
        "batch_sizes: [1, 1]",
        "timing.batch_sizes: contains duplicates: 1, 1",
    ),
    "label twice": (
        "labels: [low, high]",
        "labels: [low, low]",
        "tasks.tickets.source.labels: contains duplicates: low, low",
    ),
    "stage twice": (
        "- {name: heads,",
        "- {",
        "systems.eat.recipe: two stages have the same name: finetune, finetune; give each its own `name`",
    ),
    "key twice": (
        "timing: {texts: 100",
        "timing: {texts: 200, texts: 100",
        "not plain YAML: 'texts' appears twice in \"<unicode string>\", line 40, column 22: timing: {texts: 200, "
        "texts: 100, batch_sizes: [1, 32]} ^",
    ),
    "system twice": (
        "  student:",
        "  dense:",
        "not plain YAML: 'dense' appears twice in \"<unicode string>\", line 24, column 3: dense: ^",
    ),
    # empty lists
    "no seed": (
        "seeds: [1, 2]",
        "seeds: []",
        "seeds: found []; list should have at least 1 item after validation, not 0",
    ),
    "no batch size": (
        "batch_sizes: [1, 32]",
        "batch_sizes: []",
        "timing.batch_sizes: found []; list should have at least 1 item after validation, not 0",
    ),
    "no batch size 1": (
        "batch_sizes: [1, 32]",
        "batch_sizes: [8, 32]",
        "timing.batch_sizes: [8, 32] lacks 1, at which tables and figures compare systems; give [1, 8, 32]",
    ),
    "no text column": (
        "text: [subject, body]",
        "text: []",
        "tasks.tickets.source.text: found []; list should have at least 1 item after validation, not 0",
    ),
    "no head to train": (
        "train_heads: [3]",
        "train_heads: []",
        "systems.eat.recipe.1.train_heads: found []; value should have at least 1 item after validation, not 0",
    ),
    "no threshold": (
        "tau: [0.8, 0.9]",
        "tau: []",
        "systems.eat.exits: rule [confidence] with tau [none]; confidence, entropy, margin and risk_controlled "
        "need tau, and no other rule uses it",
    ),
    "no rule": (
        "rule: [confidence]",
        "rule: []",
        "systems.eat.exits: rule [none] with tau [0.8, 0.9]; confidence, entropy, margin and risk_controlled "
        "need tau, and no other rule uses it",
    ),
    "no exit": (
        "after: [3, 4]",
        "after: []",
        "systems.eat.exits: a rule without `after`; name the layers after which a text may exit",
    ),
    "no removal": (
        "after: [2, 4]",
        "after: []",
        "systems.eat.reducer: reducer 'norm' with `after: []`; give layers to every kind except none",
    ),
    "a reducer that may remove every token": (
        "reducer: {kind: norm, after: [2, 4], ratio: 0.3}",
        "reducer: {kind: threshold, after: [2], protect: []}",
        "systems.eat.reducer.protect: [] lacks cls, and this reducer may remove all other tokens; give [cls] or [cls, "
        "sep]",
    ),
    "two ways to take layers": (
        "{every: 2}",
        "{every: 2, first: 3}",
        "systems.student.layers: layers has first, every; give only one of them",
    ),
    # names that lead nowhere, or in a circle
    "unknown backbone": (
        "dense: {backbone: packed",
        "dense: {backbone: bert",
        "systems.dense.backbone: 'bert' is not a backbone; known: packed, mine, fetched",
    ),
    "unknown teacher": (
        "teacher: dense",
        "teacher: bert",
        "systems.student.recipe.0.distill.teacher: 'bert' is not a system; known: dense, student, eat",
    ),
    "unknown parent": (
        "from: dense",
        "from: bert",
        "systems.student.recipe.0.from: 'bert' is unknown; allowed: backbone, dense, eat",
    ),
    "a later stage as parent": (
        "- {epochs: 3",
        "- {from: heads, epochs: 3",
        "systems.eat.recipe.0.from: 'heads' is unknown; allowed: backbone, dense, student",
    ),
    "a circle": (
        "- {epochs: 3",
        "- {from: student, distill: {teacher: eat}, epochs: 3",
        "systems depend on each other in a cycle: eat -> eat",
    ),
    "unknown reference": (
        "reference: dense",
        "reference: bert",
        "reference 'bert' is not a system; known: dense, student, eat",
    ),
    "reference that is not dense": (
        "reference: dense",
        "reference: eat",
        "reference 'eat' is not dense; name one without reducer, window or rule",
    ),
    "reference without a stock class": (
        ", last_head: bert",
        "",
        "reference 'dense' has `last_head: linear` and `read: cls`; its stock export needs last_head bert or "
        "distilbert, and read cls",
    ),
    "a name that is taken": (
        "  student:",
        "  hf-dense-12:",
        "systems.hf-dense-12: the name is reserved; choose another",
    ),
    # names that cannot be paths
    "a name that climbs": ("  movies:", "  ..:", f"tasks...: '..' cannot be part of a path; {DASH}"),
    "a name with a slash": ("  movies:", "  a/b:", f"tasks.a/b: 'a/b' cannot be part of a path; {DASH}"),
    "a name with braces": ("  movies:", "  'a{b}':", f"tasks.a{{b}}: 'a{{b}}' cannot be part of a path; {DASH}"),
    "a name with a dash in front": ("  movies:", "  -x:", f"tasks.-x: '-x' cannot be part of a path; {DASH}"),
    "a name with a line break": (
        "  movies:",
        '  "a\\nb":',
        f"tasks.'a\\nb': 'a\\nb' cannot be part of a path; {DASH}",
    ),
    "a title with a line break": (
        "    max_length: 64",
        '    max_length: 64\n    title: "a\\nb"',
        "tasks.movies.title: 'a\\nb' cannot be printed in one line; use printable characters without line breaks",
    ),
    "a title that another task has": (
        "    max_length: 64",
        "    max_length: 64\n    title: tickets",
        "tasks.movies.title: 'tickets' is the title of another task; choose another",
    ),
    "an empty name": ("  movies:", '  "":', "tasks.: found ''; string should have at least 1 character"),
    "a study that climbs": (
        "study: small",
        "study: ../small",
        "study: found '../small'; string should match pattern '^[A-Za-z0-9][A-Za-z0-9_.-]*$'",
    ),
    "a task with the name of a kind": (
        "  movies:\n",
        "  file:\n    dev_examples: 1\n",
        "tasks.file.dev_examples: found 1; input should be greater than or equal to 8",
    ),
    "a missing key": ("reference: dense\n", "", "reference: missing"),
    "an unknown key with a line break": (
        "max_length: 64",
        '"max\\nlength": 64',
        "tasks.movies.'max\\nlength': unknown key; known here: source, title, splits, max_length, train_examples, "
        "calibration_examples, dev_examples, unlabelled, unlabelled_examples, learning_rate, batch_size, epochs, "
        "epochs_scale, triage, models_of",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_value_gives_its_line(tmp_path: Path, what: str) -> None:
    old, new, line = BROKEN[what]
    assert STUDY.count(old) >= 1
    path = tmp_path / "broken.yaml"
    path.write_text(STUDY.replace(old, new, 1), encoding="utf-8")
    assert refusal(path) == line


FILES: dict[str, tuple[bytes, str]] = {
    "a tag that would run code": (
        b"study: !!python/object/apply:os.system ['touch ran']\n",
        "not plain YAML: could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:",
    ),
    "a tag of a class": (b"study: !!python/name:os.system\n", "not plain YAML: could not determine a constructor"),
    "a tag of one's own": (
        b"study: !run true\n",
        "not plain YAML: could not determine a constructor for the tag '!run'",
    ),
    "a list": (b"- study\n", "contains list, not a mapping of keys; see config/config.yaml"),
    "a word": (b"study\n", "contains str, not a mapping of keys; see config/config.yaml"),
    "nothing": (b"", "contains NoneType, not a mapping of keys; see config/config.yaml"),
    "a comment": (b"# study: small\n", "contains NoneType, not a mapping of keys; see config/config.yaml"),
    "Latin-1": ("study: caf\xe9\n".encode("latin-1"), "not UTF-8 text; save it as UTF-8"),
    "a pickle": (b"\x80\x04K\x01.", "not UTF-8 text; save it as UTF-8"),
    "a control character": (b"study: \x00\n", "not plain YAML: unacceptable character #x0000"),
    "no YAML": (b"study: {small\n", "not plain YAML: while parsing a flow mapping"),
    "a tab": (b"study:\n\tsmall\n", "not plain YAML: while scanning for the next token"),
    "two documents": (b"study: a\n---\nstudy: b\n", "not plain YAML: expected a single document in the stream"),
    "a date that is none": (b"study: 2024-13-45\n", "not plain YAML: month must be in 1..12"),
    "a number that is none": (b"study: !!int x\n", "not plain YAML: invalid literal for int()"),
    "brackets without end": (b"[" * 20_000, "not plain YAML: "),
    "a list as a key": (b"? [a]\n: 1\n", "not plain YAML: while constructing a mapping"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_is_no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    content, start = FILES[what]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    assert refusal(path).startswith(start)
    assert list(tmp_path.iterdir()) == [path]  # nothing was run


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.yaml") == "the configuration file cannot be read: No such file or directory"
    assert refusal(tmp_path) == "the configuration file cannot be read: Is a directory"


def test_a_value_that_holds_itself() -> None:
    with pytest.raises(EatError, match="found"):
        load_study(yaml.safe_load(STUDY.replace("reference: dense", "reference: &a {b: *a}")))


def test_each_mistake_has_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(STUDY.replace("seeds: [1, 2]", "seeds: []").replace("bins: 15", "bins: 1"), encoding="utf-8")
    with pytest.raises(EatError) as caught:
        load_study(path)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [[str(path), "seeds"], [str(path), "calibration.bins"]]


def test_a_learning_rate_as_people_write_it(tmp_path: Path) -> None:
    """YAML 1.1 reads `1e-4` as a word, for want of a dot."""
    assert yaml.safe_load("1e-4") == "1e-4"
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.replace("1.0e-4", "1e-4"), encoding="utf-8")
    assert load_study(path).training.learning_rate == 1e-4


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path, study: Study) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY, encoding="utf-8-sig")
    assert load_study(path) == study


@pytest.mark.slow
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(studies(), st.data())
def test_whatever_is_broken_there_is_a_line_for_it(value: dict[str, Any], data: st.DataObject) -> None:
    """One node of a valid study, replaced by something else: it is still valid, or refused in lines that name a key."""
    words, numbers = ["", "a\nb", "\u2028", "../x"], [float("nan"), float("-inf"), -1, 0, 10**30]
    junk = st.sampled_from([*words, *numbers, None, True, [], [[]], {}, {"x": 1}, {1: 2}, {"a\nb": 1}])
    keys = data.draw(st.sampled_from(list(nodes(value))))
    broken = copy.deepcopy(value)
    node: Any = broken
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = data.draw(junk)
    try:
        load_study(broken)
    except EatError as error:
        for line in str(error).split("\n"):
            assert line.startswith("configuration: ")
            assert line.isprintable()


def nodes(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys that lead to every node below the root."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in below:
        yield (*above, key)
        yield from nodes(inner, (*above, key))


# --- cascades, promises, learned reducers --------------------------------------------------------------------------

CASCADE = {"cascade": ["student", "dense"], "exits": {"after": [3], "rule": ["confidence"], "tau": [0.9]}}
PROMISE = {"after": [3], "rule": ["risk_controlled"], "promise": {"epsilon": 0.05}, "tau": [0.8, 0.9]}
LTP = {"backbone": "packed", "reducer": {"kind": "threshold", "after": [1, 2]}}


def with_system(**row: Any) -> Study:
    value = yaml.safe_load(STUDY)
    value["systems"]["more"] = row
    return load_study(value)


def test_a_cascade_trains_nothing_and_runs_its_members_weights() -> None:
    study = with_system(**CASCADE)
    row = study.systems["more"]
    assert (row.trains, row.recipe, row.backbone, row.last_head) == (False, [], "packed", "distilbert")
    assert study.models_of("more") == [("student", "finetune"), ("dense", "finetune")]
    assert study.parents("more") == ["student", "dense"]
    assert study.parts("more").exits == [3]


def test_a_model_that_teaches_itself_has_no_teacher_to_wait_for() -> None:
    stage = {"from": "dense", "train_heads": [3], "distill": {"teacher": "self", "onto": "all"}}
    study = with_system(backbone="packed", last_head="bert", exits={"after": [3]}, recipe=[stage])
    assert study.stage("more", "finetune").teacher is None
    assert study.parents("more") == ["dense"]


def test_a_promise_is_calibrated_on_raw_probabilities() -> None:
    study = with_system(weights_of="eat", exits=PROMISE)
    spec = study.calibration_spec("more", "movies")
    assert spec.mode == "raw"
    assert spec.promise == Promise(epsilon=0.05)
    assert spec.tau == [0.8, 0.9]
    assert study.calibration_spec("eat", "movies") == CalibrationSpec(mode="fitted", bins=15)


def test_epochs_and_batch_size_may_be_a_task_s() -> None:
    study = changed(
        "tasks", "movies", to=yaml.safe_load(STUDY)["tasks"]["movies"] | {"epochs": {"heads": 7.0}, "batch_size": 64}
    )
    found = {
        (task, stage): study.training_spec(task, "eat", stage)
        for task in ("movies", "tickets")
        for stage in ("finetune", "heads")
    }
    assert {key: spec.stage.epochs for key, spec in found.items()} == {
        ("movies", "finetune"): 3.0, ("movies", "heads"): 7.0, ("tickets", "finetune"): 3.0, ("tickets", "heads"): 1.0,
    }  # fmt: skip
    assert [found[task, "heads"].training.batch_size for task in ("movies", "tickets")] == [64, 32]


POLICY = {"kind": "policy", "after": [1]}
SOFTLY: dict[str, Any] = {"removal": "soft", "policy": {"by": "reinforce"}}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            CASCADE | {"cascade": ["student", "eat"]},
            ".cascade: eat trains no weights here and is no width of such a system, or is not dense; known: dense, stu",
        ),
        (
            CASCADE | {"exits": {"after": [3]}},
            ".exits.rule: a cascade without a rule would use only its last system; give a rule",
        ),
        (CASCADE | {"recipe": [{}]}, ": both cascade and a recipe are given; a system either runs"),
        (CASCADE | {"weights_of": "eat"}, ": both weights_of and cascade are given; a system runs one"),
        (CASCADE | {"reducer": {"kind": "norm", "after": [2]}}, ": a cascade runs dense systems; omit reducer and"),
        (LTP | {"recipe": [{"anneal": {}}]}, ": recipe.0.anneal: the reducer threshold has no ratio"),
        (
            LTP | {"recipe": [{"reducer_learning_rate": 0.1}]},
            ": recipe.0.reducer_learning_rate: a reducer learns only in",
        ),
        (
            {"backbone": "packed", "recipe": [{"removal": "soft"}]},
            ": recipe.0.removal: soft with the reducer none; threshold,",
        ),
        ({"weights_of": "dense", "reducer": LTP["reducer"]}, ".reducer: threshold after 1, 2, which learns; dense has"),
        (
            {"weights_of": "eat", "exits": {"rule": ["risk_controlled"]}},
            ".exits: rule [risk_controlled] without a promise; ",
        ),
        ({"weights_of": "eat", "exits": {"promise": {"epsilon": 0.1}}}, ".exits: rule [confidence] with a promise; "),
        (
            {"weights_of": "eat", "exits": PROMISE | {"rule": ["risk_controlled", "entropy"]}},
            ".exits: rule [risk_controlled, entropy]: risk_controlled determines",
        ),
        (
            {"backbone": "packed", "recipe": [{"texts": "all"}]},
            ".recipe.0: texts: all without `distill`; texts without labels need a teacher",
        ),
        (
            {"weights_of": "eat", "exits": {"rule": ["entropy"], "choose": {"by": "disagreement"}}},
            ".exits: choose by disagreement with the rule [entropy]; it needs rule: [confidence]",
        ),
        (
            {"weights_of": "eat", "exits": {"choose": {"epsilon": 0.05}}},
            ".exits.choose: epsilon with by: accuracy; they belong to by: disagreement",
        ),
        (
            {"weights_of": "eat", "exits": {"rule": ["agreement"], "tau": [], "patience": 2}},
            ".exits: rule agreement with exits after [3, 4]; it compares",
        ),
        (
            {"backbone": "packed", "recipe": [{"train_heads": [3], "gradients": "next_exit"}]},
            ".recipe.0: gradients: next_exit with train_heads; it is about the layers, which are frozen",
        ),
        (
            {"backbone": "packed", "recipe": [{"train_heads": [3], "steps": "alternating"}]},
            ".recipe.0: steps: alternating with train_heads; it is about the layers, which are frozen",
        ),
        (
            {"backbone": "packed", "recipe": [{"train_heads": [3], "layer_drop": 0.2}]},
            ".recipe.0: layer_drop: 0.2 with train_heads; it is about the layers, which are frozen",
        ),
        (
            {
                "backbone": "packed",
                "reducer": {"kind": "norm", "after": [2]},
                "recipe": [{"layer_drop": 0.2}],
            },
            ": recipe.0.layer_drop: 0.2 with the reducer norm; a dropped layer would not remove its tokens; use one",
        ),
        (
            {"backbone": "packed", "recipe": [{"distill": {"teacher": "dense", "mu": 0.0}}]},
            ".recipe.0.distill: mu is 0, so nothing is learned from the teacher; give it a weight above 0, or `layers`",
        ),
        (
            {"backbone": "packed", "recipe": [{"distill": {"teacher": "self", "onto": "all", "layers": {}}}]},
            ".recipe.0.distill: layers with teacher: self; they learn from the layers of another system: name one",
        ),
        (
            {
                "backbone": "packed",
                "recipe": [{"distill": {"teacher": "dense", "layers": {"hidden": 0, "attention": 0}}}],
            },
            ".recipe.0.distill.layers: hidden and attention are 0, so nothing is compared; give one a weight",
        ),
        (
            {"backbone": "packed", "recipe": [{"distill": {"teacher": "dense", "layers": {}}, "layer_drop": 0.2}]},
            ".recipe.0: distill.layers with layer_drop: 0.2; every step compares the layers; omit one of them",
        ),
        (
            {
                "backbone": "packed",
                "attention": {"kind": "window"},
                "recipe": [{"distill": {"teacher": "dense", "layers": {}}}],
            },
            ": recipe.0.distill.layers: with the reducer none and window attention; layers are compared of all tokens",
        ),
        (
            {"backbone": "packed", "recipe": [{"distill": {"teacher": "eat", "layers": {}}}]},
            ".recipe.0.distill.layers: 'eat' trains no weights here, or does not compute all tokens and pairs; known: ",
        ),
        (
            {"backbone": "packed", "reducer": POLICY, "recipe": [{"removal": "soft"}]},
            ": recipe.0.policy: omitted with the reducer policy and removal: soft; the reducer policy needs it",
        ),
        (
            {"backbone": "packed", "recipe": [{"policy": {"by": "imitation"}}]},
            ": recipe.0.policy: given with the reducer none and removal: hard; the reducer policy needs it with",
        ),
        (
            {
                "backbone": "packed",
                "reducer": POLICY,
                "recipe": [SOFTLY | {"policy": {"by": "imitation", "cost": 2.0}}],
            },
            ".recipe.0.policy: cost with by: imitation; it belongs to by: reinforce",
        ),
        (
            {"backbone": "packed", "reducer": POLICY, "recipe": [SOFTLY | {"distill": {"teacher": "dense"}}]},
            ".recipe.0: distill with policy.trains: policy; the policy learns from no teacher: set it to all",
        ),
        (
            {"backbone": "packed", "reducer": POLICY, "recipe": [SOFTLY | {"gradients": "next_exit"}]},
            ".recipe.0: gradients: next_exit with policy.trains: policy; it is about the layers, which are frozen",
        ),
        (
            {"backbone": "packed", "reducer": POLICY, "recipe": [SOFTLY | {"train_heads": [6]}]},
            ".recipe.0: policy with train_heads; a stage trains the policy or heads: omit one of them",
        ),
        (
            {"backbone": "packed", "recipe": [{"distill": {"teacher": "self"}}]},
            ".recipe.0.distill: teacher: self with onto: last; the last head",
        ),
        (
            {"backbone": "packed", "recipe": [{"widths": {"train": [0.5]}}]},
            ".recipe.0.widths: train: found 0.5; the full width is used as it is: add 1",
        ),
        (
            {"backbone": "packed", "recipe": [{"widths": {}, "layer_drop": 0.2}]},
            ".recipe.0: widths with layer_drop: 0.2; every step trains all layers at all widths; omit one",
        ),
        (
            {"backbone": "packed", "recipe": [{"widths": {}, "distill": {"teacher": "dense", "layers": {}}}]},
            ".recipe.0: widths with distill.layers.attention: 1; a narrow layer has fewer heads than the teacher's",
        ),
        (
            {"backbone": "packed", "reducer": {"kind": "norm", "after": [2]}, "recipe": [{"widths": {}}]},
            ": recipe.0.widths: given with the reducer norm; widths are trained on all tokens: use one of the two",
        ),
        (
            {"backbone": "packed", "width": 0.5},
            ": width: 0.5 without weights_of; a width is a part of the weights of another system: name it",
        ),
        (
            {"weights_of": "dense", "width": 0.5, "reducer": {"kind": "norm", "after": [2]}},
            ": width: 0.5 with the reducer norm; widths were trained on all tokens: use one of the two",
        ),
        (
            {"weights_of": "dense", "width": 0.5},
            ".width: found 0.5; dense was trained at its full width alone: use one of them, or add it to `widths`",
        ),
    ],
)
def test_parts_that_do_not_go_together_give_a_line(row: dict[str, Any], message: str) -> None:
    with pytest.raises(EatError) as caught:
        with_system(**row)
    assert str(caught.value).startswith(f"configuration: systems.more{message}")
    assert "\n" not in str(caught.value)


def test_a_key_that_was_added_is_only_in_the_json_of_the_stages_that_set_it(study: Study) -> None:
    """What was trained before the key existed has the parameters that it had, so it is not trained again."""
    text = study.training_spec("movies", "student", "finetune").to_json()
    stage = json.loads(text)["stage"]
    assert sorted(stage) == [
        "anneal", "distill", "epochs", "exit_weights", "from", "gradients", "learning_rate", "name",
        "reducer_learning_rate", "removal", "steps", "texts", "train_heads",
    ]  # fmt: skip
    assert sorted(stage["distill"]) == ["divergence", "labels", "mu", "onto", "teacher", "temperature"]
    assert TrainingSpec.of_json(text).to_json() == text
    for change in ({"layer_drop": 0.2}, {"distill": {"teacher": "dense", "layers": {}}}, {"widths": {}}):
        spec = with_system(backbone="packed", recipe=[change]).training_spec("movies", "more", "finetune")
        assert spec.to_json() != text and TrainingSpec.of_json(spec.to_json()) == spec
        assert set(change) <= set(json.loads(spec.to_json())["stage"])


def wide(**rows: Any) -> Study:
    """The study with `wide`, whose weights have two widths, its width of one half, and more rows."""
    value = yaml.safe_load(STUDY)
    recipe = [{"name": "widths", "from": "dense", "widths": {"train": [1.0, 0.5]}}]
    value["systems"]["wide"] = {"backbone": "packed", "last_head": "bert", "recipe": recipe}
    value["systems"]["half"] = {"weights_of": "wide", "width": 0.5}
    value["systems"] |= rows
    return load_study(value)


def test_a_width_is_a_row_that_trains_nothing_and_may_begin_a_cascade(study: Study) -> None:
    cascade = {"cascade": ["half", "wide"], "exits": {"after": [6], "rule": ["confidence"], "tau": [0.9]}}
    with_widths = wide(both=cascade)
    assert with_widths.models_of("half") == [("wide", "widths")]
    assert with_widths.models_of("both") == [("wide", "widths")] * 2
    assert with_widths.parents("both") == ["wide"] and with_widths.systems["both"].backbone == "packed"
    assert [with_widths.parts(name).width for name in ("wide", "half", "both")] == [1.0, 0.5, 1.0]
    assert with_widths.parts("both").member_widths == [0.5, 1.0] and with_widths.parts("half").member_widths == []
    for patterns in (keys.IMPORTANCE, keys.TIMING, keys.CALIBRATE):
        seen = study_of_json(with_widths.view(patterns))
        assert [seen.parts(name) for name in ("half", "both")] == [with_widths.parts(name) for name in ("half", "both")]
    # what was traced before widths existed has the parameters that it had
    for name in study.systems:
        assert not {"width", "member_widths"} & {*study.parts(name).plain(), *study.systems[name].plain()}


def test_a_width_does_not_change_what_is_trained() -> None:
    changed_width = wide(quarter={"weights_of": "wide", "width": 0.5})
    for name in ("wide", "dense", "student"):
        (stage,) = changed_width.stage_names(name)
        assert changed_width.training_spec("movies", name, stage) == wide().training_spec("movies", name, stage)
    with pytest.raises(EatError, match=r"systems.third.width: found 0.3; wide was trained at the widths 1.0, 0.5: use"):
        wide(third={"weights_of": "wide", "width": 0.3})
    with pytest.raises(EatError, match=r"reference 'half' has a width below 1; its stock export needs all heads"):
        load_study(wide().plain() | {"reference": "half"})


def test_a_promise_that_so_few_texts_cannot_keep_is_refused_before_any_job() -> None:
    value = yaml.safe_load(STUDY)
    value["tasks"]["movies"]["calibration_examples"] = 44
    value["systems"]["more"] = {"weights_of": "eat", "exits": PROMISE}
    with pytest.raises(EatError) as caught:
        load_study(value)
    # 0.95^45 = 0.0994 <= 0.1 < 0.95^44
    assert str(caught.value) == (
        "configuration: systems.more.exits.promise: epsilon 0.05 at delta 0.1 needs at least 45 calibration texts, but "
        "tasks.movies.calibration_examples is 44"
    )
    # 0.95^59 = 0.0485 <= 0.05 < 0.95^58; one half of the texts is for the candidates
    choose = {"by": "disagreement", "epsilon": 0.05, "thresholds": "per_exit"}
    value["systems"]["more"] = {"weights_of": "eat", "exits": {"choose": choose}}
    with pytest.raises(
        EatError, match=r"systems\.more\.exits\.choose: epsilon 0\.05 at delta 0\.05 needs at least 118"
    ):
        load_study(value)


def test_epochs_of_a_stage_that_no_system_has_are_refused() -> None:
    value = yaml.safe_load(STUDY)
    value["tasks"]["movies"]["epochs"] = {"head": 6}
    with pytest.raises(EatError) as caught:
        load_study(value)
    assert str(caught.value) == "configuration: tasks.movies.epochs: head is no stage; known: finetune, heads"


def test_annealing_stretches_with_a_task_s_epochs() -> None:
    value = yaml.safe_load(STUDY)
    value["tasks"]["movies"]["epochs"] = {"finetune": 6}
    stage = load_study(value).training_spec("movies", "eat", "finetune").stage
    # from 1 to 3 of 3 epochs becomes from 2 to 6 of 6
    assert (stage.epochs, stage.anneal) == (6.0, Annealing(start_epoch=2.0, end_epoch=6.0))


def test_a_title_may_be_what_a_name_may_not_and_only_the_report_depends_on_it() -> None:
    value = yaml.safe_load(STUDY)
    plain = load_study(copy.deepcopy(value))
    value["tasks"]["movies"]["title"] = r"50%_<b>x</b>\input{a}"
    titled = load_study(value)
    assert titled.titles()["movies"] == r"50%_<b>x</b>\input{a}" and titled.titles()["tickets"] == "tickets"
    assert titled.view(keys.SUMMARIZE, ["movies"]) == plain.view(keys.SUMMARIZE, ["movies"])
    assert titled.view(keys.REPORT, ["movies"]) != plain.view(keys.REPORT, ["movies"])


# --- round trips --------------------------------------------------------------------------------------------------


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(value=studies())
def test_a_study_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]) -> None:
    study = load_study(value)
    path = tmp_path_factory.getbasetemp() / "study.yaml"
    path.write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8")
    assert load_study(path) == study
    assert load_study(json.loads(json.dumps(value))) == study  # as Snakemake hands it on
    assert Study.model_validate_json(study.model_dump_json(by_alias=True)) == study


@pytest.mark.slow
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(value=studies(), other=studies(), more=st.sets(st.sampled_from(["timing", "calibration", "accuracy_budget"])))
def test_a_view_is_a_study_that_recipes_and_training_do_not_touch(
    value: dict[str, Any], other: dict[str, Any], more: set[str]
) -> None:
    study = load_study(value)
    task = next(iter(study.tasks))
    keep = (*keys.POINTS, *sorted(more), *(["systems.*.calibration"] if "calibration" in more else []))
    view = study.view(keep, [task])
    seen = Study.model_validate_json(view, context=A_VIEW)
    assert seen.view(keep, [task]) == view
    assert view == canonical_json(json.loads(view))
    assert list(seen.tasks) == [task]
    assert (seen.tasks[task].source, seen.tasks[task].max_length) == (
        study.tasks[task].source,
        study.tasks[task].max_length,
    )
    assert list(seen.systems) == sorted(study.systems)
    for name, system in study.systems.items():
        assert seen.stage_names(name) == study.stage_names(name)
        assert seen.systems[name].exits == system.exits
        assert seen.systems[name].weights_of == system.weights_of
        assert seen.models_of(name) == study.models_of(name)
        assert seen.parts(name) == study.parts(name)
        assert seen.operating_spec(name).tau == study.operating_spec(name).tau
    for key in ("timing", "calibration", "accuracy_budget"):
        assert (getattr(seen, key) == getattr(study, key)) or key not in more

    taught = copy.deepcopy(value) | {"training": {"batch_size": 7, "learning_rate": 0.5}}
    for system in taught["systems"].values():
        if "recipe" in system:
            system["recipe"] = [{"name": stage["name"], "epochs": 99.0} for stage in system["recipe"]]
    for key in {"timing", "calibration", "accuracy_budget"} - more:
        taught.pop(key, None)
        if key in other:
            taught[key] = copy.deepcopy(other[key])
    if "timing" not in more:  # the rivals are rows, and so a part of every view
        taught.setdefault("timing", {})["stock"] = value.get("timing", {}).get("stock", [])
    taught["tasks"] = {name: part for name, part in other["tasks"].items() if name != task} | {
        task: value["tasks"][task]
    }
    assert load_study(taught).view(keep, [task]) == view


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(value=studies())
def test_a_view_without_rules_is_a_study_in_which_nobody_leaves(value: dict[str, Any]) -> None:
    study = load_study(value)
    task = next(iter(study.tasks))
    seen = study_of_json(study.view(keys.IMPORTANCE, [task]))
    other = copy.deepcopy(value)
    for name, system in study.systems.items():
        exits = seen.systems[name].exits
        assert (exits.rule, exits.tau, exits.patience, exits.promise) == ([], [], 1, None)
        assert (exits.after, exits.read, exits.head) == (system.exits.after, system.exits.read, system.exits.head)
        assert seen.parts(name) == study.parts(name)
        own = other["systems"].get(name, {}).get("exits", {})  # one with another's weights may have its exits as well
        if own.get("tau"):
            own["tau"] = [0.123]
    assert load_study(other).view(keys.IMPORTANCE, [task]) == study.view(keys.IMPORTANCE, [task])


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(value=studies(), tau=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=3, unique=True))
def test_training_does_not_depend_on_thresholds_and_rules(value: dict[str, Any], tau: list[float]) -> None:
    study = load_study(value)
    other = copy.deepcopy(value) | {"seeds": [99], "accuracy_budget": 0.5}
    other |= {"calibration": {"mode": "raw"}, "timing": {"texts": 8}}
    for name, system in other["systems"].items():
        exits = system.get("exits", {})
        if name != study.reference and exits.get("after"):
            system["exits"] = exits | {"rule": ["entropy"], "tau": tau}
    changed_study = load_study(other)
    for task in study.tasks:
        for name in study.systems:
            for stage in study.stage_names(name):
                assert changed_study.training_spec(task, name, stage) == study.training_spec(task, name, stage)


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(studies())
def test_parents_come_before_their_children_in_some_order(value: dict[str, Any]) -> None:
    """`parents` and `parent_of` agree, and lead to systems and stages that exist."""
    study = load_study(value)
    for name in study.systems:
        starts = {study.parent_of(name, stage) for stage in study.stage_names(name)} - {None}
        for system, stage in starts:
            assert study.stage(system, stage).name == stage
        teachers = {stage.teacher for stage in study.systems[name].recipe if stage.teacher}
        weights_of = {study.systems[name].weights_of} - {None}
        assert set(study.parents(name)) == ({system for system, _ in starts} - {name}) | teachers | weights_of
        assert name not in study.parents(name)
        ((system, stage),) = study.models_of(name)
        assert study.systems[system].recipe[-1] == study.stage(system, stage)


# --- rows that run another system's weights -----------------------------------------------------------------------


def derived(**row: Any) -> Study:
    """The small study with a row `lean`, by default of the weights of `eat`."""
    return changed("systems", "lean", to={"weights_of": "eat"} | row)


def test_a_row_is_filled_from_the_one_whose_weights_it_runs(study: Study) -> None:
    lean, eat = derived().systems["lean"], study.systems["eat"]
    assert lean == eat.model_copy(update={"weights_of": "eat", "recipe": []})
    # in whatever order the two stand
    value = yaml.safe_load(STUDY)
    value["systems"] = {"lean": {"weights_of": "eat"}, **value["systems"]}
    assert load_study(value).systems["lean"] == lean


@pytest.mark.parametrize(
    ("part", "given", "found"),
    [
        ("reducer", {"kind": "none"}, {"kind": "none", "after": [], "ratio": 0.3, "protect": ["cls"]}),
        ("attention", {"kind": "dense"}, {"kind": "dense", "left": 16, "right": 16}),
        ("precision", "float16", "float16"),
        # exits key by key: what is not given is that of `eat`
        ("exits", {"after": [3]}, {"after": [3], "read": "cls", "rule": ["confidence"], "tau": [0.8, 0.9]}),
        ("exits", {"tau": [0.7]}, {"after": [3, 4], "read": "cls", "rule": ["confidence"], "tau": [0.7]}),
        ("exits", {"rule": ["entropy"]}, {"after": [3, 4], "read": "cls", "rule": ["entropy"], "tau": [0.8, 0.9]}),
        ("exits", {"rule": [], "tau": []}, {"after": [3, 4], "read": "cls", "rule": [], "tau": []}),
        ("exits", {}, {"after": [3, 4], "read": "cls", "rule": ["confidence"], "tau": [0.8, 0.9]}),
    ],
)
def test_a_part_that_is_given_stands_in_place_of_the_other_s(study: Study, part: str, given: Any, found: Any) -> None:
    lean = derived(**{part: given}).systems["lean"].model_dump(mode="json")
    expected = study.systems["eat"].model_dump(mode="json") | {"weights_of": "eat", "recipe": []}
    expected[part] = expected["exits"] | found if part == "exits" else found
    assert lean == expected


def test_a_row_that_runs_another_s_weights_trains_nothing(study: Study) -> None:
    with_lean = derived(exits={"after": [4]}, precision="bfloat16")
    assert with_lean.stage_names("lean") == []
    assert with_lean.parents("lean") == ["eat"]
    assert with_lean.models_of("lean") == with_lean.models_of("eat") == [("eat", "heads")]
    assert with_lean.models_of("dense") == [("dense", "finetune")]
    assert with_lean.parts("lean").plain() == {
        "reducer": {"kind": "norm", "after": [2, 4], "ratio": 0.3, "protect": ["cls"]},
        "attention": {"kind": "window", "left": 16, "right": 16},
        "exits": [4],
        "precision": "bfloat16",
        "engine": "torch",
    }
    assert with_lean.parts("eat").precision == "float32"
    assert with_lean.operating_spec("lean").tau == [0.8, 0.9]
    for system in study.systems:  # and what the others train is as before
        for stage in study.stage_names(system):
            assert with_lean.training_spec("movies", system, stage) == study.training_spec("movies", system, stage)


def test_the_reference_may_run_another_s_weights_and_teach() -> None:
    value = yaml.safe_load(STUDY) | {"reference": "half"}
    value["systems"]["half"] = {"weights_of": "dense", "precision": "bfloat16"}
    value["systems"]["student"]["recipe"][0]["distill"]["teacher"] = "half"
    study = load_study(value)
    assert study.parents("student") == ["dense", "half"]
    assert study.models_of("half") == [("dense", "finetune")]


def test_a_precision_is_no_matter_of_training(study: Study) -> None:
    half = changed("systems", "eat", "precision", to="bfloat16")
    assert half.training_spec("movies", "eat", "finetune") == study.training_spec("movies", "eat", "finetune")
    assert half.parts("eat") == study.parts("eat").model_copy(update={"precision": "bfloat16"})


TRAINED = "dense, student, eat"

REFUSED: dict[str, tuple[dict[str, Any], str]] = {  # what -> (systems put in, the line it must give)
    "unknown base": (
        {"lean": {"weights_of": "bert"}},
        f"systems.lean.weights_of: 'bert' trains no weights here; known: {TRAINED}",
    ),
    "unknown base of a row with a backbone": (
        {"lean": {"weights_of": "bert", "backbone": "packed"}},
        f"systems.lean.weights_of: 'bert' trains no weights here; known: {TRAINED}",
    ),
    "base that is derived": (
        {"half": {"weights_of": "eat"}, "lean": {"weights_of": "half"}},
        f"systems.lean.weights_of: 'half' trains no weights here; known: {TRAINED}",
    ),
    "base that is derived, of a row with a backbone": (
        {"half": {"weights_of": "eat"}, "lean": {"weights_of": "half", "backbone": "packed"}},
        f"systems.lean.weights_of: 'half' trains no weights here; known: {TRAINED}",
    ),
    "itself": (
        {"lean": {"weights_of": "lean"}},
        f"systems.lean.weights_of: 'lean' trains no weights here; known: {TRAINED}",
    ),
    "own recipe": (
        {"lean": {"weights_of": "eat", "recipe": [{"epochs": 1}]}},
        "systems.lean: both weights_of and a recipe are given; a system either runs another's weights or trains its "
        "own",
    ),
    "empty recipe": (
        {"lean": {"backbone": "packed", "recipe": []}},
        "systems.lean: the recipe is empty; give at least one stage, or `weights_of` another system",
    ),
    "neither backbone nor base": ({"lean": {"precision": "bfloat16"}}, "systems.lean.backbone: missing"),
    "other backbone": (
        {"lean": {"weights_of": "eat", "backbone": "mine"}},
        "systems.lean.backbone: differs from eat, whose weights it runs",
    ),
    "other layers": (
        {"lean": {"weights_of": "eat", "layers": {"first": 4}}},
        "systems.lean.layers: differs from eat, whose weights it runs",
    ),
    "other last head": (
        {"lean": {"weights_of": "eat", "last_head": "bert"}},
        "systems.lean.last_head: differs from eat, whose weights it runs",
    ),
    "untrained head": (
        {"lean": {"weights_of": "eat", "exits": {"after": [2, 3]}}},
        "systems.lean.exits: after 2, 3, read cls; the heads of eat are after 3, 4 and read cls",
    ),
    "other read": (
        {"lean": {"weights_of": "eat", "exits": {"read": "mean"}}},
        "systems.lean.exits: after 3, 4, read mean; the heads of eat are after 3, 4 and read cls",
    ),
    "a list as base": (
        {"lean": {"weights_of": ["eat"], "backbone": "packed"}},
        "systems.lean.weights_of: found ['eat']; input should be a valid string",
    ),
    "unknown precision": (
        {"lean": {"weights_of": "eat", "precision": "int4"}},
        "systems.lean.precision: found 'int4'; input should be 'float32', 'float16', 'bfloat16' or 'int8'",
    ),
    "reference in int8": (
        {"dense": {"backbone": "packed", "last_head": "bert", "engine": "onnx", "precision": "int8"}},
        "reference 'dense' runs in the engine onnx; it needs `engine: torch`",
    ),
    "int8 without its engine": (
        {"lean": {"weights_of": "eat", "precision": "int8"}},
        "systems.lean: precision int8 in the engine torch, which has float32, float16, bfloat16; add `engine: onnx`, "
        "or change the precision",
    ),
    "a stage from it": (
        {"lean": {"weights_of": "eat"}, "child": {"backbone": "packed", "recipe": [{"from": "lean"}]}},
        f"systems.child.recipe.0.from: 'lean' is unknown; allowed: backbone, {TRAINED}",
    ),
    "a circle through it": (
        {
            "lean": {"weights_of": "student"},
            "student": {"backbone": "packed", "recipe": [{"distill": {"teacher": "lean"}}]},
        },
        "systems depend on each other in a cycle: student -> lean -> student",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_weights_that_cannot_be_run_so_give_a_line(what: str) -> None:
    systems, line = REFUSED[what]
    value = yaml.safe_load(STUDY)
    with pytest.raises(EatError) as caught:
        load_study(value | {"systems": value["systems"] | systems})
    assert str(caught.value) == f"configuration: {line}"


def test_the_schema_wants_a_backbone_or_a_base() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(schema_text())
    value = json.loads(json.dumps(yaml.safe_load(STUDY.replace("{3: 0.3, 6: 1.0}", "{'3': 0.3, '6': 1.0}"))))
    value["systems"]["lean"] = {"weights_of": "eat", "engine": "onnx", "precision": "int8"}
    jsonschema.validate(value, schema)
    del value["systems"]["lean"]["weights_of"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, schema)


# --- what a job depends on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("systems", "eat", "recipe", 0, "learning_rate"), 5e-5),
        (("systems", "eat", "recipe", 0, "epochs"), 4),
        (("systems", "eat", "recipe", 0, "exit_weights"), {3: 0.5}),
        (("systems", "eat", "recipe", 0, "anneal"), None),
        (("systems", "eat", "reducer", "ratio"), 0.5),
        (("systems", "eat", "attention", "left"), 8),
        (("systems", "eat", "exits", "after"), [4, 3, 2]),
        (("systems", "eat", "exits", "read"), "mean"),
        (("systems", "eat", "last_head"), "bert"),
        (("systems", "eat", "layers"), {"first": 5}),
        (("tasks", "movies", "max_length"), 32),
        (("tasks", "movies", "learning_rate"), 3e-5),
        (("training", "batch_size"), 16),
        (("training", "weight_decay"), 0.0),
        (("training", "precision"), "bfloat16"),
        (("training", "device"), "cpu"),
    ],
)
def test_what_a_stage_is_trained_from(study: Study, keys: tuple[Any, ...], value: Any) -> None:
    before = study.training_spec("movies", "eat", "finetune")
    after = changed(*keys, to=value)
    assert after.training_spec("movies", "eat", "finetune") != before
    if keys[0] != "training":
        untouched = ("tickets" if keys[0] == "tasks" else "movies", "student", "finetune")
        assert after.training_spec(*untouched) == study.training_spec(*untouched)


def test_a_learning_rate_is_the_stages_then_the_tasks_then_the_studys() -> None:
    value = yaml.safe_load(STUDY)
    value["training"]["learning_rate"] = 1e-4
    value["tasks"]["movies"]["learning_rate"] = 2e-4
    value["systems"]["eat"]["recipe"][1]["learning_rate"] = 3e-4
    study = load_study(value)
    rates = {
        (task, stage): study.training_spec(task, "eat", stage).training.learning_rate
        for task in study.tasks
        for stage in study.stage_names("eat")
    }
    assert rates == {
        ("movies", "finetune"): 2e-4,
        ("movies", "heads"): 3e-4,
        ("tickets", "finetune"): 1e-4,
        ("tickets", "heads"): 3e-4,
        ("pairs", "finetune"): 5e-5,
        ("pairs", "heads"): 3e-4,
        ("fetched", "finetune"): 1e-4,
        ("fetched", "heads"): 3e-4,
    }


def test_a_task_stretches_a_recipe_with_its_annealing(study: Study) -> None:
    stage = study.training_spec("pairs", "eat", "finetune").stage
    assert (stage.epochs, stage.anneal) == (4.5, Annealing(start_epoch=1.5, end_epoch=4.5))
    plain = study.training_spec("movies", "eat", "finetune").stage
    assert (plain.epochs, plain.anneal) == (3.0, Annealing(start_epoch=1.0, end_epoch=3.0))


def test_where_a_stage_starts(study: Study) -> None:
    assert study.parent_of("dense", "finetune") is None
    assert study.parent_of("student", "finetune") == ("dense", "finetune")
    assert study.parent_of("eat", "heads") == ("eat", "finetune")
    assert changed("systems", "eat", "recipe", 1, "from", to="backbone").parent_of("eat", "heads") is None
    from_eat = changed("systems", "student", "recipe", 0, "from", to="eat")
    assert from_eat.parent_of("student", "finetune") == ("eat", "heads")
    with pytest.raises(EatError, match="no stage 'second'; its stages: finetune, heads"):
        study.stage("eat", "second")


def test_a_stage_may_have_the_name_of_a_system() -> None:
    value = yaml.safe_load(STUDY)
    value["systems"]["dense"]["recipe"] = [{"name": "student"}, {"name": "again", "from": "student"}]
    study = load_study(value)  # `student` starts from `dense`: no circle, for `again` starts from the stage
    assert study.parents("dense") == []
    assert study.parent_of("dense", "again") == ("dense", "student")


def test_layers_are_a_matter_of_the_first_stage(study: Study) -> None:
    taken = changed("systems", "eat", "layers", to={"first": 4})
    assert taken.training_spec("movies", "eat", "finetune").layers.first == 4
    assert taken.training_spec("movies", "eat", "heads") == study.training_spec("movies", "eat", "heads")


def test_a_study_cannot_be_changed_after_validation(study: Study) -> None:
    with pytest.raises(ValueError, match="frozen"):
        study.training.batch_size = 1  # type: ignore[misc]


def test_what_is_dense(study: Study) -> None:
    assert [name for name, system in study.systems.items() if system.is_dense] == ["dense", "student"]
    assert not changed("systems", "student", "attention", to={"kind": "window"}).systems["student"].is_dense


# --- words and paths of the user's own ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ("[yes, no]", ["0: found True", "1: found False"]),
        ("[off, on]", ["0: found False", "1: found True"]),
        ("[0, 1]", ["0: found 0", "1: found 1"]),
        ("[1_000, low]", ["0: found 1000"]),
        ("[2024-01-31, low]", ["0: found datetime.date(2024, 1, 31)"]),
        ("[null, low]", ["0: found None"]),
    ],
)
def test_a_label_that_yaml_takes_for_something_else_is_refused_with_the_remedy(
    tmp_path: Path, labels: str, found: list[str]
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.replace("[low, high]", labels), encoding="utf-8")
    with pytest.raises(EatError) as caught:
        load_study(path)
    lines = [f"{path}: tasks.tickets.source.labels.{one}; {QUOTE}" for one in found]
    assert str(caught.value).splitlines() == lines


def test_a_column_called_yes_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.replace("label: urgent", "label: yes"), encoding="utf-8")
    assert refusal(path) == f"tasks.tickets.source.label: found True; {QUOTE}"


PATHS = [("tasks", "tickets", "source", "path"), ("backbones", "mine", "path"), ("glue_dir",)]


@pytest.mark.parametrize("key", PATHS)
@pytest.mark.parametrize("path", ["a{1}.csv", "{task}/own.csv", "a{b c}.csv", "}.csv"])
def test_a_path_with_a_brace_is_refused_before_it_is_a_wildcard(key: tuple[str, ...], path: str) -> None:
    with pytest.raises(EatError) as caught:
        changed(*key, to=path)
    assert str(caught.value) == (
        f"configuration: {'.'.join(key)}: {path!r} contains a brace, which Snakemake reads as a wildcard; rename it, "
        "or "
        "give a link to it"
    )


@pytest.mark.parametrize("key", PATHS)
def test_an_empty_path_is_refused_and_an_odd_one_is_not(key: tuple[str, ...]) -> None:
    with pytest.raises(EatError, match=f"{'.'.join(key)}: found ''"):
        changed(*key, to="")
    changed(*key, to="a study's caf\u00e9/[1] $HOME & 100% \u3000.csv")
