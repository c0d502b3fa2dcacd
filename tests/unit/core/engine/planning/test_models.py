from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bridge.core.contract.errors import ModelNotFoundError
from bridge.core.contract.service import Model
from bridge.core.engine.planning.models import Catalog, Choice

OFFERED: tuple[dict[str, Any], ...] = (
    {
        "value": "default",
        "resolvedModel": "claude-opus-4-8",
        "displayName": "Default (recommended)",
        "description": "The best for most",
        "supportedEffortLevels": ["low", "high"],
    },
    {"value": "opus", "resolvedModel": "claude-opus-4-8", "displayName": "Opus"},
    {"value": "haiku", "resolvedModel": "claude-haiku-4-5", "displayName": "Haiku"},
    {"value": "claude-sonnet-4-5[1m]"},
)


def catalog(aliases: Mapping[str, str] | None = None, *, refuse_unknown: bool = False) -> Catalog:
    return Catalog.from_cli(OFFERED, aliases=aliases, refuse_unknown=refuse_unknown)


def test_what_the_cli_offers_is_on_offer_by_alias_and_by_full_name_once_each() -> None:
    assert [model.id for model in catalog().models] == [
        "default",
        "opus",
        "haiku",
        "claude-sonnet-4-5[1m]",
        "claude-opus-4-8",
        "claude-haiku-4-5",
    ]


def test_a_model_has_what_the_cli_reports_about_it() -> None:
    assert catalog().models[0] == Model(
        id="default",
        resolved="claude-opus-4-8",
        display_name="Default (recommended)",
        description="The best for most",
        efforts=("low", "high"),
        default=True,
    )


def test_a_model_of_which_only_the_name_is_known_resolves_to_itself() -> None:
    model = catalog().find("claude-sonnet-4-5[1m]")
    assert model.resolved == model.display_name == "claude-sonnet-4-5[1m]"
    assert model.efforts == ()


def test_only_the_default_is_marked_as_such() -> None:
    assert [model.id for model in catalog().models if model.default] == ["default"]


@pytest.mark.parametrize("name", [None, "", "default", "anthropic/default"])
def test_no_name_and_default_mean_the_users_own_default(name: str | None) -> None:
    assert catalog().choose(name) == Choice(None)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("opus", "opus"),
        ("claude-haiku-4-5", "claude-haiku-4-5"),
        ("claude-sonnet-4-5[1m]", "claude-sonnet-4-5[1m]"),
        ("anthropic/opus", "opus"),
        ("anthropic/claude-opus-4-8", "claude-opus-4-8"),
        ("Opus", "opus"),
        ("OPUS", "opus"),
        ("Anthropic/Claude-Opus-4-8", "claude-opus-4-8"),
    ],
)
def test_what_is_on_offer_is_used_as_asked_with_or_without_its_makers_name(
    name: str, told: str
) -> None:
    assert catalog().choose(name) == Choice(told)
    assert catalog().find(name).id == told


@pytest.mark.parametrize(
    "name",
    [
        "anthropic.claude-v2",
        "claude-opus-3; rm",
        "claude-",
        "sonnet",
        "opus-5",
        "fable",
    ],
)
def test_an_unknown_claude_name_is_an_error_that_names_it_and_what_is_on_offer(name: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        catalog().choose(name)
    assert name in caught.value.message
    assert "haiku" in caught.value.message
    assert caught.value.field == "model"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("claude-opus-3", "claude-opus-3"),
        ("claude-3-5-sonnet-20241022", "claude-3-5-sonnet-20241022"),
        ("anthropic/claude-opus-9[1m]", "claude-opus-9[1m]"),
        ("Claude-Opus-9", "claude-opus-9"),
    ],
)
@pytest.mark.parametrize("refuse_unknown", [True, False])
def test_a_full_name_is_used_as_asked_since_the_api_may_have_more_than_the_cli_lists(
    name: str, told: str, refuse_unknown: bool
) -> None:
    assert catalog(refuse_unknown=refuse_unknown).choose(name) == Choice(told)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("opuss", "opus"),
        ("Opuss", "opus"),
        ("opis", "opus"),
        ("haikou", "haiku"),
        ("anthropic/haikku", "haiku"),
        ("claud-opus-4-8", "claude-opus-4-8"),
        ("deafult", "default"),
        ("opus-4", "opus"),
    ],
)
def test_a_name_that_is_nearly_one_on_offer_is_an_error_that_names_that_one(
    name: str, meant: str
) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        catalog().choose(name)
    assert f"The model '{name}' does not exist. Did you mean '{meant}'?" in caught.value.message


def test_a_name_near_an_alias_is_not_taken_for_it() -> None:
    assert catalog({"gpt-4": "opus"}).choose("gpt-4o") == Choice(None, replaced=True)


