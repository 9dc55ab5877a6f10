"""The recipe's grammar: what is printed is read back the same, and what is wrong is named with its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.errors import RecipeError
from opportune.recipe import arms
from opportune.spec import ModelRef, Part, Recipe, parse

names = st.from_regex(r"[A-Za-z0-9_-]+", fullmatch=True)
scalars = st.one_of(
    st.text(max_size=12),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
)


def _recipes(values):
    options = st.dictionaries(names, values, max_size=3)
    parts = st.lists(st.builds(Part, names, options), min_size=1, max_size=3).map(tuple)
    models = st.none() | st.builds(ModelRef, st.text(min_size=1, max_size=12), options)
    return st.builds(Recipe, parts, models)


values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3).map(tuple) | _recipes(inner), max_leaves=6)


@given(_recipes(values))
def test_parse_reads_back_what_is_printed(recipe):
    again = parse(str(recipe))
    assert again == recipe
    assert str(again) == str(recipe)


def test_a_recipe_of_everything():
    recipe = parse('lora:rank=16,targets=[q_proj,v_proj]+k-shot:k=4,note="a, b"@org/model[dtype=bfloat16]')
    assert recipe.parts[0].options == {"rank": 16, "targets": ("q_proj", "v_proj")}
    assert recipe.parts[1].options == {"k": 4, "note": "a, b"}
    assert recipe.model == ModelRef("org/model", {"dtype": "bfloat16"})


def test_types_are_told_apart():
    options = parse('a:i=8,f=1e-3,t=true,n=none,s="8",p=./x.y:z').parts[0].options
    assert options == {"i": 8, "f": 0.001, "t": True, "n": None, "s": "8", "p": "./x.y:z"}


@pytest.mark.parametrize(
    ("text", "place"),
    [("", "character 1"), ("lora:", "character 6"), ("lora:rank", "character 10"), ("a+", "character 3"),
     ("a@", "character 3"), ("a:x=(b", "character 7"), ("a b", "character 2"), ("a:x=1,x=2", "twice")],
)  # fmt: skip
def test_errors_name_the_place(text, place):
    with pytest.raises(RecipeError, match=place):
        parse(text)


@pytest.mark.parametrize("model", ["/home/me@corp/m", 'a "b"', "plain"])
def test_an_arm_is_named_by_what_reads_back_the_same(model):
    (arm,) = arms(f"k-shot:k=4@{ModelRef(model)}", (ModelRef("m"),))
    assert arm.model == ModelRef(model)
    assert parse(arm.text) == Recipe((Part("k-shot", {"k": 4}),), ModelRef(model))
