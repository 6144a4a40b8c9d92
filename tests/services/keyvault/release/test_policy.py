"""Release policies: what they say, what they do not, and how claims are held against them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError
from kluis.services.keyvault.faults import BadParameter, Detail
from kluis.services.keyvault.release.policy import judge, origin, parse

AUTHORITY = "https://attest.example"


def claim(name: str, value: Any) -> dict[str, Any]:
    """One condition."""
    return {"claim": name, "equals": value}


def policy(*conditions: Any, kind: str = "allOf", authority: str = AUTHORITY, **more: Any) -> bytes:
    """A policy with one authority."""
    return json.dumps({"anyOf": [{"authority": authority, kind: list(conditions)}], **more}).encode()


def meets(data: bytes, claims: dict[str, Any], issuer: str = AUTHORITY) -> bool:
    """Whether claims meet a policy."""
    return judge(parse(data), origin(issuer), claims) == ()


@pytest.mark.parametrize(
    ("wanted", "said", "met"),
    [
        ("true", True, True),
        ("false", False, True),
        (True, "true", True),
        (True, True, True),
        ("True", True, False),
        ("0", 0, True),
        (0, "0", True),
        (1, True, False),
        ("1", True, False),
        ("sevsnpvm", "sevsnpvm", True),
        ("sevsnpvm", "SevSnpVm", False),
        ("", "", True),
        ("null", None, False),
        ("[]", [], False),
        ("1.0", 1.0, False),
        ("x", ["x"], False),
    ],
)
def test_values_are_compared_as_text(wanted: Any, said: Any, met: bool) -> None:
    """A truth is true or false, a whole number its digits, and nothing else is a value."""
    assert meets(policy(claim("a", wanted)), {"a": said}) is met


@pytest.mark.parametrize(
    ("name", "claims", "met"),
    [
        ("a", {"a": "x"}, True),
        ("a.b", {"a": {"b": "x"}}, True),
        ("a.b", {"a.b": "x"}, True),
        ("a.b", {"a.b": "y", "a": {"b": "x"}}, False),
        ("a.b.c", {"a": {"b.c": "x"}}, True),
        ("a.b", {"a": "x"}, False),
        ("a.0", {"a": ["x"]}, False),
        ("a", {}, False),
        ("a", {"a": {"a": "x"}}, False),
    ],
)
def test_names_lead_into_objects(name: str, claims: dict[str, Any], met: bool) -> None:
    """Dots lead into objects; a claim of the whole name comes first; a list is not entered."""
    assert meets(policy(claim(name, "x")), claims) is met


def test_all_any_and_nesting() -> None:
    """Groups nest, and each has its meaning."""
    a, b, c = (claim(name, "1") for name in "abc")
    nested = policy(a, {"anyOf": [b, {"allOf": [c, b]}]})
    assert meets(nested, {"a": 1, "b": 1})
    assert not meets(nested, {"a": 1, "c": 1})
    assert not meets(nested, {"b": 1, "c": 1})
    assert meets(policy(a, b, kind="anyOf"), {"b": 1})
    assert not meets(policy(a, b, kind="anyOf"), {"c": 1})


def test_the_previews_style() -> None:
    """Policies from the preview are read."""
    old = policy({"claim": "a", "condition": "equals", "value": "true"}, version="1.0")
    assert meets(old, {"a": True})
    assert not meets(old, {"a": False})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a.example", "https://a.example/", True),
        ("https://A.EXAMPLE", "https://a.example", True),
        ("https://a.example:443", "https://a.example", True),
        ("https://a.example:8443", "https://a.example", False),
        ("https://a.example/x", "https://a.example", False),
        ("https://a.example/x/", "https://a.example/x", True),
        ("https://a.example//", "https://a.example", False),
        ("https://a.example.", "https://a.example", False),
    ],
)
def test_authorities_are_compared_by_origin(one: str, other: str, same: bool) -> None:
    """One closing slash, the case of the host and the usual port do not count; all else does."""
    assert (origin(one) == origin(other)) is same
    assert meets(policy(claim("a", "1"), authority=one), {"a": 1}, other) is same


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example",
        "https://",
        "https://a.example?x",
        "https://a.example/?x",
        "https://a.example/#x",
        "https://u@a.example",
        "a",
        "https://a.example\n",
        "https://a b",
        None,
        5,
        "https://" + "a" * 3000,
        "https://a.example/" + "b" * 2048,
    ],
)
def test_urls_that_are_no_authority(url: Any) -> None:
    """An authority is an https URL without user, query or fragment."""
    with pytest.raises(FormatError, match="authority: want an https URL"):
        origin(url)


def test_why_not() -> None:
    """Each claim that was missed is named, with both sides; of alternatives all are."""
    rule = policy(claim("a", "1"), {"anyOf": [claim("b", "2"), claim("c", True)]}, claim("d", "x" * 200))
    assert judge(parse(rule), AUTHORITY, {"a": "1", "b": 3, "c": {}}) == (
        Detail("claim", "b", "want 2, got 3"),
        Detail("claim", "c", "want true, got a claim that is not one value"),
        Detail("claim", "d", f"want {'x' * 128}..., got no such claim"),
    )
    assert judge(parse(rule), "https://other.example", {}) == (
        Detail("authority", "iss", "want https://attest.example, got https://other.example"),
    )
    many = policy(*(claim(f"n{at}", "1") for at in range(100)))
    assert len(judge(parse(many), AUTHORITY, {})) == 16


def test_every_entry_of_an_authority_may_do() -> None:
    """Two entries of one authority are alternatives."""
    entry = {"authority": AUTHORITY, "allOf": [claim("a", "1")]}
    rule = json.dumps({"anyOf": [entry, {**entry, "allOf": [claim("b", "1")]}]}).encode()
    assert meets(rule, {"b": 1})
    assert not meets(rule, {"c": 1})


def nested(levels: int) -> bytes:
    """A policy of so many groups in one another."""
    inner: Any = claim("a", "1")
    for _ in range(levels):
        inner = {"allOf": [inner]}
    return policy(inner)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "release policy at 0x0: is not JSON: Expecting value"),
        (b"[]", "release policy: want an object, got another"),
        (b"{}", "release policy.anyOf: want a list of 1 to 64, got no list"),
        (b'{"anyOf":[]}', "release policy.anyOf: want a list of 1 to 64, got 0"),
        (b'{"anyOf":[5]}', "release policy.anyOf[0]: want an object, got another"),
        (policy(), "release policy.anyOf[0].allOf: want a list of 1 to 1024, got 0"),
        (policy(5), "release policy.anyOf[0].allOf[0]: want an object, got another"),
        (policy(claim("a", "1"), version="2.0"), "release policy.version: want 1.0.0 or 1.0, got '2.0'"),
        (policy(claim("a", "1"), extra=1), "release policy: want anyOf, version, got 'extra'"),
        (
            policy(claim("a", [])),
            "release policy.anyOf[0].allOf[0].equals: want text, a number below 2^53 or a truth, got another",
        ),
        (
            policy(claim("a", None)),
            "release policy.anyOf[0].allOf[0].equals: want text, a number below 2^53 or a truth, got another",
        ),
        (
            policy(claim("", "1")),
            "release policy.anyOf[0].allOf[0].claim: want 1 to 256 characters, got another",
        ),
        (
            policy({"claim": "a", "notEquals": "1"}),
            "release policy.anyOf[0].allOf[0]: want claim, condition, equals, value, got 'notEquals'",
        ),
        (
            policy({"claim": "a", "condition": "less", "value": "1"}),
            "release policy.anyOf[0].allOf[0]: want claim and equals, got claim, condition, value",
        ),
        (
            policy({"claim": "a", "equals": "1", "value": "2"}),
            "release policy.anyOf[0].allOf[0]: want claim and equals, got claim, equals, value",
        ),
        (
            policy({"allOf": [claim("a", "1")], "anyOf": [claim("a", "1")]}),
            "release policy.anyOf[0].allOf[0]: want allOf or anyOf, at most 16 levels deep, got allOf "
            "and anyOf",
        ),
        (
            policy(claim("a", "1"), authority="http://a"),
            "release policy.anyOf[0].authority: want an https URL, got 'http://a'",
        ),
        (
            b'{"anyOf":[{"allOf":[{"claim":"a","equals":"1"}]}]}',
            "release policy.anyOf[0].authority: want an https URL, got none",
        ),
        (
            b'{"anyOf":[{"authority":"https://a"}]}',
            "release policy.anyOf[0]: want allOf or anyOf, at most 16 levels deep, got neither",
        ),
        (
            policy(*[claim("a", "1")] * 1025),
            "release policy.anyOf[0].allOf: want a list of 1 to 1024, got 1025",
        ),
        (
            policy({"anyOf": [claim("a", "1")] * 600}, {"anyOf": [claim("a", "1")] * 600}),
            "release policy: is 37289 bytes, must be at most 32768",
        ),
        (b" " * (32 * 1024 + 1), "release policy: is 32769 bytes, must be at most 32768"),
    ],
)
def test_what_is_no_policy(data: bytes, message: str) -> None:
    """What is no policy is refused whole, and the place is named."""
    with pytest.raises(BadParameter) as refused:
        parse(data)
    assert refused.value.message.startswith(
        f"AKV.SKR.1004: Exportable keys must have release policy. {message}"
    )


def test_bounds_of_nesting() -> None:
    """Fifteen groups within an authority's own are read, and no more; a bomb is refused as quickly."""
    assert meets(nested(15), {"a": 1})
    for levels in (16, 17, 30, 200):
        with pytest.raises(BadParameter):
            parse(nested(levels))
    with pytest.raises(BadParameter):
        parse(b'{"anyOf":' + b"[" * 30_000)


