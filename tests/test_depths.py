"""Which layers a model takes, and whether its exits, removals and weights lie within them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eat.errors import EatError
from eat.model.options import Layers
from eat.study.depths import check_depths, chosen_layers, depths_of, mapped_layers
from eat.study.loading import load_study
from eat.study.study import Study


def study_of(**systems: Mapping[str, Any]) -> Study:
    """A study with a dense system and others; their backbones are `packaged`, of 6 layers, and `folder`."""
    return load_study(
        {
            "study": "depths",
            "reference": "dense",
            "backbones": {
                "packaged": {"kind": "packaged", "name": "all-minilm-l6-v2"},
                "folder": {"kind": "folder", "path": "models/mine"},
            },
            "tasks": {"movies": {"source": {"kind": "packaged", "name": "imdb"}}},
            "systems": {
                "dense": {"backbone": "packaged", "last_head": "bert"},
                **{
                    name: dict(system)
                    if {"weights_of", "cascade"} & set(system)
                    else {"backbone": "packaged"} | dict(system)
                    for name, system in systems.items()
                },
            },
        }
    )


def refusal(study: Study, **depths: int) -> str:
    """The line with which a study is refused."""
    with pytest.raises(EatError) as caught:
        check_depths(study, depths or {"packaged": 6})
    assert "\n" not in str(caught.value)
    return str(caught.value)


EXITS = {"rule": ["confidence"], "tau": [0.9]}


# --- the layers that are taken ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "depth", "layers"),
    [
        ({}, 6, [1, 2, 3, 4, 5, 6]),
        ({"first": 4}, 6, [1, 2, 3, 4]),
        ({"first": 6}, 6, [1, 2, 3, 4, 5, 6]),
        ({"every": 2}, 6, [2, 4, 6]),  # DistilBERT takes every second layer of its teacher
        ({"every": 2}, 12, [2, 4, 6, 8, 10, 12]),
        ({"every": 4}, 6, [4]),
        ({"every": 1}, 3, [1, 2, 3]),
        ({"numbers": [1, 6]}, 6, [1, 6]),
        ({"numbers": [3, 1]}, 6, [3, 1]),  # in the order that is given
        ({"stacked": 2}, 3, [1, 2, 3, 1, 2, 3]),  # progressive stacking, Gong et al. 2019
        ({"first": None, "every": None, "numbers": None}, 2, [1, 2]),  # as a configuration without `layers` dumps it
    ],
)
def test_chosen_layers(options: dict[str, Any], depth: int, layers: list[int]) -> None:
    assert chosen_layers(Layers(**options), depth) == layers


@pytest.mark.parametrize("options", [{"first": 7}, {"every": 7}, {"numbers": [1, 7]}])
def test_layers_that_a_model_does_not_have(options: dict[str, Any]) -> None:
    key, value = next(iter(options.items()))
    with pytest.raises(EatError) as caught:
        chosen_layers(Layers(**options), 6)
    assert str(caught.value) == f"layers: {key} {value} of a model that has 6; use at most 6"


@given(depth=st.integers(1, 48), step=st.integers(1, 48))
def test_taken_layers_are_layers(depth: int, step: int) -> None:
    """Of a model of `depth` layers, every n-th are depth // n; the last of them is at most the last layer."""
    for options, count in (({"first": step}, step), ({"every": step}, depth // step)):
        if step > depth:
            with pytest.raises(EatError):
                chosen_layers(Layers(**options), depth)
        else:
            layers = chosen_layers(Layers(**options), depth)
            assert len(layers) == count
            assert layers == sorted(set(layers))
            assert set(layers) <= set(range(1, depth + 1))


def test_a_key_that_came_later_trains_nothing_again() -> None:
    assert Layers(every=2).plain() == {"first": None, "every": 2, "numbers": None}
    assert Layers(stacked=2).plain()["stacked"] == 2


def test_a_stacked_model_has_twice_the_layers_and_a_student_half_of_them() -> None:
    study = study_of(
        deep={"layers": {"stacked": 2}, "exits": {"after": [10]} | EXITS},
        half={"layers": {"every": 2}, "recipe": [{"from": "deep"}]},
    )
    check_depths(study, {"packaged": 6})
    assert depths_of(study, {"packaged": 6}) == {"dense": 6, "deep": 12, "half": 6}
    beyond = study_of(deep={"layers": {"stacked": 2}, "exits": {"after": [13]} | EXITS})
    assert refusal(beyond) == "systems.deep.exits.after: found layer 13; the model has 12 layers"


# --- a whole study ------------------------------------------------------------------------------------------------


def test_what_lies_within_the_model_is_let_through() -> None:
    study = study_of(
        eat={
            "reducer": {"kind": "norm", "after": [1, 6]},
            "exits": {"after": [4, 6], **EXITS},
            "recipe": [{"exit_weights": {4: 0.3, 6: 1.0}}, {"name": "heads", "train_heads": [4, 6]}],
        },
        student={"layers": {"every": 2}, "exits": {"after": [3], **EXITS}, "recipe": [{"from": "dense"}]},
    )
    check_depths(study, {"packaged": 6})


@pytest.mark.parametrize(
    ("system", "message"),
    [
        (
            {"reducer": {"kind": "norm", "after": [2, 7]}},
            "systems.eat.reducer.after: found layer 7; the model has 6 layers",
        ),
        (
            {"exits": {"after": [4, 7, 9], **EXITS}},
            "systems.eat.exits.after: found layer 7, 9; the model has 6 layers",
        ),
        (
            {"layers": {"first": 3}, "exits": {"after": [4], **EXITS}},
            "systems.eat.exits.after: found layer 4; the model has 3 layers",
        ),
        (
            {"layers": {"numbers": [2, 4]}, "reducer": {"kind": "random", "after": [4]}},
            "systems.eat.reducer.after: found layer 4; the model has 2 layers",
        ),
        ({"layers": {"first": 8}}, "systems.eat.layers: first 8 of a model that has 6; use at most 6"),
        (
            {"exits": {"after": [4]}, "recipe": [{"exit_weights": {3: 0.3}}]},
            "systems.eat.recipe.0.exit_weights: found layer 3, which has no head; heads are after: 4, 6",
        ),
        (
            {"exits": {"after": [4]}, "recipe": [{}, {"name": "heads", "train_heads": [5]}]},
            "systems.eat.recipe.1.train_heads: found layer 5, which has no head; heads are after: 4, 6",
        ),
    ],
)
def test_what_lies_beyond_is_refused_in_one_line(system: dict[str, Any], message: str) -> None:
    assert refusal(study_of(eat=system)) == message


def test_a_depth_is_inherited_from_the_parent_not_from_the_backbone() -> None:
    half = {"layers": {"every": 2}, "recipe": [{"from": "dense"}]}
    quarter = {"layers": {"first": 2}, "exits": {"after": [3]}, "recipe": [{"from": "half"}]}
    message = "systems.quarter.exits.after: found layer 3; the model has 2 layers"
    assert refusal(study_of(half=half, quarter=quarter)) == message
    assert refusal(study_of(quarter=quarter, half=half)) == message  # in whatever order they stand
    too_many = {"layers": {"first": 4}, "recipe": [{"from": "half"}]}
    assert "first 4 of a model that has 3" in refusal(study_of(half=half, quarter=too_many))


def test_layers_are_taken_in_the_first_stage_alone() -> None:
    stages = [{"from": "dense"}, {"name": "again"}, {"name": "heads", "train_heads": [3]}]
    study = study_of(half={"layers": {"every": 2}, "exits": {"after": [3]}, "recipe": stages})
    check_depths(study, {"packaged": 6})


def test_a_backbone_of_unknown_depth_waits_for_its_training() -> None:
    far = {"backbone": "folder", "exits": {"after": [99], **EXITS}}
    check_depths(study_of(far=far), {"packaged": 6})
    assert "found layer 99; the model has 12 layers" in refusal(study_of(far=far), packaged=6, folder=12)


def test_a_parent_of_unknown_depth_waits_too() -> None:
    far = {"backbone": "folder"}
    child = {"exits": {"after": [99], **EXITS}, "recipe": [{"from": "far"}]}
    check_depths(study_of(far=far, child=child), {"packaged": 6})
    assert "systems.child.exits.after: found layer 99" in refusal(study_of(far=far, child=child), packaged=6, folder=9)


def test_a_row_that_runs_another_s_weights_has_its_depth() -> None:
    half = {"layers": {"every": 2}, "exits": {"after": [2]}, "recipe": [{"from": "dense"}]}
    lean = {"weights_of": "half", "reducer": {"kind": "norm", "after": [1, 3]}, "exits": {**EXITS}}
    check_depths(study_of(half=half, lean=lean), {"packaged": 6})
    lean["reducer"] = {"kind": "norm", "after": [1, 4]}  # the backbone has such a layer, the system does not
    message = "systems.lean.reducer.after: found layer 4; the model has 3 layers"
    assert refusal(study_of(half=half, lean=lean)) == message
    assert refusal(study_of(lean=lean, half=half)) == message


def test_weights_of_unknown_depth_wait_too() -> None:
    far = {"backbone": "folder"}
    lean = {"weights_of": "far", "reducer": {"kind": "norm", "after": [8]}}
    check_depths(study_of(far=far, lean=lean), {"packaged": 6})
    assert "systems.lean.reducer.after: found layer 8" in refusal(study_of(far=far, lean=lean), packaged=6, folder=6)


def test_a_cascade_has_the_layers_of_all_its_systems_and_exits_at_their_ends() -> None:
    half = {"backbone": "packaged", "layers": {"every": 2}, "last_head": "distilbert"}
    two = {"cascade": ["half", "dense"], "exits": {"after": [3], "rule": ["confidence"], "tau": [0.9]}}
    study = study_of(half=half, two=two)
    assert depths_of(study, {"packaged": 6})["two"] == 9
    check_depths(study, {"packaged": 6})
    two["exits"]["after"] = [4]
    message = "systems.two.exits.after: found [4]; the systems of the cascade have 3, 6 layers, so it must be [3]"
    assert message in refusal(study_of(half=half, two=two), packaged=6)


# --- the layers of a teacher --------------------------------------------------------------------------------------


def test_a_student_s_layers_are_mapped_at_equal_distances_or_as_given():
    """TinyBERT (arXiv:1909.10351), n = g(m): of 4 layers and 12, g(m) = 3 m."""
    assert mapped_layers({}, 4, 12) == {1: 3, 2: 6, 3: 9, 4: 12}
    assert mapped_layers({}, 6, 6) == {layer: layer for layer in range(1, 7)}
    assert mapped_layers({1: 4}, 2, 6) == {1: 4}


@pytest.mark.parametrize(
    ("layers", "mapping", "message"),
    [
        ({"first": 4}, {}, "mapping: omitted, but the teacher has 6 layers, no multiple of the student's 4; name the "),
        ({"first": 4}, {1: 7}, "mapping: found 1: 7; the student has 4 layers, the teacher 6"),
        ({"every": 2}, {4: 6}, "mapping: found 4: 6; the student has 3 layers, the teacher 6"),
    ],
)
def test_a_mapping_of_layers_that_one_of_them_lacks(layers: dict[str, Any], mapping: dict[int, int], message: str):
    stage = {"distill": {"teacher": "dense", "layers": {"mapping": mapping}}}
    study = study_of(student={"layers": layers, "recipe": [stage]})
    assert refusal(study).startswith(f"systems.student.recipe.0.distill.layers.{message}")