def test_an_alias_that_names_no_model_is_known_before_it_is_asked_for() -> None:
    aliases = {"gpt4": "opuss", "o3": "gpt-4", "fine": "Opus", "new": "claude-opus-9"}
    assert list(catalog(aliases).wrong_aliases()) == [
        "BRIDGE_MODEL_ALIASES: the target of gpt4=opuss is not a model on offer; requests for it "
        "are refused. Did you mean 'opus'?",
        "BRIDGE_MODEL_ALIASES: the target of o3=gpt-4 is not a model on offer; requests for it are "
        "refused.",
    ]
    with pytest.raises(ModelNotFoundError, match=r"'gpt4' \(an alias of 'opuss'\) .*mean 'opus'"):
        catalog(aliases).choose("gpt4")
    with pytest.raises(ModelNotFoundError, match="'o3'"):
        catalog(aliases).choose("o3")
    assert catalog(aliases).choose("FINE") == Choice("opus")
    assert [model.id for model in catalog(aliases).models if model.id in aliases] == ["fine"]


@pytest.mark.parametrize("name", ["gpt-4o", "o3", "gemini-2.5-pro", "openai/gpt-4", "opusculum"])
def test_another_vendors_name_is_served_by_the_default_and_that_is_reported(name: str) -> None:
    assert catalog().choose(name) == Choice(None, replaced=True)


@pytest.mark.parametrize("name", ["gpt-4o", "openai/gpt-4"])
def test_another_vendors_name_is_an_error_where_the_operator_wants_that(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match=name):
        catalog(refuse_unknown=True).choose(name)


def test_another_vendors_name_is_an_error_to_a_strict_request() -> None:
    with pytest.raises(ModelNotFoundError, match=r"gpt-4o.*Available: default"):
        catalog().choose("gpt-4o", strict=True)
    assert catalog({"gpt-4*": "opus"}).choose("gpt-4o", strict=True) == Choice("opus")


def test_refusing_unknown_names_refuses_none_that_is_known() -> None:
    strict = catalog({"gpt-4*": "opus"}, refuse_unknown=True)
    assert strict.choose("haiku") == Choice("haiku")
    assert strict.choose("gpt-4o") == Choice("opus")
    assert strict.choose(None) == Choice(None)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gpt-4", "opus"),
        ("gpt-4-turbo", "opus"),
        ("o4-mini", "haiku"),
        ("gpt-4-mini", "opus"),
        ("mine", None),
    ],
)
def test_an_alias_is_a_pattern_the_first_that_fits_counts_and_nothing_was_replaced(
    name: str, told: str | None
) -> None:
    aliases = {"gpt-4*": "opus", "*-mini": "anthropic/haiku", "mine": "default"}
    assert catalog(aliases).choose(name) == Choice(told)


def test_an_alias_can_be_looked_up_like_the_model_it_stands_for() -> None:
    assert catalog({"gpt-4*": "opus"}).find("gpt-4o").id == "opus"


def test_an_alias_can_stand_before_a_name_of_claudes_own() -> None:
    assert catalog({"claude-3-*": "haiku"}).choose("claude-3-opus") == Choice("haiku")


def test_an_alias_of_something_unknown_is_an_error_about_the_name_that_was_asked_for() -> None:
    with pytest.raises(ModelNotFoundError, match="'gpt-4'"):
        catalog({"gpt-4": "sonnet"}).choose("gpt-4")


@pytest.mark.parametrize("name", ["gpt-4o", "claude-2", "", "opuss"])
def test_looking_up_what_is_not_on_offer_is_an_error(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        catalog().find(name)


def test_a_long_name_is_cut_in_the_error() -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        catalog().find("x" * 10_000)
    assert len(caught.value.message) < 400


def test_before_the_cli_has_reported_anything_there_is_only_the_default() -> None:
    assert Catalog().choose(None) == Choice(None)
    with pytest.raises(ModelNotFoundError, match="none known yet"):
        Catalog().choose("opus")


@pytest.mark.parametrize(
    ("allowed", "asked", "permitted"),
    [
        ((), "haiku", True),
        ((), None, True),
        (("haiku",), "haiku", True),
        (("haiku",), "claude-haiku-4-5", True),
        (("claude-haiku-4-5",), "anthropic/haiku", True),
        (("small",), "haiku", True),
        (("haiku",), "small", True),
        (("haiku",), "opus", False),
        (("haiku",), None, False),
        (("haiku",), "default", False),
        # Another provider's model is answered by the default one.
        (("haiku",), "gpt-4", False),
        (("opus",), "gpt-4", True),
        (("opus",), None, True),
        (("default",), "opus", True),
        # Of a family the CLI does not list; the name alone is compared.
        (("haiku",), "claude-haiku-4-5-20251001", False),
        (("claude-nova-9",), "claude-nova-9", True),
        # An unknown name is never allowed.
        (("gpt-4", "opuss"), "default", False),
        (("gpt-4", "haiku"), "haiku", True),
    ],
)
def test_a_key_may_use_the_models_that_answer_to_its_names(
    allowed: tuple[str, ...], asked: str | None, *, permitted: bool
) -> None:
    assert catalog({"small": "haiku"}).permits(asked, allowed) is permitted


def test_only_what_is_allowed_is_on_offer() -> None:
    limited = catalog({"small": "haiku"}).limited_to(("haiku",))
    assert [model.id for model in limited.models] == ["haiku", "claude-haiku-4-5", "small"]
    assert limited.find("small").resolved == "claude-haiku-4-5"
    with pytest.raises(ModelNotFoundError, match="claude-haiku-4-5") as raised:
        limited.find("opus")
    assert "sonnet" not in raised.value.message
    assert catalog().limited_to(()) == catalog()