def test_conditions_are_counted_across_groups() -> None:
    """A policy that explodes sideways is refused by its conditions."""
    group = {"anyOf": [{"claim": "a", "equals": 1}] * 400}
    data = policy(*[group] * 3).replace(b" ", b"")
    with pytest.raises(BadParameter, match="want at most 1024 conditions, got more"):
        parse(data)
    full, more = ([{"claim": "a", "equals": 1}] * size for size in (511, 512))
    assert parse(policy({"anyOf": full}, {"anyOf": full}).replace(b" ", b""))
    with pytest.raises(BadParameter, match="want at most 1024 conditions, got more"):
        parse(policy({"anyOf": full}, {"anyOf": more}).replace(b" ", b""))


@pytest.mark.parametrize("rest", [{}, {"condition": "equals"}, {"value": "1"}])
def test_half_a_condition(rest: dict[str, Any]) -> None:
    """A condition without a value, in either style, is refused."""
    with pytest.raises(BadParameter, match="want claim and equals, got"):
        parse(policy({"claim": "a", **rest}))


def test_a_value_is_bounded() -> None:
    """A value of 4096 characters is read, and no longer one."""
    assert meets(policy(claim("a", "x" * 4096)), {"a": "x" * 4096})
    with pytest.raises(BadParameter, match=r"want text, a number below 2\^53 or a truth, got another"):
        parse(policy(claim("a", "x" * 4097)))


