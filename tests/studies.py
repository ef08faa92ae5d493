"""Random valid studies, as the dictionaries that a configuration file holds."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from eat.prepare.sources.glue import GLUE

LAYERS = st.integers(1, 6)
PARTS = st.floats(0.05, 0.4)
POSITIVE = st.floats(1e-6, 10.0)
DEVICES = st.sampled_from(["auto", "cpu", "cuda", "mps"])

NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="/{}"), min_size=1, max_size=8
).filter(lambda name: not name.startswith(("-", "hf-dense")) and name.strip(".") and name != "backbone")


def some(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping in which each key may stand or be left out."""
    return st.fixed_dictionaries({}, optional=optional)


def distinct(values: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=least, max_size=3, unique=True)


REVISIONS = st.text("0123456789abcdef", min_size=40, max_size=40)

SOURCES = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.just("packaged"), "name": st.sampled_from(["rotten_tomatoes", "imdb", "bbc_news"])}
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("file"),
            "path": NAMES,
            "text": distinct(NAMES, 1).map(lambda names: names[:2]),
            "label": NAMES,
        },
        optional={"labels": distinct(NAMES, 2), "dev_path": NAMES.map(lambda name: f"dev/{name}")},
    ),
    st.fixed_dictionaries({"kind": st.just("glue_dir"), "task": st.sampled_from(sorted(GLUE))}),
    st.fixed_dictionaries({"kind": st.just("hub"), "task": st.sampled_from(sorted(GLUE)), "revision": REVISIONS}),
)


def without_dev_part(task: dict[str, Any]) -> dict[str, Any]:
    """The same task; where its source brings dev text, without a part of it for dev."""
    if task["source"]["kind"] in ("glue_dir", "hub") or "dev_path" in task["source"]:
        task.get("splits", {}).pop("dev", None)
    return task


TASKS = st.fixed_dictionaries(
    {"source": SOURCES},
    optional={
        "splits": some(calibration=PARTS, dev=PARTS),
        "max_length": st.integers(8, 512),
        "train_examples": st.none() | st.integers(8, 10_000),
        "dev_examples": st.integers(8, 10_000),
        "learning_rate": POSITIVE,
        "epochs_scale": POSITIVE,
    },
).map(without_dev_part)

BACKBONES = st.one_of(
    st.just({"kind": "packaged", "name": "all-minilm-l6-v2"}),
    st.fixed_dictionaries({"kind": st.just("folder"), "path": NAMES}),
    st.fixed_dictionaries({"kind": st.just("hub"), "name": NAMES, "revision": REVISIONS}),
)

REDUCERS = st.one_of(
    st.just({"kind": "none"}),
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["norm", "received", "random"]), "after": distinct(LAYERS, 1)},
        optional={"ratio": st.floats(0.0, 0.9), "protect": distinct(st.sampled_from(["cls", "sep"]))},
    ),
    st.fixed_dictionaries({"kind": st.just("merging"), "after": distinct(LAYERS, 1)}),
)

EXITS = st.one_of(
    some(after=distinct(LAYERS), read=st.sampled_from(["cls", "mean"])),
    st.fixed_dictionaries(
        {
            "after": distinct(LAYERS, 2),
            "rule": st.sampled_from([["confidence"], ["entropy"], ["confidence", "agreement"]]),
            "tau": distinct(st.floats(0.01, 1.0), 1),
        }
    ),
)

LAYER_CHOICES = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"first": LAYERS}),
    st.fixed_dictionaries({"every": LAYERS}),
    st.fixed_dictionaries({"numbers": distinct(LAYERS, 1)}),
)


@st.composite
def stages(draw: st.DrawFn, name: str, starts: list[str], teachers: list[str]) -> dict[str, Any]:
    """A stage that may start from any of `starts` and learn from any of `teachers`."""
    optional: dict[str, st.SearchStrategy[Any]] = {
        "epochs": st.floats(3.0, 10.0),
        "learning_rate": st.none() | POSITIVE,
        "exit_weights": st.dictionaries(LAYERS, st.floats(0.0, 1.0), max_size=3),
        "anneal": st.fixed_dictionaries({"start_epoch": st.floats(0.0, 1.0), "end_epoch": st.floats(1.0, 3.0)}),
        "train_heads": distinct(LAYERS, 1),
        "from": st.sampled_from(starts),
    }
    if teachers:
        optional["distill"] = st.fixed_dictionaries(
            {"teacher": st.sampled_from(teachers)},
            optional={"mu": POSITIVE, "temperature": POSITIVE, "onto": st.sampled_from(["last", "all"])},
        )
    return {"name": name} | draw(some(**optional))