@pytest.mark.parametrize("name", [["a"], {"a": 1}, 5, None, True])
def test_a_name_is_text(name: Any) -> None:
    """What is no text names no claim."""
    with pytest.raises(BadParameter, match="want 1 to 256 characters, got another"):
        parse(policy(claim(name, "1")))


@pytest.mark.parametrize(
    ("written", "claimed", "met"),
    [
        ("1.5", 1.5, True),
        ("1.50", 1.5, True),
        ("1.5", "1.5", True),
        ('"1.5"', 1.5, True),
        ("1.0", 1, True),
        ("1", 1.0, True),
        ("1e2", 100, True),
        ("-0.0", 0, True),
        ("0.1", 0.1, True),
        ("1.5", 1.25, False),
        ("1.5", 2, False),
        ("1.0", True, False),
        ('"1e300"', 1e300, False),
        ('"inf"', float("inf"), False),
        ('"nan"', float("nan"), False),
        ('"9007199254740992"', 9007199254740992.0, False),
    ],
)
def test_numbers_that_are_not_whole(written: str, claimed: Any, met: bool) -> None:
    """The grammar has any number of JSON: it meets the same one, however the two are written."""
    data = b'{"anyOf":[{"authority":"%s","allOf":[{"claim":"a","equals":%s}]}]}'
    assert meets(data % (AUTHORITY.encode(), written.encode()), {"a": claimed}) is met


@pytest.mark.parametrize("written", ["1e300", "1e999", "-9007199254740992.0", "NaN", "Infinity"])
def test_numbers_that_are_none(written: str) -> None:
    """A number so large that others are equal to it is refused, and so is a malformed one."""
    with pytest.raises(BadParameter, match=r"AKV\.SKR\.1004: "):
        parse(b'{"anyOf":[{"authority":"https://a","allOf":[{"claim":"a","equals":%s}]}]}' % written.encode())


def test_a_name_twice_is_refused() -> None:
    """A policy that can be read in two ways is refused."""
    with pytest.raises(BadParameter):
        parse(b'{"anyOf":[{"authority":"https://a","allOf":[{"claim":"a","equals":"1","equals":"2"}]}]}')


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["anyOf", "allOf", "claim", "equals", "authority", "version", "condition", "value", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(values)
def test_only_our_errors_escape(value: Any) -> None:
    """Whatever JSON is given, a policy comes back or one of our errors is raised."""
    try:
        judge(parse(json.dumps(value).encode()), AUTHORITY, {"a": value})
    except BadParameter:
        return


@given(st.dictionaries(st.text(max_size=4), values, max_size=4), st.text(min_size=1, max_size=6))
def test_any_claims_can_be_judged(claims: dict[str, Any], name: str) -> None:
    """For any claims, a policy is met or not met."""
    judge(parse(policy(claim(name, "1"))), AUTHORITY, claims)