@st.composite
def derived(draw: st.DrawFn, name: str, base: dict[str, Any]) -> dict[str, Any]:
    """A row that runs the weights of the system `name` with other parts, at the exits that `base` trained or some."""
    runs = [("torch", "float32"), ("torch", "float16"), ("torch", "bfloat16"), ("onnx", "float32"), ("onnx", "int8")]
    attention = some(kind=st.sampled_from(["dense", "window"]), left=st.integers(0, 32))
    row = {"weights_of": name} | draw(some(reducer=REDUCERS, attention=attention))
    if draw(st.booleans()):
        row["engine"], row["precision"] = draw(st.sampled_from(runs))
    heads = base.get("exits", {}).get("after", [])
    choices = [st.just({}), st.just({"after": [], "rule": [], "tau": []})]
    if heads:
        some_heads = st.lists(st.sampled_from(heads), min_size=min(2, len(heads)), unique=True)
        rules = [
            st.fixed_dictionaries({"rule": st.just(["agreement"]), "tau": st.just([])})
            if len(heads) > 1
            else st.just({}),
            st.fixed_dictionaries({"rule": st.just(["entropy"]), "tau": distinct(st.floats(0.01, 1.0), 1)}),
        ]
        choices += [st.fixed_dictionaries({"after": some_heads}), *rules]
    return row | draw(some(exits=st.one_of(choices)))


@st.composite
def studies(draw: st.DrawFn) -> dict[str, Any]:
    """A study of up to two tasks, four trained systems and two that run the weights of one of these.

    Each trained system may start from, or be taught by, those before it. The reference is trained.
    """
    backbones = draw(st.dictionaries(NAMES, BACKBONES, min_size=1, max_size=2))
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    systems: dict[str, Any] = {}
    for name in names:
        stage_names = draw(st.lists(NAMES.filter(lambda n: n not in names), min_size=1, max_size=2, unique=True))
        earlier = list(systems)
        recipe = [
            draw(stages(stage, ["backbone", *stage_names[:index], *earlier], earlier))
            for index, stage in enumerate(stage_names)
        ]
        systems[name] = {"backbone": draw(st.sampled_from(sorted(backbones))), "recipe": recipe}
        systems[name] |= draw(some(layers=LAYER_CHOICES, attention=some(kind=st.sampled_from(["dense", "window"]))))
        systems[name] |= draw(some(reducer=REDUCERS, exits=EXITS, last_head=st.sampled_from(["bert", "linear"])))
    dense = systems[names[0]]
    systems[names[0]] = {"backbone": dense["backbone"], "recipe": dense["recipe"], "last_head": "bert"}
    for name in draw(st.lists(NAMES.filter(lambda n: n not in names), max_size=2, unique=True)):
        base = draw(st.sampled_from(names))
        systems[name] = draw(derived(base, systems[base]))
    return {
        "study": draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,10}", fullmatch=True)),
        "reference": names[0],
        "backbones": backbones,
        "tasks": draw(st.dictionaries(NAMES, TASKS, min_size=1, max_size=2)),
        "systems": systems,
    } | draw(
        some(
            seeds=distinct(st.integers(0, 100), 1),
            accuracy_budget=st.floats(0.0, 0.9),
            training=some(
                batch_size=st.integers(1, 256), learning_rate=POSITIVE, threads=st.integers(1, 8), device=DEVICES
            ),
            trace=some(device=st.none() | st.just("auto")),  # another device than that of timing is refused
            calibration=some(mode=st.sampled_from(["fitted", "raw", "paper"]), bins=st.integers(2, 50)),
            timing=some(
                device=DEVICES,
                texts=st.integers(8, 500),
                batch_sizes=distinct(st.integers(2, 64)).map(lambda larger: [1, *larger]),
                block_texts=st.integers(1, 50),
                stock=distinct(st.sampled_from([("stock", "bfloat16"), ("onnx", "float32"), ("onnx", "int8")])).map(
                    lambda rivals: [{"engine": engine, "precision": precision} for engine, precision in rivals]
                ),
            ),
        )
    )
